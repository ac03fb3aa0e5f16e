"""Provenance of a number: code, weights, machine, time."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from thinslice import about

_GIT_TIMEOUT_S = 10


@cache
def commit() -> str | None:
    """The commit of the running code, with "+changes" appended when files of the package differ from it; None for an
    installed package, which has a version.
    """
    package = Path(about.__file__).resolve().parent
    # A package installed below another repository must not report that repository's commit.
    if _git(package, "ls-files", "--error-unmatch", "about.py") is None:
        return None
    head = _git(package, "rev-parse", "HEAD")
    if head is None:
        return None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return head if changed == "" else f"{head}+changes"


def now() -> str:
    """The time in UTC, ISO 8601, to the second; that of SOURCE_DATE_EPOCH when it is set."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
        if epoch.isdecimal()
        else datetime.datetime.now(datetime.UTC)
    )
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def device_name(device: str) -> str:
    """Name of a device: the accelerator's own, or the processor's with the cores in use.

    Args:
        device: "cpu", "cuda", "cuda:N" or "mps".
    """
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    return f"{_processor()} ({cores} core{'' if cores == 1 else 's'} in use)"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command, or None where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
