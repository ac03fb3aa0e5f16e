"""Radiomic agreement: whether a method's features rank and scale regions as the features of the truth do.

Regions are cubes of lung and of soft tissue, the same for every method. For each of 93 features (first order and
texture, those of PyRadiomics without filters) Lin's concordance of estimate and truth over the regions of one tissue is
measured, and the share of features whose concordance reaches 0.85. Tissues are kept apart: over both together even a
poor feature would agree, because lung and soft tissue differ by 900 HU.

The features are those of the library fastrad (extra `radiomics`), with bins of 25 HU.

Source: concordance: Lin, Biometrics 45 (1989). Features: van Griethuysen et al., Cancer Res 77 (2017), and the Image
Biomarker Standardisation Initiative, Zwanenburg et al., Radiology 295 (2020). The regions are our own definition.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.lung_density import Mask
from thinslice.evaluation.clinical.tissues import TISSUES_HU

REGION_MM = 16.0
"""Edge of a cubic region."""

LEAST_EXTENT = 6
"""Voxels that a region has along each axis at least."""

MOST_REGIONS, LEAST_REGIONS = 24, 8
"""Regions of a tissue that are measured at most, and without which the tissue is not measured."""

LUNG_SHARE, SOFT_SHARE = 0.75, 0.9
"""Share of a region's voxels that are lung (vessels are not), or fat and soft tissue."""

CONCORDANT = 0.85
"""Concordance from which a feature counts as kept."""

BIN_WIDTH_HU = 25.0

CLASSES = ("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
"""Classes of features: all that depend on HU."""

REDUNDANT = ("firstorder:standard_deviation", "gldm:gray_level_non_uniformity_normalized")
"""Features that PyRadiomics leaves out, because another one determines them."""

MISSING = (
    "Radiomic agreement was not measured, because the package fastrad is not installed; install the extra radiomics."
)
"""Sentence where the library is not there."""

Region = tuple[slice, slice, slice]
"""Voxels of a region along (depth, height, width)."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of a method's features with those of the truth in one tissue.

    Attributes:
        regions: number of regions.
        concordant_percent: share of features with a concordance of 0.85 or more.
        median: middle concordance.
        concordance: feature -> Lin's concordance; a feature that has one value in all regions of the truth is left out.
    """

    regions: int
    concordant_percent: float
    median: float
    concordance: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "regions": self.regions,
            "features": len(self.concordance),
            "concordant_percent": self.concordant_percent,
            "median": self.median,
            "concordance": self.concordance,
        }


def is_installed() -> bool:
    """Whether the library of features is installed; it is not loaded."""
    return importlib.util.find_spec("fastrad") is not None


def find_regions(
    truth: npt.NDArray[Any], lung: Mask, spacing_mm: Sequence[float | None], inner: range
) -> dict[str, list[Region]]:
    """Cubes of lung and of soft tissue, spread evenly over those that a lattice offers.

    Args:
        truth: (depth, height, width) HU.
        lung: same shape, True in the lung.
        spacing_mm: along (depth, height, width); an unknown one counts as 1 mm.
        inner: thin slices in which regions may lie.

    Returns:
        "lung" and "soft" -> regions; at most `MOST_REGIONS` of each.

    >>> truth = np.full((20, 40, 40), -850.0); truth[:, :, 20:] = 40.0
    >>> found = find_regions(truth, truth < -500, (2.0, 2.0, 2.0), range(2, 18))
    >>> {tissue: len(regions) for tissue, regions in found.items()}, found["soft"][0]
    ({'lung': 20, 'soft': 20}, (slice(2, 10, None), slice(0, 8, None), slice(24, 32, None)))
    """
    extents = [max(LEAST_EXTENT, round(REGION_MM / (step or 1.0))) for step in spacing_mm]
    found: dict[str, list[Region]] = {"lung": [], "soft": []}
    low, high = TISSUES_HU["fat"][0], TISSUES_HU["soft"][1]
    starts = [
        range(begin, end - extent + 1, extent)
        for (begin, end), extent in zip(
            ((inner.start, inner.stop), (0, truth.shape[1]), (0, truth.shape[2])), extents, strict=True
        )
    ]
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                region = slice(z, z + extents[0]), slice(y, y + extents[1]), slice(x, x + extents[2])
                share = float(np.mean(lung[region]))
                if share >= LUNG_SHARE:
                    found["lung"].append(region)
                elif share == 0.0:
                    values = truth[region]
                    if np.mean((values >= low) & (values < high)) >= SOFT_SHARE:
                        found["soft"].append(region)
    return {tissue: _spread(regions) for tissue, regions in found.items()}


def features_of(hu: npt.NDArray[Any]) -> dict[str, float]:
    """Features of one region.

    Args:
        hu: (depth, height, width) HU of the region, all of which counts.

    Returns:
        Feature, as in "glcm:contrast" -> value; those that are not finite are left out.
    """
    import torch
    from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage

    settings = FeatureSettings(feature_classes=list(CLASSES), bin_width=BIN_WIDTH_HU, device="cpu")
    voxels = torch.from_numpy(np.array(hu, dtype=np.float32))
    found = FeatureExtractor(settings).extract(MedicalImage(voxels), Mask(torch.ones_like(voxels)))
    return {name: float(v) for name, v in found.items() if name not in REDUNDANT and math.isfinite(v)}


def region_features(hu: npt.NDArray[Any], regions: Mapping[str, Sequence[Region]]) -> dict[str, list[dict[str, float]]]:
    """Tissue -> features of each of its regions; a tissue of fewer than `LEAST_REGIONS` is left out.

    Args:
        hu: (depth, height, width) HU, as the volume in which the regions were found.
        regions: of `find_regions`.
    """
    return {
        tissue: [features_of(hu[region]) for region in found]
        for tissue, found in regions.items()
        if len(found) >= LEAST_REGIONS
    }


def agreement(
    estimate: Mapping[str, Sequence[Mapping[str, float]]], truth: Mapping[str, Sequence[Mapping[str, float]]]
) -> dict[str, Agreement | None]:
    """Agreement of two results of `region_features`, by tissue; None for a tissue that was not measured.

    >>> values = [{"firstorder:mean": float(n), "same": 1.0} for n in range(8)]
    >>> found = agreement({"lung": values}, {"lung": values})
    >>> found["lung"].concordance, found["lung"].concordant_percent, found["soft"]
    ({'firstorder:mean': 1.0}, 100.0, None)
    """
    result: dict[str, Agreement | None] = {"lung": None, "soft": None}
    for tissue, known in truth.items():
        own = estimate[tissue]
        names = [name for name in known[0] if all(name in features for features in (*known, *own))]
        pairs = {name: ([one[name] for one in own], [one[name] for one in known]) for name in names}
        values = {name: concordance(*pair) for name, pair in pairs.items()}
        kept = {name: value for name, value in values.items() if value is not None}
        if kept:
            reached = sum(value >= CONCORDANT for value in kept.values())
            middle = float(np.median(list(kept.values())))
            result[tissue] = Agreement(len(known), 100.0 * reached / len(kept), middle, kept)
    return result


def concordance(estimate: Sequence[float], truth: Sequence[float]) -> float | None:
    """Lin's concordance correlation: 1 where all pairs are equal; a shift or another scale lowers it.

    Args:
        estimate, truth: values of the same regions.

    Returns:
        None where the truth has one value alone, so that nothing could agree.

    >>> concordance([1, 2, 3], [1, 2, 3]), concordance([3, 2, 1], [1, 2, 3]), concordance([1, 2], [5, 5])
    (1.0, -1.0, None)
    >>> round(concordance([2, 3, 4], [1, 2, 3]), 3)
    0.571
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (estimate, truth))
    apart = y - y.mean()
    if float(np.abs(apart).max()) <= 1e-9 * max(1.0, float(np.abs(y).max())):
        return None
    covariance = float(np.mean((x - x.mean()) * apart))
    return 2.0 * covariance / float(x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def _spread(regions: list[Region]) -> list[Region]:
    """At most `MOST_REGIONS`, evenly spaced in the order of the lattice."""
    if len(regions) <= MOST_REGIONS:
        return regions
    return [regions[int(place)] for place in np.linspace(0, len(regions) - 1, MOST_REGIONS)]
