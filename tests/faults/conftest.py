"""Fixtures of the fault table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import thinslice
from support.command_line import Outcome, run, smooth_volume

__all__ = ["run"]

WAITING: dict[str, str] = {}
"""Starts of the names of tests whose mend is not there yet, and what it is: they may fail, and are listed as such."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for start, reason in WAITING.items():
            if item.name.startswith(start):
                item.add_marker(pytest.mark.xfail(reason=f"waits for: {reason}", strict=False))


@pytest.fixture
def thick_nifti(tmp_path: Path) -> Path:
    """A NIfTI of 5 slices, 5 mm apart, in a folder of its own."""
    path = tmp_path / "in" / "thick.nii.gz"
    path.parent.mkdir()
    thinslice.write(smooth_volume(), path)
    return path


@pytest.fixture
def limited() -> Callable[..., Outcome]:
    """Runs `thinslice ARGUMENTS...` in a process that may take so many MiB of address space beyond an import of it."""

    def command(mib: int, *arguments: object, loaded: str = "thinslice.io.dicom.read") -> Outcome:
        code = (
            f"import resource, sys, {loaded}\n"
            "pages = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
            f"resource.setrlimit(resource.RLIMIT_AS, (pages + {mib} * 2**20,) * 2)\n"
            "from thinslice.cli import main; main(sys.argv[1:])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return command
