"""Patches of even soft tissue, in which all variation is noise.

Thick slices choose them, so that they are the same for every method; the truth leaves out those in which a thin slice
holds bone or fat.

Source: our own definitions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.tissues import MAX_UNEVENNESS_HU, TISSUES_HU
from thinslice.typing import Doubles

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
    row, column = np.divmod(np.arange(extent**2), extent)
    even = (tiles >= low).all(axis=1) & (tiles < high).all(axis=1)
    for place in (row, column):
        first, second = place < extent // 2, place >= extent - extent // 2
        even &= np.abs(tiles[:, first].mean(axis=1) - tiles[:, second].mean(axis=1)) < MAX_UNEVENNESS_HU
    return np.asarray(even)


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
