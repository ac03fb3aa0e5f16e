"""Eligibility of a volume for upscaling, its factor, and the profile of its slices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinslice.arguments import check_number
from thinslice.errors import NotEligibleError, UsageError
from thinslice.geometry import Geometry
from thinslice.options import option

if TYPE_CHECKING:
    from thinslice.profile import SliceProfile

MIN_FACTOR = 2
"""Below it there is nothing to do."""

MIN_SLICES = 2
"""Below it there is no interval to fill."""

MAX_FACTOR = 8
"""Above it no network here was trained or checked, and detail would be invention."""

WIDTH_TOLERANCE = 0.01
"""Slices whose thickness differs from their distance by less than this share count as contiguous."""

MAX_WIDTH = 4.0
"""Thickness over distance beyond which a header is taken to be wrong: no scanner reconstructs slices with that much
overlap, but exporters write the thickness of another series."""

MIN_WIDTH = 0.04
"""Thickness over distance below which a header is taken to be wrong: 1 mm every 25 mm is the sparsest lung protocol."""

MIN_THICKNESS_MM = 0.1
"""Thickness below which a header is taken to be wrong: no detector row of a CT scanner is thinner."""


@dataclass(frozen=True)
class Eligibility:
    """Whether a volume can be upscaled, and by which factor.

    Attributes:
        eligible: whether the volume can be upscaled.
        factor: thin slices per thick interval; None when the volume cannot be upscaled.
        reasons: sentences with the reason and an option that works; empty when eligible.
    """

    eligible: bool
    factor: int | None
    reasons: tuple[str, ...] = ()


def check_target(factor: float | None, spacing_mm: float) -> None:
    """Refuse a factor that is no whole number; without a factor, a spacing that is not positive and finite.

    Raises:
        UsageError: the message gives the value that was refused.
        ArgumentTypeError: no number.
    """
    if factor is None:
        if not 0 < check_number("spacing_mm", spacing_mm, "a number of mm") < math.inf:
            raise UsageError(f"The target spacing must be a positive number of mm, not {spacing_mm}.")
    elif not math.isfinite(check_number("factor", factor, "a whole number from 2 to 8")) or int(factor) != factor:
        raise UsageError(f"The factor must be a whole number, not {factor}.")


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
        factor: thin slices per thick interval; takes precedence over `spacing_mm`.
        spacing_mm: wanted distance of thin slices; the factor is the thick distance over it, rounded half up.
        axis_ambiguous: whether the file does not show which axis is the through-plane one.

    Raises:
        UsageError: when `factor` is not a whole number, or `spacing_mm` is not positive and finite.

    >>> thick = Geometry(shape=(60, 512, 512), spacing_mm=(2.5, 0.7, 0.7))
    >>> eligibility(thick).factor
    3
    >>> eligibility(thick, spacing_mm=2.0).reasons
    ('Slices 2.5 mm apart are already thin for a target of 2 mm (factor 1); try spacing_mm=1.25.',)
    """
    check_target(factor, spacing_mm)
    reasons = []
    if axis_ambiguous:
        reasons.append(
            "Several axes could be the through-plane one (their spacings are equal or nearly so); name it with "
            f"{option('axis', 0)}, 1 or 2."
        )
    if geometry.shape[0] < MIN_SLICES:
        lone = (
            "There is one slice only, and thin slices are made between two; give the folder of the whole series, or a "
        )
        return Eligibility(False, None, (f"{lone}file of the whole volume.",))
    thick_mm = geometry.spacing_mm[0]
    if factor is None:
        # Rounded half up. Positions are written with few decimals, so 2.49999 mm over 1 mm is a half too.
        chosen = math.floor(round(thick_mm / spacing_mm, 4) + 0.5)
        asked = f"a target of {spacing_mm:g} mm (factor {chosen})"
    else:
        chosen = int(factor)
        asked = f"factor {chosen}"
    if chosen < MIN_FACTOR and factor is None:
        works = thick_mm / MIN_FACTOR
        reasons.append(
            f"Slices {thick_mm:.4g} mm apart are already thin for {asked}; try {option('spacing_mm', works)}."
        )
    elif not MIN_FACTOR <= chosen <= MAX_FACTOR:
        works = thick_mm / (MAX_FACTOR if chosen > MAX_FACTOR else MIN_FACTOR)
        reasons.append(
            f"Slices {thick_mm:.4g} mm apart cannot be upscaled to {asked}: factors {MIN_FACTOR} to {MAX_FACTOR} "
            f"are possible; try {option('spacing_mm', works)}."
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

    A thickness that is unknown, within 1 % of the slice distance or implausible counts as equal to the distance.

    >>> relative_thickness(Geometry((9, 8, 8), (2.5, 0.7, 0.7), thickness_mm=5.0))
    2.0
    """
    if geometry.thickness_mm is None:
        return 1.0
    relative = geometry.thickness_mm / geometry.spacing_mm[0]
    return 1.0 if abs(relative - 1.0) <= WIDTH_TOLERANCE or not is_plausible_thickness(geometry) else relative


def is_plausible_thickness(geometry: Geometry) -> bool:
    """Whether the stated thickness may be true, beside the slice distance; an unknown one may.

    >>> [is_plausible_thickness(Geometry((9, 8, 8), (5.0, 0.7, 0.7), thickness_mm=mm)) for mm in (0.01, 1, 10, 500)]
    [False, True, True, False]
    """
    if geometry.thickness_mm is None:
        return True
    relative = geometry.thickness_mm / geometry.spacing_mm[0]
    return MIN_WIDTH <= relative <= MAX_WIDTH and geometry.thickness_mm >= MIN_THICKNESS_MM


def slice_profile(geometry: Geometry, factor: int) -> SliceProfile:
    """Weights of thin slices in a thick one: a box as wide as the slice is thick (`relative_thickness`).

    >>> profile = slice_profile(Geometry((9, 8, 8), (2.5, 0.7, 0.7), thickness_mm=5.0), 3)
    >>> [round(weight * 12) for weight in profile.weights]  # twelfths
    [1, 2, 2, 2, 2, 2, 1]
    """
    from thinslice.profile import SliceProfile  # here, as it imports scipy, which planning itself does not need

    return SliceProfile.mean(factor, width=relative_thickness(geometry))


def profile_warning(geometry: Geometry) -> str | None:
    """A sentence for the report when slices overlap, leave gaps or state an implausible thickness; else None.

    >>> profile_warning(Geometry((9, 8, 8), (2.5, 0.7, 0.7), thickness_mm=5.0))
    'Slices 5 mm thick lie 2.5 mm apart, so they overlap; their true profile is used.'
    """
    if geometry.thickness_mm is None:
        return None
    stated, distance = geometry.thickness_mm, geometry.spacing_mm[0]
    start = f"Slices {stated:.4g} mm thick lie {distance:.4g} mm apart, "
    width = relative_thickness(geometry)
    if width > 1.0:
        return start + "so they overlap; their true profile is used."
    if width < 1.0:
        return start + "so there are gaps between them; their true profile is used."
    if not is_plausible_thickness(geometry):
        return start + "which is not plausible; they are taken as contiguous."
    return None
