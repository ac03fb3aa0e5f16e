"""A derived thin CT series as one enhanced multi-frame file, written frame by frame as the thin slabs come."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info

from thinslice.errors import OutputError
from thinslice.geometry import Geometry
from thinslice.io.dicom.attributes import value_of
from thinslice.io.dicom.derived_header import DerivedSeries
from thinslice.io.dicom.encoding import RoundedPixels, choose_encoding
from thinslice.io.dicom.enhanced_header import EnhancedHeader
from thinslice.io.dicom.header import quiet_pydicom
from thinslice.options import option
from thinslice.system.atomic import atomic_file, output_errors
from thinslice.system.resources import require_disk
from thinslice.volume import Provenance

MAX_PIXEL_BYTES = 2**32 - 2
"""Bytes that one uncompressed PixelData may have: its length has 32 bits and is even."""

_FRAME_HEADER_BYTES = 4096
"""Largest functional groups of one frame on disk, for the estimate before the start."""

_PREAMBLE = b"\0" * 128 + b"DICM"
_UNDEFINED = 0xFFFFFFFF


class EnhancedSlabWriter:
    """Writes finished thin slices into one new enhanced CT file; nothing is left of it on an error.

    Args:
        path: the file to make.
        geometry: the thin grid, (depth, height, width).
        provenance: with the headers of the thick source and the derivation; `padding_hu` is marked as padding.
        hu_range: the lowest and highest HU to come, inclusive; as for `thinslice.io.dicom.write.DicomSlabWriter`.
        overwrite: replace an existing file.

    Attributes:
        series: the headers as single slices.

    Raises:
        OutputError: the source has no DICOM headers, the voxels need more than 4 GiB, or the file cannot be written;
            write single slices or .nii.gz, or choose another place.
        UsageError: SOURCE_DATE_EPOCH is not a number of seconds; set it so, or unset it.
    """

    def __init__(
        self,
        path: str | Path,
        geometry: Geometry,
        provenance: Provenance,
        *,
        hu_range: tuple[float, float],
        overwrite: bool = False,
    ) -> None:
        encoding = choose_encoding(hu_range, provenance.padding_hu)
        self.series = DerivedSeries(geometry, provenance, encoding)
        self._pixels = RoundedPixels(encoding)
        self._sources = provenance.headers
        depth, height, width = geometry.shape
        self._pixel_bytes = 2 * depth * height * width
        if self._pixel_bytes > MAX_PIXEL_BYTES:
            raise OutputError(
                f"One enhanced DICOM file holds 4 GiB, and these {depth} slices need "
                f"{self._pixel_bytes / 2**30:.1f} GiB; write single slices ({option('output_format', 'dicom')})."
            )
        self._path = Path(path)
        self._overwrite = overwrite
        self._stack = ExitStack()
        self._partial: Path | None = None
        self._file: BinaryIO | None = None
        self._written = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the source's identity lacks, and what 16 bits cannot hold of the slices written so far."""
        return (*self.series.warnings, *self._pixels.warnings)

    def __enter__(self) -> Self:
        """Take the lock on the file, make room, and write the header."""
        with ExitStack() as opening:
            self._partial = opening.enter_context(atomic_file(self._path, overwrite=self._overwrite))
            require_disk(self._path, self._pixel_bytes + _FRAME_HEADER_BYTES * (len(self.series) + 4))
            with output_errors(self._partial):
                self._file = opening.enter_context(self._partial.open("wb"))
                for piece in _header(self.series, self._sources, self._pixel_bytes):
                    self._file.write(piece)
            self._stack = opening.pop_all()
        return self

    def write(self, hu: npt.NDArray[Any]) -> None:
        """Write the next thin slices in depth order.

        Args:
            hu: (n, height, width), int16 or float HU; rounded to whole steps, clipped to what 16 bits hold.

        Raises:
            OutputError: the slab does not fit the grid, holds values that are not numbers, or cannot be written; try
                another model, device or place.
            ResourceError: the disk is full; free some space.
        """
        if self._file is None or self._partial is None:
            raise OutputError("Slices can only be written inside the writer's with block; report this.")
        depth, height, width = self.series.geometry.shape
        if hu.ndim != 3 or hu.shape[1:] != (height, width) or self._written + len(hu) > depth:
            raise OutputError(
                f"A slab of shape {hu.shape} after {self._written} slices does not fit the grid "
                f"{self.series.geometry.shape}; report this."
            )
        if not np.issubdtype(hu.dtype, np.integer) and not np.isfinite(hu).all():
            raise OutputError(
                f"Thin slices {self._written} to {self._written + len(hu) - 1} hold values that are not numbers; "
                "try another model or device."
            )
        for plane in hu:
            pixels = np.ascontiguousarray(self._pixels.encode(plane), dtype="<i2")
            with output_errors(self._partial):
                self._file.write(pixels.data)
            self._written += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Rename the finished file into place, or remove it when the block raised or slices are missing."""
        self._file = None
        if error is None and self._written != len(self.series):
            error = OutputError(
                f"Only {self._written} of {len(self.series)} thin slices came in, so nothing was written; report this."
            )
            self._stack.__exit__(type(error), error, None)
            raise error
        self._stack.__exit__(kind, error, trace)


def _header(series: DerivedSeries, sources: tuple[Dataset, ...], pixel_bytes: int) -> Iterator[bytes]:
    """The bytes of the file up to its first pixel, a frame's groups at a time."""
    with quiet_pydicom():
        header = EnhancedHeader(series, sources)
        meta = _explicit_buffer()
        write_file_meta_info(meta, header.file_meta(), enforce_standard=True)
        top = header.top()
        charset = value_of(top, "SpecificCharacterSet", "iso8859")
        yield _PREAMBLE + meta.getvalue() + _encoded(top, charset)
        yield struct.pack("<HH2sHL", 0x5200, 0x9230, b"SQ", 0, _UNDEFINED)
        for slice_index in range(len(series)):
            item = _encoded(header.frame(slice_index), charset)
            yield struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
        yield struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        yield struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, pixel_bytes)


def _encoded(dataset: Dataset, charset: Any) -> bytes:
    buffer = _explicit_buffer()
    write_dataset(buffer, dataset, charset)
    return buffer.getvalue()


def _explicit_buffer() -> DicomBytesIO:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    return buffer
