"""Lung densitometry: the shares LAA-950 and LAA-910, the 15th percentile, the mean density.

The lung is found once, in the thin truth and in 3D, and used for every method and for the thick slices, so that
differences are those of HU and not of segmentations. Airways inside the lungs count as lung; gas elsewhere is left out
by its mean density.

Source: LAA-950: Gevenois et al., Am J Respir Crit Care Med 154 (1996). LAA-910: Müller et al., Chest 94 (1988). Perc15:
Parr et al., Thorax 61 (2006); it is often given in g/L, which is HU + 1000.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.tissue_bias import FLOOR_HU, cell_weights, inner_thick
from thinslice.evaluation.clinical.tissues import EMPHYSEMA_HU, LOW_DENSITY_HU, LUNG_BELOW_HU, LUNG_MIN_AREA
from thinslice.geometry import Geometry

LUNG_MEAN_HU = (-960.0, -600.0)
"""A dark region is lung when its mean lies in this range: gas in stomach and bowel lies below."""

LUNG_MIN_ML = 20.0
"""Smallest volume of a piece of lung."""

MAX_AIR_SHARE = 0.1
"""Share of voxels below `LUNG_MEAN_HU` above which a dark region at the picture's border is air around the patient, not
lung that the field of view cuts."""

_LOWEST, _HIGHEST = -1100, 400
"""Ends of the histogram in HU."""

Mask = npt.NDArray[np.bool_]
"""True where a voxel belongs to the lung; (depth, height, width) or one slice of it."""


@dataclass(frozen=True)
class Densitometry:
    """Densities of a lung.

    Attributes:
        laa950_percent: share of the lung below -950 HU.
        laa910_percent: share of the lung below -910 HU.
        perc15_hu: HU below which 15 % of the lung lie.
        mean_hu: mean lung density.
        litres: volume of lung measured.
    """

    laa950_percent: float
    laa910_percent: float
    perc15_hu: float
    mean_hu: float
    litres: float

    def to_json(self) -> dict[str, float]:
        """JSON values."""
        return asdict(self)


def voxel_mm3(geometry: Geometry) -> float:
    """Volume of a voxel in mm3; an unknown spacing counts as 1 mm.

    >>> voxel_mm3(Geometry((4, 8, 8), (2.0, None, 0.5)))
    1.0
    """
    return float(np.prod([1.0 if step is None else step for step in geometry.spacing_mm]))


def find_lung(hu: npt.NDArray[Any], voxel_mm3: float) -> Mask:
    """Lung of a thin volume: dark regions of its slices without the air around the patient, in pieces as dense as lung.

    Args:
        hu: (depth, height, width) HU, the whole field of view: a crop may cut outside air into pieces.
        voxel_mm3: volume of a voxel.

    Returns:
        (depth, height, width), True in the lung.

    >>> hu = np.full((40, 60, 60), 40, np.int16); hu[5:35, 10:50, 10:50] = -850; hu[:, :5] = -1000
    >>> int(find_lung(hu, 1.0).sum())
    48000
    """
    from scipy.ndimage import label

    dark = np.stack([_dark(plane) for plane in hu])
    regions, count = label(dark, output=np.int32)
    voxels, total = np.zeros(count + 1), np.zeros(count + 1)
    for plane, values in zip(regions, hu, strict=True):
        voxels += np.bincount(plane.ravel(), minlength=count + 1)
        total += np.bincount(plane.ravel(), values.ravel(), minlength=count + 1)
    mean = total / np.maximum(voxels, 1)
    kept = (voxels * voxel_mm3 >= 1000.0 * LUNG_MIN_ML) & (mean > LUNG_MEAN_HU[0]) & (mean < LUNG_MEAN_HU[1])
    kept[0] = False
    return np.asarray(kept[regions], dtype=bool)


def densitometry(
    hu: npt.NDArray[Any], lung: Mask, factor: int, voxel_mm3: float, *, thick: bool = False
) -> Densitometry | None:
    """Densities of the lung, over the thin slices of all thick slices but the first and the last.

    Args:
        hu: thin slices ((depth - 1) * factor + 1, height, width), or the thick ones (depth, height, width).
        lung: the lung on the thin grid.
        factor: thin slices per thick interval.
        voxel_mm3: volume of a thin voxel.
        thick: whether `hu` are thick slices; a thick voxel is lung when half of its thin ones are.

    Returns:
        None where there is no lung.

    >>> lung = np.ones((10, 20, 20), bool); hu = np.full(lung.shape, -850.0); hu[:, :5] = -970.0
    >>> found = densitometry(hu, lung, 3, 1.0)
    >>> found.laa950_percent, found.laa910_percent, found.perc15_hu, found.mean_hu
    (25.0, 25.0, -970.0, -880.0)
    """
    weights = cell_weights(factor)
    half = len(weights) // 2
    histogram = np.zeros(_HIGHEST - _LOWEST + 1)
    total = emphysema = low = voxels = 0.0
    for k in inner_thick((lung.shape[0] - 1) // factor + 1):
        at = range(k * factor - half, k * factor + half + 1)
        if thick:
            share = np.einsum("n,nhw->hw", weights, lung[at.start : at.stop].astype(np.float64)) / weights.sum()
            chosen = [(hu[k][share >= 0.5], float(weights.sum()))]
        else:
            chosen = [(hu[i][lung[i]], float(weight)) for i, weight in zip(at, weights, strict=True)]
        for values, weight in chosen:
            bins = np.clip(np.round(values), _LOWEST, _HIGHEST).astype(np.intp) - _LOWEST
            histogram += weight * np.bincount(bins, minlength=len(histogram))
            total += weight * float(np.sum(values, dtype=np.float64))
            emphysema += weight * float(np.count_nonzero(values < EMPHYSEMA_HU))
            low += weight * float(np.count_nonzero(values < LOW_DENSITY_HU))
            voxels += weight * values.size
    if voxels == 0:
        return None
    reached = np.cumsum(histogram) / voxels
    place = int(np.searchsorted(reached, 0.15))
    return Densitometry(
        laa950_percent=100.0 * emphysema / voxels,
        laa910_percent=100.0 * low / voxels,
        perc15_hu=float(_LOWEST + place),
        mean_hu=total / voxels,
        litres=voxels * voxel_mm3 / 1e6,
    )


def _dark(plane: npt.NDArray[Any]) -> Mask:
    """Dark regions of a slice without the air around the patient.

    Where the field of view cuts through the ribs, lung reaches the picture's border and meets voxels that were not
    reconstructed. These belong to no region, and regions at the border that hold air are left out.
    """
    from scipy.ndimage import binary_fill_holes, label

    low = plane < LUNG_BELOW_HU
    regions, count = label(low & (plane > FLOOR_HU))
    size = np.bincount(regions.ravel(), minlength=count + 1)
    airy = np.bincount(regions.ravel(), (plane < LUNG_MEAN_HU[0]).ravel(), minlength=count + 1)
    kept = size >= LUNG_MIN_AREA
    kept[0] = False
    for border in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        touched = np.unique(border)
        kept[touched[airy[touched] > MAX_AIR_SHARE * size[touched]]] = False
    # Noise can take voxels of lung to the floor itself: they are filled in.
    return np.asarray(binary_fill_holes(kept[regions]) & low)
