"""The wheel: the same bytes twice, complete, and working without the sources, with torch and without."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import thinslice
from support.command_line import smooth_volume
from support.dicom_factory import write_series
from thinslice.volume import Volume

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


def release_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_release", PROJECT / "tools" / "check_release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_version_in_package_citation_and_wheel(built: tuple[Path, Path]) -> None:
    assert f"\nversion: {thinslice.__version__}\n" in (PROJECT / "CITATION.cff").read_text(encoding="utf-8")
    assert built[0].name.startswith(f"thinslice-{thinslice.__version__}-")
    assert built[1].name == f"thinslice-{thinslice.__version__}.tar.gz"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"citation": "version: 1.1.0\n"}, "CITATION.cff names another"),
        ({"changelog": "## [Unreleased]\n\n## [1.2.0]\n"}, "no section"),
        ({"changelog": "## [Unreleased]\n\n- more\n\n## [1.2.0] - 2026-11-30\n"}, "lists changes as unreleased"),
        ({"tags": ["v1.2", "v1.1.0"]}, "no tag v1.2.0"),
        ({"changed": ["README.md"]}, "Files differ from the commit: README.md"),
    ],
)
def test_what_keeps_a_commit_from_being_released(change: dict[str, Any], words: str) -> None:
    good = {
        "citation": "title: x\nversion: 1.2.0\n",
        "changelog": "## [Unreleased]\n\n## [1.2.0] - 2026-11-30\n\n- news\n",
        "tags": ["v1.2.0"],
        "changed": [],
    }
    faults = release_tool().faults
    assert faults("1.2.0", **good) == []
    found = faults("1.2.0", **{**good, **change})
    assert len(found) == 1 and words in found[0]


def test_the_lower_bounds_that_are_tested_are_those_of_the_package() -> None:
    """Every dependency is in the list, those of extra torch too except torch, whose old builds cannot be had here."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    stated = [*project["dependencies"], *(each for extra in extras for each in extra)]
    bounds = dict(each.split(">=") for each in stated if ">=" in each)
    lines = (PROJECT / "constraints" / "lower-bounds.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: bounds[name] for name in tested} == tested
    assert {each.split(">=")[0] for each in project["dependencies"]} | {"einops"} == tested.keys()


def requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []


def test_the_small_engine_is_mandatory_and_torch_is_an_extra(built: tuple[Path, Path]) -> None:
    by_extra: dict[str, set[str]] = {}
    for requirement in requirements(built[0]):
        extra = re.search(r"extra == .(\w+)", requirement)
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        by_extra.setdefault("" if extra is None else extra[1], set()).add(name[0])
    assert "onnxruntime" in by_extra[""] and not by_extra[""] & {"torch", "openvino", "einops", "onnx", "onnxscript"}
    assert by_extra["onnx"] == {"onnxruntime"} and by_extra["torch"] == {"torch", "einops"}
    assert {"torch", "onnx", "onnxruntime"} <= by_extra["export"] and "torch" in by_extra["train"]


def folder_mib(folder: Path) -> float:
    """Space that the files of a folder take on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 2**20


@pytest.mark.heavy
def test_a_clean_environment_without_torch_upscales_as_torch_does(
    built: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The wheel without extras, at the versions of the lock, fetched from the package index."""
    lock = (PROJECT / "constraints" / "requirements.txt").read_text(encoding="utf-8")
    pins = tmp_path / "pins.txt"
    pins.write_text("\n".join(re.findall(r"^[A-Za-z0-9._-]+==[^\s\\]+", lock, re.MULTILINE)), encoding="utf-8")
    venv = tmp_path / "venv"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["THINSLICE_CACHE_DIR"] = str(tmp_path / "cache")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(argument) for argument in arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    def done(*arguments: object) -> str:
        finished = run(*arguments)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    done(sys.executable, "-m", "venv", venv)
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    empty_mib = folder_mib(venv)
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--only-binary", ":all:")
    installed = run(*pip, "--constraint", pins, f"thinslice @ {built[0].as_uri()}")
    if re.search(r"NameResolutionError|ConnectionError|NewConnectionError|ConnectTimeout", installed.stderr):
        pytest.skip("no package index: a clean environment cannot be filled")
    assert installed.returncode == 0, installed.stderr
    installed_mib = folder_mib(venv) - empty_mib
    packages = done(python, "-m", "pip", "list", "--format", "freeze").lower()
    assert "onnxruntime==" in packages and not re.search(r"^(torch|einops|onnx)==", packages, re.MULTILINE)

    volume = smooth_volume()
    thinslice.write(Volume(volume.hu.astype(np.float32) + 0.25, volume.geometry), tmp_path / "thick.nii.gz")
    write_series(tmp_path / "series", shape=(6, 24, 24))
    program = (python, "-m", "thinslice", "upscale")
    thick, series = thinslice.read(tmp_path / "thick.nii.gz"), thinslice.read(tmp_path / "series")
    differences: dict[str, float] = {}
    for model in ("default", "fast", "best", "cubic-consistent"):
        done(*program, "thick.nii.gz", f"{model}.nii.gz", "--model", model, "--quiet")
        expected = thinslice.upscale(thick, model=model, backend="torch", device="cpu").hu
        differences[model] = float(np.abs(thinslice.read(tmp_path / f"{model}.nii.gz").hu - expected).max())
    assert max(differences.values()) <= 0.01, differences
    done(*program, "series", "thin", "--quiet")
    expected = thinslice.upscale(series, backend="torch", device="cpu").hu.astype(int)
    difference = np.abs(thinslice.read(tmp_path / "thin").hu - expected)
    assert difference.max() <= 1 and np.mean(difference > 0) < 0.005  # whole HU

    refused = run(python, "-m", "thinslice", "models", "export", "fast", "fast.onnx")
    assert refused.returncode == 4 and 'pip install ".[torch]"' in refused.stderr
    done(python, "-m", "pip", "--quiet", "uninstall", "--yes", "onnxruntime")
    neither = run(*program, "thick.nii.gz", "neither.nii.gz")
    assert neither.returncode == 4 and "neither can be imported" in neither.stderr
    done(*program, "thick.nii.gz", "cubic.nii.gz", "--model", "cubic", "--quiet")
    with capsys.disabled():
        largest = ", ".join(f"{model} {hu:.4f}" for model, hu in differences.items())
        print(f"\nwithout torch: {installed_mib:.0f} MiB on the disk; HU from torch: {largest}")
