"""A split's zip to its two folders of NIfTI files, trusting nothing that the zip says.

No name of the zip is ever used as a path: a member is wanted or not, and where it goes is put together from the
thickness and the case's number that were found in its name.
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
"""A released split has 200 files."""

MOST_RATIO = 20.0
"""Unpacked over packed size, of a member and of the whole; the files are packed already, so it is about 1."""

RATIO_FREE_BYTES = 64 << 20
"""Zips that declare less than this may have any ratio."""

_CASE = re.compile(r"(?:[^/]+/)*(?:HD_)?(1mm|5mm)/([A-Za-z0-9_]{1,64}\.nii(?:\.gz)?)")
_RUBBISH = re.compile(r"(?:.*/)?(?:__MACOSX/.*|\.DS_Store|Thumbs\.db)")


@dataclass(frozen=True)
class Unpacked:
    """What came out of a zip.

    Attributes:
        files: size and checksum (CRC-32) of each, by its path below the folder ("1mm/CT00000000.nii.gz").
        left_out: how many other files the zip holds; they are not written.
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
    """Unpack `1mm/CASE.nii.gz` and `5mm/CASE.nii.gz`, in whatever folder of the zip they lie; all or nothing.

    Args:
        archive: the zip.
        folder: made as a whole; gets 1mm/ and 5mm/.
        overwrite: replace a folder that is there.
        progress: called with (bytes unpacked, bytes in all).
        before_appearing: called with the outcome when all is unpacked, just before the folder appears.

    Raises:
        UnreadableError: damaged, hostile (a path that leads out, a link, a bomb), or without the expected files.
        OutputExistsError: the folder exists and `overwrite` is False.
        ResourceError: the disk does not hold it.
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
    """The members to write by where they go, and how many others there are."""
    members = [member for member in opened.infolist() if not member.is_dir()]
    if len(members) > MOST_MEMBERS:
        raise _refused(archive, f"holds {len(members)} files")
    wanted: dict[str, zipfile.ZipInfo] = {}
    left_out = 0
    for member in members:
        # Python has replaced the system's separator and cut at a null byte; what stood in the zip counts.
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
    """Refuse a decompression bomb by what the members declare; each is held to its declaration when it is read."""
    declared = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    # Members that share one packed block add up to more than the archive has.
    if packed > archive.stat().st_size:
        raise _refused(archive, "holds files that overlap")
    ratios = [member.file_size / max(1, member.compress_size) for member in members if member.file_size > 1 << 20]
    if declared > RATIO_FREE_BYTES and max([declared / max(1, packed), *ratios]) > MOST_RATIO:
        raise _refused(archive, f"claims to unpack to {declared / 2**30:.1f} GiB, far more than its size allows")


def _refused(archive: Path, what: str) -> UnreadableError:
    return UnreadableError(f"{archive.name!r} {what}; it is refused. Delete it and check where it came from.")
