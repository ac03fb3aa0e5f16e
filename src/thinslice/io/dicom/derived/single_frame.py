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
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.filewriter import write_file_meta_info

from thinslice.errors import OutputError
from thinslice.io.dicom.attributes import value_of
from thinslice.io.dicom.derived.header import OWN_KEYWORDS, DerivedSeries
from thinslice.io.dicom.derived.slab_writer import DerivedSlabWriter, encode_elements, explicit_buffer
from thinslice.io.dicom.files.header import quiet_pydicom
from thinslice.system.atomic import atomic_directory, output_errors, place_named
from thinslice.system.resources import require_disk

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
            meta = explicit_buffer()
            write_file_meta_info(meta, self.series.file_meta(slice_index), enforce_standard=True)
            own = self.series.own(slice_index)
            parts = [_PREAMBLE, meta.getvalue()]
            for segment, tag in zip(self._segments, [*_OWN_TAGS, None], strict=True):
                parts.append(segment)
                if tag is not None and tag in own:
                    parts.append(encode_elements(own[tag : tag + 1], self._charset))
            return b"".join(parts)

    def _encode_common(self, thick_index: int) -> None:
        """Encode the header that the slices around a thick one share, cut at the places of their own elements."""
        if self._thick_index == thick_index:
            return
        common = self.series.common(thick_index)
        self._charset = value_of(common, "SpecificCharacterSet", "iso8859")
        edges = [0, *_OWN_TAGS, 0x7FE00010]
        # A Dataset is sliced by tag.
        self._segments = [encode_elements(common[first:last], self._charset) for first, last in pairwise(edges)]
        self._thick_index = thick_index


class DicomSlabWriter(DerivedSlabWriter):
    """Writes finished thin slices into a new DICOM folder; nothing is left of it on an error.

    Arguments, attributes and errors are those of `DerivedSlabWriter`; the path is the folder to make.

    Entering raises OutputExistsError for an existing folder without `overwrite`, OutputError for a folder with files
    of another origin, and ResourceError when the disk is too full for the whole series.
    """

    _encoder: HeaderEncoder
    _folder: Path

    def _begin(self, opening: ExitStack) -> None:
        self._encoder = HeaderEncoder(self.series)
        if self._overwrite:
            _refuse_foreign_files(self._path)
        depth, height, width = self.series.geometry.shape
        self._folder = opening.enter_context(atomic_directory(self._path, overwrite=self._overwrite))
        require_disk(self._path, depth * (2 * height * width + _HEADER_BYTES))

    def _store(self, slice_index: int, pixels: memoryview) -> None:
        path = self._folder / f"thin_{self.series.line.instance_number(slice_index):04d}.dcm"
        header = self._encoder.encode(slice_index)
        with output_errors(self._folder, self._path.name), place_named(path), path.open("xb") as file:
            file.write(header + _PIXEL_DATA + struct.pack("<I", pixels.nbytes))
            file.write(pixels)


def _refuse_foreign_files(path: Path) -> None:
    """Refuse to overwrite a folder with files of another origin, since overwriting replaces the whole folder."""
    with output_errors(path):
        if path.is_dir() and any(not _OUR_FILE.fullmatch(entry.name) for entry in path.iterdir()):
            raise OutputError(
                f"{path.name!r} holds files that are not of an earlier thin series, and overwriting would delete them; "
                "choose another folder."
            )
