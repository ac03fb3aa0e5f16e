"""Ask before taking: is there the memory and the disk for what comes next?"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from thinslice.errors import OutputError, ResourceError

_MEMORY_KEPT_FREE = 128 << 20
"""Bytes left to everything else on the machine."""


def available_memory_bytes() -> int | None:
    """Memory this process may still take without swapping; None where the system does not tell.

    A container's limit counts too: it is what kills the process, whatever the machine holds.
    """
    found: list[int] = []
    try:
        told = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if told:
            found.append(int(told[1]) * 1024)
    except OSError:
        pass
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            # File pages are given back under pressure; only the rest is truly taken.
            taken = int((group / "memory.current").read_text()) - int(stat.get("file", 0))
            found.append(int(limit) - max(0, taken))
    except (OSError, ValueError):
        pass
    return max(0, min(found)) if found else None


def require_memory(needed_bytes: int, purpose: str) -> None:
    """Refuse to begin what the memory cannot hold.

    Args:
        needed_bytes: what is about to be taken.
        purpose: what for, as it stands in the message ("to read 'a.nii'").

    Raises:
        ResourceError: less is free; close other programs, or use a machine with more.
    """
    free = available_memory_bytes()
    if free is not None and needed_bytes > free - _MEMORY_KEPT_FREE:
        raise ResourceError(
            f"{needed_bytes / 2**30:.1f} GiB of memory are needed {purpose}, but {free / 2**30:.1f} GiB are free; "
            "close other programs, or use a machine with more memory."
        )


def require_disk(path: str | Path, needed_bytes: int) -> None:
    """Refuse to begin an output that the disk cannot hold.

    Args:
        path: the file or folder to be written; it need not exist.
        needed_bytes: an upper bound of what will be written.

    Raises:
        ResourceError: less is free; free some space, or choose another disk.
        OutputError: the place cannot be looked at.
    """
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise OutputError(
            f"Cannot see how much space there is for {Path(path).name!r}; choose another place."
        ) from error
    if needed_bytes > free:
        raise ResourceError(
            f"Up to {needed_bytes / 2**30:.2f} GiB are needed for {Path(path).name!r}, but {free / 2**30:.2f} GiB are "
            "free on that disk; free some space, or choose another place."
        )
