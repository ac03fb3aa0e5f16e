"""Slice thickness over slice distance, read from the anatomy; and slices that do not follow each other.

**Thickness.** At a flat boundary across the slices (lung over diaphragm, air over head), a slice that lies partly on
either side has a value u between the levels, 0 < u < 1. For a box w slice distances thick, whatever the boundary's
place, the mean of the sum over slices of u (1 - u) is w / 6: for w = 1 one slice lies astride, for w = 0.2 one in five
boundaries meets a slice at all, for w = 2 two. Boundaries that lean blur in the plane as well; the measured sum is a
line over the lean, and its value at no lean counts. With gaps between slices the place of a boundary is known in few of
them, so it seems level elsewhere, and thicknesses of 0.4 to 0.8 measure too small: contiguous slices never do.

**Order.** Neighbouring slices differ about as much as the neighbours on either side of them do. Where a slice is
missing or out of its order, they differ as slices two distances apart.

Source: our own definitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from thinslice.typing import Doubles

STEP_HU = 400.0
"""Least height of a boundary: lung or air against soft tissue."""

LEVEL_SHARE = 0.15
"""Largest difference, as a share of the height, of the two slices at either end, which are all on one side."""

BETWEEN = 3
"""Slices between the two at either end."""

STEEPEST = 0.2
"""Largest lean that is measured: how far the boundary rises, in slice distances, over a millimetre of the plane."""

LEAST_SPREAD = 0.01
"""Standard deviation of the leans below which they are taken as alike: no line can be laid through them."""

MIN_STEPS = 500
"""Columns of voxels below which the thickness is not measured."""

SMOOTHED_PIXELS = 5
"""Width of the average in plane before slices are compared, so that noise does not decide."""

BODY_HU = (-1000.0, 400.0)
"""Values are clipped to it before slices are compared: metal and padding would decide."""


@dataclass(frozen=True)
class StepTraits:
    """How slices lie to each other.

    Attributes:
        thickness: slice thickness over slice distance; None where too few boundaries were found.
        steps: columns of voxels it was measured on.
        jump: how much more two neighbours differ than the neighbours on both sides of them, as a ratio, at its
            largest; None for fewer than four slices.
        jump_at: index of the first of the two.
    """

    thickness: float | None
    steps: int
    jump: float | None
    jump_at: int | None


def step_traits(hu: npt.NDArray[Any], pixel_mm: float) -> StepTraits:
    """Measure thickness and order of slices.

    Args:
        hu: (depth, height, width) HU.
        pixel_mm: distance of pixels.
    """
    thickness, steps = relative_thickness(hu, pixel_mm)
    jump, jump_at = largest_jump(hu)
    return StepTraits(thickness, steps, jump, jump_at)


def relative_thickness(hu: npt.NDArray[Any], pixel_mm: float) -> tuple[float | None, int]:
    """Slice thickness over slice distance, and the columns of voxels that it was measured on.

    >>> places = np.linspace(-5.0, -6.0, 80)[:, None] + np.zeros(80)  # of a boundary, in slices
    >>> above = np.arange(12.0)[:, None, None] + places
    >>> scans = [np.clip(above / width + 0.5, 0, 1) * 900 - 850 for width in (1.0, 2.0)]
    >>> [round(relative_thickness(hu, 1.0)[0], 1) for hu in scans]
    [1.0, 2.0]
    """
    sums: list[Doubles] = []
    leans: list[Doubles] = []
    window = BETWEEN + 4
    for first in range(len(hu) - window + 1):
        planes = hu[first : first + window].astype(np.float32)
        low, high = planes[:2].mean(axis=0), planes[-2:].mean(axis=0)
        height = high - low
        level = np.maximum(np.ptp(planes[:2], axis=0), np.ptp(planes[-2:], axis=0))
        is_step = (np.abs(height) > STEP_HU) & (level < LEVEL_SHARE * np.abs(height))
        if not is_step.any():
            continue
        share = (planes - low) / np.where(is_step, height, 1.0)
        # Two slices at 0, three between, two at 1: the sum is 3.5 where the boundary is in the middle.
        place = np.where(is_step, share.sum(axis=0), np.nan)
        down, across = np.gradient(place, pixel_mm)
        lean = np.hypot(down, across)
        with np.errstate(invalid="ignore"):
            taken = is_step & (lean < STEEPEST) & (np.abs(place - 0.5 * window) <= 0.5)
        inner = share[1:-1][:, taken].astype(np.float64)
        sums.append(6.0 * np.sum(inner * (1.0 - inner), axis=0))
        leans.append(lean[taken].astype(np.float64))
    count = sum(len(each) for each in sums)
    if count < MIN_STEPS:
        return None, count
    lean, total = np.concatenate(leans), np.concatenate(sums)
    if lean.std() < LEAST_SPREAD:
        return float(total.mean()), count
    line = np.stack([np.ones_like(lean), lean], axis=1)
    return float(np.linalg.lstsq(line, total, rcond=None)[0][0]), count


def largest_jump(hu: npt.NDArray[Any]) -> tuple[float | None, int | None]:
    """How much more two neighbours differ than both pairs beside them, and the index of the first of the two.

    >>> turned = np.stack([np.roll(np.eye(24) * 900 - 900, k, axis=1) for k in (0, 1, 2, 3, 6, 7, 8, 9)])
    >>> ratio, at = largest_jump(turned)
    >>> ratio > 1.2, at
    (True, 3)
    """
    if len(hu) < 4:
        return None, None
    smooth = [uniform_filter(np.clip(plane.astype(np.float32), *BODY_HU), SMOOTHED_PIXELS) for plane in hu]
    apart = np.array([np.sqrt(np.mean(np.square(after - before))) for before, after in pairwise(smooth)])
    beside = np.maximum(apart[:-2], apart[2:])
    ratios = apart[1:-1] / np.maximum(beside, 1e-3)
    at = int(np.argmax(ratios))
    return float(ratios[at]), at + 1
