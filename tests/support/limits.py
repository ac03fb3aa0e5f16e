"""Commands under real limits of the system: memory, file sizes, a user without privileges, a tiny or read-only disk."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence


def _has_private_mounts() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0


PRIVATE_MOUNTS = _has_private_mounts()
"""Whether a command may mount disks that it alone has."""

BECOME_OTHER_USER = """
import os, resource
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""
"""Python that makes its process one without privileges; modules must have been imported before."""


def run_with_private_mounts(mounts: Sequence[str], command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with mounts of its own, which end with it.

    Args:
        mounts: shell lines that mount.
        command: program and arguments.
    """
    script = "\n".join(["set -e", *mounts, "exec " + shlex.join(command)])
    return subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)


def run_limited(
    command: Sequence[str], limit: str, *, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command under a limit of the shell.

    Args:
        command: program and arguments.
        limit: as "-f 16" or "-v 500000".
        variables: added to the environment.
    """
    return subprocess.run(
        ["sh", "-c", f"ulimit {limit} && exec {shlex.join(command)}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(variables or {})},
    )
