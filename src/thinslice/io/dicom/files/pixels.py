"""Pixels of one slice to exact HU, and a stack of slices that stays int16 as long as that is exact."""

from __future__ import annotations

import struct
from dataclasses import dataclass
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
from thinslice.io.dicom.files.codestream import codestream_size, sound_jpeg
from thinslice.io.dicom.files.header import UNDEFINED_LENGTH, SliceHeader, integer, number, open_dataset

MAX_ENCODED_BYTES = 64 * 2**20
"""Largest encapsulated slice that is read: twice a 4096 x 4096 slice of 16 bits."""

MAX_MATRIX = 8192
"""Largest Rows or Columns; CT has up to 2048, and larger ones would only exhaust memory."""

MAX_RESCALE = 1e6
"""Largest slope or intercept that is accepted."""

ITEM, SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD

END_OF_IMAGE = b"\xff\xd9"
"""Last marker of a JPEG, JPEG-LS or JPEG 2000 stream."""

INT16 = np.iinfo(np.int16)

CLEARLY_ROUGHER = 1.5
"""Ratio of mean jumps between neighbours from which on one interpretation of the bits is wrong."""

MOST_JUMP = 0.3
"""Share of the range of values that neighbours may differ by in the mean; noise over all bits differs by a third."""

LOSSY_SYNTAXES = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 93, 203))
"""Transfer syntaxes that may change pixel values."""


UNSIGNED_INTERCEPT = -1000.0
"""Intercept from which down pixels are surely unsigned: air of -1000 HU is then stored as 0 or more."""

BELOW_TISSUE_HU = -1024.0
"""HU below any tissue: noise in air, padding, or bone whose sign wrapped round."""


class PixelError(Exception):
    """This slice cannot be read; the message is a short reason for the list of skipped files."""


@dataclass(frozen=True)
class PixelFormat:
    """Storage of a slice's pixels, and their conversion to HU.

    Attributes:
        rows, columns: matrix size.
        bits_allocated, bits_stored: of a pixel.
        signed: two's complement.
        slope, intercept: HU = raw * slope + intercept.
        unused_below: bits below the stored ones, if HighBit is right: 4 of 16 with 12 stored and HighBit 15.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    slope: float
    intercept: float
    unused_below: int = 0

    @property
    def raw_bytes(self) -> int:
        """Bytes of an uncompressed slice."""
        return self.rows * self.columns * self.bits_allocated // 8

    @property
    def raw_range(self) -> tuple[int, int]:
        """(lowest, highest) raw value that the stored bits can hold."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1


def pixel_format(dataset: Dataset) -> PixelFormat:
    """Read the pixel module of a header.

    Raises:
        PixelError: a value is missing or absurd, or HU are unknown without slope and intercept.
    """
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    allocated, stored = integer(dataset, "BitsAllocated"), integer(dataset, "BitsStored")
    high, representation = integer(dataset, "HighBit"), integer(dataset, "PixelRepresentation")
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if not rows or not columns or not 0 < rows <= MAX_MATRIX or not 0 < columns <= MAX_MATRIX:
        raise PixelError("no usable Rows and Columns")
    if allocated not in (8, 16, 32):
        raise PixelError("no usable BitsAllocated")
    # Other readers take the value from the lowest bits, whatever HighBit holds; so do these.
    if high is None or not 0 <= high < allocated:
        high = allocated - 1 if stored is None else stored - 1
    if stored is None or not 1 <= stored <= allocated:
        stored = high + 1 if 0 <= high < allocated else allocated
    if slope is None or slope == 0 or intercept is None or "ModalityLUTSequence" in dataset:
        raise PixelError("no usable RescaleSlope and RescaleIntercept, so its HU are unknown")
    if abs(slope) > MAX_RESCALE or abs(intercept) > MAX_RESCALE:
        raise PixelError("its RescaleSlope or RescaleIntercept is absurd")
    if representation is None and intercept <= UNSIGNED_INTERCEPT:
        representation = 0
    if representation not in (0, 1):
        raise PixelError("no usable PixelRepresentation")
    unused_below = max(0, high + 1 - stored)
    stored = min(stored, high + 1)
    return PixelFormat(rows, columns, allocated, stored, representation == 1, slope, intercept, unused_below)


def padding_hu(dataset: Dataset, form: PixelFormat) -> float | None:
    """HU of PixelPaddingValue, or None; a value written with the wrong sign (63536 for -2000) is corrected."""
    raw = integer(dataset, "PixelPaddingValue")
    if raw is None:
        return None
    span = 1 << form.bits_allocated
    raw %= span
    if form.signed and raw >= span // 2:
        raw -= span
    return raw * form.slope + form.intercept


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
    """Uncompressed pixels of 16 or 32 bits."""
    if len(data) < form.raw_bytes:
        raise PixelError("its pixel data are cut short")
    order = "<" if header.transfer_syntax.is_little_endian else ">"
    dtype = np.dtype(f"{order}{'i' if form.signed else 'u'}{form.bits_allocated // 8}")
    return settle_bits(np.frombuffer(data, dtype).reshape(form.rows, form.columns), header, form)


def settle_bits(raw: npt.NDArray[Any], header: SliceHeader, form: PixelFormat) -> npt.NDArray[Any]:
    """Pixel values out of allocated bits, whatever lies in the bits above BitsStored.

    Those bits hold 0 or the sign in a sound file. They may also hold an overlay, the sign of pixels that the header
    calls unsigned, or values that the header's BitsStored is too small for. The interpretation whose picture is the
    smoothest by far is taken: a wrong one jumps by thousands between neighbours. An overlay that the header declares is
    masked in any case.

    Args:
        raw: (height, width) integers of `bits_allocated` bits, as decoded.
        header: may declare an overlay in the pixels.
        form: BitsStored and sign, as the header has them.

    Raises:
        PixelError: when no interpretation is clearly the right one.

    Examples:
        12 bits stored of 16, unsigned: 0x1400 is 0x0400 = 1024 below an overlay in bit 12, and 5120 where BitsStored
        is too small. 16 of 16, unsigned: 0xFC18 is 64536, or -1000 where the sign was lost.
    """
    if form.unused_below:
        raw = _shifted_down(raw, form)
    low, high = form.raw_range
    least, most = (int(raw.min()), int(raw.max())) if raw.size else (0, 0)
    if low <= least and most <= high and (form.signed or most <= INT16.max):
        wraps = form.signed and form.bits_stored < form.bits_allocated and form.slope > 0
        return _unwrapped(raw, form) if wraps and least * form.slope + form.intercept < BELOW_TISSUE_HU else raw
    bits, stored = form.bits_allocated, form.bits_stored
    if bits != 16 or (header.transfer_syntax in LOSSY_SYNTAXES and most <= INT16.max and least >= INT16.min):
        # Loss moves values past the stored bits by a little; nothing lies above them.
        return raw if bits == 16 else _low_bits(raw, bits, stored, signed=form.signed)
    readings = {"stored": _low_bits(raw, bits, stored, signed=form.signed)}
    if _declares_overlay(header.dataset):
        return _unwrapped(readings["stored"], form) if form.signed else readings["stored"]
    readings["signed"] = _low_bits(raw, bits, 16, signed=True)
    if not form.signed:
        readings["unsigned"] = _low_bits(raw, bits, 16, signed=False)
    beyond = (raw < low) | (raw > min(high, INT16.max))
    if beyond.all():
        return readings["stored"]  # nothing to compare with, so the header is right
    jumps = {name: _jumps(values, beyond) for name, values in readings.items()}
    ordered = sorted(readings, key=jumps.__getitem__)
    best = readings[ordered[0]]
    rivals = [name for name in ordered[1:] if not np.array_equal(readings[name], best)]
    unclear = rivals and jumps[rivals[0]] < CLEARLY_ROUGHER * jumps[ordered[0]]
    if unclear or jumps[ordered[0]] > MOST_JUMP * (high - low):
        raise PixelError("its pixels do not fit BitsStored and PixelRepresentation, so its HU are unknown")
    return best


def _shifted_down(raw: npt.NDArray[Any], form: PixelFormat) -> npt.NDArray[Any]:
    """Pixels whose HighBit lies above BitsStored - 1: shifted down where they really end there, else as they are.

    Raises:
        PixelError: every pixel would fit both ways.
    """
    mask = (1 << form.unused_below) - 1
    # Real values have odd ones among them; values that begin at a higher bit never do.
    if (raw & mask).any() or not raw.any():
        return raw
    if int(raw.max()) <= form.raw_range[1] and int(raw.min()) >= form.raw_range[0]:
        raise PixelError("its HighBit is not BitsStored - 1, and its pixels fit both")
    return raw >> form.unused_below


def _unwrapped(raw: npt.NDArray[Any], form: PixelFormat) -> npt.NDArray[Any]:
    """Signed pixels with patches below any tissue taken back above the highest value, where that is what they are.

    With 12 bits 2500 HU become -1596. A patch amid high values that fits them far better 4096 higher is mended; one
    amid air, such as padding, stays.

    Raises:
        PixelError: a patch fits neither way.
    """
    from scipy import ndimage

    below = raw * form.slope + form.intercept < BELOW_TISSUE_HU
    patches, count = ndimage.label(below)
    if count == 0:
        return raw
    span = 1 << form.bits_stored
    wide = raw.astype(np.int32)
    totals = [np.zeros(count + 1), np.zeros(count + 1)]
    edges = np.zeros(count + 1)
    for one, other in (
        (np.s_[1:], np.s_[:-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        at = below[one] & ~below[other]
        number, inside, outside = patches[one][at], wide[one][at], wide[other][at]
        edges += np.bincount(number, minlength=count + 1)
        for total, shift in zip(totals, (0, span), strict=True):
            total += np.bincount(number, np.abs(inside + shift - outside), minlength=count + 1)
    as_is, higher = (total / np.maximum(edges, 1) + 1 for total in totals)
    wrapped = higher * CLEARLY_ROUGHER < as_is
    unclear = ~wrapped & (as_is * CLEARLY_ROUGHER > higher) & (edges > 0)
    if unclear.any():
        raise PixelError("its pixels do not fit BitsStored and PixelRepresentation, so its HU are unknown")
    return np.asarray(np.where(wrapped[patches], wide + span, wide).astype(np.int32 if wrapped.any() else raw.dtype))


def _low_bits(raw: npt.NDArray[Any], allocated: int, stored: int, *, signed: bool) -> npt.NDArray[Any]:
    """The lowest `stored` bits, their sign extended."""
    kind = np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    whole = raw.astype(raw.dtype.newbyteorder("="), copy=False).astype(kind, copy=False)
    unused = allocated - stored
    return (whole << unused) >> unused if unused else whole


def _jumps(values: npt.NDArray[Any], in_question: npt.NDArray[np.bool_]) -> float:
    """Mean absolute difference, at least 1, of neighbours of which exactly one is in question."""
    wide = values.astype(np.int64)
    steps = [np.abs(np.diff(wide, axis=axis))[np.diff(in_question, axis=axis)] for axis in (0, 1)]
    return max(1.0, float(np.concatenate(steps).mean()))


def _declares_overlay(dataset: Dataset) -> bool:
    """Whether an overlay lies in the pixels' own unused bits (OverlayBitPosition, groups 6000 to 601E)."""
    places = [group << 16 | 0x0102 for group in range(0x6000, 0x6020, 2)]
    return any(place in dataset and dataset[place].value for place in places)


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
