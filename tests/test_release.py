"""The wheel: the same bytes twice, complete, and working without the sources."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import thinslice
from support.command_line import smooth_volume

PROJECT = Path(__file__).parents[1]
BUILD = """
import sys
from hatchling.build import build_sdist, build_wheel
print(build_wheel(sys.argv[1]), build_sdist(sys.argv[1]))
"""


def build(out: Path) -> tuple[Path, Path]:
    """A wheel and an sdist of the working tree."""
    out.mkdir()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)],
        cwd=PROJECT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    wheel, sdist = done.stdout.split()
    return out / wheel, out / sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("dist") / "first")


def test_the_same_bytes_twice(built: tuple[Path, Path], tmp_path: Path) -> None:
    again = build(tmp_path / "second")
    digests = [[hashlib.sha256(path.read_bytes()).hexdigest() for path in pair] for pair in (built, again)]
    assert digests[0] == digests[1]


def test_the_wheel_holds_every_file_of_the_package(built: tuple[Path, Path]) -> None:
    source = PROJECT / "src"
    tracked = subprocess.run(
        ["git", "ls-files", "src"], cwd=PROJECT, check=False, capture_output=True, text=True
    ).stdout.split()
    expected = {str((PROJECT / name).relative_to(source)) for name in tracked if (PROJECT / name).is_file()}
    with zipfile.ZipFile(built[0]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert expected <= held and all(name.startswith("thinslice/") for name in held)
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "Makefile", "README.md", "constraints/requirements.txt", "tests/test_release.py"} <= names


def test_the_wheel_works_without_the_sources(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Its own copy of everything that is no code: weights, templates, the viewer, the service's page."""
    installed = tmp_path / "installed"
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(installed)
    thinslice.write(smooth_volume(), tmp_path / "thick.nii.gz")
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    assert run("-c", "import thinslice; print(thinslice.__file__)").startswith(str(installed))
    assert "intact" in run("-m", "thinslice", "models", "verify")
    outputs = ("--report", "report.html", "--view", "view.html")
    run("-m", "thinslice", "upscale", "thick.nii.gz", "thin.nii.gz", "--model", "fast", "--quiet", *outputs)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("thin.nii.gz", *outputs[1::2]))
    assert thinslice.read(tmp_path / "thin.nii.gz").geometry.shape[0] > smooth_volume().geometry.shape[0]
