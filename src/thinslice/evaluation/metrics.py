"""PSNR and SSIM as the published numbers use them. numpy and scipy only.

The functions neither clamp nor leave slices out: the protocol does (`thinslice.evaluation.protocol`). They work slice
by slice in float64, so memory does not grow with depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import InputError, UsageError
from thinslice.typing import Doubles

SSIM_WINDOW = 11
"""Extent of the Gaussian window in pixels."""

SSIM_SIGMA = 1.5
"""Standard deviation of the Gaussian window in pixels."""

UNIFORM_WINDOW = 7
"""Extent of the uniform window in voxels: scikit-image's default."""

SSIM_K1, SSIM_K2 = 0.01, 0.03
"""Stabilising constants, as fractions of the data range."""


def psnr(estimate: npt.ArrayLike, reference: npt.ArrayLike, *, data_range: float) -> float:
    """Peak signal-to-noise ratio over all voxels, in dB.

    Args:
        estimate: (depth, height, width), any real type, in the units of `data_range`.
        reference: the same shape and units.
        data_range: extent of the values that count as full scale: 1.0 for the unit window, 3072.0 for its HU.

    Returns:
        20 log10(data_range / sqrt(mse)); infinite for identical volumes.

    Raises:
        InputError: shapes differ, are not (depth, height, width), or a value is not finite.
        UsageError: `data_range` is not positive and finite.

    Source: paper, section 3 (Evaluation Metrics); the released code takes one mean square error per case.

    >>> round(psnr(np.full((2, 4, 4), 0.1), np.zeros((2, 4, 4)), data_range=1.0), 6)
    20.0
    >>> psnr(np.ones((1, 2, 2)), np.ones((1, 2, 2)), data_range=1.0)
    inf
    """
    return psnr_of(mean_squared_error(estimate, reference), data_range=data_range)


def psnr_of(mean_squared_error: float, *, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error in squared units of `data_range`.

    >>> psnr_of(0.01, data_range=1.0), psnr_of(0.0, data_range=1.0)
    (20.0, inf)
    """
    _check_range(data_range)
    if mean_squared_error == 0.0:
        return float("inf")
    return float(20.0 * np.log10(data_range / np.sqrt(mean_squared_error)))


def mean_squared_error(estimate: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean of the squared difference over all voxels of two (depth, height, width) volumes.

    Raises:
        InputError: shapes differ, are not (depth, height, width), or a value is not finite.

    >>> mean_squared_error(np.full((1, 2, 2), 3.0), np.ones((1, 2, 2)))
    4.0
    """
    sums = [(float(np.sum(np.square(a - b))), a.size) for a, b in _slices(estimate, reference)]
    return sum(total for total, _ in sums) / sum(size for _, size in sums)


def ssim_per_slice(estimate: npt.ArrayLike, reference: npt.ArrayLike, *, data_range: float) -> npt.NDArray[np.float64]:
    """Structural similarity of each axial slice.

    A Gaussian window of 11 x 11 pixels, sigma 1.5, zeros outside the plane (so the border counts), population
    covariance; the mean over all pixels of the plane.

    Args:
        estimate: (depth, height, width), any real type, in the units of `data_range`.
        reference: the same shape and units.
        data_range: extent of the values that count as full scale.

    Returns:
        (depth,) float64, at most 1.

    Raises:
        InputError: shapes differ, are not (depth, height, width), or a value is not finite.
        UsageError: `data_range` is not positive and finite.

    Source: paper, section 3 (Evaluation Metrics); window, padding and constants as in the released code.

    >>> ssim_per_slice(np.ones((2, 16, 16)), np.ones((2, 16, 16)), data_range=1.0).round(12).tolist()
    [1.0, 1.0]
    """
    _check_range(data_range)
    pairs = _slices(estimate, reference)
    return np.array([_ssim_map(a, b, data_range).mean() for a, b in pairs])


def ssim(estimate: npt.ArrayLike, reference: npt.ArrayLike, *, data_range: float) -> float:
    """Structural similarity of a volume: the mean of `ssim_per_slice`, with its arguments and errors.

    >>> stripes = np.tile([0.0, 1.0], (1, 16, 8))
    >>> ssim(1.0 - stripes, stripes, data_range=1.0) < 0.0
    True
    """
    return float(ssim_per_slice(estimate, reference, data_range=data_range).mean())


def ssim_of_volume(estimate: npt.ArrayLike, reference: npt.ArrayLike, *, data_range: float) -> npt.NDArray[np.float64]:
    """Structural similarity in three dimensions, by slice, as scikit-image defines it by default.

    A uniform window of 7 x 7 x 7 voxels, sample covariance; windows that do not lie inside the volume do not count.

    Args:
        estimate: (depth, height, width), each at least 7; any real type, in the units of `data_range`.
        reference: the same shape and units.
        data_range: extent of the values that count as full scale.

    Returns:
        (depth - 6,) float64: the mean over each slice that is the middle of windows; their mean is that of the volume.

    Raises:
        InputError: shapes differ, are not (depth, height, width), are smaller than the window, or a value is not
            finite.
        UsageError: `data_range` is not positive and finite.

    Source: Wang et al., IEEE Trans. Image Processing 13 (2004), as in `skimage.metrics.structural_similarity`.

    >>> ssim_of_volume(np.ones((8, 9, 9)), np.ones((8, 9, 9)), data_range=1.0).round(12).tolist()
    [1.0, 1.0]
    """
    _check_range(data_range)
    half = UNIFORM_WINDOW // 2
    recent: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
    similar: list[float] = []
    for pair in _slices(estimate, reference):
        if min(pair[0].shape) < UNIFORM_WINDOW or np.shape(estimate)[0] < UNIFORM_WINDOW:
            raise InputError(
                f"SSIM of a volume needs {UNIFORM_WINDOW} voxels along each axis, not {np.shape(estimate)}; score by "
                "planes instead (protocol volume or rplhr)."
            )
        recent = [*recent[-UNIFORM_WINDOW + 1 :], pair]
        if len(recent) == UNIFORM_WINDOW:
            a, b = (np.stack([planes[side] for planes in recent]) for side in (0, 1))
            inner = _similarity(a, b, _box_mean, data_range, UNIFORM_WINDOW**3)[half:-half, half:-half]
            similar.append(float(inner.mean()))
    return np.array(similar)


def _ssim_map(a: Doubles, b: Doubles, data_range: float) -> Doubles:
    return _similarity(a, b, _blur, data_range, None)


def _similarity(
    a: Doubles, b: Doubles, mean: Callable[[Doubles], Doubles], data_range: float, samples: int | None
) -> Doubles:
    """The map of SSIM with a local mean; the covariance is that of so many samples, or the population's (None)."""
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    unbiased = 1.0 if samples is None else samples / (samples - 1)
    mean_a, mean_b = mean(a), mean(b)
    variance_a = unbiased * (mean(a * a) - mean_a * mean_a)
    variance_b = unbiased * (mean(b * b) - mean_b * mean_b)
    covariance = unbiased * (mean(a * b) - mean_a * mean_b)
    numerator = (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
    denominator = (mean_a * mean_a + mean_b * mean_b + c1) * (variance_a + variance_b + c2)
    return np.asarray(numerator / denominator)


def _box_mean(slab: Doubles) -> Doubles:
    """Mean of (window, height, width) over a cube around each pixel of the middle slice; (height, width)."""
    from scipy.ndimage import uniform_filter

    return np.asarray(uniform_filter(slab.mean(axis=0), UNIFORM_WINDOW))


def _blur(plane: Doubles) -> Doubles:
    from scipy.ndimage import correlate1d

    position = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    kernel = np.exp(-0.5 * np.square(position / SSIM_SIGMA))
    kernel /= kernel.sum()
    rows = correlate1d(plane, kernel, axis=0, mode="constant")
    return np.asarray(correlate1d(rows, kernel, axis=1, mode="constant"))


def _check_range(data_range: float) -> None:
    if not (np.isfinite(data_range) and data_range > 0):
        raise UsageError(f"data_range must be positive and finite, not {data_range}; it is 1.0 for unit values.")


def _slices(
    estimate: npt.ArrayLike, reference: npt.ArrayLike
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Checked slices of both volumes in float64."""
    a: npt.NDArray[Any] = np.asarray(estimate)
    b: npt.NDArray[Any] = np.asarray(reference)
    if a.shape != b.shape:
        raise InputError(
            f"Estimate {a.shape} and reference {b.shape} differ in shape; crop them to their overlap first "
            "(protocol.evaluate does this by world position)."
        )
    if a.ndim != 3 or a.size == 0:
        raise InputError(f"Scoring needs volumes of (depth, height, width), not an array of shape {a.shape}.")
    for index in range(a.shape[0]):
        plane_a, plane_b = a[index].astype(np.float64), b[index].astype(np.float64)
        for name, plane in (("estimate", plane_a), ("reference", plane_b)):
            if not np.all(np.isfinite(plane)):
                raise InputError(
                    f"The {name} holds {int(np.sum(~np.isfinite(plane)))} NaN or infinite values in slice "
                    f"{index}; repair it before scoring."
                )
        yield plane_a, plane_b
