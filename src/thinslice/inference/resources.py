"""What this machine has left."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_memory_bytes() -> int | None:
    """Memory that can still be taken: the least of what the machine and the control groups (containers, batch
    systems) allow; None where it cannot be told (systems other than Linux).
    """
    limits = [_machine_available(), *(_group_available(folder) for folder in _groups())]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _machine_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _groups() -> list[Path]:
    """Folders of this process's control group and its parents; a limit on any of them holds."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
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
