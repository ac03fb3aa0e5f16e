"""Measures of the protocol `clinical` for one estimate, in HU and millimetres, with nothing clamped.

Bias by tissue, lung density, edge rise, noise, its power spectrum and radiomic agreement are those of `thinslice models
check`: each is defined once, in the module of this package that bears its name. Two measures are the protocol's own:

- error by distance from the nearest thick slice;
- consistency: the estimate averaged over the slice profile, against the thick slices.

Without thick slices every thin slice of the reference is a cell of its own (factor 1): tissue classes and even patches
come from the reference.

Source: our own definitions; see each module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.edges import find_edges, measure_edges
from thinslice.evaluation.clinical.lung_density import Densitometry, Mask, densitometry, voxel_mm3
from thinslice.evaluation.clinical.noise import patch_noise
from thinslice.evaluation.clinical.noise_spectrum import patch_spectra, percent_of_truth
from thinslice.evaluation.clinical.radiomics import agreement, find_regions, is_installed, region_features
from thinslice.evaluation.clinical.tissue_bias import ClassBias, inner_thin, tissue_bias
from thinslice.evaluation.placed import PlacedThick
from thinslice.geometry import Geometry
from thinslice.planning import slice_profile


def measure(
    estimate: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    lung: Mask,
    grid: Geometry,
    thick: PlacedThick | None,
    scored: range,
) -> dict[str, Any]:
    """All measures of an estimate, as JSON values.

    Args:
        estimate, reference: (depth, height, width) HU on `grid`.
        lung: lung of the reference on the same grid, `thinslice.evaluation.clinical.lung_density.find_lung`.
        grid: the thin grid.
        thick: the thick slices; None leaves out the measures that are about them.
        scored: thin slices that PSNR counts: those of `by_distance_mm`, and of everything where `thick` is None.

    Returns:
        `by_tissue_of_thick`, `by_tissue_of_reference`, `laa950_percent`, `laa910_percent`, `perc15_hu`, `edge_rise_mm`,
        `noise_hu`, `noise_power`, `radiomics`, `by_distance_mm`, `consistency_rms_hu`; null where there is nothing to
        measure, and `radiomics` where the library of features is not installed.
    """
    cells = _cells(estimate, reference, lung, thick, scored)
    step_mm = grid.spacing_mm[0]
    by_reference = tissue_bias(cells.estimate, cells.reference, cells.thick, cells.factor, by="truth")
    by_thick = thick and tissue_bias(cells.estimate, cells.reference, cells.thick, cells.factor)
    densities = [
        densitometry(hu, cells.lung, cells.factor, voxel_mm3(grid)) for hu in (cells.estimate, cells.reference)
    ]
    inner = inner_thin(len(cells.thick), cells.factor)
    edges = find_edges(cells.reference, step_mm, cells.factor * step_mm, first=inner.start, last=inner.stop)
    rises = [measure_edges(hu, cells.reference, edges) for hu in (cells.estimate, cells.reference)]
    noises = [patch_noise(hu, cells.reference, cells.thick, cells.factor) for hu in (cells.estimate, cells.reference)]
    spectra = [
        patch_spectra(hu, cells.reference, cells.thick, cells.factor, grid.spacing_mm)
        for hu in (cells.estimate, cells.reference)
    ]
    return {
        "by_tissue_of_thick": by_thick and _by_tissue(by_thick),
        "by_tissue_of_reference": _by_tissue(by_reference),
        **{name: _compared(name, densities) for name in ("laa950_percent", "laa910_percent", "perc15_hu")},
        "edge_rise_mm": {"estimate": rises[0]["rise_mm"], "reference": rises[1]["rise_mm"], "edges": len(edges)},
        "noise_hu": {
            "estimate": noises[0]["sd_hu"],
            "reference": noises[1]["sd_hu"],
            "patches": noises[1]["patches"],
        },
        "noise_power": {
            "estimate": spectra[0].to_json(),
            "reference": spectra[1].to_json(),
            "percent": percent_of_truth(spectra[0], spectra[1], cells.factor * step_mm),
        },
        "radiomics": _radiomics(cells, grid, inner) if is_installed() else None,
        "by_distance_mm": thick and error_by_distance(estimate, reference, thick, scored, step_mm),
        "consistency_rms_hu": thick and consistency_rms_hu(estimate, thick),
    }


def error_by_distance(
    estimate: npt.NDArray[Any], reference: npt.NDArray[Any], thick: PlacedThick, scored: range, step_mm: float
) -> dict[str, dict[str, float | int]]:
    """Errors of all voxels of thin slices equally far from the nearest thick slice.

    Args:
        estimate, reference: (depth, height, width) HU.
        thick: the thick slices.
        scored: thin slices to take.
        step_mm: distance of thin slices.

    Returns:
        Distance in mm, three digits -> `voxels`, `bias_hu`, `mae_hu`, `rmse_hu`.
    """
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for index in scored:
        error = estimate[index].astype(np.float64) - reference[index]
        name = f"{thick.nearest(index)[1] * step_mm:.3g}"
        added = [error.size, error.sum(), np.abs(error).sum(), np.square(error).sum()]
        sums[name] = sums.get(name, np.zeros(4)) + added
    return {
        name: {
            "voxels": int(count),
            "bias_hu": float(signed / count),
            "mae_hu": float(absolute / count),
            "rmse_hu": float(np.sqrt(squared / count)),
        }
        for name, (count, signed, absolute, squared) in sums.items()
    }


def consistency_rms_hu(estimate: npt.NDArray[Any], thick: PlacedThick) -> float | None:
    """Root mean square difference of the estimate, averaged over the slice profile, and the thick slices, in HU.

    Only thick slices whose whole profile lies on the estimate's slices count; None where there is none.
    """
    profile = slice_profile(thick.geometry, thick.factor)
    total, count = 0.0, 0
    for real, centre in zip(thick.hu, thick.centres, strict=True):
        first, last = centre - profile.reach, centre + profile.reach
        if first < 0 or last >= len(estimate):
            continue
        averaged = np.zeros(real.shape)
        for index, weight in zip(range(first, last + 1), profile.weights, strict=True):
            averaged += weight * estimate[index]
        total += float(np.sum(np.square(averaged - real)))
        count += real.size
    return float(np.sqrt(total / count)) if count else None


@dataclass(frozen=True)
class _Cells:
    """Volumes cut so that thick slice k is centred on thin slice factor * k, the last one on the last."""

    estimate: npt.NDArray[Any]
    reference: npt.NDArray[Any]
    lung: Mask
    thick: npt.NDArray[Any]
    factor: int


def _cells(
    estimate: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    lung: Mask,
    thick: PlacedThick | None,
    scored: range,
) -> _Cells:
    """The part of the volumes between the first and the last thick slice that is centred on the thin grid.

    Example: thick slices at factor 5 centred on thin slices -2, 3, 8 and 13 of 16: slices 3 to 13 and three thick ones.
    Without thick slices: the scored slices with a neighbour at each end, which `inner_thick` leaves out again.
    """
    if thick is None:
        kept = slice(scored.start - 1, scored.stop + 1)
        return _Cells(estimate[kept], reference[kept], lung[kept], reference[kept], 1)
    on_grid = [k for k, centre in enumerate(thick.centres) if 0 <= centre < len(reference)]
    if not on_grid:
        return _Cells(estimate[:0], reference[:0], lung[:0], thick.hu[:0], thick.factor)
    kept = slice(thick.centres[on_grid[0]], thick.centres[on_grid[-1]] + 1)
    held = thick.hu[on_grid[0] : on_grid[-1] + 1]
    return _Cells(estimate[kept], reference[kept], lung[kept], held, thick.factor)


def _compared(name: str, densities: Sequence[Densitometry | None]) -> dict[str, float | None]:
    """One density of estimate and reference, and their difference."""
    own, known = (None if density is None else float(getattr(density, name)) for density in densities)
    return {"estimate": own, "reference": known, "difference": None if own is None or known is None else own - known}


def _radiomics(cells: _Cells, grid: Geometry, inner: range) -> dict[str, Any]:
    regions = find_regions(cells.reference, cells.lung, grid.spacing_mm, inner)
    found = agreement(region_features(cells.estimate, regions), region_features(cells.reference, regions))
    return {tissue: part and part.to_json() for tissue, part in found.items()}


def _by_tissue(found: dict[str, ClassBias]) -> dict[str, dict[str, float | int | None]]:
    return {
        name: {
            "voxels": round(tissue.voxels),
            "bias_hu": tissue.bias_hu,
            "mae_hu": tissue.mae_hu,
            "rmse_hu": tissue.rmse_hu,
        }
        for name, tissue in found.items()
    }
