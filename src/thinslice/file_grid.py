"""A file's own voxel axes to (depth, height, width) and back: the axis of depth, and the positions of voxels.

Files of the x, y, z kind (NIfTI, NRRD, MetaImage) number their axes 0, 1, 2, the first running fastest. The array
of their voxels is therefore indexed here as [axis 2, axis 1, axis 0], called zyx order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from thinslice.arguments import check_whole
from thinslice.errors import GeometryError, UsageError
from thinslice.geometry import DIRECTION_TOLERANCE, LARGEST_TILT_DEGREES, LPS_TO_RAS, Direction, Geometry
from thinslice.options import option
from thinslice.typing import Doubles

FileAxes = tuple[int, int, int]
"""The file's axis for depth, height and width."""

CLEAR_MARGIN = 0.05
"""The largest spacing names the depth axis when no other comes within this fraction of it."""

SPACING_LIMITS_MM = (1e-4, 1e3)
"""Spacings outside are damage or a wrong unit, not a scan."""


def choose_axes(
    spacing_mm: Sequence[float], *, axis: int | None = None, slice_axis: int | None = None
) -> tuple[FileAxes, bool]:
    """Choose the file's axis for depth, height and width.

    Args:
        spacing_mm: spacing along the file's axes 0, 1, 2.
        axis: the depth axis that the user names; it overrides everything else.
        slice_axis: the file's own slice axis; used only where the spacing is not clear.

    Returns:
        The axes, and True when the depth axis is a guess: two spacings are largest and `axis` is None.

    Raises:
        UsageError: `axis` is not 0, 1 or 2; name one of these.

    >>> choose_axes((0.7, 0.7, 5.0))
    ((2, 1, 0), False)
    >>> choose_axes((5.0, 0.7, 0.7))
    ((0, 2, 1), False)
    >>> choose_axes((1.0, 1.0, 1.0))
    ((2, 1, 0), True)
    """
    ambiguous = False
    if axis is not None:
        if check_whole("axis", axis, "0, 1 or 2, or None") not in (0, 1, 2):
            raise UsageError(f"{option('axis')} must be 0, 1 or 2, the file's axis across the slices, not {axis}.")
        depth = axis
    else:
        widest = sorted(range(3), key=lambda i: spacing_mm[i], reverse=True)
        depth = widest[0]
        ambiguous = spacing_mm[widest[1]] >= spacing_mm[depth] * (1.0 - CLEAR_MARGIN)
        if ambiguous:
            depth = 2 if slice_axis is None else slice_axis
    width, height = (i for i in range(3) if i != depth)
    return (depth, height, width), ambiguous


def ambiguity_warning(axes: FileAxes) -> str:
    """The warning for a file whose axis across the slices is not clear."""
    return (
        f"Two axes share the largest spacing, so the through-plane axis is a guess (axis {axes[0]}); "
        f"name it with {option('axis', 0)}, 1 or 2."
    )


def zyx_order(axes: FileAxes) -> tuple[int, int, int]:
    """The transposition of a (depth, height, width) array to the file's zyx order.

    Args:
        axes: the file's axis for depth, height and width.

    With axes (0, 2, 1) the file's axis 2 is height, axis 1 width and axis 0 depth: order (1, 2, 0).

    >>> zyx_order((2, 1, 0)), zyx_order((0, 2, 1))
    ((0, 1, 2), (1, 2, 0))
    """
    return axes.index(2), axes.index(1), axes.index(0)


def check_spacing(affine: Doubles, name: str) -> Doubles:
    """The spacings in mm of an index-to-world matrix; refuses one that no scan has.

    Args:
        affine: 4 x 4, file indices to mm.
        name: of the file, for the message.

    Returns:
        Spacing along the file's axes 0, 1, 2, mm.

    Raises:
        GeometryError: not finite, an axis without extent, or absurd spacing; repair the header.
    """
    if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
        raise GeometryError(f"{name!r} has an orientation matrix with numbers that are not finite; repair its header.")
    spacing = np.asarray(np.sqrt((affine[:3, :3] ** 2).sum(axis=0)))
    low, high = SPACING_LIMITS_MM
    if np.any(spacing < low) or np.any(spacing > high):
        shown = ", ".join(f"{s:g}" for s in spacing)
        raise GeometryError(
            f"{name!r} has voxel spacings of {shown} mm, of which at least one is impossible; repair its header."
        )
    return spacing


def tilt_degrees(affine: Doubles, axes: FileAxes, name: str, *, remedy: str = "") -> float:
    """The angle between the slices' normal and the axis along which a file stacks them; 0 for right angles.

    Args:
        affine: 4 x 4, file indices to mm, as `check_spacing` accepts it.
        axes: the file's axis for depth, height and width.
        name: of the file, for the message.
        remedy: where a tilt is refused, what to do about it; empty where a tilt is accepted.

    Raises:
        GeometryError: the axes are not at right angles, and this is no gantry tilt, or one that is refused; resample
            the file to an upright grid first, or have the tilt removed.

    >>> sheared = np.array([[0.7, 0, 0, 0], [0, 0.7, 1, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    >>> round(tilt_degrees(sheared, (2, 1, 0), "a.nii"), 2)
    11.31
    """
    cosines = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    skew = float(np.abs(cosines.T @ cosines - np.eye(3)).max())
    if skew <= DIRECTION_TOLERANCE:
        return 0.0
    depth, height, width = (cosines[:, axis] for axis in axes)
    normal = np.cross(width, height)
    degrees = math.degrees(math.atan2(float(np.linalg.norm(np.cross(normal, depth))), abs(float(normal @ depth))))
    if abs(float(height @ width)) > DIRECTION_TOLERANCE or degrees > LARGEST_TILT_DEGREES:
        raise GeometryError(
            f"{name!r} has axes {math.degrees(math.asin(min(skew, 1.0))):.2g} degrees away from right angles, which is "
            "no gantry tilt; resample it to an upright grid first."
        )
    if remedy:
        raise GeometryError(
            f"{name!r} has slices stacked at {degrees:.2g} degrees to their normal instead of at right angles (gantry "
            f"tilt, or shear); {remedy}."
        )
    return degrees


def geometry_from_affine(affine_lps: Doubles, shape: Sequence[int], axes: FileAxes) -> Geometry:
    """The grid of a file's voxels in (depth, height, width) order.

    Args:
        affine_lps: 4 x 4, file indices (axes 0, 1, 2) to LPS mm.
        shape: voxels along the file's axes 0, 1, 2.
        axes: the file's axis for depth, height and width.
    """
    columns = affine_lps[:3, list(axes)]
    spacing = np.sqrt((columns**2).sum(axis=0))
    first, second, third = (columns / spacing).tolist()
    direction: Direction = (tuple(first), tuple(second), tuple(third))
    return Geometry(
        shape=(shape[axes[0]], shape[axes[1]], shape[axes[2]]),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin_mm=(float(affine_lps[0, 3]), float(affine_lps[1, 3]), float(affine_lps[2, 3])),
        direction=direction,
    )


def affine_in_file_order(geometry: Geometry, axes: FileAxes, *, world: str) -> tuple[Doubles, tuple[int, int, int]]:
    """The 4 x 4 matrix and the shape to write for a file with these axes; undoes `geometry_from_affine`.

    Args:
        geometry: of the (depth, height, width) volume; an unknown in-plane spacing counts as 1 mm.
        axes: the file's axis for depth, height and width.
        world: "LPS" or "RAS".

    >>> thick = Geometry(shape=(4, 8, 16), spacing_mm=(5.0, 0.7, 0.7))
    >>> affine, shape = affine_in_file_order(thick, (2, 1, 0), world="LPS")
    >>> shape, [float(affine[i, i]) for i in range(3)]
    ((16, 8, 4), [0.7, 0.7, 5.0])
    """
    source = geometry.affine_lps if world == "LPS" else LPS_TO_RAS @ geometry.affine_lps
    affine = source.copy()
    shape = [0, 0, 0]
    for axis, file_axis in enumerate(axes):
        affine[:, file_axis] = source[:, axis]
        shape[file_axis] = geometry.shape[axis]
    return affine, (shape[0], shape[1], shape[2])


def largest_shift_mm(first: Doubles, second: Doubles, shape: Sequence[int]) -> float:
    """The largest distance in mm between the positions of one voxel under two matrices, over the corners of a grid.

    A distance of linear maps is largest at a corner, so no voxel of the grid exceeds it.

    Args:
        first: 4 x 4, file indices to mm.
        second: another.
        shape: voxels along the file's axes 0, 1, 2.

    >>> largest_shift_mm(np.eye(4), np.diag([1.0, 1.0, 1.5, 1.0]), (1, 1, 3))
    1.0
    """
    steps = [np.array([0.0, n - 1.0]) for n in shape]
    corners = np.stack([*(g.ravel() for g in np.meshgrid(*steps, indexing="ij")), np.ones(8)])
    apart = ((first - second) @ corners)[:3]
    return float(np.sqrt((apart**2).sum(axis=0)).max())
