"""Patches of even soft tissue, in which all variation is noise.

Thick slices choose them, so that they are the same for every method; the truth leaves out those in which a thin slice
holds bone or fat.

Source: our own definitions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.tissues import MAX_UNEVENNESS_HU, TISSUES_HU
from thinslice.typing import Doubles

TREND_TERMS = 6
"""Terms of the polynomial that `without_trend` takes away."""

Chosen = npt.NDArray[np.bool_]
"""(patches,): whether a patch counts, in the order of `patches_of`."""


def patches_of(plane: npt.NDArray[Any], extent: int) -> Doubles:
    """(patches, pixels) of a slice in reading order; rows and columns left over at its end are cut off.

    Args:
        plane: (height, width) HU.
        extent: height and width of a patch in pixels.

    >>> patches_of(np.arange(10).reshape(2, 5), 2).tolist()
    [[0.0, 1.0, 5.0, 6.0], [2.0, 3.0, 7.0, 8.0]]
    """
    height, width = (n // extent for n in plane.shape)
    cut = plane[: height * extent, : width * extent].astype(np.float64)
    tiles = cut.reshape(height, extent, width, extent).transpose(0, 2, 1, 3)
    return tiles.reshape(-1, extent**2)


def is_even(plane: npt.NDArray[Any], extent: int) -> Chosen:
    """Patches of a thick slice that are soft tissue throughout and hold no edge.

    Args:
        plane: (height, width) HU.
        extent: height and width of a patch in pixels.

    >>> plane = np.full((4, 8), 40.0); plane[:, 6:] = 120.0
    >>> is_even(plane, 4).tolist()
    [True, False]
    """
    tiles = patches_of(plane, extent)
    low, high = TISSUES_HU["soft"]
    soft = (tiles >= low).all(axis=1) & (tiles < high).all(axis=1)
    return np.asarray(soft & (unevenness_hu(tiles) < MAX_UNEVENNESS_HU))


def unevenness_hu(patches: Doubles) -> Doubles:
    """(patches,): difference of the means of the upper and the lower half, or of the left and the right: the larger.

    Args:
        patches: (patches, pixels) HU, square; a middle row or column belongs to no half.

    >>> step = np.where(np.arange(49) % 7 < 3, 0.0, 100.0)
    >>> unevenness_hu(np.stack([np.zeros(49), step])).tolist()
    [0.0, 100.0]
    """
    extent = _extent(patches)
    differences = []
    for place in np.divmod(np.arange(extent**2), extent):
        first, second = place < extent // 2, place >= extent - extent // 2
        differences.append(np.abs(patches[:, first].mean(axis=1) - patches[:, second].mean(axis=1)))
    return np.asarray(np.maximum(*differences))


def without_trend(patches: Doubles) -> Doubles:
    """(patches, pixels) less their best polynomial of `TREND_TERMS` terms, of second order in row and column.

    Args:
        patches: (patches, pixels) HU, square.

    >>> row, column = np.divmod(np.arange(25.0), 5)
    >>> bool(np.abs(without_trend((3.0 + row * column - column**2)[None])).max() < 1e-9)
    True
    """
    extent = _extent(patches)
    y, x = ((place - (extent - 1) / 2) / extent for place in np.divmod(np.arange(extent**2), extent))
    basis, _ = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1))
    return np.asarray(patches - (patches @ basis) @ basis.T)


def _extent(patches: Doubles) -> int:
    return math.isqrt(patches.shape[-1])


def is_within(plane: npt.NDArray[Any], extent: int) -> Chosen:
    """Patches of the truth that hold soft tissue and its noise alone.

    Args:
        plane: (height, width) HU.
        extent: height and width of a patch in pixels.

    >>> is_within(np.array([[90.0, 700.0]]), 1).tolist()
    [True, False]
    """
    tiles = patches_of(plane, extent)
    low, high = TISSUES_HU["soft"]
    return np.asarray((tiles > low - 100.0).all(axis=1) & (tiles < high + 100.0).all(axis=1))
