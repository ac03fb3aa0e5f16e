"""The grain of noise in a CT slice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def grain(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise with the spectrum of a reconstruction kernel: little at low frequencies, most in the middle, none at the
    finest.

    Args:
        shape: (height, width).
        rng: where it is drawn from.

    Returns:
        (height, width), standard deviation 1.

    >>> round(float(grain((32, 32), np.random.default_rng(0)).std()), 6)
    1.0
    """
    height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    response = (frequency + 0.02) ** 0.6 * np.exp(-((frequency / 0.33) ** 2))
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * response
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return np.asarray(noise / noise.std(), dtype=np.float64)
