"""Slices that are missing, and spacing that changes, from positions and numbers. Pure; no files, no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from thinslice.io.dicom.series.even_line import EVENNESS_TOLERANCE_MM, ROUNDING_TOLERANCE_MM
from thinslice.io.dicom.series.plane import RELATIVE_TOLERANCE, Fault, ImagePlane, along_normal, named
from thinslice.options import option
from thinslice.typing import Doubles

JITTER_SHARE = 0.2
"""Largest variation of distances, as a share of the usual one, that is called uneven and not a change of spacing."""

NUMBERS_OF_A_BLOCK = 1000
"""Numbering from the first number of such a block on is a scheme, not a loss of the slices before it."""


def unevenness(
    planes: Sequence[ImagePlane],
    heights: Doubles,
    deviation: Doubles,
    normal: Doubles,
    unreadable: int,
) -> tuple[float, str]:
    """The usual spacing, and why positions are not even: missing slices, a change, or slices shifted in plane."""
    steps = np.diff(heights)
    # The step per InstanceNumber gives the true spacing even where every interval has lost slices.
    nominal = _step_per_instance(planes, heights) or float(steps.min())
    # Heights 0, 5, 10, 20, 25 mm: steps 5, 5, 10, 5, nominal 5, counts 1, 1, 2, 1, so one gap and one missing slice.
    counts = np.rint(steps / nominal)
    tolerance = np.maximum(RELATIVE_TOLERANCE * nominal * counts, 2 * EVENNESS_TOLERANCE_MM)
    gaps = int(np.count_nonzero(counts > 1))
    numbers = _instances(planes)
    # Numbers without a hole and several wide steps: the spacing was changed, no slice was lost.
    changed = gaps > 1 and numbers is not None and abs(numbers[-1] - numbers[0]) == len(planes) - 1
    if gaps and not changed and np.all(np.abs(steps - counts * nominal) <= tolerance):
        k = int(np.argmax(steps))
        missing = int(np.sum(counts - 1))
        return nominal, (
            f"Slices are missing: a gap of {steps[k]:.2f} mm where {nominal:.2f} mm is usual, between "
            f"{named(planes[k], heights[k])} and {named(planes[k + 1], heights[k + 1])}; in all {missing} slice(s) in "
            f"{gaps} gap(s){_unreadable_clause(unreadable)}; get the complete series."
        )
    usual = float(np.median(steps))
    in_plane = np.linalg.norm(deviation - np.outer(deviation @ normal, normal), axis=1)
    if np.all(np.abs(steps - steps.mean()) <= 2 * EVENNESS_TOLERANCE_MM) and in_plane.max() > EVENNESS_TOLERANCE_MM:
        k = int(np.argmax(in_plane))
        return usual, Fault(
            f"The slice at {named(planes[k], heights[k])} is shifted by {in_plane[k]:.2f} mm out of line with the "
            f"others, so they do not make one volume; pass {option('on_tilt', 'resample')} to shift them into line.",
            "tilt",
        )
    turns = np.diff(np.sign(np.diff(steps)))
    if (
        len(steps) > 3
        and np.ptp(steps) < JITTER_SHARE * usual
        and np.count_nonzero(np.abs(turns) == 2) * 2 >= len(turns)
    ):
        sentence = (
            f"Slice positions are uneven: neighbours are {steps.min():.3f} to {steps.max():.3f} mm apart, more than "
            f"rounding explains{_unreadable_clause(unreadable)}"
        )
        return usual, Fault(
            f"{sentence}; pass {option('on_spacing', 'resample')}, or export the series again.", "spacing"
        )
    k = int(np.argmax(np.abs(np.diff(steps)))) if len(steps) > 1 else 0
    after = steps[min(k + 1, len(steps) - 1)]
    sentence = (
        f"Slice spacing changes inside the series, from {steps[k]:.3f} to {after:.3f} mm at "
        f"{named(planes[k + 1], heights[k + 1])}{_unreadable_clause(unreadable)}"
    )
    alone = "give the part of one spacing in a folder of its own"
    if unreadable:  # the change may be a gap
        return usual, f"{sentence}; {alone}, or get the files again."
    return usual, Fault(f"{sentence}; pass {option('on_spacing', 'resample')}, or {alone}.", "spacing")


def _unreadable_clause(unreadable: int) -> str:
    return f" ({unreadable} file(s) of the input could not be read)" if unreadable else ""


def _instances(planes: Sequence[ImagePlane]) -> list[int] | None:
    """InstanceNumbers in depth order when all are known and strictly rising or falling."""
    numbers = [plane.instance for plane in planes if plane.instance is not None]
    if len(numbers) != len(planes):
        return None
    steps = np.diff(numbers)
    return numbers if np.all(steps > 0) or np.all(steps < 0) else None


def _step_per_instance(planes: Sequence[ImagePlane], heights: Doubles) -> float | None:
    """Distance in mm per InstanceNumber when the numbers explain every position, else None."""
    numbers = _instances(planes)
    if numbers is None or len(numbers) < 3:
        return None
    per_number = float((heights[-1] - heights[0]) / (numbers[-1] - numbers[0]))
    expected = heights[0] + (np.array(numbers) - numbers[0]) * per_number
    fits = float(np.abs(heights - expected).max()) <= max(ROUNDING_TOLERANCE_MM, 1e-2 * abs(per_number))
    return abs(per_number) if fits else None


def hidden_gap(planes: Sequence[ImagePlane], spacing_mm: float, unreadable: int, warnings: list[str]) -> str | None:
    """A sentence on missing slices that even spacing hides, or None; adds a warning where they are only likely.

    InstanceNumbers 1, 3, 5 at 0, 5, 10 mm go in steps of 2, so 2.5 mm are expected: slices of 2.5 mm confirm the gap.
    """
    numbers = _instances(planes)
    if numbers is None:
        return None
    steps = {abs(b - a) for a, b in pairwise(numbers)}
    step = steps.pop()
    if steps or step == 1:
        return None
    expected_mm = spacing_mm / step
    stated_mm = planes[0].between_mm or planes[0].thickness_mm
    if unreadable or (stated_mm and abs(stated_mm - expected_mm) <= RELATIVE_TOLERANCE * expected_mm):
        return (
            f"Slices are missing: InstanceNumber goes in steps of {step}, and slices are {spacing_mm:.2f} mm apart "
            f"where {expected_mm:.2f} mm is expected, first between {named(planes[0], along_normal(planes[0]))} and "
            f"{named(planes[1], along_normal(planes[1]))}{_unreadable_clause(unreadable)}; get the complete series."
        )
    warnings.append(f"InstanceNumber goes in steps of {step}; slices may have been left out of this series.")
    return None


def missing_ends(planes: Sequence[ImagePlane], numbers_elsewhere: frozenset[int]) -> list[str]:
    """A warning when the numbering starts above 1, and no other object of the series has the numbers before."""
    numbers = _instances(planes)
    if numbers is None:
        return []
    first = min(numbers)
    if first % NUMBERS_OF_A_BLOCK == 1:
        return []  # some scanners number the images of series 3 from 3001 on
    absent = [n for n in range(1, min(first, 100_000)) if n not in numbers_elsewhere]
    if not absent:
        return []
    end = planes[0] if numbers[0] == first else planes[-1]
    return [
        f"InstanceNumber starts at {first}: {len(absent)} slice(s) may be missing before "
        f"{named(end, along_normal(end))}."
    ]
