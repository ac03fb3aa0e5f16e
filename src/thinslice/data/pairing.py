"""Do thick and thin slices belong together, and how do they lie to each other: by position, and by what they show.

Thick slice k of a pair is centred on thin slice factor * k. Where headers tell positions, `pair_by_position` cuts both
volumes so that this holds. Whether it is true can be seen in the voxels alone: `alignment` looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import GeometryError
from thinslice.geometry import REGISTRATION_TOLERANCE_MM, Geometry
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.profile import SliceProfile
from thinslice.volume import Volume, reorient

MIN_THICK = 2
"""A pair with fewer thick slices holds nothing between two of them."""

SAMPLES = 96
"""Pixels along an in-plane axis that `alignment` looks at."""

UNRELATED_BELOW, DRIFTING_BELOW = 0.5, 0.9
"""A pair that correlates less than the first at its best shows two different things; so does one that correlates less
than the second and keeps getting better to the end of the search."""

CLEARLY_BETTER = 0.9
"""Another position is right when what it leaves unexplained is at most this part of what the nominal one leaves."""


@dataclass(frozen=True)
class Alignment:
    """What the voxels of a pair say about its alignment.

    Attributes:
        shift: thick slice k looks most like the thin slices around factor * k + shift; 0 where it should.
        correlation: of thick slices with the mean of the thin ones around factor * k.
        best: the same around factor * k + shift.
        backwards: the same around factor * k with the thin slices in reversed order.
        searched: the largest shift that was tried, either way.

    >>> Alignment(shift=2, correlation=0.98, best=0.999, backwards=0.7, searched=5).fault
    'thick slice k shows thin slice factor * k + 2 (correlation 0.999, against 0.980 at factor * k)'
    >>> Alignment(shift=0, correlation=0.999, best=0.999, backwards=0.7, searched=5).fault is None
    True
    """

    shift: int
    correlation: float
    best: float
    backwards: float
    searched: int

    @property
    def fault(self) -> str | None:
        """What is wrong, for a message; None for a pair that fits."""
        if self.backwards > self.correlation and 1.0 - self.backwards <= CLEARLY_BETTER * (1.0 - self.best):
            return f"the thin slices run the other way (correlation {self.backwards:.3f} when reversed)"
        if self.best < UNRELATED_BELOW or (self.best < DRIFTING_BELOW and abs(self.shift) == self.searched):
            return f"thick and thin slices do not show the same (correlation {self.best:.3f})"
        if self.shift and 1.0 - self.best <= CLEARLY_BETTER * (1.0 - self.correlation):
            sign = "+" if self.shift > 0 else "-"
            return (
                f"thick slice k shows thin slice factor * k {sign} {abs(self.shift)} (correlation {self.best:.3f}, "
                f"against {self.correlation:.3f} at factor * k)"
            )
        return None


def alignment(thick: npt.NDArray[Any], thin: npt.NDArray[Any], factor: int) -> Alignment | None:
    """Compare thick slices with averages of thin ones at every shift up to a thick slice.

    Args:
        thick: (D, height, width) HU.
        thin: ((D - 1) * factor + 1, height, width) HU.
        factor: thin slices per thick interval.

    Returns:
        What was found; None where it cannot be told: too few slices, or nothing to be seen in them.

    >>> thin = np.random.default_rng(0).normal(size=(31, 8, 8))
    >>> thick = np.stack([thin[max(0, 5 * k - 2) : 5 * k + 3].mean(0) for k in range(7)])
    >>> alignment(thick, thin, 5).shift, alignment(thick, np.roll(thin, 2, axis=0), 5).shift
    (0, 2)
    """
    weights = np.asarray(SliceProfile.mean(factor).weights, dtype=np.float32)
    reach = len(weights) // 2
    depth, thin_depth = thick.shape[0], thin.shape[0]
    for largest in range(factor, 0, -1):
        margin = -(-(largest + reach) // factor)
        rows = np.arange(margin, depth - margin)
        if len(rows):
            break
    else:
        return None
    low, high = np.float32(WINDOW_MIN_HU), np.float32(WINDOW_MAX_HU)
    seen = np.clip(sample_planes(thick)[rows].astype(np.float32), low, high)
    below = np.clip(sample_planes(thin).astype(np.float32), low, high)

    def correlation(source: npt.NDArray[np.float32], shift: int) -> float:
        centres = rows * factor + shift
        mean = sum(
            (w * source[centres + offset] for offset, w in zip(range(-reach, reach + 1), weights, strict=True)),
            np.zeros_like(seen),
        )
        return _correlation(seen, mean)

    found = {shift: correlation(below, shift) for shift in range(-largest, largest + 1)}
    if not np.isfinite(found[0]):
        return None
    # Of equal ones the nearest to 0: slices that all look alike say nothing against a pair.
    best = max(found, key=lambda shift: (found[shift], -abs(shift)))
    backwards = correlation(below[::-1], 0) if thin_depth == (depth - 1) * factor + 1 else float("nan")
    return Alignment(shift=best, correlation=found[0], best=found[best], backwards=backwards, searched=largest)


def sample_planes(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The pixels of each plane that `alignment` looks at, a view.

    >>> sample_planes(np.zeros((3, 512, 64))).shape
    (3, 103, 64)
    """
    step = tuple(slice(None, None, max(1, n // SAMPLES)) for n in volume.shape[1:])
    return volume[(slice(None), *step)]


def pair_by_position(thick: Volume, thin: Volume) -> tuple[Volume, Volume, int]:
    """Cut both volumes so that thick slice k lies on thin slice factor * k.

    The thin volume's axes are permuted and flipped to run as the thick one's do. Nothing is interpolated.

    Args:
        thick: HU on a grid whose positions are to be trusted.
        thin: the same scan in thin slices, its planes on the pixels of the thick ones.

    Returns:
        D thick slices, the (D - 1) * factor + 1 thin ones between the first and the last one's centre (views), and
        the factor.

    Raises:
        GeometryError: axes not parallel, spacings whose ratio is no whole number from 2 on, other planes, slices
            offset by a part of a thin spacing, or fewer than two thick slices in common.
    """
    thin = reorient(thin, thick.geometry)
    thick_mm, thin_mm = thick.geometry.spacing_mm[0], thin.geometry.spacing_mm[0]
    factor = round(thick_mm / thin_mm)
    if factor < 2:
        raise GeometryError(
            f"Slices {thick_mm:g} mm and {thin_mm:g} mm apart are no thick and thin ones; check which is which."
        )
    if thick.geometry.shape[1:] != thin.geometry.shape[1:]:
        sizes = [" x ".join(map(str, v.geometry.shape[1:])) for v in (thick, thin)]
        raise GeometryError(
            f"Planes of {sizes[0]} and {sizes[1]} pixels do not belong together; reconstruct both with one matrix "
            "and field of view."
        )
    offset = round(thin.geometry.index_at(thick.geometry.origin_mm)[0])
    first = max(0, -(offset // factor))
    last = min(thick.geometry.shape[0] - 1, (thin.geometry.shape[0] - 1 - offset) // factor)
    if last - first + 1 < MIN_THICK:
        raise GeometryError(
            f"Thick and thin slices have {max(0, last - first + 1)} positions in common; check that they are one scan."
        )
    _, height, width = thick.geometry.shape
    start = offset + factor * first
    thick = thick.crop((first, 0, 0), (last + 1, height, width))
    thin = thin.crop((start, 0, 0), (start + factor * (last - first) + 1, height, width))
    _check_corners(thick.geometry, thin.geometry, factor)
    return thick, thin, factor


def _check_corners(thick: Geometry, thin: Geometry, factor: int) -> None:
    """Every corner of the thick volume lies on its thin voxel, so every voxel between does."""
    for d, h, w in product(*((0, n - 1) for n in thick.shape)):
        apart = np.subtract(thick.position_mm((d, h, w)), thin.position_mm((d * factor, h, w)))
        along = np.abs(np.asarray(thick.direction).T @ apart)
        if along.max() > REGISTRATION_TOLERANCE_MM:
            axis = ("through the planes", "along the rows' order", "along the columns' order")[int(along.argmax())]
            raise GeometryError(
                f"A thick slice and its thin one lie {along.max():.2f} mm apart {axis} (tolerance "
                f"{REGISTRATION_TOLERANCE_MM} mm, factor {factor}); the pair has no common grid."
            )


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Pearson's, NaN where one of the two is constant."""
    a64, b64 = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    a64 -= a64.mean()
    b64 -= b64.mean()
    scale = np.sqrt((a64 @ a64) * (b64 @ b64))
    return float(a64 @ b64 / scale) if scale > 0 else float("nan")
