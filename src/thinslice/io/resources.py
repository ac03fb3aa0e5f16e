"""Ask before taking: is there the memory and the disk for what comes next?"""

from __future__ import annotations

import shutil
from pathlib import Path

from thinslice.errors import OutputError, ResourceError

_CGROUP = Path("/sys/fs/cgroup")

_MEMORY_KEPT_FREE = 128 << 20
"""Bytes left to everything else on the machine."""


def available_memory_bytes() -> int | None:
    """Memory that can still be taken without swapping: the least of what the machine and the control groups
    (containers, batch systems) allow; None where it cannot be told (systems other than Linux).
    """
    limits = [_machine_available(), *(_group_available(folder) for folder in control_groups("memory"))]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


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


def _machine_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def control_groups(controller: str) -> list[Path]:
    """Folders of this process's control groups and their parents, of which each may set a limit; none outside Linux.

    Args:
        controller: "memory" or "cpu": what version 1 of control groups calls the resource.
    """
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = _CGROUP / controllers
            folder = root / path.lstrip("/")
            # Inside a container the path may be the host's: then only the root is there.
            folders.extend(p for p in (folder, *folder.parents) if p.is_relative_to(root) and p.is_dir())
    return folders


def _group_available(folder: Path) -> int | None:
    for limit_name, usage_name in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit = (folder / limit_name).read_text().strip()
            used = int((folder / usage_name).read_text())
        except (OSError, ValueError):
            continue
        if limit.isdigit() and int(limit) < 1 << 60:  # version 1 writes a number near 2**63 for none
            return max(0, int(limit) - used + _reclaimable(folder))
    return None


def _reclaimable(folder: Path) -> int:
    """File pages that count as used and are given back when memory is needed."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(fields.get("inactive_file", 0))
