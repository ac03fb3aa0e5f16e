"""A derived thin CT series, written slice by slice as the thin slabs come.

Classic single-frame CT Image Storage, Explicit VR Little Endian, one file per slice. File names
hold nothing of the patient and of the input.
"""

from __future__ import annotations

import re
import struct
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info

from thinslice.errors import OutputError
from thinslice.geometry import Geometry
from thinslice.io.dicom.attributes import as_encoded, value_of
from thinslice.io.dicom.derived_header import OWN_KEYWORDS, DerivedSeries
from thinslice.io.dicom.encoding import RoundedPixels, choose_encoding
from thinslice.io.dicom.header import quiet_pydicom
from thinslice.system.atomic import atomic_directory, output_errors, place_named
from thinslice.system.resources import require_disk
from thinslice.volume import Provenance

_OUR_FILE = re.compile(r"thin_\d{4,}\.dcm")
_HEADER_BYTES = 16_384
"""Largest header on disk, for the estimate before the start."""
_PREAMBLE = b"\0" * 128 + b"DICM"
_OWN_TAGS = sorted(tag for tag in map(tag_for_keyword, OWN_KEYWORDS) if tag is not None)
_PIXEL_DATA = struct.pack("<HH2sH", 0x7FE0, 0x0010, b"OW", 0)


class HeaderEncoder:
    """Encodes the headers of a derived series; the part that neighbouring slices share, only once.

    Attributes:
        series: the series.
    """

    def __init__(self, series: DerivedSeries) -> None:
        self.series = series
        self._thick_index: int | None = None
        self._segments: list[bytes] = []
        self._charset: Any = None

    def encode(self, slice_index: int) -> bytes:
        """A DICOM file of one thin slice up to its pixels: preamble (zeros), file meta and dataset.

        Args:
            slice_index: in depth order, from 0; consecutive ones are fastest.
        """
        with quiet_pydicom():
            self._encode_common(self.series.line.sources(slice_index).nearest)
            meta = _explicit_buffer()
            write_file_meta_info(meta, self.series.file_meta(slice_index), enforce_standard=True)
            own = self.series.own(slice_index)
            parts = [_PREAMBLE, meta.getvalue()]
            for segment, tag in zip(self._segments, [*_OWN_TAGS, None], strict=True):
                parts.append(segment)
                if tag is not None and tag in own:
                    parts.append(_encode(own[tag : tag + 1], self._charset))
            return b"".join(parts)

    def _encode_common(self, thick_index: int) -> None:
        """Encode the header that the slices around a thick one share, cut at the places of their own elements."""
        if self._thick_index == thick_index:
            return
        common = self.series.common(thick_index)
        self._charset = value_of(common, "SpecificCharacterSet", "iso8859")
        edges = [0, *_OWN_TAGS, 0x7FE00010]
        # A Dataset is sliced by tag.
        self._segments = [_encode(common[first:last], self._charset) for first, last in pairwise(edges)]
        self._thick_index = thick_index


class DicomSlabWriter:
    """Writes finished thin slices into a new DICOM folder; nothing is left of it on an error.

    Args:
        path: the folder to make.
        geometry: the thin grid, (depth, height, width).
        provenance: with the headers of the thick source and the derivation; `padding_hu` is marked as padding.
        hu_range: the lowest and highest HU to come, inclusive. Signed 16 bits hold HU as they are where the range
            fits, else with a slope and intercept; see `choose_encoding` for the precision.
        overwrite: replace a folder of such a series.

    Attributes:
        series: the headers that will be written.

    Raises:
        OutputError: the source has no DICOM headers (a NIfTI has no patient or study), or the folder cannot be
            written; write .nii.gz, or choose another place.
        UsageError: SOURCE_DATE_EPOCH is not a number of seconds; set it so, or unset it.

    Entering raises OutputExistsError for an existing folder without `overwrite`, OutputError for a folder with files
    of another origin, and ResourceError when the disk is too full for the whole series.
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
        self._encoder = HeaderEncoder(self.series)
        self._path = Path(path)
        self._overwrite = overwrite
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._written = 0
        self._pixels = RoundedPixels(encoding)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the source's identity lacks, and what 16 bits cannot hold of the slices written so far."""
        return (*self.series.warnings, *self._pixels.warnings)

    def __enter__(self) -> Self:
        """Take the lock on the folder and make room for its slices."""
        if self._overwrite:
            _refuse_foreign_files(self._path)
        depth, height, width = self.series.geometry.shape
        with ExitStack() as opening:
            self._folder = opening.enter_context(atomic_directory(self._path, overwrite=self._overwrite))
            require_disk(self._path, depth * (2 * height * width + _HEADER_BYTES))
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
        if self._folder is None:
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
            pixels = np.ascontiguousarray(self._pixels.encode(plane), dtype="<i2").data
            name = f"thin_{self.series.line.instance_number(self._written):04d}.dcm"
            header = self._encoder.encode(self._written)
            path = self._folder / name
            with output_errors(self._folder, self._path.name), place_named(path), path.open("xb") as file:
                file.write(header + _PIXEL_DATA + struct.pack("<I", pixels.nbytes))
                file.write(pixels)
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
                f"Only {self._written} of {len(self.series)} thin slices came in, so nothing was written; report this."
            )
            self._stack.__exit__(type(error), error, None)
            raise error
        self._stack.__exit__(kind, error, trace)


def _refuse_foreign_files(path: Path) -> None:
    """Refuse to overwrite a folder with files of another origin, since overwriting replaces the whole folder."""
    with output_errors(path):
        if path.is_dir() and any(not _OUR_FILE.fullmatch(entry.name) for entry in path.iterdir()):
            raise OutputError(
                f"{path.name!r} holds files that are not of an earlier thin series, and overwriting would delete them; "
                "choose another folder."
            )


def _encode(dataset: Dataset, charset: Any) -> bytes:
    """The elements of a dataset in Explicit VR Little Endian, text in the character set of the whole file."""
    buffer = _explicit_buffer()
    write_dataset(buffer, as_encoded(dataset), charset)
    return buffer.getvalue()


def _explicit_buffer() -> DicomBytesIO:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    return buffer
