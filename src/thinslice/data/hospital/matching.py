"""Matching of series: pairs of a thick and a thin reconstruction of one scan, in order of preference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from thinslice.data.hospital.studies import LEAST_SLICES, Candidate
from thinslice.data.pairing import pair_by_position
from thinslice.errors import GeometryError
from thinslice.geometry import Geometry
from thinslice.options import option
from thinslice.planning.eligibility import MAX_FACTOR, MIN_FACTOR
from thinslice.volume import Volume

RATIO_TOLERANCE = 0.01
"""Relative distance of thick over thin spacing from a whole number; positions are checked more strictly."""

MOST_THIN_MM = 2.0
"""Largest distance of thin slices."""

SAME_SCAN_S = 2.0
"""Largest gap between the acquisition times of one scan; contrast phases are further apart."""

THINNER = 0.75
"""Largest ratio of the thickness of thin to thick slices."""

PREFERRED_FACTOR = 5
"""Factor of RPLHR-CT."""

RULES = (
    f"factor nearest to {PREFERRED_FACTOR} (or the one asked for); a soft-tissue kernel before others; more thick "
    "slices; thinner slices; lower series numbers"
)
"""Criteria for the choice of one pair of several, in this order."""


@dataclass(frozen=True)
class Match:
    """Two series that are a pair by their headers.

    Attributes:
        thick, thin: series.
        factor: thin slices per thick interval.
        slices: number of thick slices in the part that both series cover.
    """

    thick: Candidate
    thin: Candidate
    factor: int
    slices: int


@dataclass(frozen=True)
class Mismatch:
    """Two series, one with thicker slices, that are no pair.

    Attributes:
        thick, thin: series.
        reason: reason, as a sentence.
    """

    thick: Candidate
    thin: Candidate
    reason: str


def match_series(
    found: Sequence[Candidate], *, factor: int | None = None, any_kernel: bool = False
) -> tuple[list[Match], list[Mismatch]]:
    """All pairs of a study by headers, the preferred one first, and the mismatches with reasons.

    Args:
        found: series of one study.
        factor: factor of the pairs; None for any from 2 to 8.
        any_kernel: whether pairs may have different kernels.
    """
    matches: list[Match] = []
    mismatches: list[Mismatch] = []
    for thick, thin in permutations(found, 2):
        if thick.spacing_mm < (MIN_FACTOR - 0.5) * thin.spacing_mm:
            continue
        result = _compare(thick, thin, factor, any_kernel)
        if isinstance(result, Match):
            matches.append(result)
        else:
            mismatches.append(Mismatch(thick, thin, result))
    wanted = PREFERRED_FACTOR if factor is None else factor
    matches.sort(
        key=lambda match: (
            abs(match.factor - wanted),
            not match.thin.soft,
            -match.slices,
            match.thin.geometry.thickness_mm or match.thin.spacing_mm,
            [float("inf") if side.number is None else side.number for side in (match.thick, match.thin)],
            (match.thick.stack.uid, match.thin.stack.uid),
        )
    )
    return matches, mismatches


def _compare(thick: Candidate, thin: Candidate, factor: int | None, any_kernel: bool) -> Match | str:
    """The pair of two series, or the reason why they are none."""
    reason = _apart(thick, thin) or ("" if any_kernel else _other_kernel(thick, thin))
    if reason:
        return reason
    ratio = thick.spacing_mm / thin.spacing_mm
    if abs(ratio - round(ratio)) > RATIO_TOLERANCE * ratio:
        return f"{thick.spacing_mm:.4g} mm is no multiple of {thin.spacing_mm:.4g} mm (ratio {ratio:.3f})."
    if not MIN_FACTOR <= round(ratio) <= MAX_FACTOR:
        return f"The factor is {round(ratio)}; {MIN_FACTOR} to {MAX_FACTOR} are possible."
    if factor is not None and round(ratio) != factor:
        return f"The factor is {round(ratio)}, and {option('factor', factor)} was requested."
    if thin.spacing_mm > MOST_THIN_MM:
        return f"Slices {thin.spacing_mm:.4g} mm apart are not thin; at most {MOST_THIN_MM:g} mm count as thin."
    widths = thick.geometry.thickness_mm, thin.geometry.thickness_mm
    if widths[0] is not None and widths[1] is not None and widths[1] > THINNER * widths[0]:
        return f"The thin series' slices are {widths[1]:.4g} mm thick, hardly less than {widths[0]:.4g} mm."
    if thick.geometry.shape[1:] != thin.geometry.shape[1:] or not np.allclose(
        [float(mm or 0) for mm in thick.geometry.spacing_mm[1:]],
        [float(mm or 0) for mm in thin.geometry.spacing_mm[1:]],
        rtol=1e-4,
    ):
        return f"Their planes differ: {_plane(thick.geometry)} and {_plane(thin.geometry)} (field of view or matrix)."
    try:
        cut, _, reached = pair_by_position(_hollow(thick.geometry), _hollow(thin.geometry))
    except GeometryError as error:
        return str(error)
    if cut.geometry.shape[0] < LEAST_SLICES:
        return f"They have {cut.geometry.shape[0]} thick slices in common; at least {LEAST_SLICES} are needed."
    return Match(thick, thin, reached, cut.geometry.shape[0])


def _hollow(geometry: Geometry) -> Volume:
    """A constant volume without memory of its own, for functions that need a volume but only use its grid."""
    return Volume(np.broadcast_to(np.int16(0), geometry.shape), geometry)


def _plane(geometry: Geometry) -> str:
    height, width = geometry.shape[1:]
    return f"{height} x {width} pixels of {' x '.join(f'{mm or 0:.4g}' for mm in geometry.spacing_mm[1:])} mm"


def _apart(thick: Candidate, thin: Candidate) -> str:
    """The reason why two series are not of one scan by their headers; "" where they are."""
    if not thick.frame or not thin.frame:
        return "FrameOfReferenceUID is missing, so positions of the two series cannot be compared."
    if thick.frame != thin.frame:
        return "They have different frames of reference."
    if thick.exposures and thin.exposures:
        return "" if thick.exposures & thin.exposures else "They are two exposures (IrradiationEventUID differs)."
    comparable = False
    if thick.acquisitions and thin.acquisitions:
        comparable = True
        if not thick.acquisitions & thin.acquisitions:
            return "They are two acquisitions (AcquisitionNumber differs)."
    if thick.times_s is not None and thin.times_s is not None:
        comparable = True
        gap_s = max(thick.times_s[0], thin.times_s[0]) - min(thick.times_s[1], thin.times_s[1])
        if gap_s > SAME_SCAN_S:
            return f"They were acquired {gap_s:.0f} s apart, so they are two scans."
    return "" if comparable else "Neither AcquisitionNumber nor AcquisitionTime shows whether they are one scan."


def _other_kernel(thick: Candidate, thin: Candidate) -> str:
    if thick.maker != thin.maker:
        return "They come from scanners of two manufacturers."
    if not thick.kernel or not thin.kernel:
        return f"ConvolutionKernel is missing; {option('any_kernel', True)} accepts the pair."
    if thick.family != thin.family:
        return (
            f"Their kernels differ ({thick.kernel} and {thin.kernel}); {option('any_kernel', True)} accepts the pair."
        )
    return ""
