"""Fixtures of the fault table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from support.command_line import Outcome, run, thick_nifti

__all__ = ["run", "thick_nifti"]


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
