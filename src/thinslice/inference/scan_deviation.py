"""Scale of the uncertainty map for the scan at hand, from the noise of its thick slices.

    map of the network x scale of the voxel's tissue = standard deviation

The map carries where errors are large; its level belongs to the scans that the head was trained on. Most of an error
is noise of the thin slices that no estimate can predict, and the thick slices show how large that is: in even patches
their noise, over the averaging law (`thinslice.inference.texture.law`), is what thin slices miss. The network runs on a
few small probes first, and noise over map is measured there in air, lung and soft tissue. The rest of the error is
structure, whose share of the map is the same for all scans.

Source: ours. `trials/uncertainty_scale.py` fits the two shares and tests them on scans left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from thinslice.geometry import nearest_thick
from thinslice.inference.stitch import DEVIATION_STEP_HU
from thinslice.inference.texture.law import OpenNoise
from thinslice.inference.texture.patches import PATCH, is_tissue, tiles, without_plane
from thinslice.inference.texture.scan_noise import MEDIAN_SHORT, ScanNoise
from thinslice.inference.texture.size import SURROUNDINGS, find_probes, map_of_patches, patches_of
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile
from thinslice.typing import Floats

NOISE_SHARE, STRUCTURE_SHARE = 1.49, 0.56
"""Standard deviation over the map: NOISE_SHARE times noise over map, and STRUCTURE_SHARE, added as squares."""

PROBE = (6, 96, 96)
"""Thick slices and pixels of a probe."""

PROBES_EACH = 2
"""Probes for soft tissue, for lung and for air."""

FEWEST_PATCHES = 60
"""Even patches of a tissue without which it gets the scale of soft tissue, and soft tissue none."""

AIR_HU = (-1015.0, -960.0)
"""Mean of a patch of air; below lies what is not measured, or was cut off at -1024 HU."""

AIR_BELOW_HU, LEAST_VARIANCE = -800.0, 0.3
"""Every pixel of it lies below, and it has more variance than rounding gives."""

AIR_UP_TO_HU, AIR_WIDTH_HU = -930.0, 60.0
"""A voxel whose surroundings lie below is air in part, and wholly so another 60 HU lower."""

LUNG_UP_TO_HU, LUNG_WIDTH_HU = -300.0, 300.0
"""The same for lung, of what is not air."""


@dataclass(frozen=True)
class NoiseRatios:
    """Noise that thin slices miss, over the map as the head gives it; nan where it was not measured.

    >>> NoiseRatios(air=float("nan"), lung=0.9, soft=0.6).scale()
    ScanScale(air=1.05..., lung=1.45..., soft=1.05...)
    """

    air: float
    lung: float
    soft: float

    def scale(self, noise: float = NOISE_SHARE, structure: float = STRUCTURE_SHARE) -> ScanScale:
        """The scale of a scan with this noise."""
        return ScanScale(
            **{
                place: float(np.hypot(noise * (ratio if np.isfinite(ratio) else self.soft), structure))
                for place, ratio in asdict(self).items()
            }
        )


@dataclass(frozen=True)
class ScanScale:
    """Factors of the calibrated map.

    Attributes:
        air, lung, soft: in voxels whose surroundings are air, lung, or anything denser.
    """

    air: float
    lung: float
    soft: float

    def of_slice(self, thick: npt.NDArray[Any]) -> Floats:
        """Factor of every voxel around a thick slice, (height, width) HU.

        >>> ScanScale(air=0.5, lung=2.0, soft=1.0).of_slice(np.full((1, 2), -990)).tolist()
        [[0.5, 0.5]]
        """
        around = uniform_filter(thick.astype(np.float32), SURROUNDINGS)
        air = np.clip((AIR_UP_TO_HU - around) / AIR_WIDTH_HU, 0.0, 1.0)
        lung = np.clip((LUNG_UP_TO_HU - around) / LUNG_WIDTH_HU, 0.0, 1.0) * (1.0 - air)
        logarithm = air * np.log(self.air) + lung * np.log(self.lung) + (1.0 - air - lung) * np.log(self.soft)
        return np.asarray(np.exp(logarithm), dtype=np.float32)


def measure_ratios(
    thick: npt.NDArray[Any],
    noise: ScanNoise,
    left: OpenNoise,
    infer: Callable[[Floats], Floats],
    *,
    calibrated: float,
    window: ModelWindow,
    profile: SliceProfile,
    padding_hu: float | None,
    consistent: bool,
) -> NoiseRatios | None:
    """Run the network on a few probes, and compare its map with the noise of the scan there.

    Noise is measured at the finest detail of a patch (second differences), which holds least anatomy; soft tissue tells
    what share of the variance that is for the scan's kernel.

    Args:
        thick: (depth, height, width) HU.
        noise: of the scan.
        left: what the thick slices leave open of it.
        infer: the network, with standard deviations.
        calibrated: factor that these already hold, of the card's calibration.
        window: input that it takes.
        profile: weights of thin slices in a thick one, at the network's whole factor.
        padding_hu: HU that marks padding, or None.
        consistent: whether its output averages back to the thick slices.

    Returns:
        The ratios, or None where the probes hold too little even soft tissue.
    """
    details: list[Floats] = []
    shares: list[Floats] = []
    counted: dict[str, npt.NDArray[np.bool_]] = dict(noise.patches.even.items())
    counted["air"] = air_patches(thick, noise.patches.variance)
    found = []
    for probe in find_probes(counted.values(), PROBE, PROBES_EACH):
        mapped = map_of_patches(
            thick[probe], infer, window=window, profile=profile, padding_hu=padding_hu, consistent=consistent
        )
        patches = np.stack([tiles(plane, PATCH) for plane in thick[probe]])
        detail = finest_variance(without_plane(patches, PATCH))
        place = patches_of(probe)
        variance, even = noise.patches.variance[place], noise.patches.even["soft"][place]
        details.append(detail[even])
        shares.append(variance[even])
        holds = {"air": counted["air"][place], "lung": is_tissue(patches, "lung"), "soft": is_tissue(patches, "soft")}
        found.append((mapped, detail, holds))
    if not found or sum(map(len, details)) < FEWEST_PATCHES:
        return None
    share = float(np.median(np.concatenate(details)) / np.median(np.concatenate(shares)))
    missing = left.middle_variance / noise.share
    measured: dict[str, float] = {}
    for tissue in ("air", "lung", "soft"):
        beside = [_beside(detail, holds[tissue]) for _, detail, holds in found]
        finite = np.concatenate([each[np.isfinite(each)] for each in beside])
        measured[tissue] = float("nan")
        if len(finite) < FEWEST_PATCHES:
            continue
        limit = np.quantile(finite, 0.5)
        chosen = np.concatenate(
            [
                detail[each <= limit] / mapped[each <= limit]
                for (mapped, detail, _), each in zip(found, beside, strict=True)
            ]
        )
        measured[tissue] = MEDIAN_SHORT * calibrated * float(np.sqrt(np.median(chosen) / share * missing))
    return NoiseRatios(**measured) if measured["soft"] > 0 else None


def scaled(
    slabs: Iterator[tuple[int, Floats]], scale: ScanScale, thick: npt.NDArray[Any], ratio: float
) -> Iterator[tuple[int, Floats]]:
    """Slabs whose standard deviations have the scale of the scan.

    Args:
        slabs: (start, (2, slices, height, width) float32 HU); changed in place.
        scale: of the scan.
        thick: (depth, height, width) HU.
        ratio: thin slices per thick interval.
    """
    factors = nearest_factors(scale, thick, ratio)
    for start, slab in slabs:
        for index, plane in enumerate(slab[1], start=start):
            plane *= factors(index)
            np.rint(plane / np.float32(DEVIATION_STEP_HU), out=plane)
            np.maximum(plane, 1.0, out=plane)
            plane *= np.float32(DEVIATION_STEP_HU)
        yield start, slab


def nearest_factors(scale: ScanScale, thick: npt.NDArray[Any], ratio: float) -> Callable[[int], Floats]:
    """Maps a thin index to the factors around its nearest thick slice; arguments as for `scaled`."""

    @lru_cache(maxsize=2)
    def of_thick(k: int) -> Floats:
        return scale.of_slice(thick[k])

    return lambda index: of_thick(nearest_thick(index, ratio))


def air_patches(thick: npt.NDArray[Any], variance: Floats) -> npt.NDArray[np.bool_]:
    """Patches of air that a scanner measured, (depth, rows, columns).

    Args:
        thick: (depth, height, width) HU.
        variance: of the patches, as in `Patches`.
    """
    holds = np.zeros(variance.shape, dtype=bool)
    for k, plane in enumerate(thick):
        patches = tiles(plane, PATCH)
        mean = patches.mean(axis=-1)
        holds[k] = (mean > AIR_HU[0]) & (mean < AIR_HU[1]) & (patches.max(axis=-1) < AIR_BELOW_HU)
    return holds & (variance > LEAST_VARIANCE)


def finest_variance(residual: Floats) -> Floats:
    """Mean square of the second differences of patches, (..., pixels) to (...), HU2."""
    patch = residual.reshape(*residual.shape[:-1], PATCH, PATCH)
    around = patch[..., :-2, 1:-1] + patch[..., 2:, 1:-1] + patch[..., 1:-1, :-2] + patch[..., 1:-1, 2:]
    return np.asarray(np.mean(np.square(4.0 * patch[..., 1:-1, 1:-1] - around), axis=(-1, -2)))


def _beside(detail: Floats, holds: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The larger detail of a patch's two neighbours along z; infinite where one of the three is no such tissue."""
    beside = np.full(detail.shape, np.inf)
    tissue = np.where(holds, detail, np.inf)
    beside[1:-1] = np.where(holds[1:-1], np.maximum(tissue[:-2], tissue[2:]), np.inf)
    return beside
