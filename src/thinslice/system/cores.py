"""The processor: its name, and the cores that this process may use."""

from __future__ import annotations

import hashlib
import math
import os
import platform
from pathlib import Path

from thinslice.system.resources import control_groups

_TOPOLOGY = Path("/sys/devices/system/cpu")


def sensible_threads() -> int:
    """The cores that this process may use: physical ones, as two threads on one core share its arithmetic units.

    Never more than its affinity, the control groups (containers, batch systems) and OMP_NUM_THREADS allow.

    >>> sensible_threads() >= 1
    True
    """
    limits = [_physical_cores(), _quota(), _omp_num_threads()]
    return max(1, min(limit for limit in limits if limit is not None))


def processor() -> str:
    """The processor's name, followed by a digest of its instruction sets, as far as the system names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    # A virtual machine may hide instructions that the processor of that name has.
    flags = hashlib.sha256(fields.get("flags", fields.get("Features", "")).encode()).hexdigest()
    return f"{fields.get('model name', '')} {flags[:8]}"


def _physical_cores() -> int:
    """Physical cores among the processors that this process may run on; all processors where cores are unknown."""
    try:
        processors = os.sched_getaffinity(0)
    except AttributeError:  # macOS, Windows
        processors = set(range(os.cpu_count() or 1))
    cores = set()
    for processor in processors:
        try:
            # All threads of a core have the same list.
            cores.add((_TOPOLOGY / f"cpu{processor}" / "topology" / "thread_siblings_list").read_text().strip())
        except OSError:
            cores.add(f"processor {processor}")
    return len(cores)


def _quota() -> int | None:
    """Whole processors that the control groups grant, at least 1; None where there is no limit."""
    granted = [quota for folder in control_groups("cpu") if (quota := _group_quota(folder)) is not None]
    return max(1, math.floor(min(granted))) if granted else None


def _group_quota(folder: Path) -> float | None:
    """Processors that one control group grants: version 2, then version 1."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None  # "max", or -1
    return int(quota) / int(period)


def _omp_num_threads() -> int | None:
    """The first number of OMP_NUM_THREADS; None where it is not set, or 0."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else None
