"""Coverage of predicted intervals: errors over estimated standard deviations, by tissue, gradient and distance.

The error of a voxel over its standard deviation is its standardised error. The interval of a level reaches a multiple
of the standard deviation to either side of the estimate, and holds the truth where the standardised error is below that
multiple. Histograms are counted, so that intervals of any multiple can be evaluated afterwards.

The truth is a thin reconstruction with noise of its own, which no estimate can predict. It is part of every error, and
a standard deviation has to cover it.

Source: ours; the interval score is Gneiting and Raftery, JASA 2007.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.tissue_bias import tissue_class
from thinslice.evaluation.clinical.tissues import TISSUES_HU
from thinslice.evaluation.placed import PlacedThick
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.typing import Floats

LEAST, MOST, PER_OCTAVE = 2.0**-7, 2.0**7, 64
"""Range of the histogram of standardised errors, and its bins per doubling (1.1 % each)."""

EDGES = LEAST * 2.0 ** (np.arange(round(PER_OCTAVE * math.log2(MOST / LEAST)) + 1) / PER_OCTAVE)
"""Borders of the histogram; one more bin lies before the first border, and one after the last."""

BINS = len(EDGES) + 1

FLAT_HU_PER_MM, EDGE_HU_PER_MM = 30.0, 100.0
"""Gradients of the estimate: below the first a voxel is flat, from the second on it lies at an edge."""

DEVIATION_HU = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Borders between groups of estimated standard deviations, HU."""

KINDS = ("all", "tissue", "edge", "distance_mm", "deviation_hu")
"""Groupings of voxels: none; class of the nearest thick slice's voxel; gradient of the estimate; distance from the
nearest thick slice; estimated standard deviation."""

_TISSUES = tuple(TISSUES_HU)
_STEEPNESS = ("flat", "between", "edge")
_DEVIATIONS = tuple(
    f"{low:g} to {high:g}" for low, high in zip((0.0, *DEVIATION_HU), (*DEVIATION_HU, math.inf), strict=True)
)

GROUPS = {"all": ("all",), "tissue": _TISSUES, "edge": _STEEPNESS, "deviation_hu": _DEVIATIONS}
"""Names of the groups of each kind in order; distances depend on the volume."""


@dataclass
class Tally:
    """Standardised errors of some voxels.

    Attributes:
        counts: (BINS,) voxels by standardised error, absolute.
        deviations: (BINS,) sums of their standard deviations, HU.
        squares: sum of squared standardised errors.
        squared_hu: sum of squared errors, HU^2.
        signed_hu: sum of errors, HU.
    """

    counts: npt.NDArray[np.float64]
    deviations: npt.NDArray[np.float64]
    squares: float = 0.0
    squared_hu: float = 0.0
    signed_hu: float = 0.0

    @classmethod
    def empty(cls) -> Tally:
        """A tally without voxels."""
        return cls(np.zeros(BINS), np.zeros(BINS))

    @property
    def voxels(self) -> float:
        """Number of voxels counted."""
        return float(self.counts.sum())

    @property
    def rms(self) -> float:
        """Root mean square standardised error: 1 where the standard deviations are right on the whole."""
        return math.sqrt(self.squares / self.voxels)

    @property
    def rmse_hu(self) -> float:
        """Root mean square error."""
        return math.sqrt(self.squared_hu / self.voxels)

    @property
    def bias_hu(self) -> float:
        """Mean error."""
        return self.signed_hu / self.voxels

    @property
    def mean_deviation_hu(self) -> float:
        """Mean estimated standard deviation."""
        return float(self.deviations.sum()) / self.voxels

    def coverage(self, multiple: float) -> float:
        """Share of voxels, 0 to 1, whose error is at most `multiple` standard deviations.

        >>> tally = tally_of(np.linspace(-1.0, 1.0, 20001), np.ones(20001))
        >>> round(tally.coverage(0.5), 3)
        0.5
        """
        return float(np.interp(math.log2(multiple), _LOG_EDGES, np.cumsum(self.counts)[:-1])) / self.voxels

    def multiple(self, level: float) -> float:
        """Number of standard deviations that holds `level` percent of the errors; the inverse of `coverage`."""
        below = np.cumsum(self.counts)[:-1] / self.voxels
        return float(2.0 ** np.interp(level / 100.0, below, _LOG_EDGES))

    def interval_score_hu(self, multiple: float, level: float) -> float:
        """Mean interval score: the width of an interval, plus 2 / (1 - level) times its distance from the truth where
        it misses it. Less is better.
        """
        misses = np.maximum(0.0, _MIDDLES - multiple)
        widths = 2.0 * multiple + 2.0 / (1.0 - level / 100.0) * misses
        return float(np.sum(self.deviations * widths)) / self.voxels

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.counts += other.counts
        self.deviations += other.deviations
        self.squares += other.squares
        self.squared_hu += other.squared_hu
        self.signed_hu += other.signed_hu


_LOG_EDGES = np.log2(EDGES)
_MIDDLES = np.concatenate([[0.0], np.sqrt(EDGES[1:] * EDGES[:-1]), [MOST]])


def tally_of(error_hu: npt.NDArray[np.floating], deviation_hu: npt.NDArray[np.floating]) -> Tally:
    """Tally of errors and their standard deviations, arrays of one shape, HU."""
    return _tallies(error_hu.ravel(), deviation_hu.ravel(), np.zeros(error_hu.size, np.intp), 1)[0]


class CoverageMeter:
    """Counter of standardised errors, slice by slice, by `KINDS`.

    Voxels whose truth lies at an end of the networks' window are left out and counted: most are clipped values and
    voxels outside the field of view, where every estimate is certain. Voxels whose standard deviation is 0 are left out
    too: they are the thick slices' padding.

    Args:
        thick: thick slices placed on the thin grid.
        spacing_mm: of the thin grid; an unknown in-plane spacing counts as 1 mm.
    """

    def __init__(self, thick: PlacedThick, spacing_mm: tuple[float, float | None, float | None]) -> None:
        self._thick = thick
        self._step_mm = spacing_mm[0]
        self._pixel_mm = tuple(1.0 if step is None else step for step in spacing_mm[1:])
        self.groups: dict[str, dict[str, Tally]] = {kind: {} for kind in KINDS}
        self.voxels = self.left_out = 0

    def add(self, index: int, estimates: Sequence[Floats], truth: Floats, deviation: Floats) -> None:
        """Count a thin slice.

        Args:
            index: on the thin grid.
            estimates: the slices before, at and after it, HU; at an end of the volume the slice itself replaces the
                missing one.
            truth: (height, width) HU.
            deviation: (height, width) standard deviations, HU.
        """
        inside = (truth > WINDOW_MIN_HU) & (truth < WINDOW_MAX_HU) & (deviation > 0)
        self.voxels += truth.size
        self.left_out += truth.size - int(np.count_nonzero(inside))
        nearest, distance = self._thick.nearest(index)
        codes = {
            "tissue": (_TISSUES, tissue_class(self._thick.hu[nearest][inside])),
            "edge": (_STEEPNESS, self._steepness(estimates)[inside]),
            "deviation_hu": (_DEVIATIONS, np.searchsorted(DEVIATION_HU, deviation[inside], side="right")),
        }
        error, sd = (estimates[1] - truth)[inside], deviation[inside]
        for kind, (names, code) in codes.items():
            self._take(kind, names, _tallies(error, sd, code, len(names)))
        whole = _tallies(error, sd, np.zeros(error.size, np.intp), 1)
        self._take("all", ("all",), whole)
        self._take("distance_mm", (f"{distance * self._step_mm:.3g}",), whole)

    def _take(self, kind: str, names: Sequence[str], tallies: Sequence[Tally]) -> None:
        for name, tally in zip(names, tallies, strict=True):
            if tally.voxels:
                self.groups[kind].setdefault(name, Tally.empty()).add(tally)

    def _steepness(self, estimates: Sequence[Floats]) -> npt.NDArray[np.intp]:
        """0, 1 or 2 by `_STEEPNESS`."""
        before, here, after = estimates
        slope = np.square((after - before) / (self._step_mm * max(1, (after is not here) + (before is not here))))
        for axis, pixel_mm in enumerate(self._pixel_mm):
            if here.shape[axis] > 1:
                slope += np.square(np.gradient(here, pixel_mm, axis=axis))
        borders = (FLAT_HU_PER_MM, EDGE_HU_PER_MM)
        return np.asarray(np.searchsorted(borders, np.sqrt(slope), side="right"), dtype=np.intp)


def _tallies(
    error: npt.NDArray[np.floating], deviation: npt.NDArray[np.floating], code: npt.NDArray[np.integer], groups: int
) -> list[Tally]:
    """One tally for each value of `code`, from flat arrays."""
    z = np.abs(error) / deviation
    with np.errstate(divide="ignore"):
        place = np.floor((np.log2(z) - _LOG_EDGES[0]) * PER_OCTAVE)
    place = np.clip(place, -1, BINS - 2).astype(np.intp) + 1
    both = code * BINS + place
    counts, deviations = (
        np.bincount(both, weights, groups * BINS).reshape(groups, BINS) for weights in (None, deviation)
    )
    sums = [np.bincount(code, weights, groups) for weights in (np.square(z), np.square(error), error)]
    return [
        Tally(counts[i].astype(np.float64), deviations[i], *(float(sum_[i]) for sum_ in sums)) for i in range(groups)
    ]
