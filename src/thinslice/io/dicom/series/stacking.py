"""Slice positions to one regular grid, or to a sentence why there is none. Pure; no files, no pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from thinslice.geometry import DIRECTION_TOLERANCE, LARGEST_TILT_DEGREES, POSITION_TOLERANCE_MM, Geometry
from thinslice.io.dicom.series.even_line import (
    EVENNESS_TOLERANCE_MM,
    ROUNDING_TOLERANCE_MM,
    EvenLine,
    cosine_rounding,
    even_line,
    tilt_of,
)
from thinslice.options import option
from thinslice.typing import Doubles

SAME_POSITION_MM = 0.01
"""Slices closer than this along the normal lie at the same position."""

JITTER_SHARE = 0.2
"""Largest variation of distances, as a share of the usual one, that is called uneven and not a change of spacing."""

LEAST_TILT_DEGREES = 0.05
"""Angles below, which messages would round to 0.0 or 0.1 degrees, are no gantry tilt."""

UNIT_LENGTH_TOLERANCE = 1e-2
"""Largest deviation from 1 of the length of a direction cosine vector; beyond, the orientation is unusable."""

RELATIVE_TOLERANCE = 1e-2
"""Spacings or thicknesses are multiples of one another within this fraction."""

NUMBERS_OF_A_BLOCK = 1000
"""Numbering from the first number of such a block on is a scheme, not a loss of the slices before it."""

THICKNESS_TOLERANCE_MM = 1e-3
"""Slice thicknesses that differ by less are the same."""


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


@dataclass(frozen=True)
class Stacking:
    """Result of stacking slices: the grid, or the faults in their positions.

    Attributes:
        geometry: the grid, or None when `faults` are not empty.
        spacing_mm: the usual distance of neighbouring slices, or None where unknown.
        thickness_mm: of all slices, or None where unknown or mixed.
        in_plane_mm: (height, width) spacing; None where unknown.
        faults: sentences, each a reason to refuse.
        warnings: sentences about assumptions.
    """

    geometry: Geometry | None
    spacing_mm: float | None
    thickness_mm: float | None
    in_plane_mm: tuple[float | None, float | None]
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


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


def stack(
    planes: Sequence[ImagePlane],
    shape: tuple[int, int],
    in_plane_mm: tuple[float | None, float | None],
    *,
    numbers_elsewhere: frozenset[int] = frozenset(),
    unreadable: int = 0,
) -> Stacking:
    """Find the regular grid of slices sorted by `along_normal`, each position once.

    Args:
        planes: sorted, one per slice, of one orientation.
        shape: (height, width) of every slice.
        in_plane_mm: (height, width) spacing; None where unknown.
        numbers_elsewhere: InstanceNumbers of the series that belong to other objects, such as its localizer.
        unreadable: files of the input that could not be read and may belong to the stack.

    Returns:
        The grid, or the faults: gantry tilt, missing slices, and changes of spacing or thickness. Positions that
        deviate from an even line by no more than their rounding are even, with a warning.
    """
    faults: list[str] = []
    warnings: list[str] = []
    thickness_mm = _thickness(planes, faults, warnings)
    if len(planes) == 1:
        return _single(planes[0], shape, in_plane_mm, thickness_mm, faults, warnings)

    positions = np.array([plane.position_mm for plane in planes])
    normal = _normal(planes[0])
    heights = positions @ normal
    line = even_line(positions, normal)
    rounding = max(cosine_rounding((*plane.row_cosines, *plane.column_cosines)) for plane in planes)
    tilt, scatter_mm = tilt_of(positions, normal, heights)
    drift_mm = (heights[-1] - heights[0]) * math.tan(tilt)
    degrees = math.degrees(tilt)
    if line.is_even and not line.along_normal and (tilt <= rounding or degrees < LEAST_TILT_DEGREES):
        warnings.append(
            f"The slices are stacked at {degrees:.3f} degrees to their normal, no more than ImageOrientationPatient is "
            "rounded; the positions are taken as exact."
        )
    elif not line.along_normal and degrees >= LEAST_TILT_DEGREES and (line.is_even or drift_mm > 4 * scatter_mm):
        faults.append(_tilt_fault(degrees))
    spacing_mm = line.spacing_mm
    if not line.is_even:
        spacing_mm, fault = _unevenness(planes, heights, positions - line.even, normal, unreadable)
        faults.append(fault)
    else:
        hidden = _hidden_gap(planes, spacing_mm, unreadable, warnings)
        if hidden:
            faults.append(hidden)
        if line.deviation_mm > POSITION_TOLERANCE_MM:
            warnings.append(
                f"Slice positions deviate by up to {line.deviation_mm:.4f} mm from even spacing (rounded in the "
                "source); they are taken as even."
            )
        warnings.extend(_missing_ends(planes, numbers_elsewhere))
    if in_plane_mm[0] is None or in_plane_mm[1] is None:
        warnings.append("PixelSpacing is missing, so the spacing in the plane is unknown.")
    if faults:
        return Stacking(None, spacing_mm, thickness_mm, in_plane_mm, tuple(faults), tuple(warnings))
    geometry = _grid(planes, len(planes), shape, (spacing_mm, *in_plane_mm), line, thickness_mm)
    return Stacking(geometry, geometry.spacing_mm[0], thickness_mm, in_plane_mm, (), tuple(warnings))


def _tilt_fault(degrees: float) -> str:
    sentence = f"The slices are stacked at {degrees:.1f} degrees to their normal (gantry tilt)"
    workstation = "have the scanner or a workstation correct the tilt"
    if degrees > LARGEST_TILT_DEGREES:
        return f"{sentence}; {workstation}."
    return Fault(f"{sentence}; pass {option('on_tilt', 'resample')} to shift them upright, or {workstation}.", "tilt")


def _grid(
    planes: Sequence[ImagePlane],
    depth: int,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float | None, float | None],
    line: EvenLine,
    thickness_mm: float | None,
) -> Geometry:
    first = planes[0]
    column = np.array(first.column_cosines) / np.linalg.norm(first.column_cosines)
    row = np.array(first.row_cosines) / np.linalg.norm(first.row_cosines)
    direction = line.direction
    off = max(abs(float(a @ b)) for a, b in ((row, column), (row, direction), (column, direction)))
    if off > DIRECTION_TOLERANCE / 2:
        # Rounded cosines: the planes are turned until they are at right angles to the line of the slices.
        row = row - (row @ direction) * direction
        row = row / np.linalg.norm(row)
        column = np.cross(direction, row)
    axes = np.column_stack([direction, column, row])
    # A line through the first and last position keeps the first as it is written.
    origin: tuple[float, float, float] = (
        first.position_mm if line.deviation_mm <= ROUNDING_TOLERANCE_MM else tuple(line.even[0].tolist())
    )
    # Differences of decimal positions carry rounding errors; 1e-7 mm is far below any tolerance.
    return Geometry(
        shape=(depth, *shape),
        spacing_mm=(round(spacing_mm[0], 7), *spacing_mm[1:]),
        origin_mm=origin,
        direction=tuple(tuple(float(v) + 0.0 for v in axis) for axis in axes),  # type: ignore[arg-type]
        thickness_mm=thickness_mm,
    )


def _single(
    plane: ImagePlane,
    shape: tuple[int, int],
    in_plane_mm: tuple[float | None, float | None],
    thickness_mm: float | None,
    faults: list[str],
    warnings: list[str],
) -> Stacking:
    spacing_mm = plane.between_mm or thickness_mm
    if spacing_mm is None:
        faults.append(
            "There is a single slice without SpacingBetweenSlices or SliceThickness, so its depth is unknown; "
            "give the whole series."
        )
    if faults or spacing_mm is None:
        return Stacking(None, spacing_mm, thickness_mm, in_plane_mm, tuple(faults), tuple(warnings))
    source = "SpacingBetweenSlices" if plane.between_mm else "SliceThickness"
    warnings.append(f"There is a single slice; its spacing of {spacing_mm:g} mm is taken from {source}.")
    if in_plane_mm[0] is None or in_plane_mm[1] is None:
        warnings.append("PixelSpacing is missing, so the spacing in the plane is unknown.")
    line = EvenLine(np.array([plane.position_mm]), spacing_mm, _normal(plane), True, True, 0.0)
    geometry = _grid([plane], 1, shape, (spacing_mm, *in_plane_mm), line, thickness_mm)
    return Stacking(geometry, spacing_mm, thickness_mm, in_plane_mm, (), tuple(warnings))


def _normal(plane: ImagePlane) -> Doubles:
    normal = np.cross(plane.row_cosines, plane.column_cosines)
    return np.asarray(normal / np.linalg.norm(normal))


def _name(plane: ImagePlane, height_mm: float) -> str:
    """A slice's name in a message, such as "-119.00 mm (instance 12)"."""
    return f"{height_mm:.2f} mm" + ("" if plane.instance is None else f" (instance {plane.instance})")


def _thickness(planes: Sequence[ImagePlane], faults: list[str], warnings: list[str]) -> float | None:
    known = [plane.thickness_mm for plane in planes]
    if any(value is None for value in known):
        if any(value is not None for value in known):
            warnings.append("Some slices have no SliceThickness; thickness is taken as unknown.")
        else:
            warnings.append("SliceThickness is missing, so the extent over which a slice averages is unknown.")
        return None
    values = [value for value in known if value is not None]
    for k in range(1, len(values)):
        if abs(values[k] - values[k - 1]) > THICKNESS_TOLERANCE_MM:
            where = _name(planes[k], along_normal(planes[k]))
            faults.append(
                Fault(
                    f"Slice thickness changes inside the series, from {values[k - 1]:g} to {values[k]:g} mm at "
                    f"{where}; pass {option('on_spacing', 'resample')}, or give the part of one thickness in a "
                    "folder of its own.",
                    "spacing",
                )
            )
            return None
    return values[0]


def _unevenness(
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
            f"{_name(planes[k], heights[k])} and {_name(planes[k + 1], heights[k + 1])}; in all {missing} slice(s) in "
            f"{gaps} gap(s){_unreadable_clause(unreadable)}; get the complete series."
        )
    usual = float(np.median(steps))
    in_plane = np.linalg.norm(deviation - np.outer(deviation @ normal, normal), axis=1)
    if np.all(np.abs(steps - steps.mean()) <= 2 * EVENNESS_TOLERANCE_MM) and in_plane.max() > EVENNESS_TOLERANCE_MM:
        k = int(np.argmax(in_plane))
        return usual, Fault(
            f"The slice at {_name(planes[k], heights[k])} is shifted by {in_plane[k]:.2f} mm out of line with the "
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
        f"{_name(planes[k + 1], heights[k + 1])}{_unreadable_clause(unreadable)}"
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


def _hidden_gap(planes: Sequence[ImagePlane], spacing_mm: float, unreadable: int, warnings: list[str]) -> str | None:
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
            f"where {expected_mm:.2f} mm is expected, first between {_name(planes[0], along_normal(planes[0]))} and "
            f"{_name(planes[1], along_normal(planes[1]))}{_unreadable_clause(unreadable)}; get the complete series."
        )
    warnings.append(f"InstanceNumber goes in steps of {step}; slices may have been left out of this series.")
    return None


def _missing_ends(planes: Sequence[ImagePlane], numbers_elsewhere: frozenset[int]) -> list[str]:
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
        f"{_name(end, along_normal(end))}."
    ]
