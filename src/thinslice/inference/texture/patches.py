"""Even patches of a thick scan: where its noise is measured, in soft tissue and in lung.

A patch counts by what its neighbouring slices hold, whose noise is independent of its own. A choice by its own variance
would make the noise seem smaller than it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thinslice.typing import Doubles, Floats

PATCH = 8
"""Extent of a patch in pixels."""

Tissue = Literal["soft", "lung"]

MEAN_HU: dict[Tissue, tuple[float, float]] = {"soft": (-30.0, 120.0), "lung": (-960.0, -700.0)}
"""Mean of a patch of that tissue."""

PIXELS_HU: dict[Tissue, tuple[float, float]] = {"soft": (-400.0, 500.0), "lung": (-np.inf, -300.0)}
"""Every pixel of it lies between; far enough from the mean that noise stays inside."""

EVEN_SHARE = 0.5
"""Share of patches, the evenest by their neighbours, that count."""

FINE_SHARE = 0.6
"""Share of patches, the evenest, in which neighbouring slices are correlated."""


@dataclass(frozen=True)
class Patches:
    """Variance of the patches of a thick scan.

    Attributes:
        variance: (depth, rows, columns) HU2, of what is left of a patch without its plane.
        even: by tissue, (depth, rows, columns), True for the patches that count.
        neighbour_correlation: median correlation of soft patches at the finest detail with those of the next slice.
        pairs: number of pairs it was taken from.
    """

    variance: Floats
    even: dict[Tissue, npt.NDArray[np.bool_]]
    neighbour_correlation: float
    pairs: int


@lru_cache(maxsize=8)
def plane_basis(extent: int) -> Doubles:
    """(pixels, 3), orthonormal: constants and planes over a patch of `extent` x `extent` pixels."""
    rows, columns = np.mgrid[:extent, :extent] - (extent - 1) / 2
    basis, _ = np.linalg.qr(np.stack([np.ones(extent**2), rows.ravel(), columns.ravel()], axis=1))
    return np.asarray(basis)


def tiles(plane: npt.NDArray[Any], extent: int) -> Floats:
    """(rows, columns, pixels) of a slice; what is left over at its end is cut off."""
    rows, columns = (length // extent for length in plane.shape)
    cut = plane[: rows * extent, : columns * extent].astype(np.float32)
    return cut.reshape(rows, extent, columns, extent).swapaxes(1, 2).reshape(rows, columns, extent**2)


def without_plane(patches: Floats, extent: int) -> Floats:
    """Patches less their best plane."""
    basis = plane_basis(extent).astype(np.float32)
    return np.asarray(patches - (patches @ basis) @ basis.T)


def is_tissue(patches: Floats, tissue: Tissue) -> npt.NDArray[np.bool_]:
    """Which patches, (..., pixels), hold that tissue alone."""
    mean, low, high = patches.mean(axis=-1), patches.min(axis=-1), patches.max(axis=-1)
    (mean_from, mean_to), (from_hu, to_hu) = MEAN_HU[tissue], PIXELS_HU[tissue]
    return np.asarray((mean > mean_from) & (mean < mean_to) & (low > from_hu) & (high < to_hu), dtype=bool)


def find_patches(thick: npt.NDArray[Any]) -> Patches:
    """The patches of a thick scan.

    Args:
        thick: (depth, height, width) HU.
    """
    depth, rows, columns = len(thick), thick.shape[1] // PATCH, thick.shape[2] // PATCH
    variance = np.zeros((depth, rows, columns), dtype=np.float32)
    holds: dict[Tissue, npt.NDArray[np.bool_]] = {tissue: np.zeros(variance.shape, dtype=bool) for tissue in MEAN_HU}
    finest = np.zeros(variance.shape, dtype=np.float32)  # correlation with the next slice
    before: Floats | None = None
    for k, plane in enumerate(thick):
        patches = tiles(plane, PATCH)
        residual = without_plane(patches, PATCH)
        variance[k] = np.sum(np.square(residual), axis=-1) / (PATCH**2 - plane_basis(PATCH).shape[1])
        for tissue, mask in holds.items():
            mask[k] = is_tissue(patches, tissue)
        detail = _finest(residual)
        if before is not None:
            finest[k - 1] = np.sum(before * detail, axis=-1)
        before = detail
    even = {tissue: _even(variance, mask) for tissue, mask in holds.items()}
    soft = holds["soft"]
    pairs = np.zeros(0)
    if soft.any():
        fine = soft & (variance < np.quantile(variance[soft], FINE_SHARE))
        pairs = finest[:-1][fine[:-1] & fine[1:]]
    return Patches(variance, even, float(np.median(pairs)) if len(pairs) else 0.0, len(pairs))


def _even(variance: Floats, tissue: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Patches of a tissue between two of the same tissue that are even."""
    beside = np.full(variance.shape, np.inf)
    beside[1:-1] = np.maximum(np.where(tissue[:-2], variance[:-2], np.inf), np.where(tissue[2:], variance[2:], np.inf))
    candidates = np.asarray(tissue & np.isfinite(beside), dtype=bool)
    if not candidates.any():
        return candidates
    return np.asarray(candidates & (beside <= np.quantile(beside[candidates], EVEN_SHARE)), dtype=bool)


def _finest(residual: Floats) -> Floats:
    """Second differences of patches, (rows, columns, pixels inside), with mean 0 and norm 1."""
    rows, columns, _ = residual.shape
    patch = residual.reshape(rows, columns, PATCH, PATCH)
    middle = patch[..., 1:-1, 1:-1]
    around = patch[..., :-2, 1:-1] + patch[..., 2:, 1:-1] + patch[..., 1:-1, :-2] + patch[..., 1:-1, 2:]
    detail = (4.0 * middle - around).reshape(rows, columns, -1)
    detail -= detail.mean(axis=-1, keepdims=True)
    norm = np.sqrt(np.sum(np.square(detail), axis=-1, keepdims=True))
    return np.asarray(detail / np.maximum(norm, np.float32(1e-6)))
