"""The kind of file system that a path lies on, where the system reports it (Linux)."""

from __future__ import annotations

import re
from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs"}
) | {"fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.juicefs", "ncpfs", "ocfs2", "gfs2", "pvfs2"}
"""File systems that several computers share; locks and shared memory on them are not to be relied on."""

_MOUNTS = Path("/proc/self/mountinfo")


def network_file_system(path: str | Path) -> str | None:
    """Name of the network file system that a path lies on; None for a local disk, and where it is not known.

    Args:
        path: a file or folder; it need not exist.
    """
    try:
        text = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = kind_at(Path(path).resolve(), text)
    return kind if kind in NETWORK_FILE_SYSTEMS else None


def kind_at(path: Path, mounts: str) -> str | None:
    r"""The kind of file system at an absolute path.

    Args:
        path: without links.
        mounts: lines of /proc/self/mountinfo; a later mount hides an earlier one at the same place.

    >>> mounts = "20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n30 20 0:40 / /data\\040x rw - nfs4 host:/x rw\n"
    >>> kind_at(Path("/data x/thin"), mounts), kind_at(Path("/data"), mounts)
    ('nfs4', 'ext4')
    """
    found, longest = None, -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        # Spaces and the like stand as octal numbers.
        place = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]))
        if len(place.parts) >= longest and path.is_relative_to(place):
            found, longest = after.split(" ")[0], len(place.parts)
    return found
