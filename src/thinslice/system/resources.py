"""Free memory and disk, refusals of work that they cannot hold, and the peak of memory."""

from __future__ import annotations

import gc
import shutil
import sys
from pathlib import Path

from thinslice.errors import OutputError, ResourceError
from thinslice.system.allocator import return_freed_memory

_CGROUP = Path("/sys/fs/cgroup")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"

_MEMORY_KEPT_FREE = 128 << 20
"""Bytes left to everything else on the machine."""


LIBRARIES_BYTES = 960 << 20
"""Addresses, not memory, that interpreter, numpy, scipy and torch take (measured on Linux: 850 to 940 MiB)."""


def available_memory_bytes() -> int | None:
    """Memory that can still be taken without swapping: the least of what the machine, the control groups (containers,
    batch systems) and the limit of this process (ulimit -v) allow; None where it is unknown (systems other than Linux).
    """
    limits = [
        _machine_available(),
        _process_available(),
        *(_group_available(folder) for folder in control_groups("memory")),
    ]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def require_memory(needed_bytes: int, purpose: str) -> None:
    """Refuse to begin work that the memory cannot hold.

    Args:
        needed_bytes: memory that is about to be taken.
        purpose: of the memory, as in the message ("to read 'a.nii'").

    Raises:
        ResourceError: less is free; close other programs, or use a machine with more memory.
    """
    free = available_memory_bytes()
    if free is not None and needed_bytes > free - _MEMORY_KEPT_FREE:
        raise ResourceError(
            f"{needed_bytes / 2**30:.1f} GiB of memory are needed {purpose}, but {free / 2**30:.1f} GiB are free; "
            "close other programs, or use a machine with more memory."
        )


def require_address_space() -> None:
    """Refuse to begin under a limit of memory (ulimit -v) in which the libraries themselves cannot be loaded.

    Beyond it, libraries written in C end the process with a message of their own.

    Raises:
        ResourceError: the limit is too low; raise it.
    """
    left = _process_available()
    if left is not None and left < LIBRARIES_BYTES:
        raise ResourceError(
            f"The limit of memory (ulimit -v) leaves {left / 2**20:.0f} MiB of addresses, and the libraries alone take "
            f"{LIBRARIES_BYTES / 2**20:.0f} MiB; raise the limit."
        )


def require_disk(path: str | Path, needed_bytes: int) -> None:
    """Refuse to begin an output that the disk cannot hold.

    Args:
        path: the file or folder to be written; it need not exist.
        needed_bytes: an upper bound of the output's size.

    Raises:
        ResourceError: less is free; free some space, or choose another disk.
        OutputError: the free space cannot be read; choose another place.
    """
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise OutputError(f"Cannot read the free space for {Path(path).name!r}; choose another place.") from error
    if needed_bytes > free:
        raise ResourceError(
            f"Up to {_in_words(needed_bytes)} are needed for {Path(path).name!r}, but {_in_words(free)} are free on "
            "that disk; free some space, or choose another place."
        )


def _in_words(count: int) -> str:
    """Bytes in the unit that shows how they differ from others: "13 MiB", "2.4 GiB"."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _machine_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _process_available() -> int | None:
    """Bytes up to the limit of this process's address space; None where there is no limit."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, AttributeError, OSError, ValueError):
        return None
    taken_mib = _status_mib("VmSize")
    if limit == resource.RLIM_INFINITY or taken_mib is None:
        return None
    return max(0, limit - int(taken_mib * 2**20))


def control_groups(controller: str) -> list[Path]:
    """Folders of this process's control groups and their parents, of which each may set a limit; none outside Linux.

    Args:
        controller: "memory" or "cpu", the names of version 1 of control groups.
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


def peak_memory_mib() -> float | None:
    """Highest resident memory of this process so far, in MiB; None where the system does not report it (Windows).

    On Linux the mark of the program itself: getrusage also counts the memory of the process before it became this
    program, which is the memory of its parent.
    """
    mark = _status_mib("VmHWM")
    if mark is not None:
        return mark
    try:
        import resource
    except ImportError:
        return None
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # KiB on Linux, bytes on macOS.
    return float(highest) / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)


class PeakMemory:
    """Highest resident memory of this process inside a `with` block.

    Linux keeps a high-water mark that can be set back (/proc/self/clear_refs); elsewhere the mark of the whole life of
    the process is used where the block has raised it, and otherwise the peak is unknown.

    Attributes:
        before_mib: resident memory at the start; None where the system does not report it.
        peak_mib: the highest inside the block, after it has ended; None likewise.
    """

    before_mib: float | None = None
    peak_mib: float | None = None

    def __enter__(self) -> PeakMemory:
        # Young objects alone: a search of all that torch has loaded would take longer than many a volume.
        gc.collect(1)
        return_freed_memory()
        self._resettable = _reset_peak()
        self._highest_before = peak_memory_mib()
        self.before_mib = _status_mib("VmRSS")
        return self

    def __exit__(self, *raised: object) -> None:
        if self._resettable:
            self.peak_mib = _status_mib("VmHWM")
            return
        highest = peak_memory_mib()
        if highest is not None and self._highest_before is not None and highest > self._highest_before:
            self.peak_mib = highest

    @property
    def added_mib(self) -> float | None:
        """The peak less what was resident at the start."""
        if self.peak_mib is None or self.before_mib is None:
            return None
        return max(0.0, self.peak_mib - self.before_mib)


def _reset_peak() -> bool:
    """Set the high-water mark back; False where the system cannot, or has none."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return _status_mib("VmHWM") is not None


def _status_mib(field: str) -> float | None:
    """A field of Linux's process status, such as VmRSS, in MiB; None elsewhere."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024.0
    return None
