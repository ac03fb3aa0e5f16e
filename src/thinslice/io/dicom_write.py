"""A derived thin CT series, written slice by slice as the thin slabs come.

Classic single-frame CT Image Storage, Explicit VR Little Endian, one file per slice. Names say nothing of the
patient and hold nothing of the input.
"""

from __future__ import annotations

import re
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite

from thinslice.errors import OutputError
from thinslice.geometry import Geometry
from thinslice.io.atomic import atomic_directory, output_errors
from thinslice.io.dicom_derive import DerivedSeries
from thinslice.io.dicom_encoding import choose_encoding
from thinslice.io.resources import require_disk
from thinslice.volume import Provenance

_OUR_FILE = re.compile(r"thin_\d{4,}\.dcm")
_HEADER_BYTES = 16_384
"""What a header may take on disk, for the estimate made before the start."""


class DicomSlabWriter:
    """Writes finished thin slices into a new DICOM folder; nothing is left of it on an error.

    Args:
        path: the folder to make.
        geometry: the thin grid, (depth, height, width).
        provenance: with the headers of the thick source and the derivation; `padding_hu` is marked as padding.
        hu_range: the lowest and highest HU that will come, inclusive. Signed 16 bits hold HU as they are where that
            is enough, else with a slope and intercept; see `choose_encoding` for the precision.
        overwrite: replace a folder of such a series.

    Raises:
        OutputError: the source has no DICOM headers (a NIfTI has no patient or study), or the folder cannot be
            written; write .nii.gz, or choose another place.
        UsageError: SOURCE_DATE_EPOCH is not a number of seconds.

    Entering raises OutputExistsError for a folder that is there without `overwrite`, OutputError for a folder that
    holds anything but such a series, and ResourceError when the disk is too full for the whole series.
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
        self._folder: Path | None = None
        self._written = 0

    def __enter__(self) -> Self:
        """Take the lock on the folder and make room for its slices."""
        if self._overwrite:
            _refuse_foreign_files(self._path)
        depth, height, width = self.series.geometry.shape
        require_disk(self._path, depth * (2 * height * width + _HEADER_BYTES))
        self._folder = self._stack.enter_context(atomic_directory(self._path, overwrite=self._overwrite))
        return self

    def write(self, hu: npt.NDArray[Any]) -> None:
        """Write the next thin slices in depth order.

        Args:
            hu: (n, height, width), int16 or float HU; rounded to whole steps, clipped to what 16 bits hold.

        Raises:
            OutputError: the slab does not fit the grid, holds values that are not numbers, or cannot be written.
            ResourceError: the disk is full; free some space.
        """
        if self._folder is None:
            raise OutputError("Slices can only be written inside the writer's with block.")
        depth, height, width = self.series.geometry.shape
        if hu.ndim != 3 or hu.shape[1:] != (height, width) or self._written + len(hu) > depth:
            raise OutputError(
                f"A slab of shape {hu.shape} after {self._written} slices does not fit the grid "
                f"{self.series.geometry.shape}."
            )
        if not np.issubdtype(hu.dtype, np.integer) and not np.isfinite(hu).all():
            raise OutputError(
                f"Thin slices {self._written} to {self._written + len(hu) - 1} hold values that are not numbers; "
                "try another model or device."
            )
        for plane in hu:
            self._write_slice(plane)

    def _write_slice(self, plane: npt.NDArray[Any]) -> None:
        if self._folder is None:
            raise OutputError("Slices can only be written inside the writer's with block.")
        header = self.series.header(self._written)
        pixels = np.ascontiguousarray(self.series.encoding.encode(plane), dtype="<i2")
        data = pixels.tobytes()
        header.add_new("PixelData", "OW", data if len(data) % 2 == 0 else data + b"\0")
        name = f"thin_{self.series.line.instance_number(self._written):04d}.dcm"
        with output_errors(self._folder), warnings.catch_warnings():
            # pydicom's warnings quote the odd value, which may identify the patient.
            warnings.simplefilter("ignore")
            dcmwrite(self._folder / name, header, enforce_file_format=True)
        self._written += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Rename the finished folder into place, or remove all of it when the block raised or slices are missing."""
        self._folder = None
        if error is None and self._written != len(self.series):
            error = OutputError(
                f"Only {self._written} of {len(self.series)} thin slices came; the series was not written."
            )
            self._stack.__exit__(type(error), error, None)
            raise error
        self._stack.__exit__(kind, error, trace)


def _refuse_foreign_files(path: Path) -> None:
    """Overwriting replaces the whole folder, so it must hold nothing but an earlier series of ours."""
    with output_errors(path):
        if path.is_dir() and any(not _OUR_FILE.fullmatch(entry.name) for entry in path.iterdir()):
            raise OutputError(
                f"{path.name!r} holds files that are not of an earlier thin series, and overwriting would delete them; "
                "choose another folder."
            )
