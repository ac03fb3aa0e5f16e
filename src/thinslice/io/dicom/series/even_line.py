"""The even line through slice positions, which writers round to a few decimals. Pure; no files, no pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thinslice.geometry import DIRECTION_TOLERANCE, POSITION_TOLERANCE_MM
from thinslice.typing import Doubles

ROUNDING_TOLERANCE_MM = 0.01
"""Positions this far from the line through the first and last are even as they are: scanners round them to 0.01 mm."""

EVENNESS_TOLERANCE_MM = 0.05
"""Positions this far from the best even line are accepted with a warning: half a unit of those rounded to 0.1 mm."""

EVENNESS_SHARE = 0.25
"""The same as a share of the spacing, which decides where slices are closer than 0.2 mm."""

COARSEST_COSINE = 1e-3
"""Largest unit of the last decimal of cosines up to which a deviation is taken for their rounding."""


@dataclass(frozen=True)
class EvenLine:
    """The even line through positions.

    Attributes:
        even: (slices, 3) LPS mm, evenly spaced.
        spacing_mm: distance of neighbours.
        direction: unit LPS vector.
        along_normal: whether the direction is that of the normal, as far as positions show.
        is_even: whether the positions lie on the line within their rounding.
        deviation_mm: largest component of position - even.
    """

    even: Doubles
    spacing_mm: float
    direction: Doubles
    along_normal: bool
    is_even: bool
    deviation_mm: float


def even_line(positions: Doubles, normal: Doubles) -> EvenLine:
    """The line through the first and last position where that fits, else the best one along the normal, else any."""
    count = len(positions)
    travel = positions[-1] - positions[0]
    length = float(np.linalg.norm(travel))
    spacing_mm, direction = length / (count - 1), travel / length
    angle = math.atan2(float(np.linalg.norm(np.cross(normal, direction))), float(normal @ direction))
    upright = angle <= DIRECTION_TOLERANCE or length * math.sin(angle) <= ROUNDING_TOLERANCE_MM
    if upright and angle > DIRECTION_TOLERANCE:
        direction = normal
    steps = np.arange(count)[:, None]
    ends = positions[0] + steps * spacing_mm * direction
    deviation_mm = float(np.abs(positions - ends).max())
    if deviation_mm <= ROUNDING_TOLERANCE_MM and upright:
        return EvenLine(ends, spacing_mm, direction, True, True, deviation_mm)
    tolerance_mm = min(EVENNESS_TOLERANCE_MM, EVENNESS_SHARE * spacing_mm) + POSITION_TOLERANCE_MM
    ranges = [_step_range_mm(axis, tolerance_mm) for axis in positions.T]
    step_mm = _step_along_mm(normal, ranges)
    if step_mm is not None:
        even, deviation = _centred(positions, steps * step_mm * normal)
        return EvenLine(even, step_mm, normal, True, True, deviation)
    if deviation_mm <= ROUNDING_TOLERANCE_MM:
        return EvenLine(ends, spacing_mm, direction, upright, True, deviation_mm)
    if all(low <= high for low, high in ranges):
        step = np.array([(low + high) / 2 for low, high in ranges])
        even, deviation = _centred(positions, steps * step)
        spacing_mm = float(np.linalg.norm(step))
        return EvenLine(even, spacing_mm, step / spacing_mm, upright, True, deviation)
    return EvenLine(ends, spacing_mm, direction, upright, False, deviation_mm)


def _step_along_mm(normal: Doubles, ranges: Sequence[tuple[float, float]]) -> float | None:
    """The step along the normal whose components lie in these ranges: the middle one, or None."""
    low, high = 0.0, math.inf
    for component, (least, most) in zip(normal.tolist(), ranges, strict=True):
        if least > most or (abs(component) < 1e-9 and not least <= 0 <= most):
            return None
        if abs(component) >= 1e-9:
            ends = sorted((least / component, most / component))
            low, high = max(low, ends[0]), min(high, ends[1])
    return (low + high) / 2 if low <= high else None


def _centred(positions: Doubles, line: Doubles) -> tuple[Doubles, float]:
    """A line moved to the middle of the positions' deviations from it, and the largest component of these."""
    rest = positions - line
    middle = (rest.max(axis=0) + rest.min(axis=0)) / 2
    return line + middle, float(np.abs(rest - middle).max())


def _step_range_mm(values: Doubles, tolerance_mm: float) -> tuple[float, float]:
    """(smallest, largest) step at which values are even, each within the tolerance; the smallest is larger for none.

    0, 3.3, 6.5, 9.8 mm are even within 0.05 mm at steps from 3.23 to 3.3 mm.
    """
    low, high = -math.inf, math.inf
    for apart in range(1, len(values)):
        differences = values[apart:] - values[:-apart]
        low = max(low, (float(differences.max()) - 2 * tolerance_mm) / apart)
        high = min(high, (float(differences.min()) + 2 * tolerance_mm) / apart)
        if low > high:
            break
    return low, high


def even_step_mm(heights_mm: Sequence[float]) -> float | None:
    """The step of heights in rising order that are even within `EVENNESS_TOLERANCE_MM`, else None.

    >>> even_step_mm([0, 5, 10]), even_step_mm([0, 5, 11]), even_step_mm([3])
    (5.0, None, None)
    """
    if len(heights_mm) < 2:
        return None
    values = np.asarray(heights_mm, dtype=float)
    step_mm = float(values[-1] - values[0]) / (len(values) - 1)
    tolerance_mm = min(EVENNESS_TOLERANCE_MM, EVENNESS_SHARE * step_mm)
    rest = values - step_mm * np.arange(len(values))
    if float(np.ptp(rest)) <= 2 * tolerance_mm:
        return step_mm
    low, high = _step_range_mm(values, tolerance_mm)
    return (low + high) / 2 if low <= high else None


def tilt_of(positions: Doubles, normal: Doubles, heights: Doubles) -> tuple[float, float]:
    """(angle between the normal and the line of the slices in radians, largest distance in mm from that line)."""
    lateral = positions - np.outer(heights, normal)
    lateral = lateral - lateral.mean(axis=0)
    rise = heights - heights.mean()
    slope = (rise @ lateral) / float(rise @ rise)
    return math.atan(float(np.linalg.norm(slope))), float(np.abs(lateral - np.outer(rise, slope)).max())


def cosine_rounding(cosines: Sequence[float]) -> float:
    """Largest angle in radians by which rounding to the decimals written may have turned the normal.

    Whole cosines are exact: nobody rounds to whole numbers.
    """
    decimals = max(len(repr(float(value)).partition(".")[2]) for value in cosines if "e" not in repr(float(value)))
    if all(float(value).is_integer() for value in cosines):
        return 0.0
    unit = min(10.0**-decimals, COARSEST_COSINE)
    return math.sqrt(6) * unit / 2
