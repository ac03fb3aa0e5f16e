"""Members of zip and tar archives, and of archives inside them, listed without unpacking to a path.

Names in an archive are shown, never used. What an archive has lost, such as entries that its directory no longer lists,
is found and reported: slices may have been among them.
"""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from thinslice.io.dicom.files.file_form import looks_like_dicom
from thinslice.io.dicom.files.unpack import (
    MAX_OBJECT_BYTES,
    MAX_RATIO,
    RATIO_FREE_BYTES,
    PackedError,
    Part,
    codec_of,
    in_memory,
    spooled,
    unpacked,
)

MAX_DEPTH = 4
"""Archives inside archives: a zip of gzipped tars of gzipped files has four levels."""

MAX_TOTAL_BYTES = 16 * 2**30
"""Largest sum of unpacked sizes that one archive, with those inside it, may have."""

HEAD_BYTES = 512
"""Bytes that show what a file is: tar has its mark at byte 257."""

NOT_DICOM = "not DICOM"
"""Reason of a file that no slice is lost with."""

ZIP_CODECS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflate", zipfile.ZIP_BZIP2: "bzip2"}

_LOCAL, _END = b"PK\x03\x04", b"PK\x05\x06"
_ENCRYPTED, _UTF8 = 0x01, 0x800


@dataclass(frozen=True)
class Packed:
    """A packed file, unpacked anew whenever it is opened.

    Attributes:
        part: the packed bytes.
        codec: as in `unpacked`.
        crc: CRC-32 of the unpacked bytes, or None where the stream holds its own check.
        size: declared unpacked bytes, or None.
    """

    part: Part
    codec: str
    crc: int | None = None
    size: int | None = None

    def pieces(self) -> Iterator[bytes]:
        """The unpacked bytes.

        Raises:
            PackedError: damaged, or another size than declared.
        """
        crc, total = 0, 0
        with self.part.open() as stream:
            for piece in unpacked(stream, self.part.size, self.codec):
                crc, total = zlib.crc32(piece, crc), total + len(piece)
                if self.size is not None and total > self.size:
                    raise PackedError("damaged: it unpacks to more than it says")
                yield piece
        if (self.crc is not None and crc != self.crc) or (self.size is not None and total != self.size):
            raise PackedError("damaged: its checksum does not match")

    def open(self) -> BinaryIO:
        """The unpacked bytes as a file."""
        return in_memory(self.pieces())


@dataclass(frozen=True)
class Member:
    """One file of an archive.

    Attributes:
        name: in the archive; hostile.
        content: where its bytes are; None where it cannot be opened.
        fault: why not, or "".
        place: indices of the member in its archive and in those around it; distinguishes members.
    """

    name: str
    content: Part | Packed | None
    fault: str = ""
    place: tuple[int, ...] = ()


class Budget:
    """Unpacked bytes that one input may still take."""

    def __init__(self) -> None:
        self._left = MAX_TOTAL_BYTES

    def take(self, size: int) -> None:
        """Take bytes.

        Raises:
            PackedError: none are left.
        """
        self._left -= size
        if self._left < 0:
            raise PackedError("unpacks to more than CT can (a decompression bomb)")


def archive_kind(head: bytes) -> str | None:
    """ "zip", "tar", "gzip", "bzip2" or "xz" by the first `HEAD_BYTES` of a file; None for anything else.

    A DICOM file stays one, whatever its preamble holds.
    """
    if head[128:132] == b"DICM":
        return None
    if head.startswith((_LOCAL, _END)):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    return codec_of(head)


def members(part: Part, name: str, kind: str, budget: Budget | None = None, depth: int = 1) -> Iterator[Member]:
    """The files of an archive and of the archives in it.

    Args:
        part: the archive.
        name: its own name, for what is packed without one.
        kind: from `archive_kind`.
        budget: shared by the archives of one input.
        depth: levels of archives, this one included.

    Raises:
        PackedError: the archive itself cannot be opened, or is a bomb; an archive inside it becomes a faulty member.
    """
    budget = budget or Budget()
    listed = {"zip": _zip_members, "tar": _tar_members}.get(kind)
    found = listed(part) if listed else iter([Member(name, Packed(part, kind))])
    for index, member in enumerate(found):
        for inner in _opened(member, budget, depth):
            yield Member(inner.name, inner.content, inner.fault, (index, *inner.place))


def _opened(member: Member, budget: Budget, depth: int) -> Iterator[Member]:
    """A member, or the members of the archive that it is."""
    if member.content is None:
        yield member
        return
    try:
        if isinstance(member.content, Packed) and member.content.size is not None:
            budget.take(member.content.size)
        head = _beginning(member.content)
        kind = archive_kind(head)
        if kind is None:
            # What shows at its beginning that it is no DICOM is not unpacked any further.
            is_other = isinstance(member.content, Packed) and head and not looks_like_dicom(head)
            yield Member(member.name, None, NOT_DICOM) if is_other else member
            return
        if depth >= MAX_DEPTH:
            raise PackedError(f"archives nested deeper than {MAX_DEPTH}")
        part = member.content
        if isinstance(part, Packed):
            part = spooled(part.pieces())
            budget.take(part.size)
        yield from members(part, member.name, kind, budget, depth + 1)
    except (PackedError, OSError) as error:
        reason = str(error) if isinstance(error, PackedError) else "cannot be opened"
        yield Member(member.name, None, reason)


def _beginning(content: Part | Packed) -> bytes:
    """The first `HEAD_BYTES`, and what is unpacked with them."""
    if isinstance(content, Part):
        with content.open() as stream:
            return stream.read(HEAD_BYTES)
    head = b""
    for piece in content.pieces():
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    return head


def _zip_members(part: Part) -> Iterator[Member]:
    with part.open() as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                entries, directory = archive.infolist(), archive.start_dir
        except Exception as error:  # the standard library's reader raises anything on damaged directories
            raise PackedError("the zip is damaged, or only a part of it is here") from error
        declared = sum(entry.file_size for entry in entries)
        # Entries that overlap count each time, so the trick of many over one packed block is caught here too.
        packed = max(1, sum(entry.compress_size for entry in entries))
        if declared > MAX_TOTAL_BYTES or (declared > RATIO_FREE_BYTES and declared / packed > MAX_RATIO):
            raise PackedError(f"unpacks to {declared / 2**30:.1f} GiB, more than CT can (a decompression bomb)")
        places = [_data_place(stream, entry) for entry in entries]
        lost = _lost_entries(stream, entries, places, directory, part.size)
    for entry, place in zip(entries, places, strict=True):
        # A folder holds no bytes; a file whose name was cut off at its folder does.
        if not entry.filename.endswith("/") or entry.file_size:
            yield _zip_member(part, entry, place)
    if lost:
        yield Member("", None, f"{lost} file(s) of the zip, which its directory has lost")


def _zip_member(part: Part, entry: zipfile.ZipInfo, place: int | None) -> Member:
    codec = ZIP_CODECS.get(entry.compress_type)
    name = entry.filename.replace("\\", "/").rsplit("/", 1)[-1]
    if entry.flag_bits & _ENCRYPTED:
        return Member(name, None, "encrypted in the zip")
    if codec is None:
        return Member(name, None, "packed in the zip by a method that is not read")
    if place is None or entry.file_size > MAX_OBJECT_BYTES:
        return Member(name, None, "damaged in the zip")
    inside = Part(part.source, part.start + place, min(entry.compress_size, max(0, part.size - place)))
    return Member(name, Packed(inside, codec, entry.CRC, entry.file_size))


def _data_place(stream: BinaryIO, entry: zipfile.ZipInfo) -> int | None:
    """Offset of an entry's packed bytes; None where its local header is not the one that the directory means."""
    if entry.header_offset < 0:
        return None
    stream.seek(entry.header_offset)
    head = stream.read(30)
    if len(head) < 30 or head[:4] != _LOCAL:
        return None
    name_size, extra_size = struct.unpack("<HH", head[26:30])
    name = stream.read(name_size).decode("utf-8" if entry.flag_bits & _UTF8 else "cp437", "replace")
    return entry.header_offset + 30 + name_size + extra_size if name == entry.orig_filename else None


def _lost_entries(
    stream: BinaryIO, entries: list[zipfile.ZipInfo], places: list[int | None], directory: int, size: int
) -> int:
    """How many entries are in the zip, or are counted at its end, and are not in its directory."""
    extents = sorted(
        (entry.header_offset, place + entry.compress_size)
        for entry, place in zip(entries, places, strict=True)
        if place is not None
    )
    found, at = 0, 0
    for start, end in [*extents, (directory, directory)]:
        found += _local_headers(stream, at, start)
        at = max(at, end)
    stream.seek(max(0, size - 65_557))
    tail = stream.read()
    end_record = tail.rfind(_END)
    counted = 0
    if 0 <= end_record <= len(tail) - 12:
        counted = int.from_bytes(tail[end_record + 10 : end_record + 12], "little")
    # The header of an entry whose name is damaged lies in a gap too, and is reported by itself. Above 65,535 the count
    # is elsewhere.
    return max(found - places.count(None), counted - len(entries) if counted < 0xFFFF else 0)


def _local_headers(stream: BinaryIO, start: int, end: int) -> int:
    """Local headers of zip entries between two offsets."""
    found = 0
    stream.seek(start)
    left, kept = end - start, b""
    while left > 0:
        piece = stream.read(min(left, 1 << 20))
        if not piece:
            break
        left -= len(piece)
        block = kept + piece
        at = block.find(_LOCAL)
        while 0 <= at <= len(block) - 10:
            version, _, method = struct.unpack("<HHH", block[at + 4 : at + 10])
            found += version <= 0x03FF and method in (*ZIP_CODECS, zipfile.ZIP_LZMA)
            at = block.find(_LOCAL, at + 4)
        kept = block[-9:]
    return found


def _tar_members(part: Part) -> Iterator[Member]:
    with part.open() as stream:
        at = -1
        try:
            with tarfile.TarFile(fileobj=stream) as archive:
                for entry in archive:
                    if entry.offset <= at or entry.size < 0:
                        raise PackedError("a damaged tar")
                    at = entry.offset
                    if not entry.isreg():
                        continue
                    name = entry.name.rsplit("/", 1)[-1]
                    if entry.issparse():
                        yield Member(name, None, "stored as a sparse file, which is not read")
                        continue
                    size = min(entry.size, max(0, part.size - entry.offset_data))
                    yield Member(name, Part(part.source, part.start + entry.offset_data, size))
                end = archive.offset
        except PackedError:
            raise
        except Exception as error:  # the standard library's reader raises anything on damaged headers
            if at < 0:
                raise PackedError("a damaged tar") from error
            yield Member("", None, "the tar is damaged or cut short, and files behind this place are lost")
            return
        # A tar ends with blocks of zeros; the standard library's reader stops in silence at anything else.
        stream.seek(min(end, part.size))
        if any(stream.read(512)) or end >= part.size:
            yield Member("", None, "the tar is damaged or cut short, and files behind this place may be lost")
