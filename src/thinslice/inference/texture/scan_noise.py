"""Noise of a thick scan: its size, its spectrum in plane, and the width of its blur along z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import InputError
from thinslice.inference.texture.field import radial_frequencies
from thinslice.inference.texture.law import Averages, find_blur, thick_variance
from thinslice.inference.texture.patches import Patches, Tissue, find_patches, is_tissue, tiles, without_plane
from thinslice.options import option

FEWEST_PATCHES = 60
"""Even patches of soft tissue without which noise is not measured."""

LEAST_NOISE_HU = 0.5
"""Noise of the thick slices below which there is none: rounding to whole HU alone gives 0.3."""

BLOCK = 16
"""Extent in pixels of the patches whose spectrum is averaged."""

BLOCK_SHARE, MOST_BLOCKS = 0.25, 4000
"""Share of these patches, the evenest, and their number, that count."""

FIRST_BAND = 2
"""Lowest bands of the spectrum, in cycles per block, that anatomy dominates: they get no more than the next."""

STEPS = 12
"""Values of the spectrum."""

PAIR_SPREAD = 0.25
"""Standard deviation of a patch's correlation with its neighbour, over the square root of the pairs that count."""

MEDIAN_SHORT = 1.03
"""Mean over median of the standard deviation of a patch."""


@dataclass(frozen=True)
class ScanNoise:
    """Noise of a scan, measured in its thick slices.

    Attributes:
        patches: where it was measured.
        thick_hu: standard deviation in even soft tissue of the thick slices.
        thin_hu: the same of thin slices, by the averaging law.
        blur: standard deviation of the blur along z, in thin slices.
        share: thick variance over thin variance.
        spectrum: in-plane power by radial frequency, as `NoiseField` takes it.
    """

    patches: Patches
    thick_hu: float
    thin_hu: float
    blur: float
    share: float
    spectrum: tuple[float, ...]


def measure_noise(thick: npt.NDArray[Any], averages: Averages) -> ScanNoise:
    """Measure the noise of a thick scan.

    Args:
        thick: (depth, height, width) HU.
        averages: of the thick slices.

    Raises:
        InputError: too little even soft tissue, too few slices, or no noise; leave texture out.
    """
    patches = find_patches(thick)
    even = patches.even["soft"]
    count = np.count_nonzero(even)
    if count < FEWEST_PATCHES:
        raise InputError(
            f"Texture needs even soft tissue in which the scan's noise can be measured, and there are {count} "
            f"patches of it ({FEWEST_PATCHES} are needed); go without {option('texture', True)}."
        )
    blur = find_blur(averages, patches.neighbour_correlation, PAIR_SPREAD / np.sqrt(max(patches.pairs, 1)))
    share, _ = thick_variance(averages, blur)
    thick_hu = MEDIAN_SHORT * float(np.sqrt(np.median(patches.variance[even])))
    if thick_hu < LEAST_NOISE_HU:
        raise InputError(
            f"Texture follows the noise of the scan, and its soft tissue holds none ({thick_hu:.2f} HU), as where a "
            f"picture was drawn or smoothed; go without {option('texture', True)}."
        )
    return ScanNoise(patches, thick_hu, thick_hu / float(np.sqrt(share)), blur, share, _spectrum(thick))


def _spectrum(thick: npt.NDArray[Any]) -> tuple[float, ...]:
    """In-plane power by radial frequency, of mean 1, in even blocks of soft tissue; flat where there are none."""
    found: list[npt.NDArray[np.floating]] = []
    variances: list[npt.NDArray[np.floating]] = []
    tissue: Tissue = "soft"
    window = np.outer(np.hanning(BLOCK + 2)[1:-1], np.hanning(BLOCK + 2)[1:-1]).astype(np.float32)
    frequency = np.fft.fftfreq(BLOCK)
    band = np.rint(np.hypot(frequency[:, None], frequency[None]) * BLOCK).astype(int).ravel()
    per_band = np.bincount(band)
    for plane in thick:
        blocks = tiles(plane, BLOCK)
        chosen = is_tissue(blocks, tissue)
        if not chosen.any():
            continue
        residual = without_plane(blocks[chosen], BLOCK)
        power = np.square(np.abs(np.fft.fft2(residual.reshape(-1, BLOCK, BLOCK) * window))).reshape(len(residual), -1)
        found.append(np.stack([np.bincount(band, each) for each in power]) / per_band)
        variances.append(np.mean(np.square(residual), axis=-1))
    if not found:
        return (1.0,) * STEPS
    bands, variance = np.concatenate(found), np.concatenate(variances)
    count = min(max(1, int(BLOCK_SHARE * len(variance))), MOST_BLOCKS)
    mean = bands[np.argsort(variance, kind="stable")[:count]].mean(axis=0)
    mean[:FIRST_BAND] = np.minimum(mean[:FIRST_BAND], mean[FIRST_BAND])
    values = np.interp(radial_frequencies(STEPS), np.arange(len(mean)) / BLOCK, mean)
    return tuple(float(value) for value in values / values.mean())
