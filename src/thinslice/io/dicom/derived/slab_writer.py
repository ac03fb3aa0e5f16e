"""What writers of a derived series share, as single slices or as one object: pixels, checks, and all or nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from thinslice.errors import OutputError
from thinslice.geometry import Geometry
from thinslice.io.dicom.attributes import as_encoded
from thinslice.io.dicom.derived.encoding import RoundedPixels, choose_encoding
from thinslice.io.dicom.derived.header import DerivedSeries
from thinslice.volume import Provenance


class DerivedSlabWriter(ABC):
    """Writes finished thin slices of a derived series; nothing is left of them on an error.

    Args:
        path: of the output.
        geometry: the thin grid, (depth, height, width).
        provenance: with the headers of the thick source and the derivation; `padding_hu` is marked as padding.
        hu_range: the lowest and highest HU to come, inclusive. Signed 16 bits hold HU as they are where the range
            fits, else with a slope and intercept; see `choose_encoding` for the precision.
        overwrite: replace an earlier output.

    Attributes:
        series: the headers of the slices.

    Raises:
        OutputError: the source has no DICOM headers (a NIfTI has no patient or study), or the output cannot be
            written; write .nii.gz, or choose another place.
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
        self._path = Path(path)
        self._overwrite = overwrite
        self._stack = ExitStack()
        self._open = False
        self._written = 0
        self._pixels = RoundedPixels(encoding)

    @abstractmethod
    def _begin(self, opening: ExitStack) -> None:
        """Make room for the output and enter its contexts."""

    @abstractmethod
    def _store(self, slice_index: int, pixels: memoryview) -> None:
        """Write the pixels of one slice, signed 16 bits in little endian."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the source's identity lacks, and what 16 bits cannot hold of the slices written so far."""
        return (*self.series.warnings, *self._pixels.warnings)

    def __enter__(self) -> Self:
        """Take the lock on the output and make room for its slices."""
        with ExitStack() as opening:
            self._begin(opening)
            self._stack = opening.pop_all()
        self._open = True
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
        if not self._open:
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
            self._store(self._written, np.ascontiguousarray(self._pixels.encode(plane), dtype="<i2").data)
            self._written += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Rename the finished output into place, or remove all of it when the block raised or slices are missing."""
        self._open = False
        if error is None and self._written != len(self.series):
            error = OutputError(
                f"Only {self._written} of {len(self.series)} thin slices came in, so nothing was written; report this."
            )
            self._stack.__exit__(type(error), error, None)
            raise error
        self._stack.__exit__(kind, error, trace)


def encode_elements(dataset: Dataset, charset: Any) -> bytes:
    """The elements of a dataset in Explicit VR Little Endian, text in the character set of the whole file."""
    buffer = explicit_buffer()
    write_dataset(buffer, as_encoded(dataset), charset)
    return buffer.getvalue()


def explicit_buffer() -> DicomBytesIO:
    """A buffer for pydicom's writer of Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    return buffer
