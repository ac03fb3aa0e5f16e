"""Noise of a scan, in patches of even soft tissue: its size, its whiteness, and how much of it neighbours share.

Noise between two slices is correlated as far as they were made of the same rays: contiguous slices hardly (0.04 to
0.35 on the scans at hand), slices that overlap by half by 0.5 to 0.6, interpolated or repeated ones by 0.7 to 1. Noise
that was sharpened along z is anticorrelated. Anatomy would correlate too, so it is taken out by a second difference
along both axes of the plane, of which planes and straight edges leave nothing.

Source: the second difference is the noise estimator of Immerkaer, Comput Vis Image Underst 64 (1996); correlation by
overlap follows from averages of independent rays; the use as a test of the header is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

from thinslice.evaluation.clinical.even_tissue import TREND_TERMS, patches_of, unevenness_hu, without_trend
from thinslice.evaluation.clinical.tissues import MAX_UNEVENNESS_HU, NOISE_PATCH, TISSUES_HU
from thinslice.typing import Doubles

SECOND_DIFFERENCE = (1.0, -2.0, 1.0)
"""Taken along height and width in turn; white noise of standard deviation s becomes one of 6 s."""

UNEVENNESS_IN_NOISE = 0.5
"""Share of a patch's standard deviation by which its halves may differ beside `MAX_UNEVENNESS_HU`: the means of halves
of noise alone differ by 0.3 of it, and more where noise is coarse."""

MIN_PAIRS = 20
"""Patches that two neighbours must share for a correlation of their own."""

MIN_PATCHES = 50
"""Patches below which a scan's noise is not measured."""

LEAST_NOISE_HU = 0.5
"""Standard deviation below which only the rounding to whole HU is left, which is white and shared with no neighbour."""

REPEATED = 0.9
"""Correlation from which on two slices are copies of each other."""


@dataclass(frozen=True)
class NoiseTraits:
    """Noise of a scan.

    Attributes:
        sd_hu: median standard deviation of patches, a smooth surface taken out; None where too few are even.
        whiteness: share of it that a second difference leaves: 1 for white noise, 0.2 to 0.85 behind a CT's kernel.
        correlation: median correlation with the next slice.
        pairs: correlation of slices k and k + 1, one value for each k; NaN where they share too few patches.
        patches: number of patches.
    """

    sd_hu: float | None
    whiteness: float | None
    correlation: float | None
    pairs: tuple[float, ...]
    patches: int


def noise_traits(hu: npt.NDArray[Any]) -> NoiseTraits:
    """Measure the noise of a scan.

    Args:
        hu: (depth, height, width) HU.

    >>> white = np.random.default_rng(0).normal(40.0, 10.0, (4, 84, 84))
    >>> found = noise_traits(white)
    >>> round(found.sd_hu), round(found.whiteness, 1), abs(round(found.correlation, 1))
    (10, 1.0, 0.0)
    """
    deviations: list[Doubles] = []
    differences: list[Doubles] = []
    correlations: list[Doubles] = []
    before: tuple[npt.NDArray[np.bool_], Doubles] | None = None
    for plane in hu:
        values = patches_of(plane, NOISE_PATCH)
        even = is_flat(values) & _is_soft(values)
        sharp = patches_of(_second_difference(plane), NOISE_PATCH)
        deviations.append(_deviation(values[even]))
        differences.append(np.sqrt(np.mean(np.square(sharp[even]), axis=-1)) / 6.0)
        if before is not None:
            both = even & before[0]
            correlations.append(_correlation(sharp[both], before[1][both]))
        before = even, sharp
    count = sum(len(each) for each in deviations)
    pairs = tuple(float(np.median(each)) if len(each) >= MIN_PAIRS else float("nan") for each in correlations)
    if count < MIN_PATCHES:
        return NoiseTraits(None, None, None, pairs, count)
    sd_hu = float(np.median(np.concatenate(deviations)))
    is_noise = sd_hu >= LEAST_NOISE_HU
    known = np.concatenate(correlations) if correlations else np.zeros(0)
    return NoiseTraits(
        sd_hu=sd_hu,
        whiteness=float(np.median(np.concatenate(differences))) / sd_hu if is_noise else None,
        correlation=float(np.median(known)) if is_noise and len(known) >= MIN_PATCHES else None,
        pairs=pairs,
        patches=count,
    )


def is_flat(values: Doubles, *, in_noise: float = UNEVENNESS_IN_NOISE) -> npt.NDArray[np.bool_]:
    """Whether patches (patches, pixels) hold no edge, for their noise: their halves have like means.

    Args:
        values: (patches, pixels) HU, square.
        in_noise: share of a patch's standard deviation by which its halves may differ beside `MAX_UNEVENNESS_HU`.

    >>> step = np.where(np.arange(49) % 7 < 3, 0.0, 100.0)
    >>> is_flat(np.stack([np.zeros(49), step])).tolist()
    [True, False]
    """
    return np.asarray(unevenness_hu(values) < MAX_UNEVENNESS_HU + in_noise * values.std(axis=-1))


def _is_soft(values: Doubles) -> npt.NDArray[np.bool_]:
    low, high = TISSUES_HU["soft"]
    mean = values.mean(axis=-1)
    return np.asarray((mean >= low) & (mean < high))


def _second_difference(plane: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(
        correlate1d(correlate1d(plane.astype(np.float32), SECOND_DIFFERENCE, axis=0), SECOND_DIFFERENCE, axis=1)
    )


def _deviation(values: Doubles) -> Doubles:
    """Standard deviation of patches (patches, pixels) from their trend."""
    return np.asarray(np.sqrt(np.sum(without_trend(values) ** 2, axis=-1) / (values.shape[-1] - TREND_TERMS)))


def _correlation(first: Doubles, second: Doubles) -> Doubles:
    """Correlation of patches (n, pixels) whose mean is 0; patches without any noise are left out."""
    powers = np.sum(first**2, axis=-1) * np.sum(second**2, axis=-1)
    held = powers > 0
    return np.asarray(np.sum(first * second, axis=-1)[held] / np.sqrt(powers[held]))
