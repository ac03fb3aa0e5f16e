"""Help and inspection start without the heavy packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.dicom_factory import write_series

HEAVY = ("torch", "highdicom", "numpy", "matplotlib", "scipy", "nibabel", "pydicom", "jinja2", "rich")
"""Not pydantic: typer itself parses arguments with it."""


def _loaded(*arguments: str) -> set[str]:
    program = (
        "import sys\n"
        "from thinslice.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as leaving:\n"
        "    assert not leaving.code, leaving.code\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "command", [[], ["upscale"], ["inspect"], ["demo"], ["evaluate"], ["dataset", "mini"]], ids=" ".join
)
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    assert not _loaded(*command, "--help") & set(HEAVY)


def test_listing_models_loads_no_torch() -> None:
    assert not _loaded("models", "list") & {"torch", "numpy"}


def test_inspecting_dicom_needs_pydicom_alone(tmp_path: Path) -> None:
    write_series(tmp_path / "series", shape=(3, 16, 16))
    loaded = _loaded("inspect", str(tmp_path / "series"))
    assert "pydicom" in loaded
    assert not loaded & {"torch", "highdicom", "matplotlib", "SimpleITK", "nibabel"}


def test_importing_the_package_is_light() -> None:
    program = "import sys, thinslice; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {*HEAVY, "typer"}
