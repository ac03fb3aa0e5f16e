"""Slice positions to one regular grid, or to a sentence why there is none. Pure; no files, no pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thinslice.geometry import DIRECTION_TOLERANCE, LARGEST_TILT_DEGREES, POSITION_TOLERANCE_MM, Geometry
from thinslice.io.dicom.series.even_line import (
    ROUNDING_TOLERANCE_MM,
    EvenLine,
    cosine_rounding,
    even_line,
    tilt_of,
)
from thinslice.io.dicom.series.gaps import hidden_gap, missing_ends, unevenness
from thinslice.io.dicom.series.plane import Fault, ImagePlane, along_normal, named
from thinslice.options import option
from thinslice.typing import Doubles

SAME_POSITION_MM = 0.01
"""Slices closer than this along the normal lie at the same position."""


LEAST_TILT_DEGREES = 0.05
"""Angles below, which messages would round to 0.0 or 0.1 degrees, are no gantry tilt."""


THICKNESS_TOLERANCE_MM = 1e-3
"""Slice thicknesses that differ by less are the same."""


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
        spacing_mm, fault = unevenness(planes, heights, positions - line.even, normal, unreadable)
        faults.append(fault)
    else:
        hidden = hidden_gap(planes, spacing_mm, unreadable, warnings)
        if hidden:
            faults.append(hidden)
        if line.deviation_mm > POSITION_TOLERANCE_MM:
            warnings.append(
                f"Slice positions deviate by up to {line.deviation_mm:.4f} mm from even spacing (rounded in the "
                "source); they are taken as even."
            )
        warnings.extend(missing_ends(planes, numbers_elsewhere))
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
            where = named(planes[k], along_normal(planes[k]))
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
