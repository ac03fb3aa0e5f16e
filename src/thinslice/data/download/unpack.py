"""Unpacking of a split's zip into two folders of NIfTI files; the zip is not trusted.

No name in the zip is used as a path: the target of a member is composed of the thickness and the case name that match
in its name.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thinslice.errors import UnreadableError
from thinslice.system.atomic import atomic_directory
from thinslice.system.resources import require_disk
from thinslice.typing import Progress

COPY_BYTES = 1 << 20

MOST_MEMBERS = 10_000
"""Largest number of members; a released split has 200."""

MOST_RATIO = 20.0
"""Largest ratio of unpacked to packed size, of a member and of the whole; about 1 for compressed files."""

RATIO_FREE_BYTES = 64 << 20
"""Unpacked size up to which any ratio is accepted."""

_CASE = re.compile(r"(?:[^/]+/)*(?:HD_)?(1mm|5mm)/([A-Za-z0-9_]{1,64}\.nii(?:\.gz)?)")
_RUBBISH = re.compile(r"(?:.*/)?(?:__MACOSX/.*|\.DS_Store|Thumbs\.db)")


@dataclass(frozen=True)
class Unpacked:
    """Content of an unpacked zip.

    Attributes:
        files: size and checksum (CRC-32) of each file, by its path in the folder ("1mm/CT00000000.nii.gz").
        left_out: number of other files in the zip, which are not written.
    """

    files: dict[str, tuple[int, int]]
    left_out: int


def unpack(
    archive: Path,
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    before_appearing: Callable[[Unpacked], None] | None = None,
) -> Unpacked:
    """Unpack `1mm/CASE.nii.gz` and `5mm/CASE.nii.gz` from any folder of the zip; all or nothing.

    Args:
        archive: zip.
        folder: folder that appears as a whole, with 1mm/ and 5mm/.
        overwrite: whether an existing folder is replaced.
        progress: called with (bytes unpacked, bytes in all).
        before_appearing: called with the result after unpacking, just before the folder appears.

    Raises:
        UnreadableError: a zip that is damaged, hostile (a path that leads out, a link, a bomb), or without the expected
            files; delete it.
        OutputExistsError: the folder exists and `overwrite` is False.
        ResourceError: the disk is too small; free some space.
    """
    name = archive.name
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted, left_out = _wanted(opened, archive)
            total = sum(member.file_size for member in wanted.values())
            require_disk(folder, total)
            outcome = Unpacked({place: (member.file_size, member.CRC) for place, member in wanted.items()}, left_out)
            done = 0
            if progress is not None:
                progress(done, total)
            with atomic_directory(folder, overwrite=overwrite) as unfinished:
                for place, member in wanted.items():
                    target = unfinished / place
                    target.parent.mkdir(exist_ok=True)
                    with opened.open(member) as source, target.open("xb") as sink:
                        # zipfile stops at the declared size and compares the checksum at the end.
                        while block := source.read(COPY_BYTES):
                            sink.write(block)
                            done += len(block)
                            if progress is not None:
                                progress(done, total)
                        short = member.file_size - sink.tell()
                    if short:
                        raise zipfile.BadZipFile
                if before_appearing is not None:
                    before_appearing(outcome)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise UnreadableError(f"{name!r} is a damaged zip; delete it and run the same command again.") from error
    return outcome


def _wanted(opened: zipfile.ZipFile, archive: Path) -> tuple[dict[str, zipfile.ZipInfo], int]:
    """The members to write by their target, and the number of other files."""
    members = [member for member in opened.infolist() if not member.is_dir()]
    if len(members) > MOST_MEMBERS:
        raise _refused(archive, f"holds {len(members)} files")
    wanted: dict[str, zipfile.ZipInfo] = {}
    left_out = 0
    for member in members:
        # The name as stored in the zip: Python's own has separators replaced and is cut at a null byte.
        raw = member.orig_filename
        if raw.startswith("/") or "\\" in raw or "\0" in raw or ":" in raw or ".." in raw.split("/"):
            raise _refused(archive, "holds a path that leads out of its folder")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise _refused(archive, "holds a link or a device")
        match = _CASE.fullmatch(raw)
        if match is None or _RUBBISH.fullmatch(raw):
            left_out += not _RUBBISH.fullmatch(raw)
            continue
        if member.flag_bits & 1:
            raise _refused(archive, "is encrypted")
        place = f"{match.group(1)}/{match.group(2)}"
        if place in wanted:
            raise _refused(archive, f"holds {place!r} twice")
        wanted[place] = member
    if not wanted:
        raise UnreadableError(
            f"{archive.name!r} holds no 1mm/*.nii.gz or 5mm/*.nii.gz; it is not a split of RPLHR-CT. Check the DOI."
        )
    _check_sizes(archive, list(wanted.values()))
    return wanted, left_out


def _check_sizes(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse a decompression bomb by the declared sizes, which are enforced when members are read."""
    declared = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    # Members that share one packed block add up to more than the archive's size.
    if packed > archive.stat().st_size:
        raise _refused(archive, "holds files that overlap")
    ratios = [member.file_size / max(1, member.compress_size) for member in members if member.file_size > 1 << 20]
    if declared > RATIO_FREE_BYTES and max([declared / max(1, packed), *ratios]) > MOST_RATIO:
        raise _refused(archive, f"claims to unpack to {declared / 2**30:.1f} GiB, far more than its size allows")


def _refused(archive: Path, fault: str) -> UnreadableError:
    return UnreadableError(f"{archive.name!r} {fault}; it is refused. Delete it and check its source.")
