"""Writers of a thin volume slab by slab, as it is made: memory does not grow with its depth.

`open_writer` chooses a writer by the name of the output. Files of the x, y, z kind share `FileSlabWriter`; a format
adds its header.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from thinslice.errors import OutputError
from thinslice.file_grid import zyx_order
from thinslice.geometry import Geometry
from thinslice.io.gzip_stream import DeflateWriter, Form
from thinslice.io.pairs import Hashed, paired_files
from thinslice.system.faults import DISK_FULL_CODES, output_fault
from thinslice.system.resources import require_disk
from thinslice.volume import Provenance

REORDER_BYTES = 32 << 20
"""Memory for the reordering of voxels where depth is not the file's slowest axis."""

_INT16 = np.iinfo(np.int16)


class SlabWriter(Protocol):
    """A context manager that writes finished slices in depth order.

    On a clean exit the whole output appears; on an error nothing is left.
    """

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what the format could not hold; complete after the last slab."""
        ...

    def __enter__(self) -> SlabWriter:
        """Begin the output."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Commit, or remove what was begun."""
        ...

    def write(self, hu: npt.NDArray[Any]) -> None:
        """Write the next slices: (n, height, width), int16 or float32 HU."""
        ...


class FileSlabWriter(ABC):
    """Streams a volume into one file of the x, y, z kind: a header, then the voxels, axis 0 running fastest.

    When depth is the file's slowest axis, slabs go straight to the file. Otherwise they wait in a nameless file
    beside it (which the system removes even when the process is killed) until all slices are there.

    Args:
        path: the file to make.
        geometry: of the whole volume.
        provenance: its `file_axes` are the axis order of the file.
        dtype: int16 or float32; int16 becomes float32 when `hu_range` does not fit.
        hu_range: the lowest and highest HU to come.
        overwrite: replace an existing file.
    """

    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        path: str | Path,
        geometry: Geometry,
        provenance: Provenance,
        *,
        dtype: npt.DTypeLike = np.int16,
        hu_range: tuple[float, float],
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.geometry = geometry
        self.provenance = provenance
        self.axes = provenance.file_axes
        fits = _INT16.min - 0.5 <= hu_range[0] and hu_range[1] < _INT16.max + 0.5
        self.dtype = np.dtype("<i2" if np.dtype(dtype) == np.int16 and fits else "<f4")
        self._overwrite = overwrite
        self._order = zyx_order(self.axes)
        self._streams = self.axes[0] == 2
        self._written = 0
        self._context: AbstractContextManager[None] | None = None
        self._sink: DeflateWriter | _Guarded | None = None

    @abstractmethod
    def header(self, section_bytes: int = 0, voxel_name: str = "") -> bytes:
        """Everything before the voxels, always of the same length for one `voxel_name`.

        Args:
            section_bytes: of the voxels as stored; 0 as long as they are not known.
            voxel_name: of a second file with the voxels; empty where they follow the header.
        """

    @property
    def packing(self) -> Form | None:
        """How the voxels are deflated; None for plain ones."""
        return None

    @property
    def header_compressed(self) -> bool:
        """Whether the header lies inside the gzip member too."""
        return False

    @property
    def is_pair(self) -> bool:
        """Whether the voxels lie in a second file."""
        return False

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels, before compression."""
        depth, height, width = self.geometry.shape
        return depth * height * width * self.dtype.itemsize

    def __enter__(self) -> FileSlabWriter:
        self._context = self._opened()
        self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._context is None:
            raise OutputError("The writer is not open; use it in a with block.")
        context, self._context, self._sink = self._context, None, None
        return context.__exit__(kind, error, trace)

    def write(self, hu: npt.NDArray[Any]) -> None:
        """Write the next slices.

        Args:
            hu: (n, height, width), int16 or float32 HU; floats are rounded to the nearest integer in an int16 file.

        Raises:
            OutputError: more slices than announced, another plane size, values that are not finite or do not fit the
                announced range, or a failing disk; choose another output, or report the fault.
            ResourceError: the disk is full; free some space.
        """
        if self._sink is None:
            raise OutputError("The writer is not open; use it in a with block.")
        slab = self._stored(hu)
        if not slab.size:
            return
        ordered = slab.transpose(self._order) if self._streams else slab
        self._sink.write(np.ascontiguousarray(ordered).data.cast("B"))
        self._written += len(slab)

    def _stored(self, hu: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The slab in the file's type, checked against the grid and the announced range."""
        depth, height, width = self.geometry.shape
        if hu.ndim != 3 or hu.shape[1:] != (height, width) or self._written + len(hu) > depth:
            raise OutputError(
                f"A slab of shape {hu.shape} does not fit {self.path.name!r} of {self.geometry.shape} at slice "
                f"{self._written}; report this."
            )
        if hu.dtype.kind == "f":
            low, high = (float(hu.min()), float(hu.max())) if hu.size else (0.0, 0.0)
            if not (np.isfinite(low) and np.isfinite(high)):
                raise OutputError(
                    f"Slices from {self._written} on hold values that are not finite, so nothing was written; try "
                    "another model or device."
                )
            if self.dtype.kind == "i":
                if round(low) < _INT16.min or round(high) > _INT16.max:
                    raise OutputError(
                        f"Slices from {self._written} on reach from {low:g} to {high:g} HU, beyond the range that was "
                        "announced, so nothing was written; report this."
                    )
                hu = np.rint(hu)
        return hu.astype(self.dtype, copy=False)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        from thinslice.system.atomic import atomic_file

        require_disk(self.path, self.voxel_bytes * (1 if self._streams else 2))
        if self.is_pair:
            with paired_files(self.path, overwrite=self._overwrite) as pair:
                with pair.voxel_partial.open("wb") as file:
                    hashed = Hashed(file)
                    with self._voxels_into(hashed, b""):
                        yield
                with writing(self.path):
                    name = pair.name_voxels(hashed.digest)
                    pair.header_partial.write_bytes(self.header(hashed.count, name))
            return
        header = self.header()
        with atomic_file(self.path, overwrite=self._overwrite) as partial, partial.open("wb") as file:
            with self._voxels_into(file, header):
                yield
            if self.packing is not None and not self.header_compressed:
                with writing(self.path):
                    size = file.tell() - len(header)
                    file.seek(0)
                    file.write(self.header(size))

    @contextmanager
    def _voxels_into(self, file: BinaryIO | Hashed, header: bytes) -> Iterator[None]:
        """Header and voxels into an open file: collects slabs while the block runs, completes the file at its end."""
        guarded = _Guarded(file, self.path)
        if not self.header_compressed:
            guarded.write(header)
        packed = nullcontext(guarded) if self.packing is None else DeflateWriter(guarded, form=self.packing)
        with packed as stream:
            if self.header_compressed:
                stream.write(header)
            if self._streams:
                self._sink = stream
                yield
                self._check_complete()
            else:
                with tempfile.TemporaryFile(dir=self.path.resolve().parent, prefix=".thinslice-") as spool:
                    self._sink = _Guarded(spool, self.path)
                    yield
                    self._check_complete()
                    with writing(self.path):
                        spool.flush()
                    self._reorder(spool, stream)
        with writing(self.path):
            file.flush()

    def _check_complete(self) -> None:
        if self._written != self.geometry.shape[0]:
            raise OutputError(
                f"Only {self._written} of {self.geometry.shape[0]} slices were made for {self.path.name!r}, so nothing "
                "was written; report this."
            )

    def _reorder(self, spool: BinaryIO, stream: DeflateWriter | _Guarded) -> None:
        """Copy (depth, height, width) voxels into the file's order, a few of its planes at a time.

        Plain reads, not a memory map: the system maps pages around those touched, soon all of them.

        With the order (1, 2, 0), 300 slices of 512 x 512 in int16 have 150 MiB, so 32 MiB are 109 rows of every slice:
        ranges [0, 109), [109, 218) ... [436, 512). Rows from 109 of slice 7 begin at byte (7 * 512 + 109) * 512 * 2.
        """
        depth, height, width = self.geometry.shape
        slowest = self._order[0]
        planes = self.geometry.shape[slowest]
        step = max(1, REORDER_BYTES * planes // self.voxel_bytes)
        for start in range(0, planes, step):
            part = slice(start, min(start + step, planes))
            rows, columns = (part, slice(0, width)) if slowest == 1 else (slice(0, height), part)
            read = np.empty((rows.stop - rows.start, width), self.dtype)
            piece = np.empty((depth, len(read), columns.stop - columns.start), self.dtype)
            for index in range(depth):
                with writing(self.path):
                    spool.seek((index * height + rows.start) * width * self.dtype.itemsize)
                    spool.readinto(read.data.cast("B"))  # type: ignore[attr-defined]
                piece[index] = read[:, columns]
            stream.write(np.ascontiguousarray(piece.transpose(self._order)).data.cast("B"))


class _Guarded:
    """A file whose errors are those of `writing`."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file = file
        self._path = path

    def write(self, data: bytes | memoryview) -> None:
        with writing(self._path):
            self._file.write(data)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of writing an output into one sentence with the reason; a full disk is left to `atomic_file`.

    Raises:
        OutputError: the disk fails, or the file exceeds a limit of sizes; choose another output.
        ResourceError: memory or open files are short.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL_CODES:
            raise
        raise output_fault(error, path.name) from error
