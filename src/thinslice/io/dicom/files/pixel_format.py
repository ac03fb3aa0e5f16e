"""Storage of a slice's pixels, from its header: matrix, bits, sign, and the conversion to HU."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from thinslice.io.dicom.files.values import integer, number

MAX_MATRIX = 8192
"""Largest Rows or Columns; CT has up to 2048, and larger ones would only exhaust memory."""

MAX_RESCALE = 1e6
"""Largest slope or intercept that is accepted."""

LEAST_BITS = 8
"""Fewest bits in which CT is stored; a header that states fewer is damaged there."""

UNSIGNED_INTERCEPT = -1000.0
"""Intercept from which down pixels are surely unsigned: air of -1000 HU is then stored as 0 or more."""


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
        return -(-self.rows * self.columns * self.bits_allocated // 8)

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
    if allocated not in (8, 12, 16, 32):
        raise PixelError("no usable BitsAllocated")
    # Other readers take the value from the lowest bits, whatever HighBit holds; so do these.
    stored = stored if stored is not None and LEAST_BITS <= stored <= allocated else None
    high = high if high is not None and LEAST_BITS <= high + 1 <= allocated else None
    if stored is not None and high is not None and allocated > 8 and high + 1 <= 8 < stored:
        high = None  # no CT keeps 8 of 16 bits: the other of two that contradict one another is believed
    stored = stored or (allocated if high is None else high + 1)
    high = stored - 1 if high is None else high
    if slope is None or slope == 0 or intercept is None:
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
