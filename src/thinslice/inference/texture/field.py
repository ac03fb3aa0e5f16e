"""Noise of variance 1, slice by slice: white noise with the in-plane spectrum and the blur along z of a scan.

Every slice is drawn from a generator of its own, keyed by seed and slice, so it does not depend on the slices that were
drawn before, on windows or on memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from thinslice.inference.texture.law import blur_taps
from thinslice.typing import Doubles, Floats

_OFFSET = 1 << 32
"""Added to the index of a slice in the generator's key, as slices before the first have negative ones."""


class NoiseField:
    """Planes of noise, in ascending order of the slice.

    Args:
        shape: (height, width) of a plane.
        spectrum: power by radial frequency, `len(spectrum) - 1` equal steps from 0 to 0.5 * sqrt(2) cycles per pixel;
            any unit.
        blur: standard deviation of the blur along z in slices.
        seed: of the generators.

    >>> field = NoiseField((64, 64), (1.0, 1.0), 0.5, seed=0)
    >>> plane = field.plane(-3)
    >>> again = NoiseField((64, 64), (1.0, 1.0), 0.5, seed=0).plane(-3)
    >>> bool(np.array_equal(plane, again)), bool(0.9 < plane.std() < 1.1)
    (True, True)
    """

    def __init__(self, shape: tuple[int, int], spectrum: Sequence[float], blur: float, *, seed: int) -> None:
        self._shape = shape
        self._seed = seed
        # Torus: the transform's period is a few pixels longer than the plane, so that its borders are not neighbours.
        self._period = tuple(fft.next_fast_len(extent + 16, real=True) for extent in shape)
        self._gain = _gain(self._period, spectrum)
        self._taps = blur_taps(blur).astype(np.float32)
        self._white: dict[int, Floats] = {}

    def plane(self, index: int) -> Floats:
        """The noise of one slice, (height, width); earlier slices may not be asked for afterwards without cost."""
        reach = len(self._taps) // 2
        for gone in [each for each in self._white if each < index - reach]:
            del self._white[gone]
        plane = np.zeros(self._shape, dtype=np.float32)
        for offset, tap in zip(range(-reach, reach + 1), self._taps, strict=True):
            if abs(tap) < 1e-4:
                continue
            if index + offset not in self._white:
                self._white[index + offset] = self._drawn(index + offset)
            plane += tap * self._white[index + offset]
        return plane

    def _drawn(self, index: int) -> Floats:
        generator = np.random.Generator(np.random.Philox(key=[self._seed, index + _OFFSET]))
        white = generator.standard_normal(self._period, dtype=np.float32)
        coloured = fft.irfft2(fft.rfft2(white) * self._gain, s=self._period)
        return np.ascontiguousarray(coloured[: self._shape[0], : self._shape[1]], dtype=np.float32)


def radial_frequencies(steps: int) -> Doubles:
    """Frequencies in cycles per pixel of a spectrum of so many values, 0 to the corner of the Fourier plane."""
    return np.linspace(0.0, 0.5 * np.sqrt(2.0), steps)


def _gain(period: tuple[int, ...], spectrum: Sequence[float]) -> Floats:
    """Amplitude by frequency, for `rfft2`, that keeps a variance of 1."""
    rows, columns = np.fft.fftfreq(period[0])[:, None], np.fft.fftfreq(period[1])[None]
    power = np.interp(np.hypot(rows, columns), radial_frequencies(len(spectrum)), spectrum)
    half = power[:, : period[1] // 2 + 1]
    return np.asarray(np.sqrt(half / power.mean()), dtype=np.float32)
