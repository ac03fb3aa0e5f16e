"""Names of the operating system that Windows or macOS lack: none is needed to upscale.

No such machine runs these tests. What can be checked here: modules of POSIX alone are never imported with the package,
and a study is upscaled where Python lacks the names.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.dicom_factory import write_series

SOURCE = Path(thinslice.__file__).parent

POSIX_MODULES = {"fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios", "tty"}

WITHOUT = """
import os, signal, sys
for name in ("fork", "getloadavg", "sched_getaffinity", "pread", "geteuid", "posix_fadvise", "setsid"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM"):
    delattr(signal, name)
sys.modules["resource"] = sys.modules["pwd"] = sys.modules["grp"] = None
from thinslice.system import isolation
isolation.is_supported = lambda: False  # what it is on Windows and macOS
from thinslice.cli import main
main(sys.argv[1:])
"""


def imported_with_the_module(path: Path) -> set[str]:
    """Modules that a module imports when it is imported itself, outside of any function."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_no_module_needs_one_of_posix_alone() -> None:
    modules = sorted(SOURCE.rglob("*.py"))
    assert len(modules) > 300 and "os" in imported_with_the_module(SOURCE / "system" / "atomic.py")
    for path in modules:
        assert not imported_with_the_module(path) & POSIX_MODULES, path.relative_to(SOURCE)


@pytest.mark.skipif(os.name != "posix", reason="the names are those of POSIX")
def test_a_study_is_upscaled_without_the_names_of_posix(tmp_path: Path) -> None:
    write_series(tmp_path / "thick", transfer_syntax="rle")
    for output in ("thin", "thin.nii.gz"):
        command = [sys.executable, "-c", WITHOUT, "upscale", str(tmp_path / "thick"), str(tmp_path / output)]
        done = subprocess.run([*command, "--model", "linear"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    made = [thinslice.read(tmp_path / name).hu for name in ("thin", "thin.nii.gz")]
    assert made[0].shape == (26, 32, 32) and np.array_equal(*made)
