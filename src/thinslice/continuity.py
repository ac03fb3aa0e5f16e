"""Whether every slice fits its neighbours and is one of its own, from the voxels alone.

A slice whose compressed pixels were damaged, whose rescaling is another one, or that belongs to another patient decodes
without an error. It differs from both neighbours by far more than they differ from each other, while anatomy changes
little by little. And no two slices of a scanner are alike to the last voxel: their noise differs.

Source: our own measure and thresholds. On the project's CT of chests, heads, abdomens and phantoms, 0.8 to 8 mm apart,
the ratio reaches 1.6 inside a volume, and 2.1 at its ends (6 where an end slice lies outside a phantom).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.typing import Doubles

BLOCKS = 8
"""Most blocks along height and along width that are compared: damage may lie in one part of a slice alone."""

LEAST_PIXELS = 8
"""Fewest pixels along each edge of a block; the mean of fewer is noise."""

SAMPLES = 16
"""Pixels sampled along each edge of a block."""

COMPARED_HU = (-1024.0, 1500.0)
"""Values are compared within this range: padding and metal count no more than air and bone."""

FLOOR_HU = 30.0
"""Added to the distance of the neighbours, which is near 0 in air and in noiseless images."""

UNLIKE_INSIDE, UNLIKE_AT_END = 2.5, 4.0
"""Ratios from which on a slice is unlike its neighbours: inside a volume, and at its ends, where it has one alone."""

SHOWN = 3
"""Slices named in a sentence; the others are counted."""


@dataclass(frozen=True)
class UnlikeSlice:
    """A slice that does not fit its neighbours.

    Attributes:
        slice_index: from 0.
        ratio: its distance from the nearer neighbour over the distance of the slices beside it, in the worst block.
    """

    slice_index: int
    ratio: float


def unlike_slices(hu: npt.NDArray[Any]) -> list[UnlikeSlice]:
    """The slices that do not fit their neighbours; none of fewer than four slices.

    Args:
        hu: (depth, height, width) HU.

    >>> hu = np.full((6, 64, 64), 40.0)
    >>> hu[3, 32:] = -800
    >>> [found.slice_index for found in unlike_slices(hu)]
    [3]
    """
    depth = len(hu)
    if depth < 4:
        return []
    near, far = _distances(hu)
    inside = np.minimum(near[:-1], near[1:]) / (far + FLOOR_HU)
    first = np.minimum(near[0], far[0]) / (near[1] + FLOOR_HU)
    last = np.minimum(near[-1], far[-1]) / (near[-2] + FLOOR_HU)
    ratios = [float(blocks.max()) for blocks in (first, *inside, last)]
    limits = [UNLIKE_AT_END, *[UNLIKE_INSIDE] * (depth - 2), UNLIKE_AT_END]
    return [UnlikeSlice(k, ratio) for k, (ratio, limit) in enumerate(zip(ratios, limits, strict=True)) if ratio > limit]


def repeated_slices(hu: npt.NDArray[Any]) -> list[int]:
    """The slices that hold the voxels of the slice before; none where all slices are alike, as in a phantom.

    Args:
        hu: (depth, height, width) HU. A slice of one value throughout repeats nothing.

    >>> hu = np.arange(4 * 2 * 2).reshape(4, 2, 2)
    >>> hu[2] = hu[1]
    >>> repeated_slices(hu)
    [2]
    """
    found = [k for k in range(1, len(hu)) if _are_same(hu[k - 1], hu[k]) and np.ptp(hu[k]) > 0]
    return found if len(found) < len(hu) - 1 else []


def continuity_warnings(hu: npt.NDArray[Any]) -> list[str]:
    """What a user should know about slices that do not fit their neighbours, or that repeat one.

    Args:
        hu: (depth, height, width) HU.
    """
    warnings = []
    unlike = unlike_slices(hu)
    if unlike:
        worst = max(each.ratio for each in unlike)
        warnings.append(
            f"{len(unlike)} slice(s) differ from their neighbours far more than these from each other (number "
            f"{_listed([each.slice_index for each in unlike])}, counted from 0; up to {worst:.1f} times as much), as "
            "where pixels are damaged or a slice belongs elsewhere; look at them before you trust the result."
        )
    repeated = repeated_slices(hu)
    if repeated:
        warnings.append(
            f"{len(repeated)} slice(s) hold exactly the voxels of the slice before (number {_listed(repeated)}, "
            "counted from 0), which no scanner makes: slices may have been lost, or copied to fill a gap."
        )
    return warnings


def _are_same(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    # A few rows decide almost always.
    return np.array_equal(one[::64], other[::64]) and np.array_equal(one, other)


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN]))
    return f"{shown} and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else shown


def _distances(hu: npt.NDArray[Any]) -> tuple[Doubles, Doubles]:
    """Mean absolute differences by block: of neighbours (depth - 1, ...), and of slices two apart (depth - 2, ...)."""
    steps = [max(1, size // (BLOCKS * SAMPLES)) for size in hu.shape[1:]]
    sampled = hu[:, :: steps[0], :: steps[1]]
    blocks = [min(BLOCKS, max(1, size // LEAST_PIXELS)) for size in sampled.shape[1:]]
    starts = [
        np.linspace(0, size, count + 1).astype(int)[:-1] for size, count in zip(sampled.shape[1:], blocks, strict=True)
    ]
    planes = (np.clip(plane, *COMPARED_HU).astype(np.float64) for plane in sampled)
    near, far = [], []
    before: npt.NDArray[np.float64] | None = None
    for one, other in pairwise(planes):
        near.append(_by_block(np.abs(other - one), starts))
        if before is not None:
            far.append(_by_block(np.abs(other - before), starts))
        before = one
    return np.array(near), np.array(far)


def _by_block(plane: Doubles, starts: list[npt.NDArray[np.int_]]) -> Doubles:
    sums = np.add.reduceat(np.add.reduceat(plane, starts[0], axis=0), starts[1], axis=1)
    heights, widths = (np.diff([*edges, size]) for edges, size in zip(starts, plane.shape, strict=True))
    return np.asarray(sums / np.outer(heights, widths))
