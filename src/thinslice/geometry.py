"""Grid of voxel positions in the patient: a frozen value, apart from the voxels.

One axis order everywhere: (depth, height, width), depth being the through-plane axis. World coordinates are LPS
millimetres (x to the patient's left, y to posterior, z to superior), as in DICOM; NIfTI's RAS is reached by
`LPS_TO_RAS` and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thinslice.arguments import check_number, check_numbers, check_several, check_whole, check_whole_numbers
from thinslice.errors import GeometryError
from thinslice.typing import Doubles

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Flip of the first two world axes; its own inverse, so it also maps RAS to LPS."""

POSITION_TOLERANCE_MM = 1e-3
"""World coordinates that differ by less are the same."""

REGISTRATION_TOLERANCE_MM = 0.1
"""Two volumes lie on one grid when their voxels are closer than this: less than a fifth of the smallest usual spacing,
more than two systems' rounding of positions."""

DIRECTION_TOLERANCE = 1e-4
"""How far the direction columns may be from orthonormal (cosines written with six decimals stay well inside)."""

LARGEST_TILT_DEGREES = 45.0
"""Gantries tilt by 30 degrees at most; slices at a larger angle are another fault, and upright planes would be huge."""

LONGEST_AXIS = 2**31 - 1
"""Most voxels along an axis: those that 32 bits count."""

COSINE_OF_10_DEGREES = 0.985
"""Cosine of the largest angle at which slices still count as axial, coronal or sagittal."""

Direction = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

AXIAL_DIRECTION: Direction = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""Depth to superior, height to posterior, width to the left: a plain axial scan."""


def nearest_thick(thin_index: int, factor: float) -> int:
    """The thick slice nearest to a thin one; halfway between two, the upper one, as interpolation by copying takes it.

    Args:
        thin_index: thin slice, from 0; an integer array gives an array.
        factor: thin slices per thick interval; no whole number for thin slices at a distance of their own.

    Examples:
        At factor 4, thin slices 0 and 1 belong to thick slice 0, and 2, halfway to thick slice 1 at thin slice 4,
        to thick slice 1.

    >>> [nearest_thick(t, 4) for t in range(7)]
    [0, 0, 1, 1, 1, 1, 2]
    """
    if isinstance(factor, int):
        return (2 * thin_index + factor) // (2 * factor)
    return int(thin_index / factor + 0.5)


def orientation_name(normal: tuple[float, ...]) -> str:
    """Plane of slices with this LPS normal: "axial", "coronal", "sagittal", or "oblique" beyond 10 degrees from all.

    >>> orientation_name((0.0, 0.0, 1.0)), orientation_name((0.0, 0.5, 0.866))
    ('axial', 'oblique')
    """
    sizes = [abs(component) for component in normal]
    largest = max(sizes)
    return ("sagittal", "coronal", "axial")[sizes.index(largest)] if largest >= COSINE_OF_10_DEGREES else "oblique"


@dataclass(frozen=True)
class Geometry:
    """The sampling grid of a volume in world coordinates.

    Attributes:
        shape: voxels along (depth, height, width).
        spacing_mm: distance of voxel centres along (depth, height, width), positive; an in-plane one that the
            source does not state is None.
        origin_mm: LPS (x, y, z) of the centre of voxel [0, 0, 0].
        direction: 3 x 3, row-major; its columns are the LPS unit vectors of the depth, height and width axes.
        thickness_mm: slice thickness (the extent over which a slice averages), mm; None where unknown.

    Raises:
        GeometryError: an empty shape, a spacing that is not positive and finite, or axes that are not orthonormal;
            resample a sheared grid first.
        ArgumentTypeError: a value of another type; the message describes what is taken.

    >>> thick = Geometry(shape=(4, 8, 8), spacing_mm=(5.0, 0.7, 0.7), thickness_mm=5.0)
    >>> thick.thin_grid(5).shape
    (16, 8, 8)
    >>> thick.thin_grid(5).position_mm((5, 0, 0)) == thick.position_mm((1, 0, 0))
    True
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float | None, float | None]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: Direction = AXIAL_DIRECTION
    thickness_mm: float | None = None

    def __post_init__(self) -> None:
        # Values are turned into plain tuples of floats so that equality, hashing and JSON behave.
        shape = check_whole_numbers("shape", self.shape, "three whole numbers of voxels")
        takes = "distances in mm along (depth, height, width)"
        steps = check_several("spacing_mm", self.spacing_mm, takes)
        spacing = tuple(None if step is None else check_number("spacing_mm", step, takes) for step in steps)
        takes = "three rows of three direction cosines"
        rows = [check_numbers("direction", row, takes) for row in check_several("direction", self.direction, takes)]
        matrix = np.array(rows) if len({len(row) for row in rows}) == 1 else np.empty((0, 0))
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "spacing_mm", spacing)
        object.__setattr__(self, "origin_mm", check_numbers("origin_mm", self.origin_mm, "three coordinates in mm"))
        object.__setattr__(self, "direction", tuple(rows))
        if len(shape) != 3 or not 1 <= min(shape) <= max(shape) <= LONGEST_AXIS:
            raise GeometryError(f"A volume needs three axes of 1 to {LONGEST_AXIS} voxels, not {shape}.")
        if len(spacing) != 3 or spacing[0] is None or not all(s is None or (np.isfinite(s) and s > 0) for s in spacing):
            raise GeometryError(f"Spacing must be positive and finite along every axis, not {spacing} mm.")
        if len(self.origin_mm) != 3 or not np.all(np.isfinite(self.origin_mm)):
            raise GeometryError("The origin must be three finite LPS coordinates in mm.")
        if matrix.shape != (3, 3) or not np.allclose(matrix.T @ matrix, np.eye(3), atol=DIRECTION_TOLERANCE):
            raise GeometryError(
                "The volume's axes are not at right angles (gantry tilt or shear); resample it to an upright grid."
            )
        if self.thickness_mm is None:
            return
        if not 0 < check_number("thickness_mm", self.thickness_mm, "a number of mm, or None") < np.inf:
            raise GeometryError(f"Slice thickness must be positive, not {self.thickness_mm} mm.")

    @property
    def affine_lps(self) -> Doubles:
        """4 x 4 from (depth, height, width) indices to LPS mm; an unknown in-plane spacing counts as 1 mm."""
        steps = np.array([1.0 if s is None else s for s in self.spacing_mm])
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(self.direction) * steps
        affine[:3, 3] = self.origin_mm
        return affine

    @property
    def affine_ras(self) -> Doubles:
        """4 x 4 from (depth, height, width) indices to RAS mm; an unknown in-plane spacing counts as 1 mm."""
        return np.asarray(LPS_TO_RAS @ self.affine_lps)

    @property
    def normal(self) -> Doubles:
        """LPS unit vector of the depth axis."""
        return np.asarray(self.direction)[:, 0]

    def position_mm(self, index: tuple[float, float, float]) -> tuple[float, float, float]:
        """LPS position of a voxel centre given by (depth, height, width) index, which may be fractional."""
        x, y, z = (self.affine_lps @ np.array([*_triple("index", index), 1.0]))[:3]
        return float(x), float(y), float(z)

    def index_at(self, position_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """Fractional (depth, height, width) index of an LPS position; the inverse of `position_mm`."""
        d, h, w = np.linalg.solve(self.affine_lps, np.array([*_triple("position_mm", position_mm), 1.0]))[:3]
        return float(d), float(h), float(w)

    def thin_grid(self, factor: int) -> Geometry:
        """The grid with `factor` thin slices per thick interval: thick slice k lies where thin slice factor * k lies.

        Thin slices are as thick as their spacing. Shape ((D - 1) * factor + 1, H, W); no extrapolation beyond the
        centres of the first and last thick slice. At factor 5, 60 thick slices of 5 mm become (60 - 1) * 5 + 1 = 296
        thin ones of 1 mm, and thick slice 7 lies where thin slice 35 lies.

        Raises:
            GeometryError: the factor is below 1; give a positive integer.
        """
        factor = check_whole("factor", factor, "a whole number from 1 on")
        if not 1 <= factor <= LONGEST_AXIS:
            raise GeometryError(f"The factor must be a positive integer, not {factor}.")
        return self.respaced(self.spacing_mm[0] / factor, (self.shape[0] - 1) * factor + 1)

    def respaced(self, spacing_mm: float, slices: int) -> Geometry:
        """The grid with other slices along the same line, from the same first slice on, as thick as their distance.

        Args:
            spacing_mm: distance of the slices.
            slices: their number.
        """
        return replace(
            self,
            shape=(check_whole("slices", slices), *self.shape[1:]),
            spacing_mm=(spacing_mm, *self.spacing_mm[1:]),
            thickness_mm=spacing_mm,
        )

    def crop(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Geometry:
        """The grid of voxels [start, stop) along each axis.

        Raises:
            GeometryError: the range leaves the grid; give one inside its shape.
        """
        start, stop = (check_whole_numbers("start and stop", ends, "three whole numbers") for ends in (start, stop))  # type: ignore[assignment]
        if len(start) != 3 or len(stop) != 3:
            raise GeometryError(f"A range has three ends along (depth, height, width), not {start} to {stop}.")
        shape = tuple(b - a for a, b in zip(start, stop, strict=True))
        if min(start) < 0 or any(b > n for b, n in zip(stop, self.shape, strict=True)):
            raise GeometryError(f"Cannot crop {self.shape} to [{start}, {stop}).")
        return replace(self, shape=shape, origin_mm=self.position_mm(start))  # type: ignore[arg-type]


def _triple(name: str, value: object) -> tuple[float, ...]:
    """Three finite numbers.

    Raises:
        GeometryError: another number of them, or one that is not finite.
    """
    numbers = check_numbers(name, value, "three numbers")
    if len(numbers) != 3 or not np.all(np.isfinite(numbers)):
        raise GeometryError(f"The argument {name} takes three finite numbers, not {numbers}.")
    return numbers
