"""A derived thin CT series as one enhanced multi-frame file, written frame by frame as the thin slabs come."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filewriter import write_file_meta_info

from thinslice.errors import OutputError
from thinslice.geometry import Geometry
from thinslice.io.dicom.attributes import value_of
from thinslice.io.dicom.derived.enhanced_header import EnhancedHeader
from thinslice.io.dicom.derived.header import DerivedSeries
from thinslice.io.dicom.derived.slab_writer import DerivedSlabWriter, encode_elements, explicit_buffer
from thinslice.io.dicom.files.header import quiet_pydicom
from thinslice.options import option
from thinslice.system.atomic import atomic_file, output_errors, place_named
from thinslice.system.resources import require_disk
from thinslice.volume import Provenance

MAX_PIXEL_BYTES = 2**32 - 2
"""Bytes that one uncompressed PixelData may have: its length has 32 bits and is even."""

_FRAME_HEADER_BYTES = 4096
"""Largest functional groups of one frame on disk, for the estimate before the start."""

_PREAMBLE = b"\0" * 128 + b"DICM"
_UNDEFINED = 0xFFFFFFFF


class EnhancedSlabWriter(DerivedSlabWriter):
    """Writes finished thin slices into one new enhanced CT file; nothing is left of it on an error.

    Arguments, attributes and errors are those of `DerivedSlabWriter`; the path is the file to make. Voxels that need
    more than 4 GiB raise OutputError: write single slices.
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
        super().__init__(path, geometry, provenance, hu_range=hu_range, overwrite=overwrite)
        self._sources = provenance.headers
        self._file: BinaryIO | None = None
        self._partial = self._path
        depth, height, width = geometry.shape
        self._pixel_bytes = 2 * depth * height * width
        if self._pixel_bytes > MAX_PIXEL_BYTES:
            raise OutputError(
                f"One enhanced DICOM file holds 4 GiB, and these {depth} slices need "
                f"{self._pixel_bytes / 2**30:.1f} GiB; write single slices ({option('format', 'dicom')})."
            )

    def _begin(self, opening: ExitStack) -> None:
        partial = opening.enter_context(atomic_file(self._path, overwrite=self._overwrite))
        require_disk(self._path, self._pixel_bytes + _FRAME_HEADER_BYTES * (len(self.series) + 4))
        opening.enter_context(output_errors(partial, self._path.name))
        self._file, self._partial = opening.enter_context(partial.open("wb")), partial
        with place_named(partial):
            for piece in _header(self.series, self._sources, self._pixel_bytes):
                self._file.write(piece)
            self._file.flush()

    def _store(self, slice_index: int, pixels: memoryview) -> None:
        if self._file is None:
            raise OutputError(f"Slice {slice_index} comes before the file is open; report this.")
        # Flushed at once, so that a full disk is found here and not when the file is closed.
        with output_errors(self._partial, self._path.name), place_named(self._partial):
            self._file.write(pixels)
            self._file.flush()


def _header(series: DerivedSeries, sources: tuple[Dataset, ...], pixel_bytes: int) -> Iterator[bytes]:
    """The bytes of the file up to its first pixel, a frame's groups at a time."""
    with quiet_pydicom():
        header = EnhancedHeader(series, sources)
        meta = explicit_buffer()
        write_file_meta_info(meta, header.file_meta(), enforce_standard=True)
        top = header.top()
        charset = value_of(top, "SpecificCharacterSet", "iso8859")
        yield _PREAMBLE + meta.getvalue() + encode_elements(top, charset)
        yield struct.pack("<HH2sHL", 0x5200, 0x9230, b"SQ", 0, _UNDEFINED)
        for slice_index in range(len(series)):
            item = encode_elements(header.frame(slice_index), charset)
            yield struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
        yield struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        yield struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, pixel_bytes)
