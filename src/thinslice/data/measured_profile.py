"""Estimation of a scanner's slice profile from a real pair: one acquisition, reconstructed thick and thin.

A thick slice is a weighted sum of thin ones. The weights, as a function of the distance between their centres, are
fitted by non-negative least squares over all thick voxels whose thin ones are at hand:

    thick(z) = sum over thin slices j of w(z_j - z) thin(z_j),   w >= 0, linear between samples one thin spacing apart

Source: slice sensitivity profiles, McCollough and Zink, Med. Phys. 26 (1999); the fit in place of a bead is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from thinslice.errors import GeometryError
from thinslice.geometry import REGISTRATION_TOLERANCE_MM
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.profile import SliceProfile
from thinslice.recipes.slice_profile import SAME_SLICES, MeasuredProfile
from thinslice.typing import Doubles
from thinslice.volume import Volume, reorient

REACH = 1.5
"""Thick spacings, or slice thicknesses where larger, to which the profile is fitted on either side."""

BODY_MIN_HU = -950.0
"""Thick voxels below it are air, which teaches nothing about the profile."""

MIN_THICK = 3
"""Least number of thick slices with thin ones on both sides."""

SUM_WEIGHT = 10.0
"""Weight of the condition that the weights sum to 1, against the mean square of the voxels."""


@dataclass
class _Normal:
    """Normal equations, summed slice by slice: X^T X, X^T t, t^T t and the number of rows."""

    gram: Doubles
    moment: Doubles
    square: float = 0.0
    voxels: int = 0

    def add(self, columns: Doubles, thick: Doubles) -> None:
        self.gram += columns.T @ columns
        self.moment += columns.T @ thick
        self.square += float(thick @ thick)
        self.voxels += len(thick)

    def rms(self, weights: Doubles) -> float:
        """RMS distance between the thick voxels and those made with `weights`, in HU."""
        total = self.square - 2.0 * float(weights @ self.moment) + float(weights @ self.gram @ weights)
        return float(np.sqrt(max(total, 0.0) / self.voxels))


def measure_profile(thick: Volume, thin: Volume) -> MeasuredProfile:
    """The slice profile of a real pair.

    Args:
        thick: (depth, height, width) HU.
        thin: of the same acquisition, field of view and matrix; its slices at any position along the same line.

    Returns:
        The profile with its residual, beside the residual of a box of the header's thickness (of the spacing where the
        thickness is unknown).

    Raises:
        GeometryError: in-plane grids that differ, thin slices that are no thinner, or fewer than three thick slices
            inside the thin ones; give two reconstructions of one acquisition.
    """
    return measure_shared_profile([(thick, thin)])


def measure_shared_profile(pairs: Iterable[tuple[Volume, Volume]]) -> MeasuredProfile:
    """The slice profile of several real pairs of one scanner and protocol, fitted to all of their voxels.

    Args:
        pairs: thick and thin volume of each, as for `measure_profile`; they are taken one after the other.

    Returns:
        As `measure_profile`.

    Raises:
        GeometryError: as `measure_profile`, or slices of two pairs that lie at other distances, or are thicker by more
            than `SAME_SLICES`; measure pairs of one protocol.
    """
    fit: _Fit | None = None
    for thick, thin in pairs:
        started = _Fit.of(thick, thin) if fit is None else fit.checked(thick, thin)
        started.add(thick, thin)
        fit = started
    if fit is None:
        raise GeometryError("There is no pair to measure a slice profile on; give at least one.")
    return fit.result()


@dataclass
class _Fit:
    """A fit under way.

    Attributes:
        thick_mm, thickness_mm, thin_mm: distance of the thick slices, their thickness in the header (None where
            unknown), and distance of the thin ones.
        count: samples of the profile on either side.
        normal: sums over all pairs so far.
        used: thick slices so far.
    """

    thick_mm: float
    thickness_mm: float | None
    thin_mm: float
    count: int
    normal: _Normal
    used: int = 0

    @classmethod
    def of(cls, thick: Volume, thin: Volume) -> _Fit:
        """The start of a fit to pairs like this one.

        Raises:
            GeometryError: the thin slices are no thinner.
        """
        thick_mm, thin_mm = thick.geometry.spacing_mm[0], reorient(thin, thick.geometry).geometry.spacing_mm[0]
        if thin_mm * 1.5 > thick_mm:
            raise GeometryError(
                f"The thin slices lie {thin_mm:.4g} mm apart and the thick ones {thick_mm:.4g} mm: the second volume "
                "must be the thin one."
            )
        thickness_mm = thick.geometry.thickness_mm
        # Thin slices 1 mm apart, thick ones of 5 mm: samples at -8 .. 8 mm.
        count = int(np.ceil(REACH * max(thick_mm, thickness_mm or thick_mm) / thin_mm))
        size = 2 * count + 1
        return cls(thick_mm, thickness_mm, thin_mm, count, _Normal(np.zeros((size, size)), np.zeros(size)))

    def checked(self, thick: Volume, thin: Volume) -> _Fit:
        """This fit, to which another pair of the same protocol may be added.

        Raises:
            GeometryError: slices at other distances or of another thickness.
        """
        other = _Fit.of(thick, thin)
        for name, ours, theirs in (
            ("Thick slices lie {} and {} mm apart", self.thick_mm, other.thick_mm),
            ("Thin slices lie {} and {} mm apart", self.thin_mm, other.thin_mm),
            (
                "Thick slices are {} and {} mm thick",
                self.thickness_mm or self.thick_mm,
                other.thickness_mm or other.thick_mm,
            ),
        ):
            if abs(ours - theirs) > SAME_SLICES * ours:
                stated = name.format(f"{ours:.4g}", f"{theirs:.4g}")
                raise GeometryError(f"{stated} in two of the pairs; take pairs of one protocol.")
        return self

    def add(self, thick: Volume, thin: Volume) -> None:
        """Add the equations of a pair.

        Raises:
            GeometryError: in-plane grids that differ.
        """
        thin = reorient(thin, thick.geometry)
        place, count = _in_plane_shift(thick, thin), self.count
        for index in range(thick.geometry.shape[0]):
            # Position of the thick slice on the thin grid: 7.4 lies between thin slices 7 and 8.
            at = thin.geometry.index_at(thick.geometry.position_mm((index, 0, 0)))[0]
            first, last = int(np.floor(at)) - count, int(np.floor(at)) + 1 + count
            if first < 0 or last >= thin.geometry.shape[0]:
                continue
            self.used += 1
            _add_slice(self.normal, thick.hu[index], thin.hu[first : last + 1], at - np.floor(at), count, place)

    def result(self) -> MeasuredProfile:
        """The profile with its residual.

        Raises:
            GeometryError: too few slices or voxels.
        """
        normal, count = self.normal, self.count
        if self.used < MIN_THICK or normal.voxels < 1000:
            raise GeometryError(
                f"Only {self.used} thick slices ({normal.voxels} voxels of tissue) lie inside the thin ones, {count} "
                f"thin slices from either end; at least {MIN_THICK} are necessary: give a longer pair."
            )
        weights = _fitted(normal)
        offsets = np.arange(-count, count + 1) * self.thin_mm
        box = _box(count, (self.thickness_mm or self.thick_mm) / self.thin_mm)
        return MeasuredProfile(
            offsets_mm=tuple(float(round(offset, 6)) for offset in offsets),
            weights=tuple(float(round(weight, 6)) for weight in weights),
            thick_spacing_mm=self.thick_mm,
            thick_thickness_mm=self.thickness_mm,
            thin_spacing_mm=self.thin_mm,
            residual_rms_hu=round(normal.rms(weights), 3),
            box_residual_rms_hu=round(normal.rms(box), 3),
            voxels=normal.voxels,
        )


def _in_plane_shift(thick: Volume, thin: Volume) -> tuple[slice, slice]:
    """The part of a thin slice that lies where the thick slice lies.

    Raises:
        GeometryError: grids that differ.
    """
    grid, other = thick.geometry, thin.geometry
    place = np.array(other.index_at(grid.position_mm((0, 0, 0))))[1:]
    steps = [1.0 if step is None else step for step in other.spacing_mm[1:]]
    whole = np.rint(place).astype(int)
    unequal = any(
        (a or 1.0) != b and abs((a or 1.0) - b) * extent > REGISTRATION_TOLERANCE_MM
        for a, b, extent in zip(grid.spacing_mm[1:], steps, grid.shape[1:], strict=True)
    )
    if unequal or np.any(np.abs(place - whole) * steps > REGISTRATION_TOLERANCE_MM):
        raise GeometryError(
            "Thick and thin pixels do not coincide (field of view, matrix or centre differ); give two reconstructions "
            "with one field of view."
        )
    stop = whole + np.array(grid.shape[1:])
    if np.any(whole < 0) or np.any(stop > np.array(other.shape[1:])):
        raise GeometryError(
            "The thin slices do not cover the thick ones in plane; give two reconstructions with one field of view."
        )
    return slice(whole[0], stop[0]), slice(whole[1], stop[1])


def _add_slice(
    normal: _Normal,
    thick: npt.NDArray[np.generic],
    thin: npt.NDArray[np.generic],
    fraction: float,
    count: int,
    place: tuple[slice, slice],
) -> None:
    """Add the equations of one thick slice.

    Args:
        normal: changed.
        thick: (height, width) HU.
        thin: (2 * count + 2, height, width) HU, from `count` slices below the one at or below the thick slice.
        fraction: position of the thick slice between its thin neighbours, [0, 1).
        count: samples of the profile on either side.
        place: part of a thin slice that coincides with the thick one.
    """
    near = thin[(slice(None), *place)].astype(np.float64)
    target = thick.astype(np.float64)
    inside = (near >= WINDOW_MIN_HU) & (near <= WINDOW_MAX_HU)
    chosen = (target > BODY_MIN_HU) & (target < WINDOW_MAX_HU) & inside.all(axis=0)
    rows = near[:, chosen].T
    # Thin slice j lies j - count - fraction from the thick one: between samples j - 1 and j. With fraction 0 it counts
    # for sample j alone.
    columns = (1.0 - fraction) * rows[:, : 2 * count + 1] + fraction * rows[:, 1:]
    normal.add(columns, target[chosen])


def _fitted(normal: _Normal) -> Doubles:
    """Non-negative weights of sum 1 with the least residual."""
    size = len(normal.moment)
    strength = SUM_WEIGHT * normal.square
    gram = normal.gram + strength * np.ones((size, size))
    moment = normal.moment + strength
    # |L^T w - L^-1 b|^2 has the same minimum as the sum over all voxels.
    lower = np.linalg.cholesky(gram + 1e-12 * np.trace(gram) * np.eye(size))
    weights = nnls(lower.T, np.linalg.solve(lower, moment))[0]
    return np.asarray(weights / weights.sum())


def _box(count: int, width: float) -> Doubles:
    """Weights at the samples of a box of `width` thin spacings, sum 1."""
    weights = np.zeros(2 * count + 1)
    box = np.asarray(SliceProfile.mean(1, width=width).weights)
    reach = len(box) // 2
    weights[count - reach : count + reach + 1] = box
    return weights
