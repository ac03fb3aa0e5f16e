"""Known nodules as a method shows them: contrast, volume, and detectability in noise.

Everything is measured in the difference of two results, one of thick slices with the nodules and one of the same thick
slices (noise included) without them. Vessels, pleura and noise are common to both and cancel: the difference is the
nodule as the method shows it, at its place and around it.

Source: our own definitions; the index of detection is that of a non-prewhitening matched filter (ICRU report 54, 1996).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.data.phantoms.nodule_field import InsertedNodule
from thinslice.geometry import Geometry
from thinslice.typing import Doubles

CORE = 0.5
"""Share of the radius within which contrast is averaged."""

FINE_MM = 0.25
"""Spacing along all axes of the grid on which volume is measured; values between voxels are linear."""

NOISE_SHIFTS = 48
"""Places at which the matched filter is applied to noise, for each nodule."""


@dataclass(frozen=True)
class NoduleResult:
    """One nodule as a method shows it.

    Attributes:
        diameter_mm, kind, setting: of the nodule.
        phase: place within a thick slice, 0 at its centre, 0.5 midway between two.
        contrast_percent: mean difference within half the radius over the true contrast.
        volume_percent: volume in which the difference reaches half the true contrast over the ball's; 0 where the
            difference never does: at that threshold the nodule is lost.
        signal_percent: integral of the difference over true contrast times the ball's volume: 100 where the
            method adds and removes nothing, at any place.
        shift_mm: distance along z of the difference's centre of mass from the ball's.
        cnr: mean difference within half the radius over the noise's standard deviation.
        detectability: response of a matched filter that knows the nodule over the standard deviation of its responses
            to noise; None where the nodule's surroundings leave no room to measure.
    """

    diameter_mm: float
    kind: str
    setting: str
    phase: float
    contrast_percent: float
    volume_percent: float
    signal_percent: float
    shift_mm: float
    cnr: float | None
    detectability: float | None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def measure_nodules(
    difference: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    noise: npt.NDArray[Any] | None,
    lung: npt.NDArray[np.bool_],
    nodules: Iterable[InsertedNodule],
    grid: Geometry,
    *,
    thick_mm: float,
    first_mm: float,
    seed: int = 0,
) -> list[NoduleResult]:
    """Measure every nodule whose surroundings lie on the grid.

    Args:
        difference: (depth, height, width) HU, result with nodules less result without.
        truth: the same of the thin truth, without noise: the matched filter.
        noise: a field of the method's noise alone, HU; None leaves out the measures that need it.
        lung: voxels of nothing but lung without nodules.
        nodules: the inserted nodules.
        grid: of all arrays, axial.
        thick_mm: distance of thick slices; nodules are measured to 1.5 times it beyond their surface along z.
        first_mm: z of a thick slice's centre.
        seed: of the places at which the filter is applied to noise.
    """
    rng = np.random.default_rng(seed)
    sd = None if noise is None else noise_sd(noise, lung)
    results = []
    for nodule in nodules:
        box = _box(nodule, grid, 1.5 * thick_mm)
        if box is None:
            continue
        window, axes = box
        seen, known = difference[window].astype(np.float64), truth[window].astype(np.float64)
        contrast, volume = nodule.contrast_hu, nodule.volume_mm3
        core = _core_mean(seen, axes, 0.5 * nodule.diameter_mm)
        voxel = float(np.prod([step or 1.0 for step in grid.spacing_mm]))
        total = float(seen.sum())
        shift = float((seen.sum(axis=(1, 2)) @ axes[0]) / total - (known.sum(axis=(1, 2)) @ axes[0]) / known.sum())
        results.append(
            NoduleResult(
                diameter_mm=nodule.diameter_mm,
                kind=nodule.kind,
                setting=nodule.setting,
                phase=nodule.phase(thick_mm, first_mm),
                contrast_percent=100.0 * core / contrast,
                volume_percent=100.0 * volume_above(seen, axes, 0.5 * contrast, 0.5 * nodule.diameter_mm) / volume,
                signal_percent=100.0 * total * voxel / (contrast * volume),
                shift_mm=shift,
                cnr=None if not sd else abs(core) / sd,
                detectability=None if noise is None else _detectability(seen, known, window, noise, lung, rng),
            )
        )
    return results


def volume_above(hu: npt.NDArray[Any], axes: Sequence[Doubles], threshold: float, radius_mm: float) -> float:
    """Volume in mm3 of the piece about the origin in which values reach a threshold, measured on a fine grid.

    Args:
        hu: (depth, height, width).
        axes: place of the voxels along each axis in mm, the nodule's centre at 0.
        threshold: to be reached; of either sign, as the values are.
        radius_mm: the piece has to reach within this of the origin.

    >>> axis = np.arange(-8.0, 8.1, 0.5)
    >>> away = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    >>> found = volume_above(np.clip(0.5 - (away - 4.0), 0, 1), [axis] * 3, 0.5, 4.0)
    >>> bool(abs(found / (4 / 3 * np.pi * 64) - 1) < 0.02)
    True
    """
    from scipy.ndimage import label

    fine = [np.arange(axis[0], axis[-1] + 1e-9, FINE_MM) for axis in axes]
    values = hu * np.sign(threshold)
    for number, (axis, wanted) in enumerate(zip(axes, fine, strict=True)):
        values = _straight(values, (wanted - axis[0]) / (axis[1] - axis[0]), number)
    regions, _ = label(values >= abs(threshold))
    z, y, x = fine
    near = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius_mm**2
    touched = np.unique(regions[near])
    kept = np.isin(regions, touched[touched > 0])
    return float(kept.sum() * FINE_MM**3)


def noise_sd(noise: npt.NDArray[Any], where: npt.NDArray[np.bool_]) -> float:
    """Standard deviation of a noise field over chosen voxels."""
    return float(np.std(noise[where], dtype=np.float64))


def summary(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means and standard deviations over places, by kind and diameter; `lost` counts nodules without any volume.

    Args:
        results: of `NoduleResult.to_json`, further numbers allowed.
    """
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["kind"], result["diameter_mm"]), []).append(result)
    return [
        {
            "kind": kind,
            "diameter_mm": diameter,
            "nodules": len(group),
            "lost": sum(result["volume_percent"] == 0.0 for result in group),
            **{name: _mean_sd([result[name] for result in group]) for name in group[0] if name not in _NOT_AVERAGED},
        }
        for (kind, diameter), group in sorted(groups.items(), key=lambda item: (item[0][0] != "solid", item[0][1]))
    ]


_NOT_AVERAGED = ("kind", "diameter_mm", "setting", "phase")


def _mean_sd(values: list[float | None]) -> dict[str, float | None]:
    measured = [value for value in values if value is not None]
    if not measured:
        return {"mean": None, "sd": None}
    return {"mean": float(np.mean(measured)), "sd": float(np.std(measured, ddof=1)) if len(measured) > 1 else None}


def _box(
    nodule: InsertedNodule, grid: Geometry, beyond_mm: float
) -> tuple[tuple[slice, slice, slice], tuple[Doubles, Doubles, Doubles]] | None:
    """Slices of the voxels about a nodule, and their distances from its centre; None where they leave the grid."""
    radius = 0.5 * nodule.diameter_mm
    windows: list[slice] = []
    axes: list[Doubles] = []
    for middle, step, size, reach in zip(
        grid.index_at(nodule.centre_mm),
        (step or 1.0 for step in grid.spacing_mm),
        grid.shape,
        (radius + beyond_mm, radius + 3.0, radius + 3.0),
        strict=True,
    ):
        low, high = int(np.floor(middle - reach / step)), int(np.ceil(middle + reach / step)) + 1
        if low < 0 or high > size:
            return None
        windows.append(slice(low, high))
        axes.append(np.asarray((np.arange(low, high) - middle) * step, dtype=np.float64))
    return (windows[0], windows[1], windows[2]), (axes[0], axes[1], axes[2])


def _core_mean(hu: Doubles, axes: Sequence[Doubles], radius: float) -> float:
    """Mean within half the radius, interpolated, so that a small ball has a core too."""
    from scipy.ndimage import map_coordinates

    reach = CORE * radius
    side = np.linspace(-reach, reach, 7)
    z, y, x = (part.ravel() for part in np.meshgrid(side, side, side, indexing="ij"))
    inside = z**2 + y**2 + x**2 <= reach**2 + 1e-9
    places = [(part[inside] - axis[0]) / (axis[1] - axis[0]) for part, axis in zip((z, y, x), axes, strict=True)]
    return float(map_coordinates(hu, places, order=1, mode="nearest").mean())


def _straight(values: Doubles, places: Doubles, axis: int) -> Doubles:
    """Values between the points of one axis, interpolated linearly."""
    low = np.clip(np.floor(places).astype(np.intp), 0, values.shape[axis] - 2)
    part = np.clip(places - low, 0.0, 1.0)
    shape = [1] * values.ndim
    shape[axis] = len(part)
    part = part.reshape(shape)
    return np.asarray((1.0 - part) * values.take(low, axis) + part * values.take(low + 1, axis))


def _detectability(
    seen: Doubles,
    known: Doubles,
    window: tuple[slice, slice, slice],
    noise: npt.NDArray[Any],
    lung: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> float | None:
    """Signal to noise of a matched filter, with noise of the same slices where all is lung."""
    height, width = seen.shape[1:]
    # Far from the nodule the filter is nearly zero; elsewhere the noise has to be that of lung.
    strongest = np.abs(known).max(axis=0)
    weighs = np.asarray(strongest > 0.05 * strongest.max())
    clear = np.asarray(lung[window[0]].all(axis=0))
    slab = noise[window[0]]
    responses = []
    for _ in range(8 * NOISE_SHIFTS):
        y = int(rng.integers(0, noise.shape[1] - height + 1))
        x = int(rng.integers(0, noise.shape[2] - width + 1))
        if clear[y : y + height, x : x + width][weighs].all():
            responses.append(float(np.sum(known * slab[:, y : y + height, x : x + width])))
            if len(responses) == NOISE_SHIFTS:
                break
    if len(responses) < NOISE_SHIFTS // 3:
        return None
    # The expected response to noise is 0.
    spread = float(np.sqrt(np.mean(np.square(responses))))
    return abs(float(np.sum(known * seen))) / spread if spread else None
