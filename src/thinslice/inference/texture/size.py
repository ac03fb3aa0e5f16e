"""Size of the synthetic noise, voxel by voxel: the network's uncertainty map, set to the noise of the scan.

The map carries where errors are large. Its level belongs to the scans that the network was trained on; in a noisier
scan, or one with a sharper kernel, it is wrong by up to a factor of 4. In even patches of the thick slices, variance
over the averaging law is what thin slices miss, so a factor is measured there, for soft tissue and for lung. The lung's
has to lie near the range from that of soft tissue to 1. To find them, the network runs on a few small probes first.

Where the map is larger than the noise, at edges and vessels, the rest of it is structure. There the geometric mean
of the two is taken: errors are no Gaussian noise, and random structure would cost more accuracy than it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from thinslice.geometry import nearest_thick
from thinslice.inference.stitch import stitch
from thinslice.inference.texture.law import OpenNoise
from thinslice.inference.texture.patches import PATCH, Tissue, tiles
from thinslice.inference.texture.scan_noise import MEDIAN_SHORT, ScanNoise
from thinslice.planning import ModelWindow, plan_windows
from thinslice.profile import SliceProfile
from thinslice.typing import Floats

PROBE = (8, 128, 128)
"""Thick slices and pixels of a probe."""

PROBES_EACH = 3
"""Probes for soft tissue, and for lung."""

FEWEST_IN_LUNG = 100
"""Even patches of lung without which the lung gets the factor of soft tissue."""

LUNG_LEEWAY = 1.2
"""How far the factor of lung may lie outside the range from 1 to that of soft tissue: what a patch of lung varies by is
structure too, which the averaging law takes for noise where slices are thick or overlap."""

LUNG_BELOW_HU, LUNG_ABOVE_SHARE_HU = -300.0, 300.0
"""A voxel whose surroundings lie below is lung in part, and wholly so another 300 HU lower."""

SURROUNDINGS = 5
"""Pixels whose mean decides that."""


@dataclass(frozen=True)
class NoiseSize:
    """How the map becomes a size.

    Attributes:
        soft, lung: factors of the map in soft tissue and in lung.
        level_hu: standard deviation of noise alone that thin slices miss.
    """

    soft: float
    lung: float
    level_hu: float

    def factors(self, thick: npt.NDArray[Any]) -> Floats:
        """Factors of the map around a thick slice: by how much of a voxel's surroundings is lung.

        Args:
            thick: (height, width) HU.
        """
        around = uniform_filter(thick.astype(np.float32), SURROUNDINGS)
        share = np.clip((LUNG_BELOW_HU - around) / LUNG_ABOVE_SHARE_HU, 0.0, 1.0)
        return np.asarray(np.exp(np.log(self.soft) + share * np.log(self.lung / self.soft)), dtype=np.float32)

    def missing_hu(self, deviation_hu: Floats, factors: Floats) -> Floats:
        """Standard deviation of the noise to add to a thin slice, in HU.

        Args:
            deviation_hu: the map, (height, width).
            factors: of the nearest thick slice.

        >>> size = NoiseSize(soft=0.5, lung=1.0, level_hu=10.0)
        >>> size.missing_hu(np.float32([[16.0, 80.0]]), size.factors(np.full((1, 2), 40))).tolist()
        [[8.0, 20.0]]
        """
        missing = deviation_hu * factors
        return np.where(missing > self.level_hu, np.sqrt(missing * np.float32(self.level_hu)), missing)


def measure_size(
    thick: npt.NDArray[Any],
    noise: ScanNoise,
    left: OpenNoise,
    infer: Callable[[Floats], Floats],
    *,
    window: ModelWindow,
    profile: SliceProfile,
    padding_hu: float | None,
    consistent: bool,
) -> NoiseSize:
    """Run the network on a few probes, and compare its map with the noise of the scan there.

    Args:
        thick: (depth, height, width) HU.
        noise: of the scan.
        left: what the thick slices leave open of it.
        infer: the network, with standard deviations.
        window: input that it takes.
        profile: weights of thin slices in a thick one, at the network's whole factor.
        padding_hu: HU that marks padding, or None.
        consistent: whether its output averages back to the thick slices.
    """
    ratios: dict[Tissue, list[Floats]] = {"soft": [], "lung": []}
    for probe in find_probes(noise.patches.even.values()):
        mapped = map_of_patches(
            thick[probe],
            infer,
            window=window,
            profile=profile,
            padding_hu=padding_hu,
            consistent=consistent,
        )
        place = patches_of(probe)[1:]
        inner = slice(probe[0].start + 1, probe[0].stop - 1)
        variance = noise.patches.variance[(inner, *place)]
        for tissue, found in ratios.items():
            even = noise.patches.even[tissue][(inner, *place)]
            found.append(variance[even] / mapped[1:-1][even])
    missing = left.middle_variance / noise.share
    factors = {
        tissue: MEDIAN_SHORT * float(np.sqrt(np.median(np.concatenate(found)) * missing))
        for tissue, found in ratios.items()
        if sum(map(len, found)) >= (FEWEST_IN_LUNG if tissue == "lung" else 1)
    }
    soft = factors["soft"]
    lung = float(np.clip(factors.get("lung", soft), min(1.0, soft) / LUNG_LEEWAY, max(1.0, soft) * LUNG_LEEWAY))
    return NoiseSize(soft, lung, noise.thick_hu * float(np.sqrt(missing)))


def map_of_patches(
    crop: npt.NDArray[Any],
    infer: Callable[[Floats], Floats],
    *,
    window: ModelWindow,
    profile: SliceProfile,
    padding_hu: float | None,
    consistent: bool,
) -> Floats:
    """Mean square of the network's map around every thick slice, by patch.

    Args:
        crop: (depth, height, width) HU of a probe.
        infer, window, profile, padding_hu, consistent: as for `measure_size`.

    Returns:
        (depth, rows, columns) HU2.
    """
    plan = plan_windows(crop.shape, profile.factor, window, profile=profile, channels=2)
    slabs = stitch(crop, plan, infer, profile=profile, padding_hu=padding_hu, consistent=consistent, channels=2)
    squares = np.zeros(crop.shape, dtype=np.float32)
    counts = np.zeros(len(crop), dtype=np.float32)
    for start, channels in slabs:
        for index, deviation in enumerate(channels[1], start=start):
            k = nearest_thick(index, profile.factor)
            squares[k] += np.square(deviation)
            counts[k] += 1
    return np.stack([tiles(each / count, PATCH).mean(axis=-1) for each, count in zip(squares, counts, strict=True)])


def patches_of(probe: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
    """Thick slices and patches of a probe; a patch that a narrow scan cuts is left out.

    >>> patches_of((slice(2, 10), slice(16, 144), slice(0, 100)))
    (slice(2, 10, None), slice(2, 18, None), slice(0, 12, None))
    """
    depth, *plane = probe
    rows, columns = (slice(part.start // PATCH, part.stop // PATCH) for part in plane)
    return depth, rows, columns


def find_probes(
    counted: Iterable[npt.NDArray[np.bool_]], extent: tuple[int, int, int] = PROBE, each: int = PROBES_EACH
) -> list[tuple[slice, slice, slice]]:
    """Where the network runs first: boxes with the most even patches of each tissue, apart from each other.

    Args:
        counted: for each tissue, (depth, rows, columns), True for its even patches.
        extent: thick slices and pixels of a box.
        each: boxes for a tissue, at most.

    Returns:
        The boxes, in thick slices and pixels, the pixels multiples of `PATCH`.
    """
    found: list[tuple[slice, slice, slice]] = []
    for even in counted:
        open_ones = even.copy()
        for _ in range(each):
            # The first and last slice of a probe are not compared: the network knows one side of them only.
            best = max(_boxes(even.shape, extent), key=lambda box: int(np.count_nonzero(open_ones[box][1:-1])))
            if not open_ones[best][1:-1].any():
                break
            open_ones[best] = False
            probe = (best[0], *(slice(part.start * PATCH, part.stop * PATCH) for part in best[1:]))
            if probe not in found:
                found.append(probe)  # type: ignore[arg-type]
    return found


def _boxes(shape: Sequence[int], probe: tuple[int, int, int]) -> list[tuple[slice, slice, slice]]:
    """Boxes of the size of a probe in patches, each half over its neighbour."""
    spans = []
    for length, extent in zip(shape, (probe[0], probe[1] // PATCH, probe[2] // PATCH), strict=True):
        extent = min(extent, length)
        starts = [*range(0, length - extent, max(1, extent // 2)), length - extent]
        spans.append([slice(start, start + extent) for start in starts])
    return [(z, y, x) for z in spans[0] for y in spans[1] for x in spans[2]]
