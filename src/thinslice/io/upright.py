"""Slices of a tilted gantry, shifted in their planes until they stand upright, whatever the format of their file.

Source: our own; in effect the shear that dcm2niix applies, with cubic splines in the plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import shift

from thinslice.file_grid import FileAxes
from thinslice.geometry import Geometry
from thinslice.intensity import WINDOW_MIN_HU
from thinslice.system.resources import require_memory
from thinslice.typing import Doubles

LEAST_SHIFT = 1e-3
"""Pixels; smaller shifts are left out."""


def removed_tilt(degrees: float) -> str:
    """The sentence on a tilt that was removed, for the report and the description of the derivation.

    >>> removed_tilt(12.04)
    'A gantry tilt of 12.0 degrees was removed: slices were shifted in their planes (cubic splines).'
    """
    return f"A gantry tilt of {degrees:.1f} degrees was removed: slices were shifted in their planes (cubic splines)."


@dataclass(frozen=True)
class UprightFile:
    """The voxels of a sheared file on an upright grid.

    Attributes:
        hu: (depth, height + h, width + w), HU.
        geometry: its grid.
        note: the sentence of `removed_tilt`.
    """

    hu: npt.NDArray[Any]
    geometry: Geometry
    note: str


def upright_file(
    hu: npt.NDArray[Any], affine_lps: Doubles, axes: FileAxes, padding_hu: float | None, *, degrees: float
) -> UprightFile:
    """Shift the slices of a sheared file upright; anatomy keeps its world position.

    Args:
        hu: (depth, height, width), HU.
        affine_lps: 4 x 4, file indices to LPS mm, sheared along the depth axis alone (see
            `thinslice.file_grid.tilt_degrees`).
        axes: the file's axis for depth, height and width.
        padding_hu: HU that marks padding; None for none.
        degrees: the tilt, for the note.

    Raises:
        ResourceError: the memory does not hold the resampled volume; use a machine with more.
    """
    step, height, width = (affine_lps[:3, axis] for axis in axes)
    height_mm, width_mm = float(np.linalg.norm(height)), float(np.linalg.norm(width))
    row = width / width_mm
    column = height - (height @ row) * row
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    along = float(step @ normal)
    positions = affine_lps[:3, 3] + np.outer(np.arange(len(hu)), step)
    outside_hu = WINDOW_MIN_HU if padding_hu is None else padding_hu
    made, placed = upright(hu, positions, row, column, (height_mm, width_mm), outside_hu=outside_hu)
    # Files may stack slices against the normal of their rows and columns.
    columns = np.column_stack([math.copysign(1.0, along) * normal, column, row])
    geometry = Geometry(
        shape=(len(made), made.shape[1], made.shape[2]),
        spacing_mm=(abs(along), height_mm, width_mm),
        origin_mm=(float(placed[0][0]), float(placed[0][1]), float(placed[0][2])),
        direction=tuple(tuple(float(v) + 0.0 for v in line) for line in columns),  # type: ignore[arg-type]
    )
    return UprightFile(made, geometry, removed_tilt(degrees))


def upright(
    hu: npt.NDArray[Any],
    positions_mm: Doubles,
    row: Doubles,
    column: Doubles,
    spacing_mm: tuple[float, float],
    *,
    outside_hu: float,
) -> tuple[npt.NDArray[Any], Doubles]:
    """Shift slices in their plane, so that their first voxels lie on one line along the normal.

    The plane grows where slices were shifted out of it; what no slice covers becomes `outside_hu`.

    Args:
        hu: (depth, height, width), HU.
        positions_mm: (depth, 3), LPS of each slice's first voxel.
        row: unit LPS vector of the width axis.
        column: unit LPS vector of the height axis.
        spacing_mm: (height, width) spacing.
        outside_hu: HU where no slice has voxels; also the HU that marks padding, which is not interpolated.

    Returns:
        HU (depth, height + h, width + w) of the type of `hu`, and the (depth, 3) new positions.

    Examples:
        Slices 5 mm apart, tilted by 20 degrees, pixels of 1 mm: along the normal they are 5 cos 20 = 4.698 mm
        apart, and each is shifted by 5 sin 20 = 1.710 pixels against the one before.
    """
    normal = np.cross(row, column)
    away = positions_mm - positions_mm[0]
    drift = np.column_stack([away @ column / spacing_mm[0], away @ row / spacing_mm[1]])
    first = np.floor(drift.min(axis=0) + LEAST_SHIFT)
    last = np.ceil(drift.max(axis=0) - LEAST_SHIFT)
    extra = (last - first).astype(int)
    shape = (len(hu), hu.shape[1] + int(extra[0]), hu.shape[2] + int(extra[1]))
    require_memory(math.prod(shape) * hu.dtype.itemsize, "to shift tilted slices upright")
    result = np.full(shape, outside_hu, dtype=hu.dtype)
    for k, plane in enumerate(hu):
        _shifted(plane, drift[k] - first, outside_hu, result[k])
    start = positions_mm[0] + first[0] * spacing_mm[0] * column + first[1] * spacing_mm[1] * row
    return result, start + np.outer(away @ normal, normal)


def _shifted(plane: npt.NDArray[Any], pixels: Doubles, outside_hu: float, target: npt.NDArray[Any]) -> None:
    """Put a plane into `target`, (height, width) pixels further down and right; cubic, within its neighbours' range."""
    whole = np.floor(pixels + LEAST_SHIFT).astype(int)
    part = pixels - whole
    height, width = plane.shape
    inside = target[whole[0] : whole[0] + height + 1, whole[1] : whole[1] + width + 1]
    if np.abs(part).max() < LEAST_SHIFT:
        inside[:height, :width] = plane
        return
    padding = plane == outside_hu
    # Padding far below air would ring into the tissue beside it.
    floor = plane[~padding].min() if not padding.all() else outside_hu
    room = [(0, 1), (0, 1)]
    filled = np.pad(np.where(padding, floor, plane).astype(np.float64), room, mode="edge")
    moved = np.clip(shift(filled, part, order=3, mode="nearest"), filled.min(), filled.max())
    mask = shift(np.pad(padding, room, constant_values=True).astype(np.float32), part, order=1, cval=1.0) >= 0.5
    moved[mask] = outside_hu
    moved = moved[: inside.shape[0], : inside.shape[1]]
    inside[:] = np.rint(moved) if np.issubdtype(target.dtype, np.integer) else moved
