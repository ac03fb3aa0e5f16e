"""A zip of a folder as a stream: nothing is kept, so that memory and disk do not grow with it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

PIECE_BYTES = 1 << 20


class _Sink:
    """The part of a file's methods that `zipfile` needs of one that cannot be wound back."""

    def __init__(self) -> None:
        self.waiting = bytearray()

    mode = "wb"

    def write(self, data: bytes, /) -> int:
        self.waiting += data
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def tell(self) -> int:
        raise OSError("a stream")

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise OSError("a stream")

    def close(self) -> None:
        """Nothing to close."""

    def take(self) -> bytes:
        data = bytes(self.waiting)
        self.waiting.clear()
        return data


def zip_pieces(folder: Path, inside: str) -> Iterator[bytes]:
    """The bytes of a zip of the files in a folder, stored as they are; the same each time.

    Args:
        folder: its files, without subfolders.
        inside: name of the folder in the zip.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(folder.iterdir()):
            member = zipfile.ZipInfo(f"{inside}/{path.name}")
            member.file_size = path.stat().st_size
            member.external_attr = 0o644 << 16
            with path.open("rb") as source, packed.open(member, "w") as target:
                while piece := source.read(PIECE_BYTES):
                    target.write(piece)
                    yield sink.take()
            yield sink.take()
    yield sink.take()
