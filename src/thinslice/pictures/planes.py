"""Anatomical planes of a volume, oriented as radiologists view them; and the box of the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.geometry import Geometry
from thinslice.intensity import DENSER_THAN_LUNG_HU

BODY_MARGIN_MM = 12.0
"""Air kept around the body where a picture is cropped to it."""

# World axes are LPS x, y, z. The plane across each: its name, the world axis that runs to the right of the picture and
# the one that runs down it, with the sign: radiological convention, patient's left on the right, head up.
_ACROSS = {
    2: ("axial", (0, 1), (1, 1)),
    1: ("coronal", (0, 1), (2, -1)),
    0: ("sagittal", (1, 1), (2, -1)),
}


SIDES = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}
"""Sides of the patient at the left, right, top and bottom of a picture."""


@dataclass(frozen=True)
class ViewPlane:
    """Orientation of one plane of an array in a picture.

    Attributes:
        name: "axial", "coronal" or "sagittal".
        normal: array axis (0 depth, 1 height, 2 width) across the plane.
        rows: array axis that runs down the picture.
        columns: array axis that runs to the right.
        flip_rows: whether the array runs up the picture instead.
        flip_columns: whether the array runs to the left instead.
    """

    name: str
    normal: int
    rows: int
    columns: int
    flip_rows: bool
    flip_columns: bool

    def show(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn a cut, its two array axes in ascending order, into a picture (rows down, columns right); a view."""
        picture = values if self.rows < self.columns else values.T
        return picture[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def planes_of(geometry: Geometry) -> dict[str, ViewPlane]:
    """The planes across each array axis, by anatomical name; axial first, then coronal, then sagittal.

    An oblique volume's planes are named after the anatomical plane nearest to them.

    >>> plane = planes_of(Geometry((4, 8, 8), (5.0, 0.7, 0.7)))["coronal"]
    >>> plane.normal, plane.rows, plane.columns, plane.flip_rows
    (1, 0, 2, True)
    """
    world = _world_axes(geometry)
    direction = np.asarray(geometry.direction)
    found: dict[str, ViewPlane] = {}
    for across in (2, 1, 0):
        name, (right, right_sign), (down, down_sign) = _ACROSS[across]
        columns, rows = world.index(right), world.index(down)
        found[name] = ViewPlane(
            name=name,
            normal=world.index(across),
            rows=rows,
            columns=columns,
            flip_rows=bool(direction[down, rows] * down_sign < 0),
            flip_columns=bool(direction[right, columns] * right_sign < 0),
        )
    return found


def steps_mm(geometry: Geometry) -> tuple[float, float, float]:
    """Spacing along (depth, height, width) in mm, an unknown one as 1."""
    depth, height, width = (1.0 if step is None else step for step in geometry.spacing_mm)
    return depth, height, width


@dataclass(frozen=True)
class Body:
    """Box of the body in a volume, in voxels of its own grid.

    Attributes:
        centre: (height, width) of its middle.
        start, stop: (height, width) of the box around it with a margin, half-open.
    """

    centre: tuple[int, int]
    start: tuple[int, int]
    stop: tuple[int, int]


def find_body(hu: npt.NDArray[Any], geometry: Geometry) -> Body:
    """Box of the body by HU, for the choice of planes to show, not for measurement.

    Args:
        hu: (depth, height, width) HU.
        geometry: its grid.

    Returns:
        The body's middle and box; those of the whole plane where no voxel is above `DENSER_THAN_LUNG_HU`.

    >>> hu = np.full((2, 100, 100), -1000, np.int16)
    >>> hu[:, 40:60, 30:50] = 40
    >>> find_body(hu, Geometry(hu.shape, (5.0, 1.0, 1.0)))
    Body(centre=(49, 39), start=(28, 18), stop=(72, 62))
    """
    # A few slices are enough; a table or a wire is thin, so quantiles ignore it.
    step = max(1, hu.shape[0] // 24)
    count = np.zeros(hu.shape[1:], dtype=np.int64)
    for plane in hu[::step]:
        count += plane > DENSER_THAN_LUNG_HU
    centre, start, stop = [], [], []
    for axis, extent in enumerate(hu.shape[1:]):
        profile = count.sum(axis=1 - axis)
        if profile.sum() == 0:
            centre.append(extent // 2)
            start.append(0)
            stop.append(extent)
            continue
        share = np.cumsum(profile) / profile.sum()
        margin = round(BODY_MARGIN_MM / steps_mm(geometry)[axis + 1])
        centre.append(int(np.searchsorted(share, 0.5)))
        start.append(max(0, int(np.searchsorted(share, 1e-3)) - margin))
        stop.append(min(extent, int(np.searchsorted(share, 1 - 1e-3)) + 1 + margin))
    return Body((centre[0], centre[1]), (start[0], start[1]), (stop[0], stop[1]))


def _world_axes(geometry: Geometry) -> list[int]:
    """The world axis nearest to each array axis, no two the same."""
    weight = np.abs(np.asarray(geometry.direction))
    world = [-1, -1, -1]
    for _ in range(3):
        axis_world, axis_array = (int(i) for i in np.unravel_index(np.argmax(weight), weight.shape))
        world[axis_array] = axis_world
        weight[axis_world, :] = weight[:, axis_array] = -1.0
    return world
