"""Whether a volume can be upscaled, by which factor, and what its slices measure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinslice.errors import NotEligibleError, UsageError
from thinslice.geometry import Geometry

if TYPE_CHECKING:
    from thinslice.profile import SliceProfile

MIN_FACTOR = 2
"""Below it there is nothing to do."""

MAX_FACTOR = 8
"""Above it nothing here was trained or checked, and detail would be invention."""

WIDTH_TOLERANCE = 0.01
"""Slices whose thickness differs from their distance by less than this share count as contiguous."""

MAX_WIDTH = 4.0
"""Thickness over distance past which the header is not believed: no scanner reconstructs slices that far over
each other, but exporters write the thickness of another series."""


@dataclass(frozen=True)
class Eligibility:
    """Whether a volume can be upscaled as asked.

    Attributes:
        eligible: whether it can.
        factor: thin slices per thick interval; None when it cannot be upscaled.
        reasons: sentences that say why not and what would work; empty when eligible.
    """

    eligible: bool
    factor: int | None
    reasons: tuple[str, ...] = ()


def eligibility(
    geometry: Geometry,
    *,
    factor: int | None = None,
    spacing_mm: float = 1.0,
    axis_ambiguous: bool = False,
) -> Eligibility:
    """Decide whether a volume can be upscaled, and by which factor.

    Args:
        geometry: of the thick volume.
        factor: thin slices per thick interval; wins over `spacing_mm` when given.
        spacing_mm: wanted distance of thin slices; the factor is the thick distance over it, rounded half up.
        axis_ambiguous: whether the reader could not tell which axis is the through-plane one.

    Raises:
        UsageError: when `factor` is not a whole number, or `spacing_mm` is not positive and finite.

    >>> thick = Geometry(shape=(60, 512, 512), spacing_mm=(2.5, 0.7, 0.7))
    >>> eligibility(thick).factor
    3
    >>> eligibility(thick, spacing_mm=2.0).reasons
    ('Slices 2.5 mm apart are already thin for a target of 2 mm (factor 1); try --spacing 1.25.',)
    """
    reasons = []
    if axis_ambiguous:
        reasons.append(
            "Several axes could be the through-plane one (their spacings are equal or nearly so); "
            "say which with --axis."
        )
    thick_mm = geometry.spacing_mm[0]
    if factor is None:
        if not (math.isfinite(spacing_mm) and spacing_mm > 0):
            raise UsageError(f"The target spacing must be a positive number of mm, not {spacing_mm}.")
        chosen = _rounded_half_up(thick_mm / spacing_mm)
        asked = f"a target of {spacing_mm:g} mm (factor {chosen})"
    else:
        if isinstance(factor, bool) or not math.isfinite(factor) or int(factor) != factor:
            raise UsageError(f"The factor must be a whole number, not {factor}.")
        chosen = int(factor)
        asked = f"factor {chosen}"
    if chosen < MIN_FACTOR and factor is None:
        works = thick_mm / MIN_FACTOR
        reasons.append(f"Slices {thick_mm:.4g} mm apart are already thin for {asked}; try --spacing {works:.4g}.")
    elif not MIN_FACTOR <= chosen <= MAX_FACTOR:
        works = thick_mm / (MAX_FACTOR if chosen > MAX_FACTOR else MIN_FACTOR)
        reasons.append(
            f"Slices {thick_mm:.4g} mm apart cannot be upscaled to {asked}: factors {MIN_FACTOR} to {MAX_FACTOR} "
            f"are possible; try --spacing {works:.4g}."
        )
    return Eligibility(not reasons, None if reasons else chosen, tuple(reasons))


def choose_factor(
    geometry: Geometry,
    *,
    factor: int | None = None,
    spacing_mm: float = 1.0,
    axis_ambiguous: bool = False,
) -> int:
    """The factor to upscale by; arguments as for `eligibility`.

    Raises:
        NotEligibleError: when the volume cannot be upscaled as asked; the message names a `--spacing` that works.
        UsageError: when `factor` is not a whole number, or `spacing_mm` is not positive and finite.

    >>> choose_factor(Geometry(shape=(60, 512, 512), spacing_mm=(5.0, 0.7, 0.7)))
    5
    """
    verdict = eligibility(geometry, factor=factor, spacing_mm=spacing_mm, axis_ambiguous=axis_ambiguous)
    if verdict.factor is None:
        raise NotEligibleError(" ".join(verdict.reasons))
    return verdict.factor


def relative_thickness(geometry: Geometry) -> float:
    """Slice thickness over slice distance: 1 for contiguous slices, above 1 for overlap, below 1 for gaps.

    A thickness that is unknown, within 1 % of the slice distance or not believable (`MAX_WIDTH`) counts as equal to
    the distance.

    >>> relative_thickness(Geometry((9, 8, 8), (2.5, 0.7, 0.7), thickness_mm=5.0))
    2.0
    """
    if geometry.thickness_mm is None:
        return 1.0
    relative = geometry.thickness_mm / geometry.spacing_mm[0]
    return 1.0 if abs(relative - 1.0) <= WIDTH_TOLERANCE or relative > MAX_WIDTH else relative


def slice_profile(geometry: Geometry, factor: int) -> SliceProfile:
    """How the thick slices weigh the thin ones: a box as wide as a slice is thick (`relative_thickness`).

    >>> profile = slice_profile(Geometry((9, 8, 8), (2.5, 0.7, 0.7), thickness_mm=5.0), 3)
    >>> [round(weight * 12) for weight in profile.weights]  # twelfths
    [1, 2, 2, 2, 2, 2, 1]
    """
    from thinslice.profile import SliceProfile  # it needs scipy, planning itself does not

    return SliceProfile.mean(factor, width=relative_thickness(geometry))


def profile_warning(geometry: Geometry) -> str | None:
    """A sentence for the report when slices overlap, leave gaps or tell a thickness that is not believed; else None.

    >>> profile_warning(Geometry((9, 8, 8), (2.5, 0.7, 0.7), thickness_mm=5.0))
    'Slices 5 mm thick lie 2.5 mm apart, so they overlap; their true profile is used.'
    """
    if geometry.thickness_mm is None:
        return None
    told, distance = geometry.thickness_mm, geometry.spacing_mm[0]
    start = f"Slices {told:.4g} mm thick lie {distance:.4g} mm apart, "
    width = relative_thickness(geometry)
    if width > 1.0:
        return start + "so they overlap; their true profile is used."
    if width < 1.0:
        return start + "so there are gaps between them; their true profile is used."
    if told / distance > MAX_WIDTH:
        return start + "which is not plausible; they are taken as contiguous."
    return None


def _rounded_half_up(ratio: float) -> int:
    # Distances come from positions written with few decimals: 2.49999 over 1 is a half too.
    return math.floor(round(ratio, 4) + 0.5)
