"""Slices of a tilted gantry, or of changing spacing, brought onto an upright, evenly spaced grid.

    tilt       slices are parallel, but their centres follow the table and not the slices' normal: each slice is shifted
               in its own plane, so that the centres lie on the normal; nothing is interpolated between slices
    spacing    slices at uneven heights are interpolated linearly at even heights, at the finer of their spacings

The patient keeps his place: a voxel's world position shows the anatomy that the source shows there.

Source: our own; in effect the shear that dcm2niix applies, with cubic splines in the plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import GeometryError
from thinslice.geometry import Geometry
from thinslice.io.upright import removed_tilt, upright
from thinslice.system.resources import require_memory
from thinslice.typing import Doubles

if TYPE_CHECKING:
    from thinslice.io.dicom.series.plane import ImagePlane

SAME_STEP_MM = 0.05
"""Distances of neighbours that differ by less are one spacing, rounded in the source."""

MOST_SLICES_MORE = 8
"""Largest growth of the number of slices by even spacing: beyond, the closest two slices are no spacing of the scan."""


@dataclass(frozen=True)
class Regular:
    """Slices on a regular grid.

    Attributes:
        hu: (depth, height, width), HU.
        geometry: its grid.
        nearest: (depth,) for each slice, the index of the source slice nearest to it.
        notes: sentences about what was resampled, for the report and the description of the derivation.
    """

    hu: npt.NDArray[Any]
    geometry: Geometry
    nearest: tuple[int, ...]
    notes: tuple[str, ...]


def regular(
    hu: npt.NDArray[Any],
    planes: Sequence[ImagePlane],
    in_plane_mm: tuple[float | None, float | None],
    mended: frozenset[str],
    *,
    outside_hu: float,
) -> Regular:
    """Bring the slices of a tilted or unevenly spaced stack onto a regular grid.

    Args:
        hu: (depth, height, width), HU.
        planes: places of the slices, in depth order.
        in_plane_mm: (height, width) spacing; None where unknown.
        mended: the faults to remove: "tilt", "spacing".
        outside_hu: HU where no slice has voxels, and HU that marks padding.

    Raises:
        GeometryError: a tilt cannot be removed without PixelSpacing, or slices lie too close for one spacing; export
            the series again.
        ResourceError: the memory does not hold the resampled volume; use a machine with more.
    """
    positions = np.array([plane.position_mm for plane in planes])
    row = np.array(planes[0].row_cosines) / np.linalg.norm(planes[0].row_cosines)
    column = np.array(planes[0].column_cosines) - (row @ planes[0].column_cosines) * row
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    notes: list[str] = []
    if "tilt" in mended:
        height_mm, width_mm = in_plane_mm
        if height_mm is None or width_mm is None:
            raise GeometryError("A gantry tilt cannot be removed without PixelSpacing; export the series again.")
        travel = positions[-1] - positions[0]
        degrees = math.degrees(math.atan2(float(np.linalg.norm(np.cross(normal, travel))), float(normal @ travel)))
        notes.append(removed_tilt(degrees))
        hu, positions = upright(hu, positions, row, column, (height_mm, width_mm), outside_hu=outside_hu)
    heights = (positions - positions[0]) @ normal
    nearest = list(range(len(hu)))
    steps = np.diff(heights)
    if "spacing" in mended and np.ptp(steps) > SAME_STEP_MM:
        before = len(hu)
        step_mm = finer_spacing_mm(heights)
        if (heights[-1] - heights[0]) / step_mm > MOST_SLICES_MORE * len(hu):
            raise GeometryError(
                f"Slices lie from {steps.min():.3f} to {steps.max():.3f} mm apart, too differently for one spacing; "
                "give the part of one spacing in a folder of its own."
            )
        hu, heights, closest = even(hu, heights, outside_hu=outside_hu)
        nearest = closest.tolist()
        notes.append(
            f"{before} slices {steps.min():.4g} to {steps.max():.4g} mm apart were resampled to {len(hu)} slices "
            f"{step_mm:.4g} mm apart (linear between neighbours)."
        )
    thicknesses = sorted({plane.thickness_mm for plane in planes if plane.thickness_mm is not None})
    one_thickness = len(thicknesses) == 1 and all(plane.thickness_mm is not None for plane in planes)
    if len(thicknesses) > 1:
        notes.append(
            f"Slices are from {thicknesses[0]:g} to {thicknesses[-1]:g} mm thick; their thickness is taken as unknown."
        )
    axes = np.column_stack([normal, column, row])
    geometry = Geometry(
        shape=(len(hu), hu.shape[1], hu.shape[2]),
        spacing_mm=(round(float(heights[-1] - heights[0]) / (len(hu) - 1), 7), *in_plane_mm),
        origin_mm=(float(positions[0][0]), float(positions[0][1]), float(positions[0][2])),
        direction=tuple(tuple(float(v) + 0.0 for v in axis) for axis in axes),  # type: ignore[arg-type]
        thickness_mm=thicknesses[0] if one_thickness else None,
    )
    return Regular(hu, geometry, tuple(nearest), tuple(notes))


def finer_spacing_mm(heights_mm: Doubles) -> float:
    """The smallest distance of neighbours that occurs more than once; the smallest of all where none does.

    A single small distance is where two parts of a scan overlap, and no spacing of the scan.

    >>> finer_spacing_mm(np.array([0, 4, 8, 9, 16, 23.0]))
    4.0
    """
    steps = np.sort(np.diff(heights_mm))
    shared = [step for step in steps if np.count_nonzero(np.abs(steps - step) <= SAME_STEP_MM) > 1]
    alike = np.abs(steps - (shared[0] if shared else steps[0])) <= SAME_STEP_MM
    return float(steps[alike].mean())


def even(
    hu: npt.NDArray[Any], heights_mm: Doubles, *, outside_hu: float
) -> tuple[npt.NDArray[Any], Doubles, npt.NDArray[np.intp]]:
    """Interpolate slices at even heights, at the finer of their spacings.

    Args:
        hu: (depth, height, width), HU.
        heights_mm: (depth,) heights along the normal, ascending.
        outside_hu: HU that marks padding: where either neighbour is padding, so is the result.

    Returns:
        HU (depth', height, width) of the type of `hu`; (depth',) heights, the first as given and the last at most one
        spacing before the last given; for each, the index of the source slice nearest to it.

    >>> hu = np.array([0, 40, 100], dtype=np.int16).reshape(3, 1, 1)
    >>> made, heights, nearest = even(hu, np.array([0.0, 4.0, 10.0]), outside_hu=-1024)
    >>> made[:, 0, 0].tolist(), heights.tolist(), nearest.tolist()
    ([0, 40, 80], [0.0, 4.0, 8.0], [0, 1, 2])
    """
    step = finer_spacing_mm(heights_mm)
    count = math.floor((heights_mm[-1] - heights_mm[0]) / step + 1e-6) + 1
    at = heights_mm[0] + step * np.arange(count)
    above = np.clip(np.searchsorted(heights_mm, at, side="right"), 1, len(hu) - 1)
    share = np.clip((at - heights_mm[above - 1]) / (heights_mm[above] - heights_mm[above - 1]), 0.0, 1.0)
    require_memory(count * hu[0].nbytes, "to bring the slices to one spacing")
    result = np.empty((count, *hu.shape[1:]), dtype=hu.dtype)
    for k in range(count):
        low, high = hu[above[k] - 1], hu[above[k]]
        if share[k] in (0.0, 1.0):
            result[k] = high if share[k] else low
            continue
        mixed = (1.0 - share[k]) * low + share[k] * high
        mixed = np.where((low == outside_hu) | (high == outside_hu), outside_hu, mixed)
        result[k] = np.rint(mixed) if np.issubdtype(hu.dtype, np.integer) else mixed
    nearest = np.abs(at[:, None] - heights_mm[None, :]).argmin(axis=1)
    return result, at, nearest
