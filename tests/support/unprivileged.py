"""The command line as a user whom permissions bind, also where the tests run as root."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def _obey_permissions() -> None:
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")


def run_unprivileged(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`thinslice ARGUMENTS...` in a process that permissions bind. Linux only."""
    return subprocess.run(
        [sys.executable, "-m", "thinslice", *map(str, arguments)],
        capture_output=True,
        text=True,
        preexec_fn=_obey_permissions,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
