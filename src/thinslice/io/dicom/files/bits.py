"""Pixel values out of the bits that hold them, which headers often describe wrongly: the picture decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from thinslice.io.dicom.files.header import SliceHeader
from thinslice.io.dicom.files.pixel_format import PixelError, PixelFormat

INT16 = np.iinfo(np.int16)

PACKED_BITS = 12
"""BitsAllocated of pixels that are packed closely, as in files of the 1990s."""

CLEARLY_ROUGHER = 1.5
"""Ratio of mean jumps between neighbours from which on one interpretation of the bits is wrong."""

MOST_JUMP = 0.3
"""Share of the range of values that neighbours may differ by in the mean; noise over all bits differs by a third."""

LOSSY_SYNTAXES = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 93, 203))
"""Transfer syntaxes that may change pixel values."""

BELOW_TISSUE_HU = -1024.0
"""HU below any tissue: noise in air, padding, or bone whose sign wrapped round."""


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


def native_values(data: bytes, header: SliceHeader, form: PixelFormat) -> npt.NDArray[Any]:
    """(height, width) values of uncompressed pixels of 12, 16 or 32 bits, before `settle_bits`."""
    if form.bits_allocated == PACKED_BITS:
        return _unpacked_pairs(data, form)
    order = "<" if header.transfer_syntax.is_little_endian else ">"
    kind = f"{'i' if form.signed else 'u'}{form.bits_allocated // 8}"
    values = np.frombuffer(data, f"{order}{kind}").reshape(form.rows, form.columns)
    if not header.pixels_swapped:
        return values
    # Some files declare swapped pixels and hold plain ones, whose picture is then the smoother one by far.
    swapped, everywhere = values.byteswap(), np.indices(values.shape).sum(axis=0) % 2 == 1
    plain_is_smoother = CLEARLY_ROUGHER * _jumps(values, everywhere) < _jumps(swapped, everywhere)
    return values if plain_is_smoother else swapped


def _unpacked_pairs(data: bytes, form: PixelFormat) -> npt.NDArray[Any]:
    """Pixels of 12 bits of which two share three bytes, the lowest bits first.

    Source: DICOM PS3.5-2003, annex D; gdcm reads them alike, dcm2niix not at all.
    """
    count = form.rows * form.columns
    triples = np.frombuffer(data + bytes(-len(data) % 3), np.uint8).reshape(-1, 3).astype(np.uint16)
    first, middle, last = triples.T
    pairs = np.stack([first | (middle & 0x0F) << 8, middle >> 4 | last << 4], axis=1)
    return _low_bits(pairs.reshape(-1)[:count].reshape(form.rows, form.columns), 16, PACKED_BITS, signed=form.signed)
