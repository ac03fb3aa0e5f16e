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
        values = _patches(np.asarray(plane, dtype=np.float32))
        even = is_even(values) & _is_soft(values)
        sharp = _patches(_second_difference(plane))
        deviations.append(_surface_deviation(values[even]))
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


def patches_of(plane: npt.NDArray[Any]) -> Doubles:
    """(patches, pixels) of a slice in patches of `NOISE_PATCH` pixels; rows and columns left over are cut off."""
    values = _patches(np.asarray(plane, dtype=np.float32))
    return values.reshape(-1, values.shape[-1])


def is_even(values: Doubles, *, in_noise: float = UNEVENNESS_IN_NOISE) -> npt.NDArray[np.bool_]:
    """Whether patches (..., pixels) hold no edge: their left and right, upper and lower halves have like means.

    >>> step = np.where(np.arange(49) % 7 < 3, 0.0, 100.0)
    >>> is_even(np.stack([np.zeros(49), step])).tolist()
    [True, False]
    """
    allowed = MAX_UNEVENNESS_HU + in_noise * values.std(axis=-1)
    even = np.ones(values.shape[:-1], dtype=bool)
    for place in np.divmod(np.arange(NOISE_PATCH**2), NOISE_PATCH):
        first, second = place < NOISE_PATCH // 2, place > NOISE_PATCH // 2
        even &= np.abs(values[..., first].mean(axis=-1) - values[..., second].mean(axis=-1)) < allowed
    return np.asarray(even)


def _patches(plane: npt.NDArray[Any]) -> Doubles:
    height, width = (extent // NOISE_PATCH for extent in plane.shape)
    cut = plane[: height * NOISE_PATCH, : width * NOISE_PATCH].astype(np.float64)
    tiles = cut.reshape(height, NOISE_PATCH, width, NOISE_PATCH).transpose(0, 2, 1, 3)
    return tiles.reshape(height, width, NOISE_PATCH**2)


def _is_soft(values: Doubles) -> npt.NDArray[np.bool_]:
    low, high = TISSUES_HU["soft"]
    mean = values.mean(axis=-1)
    return np.asarray((mean >= low) & (mean < high))


def _second_difference(plane: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(
        correlate1d(correlate1d(plane.astype(np.float32), SECOND_DIFFERENCE, axis=0), SECOND_DIFFERENCE, axis=1)
    )


def _surface_deviation(values: Doubles) -> Doubles:
    """Standard deviation of patches (n, pixels) from the surface of second degree that fits best."""
    row, column = (place - NOISE_PATCH // 2 for place in np.divmod(np.arange(NOISE_PATCH**2), NOISE_PATCH))
    surfaces = np.stack([np.ones(NOISE_PATCH**2), row, column, row * column, row**2, column**2], axis=1)
    basis, _ = np.linalg.qr(surfaces)
    rest = values - (values @ basis) @ basis.T
    return np.asarray(np.sqrt(np.sum(rest**2, axis=-1) / (NOISE_PATCH**2 - basis.shape[1])))


def _correlation(first: Doubles, second: Doubles) -> Doubles:
    """Correlation of patches (n, pixels) whose mean is 0; patches without any noise are left out."""
    powers = np.sum(first**2, axis=-1) * np.sum(second**2, axis=-1)
    held = powers > 0
    return np.asarray(np.sum(first * second, axis=-1)[held] / np.sqrt(powers[held]))
