"""What a radiologist, or a pipeline downstream, would feel: the measures of the protocol `clinical`.

All are in HU or millimetres, none in the networks' units, and nothing is clamped.

- bias and error by tissue, classes taken from the thick slices (what was known beforehand) and from the reference;
- LAA-950, the share of the lungs below -950 HU by which emphysema is graded;
- sharpness of edges across slices: the distance over which a step rises from 10 to 90 %;
- noise in soft tissue;
- error by distance from the nearest thick slice;
- consistency: thick slices made again from the estimate against the real ones.

Source: our own definitions; each function says what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.tissues import (
    EDGE_REACH_MM,
    EDGE_STEP_HU,
    EMPHYSEMA_HU,
    LUNG_BELOW_HU,
    LUNG_MIN_AREA,
    MAX_UNEVENNESS_HU,
    NOISE_PATCH,
    TISSUES_HU,
)
from thinslice.evaluation.placed import PlacedThick
from thinslice.geometry import Geometry
from thinslice.planning import slice_profile

Slice = npt.NDArray[np.float32]
Read = Callable[[int], tuple[Slice, Slice]]


def measure(read: Read, slices: range, grid: Geometry, thick: PlacedThick | None) -> dict[str, Any]:
    """All measures, as JSON values.

    Args:
        read: gives estimate and reference of a thin slice, (height, width) HU.
        slices: thin indices to measure; `consistency_rms_hu` alone takes in all of the grid's.
        grid: the thin grid.
        thick: the source, for the measures that need it; without it they are null.
    """
    by_reference, by_thick = _Errors(), _Errors()
    by_distance = _Errors()
    emphysema = np.zeros((2, 2))
    noise: list[tuple[float, float]] = []
    for index in slices:
        estimate, reference = read(index)
        by_reference.add_tissues(estimate - reference, reference)
        if thick is not None:
            nearest, distance = thick.nearest(index)
            by_thick.add_tissues(estimate - reference, thick.hu[nearest])
            by_distance.add(f"{distance * grid.spacing_mm[0]:.3g}", estimate - reference)
        lung = lung_of(reference)
        emphysema += [[np.sum(hu[lung] < EMPHYSEMA_HU), lung.sum()] for hu in (estimate, reference)]
        noise.extend(_noise(estimate, reference))
    rises = edge_rise_mm(read, slices, grid.spacing_mm[0])
    shares = [float(100.0 * below / total) if total else None for below, total in emphysema]
    return {
        "by_tissue_of_thick": by_thick.to_json() if thick is not None else None,
        "by_tissue_of_reference": by_reference.to_json(),
        "laa950_percent": {
            "estimate": shares[0],
            "reference": shares[1],
            "difference": None if shares[0] is None or shares[1] is None else shares[0] - shares[1],
        },
        "edge_rise_mm": rises,
        "noise_hu": {
            "estimate": float(np.median([a for a, _ in noise])) if noise else None,
            "reference": float(np.median([b for _, b in noise])) if noise else None,
            "patches": len(noise),
        },
        "by_distance_mm": by_distance.to_json() if thick is not None else None,
        "consistency_rms_hu": None if thick is None else consistency_rms_hu(read, grid.shape[0], thick),
    }


def lung_of(hu: Slice) -> npt.NDArray[np.bool_]:
    """Lung in an axial slice: dark regions of some size that do not reach the picture's border.

    >>> hu = np.full((40, 40), -1000, np.float32); hu[5:35, 5:35] = 40; hu[10:30, 10:30] = -850
    >>> int(lung_of(hu).sum())
    400
    """
    from scipy.ndimage import label

    regions, count = label(hu < LUNG_BELOW_HU)
    size = np.bincount(regions.ravel(), minlength=count + 1)
    kept = size >= LUNG_MIN_AREA
    kept[0] = False
    for border in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        kept[border] = False
    return np.asarray(kept[regions], dtype=bool)


def edge_rise_mm(read: Read, slices: range, step_mm: float) -> dict[str, Any]:
    """How far steps across slices take to rise from 10 to 90 %, in estimate and reference.

    Taken are columns in which the reference changes by `EDGE_STEP_HU` over twice `EDGE_REACH_MM`, mostly within one
    millimetre or two and between two level stretches: a diaphragm, a fissure's neighbour, a rib's upper rim. The
    estimate is measured at the same columns between its own levels. Between slices the rise is taken as straight, which
    reads a sharp edge up to a tenth too wide, in both alike.

    Returns:
        Medians in mm and the number of steps; medians are null where there is none.
    """
    reach = max(2, round(EDGE_REACH_MM / step_mm))
    found: dict[str, list[npt.NDArray[np.float64]]] = {"estimate": [], "reference": []}
    window: list[tuple[Slice, Slice]] = []
    for index in slices:
        pair = read(index)
        window.append((pair[0][::2, ::2].copy(), pair[1][::2, ::2].copy()))
        if len(window) < 2 * reach + 2:
            continue
        estimate, reference = (np.stack([planes[side] for planes in window]) for side in (0, 1))
        low, high = reference[: reach // 2].mean(axis=0), reference[-(reach // 2) :].mean(axis=0)
        jump = high - low
        level = np.maximum(np.ptp(reference[: reach // 2], axis=0), np.ptp(reference[-(reach // 2) :], axis=0))
        centre = (reference[reach] - low) * np.sign(jump) < 0.5 * np.abs(jump)
        centre &= (reference[reach + 1] - low) * np.sign(jump) >= 0.5 * np.abs(jump)
        steep = np.abs(reference[reach + 2] - reference[reach - 1]) > 0.6 * np.abs(jump)
        taken = (np.abs(jump) > EDGE_STEP_HU) & (level < 0.2 * np.abs(jump)) & centre & steep
        if taken.any():
            for name, values in (("estimate", estimate), ("reference", reference)):
                found[name].append(_rise(values[:, taken], reach // 2) * step_mm)
        window.pop(0)
    if not found["reference"]:
        return {"estimate": None, "reference": None, "edges": 0}
    both = np.stack([np.concatenate(found["estimate"]), np.concatenate(found["reference"])])
    both = both[:, np.all(np.isfinite(both), axis=0)]
    if both.shape[1] == 0:
        return {"estimate": None, "reference": None, "edges": 0}
    return {
        "estimate": float(np.median(both[0])),
        "reference": float(np.median(both[1])),
        "edges": both.shape[1],
    }


def consistency_rms_hu(read: Read, depth: int, thick: PlacedThick) -> float | None:
    """Root mean square difference of thick slices made again from the estimate and the real ones, in HU.

    Only thick slices whose whole profile lies on the `depth` thin slices count; None where there is none.
    """
    profile = slice_profile(thick.geometry, thick.factor)
    total, count = 0.0, 0
    for real, centre in zip(thick.hu, thick.centres, strict=True):
        first, last = centre - profile.reach, centre + profile.reach
        if first < 0 or last >= depth:
            continue
        again = np.zeros(real.shape)
        for index, weight in zip(range(first, last + 1), profile.weights, strict=True):
            again += weight * read(index)[0]
        total += float(np.sum(np.square(again - real)))
        count += real.size
    return float(np.sqrt(total / count)) if count else None


class _Errors:
    """Sums of errors by class."""

    def __init__(self) -> None:
        self._sums: dict[str, npt.NDArray[np.float64]] = {}

    def add(self, name: str, error: npt.NDArray[Any]) -> None:
        values = error.astype(np.float64)
        sums = [values.size, values.sum(), np.abs(values).sum(), np.square(values).sum()]
        self._sums[name] = self._sums.get(name, np.zeros(4)) + sums

    def add_tissues(self, error: npt.NDArray[Any], hu: npt.NDArray[Any]) -> None:
        for name, (low, high) in TISSUES_HU.items():
            self.add(name, error[(hu >= low) & (hu < high)])

    def to_json(self) -> dict[str, dict[str, float | int | None]]:
        def of(total: float, count: float) -> float | None:
            return float(total / count) if count else None

        return {
            name: {
                "voxels": int(n),
                "bias_hu": of(signed, n),
                "mae_hu": of(absolute, n),
                "rmse_hu": float(np.sqrt(squared / n)) if n else None,
            }
            for name, (n, signed, absolute, squared) in self._sums.items()
        }


def _noise(estimate: Slice, reference: Slice) -> Iterable[tuple[float, float]]:
    """Standard deviation of estimate and reference in patches that are soft tissue throughout, to either's eye."""
    height, width = (n // NOISE_PATCH * NOISE_PATCH for n in reference.shape)
    tiled = []
    for hu in (estimate, reference):
        tiles = hu[:height, :width].reshape(height // NOISE_PATCH, NOISE_PATCH, width // NOISE_PATCH, NOISE_PATCH)
        tiled.append(tiles.transpose(0, 2, 1, 3).reshape(-1, NOISE_PATCH**2).astype(np.float64))
    low, high = TISSUES_HU["soft"]
    middle = [tiles.mean(axis=1) for tiles in tiled]
    # An edge inside a patch shows as a difference between its halves' means.
    row, column = np.divmod(np.arange(NOISE_PATCH**2), NOISE_PATCH)
    even = np.ones(len(tiled[0]), dtype=bool)
    for patches in tiled:
        for place in (row, column):
            first, second = place < NOISE_PATCH // 2, place > NOISE_PATCH // 2
            even &= np.abs(patches[:, first].mean(axis=1) - patches[:, second].mean(axis=1)) < MAX_UNEVENNESS_HU
    inside = (tiled[1] > low - 100).all(axis=1) & (tiled[1] < high + 100).all(axis=1)
    taken = inside & even & (middle[1] > 0.0) & (middle[1] < 120.0)
    return zip(tiled[0][taken].std(axis=1).tolist(), tiled[1][taken].std(axis=1).tolist(), strict=True)


def _rise(columns: npt.NDArray[np.float32], ends: int) -> npt.NDArray[np.float64]:
    """10-90 % rise of columns (slices, n) in slices; NaN where a column does not rise by itself."""
    low, high = columns[:ends].mean(axis=0), columns[-ends:].mean(axis=0)
    share = (columns - low) / np.where(np.abs(high - low) < 1.0, np.nan, high - low)
    result = np.full(columns.shape[1], np.nan)
    for i, profile in enumerate(share.T.astype(np.float64)):
        up = int(np.argmax(profile >= 0.9))
        below = np.flatnonzero(profile[:up] < 0.1)
        if profile[up] < 0.9 or below.size == 0:
            continue
        foot = int(below[-1])
        start = foot + (0.1 - profile[foot]) / (profile[foot + 1] - profile[foot])
        stop = up - 1 + (0.9 - profile[up - 1]) / (profile[up] - profile[up - 1])
        result[i] = stop - start
    return result
