"""Gzip and zlib written on several threads, and gzip read within bounds.

The writer makes one ordinary gzip member or zlib stream, whatever the number of threads: blocks are deflated separately
and joined at byte borders, as pigz does. Several members would be as valid, but browsers and some viewers stop after
the first.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Protocol

from thinslice.errors import UnreadableError
from thinslice.system.cores import sensible_threads
from thinslice.system.faults import input_fault

GZIP_MAGIC = b"\x1f\x8b"

BLOCK_BYTES = 1 << 20
"""Bytes deflated at once. Fixed, so that the bytes written depend on the data alone."""

LEVEL = 1
"""CT voxels are noise to deflate: level 6 takes three times as long as level 1 and saves four per cent."""

MAX_RATIO = 1040
"""Deflate cannot shrink data by more (its limit is 1032)."""

LARGE_BYTES, MAX_RATIO_OF_LARGE = 1 << 30, 250
"""Data above this size that shrank by more are a bomb: CT shrinks to a half or a third, constant slices to a
thousandth."""

MAX_TRAILING_BYTES = 16 << 20
"""Bytes that may follow the voxels in a gzip stream before it counts as a bomb."""

_NEXT_MEMBER = "Not a gzipped file"
"""What Python's reader reports once a member has ended well and the next bytes begin none."""

Form = Literal["gzip", "zlib"]
"""What surrounds deflated blocks: gzip ends in CRC-32 and length, zlib in Adler-32."""

_HEADERS = {"gzip": b"\x1f\x8b\x08\x00" + b"\x00\x00\x00\x00" + b"\x00\xff", "zlib": b"\x78\x01"}
"""Gzip: deflate, no name, time 0 (the same data give the same bytes), unknown system. Zlib: deflate, fastest level."""


def most_plain_bytes(packed_bytes: int) -> int:
    """The most bytes that deflated data are unpacked to.

    >>> most_plain_bytes(1000), most_plain_bytes(10 << 20) >> 20, most_plain_bytes(100 << 20) >> 20
    (1040000, 2500, 25000)
    """
    return max(min(packed_bytes * MAX_RATIO, LARGE_BYTES), packed_bytes * MAX_RATIO_OF_LARGE)


class Sink(Protocol):
    """Anything that takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        ...


class DeflateWriter:
    """Compress a stream of bytes into `sink` as one gzip member or zlib stream; use it in a `with` block.

    Memory is bounded by a few blocks per thread. When the block ends with an error nothing more is written.

    Args:
        sink: an open binary file; it stays open.
        form: "gzip" or "zlib".
        level: 0 to 9, as in zlib.
        threads: how many compress; by default the cores that this process may use, at most 4.
    """

    def __init__(self, sink: Sink, *, form: Form = "gzip", level: int = LEVEL, threads: int | None = None) -> None:
        self._sink = sink
        self._form = form
        self._level = level
        self._threads = threads or min(4, sensible_threads())
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="gzip")
        self._underway: deque[Future[bytes]] = deque()
        self._pending = bytearray()
        self._checksum = 0 if form == "gzip" else 1
        self._size = 0

    def __enter__(self) -> DeflateWriter:
        self._sink.write(_HEADERS[self._form])
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes; the caller may reuse its buffer at once."""
        view = memoryview(data).cast("B")
        self._checksum = (zlib.crc32 if self._form == "gzip" else zlib.adler32)(view, self._checksum)
        self._size += len(view)
        position = 0
        if self._pending:
            position = min(BLOCK_BYTES - len(self._pending), len(view))
            self._pending += view[:position]
            if len(self._pending) == BLOCK_BYTES:
                self._submit(bytes(self._pending), last=False)
                self._pending.clear()
        while len(view) - position >= BLOCK_BYTES:
            self._submit(bytes(view[position : position + BLOCK_BYTES]), last=False)
            position += BLOCK_BYTES
        self._pending += view[position:]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._submit(bytes(self._pending), last=True)
                while self._underway:
                    self._sink.write(self._underway.popleft().result())
                self._sink.write(
                    struct.pack("<II", self._checksum, self._size & 0xFFFFFFFF)
                    if self._form == "gzip"
                    else struct.pack(">I", self._checksum)
                )
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _submit(self, block: bytes, *, last: bool) -> None:
        self._underway.append(self._pool.submit(_deflate, block, self._level, last))
        while len(self._underway) > 2 * self._threads:
            self._sink.write(self._underway.popleft().result())


def _deflate(block: bytes, level: int, last: bool) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(block) + deflater.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


@contextmanager
def open_plain(path: Path) -> Iterator[tuple[BinaryIO, int, bool]]:
    """Open a file that may be gzip, whatever its name.

    Yields:
        The stream of plain bytes, the most bytes that are read from it (exact for a plain file), and whether it is
        gzip.

    Raises:
        UnreadableError: it does not exist, cannot be opened, or is damaged gzip; check the path, or copy it again.
    """
    with readable(path), path.open("rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        compressed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                yield stream, most_plain_bytes(size), True  # type: ignore[misc]  # reads like a BinaryIO
        else:
            yield raw, size, False


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of reading a file into one sentence with the reason.

    Raises:
        UnreadableError: missing, not permitted, a folder, or damaged gzip; the message gives the next step.
    """
    try:
        yield
    except EOFError as error:
        raise UnreadableError(f"{path.name!r} is cut short; copy or download it again.") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableError(f"{path.name!r} is damaged gzip; copy or download it again.") from error
    except OSError as error:
        raise input_fault(error, path.name) from error


def read_into(stream: BinaryIO, buffer: memoryview, path: Path) -> None:
    """Fill the buffer from the stream.

    Raises:
        UnreadableError: the stream ends before; copy or download the file again.
    """
    filled = 0
    while filled < len(buffer):
        count = stream.readinto(buffer[filled:])  # type: ignore[attr-defined]
        if not count:
            raise UnreadableError(
                f"{path.name!r} is cut short: it ends before the voxels its header declares; copy or download it again."
            )
        filled += count


def check_end(stream: BinaryIO, path: Path) -> int:
    """Read a gzip stream to its end, so that its checksum is verified, but no further than `MAX_TRAILING_BYTES`.

    Bytes after the stream that are no gzip are ignored, as by the program gzip: the checksum before them is verified.

    Returns:
        Plain bytes that were left, or 1 where bytes that are no gzip follow.

    Raises:
        UnreadableError: much more follows than the header declared, or the checksum is wrong; copy the file again.
    """
    left = MAX_TRAILING_BYTES
    while left > 0:
        try:
            piece = stream.read(min(left, BLOCK_BYTES))
        except gzip.BadGzipFile as error:
            if _NEXT_MEMBER in str(error):
                return MAX_TRAILING_BYTES - left or 1
            raise
        if not piece:
            return MAX_TRAILING_BYTES - left
        left -= len(piece)
    raise UnreadableError(
        f"{path.name!r} goes on far beyond the voxels its header declares; it is damaged or hostile, and is refused."
    )
