"""Noise along z: how noisy thin slices are, given the noise of thick ones, and what the thick ones leave open.

A thick slice averages thin ones, t = A x. Noise of thin slices is modelled as white noise that the scanner has blurred
a little along z: its correlation R falls with the distance of two slices as a Gaussian does. Two things follow.

- The variance of a thick slice is w^T R w of a thin one's, w being the profile's weights, and neighbouring thick slices
  are correlated by as much as thin slices overlap. So the thick slices themselves show how wide the blur is.
- Of the noise n of the thin slices the thick ones fix A n. What they leave open is drawn as n - B A n with
  B = R A^T (A R A^T)^-1, which averages to nothing over every thick slice and has the covariance that the noise has
  once A n is known.

Source: conditional simulation by residual kriging: Journel and Huijbregts, Mining Geostatistics (1978).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import convolve1d

from thinslice.planning.exact_spacing import ExactSpacing
from thinslice.profile import SliceProfile, damping
from thinslice.typing import Doubles

BLURS = tuple(float(blur) for blur in np.geomspace(0.25, 1.5, 101))
"""Widths of the blur that are considered: standard deviations in thin slices."""

USUAL_BLUR, BLUR_SPREAD = 0.5, 0.35
"""Usual width, and the standard deviation of its logarithm: from 0.42 to 0.84 in eight scans of three makers."""

ANATOMY_CORRELATION = 0.016
"""Correlation of neighbouring thick slices at the finest detail that anatomy adds to that of the noise (mean of eight
scans)."""

CORRELATION_ERROR = 0.01
"""Standard deviation of that part between scans."""

PROFILE_ERROR = 0.1
"""Share of the expected correlation by which a slice profile that differs from the stated one changes it: where thick
slices overlap, their correlation says more of the profile than of the blur."""

REACH = 12
"""Thin slices over which noise is correlated at most."""

MAX_HALO = 8
"""Thick slices on either side of a thin one that may count for it."""

NEGLIGIBLE = 1e-3
"""Share of the largest weight below which a thick slice does not count."""


@dataclass(frozen=True)
class Averages:
    """Weights of thin slices in every thick one, of those beyond the ends of the thin grid too.

    Attributes:
        ratio: thin slices per thick interval.
        slices: number of thin slices.
        rows: of each thick slice, its first thin slice, which may be negative, and the weights from there on.
    """

    ratio: float
    slices: int
    rows: tuple[tuple[int, tuple[float, ...]], ...]

    @classmethod
    def of_profile(cls, profile: SliceProfile, depth: int) -> Averages:
        """The averages of `depth` thick slices at a whole factor.

        >>> Averages.of_profile(SliceProfile.mean(2), 2).rows
        ((-1, (0.25, 0.5, 0.25)), (1, (0.25, 0.5, 0.25)))
        """
        rows = tuple((k * profile.factor - profile.reach, profile.weights) for k in range(depth))
        return cls(profile.factor, (depth - 1) * profile.factor + 1, rows)

    @classmethod
    def of_spacing(cls, spacing: ExactSpacing) -> Averages:
        """The averages of thin slices at a distance of their own."""
        return cls(spacing.ratio, spacing.slices, tuple(spacing.row(k) for k in range(spacing.depth)))

    @property
    def first(self) -> int:
        """The first thin slice that has weight in a thick one; negative, or 0."""
        return min(0, self.rows[0][0])

    @property
    def stop(self) -> int:
        """The thin slice after the last that has weight."""
        return max(self.slices, *(first + len(weights) for first, weights in self.rows))

    def matrix(self) -> Doubles:
        """A: (thick slices, thin slices from `first` to `stop`)."""
        matrix = np.zeros((len(self.rows), self.stop - self.first))
        for row, (first, weights) in zip(matrix, self.rows, strict=True):
            row[first - self.first : first - self.first + len(weights)] = weights
        return matrix


@lru_cache(maxsize=256)
def blur_taps(blur: float) -> Doubles:
    """The filter along z that gives white noise the correlation of a Gaussian blur; its squares sum to 1.

    Args:
        blur: standard deviation of the blur in thin slices.

    Returns:
        2 * `REACH` // 2 + 1 weights, symmetric.

    >>> taps = blur_taps(0.5)
    >>> len(taps), round(float(taps @ taps), 6), round(float(taps[1:] @ taps[:-1]), 2)
    (13, 1.0, 0.37)
    """
    period = 8 * REACH
    distance = np.minimum(np.arange(period), period - np.arange(period))
    power = np.fft.rfft(np.exp(-(distance**2) / (4.0 * blur**2))).real
    circular = np.fft.irfft(np.sqrt(np.maximum(power, 0.0)), n=period)
    taps = np.roll(circular, REACH // 2)[: REACH + 1]
    taps = taps / np.sqrt(taps @ taps)
    taps.setflags(write=False)
    return np.asarray(taps)


@lru_cache(maxsize=256)
def correlation(blur: float) -> Doubles:
    """Correlation of thin slices by their distance, 0 to `REACH`, under `blur_taps`."""
    taps = blur_taps(blur)
    return np.correlate(taps, taps, mode="full")[len(taps) - 1 :]


def thick_variance(averages: Averages, blur: float) -> tuple[float, float]:
    """Variance of a thick slice's noise over that of a thin one, and correlation of neighbouring thick slices.

    Args:
        averages: of two thick slices at least; two in the middle count.
        blur: of the noise along z.

    >>> white = thick_variance(Averages.of_profile(SliceProfile.mean(5), 4), 0.25)
    >>> round(white[0], 2), round(white[1], 2)
    (0.21, 0.0)
    """
    middle = (len(averages.rows) - 1) // 2
    (first, weights), (second, others) = averages.rows[middle : middle + 2]
    start, stop = min(first, second), max(first + len(weights), second + len(others))
    rows = np.zeros((2, stop - start))
    rows[0, first - start : first - start + len(weights)] = weights
    rows[1, second - start : second - start + len(others)] = others
    gram = _smoothed(rows, blur) @ rows.T
    return float(gram[0, 0]), float(gram[0, 1] / np.sqrt(gram[0, 0] * gram[1, 1]))


def find_blur(averages: Averages, measured: float, error: float) -> float:
    """The blur along z under which neighbouring thick slices are correlated as measured.

    The most probable one, given the spread of blurs between scans: thick slices of many thin ones are hardly
    correlated, and then the usual blur is the best guess.

    Args:
        averages: of the thick slices.
        measured: correlation of neighbouring thick slices at the finest detail, anatomy included.
        error: standard deviation of that number.
    """
    expected = np.array([thick_variance(averages, blur)[1] for blur in BLURS])
    usual = thick_variance(averages, USUAL_BLUR)[1]
    error = float(np.sqrt(error**2 + CORRELATION_ERROR**2 + (PROFILE_ERROR * usual) ** 2))
    misfit = ((expected - (measured - ANATOMY_CORRELATION)) / error) ** 2
    unusual = ((np.log(BLURS) - np.log(USUAL_BLUR)) / BLUR_SPREAD) ** 2
    return BLURS[int(np.argmin(misfit + unusual))]


@dataclass(frozen=True)
class OpenNoise:
    """What thick slices leave open of noise of variance 1.

    Attributes:
        averages: weights of thin slices in thick ones.
        back: (thin slices, thick slices): B, of the thin slices from 0 on; zero beyond `halo`.
        sd: standard deviation of what is left, by thin slice.
        halo: thick slices on either side of a thin one that count for it.
    """

    averages: Averages
    back: Doubles
    sd: Doubles
    halo: int

    @property
    def middle_variance(self) -> float:
        """Mean variance of what is left, ends of the volume aside."""
        margin = min(int(self.averages.ratio), (len(self.sd) - 1) // 2)
        return float(np.mean(self.sd[margin : len(self.sd) - margin] ** 2))


def open_noise(averages: Averages, blur: float) -> OpenNoise:
    """The part of noise that the thick slices leave open.

    Where slices overlap so strongly that A R A^T is badly conditioned, it is damped, as the network's projection is.

    >>> left = open_noise(Averages.of_profile(SliceProfile.mean(5), 9), 0.25)
    >>> left.sd[20:25].round(2).tolist(), left.halo
    ([0.89, 0.89, 0.89, 0.89, 0.89], 1)
    """
    matrix = averages.matrix()
    smoothed = _smoothed(matrix, blur)
    gram = smoothed @ matrix.T
    back = np.asarray(np.linalg.solve(gram + damping(gram) * np.eye(len(gram)), smoothed).T, dtype=np.float64)
    variance = 1.0 - 2.0 * np.sum(back * smoothed.T, axis=1) + np.sum((back @ gram) * back, axis=1)
    sd = np.asarray(np.sqrt(np.maximum(variance, 0.0)), dtype=np.float64)
    inside = slice(-averages.first, -averages.first + averages.slices)
    back, sd = back[inside], sd[inside]
    positions = np.arange(averages.slices)[:, None] / averages.ratio - np.arange(len(gram))
    counts = np.abs(back) > NEGLIGIBLE * np.abs(back).max()
    halo = min(MAX_HALO, int(np.abs(positions[counts]).max(initial=0.0)))
    back[np.abs(positions) >= halo + 1] = 0.0
    return OpenNoise(averages, back, sd, halo)


def _smoothed(rows: Doubles, blur: float) -> Doubles:
    """Rows times R."""
    one_sided = correlation(blur)
    return np.asarray(convolve1d(rows, np.concatenate([one_sided[:0:-1], one_sided]), axis=1, mode="constant"))
