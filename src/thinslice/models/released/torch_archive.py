"""Reader of the zip archive that torch.save writes: one pickle, and the numbers of each tensor as a record.

torch stores its records uncompressed. Compression, overlapping records and inconsistent sizes are therefore signs of an
attack and are refused before anything is read. Names in the archive are never used as paths.

Source: torch.save since version 1.6.
"""

from __future__ import annotations

import math
import struct
import zipfile
from types import TracebackType
from typing import IO, Self

import torch

from thinslice.errors import CheckpointError
from thinslice.models.released.inert_pickle import MAX_BYTES, TensorView

_FLOATS = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
}
_MAX_RECORDS = 100_000
_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    OverflowError,
    struct.error,
)


class TorchArchive:
    """Checked access to the records of an archive; a context manager.

    Args:
        stream: the file, opened for reading.
        source: its name, for messages.

    Raises:
        CheckpointError: from the constructor and every method, when the archive is damaged or hostile.
    """

    def __init__(self, stream: IO[bytes], source: str) -> None:
        self.source = source
        size = stream.seek(0, 2)
        self._bytes_left = size
        try:
            self._zip = zipfile.ZipFile(stream)
            records = self._zip.infolist()
        except _DAMAGE as error:
            raise self._damaged() from error
        names = [record.filename for record in records]
        if len(records) > _MAX_RECORDS or len(set(names)) != len(names):
            raise self._refused("has too many records, or two of one name")
        if any(
            record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size for record in records
        ):
            raise self._refused("has compressed records, which torch.save never writes")
        if sum(record.file_size for record in records) > size:
            raise self._refused("states more bytes than the file has")
        self._records = {record.filename: record for record in records}
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise self._refused("is not one that torch.save wrote: it has no data.pkl, or several")
        self._root = pickles[0].removesuffix("data.pkl")
        order = self._root + "byteorder"
        if order in self._records and self._read(order, most=16) != b"little":
            raise self._refused("holds big-endian numbers, which are not read")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def pickle(self) -> bytes:
        """The pickle that describes the saved object, for `inert_pickle` and never for Python's own unpickler."""
        return self._read(self._root + "data.pkl", most=MAX_BYTES)

    def tensor(self, view: TensorView) -> torch.Tensor:
        """The tensor that a view describes, as contiguous float32, after checking that it fits its storage."""
        dtype = _FLOATS.get(view.storage.kind)
        if dtype is None:
            raise self._refused(f"has weights of the type {view.storage.kind[:40]!r}; floats were expected")
        record = self._records.get(f"{self._root}data/{view.storage.key}")
        held = view.storage.count * dtype.itemsize
        if record is None or record.file_size != held:
            raise self._refused(f"lacks the numbers of storage {view.storage.key}, or has too few or too many")
        count = math.prod(view.size)
        last = view.offset + sum((extent - 1) * step for extent, step in zip(view.size, view.stride, strict=True))
        if (count and last >= view.storage.count) or count > view.storage.count:
            raise self._refused("describes a tensor that reaches past its storage")
        # Views of one storage could add up to far more than the file; weights do not.
        self._bytes_left -= held
        if self._bytes_left < 0:
            raise self._refused("uses the same numbers for many tensors")
        if count == 0:
            raise self._refused("describes an empty tensor")
        numbers = torch.frombuffer(bytearray(self._read(record.filename, most=held)), dtype=dtype)
        # A copy even where nothing is converted: the result must not keep the whole storage alive.
        return numbers.as_strided(view.size, view.stride, view.offset).to(torch.float32, copy=True).contiguous()

    def _read(self, name: str, *, most: int) -> bytes:
        record = self._records[name]
        if record.file_size > most:
            raise self._refused(f"has a record of {record.file_size} bytes where at most {most} were expected")
        try:
            return self._zip.read(record)
        except _DAMAGE as error:
            raise self._damaged() from error

    def _damaged(self) -> CheckpointError:
        return CheckpointError(f"{self.source} is a damaged archive; fetch the checkpoint again.")

    def _refused(self, why: str) -> CheckpointError:
        return CheckpointError(f"The archive {self.source} {why}; it is refused and nothing in it was run.")
