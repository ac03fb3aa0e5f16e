"""Pixels of one slice to exact HU, and a stack of slices that stays int16 as long as that is exact."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from thinslice.errors import MissingExtraError
from thinslice.io.dicom.files.bits import INT16, PACKED_BITS, native_values, settle_bits
from thinslice.io.dicom.files.codestream import codestream_size, sound_jpeg
from thinslice.io.dicom.files.header import SliceHeader, open_dataset
from thinslice.io.dicom.files.pixel_element import UNDEFINED_LENGTH
from thinslice.io.dicom.files.pixel_format import PixelError, PixelFormat

MAX_ENCODED_BYTES = 64 * 2**20
"""Largest encapsulated slice that is read: twice a 4096 x 4096 slice of 16 bits."""

MOST_SURPLUS = 2
"""Ratio of pixel data to the matrix from which on Rows or Columns are wrong; writers pad by a little."""

ITEM, SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD

END_OF_IMAGE = b"\xff\xd9"
"""Last marker of a JPEG, JPEG-LS or JPEG 2000 stream."""


def check_complete(header: SliceHeader, form: PixelFormat) -> None:
    """Raise `PixelError` for pixels that are absent or obviously cut short, without reading them."""
    if header.pixel_start is None:
        raise PixelError("no pixel data, or cut short before them")
    encapsulated = header.transfer_syntax.is_encapsulated
    if encapsulated != (header.pixel_length == UNDEFINED_LENGTH):
        raise PixelError("its pixel data do not fit its transfer syntax")
    if encapsulated:
        if header.pixel_bytes < 16:
            raise PixelError("its pixel data are cut short")
    elif min(header.pixel_bytes, header.pixel_length) < form.raw_bytes:
        raise PixelError("its pixel data are cut short")
    elif header.pixel_length >= MOST_SURPLUS * form.raw_bytes or (
        form.bits_allocated == PACKED_BITS and header.pixel_length > form.raw_bytes + 1
    ):
        raise PixelError("its pixel data do not fit Rows, Columns and BitsAllocated")


def require_decoder(syntax: UID) -> None:
    """Check that pixels of this transfer syntax can be decoded here.

    Raises:
        MissingExtraError: install the package that the message names.
        PixelError: the transfer syntax is unknown.
    """
    if not syntax.is_transfer_syntax:
        raise PixelError("unknown transfer syntax")
    if not syntax.is_encapsulated:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError as error:
        raise PixelError("its transfer syntax is not one for still images") from error
    if syntax == JPEGExtended12Bit and "pylibjpeg" not in get_decoder(syntax).available_plugins:
        # gdcm announces this one but decodes only its 8-bit form.
        raise PixelError("its pixels are JPEG with loss of 12 bits, which nothing here decodes (dcmtk's dcmdjpeg does)")
    if not available:
        raise MissingExtraError(
            f"Pixels are encoded as {syntax.name}; install the package {_package(syntax)} to read them."
        )


def _package(syntax: UID) -> str:
    """The package that decodes a transfer syntax: one of our own dependencies, so its licence is acceptable."""
    if syntax in JPEGLSTransferSyntaxes:
        return "pyjpegls"
    if syntax in (*JPEG2000TransferSyntaxes, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL):
        return "pylibjpeg-openjpeg"
    return "pylibjpeg-rle" if syntax == RLELossless else "python-gdcm"


def _plugin(syntax: UID) -> str:
    """The decoder to use, "" for pydicom's choice; never a second one after a failure.

    gdcm ends the whole process on some damaged JPEG 2000 and JPEG-LS streams, so it decodes only what nothing else
    can: JPEG lossless.
    """
    available = get_decoder(syntax).available_plugins
    return next((name for name in ("pylibjpeg", "pyjpegls", "gdcm") if name in available), "")


def read_raw(header: SliceHeader, form: PixelFormat) -> npt.NDArray[Any]:
    """Decode one slice.

    Returns:
        (height, width) stored values, integers of 8, 16 or 32 bits; may be read-only.

    Raises:
        PixelError: the pixels are cut short or damaged.
        OSError: and others of `UNPACK_ERRORS`, as opening the file raises.
    """
    check_complete(header, form)
    if header.pixel_start is None:
        raise PixelError("no pixel data")
    with header.file.open() as opened:
        stream = open_dataset(header, opened)
        stream.seek(header.pixel_start)
        if header.transfer_syntax.is_encapsulated:
            data = _read_encapsulated(stream, header, form)
        else:
            data = stream.read(form.raw_bytes)
    if not header.transfer_syntax.is_encapsulated and form.bits_allocated > 8:
        return _native(data, header, form)
    return _decode(data, header, form)


def _native(data: bytes, header: SliceHeader, form: PixelFormat) -> npt.NDArray[Any]:
    """Uncompressed pixels of 12, 16 or 32 bits."""
    if len(data) < form.raw_bytes:
        raise PixelError("its pixel data are cut short")
    values = native_values(data, header, form)
    return settle_bits(values, header, replace(form, bits_allocated=values.dtype.itemsize * 8))


def _decode(data: bytes, header: SliceHeader, form: PixelFormat) -> npt.NDArray[Any]:
    """Pixels decoded by pydicom, compressed or of 8 bits."""
    frame = Dataset()
    frame.file_meta = FileMetaDataset()
    frame.file_meta.TransferSyntaxUID = header.transfer_syntax
    frame.set_original_encoding(False, header.transfer_syntax.is_little_endian)
    frame.SamplesPerPixel, frame.PhotometricInterpretation = 1, "MONOCHROME2"
    frame.Rows, frame.Columns, frame.NumberOfFrames = form.rows, form.columns, 1
    frame.BitsAllocated, frame.BitsStored, frame.HighBit = (
        form.bits_allocated,
        form.bits_stored,
        form.bits_stored - 1,
    )
    frame.PixelRepresentation = int(form.signed)
    frame.add_new(
        "PixelData", "OB" if form.bits_allocated <= 8 or header.transfer_syntax.is_encapsulated else "OW", data
    )
    try:
        plugin = _plugin(header.transfer_syntax) if header.transfer_syntax.is_encapsulated else ""
        raw, _ = get_decoder(header.transfer_syntax).as_array(frame, raw=True, decoding_plugin=plugin)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # damaged streams make C decoders raise anything; Rust's panic is no Exception
        raise PixelError("its pixel data are damaged") from error
    if raw.shape != (form.rows, form.columns):
        raise PixelError("its pixels differ in size from the header")
    if raw.dtype.itemsize * 8 != form.bits_allocated:
        return np.asarray(raw)
    return settle_bits(np.asarray(raw), header, form)


def _read_encapsulated(stream: BinaryIO, header: SliceHeader, form: PixelFormat) -> bytes:
    """The image of an encapsulated PixelData, checked to be whole and of the stated size; encapsulated anew.

    The sequence may lack its delimiter, or be followed by other bytes, as long as the image in it is whole.
    """
    fragments: list[bytes] = []
    left = min(header.pixel_bytes, MAX_ENCODED_BYTES)
    while left >= 8:
        tag, length = item_head(stream.read(8))
        left -= 8 + length
        if tag != ITEM:
            break
        if left < 0:
            whole = header.pixel_bytes <= MAX_ENCODED_BYTES
            raise PixelError(
                "its pixel data are cut short"
                if whole
                else f"its encoded pixels exceed {MAX_ENCODED_BYTES // 2**20} MiB"
            )
        fragments.append(stream.read(length))
    if fragments and is_offset_table(fragments[0]):
        fragments = fragments[1:]
    image = b"".join(fragments)
    if not image:
        raise PixelError("its pixel data are cut short")
    size = codestream_size(image)
    if size is not None and size != (form.rows, form.columns):
        raise PixelError("its pixels differ in size from the header")
    syntax = header.transfer_syntax
    if syntax in JPEGTransferSyntaxes and not sound_jpeg(image, form.bits_stored, form.bits_allocated):
        raise PixelError("its pixel data are damaged")
    if tag != SEQUENCE_END and syntax != RLELossless and END_OF_IMAGE not in image[-4:]:
        raise PixelError("its pixel data are cut short")
    image += b"\0" * (len(image) % 2)
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(image)) + image + end


def item_head(head: bytes) -> tuple[int, int]:
    """(tag, length) of an item of encapsulated pixels."""
    group, element, length = struct.unpack("<HHL", head)
    return group << 16 | element, length


def is_offset_table(first_fragment: bytes) -> bool:
    """Whether the first item of encapsulated pixels is the offset table, not a writer's first image.

    Its first offset is 0; every codestream begins with a marker, and RLE with a count of segments.
    """
    return not first_fragment or first_fragment[:4] == bytes(4)


class HuStack:
    """HU of a stack, slice by slice: int16 while every value is a whole number that fits, else float32.

    Attributes:
        hu: (depth, height, width), int16 or float32.
    """

    def __init__(self, depth: int, height: int, width: int) -> None:
        self.hu: npt.NDArray[Any] = np.empty((depth, height, width), np.int16)

    def put(self, k: int, raw: npt.NDArray[Any], form: PixelFormat) -> None:
        """Store slice k as raw * slope + intercept, exactly (float32 rounds to the nearest)."""
        whole = form.slope == int(form.slope) and form.intercept == int(form.intercept)
        if self.hu.dtype == np.int16 and whole and self._fits(raw, form):
            # int32 holds every product that fits int16 afterwards, so the unsafe cast loses nothing.
            if form.slope == 1:
                np.add(raw, np.int32(form.intercept), out=self.hu[k], dtype=np.int32, casting="unsafe")
            else:
                self.hu[k] = raw.astype(np.int64) * int(form.slope) + int(form.intercept)
            return
        exact = raw.astype(np.float64) * form.slope + form.intercept
        if self.hu.dtype == np.int16:
            if exact.min() >= INT16.min and exact.max() <= INT16.max:
                rounded = np.rint(exact)
                if np.array_equal(rounded, exact):
                    self.hu[k] = rounded
                    return
            self.hu = self.hu.astype(np.float32)
        self.hu[k] = exact

    @staticmethod
    def _fits(raw: npt.NDArray[Any], form: PixelFormat) -> bool:
        # Not by BitsStored: pixels may hold more than it says.
        ends = [float(value) * form.slope + form.intercept for value in (raw.min(), raw.max())]
        return min(ends) >= INT16.min and max(ends) <= INT16.max
