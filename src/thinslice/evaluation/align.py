"""Alignment of two volumes by world position: reorientation by whole axes, and cropping to their overlap.

There is no interpolation: resampling an estimate before scoring would change its score.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from thinslice.errors import GeometryError
from thinslice.geometry import REGISTRATION_TOLERANCE_MM, Geometry
from thinslice.volume import Volume, reorient

_AXES = ("depth", "height", "width")


def overlap_by_position(estimate: Volume, reference: Volume) -> tuple[Volume, Volume, tuple[str, ...]]:
    """Parts of both volumes that lie at the same place, voxel for voxel.

    The estimate's axes are permuted and flipped to run as the reference's do (a DICOM and a NIfTI of one scan
    may differ so); then both are cropped to their common extent. An unknown in-plane spacing counts as 1 mm.

    Args:
        estimate: the volume under test.
        reference: the volume whose axes and grid are kept.

    Returns:
        The estimate's part, the reference's part (equal shapes, views) and sentences on the steps taken.

    Raises:
        GeometryError: axes not parallel, spacings unequal, grids offset by a fraction of a voxel, or no
            overlap; align by index if the headers are known to be wrong.
    """
    notes: list[str] = []
    moved = reorient(estimate, reference.geometry)
    if moved is not estimate:
        notes.append("The estimate's axes were permuted or flipped to run as the reference's.")
    grid, moved_grid = reference.geometry, moved.geometry
    if None in grid.spacing_mm or None in moved_grid.spacing_mm:
        notes.append("An in-plane spacing is unknown and counts as 1 mm for the alignment.")
    _check_spacing(moved_grid, grid)
    offset = np.array(grid.index_at(moved_grid.origin_mm))
    whole = np.round(offset).astype(int)
    start = np.maximum(whole, 0)
    stop = np.minimum(whole + moved_grid.shape, grid.shape)
    if np.any(stop <= start):
        axis = _AXES[int(np.argmax(start - stop))]
        raise GeometryError(
            f"Estimate and reference do not overlap in space (along {axis}); check that they are of one "
            "scan, or align by index."
        )
    _check_corners(moved_grid, grid, whole, start, stop)
    ours = moved.crop(_triple(start - whole), _triple(stop - whole))
    theirs = reference.crop(_triple(start), _triple(stop))
    if ours.hu.shape != moved.hu.shape or theirs.hu.shape != reference.hu.shape:
        notes.append(
            f"Cropped to the overlap {_size(theirs)}: estimate {_size(moved)}, reference {_size(reference)} voxels."
        )
    return ours, theirs, tuple(notes)


def _check_spacing(estimate: Geometry, reference: Geometry) -> None:
    for axis, ours, theirs in zip(_AXES, estimate.spacing_mm, reference.spacing_mm, strict=True):
        a, b = 1.0 if ours is None else ours, 1.0 if theirs is None else theirs
        if abs(a - b) > REGISTRATION_TOLERANCE_MM / 10 and abs(a - b) > 1e-3 * b:
            unknown = " (unknown, counted as 1)" if ours is None or theirs is None else ""
            raise GeometryError(
                f"Estimate and reference have unequal spacing along {axis}: {a:g} and {b:g} mm{unknown}; "
                "upscale to the reference's spacing first, or align by index."
            )


def _check_corners(
    estimate: Geometry,
    reference: Geometry,
    whole: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
) -> None:
    """Refuse grids that differ at a corner of the overlap; where all corners agree, all voxels do."""
    for corner in product(*zip(start, stop - 1, strict=True)):
        theirs = np.array(reference.position_mm(_triple(np.array(corner))))
        ours = np.array(estimate.position_mm(_triple(np.array(corner) - whole)))
        apart = np.asarray(reference.direction).T @ (ours - theirs)
        if np.abs(apart).max() > REGISTRATION_TOLERANCE_MM:
            axis = int(np.abs(apart).argmax())
            raise GeometryError(
                f"The grids of estimate and reference are {abs(apart[axis]):.3f} mm apart along "
                f"{_AXES[axis]}, not a whole number of voxels (tolerance {REGISTRATION_TOLERANCE_MM} mm); "
                "they cannot be compared voxel for voxel. Resample one onto the other's grid, or align by "
                "index if a header is wrong."
            )


def _triple(values: np.ndarray) -> tuple[int, int, int]:
    a, b, c = (int(v) for v in values)
    return a, b, c


def _size(volume: Volume) -> str:
    return " x ".join(str(n) for n in volume.hu.shape)
