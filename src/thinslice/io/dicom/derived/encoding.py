"""Thin HU as the signed 16-bit pixels of a DICOM slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import OutputError

_LOWEST, _HIGHEST = -32768, 32767

EXACT_HU = 0.002
"""Difference up to which a stored value is the HU: float32 holds HU of this size to about 0.001."""


@dataclass(frozen=True)
class PixelEncoding:
    """HU as signed 16-bit pixels: HU = slope * stored + intercept.

    Attributes:
        slope: HU per step; 1 keeps integers exact, and any value to half a slope.
        intercept: HU of a stored 0.
        padding: the stored value that marks padding, or None.
    """

    slope: int = 1
    intercept: int = 0
    padding: int | None = None

    def encode(self, hu: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
        """Stored values of HU of any shape, rounded to the nearest step, ends clipped to 16 bits.

        >>> PixelEncoding().encode(np.array([0.6, -2000, 40000], dtype=np.float32)).tolist()
        [1, -2000, 32767]
        """
        if hu.dtype == np.int16 and (self.slope, self.intercept) == (1, 0):
            return hu
        stored = np.rint((hu.astype(np.float64) - self.intercept) / self.slope)
        return np.clip(stored, _LOWEST, _HIGHEST).astype(np.int16)

    def error_hu(self, hu: npt.NDArray[Any], stored: npt.NDArray[np.int16]) -> float:
        """The largest difference between HU and their stored values, in HU.

        >>> PixelEncoding().error_hu(np.array([1.25, 7.0]), np.array([1, 7], np.int16))
        0.25
        """
        if not hu.size:
            return 0.0
        return float(np.abs(hu - (stored.astype(np.float64) * self.slope + self.intercept)).max())


class RoundedPixels:
    """Encoding of slices, with a record of what 16 bits could not hold.

    Args:
        encoding: of the series.

    >>> pixels = RoundedPixels(PixelEncoding())
    >>> pixels.encode(np.array([1.25, 7.0])).tolist(), len(pixels.warnings)
    ([1, 7], 1)
    """

    def __init__(self, encoding: PixelEncoding) -> None:
        self._encoding = encoding
        self._off_by_hu = 0.0

    def encode(self, hu: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
        """As `PixelEncoding.encode`."""
        stored = self._encoding.encode(hu)
        if stored is not hu:
            self._off_by_hu = max(self._off_by_hu, self._encoding.error_hu(hu, stored))
        return stored

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence where stored values differ from HU; none where they are equal."""
        slope = self._encoding.slope
        if self._off_by_hu > slope / 2 + EXACT_HU:
            return (
                f"HU beyond what 16 bits hold were clipped in DICOM, by up to {self._off_by_hu:.0f} HU; write a file "
                "that ends in .nii.gz to keep them.",
            )
        if self._off_by_hu > EXACT_HU:
            return (
                f"HU with fractions were rounded to {'whole HU' if slope == 1 else f'steps of {slope} HU'} in DICOM "
                f"(by up to {self._off_by_hu:.2f} HU); write a file that ends in .nii.gz to keep them.",
            )
        return ()


def choose_encoding(hu_range: tuple[float, float], padding_hu: float | None = None) -> PixelEncoding:
    """The finest signed 16-bit encoding that holds every value.

    Args:
        hu_range: the lowest and highest HU of the output, inclusive.
        padding_hu: HU that marks padding, or None.

    Returns:
        Slope 1 and intercept 0 where HU fit as they are; else slope 1 and an intercept, up to a range of 65535 HU;
        else the smallest whole slope that spans the range, exact to half of it.

    Raises:
        OutputError: the range is empty or not finite, a fault of the model; try another model or device.

    >>> choose_encoding((-1024, 3071), padding_hu=-2000)
    PixelEncoding(slope=1, intercept=0, padding=-2000)
    >>> choose_encoding((-1024, 50000))
    PixelEncoding(slope=1, intercept=31744, padding=None)
    >>> choose_encoding((-100000, 100000)).slope
    4
    """
    values = [*hu_range] if padding_hu is None else [*hu_range, padding_hu]
    if not np.all(np.isfinite(values)) or hu_range[0] > hu_range[1]:
        raise OutputError(
            "The range of the thin HU is empty or not finite, so it cannot be written; try another model or device."
        )
    # Stored values are rounded: 32767.4 HU still fits.
    low, high = int(np.rint(min(values))), int(np.rint(max(values)))
    slope, intercept = 1, 0
    if low < _LOWEST or high > _HIGHEST:
        slope = max(1, -(-(high - low) // (_HIGHEST - _LOWEST)))
        intercept = low - _LOWEST * slope
    if padding_hu is None:
        return PixelEncoding(slope, intercept)
    stored_padding = PixelEncoding(slope, intercept).encode(np.array([padding_hu], dtype=np.float64))
    return PixelEncoding(slope, intercept, int(stored_padding[0]))
