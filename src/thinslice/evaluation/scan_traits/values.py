"""Values of a scan: levels of even tissue, clipped ends, metal; and the overshoot that sharpening leaves at edges.

CT numbers are a scale: air lies at -1000 HU, fat about -100, muscle, blood and brain between 0 and 100. Means of even
patches show these levels through any noise. A scan of another contrast, another unit or another window has levels
where no tissue lies, and none where tissue should be.

Source: our own definitions; HU of tissues as in the International Commission on Radiation Units' report 46 (1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.even_tissue import patches_of
from thinslice.evaluation.clinical.tissues import NOISE_PATCH
from thinslice.evaluation.scan_traits.noise import is_flat
from thinslice.typing import Doubles

TISSUE_ABOVE_HU = -650.0
"""Levels below are lung and air."""

FAT_HU, SOFT_HU = (-140.0, -50.0), (-20.0, 130.0)
"""Levels [from, to) of fat, and of muscle, blood, brain and organs."""

NEAR_HU = (-450.0, 130.0)
"""Range about fat and soft tissue in which no other tissue has an even level."""

RAISED_HU = (130.0, 300.0)
"""Levels [from, to) of tissue with contrast."""

DENSE_HU = 300.0
"""Voxels above are bone or strong contrast."""

LOWEST_PERCENTILE = 0.5
"""Percentile of the levels that stands for the lowest."""

METAL_HU = 3000.0
"""No tissue lies above; most files cut HU off at 3071."""

CUT_ABOVE_HU, CUT_BELOW_HU = 2000.0, -900.0
"""A highest value below the one, or a lowest above the other, that many voxels share was cut off by a window."""

MIN_LEVELS = 200
"""Even patches below which levels are not judged."""

EDGE_HU = 300.0
"""Least height of an edge in plane."""

LUNG_SIDE_HU = (-930.0, -300.0)
"""Level of an edge's dark side: lung. Air is left out, as skin beside it is brighter than the fat below: a natural
overshoot."""

TISSUE_SIDE_HU = (-200.0, 300.0)
"""Level of an edge's bright side."""

FAR_PIXELS, NEAR_PIXELS = range(6, 11), range(3, 6)
"""Pixels from an edge on its dark side, and on its bright side, that give its levels."""

EDGE_LEVEL_SHARE = 0.2
"""Largest range of the dark side's pixels, as a share of the step."""

MIN_EDGES = 500
"""Edges below which the overshoot is not measured."""

EDGE_SLICES = 24
"""Slices, at even steps, in which edges and levels are looked for."""


@dataclass(frozen=True)
class ValueTraits:
    """Values of a scan.

    Attributes:
        lowest_hu: lowest level of even patches.
        familiar: share of the levels about fat and soft tissue that are those of fat or soft tissue.
        soft: share of the levels above lung that are soft tissue.
        raised: share of the levels above lung that are those of tissue with contrast.
        dense: share of the voxels above lung that are bone or strong contrast.
        cut_high, cut_low: share of the voxels at the highest and at the lowest value; 0 where that value is an end of
            the scale of CT (metal, padding, air).
        metal_ml: volume of voxels above `METAL_HU`.
        overshoot: height of an edge of the lung three pixels behind it less that five pixels behind it, as a share of
            the step, by the median of all edges; below 0 for edges that still rise. None where too few were found.
        edges: their number.
    """

    lowest_hu: float | None
    familiar: float | None
    soft: float | None
    raised: float | None
    dense: float | None
    cut_high: float
    cut_low: float
    metal_ml: float
    overshoot: float | None
    edges: int


def value_traits(hu: npt.NDArray[Any], voxel_mm3: float, *, padding_hu: float | None = None) -> ValueTraits:
    """Measure the values of a scan.

    Args:
        hu: (depth, height, width) HU.
        voxel_mm3: volume of a voxel.
        padding_hu: value outside the reconstruction, which is left out.
    """
    some = hu[:: max(1, len(hu) // EDGE_SLICES)]
    levels = even_levels(some)
    if padding_hu is not None:
        levels = levels[np.abs(levels - padding_hu) > 1.0]
    cut_low, cut_high = _cut_ends(some, padding_hu)
    overshoot, edges = edge_overshoot(some)
    tissue = levels[levels > TISSUE_ABOVE_HU]
    near = tissue[_within(tissue, NEAR_HU)]
    return ValueTraits(
        lowest_hu=float(np.percentile(levels, LOWEST_PERCENTILE)) if len(levels) >= MIN_LEVELS else None,
        familiar=float(np.mean(_within(near, FAT_HU) | _within(near, SOFT_HU))) if len(near) >= MIN_LEVELS else None,
        soft=float(np.mean(_within(tissue, SOFT_HU))) if len(tissue) >= MIN_LEVELS else None,
        raised=float(np.mean(_within(tissue, RAISED_HU))) if len(tissue) >= MIN_LEVELS else None,
        # Of voxels: where noise is strong, even patches of bone or of inverted lung are few.
        dense=_dense_share(some),
        cut_high=cut_high,
        cut_low=cut_low,
        metal_ml=float(np.count_nonzero(hu > METAL_HU)) * voxel_mm3 / 1000.0,
        overshoot=overshoot,
        edges=edges,
    )


def even_levels(hu: npt.NDArray[Any]) -> Doubles:
    """Means of all patches of `NOISE_PATCH` pixels that hold no edge, in HU.

    >>> hu = np.full((1, 14, 14), -100.0); hu[:, :, 9:] = 50.0
    >>> even_levels(hu).tolist()  # patches of columns 7 to 13 hold the edge
    [-100.0, -100.0]
    """
    found = [np.zeros(0)]
    for plane in hu:
        values = patches_of(plane, NOISE_PATCH)
        found.append(values[is_flat(values, in_noise=0.0)].mean(axis=-1))
    return np.concatenate(found)


def edge_overshoot(hu: npt.NDArray[Any]) -> tuple[float | None, int]:
    """How much edges of the lung fall again behind their rise, as a share of the step, and the number of edges.

    Args:
        hu: (depth, height, width) HU; edges are looked for along rows and columns, both ways.

    >>> row = np.where(np.arange(40) < 20, -850.0, 50.0); row[20:23] += 90.0
    >>> overshoot, _ = edge_overshoot(np.broadcast_to(row, (10, 80, 40)))
    >>> 0.05 < overshoot < 0.15
    True
    """
    falls: list[Doubles] = []
    for plane in hu:
        values = plane.astype(np.float32)
        falls += [_falls(turned) for turned in (values, values.T, values[:, ::-1], values.T[:, ::-1])]
    fall = np.concatenate(falls) if falls else np.zeros(0)
    return (float(np.median(fall)) if len(fall) >= MIN_EDGES else None), len(fall)


def _falls(plane: npt.NDArray[np.float32]) -> Doubles:
    """For each edge that rises along the rows: its share three pixels behind half height, less that five behind."""
    reach = FAR_PIXELS[-1]
    width = plane.shape[1] - 2 * reach
    if width <= 0:
        return np.zeros(0)
    # Few pixels are edges: they are found by two pixels alone, and the others are read for them only.
    behind, before = NEAR_PIXELS[1], FAR_PIXELS[2]
    rise = plane[:, reach + behind : reach + behind + width] - plane[:, reach - before : reach - before + width]
    rows, columns = np.nonzero(rise > EDGE_HU * (1.0 - EDGE_LEVEL_SHARE))
    columns += reach
    dark = np.stack([plane[rows, columns - step] for step in FAR_PIXELS])
    bright = np.stack([plane[rows, columns + step] for step in NEAR_PIXELS])
    low, high = dark.mean(axis=0), bright.mean(axis=0)
    height, half = high - low, 0.5 * (low + high)
    taken = (height > EDGE_HU) & _within(low, LUNG_SIDE_HU) & _within(high, TISSUE_SIDE_HU)
    taken &= np.ptp(dark, axis=0) < EDGE_LEVEL_SHARE * height
    taken &= (plane[rows, columns] < half) & (plane[rows, columns + 1] >= half)
    fall = (bright[0] - bright[-1])[taken] / height[taken]
    return np.asarray(fall, dtype=np.float64)


def _cut_ends(hu: npt.NDArray[Any], padding_hu: float | None) -> tuple[float, float]:
    """Shares of the voxels that hold the lowest and the highest value, where a window may have cut these off."""
    values = hu.reshape(-1) if padding_hu is None else hu[hu != padding_hu]
    if not values.size:
        return 0.0, 0.0
    low, high = values.min(), values.max()
    return (
        float(np.mean(values == low)) if low > CUT_BELOW_HU else 0.0,
        float(np.mean(values == high)) if high < CUT_ABOVE_HU else 0.0,
    )


def _dense_share(hu: npt.NDArray[Any]) -> float | None:
    tissue = np.count_nonzero(hu > TISSUE_ABOVE_HU)
    return float(np.count_nonzero(hu > DENSE_HU)) / tissue if tissue else None


def _within(values: npt.NDArray[Any], limits: tuple[float, float]) -> npt.NDArray[np.bool_]:
    return np.asarray((values >= limits[0]) & (values < limits[1]))
