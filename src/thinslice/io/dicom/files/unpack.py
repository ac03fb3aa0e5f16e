"""Streams packed by gzip, bzip2, xz or deflate, unpacked piece by piece within bounds, and never to a named file."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from thinslice.errors import ResourceError
from thinslice.system.faults import DISK_FULL_CODES

MAX_MEMORY_BYTES = 64 * 2**20
"""Most bytes of one packed file that are unpacked in memory, twice a 4096 x 4096 slice; larger ones go to a nameless
temporary file."""

MAX_OBJECT_BYTES = 4 * 2**30
"""Largest size to which one packed file may unpack: a DICOM value has no more than 4 GiB."""

MAX_RATIO = 100.0
"""Largest ratio of unpacked to packed size above `RATIO_FREE_BYTES`; CT packs by 2 to 4."""

RATIO_FREE_BYTES = 256 * 2**20
"""Streams that unpack to less than this may have any ratio."""

CHUNK_BYTES = 1 << 20

XZ_MEMORY_BYTES = 256 * 2**20
"""Memory that unpacking xz may take; its strongest setting takes 65 MiB."""

MAGICS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
"""First bytes of packed streams."""


class PackedError(Exception):
    """A packed file or archive is damaged or a bomb; the message is a short reason."""


DAMAGED = (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)
"""Exceptions of a damaged stream."""


class _Decompressor(Protocol):
    """What bz2 and lzma offer, and zlib with `_Zlib`."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib's decompressor with the interface of those of bz2 and lzma."""

    def __init__(self, window_bits: int) -> None:
        self._inflater = zlib.decompressobj(window_bits)

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflater.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflater.decompress(self._inflater.unconsumed_tail + data, max_length)


_CODECS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": lambda: _Zlib(16 + zlib.MAX_WBITS),
    "deflate": lambda: _Zlib(-zlib.MAX_WBITS),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES),
}


def codec_of(head: bytes) -> str | None:
    """The codec of a packed stream by its first bytes, or None."""
    return next((codec for magic, codec in MAGICS.items() if head.startswith(magic)), None)


def unpacked(packed: BinaryIO, packed_bytes: int, codec: str) -> Iterator[bytes]:
    """The pieces of a packed stream; streams that follow one another are one, other bytes behind it are ignored.

    Args:
        packed: at the start of the stream.
        packed_bytes: its length.
        codec: "gzip", "bzip2", "xz", "deflate", or "stored".

    Raises:
        PackedError: it is damaged, or unpacks to more than the limits.
    """
    if codec == "stored":
        yield from _pieces(packed, packed_bytes)
        return
    total, taken = 0, 0
    decompressor = _CODECS[codec]()
    pieces = _pieces(packed, packed_bytes)
    data = b""
    try:
        while True:
            if decompressor.eof:
                data = decompressor.unused_data or next(pieces, b"")
                # Anything else behind the stream is padding.
                if codec == "deflate" or codec_of(data) != codec:
                    return
                decompressor = _CODECS[codec]()
            elif decompressor.needs_input:
                data = next(pieces, b"")
                taken += len(data)
                if not data:
                    raise EOFError
            else:
                data = b""
            piece = decompressor.decompress(data, CHUNK_BYTES)
            total += len(piece)
            if total > MAX_OBJECT_BYTES or (total > RATIO_FREE_BYTES and total > MAX_RATIO * taken):
                raise PackedError("unpacks to more than CT can (a decompression bomb)")
            if piece:
                yield piece
    except DAMAGED as error:
        raise PackedError("damaged, or cut short") from error


def _pieces(stream: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        piece = stream.read(min(CHUNK_BYTES, left))
        if not piece:
            return
        left -= len(piece)
        yield piece


@dataclass(frozen=True)
class Part:
    """Bytes of a file on disk, or of a nameless temporary one, that are read where they lie.

    Attributes:
        source: the path, or the temporary file, which is kept open as long as a part of it exists.
        start, size: where the bytes are.
    """

    source: Path | BinaryIO
    start: int
    size: int

    def open(self) -> BinaryIO:
        """A file of these bytes alone, with its own position (also in a child process)."""
        if isinstance(self.source, Path):
            return cast(BinaryIO, io.BufferedReader(_Window(self.source.open("rb", buffering=0), self, owned=True)))
        return cast(BinaryIO, io.BufferedReader(_Window(self.source, self, owned=False)))


class _Window(io.RawIOBase):
    """A part of an open file."""

    def __init__(self, file: BinaryIO | io.FileIO, part: Part, *, owned: bool) -> None:
        self._file, self._part, self._owned, self._at = file, part, owned, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._part.size)[whence])
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._part.size - self._at))
        if hasattr(os, "pread"):
            # The position of the file itself is shared with child processes, and stays untouched.
            data = os.pread(self._file.fileno(), count, self._part.start + self._at)
        else:
            self._file.seek(self._part.start + self._at)
            data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if self._owned and not self.closed:
            self._file.close()
        super().close()


def spooled(pieces: Iterator[bytes]) -> Part:
    """The pieces in a nameless temporary file.

    Raises:
        PackedError: as the pieces raise.
        ResourceError: the temporary folder is full; free some space, or name another with TMPDIR.
    """
    # Closed when the last part of it is let go.
    file = tempfile.TemporaryFile(prefix="thinslice")  # noqa: SIM115
    try:
        size = sum(map(file.write, pieces))
        file.flush()
    except OSError as error:
        if error.errno not in DISK_FULL_CODES:
            raise
        raise ResourceError(
            "The folder for temporary files is too full to unpack the input; free some space, or set TMPDIR to "
            "another folder."
        ) from error
    return Part(cast(BinaryIO, file), 0, size)


def in_memory(pieces: Iterator[bytes]) -> BinaryIO:
    """The pieces as a file in memory; above `MAX_MEMORY_BYTES` as a nameless temporary file."""
    held = io.BytesIO()
    for piece in pieces:
        held.write(piece)
        if held.tell() > MAX_MEMORY_BYTES:
            return spooled(_chain(held.getvalue(), pieces)).open()
    held.seek(0)
    return held


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
