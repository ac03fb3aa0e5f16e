"""Where NRRD and MetaImage keep their voxels, and how they are packed; read whole and checked, or refused.

SimpleITK takes damaged zlib and, often, damaged gzip for good, and data that are too long. Here a checksum that a file
holds (CRC-32 of gzip, Adler-32 of zlib) is verified, and the length must be the one that the header declares. Forms
that are rare (text, hexadecimal, bzip2) are left to SimpleITK.

Source: https://teem.sourceforge.net/nrrd/format.html and https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from thinslice.errors import UnreadableError
from thinslice.io.gzip_stream import BLOCK_BYTES, check_end, read_into, readable
from thinslice.io.hu_collector import HuCollector

MAX_TEXT_HEADER_BYTES = 1 << 20
"""Largest text header; a longer one is no header."""

MAX_PADDING_BYTES = 512
"""Bytes that may follow uncompressed voxels: some writers fill blocks."""

Packing = Literal["raw", "gzip", "zlib"]

_LINE_OF = {
    "nrrd": rb"^%s[ \t]*:(?!=)[ \t]*([^\r\n]*?)[ \t]*\r?$",
    "metaimage": rb"^[ \t]*%s[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?$",
}
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_DATA_FILE = re.compile(rb"^\s*ElementDataFile\s*=[^\n]*(\n|$)", re.IGNORECASE | re.MULTILINE)
_TRUE = frozenset({"true", "t", "1", "yes", "y"})


@dataclass(frozen=True)
class TextHeader:
    """The text before the voxels, or in a file of its own.

    Attributes:
        path: of the file.
        kind: "nrrd" or "metaimage".
        text: the header alone.
        end: bytes from the file's start to the voxels that follow the header.
        file_bytes: size of the file.
    """

    path: Path
    kind: str
    text: bytes
    end: int
    file_bytes: int

    @classmethod
    def read(cls, path: Path) -> TextHeader:
        """The header of a file.

        Raises:
            UnreadableError: missing, not permitted, or a MetaImage that names no data; check the file.
        """
        with readable(path), path.open("rb") as file:
            head = file.read(MAX_TEXT_HEADER_BYTES)
            size = path.stat().st_size
        if head.startswith(b"NRRD"):
            blank = _BLANK_LINE.search(head)
            end = len(head) if blank is None else blank.end()
            return cls(path, "nrrd", head[: len(head) if blank is None else blank.start()], end, size)
        last = _DATA_FILE.search(head)
        if last is None:
            raise UnreadableError(f"{path.name!r} names no data; the file is cut short or damaged.")
        return cls(path, "metaimage", head[: last.end()], last.end(), size)

    def value(self, *names: str) -> str:
        """The value of the field of the first of these names that is there; empty where none is."""
        for name in names:
            pattern = _LINE_OF[self.kind] % re.escape(name).encode()
            found = re.search(pattern, self.text, re.IGNORECASE | re.MULTILINE)
            if found is not None:
                return found.group(1).decode("utf-8", "replace")
        return ""

    def fields(self) -> list[str]:
        """Names of the fields, in order."""
        separator = b":" if self.kind == "nrrd" else b"="
        lines = (line.partition(separator) for line in self.text.splitlines())
        return [name.strip().decode("utf-8", "replace") for name, found, _ in lines if found]

    def data_path(self) -> Path:
        """The file with the voxels: this one, or another in its folder.

        Raises:
            UnreadableError: another folder, several files, or a file that is missing; put everything into one folder.
        """
        name = self.value("data file", "datafile") if self.kind == "nrrd" else self.value("ElementDataFile")
        if (not name and self.kind == "nrrd") or name.upper() == "LOCAL":
            return self.path
        plain = name and Path(name).name == name and name != ".." and not set("\\%\0") & set(name)
        if not plain or name.startswith("LIST"):
            raise UnreadableError(
                f"{self.path.name!r} keeps its voxels in another folder or in several files; "
                "put everything into one file (.nrrd, .mha) or into one folder."
            )
        voxels = self.path.with_name(name)
        try:
            is_there = voxels.is_file()
        except OSError:  # a name that the file system does not permit
            is_there = False
        if not is_there:
            raise UnreadableError(f"The data file of {self.path.name!r} is not beside it; put both in one folder.")
        return voxels


@dataclass(frozen=True)
class VoxelSection:
    """Bytes of a file that hold voxels.

    Attributes:
        path: of the file.
        offset: bytes before them; None where they are the file's last ones.
        packing: how they are packed.
        dtype: of one voxel, with its byte order.
        after_unpacking: bytes to skip once unpacked.
    """

    path: Path
    offset: int | None
    packing: Packing
    dtype: np.dtype[Any]
    after_unpacking: int = 0

    @classmethod
    def of(cls, header: TextHeader, dtype: np.dtype[Any]) -> VoxelSection | None:
        """The section that a header describes; None for forms that are left to SimpleITK.

        Args:
            header: of the file.
            dtype: of one voxel, in any byte order.
        """
        return _of_nrrd(header, dtype) if header.kind == "nrrd" else _of_metaimage(header, dtype)

    def fill(self, collector: HuCollector, shape_zyx: tuple[int, int, int]) -> list[str]:
        """Read all voxels into a collector.

        Args:
            collector: takes the voxels.
            shape_zyx: voxels along the file's axes 2, 1, 0.

        Returns:
            Sentences about bytes that were passed over.

        Raises:
            UnreadableError: too short, too long, or a wrong checksum; copy the file again.
        """
        name, size = self.path.name, int(np.prod(shape_zyx, dtype=np.int64)) * self.dtype.itemsize
        with readable(self.path), self.path.open("rb") as raw:
            file_bytes = self.path.stat().st_size
            raw.seek(max(0, file_bytes - size) if self.offset is None else self.offset)
            extra = 0 if self.offset is None else file_bytes - raw.tell() - size
            with self._unpacked(raw) as stream:
                _pass_over(stream, self.after_unpacking, self.path)
                buffer = bytearray()
                for block in collector.blocks():
                    planes, rows = (part.stop - part.start for part in block)
                    count = planes * rows * shape_zyx[2]
                    if len(buffer) < count * self.dtype.itemsize:
                        buffer = bytearray(count * self.dtype.itemsize)
                    read_into(stream, memoryview(buffer)[: count * self.dtype.itemsize], self.path)
                    stored = np.frombuffer(buffer, self.dtype, count=count)
                    collector.add(block, stored.reshape(planes, rows, shape_zyx[2]))
                if self.packing != "raw":
                    extra = check_end(stream, self.path)
        if extra > MAX_PADDING_BYTES:
            raise UnreadableError(
                f"{name!r} holds {extra} bytes more than the voxels its header declares; header and data do not belong "
                "together, or the file is damaged: export it again."
            )
        return [f"{extra} bytes follow the voxels in the file; they were ignored."] if extra else []

    @contextmanager
    def _unpacked(self, raw: BinaryIO) -> Iterator[Any]:
        if self.packing == "raw":
            yield raw
        elif self.packing == "gzip":
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                yield stream
        else:
            yield ZlibStream(raw)


class ZlibStream:
    """Plain bytes of one zlib (or gzip) stream, whose checksum is verified at its end.

    Args:
        raw: at the first byte of the stream.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer as far as one step of unpacking does; 0 at the end of the stream."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end of the stream.

        Raises:
            EOFError: the file ends inside the stream.
            zlib.error: damage, or a wrong checksum.
        """
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._raw.read(BLOCK_BYTES)
            piece = self._inflater.decompress(packed, size)
            if piece:
                return piece
            if not packed and not self._inflater.eof:
                raise EOFError
        return b""


def _pass_over(stream: Any, count: int, path: Path) -> None:
    while count > 0:
        piece = bytearray(min(count, BLOCK_BYTES))
        read_into(stream, memoryview(piece), path)
        count -= len(piece)


def _of_nrrd(header: TextHeader, dtype: np.dtype[Any]) -> VoxelSection | None:
    encoding = header.value("encoding").lower()
    packing: Packing | None = "raw" if encoding == "raw" else "gzip" if encoding in ("gz", "gzip") else None
    endian = header.value("endian").lower()
    try:
        lines = int(header.value("line skip", "lineskip") or 0)
        skipped = int(header.value("byte skip", "byteskip") or 0)
    except ValueError:
        return None
    if packing is None or lines or skipped < (-1 if packing == "raw" else 0):
        return None
    if endian not in ("little", "big") and dtype.itemsize > 1:
        return None
    stored = dtype.newbyteorder(">" if endian == "big" else "<")
    path = header.data_path()
    start = header.end if path == header.path else 0
    if packing == "gzip":
        return VoxelSection(path, start, packing, stored, skipped)
    return VoxelSection(path, None if skipped == -1 else start + skipped, packing, stored)


def _of_metaimage(header: TextHeader, dtype: np.dtype[Any]) -> VoxelSection | None:
    if header.value("BinaryData").lower() not in _TRUE:
        return None
    big = (header.value("BinaryDataByteOrderMSB", "ElementByteOrderMSB") or "False").lower() in _TRUE
    path = header.data_path()
    packing: Packing = "zlib" if header.value("CompressedData").lower() in _TRUE else "raw"
    try:
        skipped = int(header.value("HeaderSize") or 0)
    except ValueError:
        return None
    start: int | None = header.end if path == header.path else skipped
    if start == -1:
        start = None
    if packing == "zlib" and (start is None or start < 0):
        return None
    return VoxelSection(path, start, packing, dtype.newbyteorder(">" if big else "<"))
