"""Downstream measures of a suite: what a measurement or a program makes of a method's volume, beside the truth's.

Per case: lung density, radiomic agreement, agreement of segmentations. Per method: the phantom with known nodules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt

from thinslice.data.manifest import Pair
from thinslice.evaluation.clinical import lung_density, radiomics
from thinslice.evaluation.clinical.tissue_bias import inner_thin
from thinslice.evaluation.label_agreement import label_agreement
from thinslice.experiments.benchmark.segment import segment
from thinslice.experiments.clinical_check.phantoms import nodule_results
from thinslice.inference.labels import Labels
from thinslice.recipes import Downstream
from thinslice.volume import Volume

Values = dict[str, Any]
"""JSON values."""


class CaseMeasures:
    """Measures of one case; those of the truth are made once, when the first method needs them.

    Args:
        settings: the suite's.
        pair: the case.
        folder: of the suite, for the commands of segmentations.
    """

    def __init__(self, settings: Downstream, pair: Pair, folder: Path) -> None:
        self.settings, self.pair, self.folder = settings, pair, folder
        self.voxel_mm3 = lung_density.voxel_mm3(pair.thin.geometry)

    def of(self, thin: Volume) -> Values:
        """Measures of a method's volume.

        Args:
            thin: HU on the grid of the pair's thin slices.

        Returns:
            `lung_density`, `radiomics`, `segmentations`, those that the suite asks for; None where there is nothing to
            measure, and for `radiomics` where its library is not installed.

        Raises:
            ThinsliceError: a segmentation failed (`thinslice.experiments.benchmark.segment.segment`).
        """
        values: Values = {}
        if self.settings.lung_density:
            values["lung_density"] = self._densities(thin)
        if self.settings.radiomics:
            values["radiomics"] = self._radiomics(thin)
        if self.settings.segmentations:
            values["segmentations"] = {
                one.name: label_agreement(
                    segment(thin, one, self.folder), self._labels[one.name], self.voxel_mm3, one.labels
                )
                for one in self.settings.segmentations
            }
        return values

    def _densities(self, thin: Volume) -> Values | None:
        own, known = (
            lung_density.densitometry(volume.hu, self._lung, self.pair.factor, self.voxel_mm3)
            for volume in (thin, self.pair.thin)
        )
        if own is None or known is None:
            return None
        of_both = {"estimate": own.to_json(), "reference": known.to_json()}
        differences = {name: of_both["estimate"][name] - value for name, value in of_both["reference"].items()}
        return {**of_both, "difference": differences}

    def _radiomics(self, thin: Volume) -> Values | None:
        if not radiomics.is_installed():
            return None
        agreed = radiomics.agreement(radiomics.region_features(thin.hu, self._regions), self._features)
        return {tissue: None if one is None else one.to_json() for tissue, one in agreed.items()}

    @cached_property
    def _lung(self) -> lung_density.Mask:
        return lung_density.find_lung(self.pair.thin.hu, self.voxel_mm3)

    @cached_property
    def _regions(self) -> dict[str, list[radiomics.Region]]:
        thin = self.pair.thin
        inner = inner_thin(self.pair.thick.geometry.shape[0], self.pair.factor)
        return radiomics.find_regions(thin.hu, self._lung, thin.geometry.spacing_mm, inner)

    @cached_property
    def _features(self) -> dict[str, list[dict[str, float]]]:
        return radiomics.region_features(self.pair.thin.hu, self._regions)

    @cached_property
    def _labels(self) -> dict[str, Labels]:
        return {one.name: segment(self.pair.thin, one, self.folder) for one in self.settings.segmentations}


def nodule_values(settings: Downstream, factor: int, upscaler: Callable[[Volume], npt.NDArray[Any]]) -> Values:
    """A method on the phantom with known nodules.

    Args:
        settings: the suite's.
        factor: thin slices per thick interval; thin slices are 1 mm.
        upscaler: from a thick volume to thin HU at this factor.

    Returns:
        `nodules` one by one, `nodule_summary` by kind and diameter, `nodules_missing`.
    """
    row = nodule_results({"method": upscaler}, factor, seed=settings.nodule_seed, pixels=settings.nodule_pixels)[-1]
    return {name: row[name] for name in ("nodules", "nodule_summary", "nodules_missing")}
