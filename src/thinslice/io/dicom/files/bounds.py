"""A file for pydicom's parser that stays within bounds, whatever lengths the file claims."""

from __future__ import annotations

from typing import BinaryIO

MAX_HEADER_BYTES = 32 * 2**20
"""Bytes read for one header, pixels not counted; real ones stay below 1 MiB."""


class HeaderError(Exception):
    """This file is not read; the message is a short reason for the list of skipped files."""


class BoundedReader:
    """A file for pydicom that never reads past the end of the file, nor more than `limit` bytes in all.

    pydicom allocates the length that an element declares; here the length is cut to the end of the file.
    """

    def __init__(self, stream: BinaryIO, size: int, limit: int = MAX_HEADER_BYTES) -> None:
        self._stream, self._size, self._left = stream, size, limit

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; `HeaderError` once the limit is spent."""
        if size < 0 or size > 4096:
            left = self._size - self._stream.tell()
            size = left if size < 0 else min(size, left)
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise HeaderError(f"its header is larger than {MAX_HEADER_BYTES // 2**20} MiB")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of files, but never past the end, even for a hostile length."""
        position = self._stream.seek(offset, whence)
        return position if position <= self._size else self._stream.seek(self._size)

    def tell(self) -> int:
        """As of files."""
        return self._stream.tell()

    def close(self) -> None:
        """No action: the stream is closed where it was opened."""
