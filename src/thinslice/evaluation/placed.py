"""Thick slices placed on a thin grid, by position or by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import GeometryError
from thinslice.geometry import REGISTRATION_TOLERANCE_MM, Geometry, nearest_thick
from thinslice.volume import Volume, reorient


@dataclass(frozen=True)
class PlacedThick:
    """Thick slices on the columns of a thin grid.

    Attributes:
        hu: (thick slices, height, width) HU.
        geometry: of the thick slices.
        centres: thin index on which each is centred.
        factor: thin slices per thick interval.
    """

    hu: npt.NDArray[Any]
    geometry: Geometry
    centres: tuple[int, ...]
    factor: int

    def nearest(self, index: int) -> tuple[int, int]:
        """The thick slice nearest to a thin one (`thinslice.geometry.nearest_thick`), and the distance of their centres
        in thin slices.

        >>> thick = Volume(np.zeros((3, 1, 1), np.int16), Geometry((3, 1, 1), (4.0, 1.0, 1.0)))
        >>> placed = index_thick(thick, Geometry((9, 1, 1), (1.0, 1.0, 1.0)))
        >>> placed.nearest(1), placed.nearest(2), placed.nearest(8)
        ((0, 1), (1, 2), (2, 0))
        """
        thick = min(max(nearest_thick(index - self.centres[0], self.factor), 0), len(self.centres) - 1)
        return thick, abs(self.centres[thick] - index)


def place_thick(thick: Volume, grid: Geometry) -> PlacedThick:
    """Thick slices placed on a thin grid by position.

    Raises:
        GeometryError: they are not centred on thin slices, or do not cover the plane of the grid.
    """
    moved = reorient(thick, grid)
    factor = max(1, round(moved.geometry.spacing_mm[0] / grid.spacing_mm[0]))
    depth = moved.geometry.shape[0]
    first = np.array(grid.index_at(moved.geometry.origin_mm))
    start = np.round(first).astype(int)
    steps = [1.0 if step is None else step for step in grid.spacing_mm]
    corner = (depth - 1.0, grid.shape[1] - 1.0, grid.shape[2] - 1.0)
    last = np.array(grid.index_at(moved.geometry.position_mm(corner)))
    expected = start + np.array([(depth - 1) * factor, grid.shape[1] - 1, grid.shape[2] - 1])
    apart = max(float(np.abs((first - start) * steps).max()), float(np.abs((last - expected) * steps).max()))
    if apart > REGISTRATION_TOLERANCE_MM:
        raise GeometryError(
            f"The thick slices lie {apart:.2f} mm off the thin grid (tolerance {REGISTRATION_TOLERANCE_MM} mm), so the "
            "two cannot be compared; give the thick series that the estimate was made from."
        )
    begin = -start[1:]
    stop = begin + grid.shape[1:]
    if begin.min() < 0 or np.any(stop > moved.geometry.shape[1:]):
        raise GeometryError("The thick slices do not cover the plane of the thin volumes; give the whole thick series.")
    centres = tuple(int(start[0] + k * factor) for k in range(depth))
    window = moved.hu[:, begin[0] : stop[0], begin[1] : stop[1]]
    return PlacedThick(window, moved.geometry, centres, factor)


def index_thick(thick: Volume, grid: Geometry) -> PlacedThick:
    """Thick slices placed by index: slice k is centred on thin slice factor * k, positions are ignored.

    Raises:
        GeometryError: the numbers of slices have no whole factor, or the planes differ in size.
    """
    depth = thick.geometry.shape[0]
    factor, rest = divmod(grid.shape[0] - 1, max(1, depth - 1))
    if rest or factor < 1 or depth < 2 or thick.geometry.shape[1:] != grid.shape[1:]:
        raise GeometryError(
            f"{thick.geometry.shape} thick voxels do not belong to {grid.shape} thin ones by index; align by world "
            "position."
        )
    return PlacedThick(thick.hu, thick.geometry, tuple(k * factor for k in range(depth)), factor)
