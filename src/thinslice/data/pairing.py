"""Pairing of thick and thin slices: cut by position, checked by correlation of their voxels.

Thick slice k of a pair is centred on thin slice factor * k. Where headers hold positions, `pair_by_position` cuts both
volumes accordingly. `alignment` checks by the voxels alone whether the pair is aligned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.data.displacement import (
    LEAST_CORRELATION,
    LEAST_GAIN,
    Displacement,
    averaged,
    clipped,
    combined,
    correlation,
    displacements,
    sample_planes,
)
from thinslice.errors import GeometryError
from thinslice.geometry import REGISTRATION_TOLERANCE_MM, Geometry
from thinslice.profile import SliceProfile
from thinslice.volume import Volume, reorient

MIN_THICK = 2
"""Least number of thick slices of a pair."""

UNRELATED_BELOW, DRIFTING_BELOW = 0.5, 0.9
"""Thresholds of the best correlation: below the first, thick and thin slices show different things; below the second,
they do where the correlation still rises at the end of the search."""

SOUND_FROM = 0.995
"""Correlation from which no combination of displacements is searched; sound pairs of scanners reach 0.999."""

CLEARLY_BETTER = 0.9
"""Another position is right when 1 - its correlation is at most this share of 1 - the nominal correlation."""


@dataclass(frozen=True)
class Alignment:
    """Alignment of a pair as measured in its voxels.

    Attributes:
        shift: thick slice k correlates best with the thin slices around factor * k + shift; 0 for an aligned pair.
        correlation: correlation of thick slices with the mean of the thin ones around factor * k.
        best: the same correlation around factor * k + shift.
        backwards: the same correlation around factor * k with the thin slices in reversed order.
        searched: largest shift that was tried, in both directions.
        displaced: another orientation or place in which the slices match far better; None where there is none.

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
    displaced: Displacement | None = None

    @property
    def fault(self) -> str | None:
        """The fault of the pair, as part of a message; None for an aligned pair."""
        if self.displaced is not None:
            found, at_place = self.displaced.correlation, self.correlation
            return f"{self.displaced.fault} (correlation {found:.3f}, against {at_place:.3f} as they are)"
        if self.backwards > self.correlation and 1.0 - self.backwards <= CLEARLY_BETTER * (1.0 - self.best):
            return f"the thin slices are in reversed order (correlation {self.backwards:.3f} when reversed)"
        if self.best < UNRELATED_BELOW or (self.best < DRIFTING_BELOW and abs(self.shift) == self.searched):
            return f"thick and thin slices do not show the same (correlation {self.best:.3f})"
        if self.shift and 1.0 - self.best <= CLEARLY_BETTER * (1.0 - self.correlation):
            sign = "+" if self.shift > 0 else "-"
            return (
                f"thick slice k shows thin slice factor * k {sign} {abs(self.shift)} (correlation {self.best:.3f}, "
                f"against {self.correlation:.3f} at factor * k)"
            )
        return None

    @property
    def remedy(self) -> str:
        """What to do about `fault`."""
        if self.displaced is None and self.fault is not None and "do not show the same" in self.fault:
            return "check that both series are of one scan, or leave the pair out"
        return "write the thin series again with its own orientation and position, or leave the pair out"


def alignment(thick: npt.NDArray[Any], thin: npt.NDArray[Any], factor: int) -> Alignment | None:
    """Correlate thick slices with averages of thin ones at every shift up to the factor, and in other orientations.

    Args:
        thick: (D, height, width) HU.
        thin: ((D - 1) * factor + 1, height, width) HU.
        factor: thin slices per thick interval.

    Returns:
        The alignment; None where it cannot be measured: too few slices, or constant ones.

    Example: at factor 5 and 7 thick slices, shifts of -5 .. 5 are tried on thick slices 2 .. 4, since slice 2 shifted
    by -5 reaches back to thin slice 10 - 5 - 2 = 3.

    >>> thin = np.random.default_rng(0).normal(size=(31, 8, 8))
    >>> thick = np.stack([thin[max(0, 5 * k - 2) : 5 * k + 3].mean(0) for k in range(7)])
    >>> alignment(thick, thin, 5).shift, alignment(thick, np.roll(thin, 2, axis=0), 5).shift
    (0, 2)
    """
    profile = SliceProfile.mean(factor)
    reach = profile.reach
    depth, thin_depth = thick.shape[0], thin.shape[0]
    for largest in range(factor, 0, -1):
        margin = -(-(largest + reach) // factor)
        rows = np.arange(margin, depth - margin)
        if len(rows):
            break
    else:
        return None
    thick_planes, thin_planes = clipped(sample_planes(thick)[rows]), clipped(sample_planes(thin))

    def resemblance(source: npt.NDArray[np.float32], shift: int) -> float:
        return correlation(thick_planes, averaged(source, rows * factor + shift, profile))

    found = {shift: resemblance(thin_planes, shift) for shift in range(-largest, largest + 1)}
    if not np.isfinite(found[0]):
        return None
    # Of equal correlations the shift nearest to 0: identical slices are no evidence of a misaligned pair.
    best = max(found, key=lambda shift: (found[shift], -abs(shift)))
    backwards = resemblance(thin_planes[::-1], 0) if thin_depth == (depth - 1) * factor + 1 else float("nan")
    plain = Alignment(shift=best, correlation=found[0], best=found[best], backwards=backwards, searched=largest)
    return replace(plain, displaced=_displaced(thick, thin, factor, plain))


def _displaced(thick: npt.NDArray[Any], thin: npt.NDArray[Any], factor: int, plain: Alignment) -> Displacement | None:
    """The displacement that makes the pair match, if nothing nearby does nearly as well."""
    nearby = max(plain.best, plain.backwards)
    far = plain.best < DRIFTING_BELOW or abs(plain.shift) == plain.searched
    others = displacements(thick, thin, factor, far=far)
    found = max(others, key=lambda other: other.correlation, default=None)
    if max(nearby, 0.0 if found is None else found.correlation) < SOUND_FROM:
        both = combined(thick, thin, factor)
        if both is not None and (found is None or both.correlation >= found.correlation + LEAST_GAIN):
            found = both
    if found is None or not found.correlation >= max(LEAST_CORRELATION, nearby + LEAST_GAIN):
        return None
    return found if 1.0 - found.correlation <= CLEARLY_BETTER * (1.0 - nearby) else None


def pair_by_position(thick: Volume, thin: Volume) -> tuple[Volume, Volume, int]:
    """Cut both volumes so that thick slice k lies on thin slice factor * k.

    The thin volume's axes are permuted and flipped to match the thick volume's. Nothing is interpolated.

    Args:
        thick: HU on a grid with reliable positions.
        thin: thin slices of the same scan on the pixels of the thick ones.

    Returns:
        D thick slices, the (D - 1) * factor + 1 thin ones from the first thick centre to the last (views), and the
        factor.

    Raises:
        GeometryError: axes not parallel, spacings whose ratio is no whole number from 2 on, different planes, slices
            offset by a part of a thin spacing, or fewer than two thick slices in common; check the two series.
    """
    thin = reorient(thin, thick.geometry)
    thick_mm, thin_mm = thick.geometry.spacing_mm[0], thin.geometry.spacing_mm[0]
    factor = round(thick_mm / thin_mm)
    if factor < 2:
        raise GeometryError(
            f"Slices {thick_mm:g} mm and {thin_mm:g} mm apart are not a thick and a thin series; check which is which."
        )
    if thick.geometry.shape[1:] != thin.geometry.shape[1:]:
        sizes = [" x ".join(map(str, v.geometry.shape[1:])) for v in (thick, thin)]
        raise GeometryError(
            f"Planes of {sizes[0]} and {sizes[1]} pixels do not belong together; reconstruct both with one matrix "
            "and field of view."
        )
    # Example: thick slice 0 lies on thin slice offset = -7. At factor 5, the first thick slice with a thin one is
    # first = 2, on thin slice -7 + 5 * 2 = 3; with 40 thin slices the last is (39 + 7) // 5 = 9, on thin slice 38.
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
    """Check that each corner of the thick volume lies on its thin voxel; then all voxels between do."""
    for d, h, w in product(*((0, n - 1) for n in thick.shape)):
        apart = np.subtract(thick.position_mm((d, h, w)), thin.position_mm((d * factor, h, w)))
        along = np.abs(np.asarray(thick.direction).T @ apart)
        if along.max() > REGISTRATION_TOLERANCE_MM:
            axis = ("along the depth axis", "along the height axis", "along the width axis")[int(along.argmax())]
            raise GeometryError(
                f"A thick slice and its thin one lie {along.max():.2f} mm apart {axis} (tolerance "
                f"{REGISTRATION_TOLERANCE_MM} mm, factor {factor}); the pair has no common grid."
            )
