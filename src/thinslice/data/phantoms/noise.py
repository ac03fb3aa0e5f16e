"""Noise with the spectrum of a reconstruction kernel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft

CUTOFF = 0.33
"""Frequency at which a standard kernel's noise has died away to a third, cycles per pixel."""


def grain(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise with the spectrum of a reconstruction kernel: little at low frequencies, most in the middle, none at the
    finest.

    Args:
        shape: (height, width).
        rng: random generator.

    Returns:
        (height, width), standard deviation 1.

    >>> round(float(grain((32, 32), np.random.default_rng(0)).std()), 6)
    1.0
    """
    height, width = shape
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * _response(height, width, CUTOFF)
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return np.asarray(noise / noise.std(), dtype=np.float64)


def grain_stack(
    shape: tuple[int, int, int], rng: np.random.Generator, *, cutoff: float = CUTOFF
) -> npt.NDArray[np.float32]:
    """Independent slices of noise with the spectrum of a reconstruction kernel.

    Args:
        shape: (slices, height, width).
        rng: source of all draws.
        cutoff: frequency above which the kernel lets little through, cycles per pixel; a soft kernel's is low.

    Returns:
        (slices, height, width) float32, standard deviation 1.

    >>> stack = grain_stack((3, 32, 32), np.random.default_rng(0))
    >>> stack.shape, round(float(stack.std()), 3)
    ((3, 32, 32), 1.0)
    """
    _, height, width = shape
    response = _response(height, width, cutoff).astype(np.float32)
    spectrum = scipy.fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) * response
    noise = scipy.fft.irfft2(spectrum, s=(height, width))
    return np.asarray(noise / noise.std(), dtype=np.float32)


def _response(height: int, width: int, cutoff: float) -> npt.NDArray[np.float64]:
    """Gain of the frequencies of `rfft2`, (height, width // 2 + 1)."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    response: npt.NDArray[np.float64] = (frequency + 0.02) ** 0.6 * np.exp(-((frequency / cutoff) ** 2))
    return response
