"""Thin slices at a real-valued distance: their grid, and the matrices that lead there from a whole factor.

A network makes a whole number of thin slices per thick interval. For 1 mm out of 3.75 mm it makes 4 (0.94 mm), which
are then averaged anew to slices of 1 mm and made consistent with the thick ones again:

    x = R y + A+ (t - A R y)

y are the network's thin slices, t the thick ones, x the result; R keeps integrals (below), A averages x to thick
slices, and A+ = A^T (A A^T)^-1. The whole factor is the one nearest to the ratio: finer ones gained nothing (measured).

R interpolates the running integral of y by a cubic spline: averages over any interval follow, and over an interval
that begins and ends at borders of y's slices they are exact.

Positions count in thick spacings: thick slice k is at k, slice j of y at j / factor, slice i of x at i / ratio.

Source: ours; conservative remapping by splines: Zerroukat et al., Q. J. R. Meteorol. Soc. 132 (2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

from thinslice.geometry import Geometry
from thinslice.planning.eligibility import MAX_FACTOR, MIN_FACTOR
from thinslice.profile import DEEP, ProfileDensity, damping
from thinslice.typing import Doubles

WHOLE_TOLERANCE = 1e-3
"""Share by which a ratio may differ from a whole number and still be one: positions have few decimals."""

EDGE_TOLERANCE = 1e-6
"""Thick spacings: rounding errors of positions."""

BLOCK = 16
"""Thin slices that are made at a time: fewer would repeat work on their surroundings, more would take memory."""

HALO = 4
"""Thick slices on either side of a block that count for it: the influence of a slice dies out sooner."""


@dataclass(frozen=True)
class ExactSpacing:
    """Thin slices at a distance that no whole factor gives.

    Attributes:
        ratio: thick distance over thin distance, 2 to 8.
        factor: thin slices per thick interval that the network makes.
        profile: of the thick slices.
        depth: number of thick slices.
    """

    ratio: float
    factor: int
    profile: ProfileDensity
    depth: int

    @property
    def slices(self) -> int:
        """Number of thin slices: the first on the first thick slice, the last not beyond the last.

        >>> ExactSpacing(2.5, 3, ProfileDensity.box(1.0), depth=4).slices  # at 0, 0.4, ..., 2.8
        8
        """
        return math.floor((self.depth - 1) * self.ratio + EDGE_TOLERANCE) + 1

    def geometry(self, thick: Geometry) -> Geometry:
        """The grid of the thin slices; they are as thick as their distance."""
        return thick.respaced(thick.spacing_mm[0] / self.ratio, self.slices)

    @property
    def held_slices(self) -> int:
        """Slices in memory while a block is made: the network's slices around it twice, and the block itself."""
        return 2 * min(self.depth, math.ceil(BLOCK / self.ratio) + 2 * HALO + 1) * self.factor + 2 * BLOCK

    def blocks(self) -> list[tuple[int, int]]:
        """The thin slices in blocks, [start, stop)."""
        return [(start, min(start + BLOCK, self.slices)) for start in range(0, self.slices, BLOCK)]

    def rows(self) -> list[tuple[int, int, tuple[float, ...]]]:
        """Thick slices whose whole profile lies on the thin slices: (thick slice, first thin slice, weights).

        >>> ExactSpacing(2.5, 3, ProfileDensity.box(1.0), depth=3).rows()
        [(1, 1, (0.1, 0.4, 0.4, 0.1))]
        """
        found = []
        for k in range(self.depth):
            first, weights = self.row(k)
            if first >= 0 and first + len(weights) <= self.slices:
                found.append((k, first, weights))
        return found

    def row(self, k: int) -> tuple[int, tuple[float, ...]]:
        """First thin slice and weights of a thick slice, wherever the thin slices end.

        >>> ExactSpacing(2.5, 3, ProfileDensity.box(1.0), depth=3).row(0)
        (-1, (0.3, 0.4, 0.3))
        """
        reach = self.profile.reach
        first = math.ceil((k - reach) * self.ratio - 0.5 + EDGE_TOLERANCE)
        last = math.floor((k + reach) * self.ratio + 0.5 - EDGE_TOLERANCE)
        borders = np.asarray((np.arange(first, last + 2) - 0.5) / self.ratio - k, dtype=np.float64)
        weights = np.diff(self.profile.integral(borders))
        # A thin slice that is half inside counts with its own mean, not that of the half: tilt the weights so that
        # their centre is the thick slice's, or a ramp would not stay one.
        distance = np.arange(first, last + 1) / self.ratio - k
        centre, square = (float((weights * distance**power).sum()) for power in (1, 2))
        if square - centre**2 > EDGE_TOLERANCE:
            weights = weights * (square - centre * distance)
        weights = np.round(weights / weights.sum(), 12)
        return first, tuple(float(weight) for weight in weights)

    def block(self, start: int, stop: int) -> Block:
        """The matrices of thin slices [start, stop) from thick slices and network slices around them."""
        return _block(self, start, stop)


@dataclass(frozen=True)
class Block:
    """Thin slices [start, stop) out of what lies around them.

    Attributes:
        thick: half-open range of thick slices that count.
        fine: half-open range of the network's slices that count.
        from_fine: (stop - start, network slices): (1 - A+ A) R.
        from_thick: (stop - start, thick slices): A+; zero for slices that are not made consistent.
        averages: (stop - start, network slices): R without overshoot, for standard deviations.
    """

    thick: range
    fine: range
    from_fine: Doubles
    from_thick: Doubles
    averages: Doubles


@lru_cache(maxsize=8)
def _block(spacing: ExactSpacing, start: int, stop: int) -> Block:
    ratio, factor = spacing.ratio, spacing.factor
    low = max(0, math.floor(start / ratio) - HALO)
    high = min(spacing.depth - 1, math.ceil((stop - 1) / ratio) + HALO)
    fine = range(low * factor, high * factor + 1)
    first = math.ceil(low * ratio - EDGE_TOLERANCE)
    last = min(spacing.slices - 1, math.floor(high * ratio + EDGE_TOLERANCE))
    borders = (np.arange(fine.start, fine.stop + 1) - 0.5) / factor
    centres = np.arange(first, last + 1) / ratio
    lower = np.clip(centres - 0.5 / ratio, borders[0], borders[-1])
    upper = np.clip(centres + 0.5 / ratio, borders[0], borders[-1])
    remap = _averages(borders, lower, upper, cubic=len(borders) >= 4)
    plain = _averages(borders, lower, upper, cubic=False)

    inside = [row for row in spacing.rows() if first <= row[1] and row[1] + len(row[2]) - 1 <= last]
    average = np.zeros((len(inside), len(centres)))
    thick = np.zeros((len(inside), high - low + 1))
    for index, (k, begin, weights) in enumerate(inside):
        average[index, begin - first : begin - first + len(weights)] = weights
        thick[index, k - low] = 1.0
    gram = average @ average.T + _damping(spacing) * np.eye(len(inside))
    back = np.linalg.solve(gram, average).T if inside else average.T
    chosen = slice(start - first, stop - first)
    return Block(
        thick=range(low, high + 1),
        fine=fine,
        from_fine=(remap - back @ (average @ remap))[chosen],
        from_thick=(back @ thick)[chosen],
        averages=plain[chosen],
    )


@lru_cache(maxsize=32)
def _damping(spacing: ExactSpacing) -> float:
    """As in `thinslice.profile`: nothing, or what bounds the condition number of A A^T, for all depths alike."""
    deep = ExactSpacing(spacing.ratio, spacing.factor, spacing.profile, DEEP)
    rows = deep.rows()
    matrix = np.zeros((len(rows), deep.slices))
    for index, (_, begin, weights) in enumerate(rows):
        matrix[index, begin : begin + len(weights)] = weights
    return damping(matrix @ matrix.T)


def _averages(borders: Doubles, lower: Doubles, upper: Doubles, *, cubic: bool) -> Doubles:
    """(intervals, cells): averages over [lower, upper) from averages over the cells between borders."""
    integral = np.zeros((len(borders), len(borders) - 1))
    integral[1:] = np.tril(np.broadcast_to(np.diff(borders), (len(borders) - 1,) * 2))
    if cubic:
        spline = CubicSpline(borders, integral, axis=0, bc_type="not-a-knot")
        difference = spline(upper) - spline(lower)
    else:

        def at(places: Doubles) -> Doubles:
            cell = np.clip(np.searchsorted(borders, places, side="right") - 1, 0, len(borders) - 2)
            share = ((places - borders[cell]) / np.diff(borders)[cell])[:, None]
            return np.asarray(integral[cell] * (1.0 - share) + integral[cell + 1] * share)

        difference = at(upper) - at(lower)
    return np.asarray(difference / (upper - lower)[:, None])


def exact_ratio(thick_mm: float, spacing_mm: float) -> float | None:
    """Thick distance over a wanted thin one, where thin slices can lie at exactly that distance and no whole factor
    gives it; None otherwise.

    >>> exact_ratio(3.75, 1.0), exact_ratio(5.0, 1.0), exact_ratio(5.0, 3.0)
    (3.75, None, None)
    """
    ratio = thick_mm / spacing_mm
    is_whole = abs(ratio - round(ratio)) <= WHOLE_TOLERANCE * ratio
    return ratio if not is_whole and MIN_FACTOR <= ratio <= MAX_FACTOR else None
