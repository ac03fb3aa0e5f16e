"""Noise that a method keeps in scans: the standard deviation within small patches of even soft tissue.

A volume smoother than a thin reconstruction looks better than it is. `thinslice.evaluation.clinical.noise_spectrum`
measures the same noise by frequency.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.even_tissue import is_even, is_within, patches_of
from thinslice.evaluation.clinical.tissue_bias import cell_weights, inner_thick
from thinslice.evaluation.clinical.tissues import NOISE_PATCH


def patch_noise(
    thin: npt.NDArray[Any], truth: npt.NDArray[Any], thick: npt.NDArray[Any], factor: int
) -> dict[str, Any]:
    """Standard deviation in patches of even soft tissue, chosen by the thick slices and the truth alone.

    A patch counts where the thick slice and both its neighbours are even soft tissue, so it is the same for every
    method.

    Args:
        thin: ((depth - 1) * factor + 1, height, width) HU.
        truth: thin truth of the same shape; patches in which it holds bone or fat are left out.
        thick: (depth, height, width) HU.
        factor: thin slices per thick interval.

    Returns:
        `patches`; `sd_hu`, root mean square over patches and slices; `by_offset_hu`, the same by distance from the
        nearest thick slice in thin slices; values are null without patches.
    """
    half = len(cell_weights(factor)) // 2
    squares, counts = np.zeros(half + 1), np.zeros(half + 1)
    weights = cell_weights(factor)
    for k in inner_thick(thick.shape[0]):
        even = np.logical_and.reduce([is_even(thick[near], NOISE_PATCH) for near in (k - 1, k, k + 1)])
        if not even.any():
            continue
        planes = range(k * factor - half, k * factor + half + 1)
        for i in planes:
            even &= is_within(truth[i], NOISE_PATCH)
        for offset, (i, weight) in enumerate(zip(planes, weights, strict=True), start=-half):
            tiles = patches_of(thin[i], NOISE_PATCH)[even]
            squares[abs(offset)] += weight * float(np.var(tiles, axis=1, ddof=1).sum())
            counts[abs(offset)] += weight * len(tiles)
    if counts.sum() == 0:
        return {"patches": 0, "sd_hu": None, "by_offset_hu": None}
    return {
        "patches": round(float(counts.sum())),
        "sd_hu": float(np.sqrt(squares.sum() / counts.sum())),
        "by_offset_hu": [float(np.sqrt(s / n)) if n else None for s, n in zip(squares, counts, strict=True)],
    }
