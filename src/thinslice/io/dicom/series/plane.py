"""Place of one slice in the patient, and faults in the places of several. Pure; no files, no pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thinslice.geometry import DIRECTION_TOLERANCE
from thinslice.io.dicom.series.even_line import cosine_rounding

UNIT_LENGTH_TOLERANCE = 1e-2
"""Largest deviation from 1 of the length of a direction cosine vector; beyond, the orientation is unusable."""

RELATIVE_TOLERANCE = 1e-2
"""Spacings or thicknesses are multiples of one another within this fraction."""


@dataclass(frozen=True)
class ImagePlane:
    """Place of one slice, from its header: the Image Plane module of DICOM (PS3.3, C.7.6.2).

    Attributes:
        position_mm: LPS of the first voxel's centre.
        row_cosines: unit LPS vector along which columns grow (the width axis).
        column_cosines: unit LPS vector along which rows grow (the height axis).
        thickness_mm: SliceThickness, or None.
        between_mm: SpacingBetweenSlices, or None.
        instance: InstanceNumber, or None.
    """

    position_mm: tuple[float, float, float]
    row_cosines: tuple[float, float, float]
    column_cosines: tuple[float, float, float]
    thickness_mm: float | None = None
    between_mm: float | None = None
    instance: int | None = None


class Fault(str):
    """A reason to refuse a stack that an option of reading removes; an ordinary string is one that none removes.

    Attributes:
        mended_by: "tilt" or "spacing", for `on_tilt` and `on_spacing` of `thinslice.io.settings.ReadSettings`.
    """

    mended_by: str

    def __new__(cls, sentence: str, mended_by: str) -> Fault:
        """A sentence with the option that mends it."""
        fault = super().__new__(cls, sentence)
        fault.mended_by = mended_by
        return fault

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """The arguments that make it again in a copy or in another process."""
        return str(self), self.mended_by


def along_normal(plane: ImagePlane) -> float:
    """Signed distance in mm of the plane from the patient's origin, along the normal row x column.

    >>> along_normal(ImagePlane((7.0, 8.0, -3.5), (1, 0, 0), (0, 1, 0)))
    -3.5
    """
    # Plain arithmetic: this runs for every slice, and numpy's cross product is slow on three numbers.
    (a, b, c), (d, e, f) = plane.row_cosines, plane.column_cosines
    x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
    length = math.sqrt(x * x + y * y + z * z)
    px, py, pz = plane.position_mm
    return (x * px + y * py + z * pz) / length


def sound_cosines(cosines: Sequence[float]) -> bool:
    """Whether six cosines are two unit vectors at right angles.

    >>> sound_cosines((1, 0, 0, 0, 1, 0)), sound_cosines((1, 0, 0, 1, 0, 0))
    (True, False)
    """
    row, column = cosines[:3], cosines[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    if any(abs(length - 1) > UNIT_LENGTH_TOLERANCE for length in lengths):
        return False
    slant = abs(sum(a * b for a, b in zip(row, column, strict=True))) / (lengths[0] * lengths[1])
    return slant <= DIRECTION_TOLERANCE or slant <= 2 * cosine_rounding(cosines)


def named(plane: ImagePlane, height_mm: float) -> str:
    """A slice's name in a message, such as "-119.00 mm (instance 12)"."""
    return f"{height_mm:.2f} mm" + ("" if plane.instance is None else f" (instance {plane.instance})")
