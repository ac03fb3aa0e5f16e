"""What is unusual about a scan: its traits beside those of the training scans, its header, and the scale of CT.

Each rule names a cause that a user can check. Limits are the extremes of the training scans, widened by a margin, or
follow from what HU and slices are. Margins were chosen on half of the patients at hand, and counted on the other half
(docs/results/scan-check.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from thinslice.evaluation.scan_traits.reference import TrainingSet
from thinslice.evaluation.scan_traits.traits import ScanTraits
from thinslice.planning.eligibility import WIDTH_TOLERANCE

Verdict = Literal["good", "look closely", "not for this network"]
"""What is said of a scan, from the best to the worst."""

NOISE_TIMES = 1.25
"""Noise may be so many times that of the noisiest training scan."""

WHITENESS_MARGIN = 0.06
"""How much whiter noise may be than in any training scan; 1 is white."""

CORRELATION_MARGINS = (0.12, 0.08)
"""How much less and more than in any training scan neighbouring slices may share of their noise."""

OPPOSED = 0.08
"""Size of a negative correlation of neighbours' noise that only sharpening across the slices leaves."""

THICKNESS_MARGIN = 0.25
"""How much thinner or thicker, over the slice distance, slices may measure than in any training scan."""

GAP_MARGIN = 0.75
"""How much thicker than the header states, over the slice distance, slices with gaps between them may measure."""

DISTANCE_TIMES = 1.13
"""How many times nearer or farther than in any training chest slices may lie by the anatomy, over the distance in the
header: half the true distance there gives 1.4 to 2.1, twice the true one 0.4 to 0.7."""

GAP = 0.7
"""Slice thickness over slice distance below which tissue lies in no slice at all."""

LARGEST_JUMP = 1.32
"""Ratio of neighbours' differences from which on a slice is missing or out of place: a missing one gives 1.4 to 1.5."""

OVERSHOOT_MARGIN = 0.02
"""How much more, as a share of the step, edges may overshoot than in any training scan."""

LOWEST_LEVEL_HU, AIR_HU, NO_AIR_HU = -1100.0, -900.0, -150.0
"""The lowest even level of a CT is air or lung, between the first two; in a crop without any it lies above the last."""

LEAST_FAMILIAR, LEAST_SOFT, MOST_RAISED, MOST_DENSE = 0.85, 0.05, 0.4, 0.45
"""Shares: of fat and soft tissue among the levels near them; of soft tissue, tissue with contrast, and bone among all
tissue."""

CUT_SHARE, CUT_LOW_SHARE = 1e-3, 1e-2
"""Shares of the voxels at one value from which on the highest and the lowest HU count as cut off."""

PIXEL_TIMES = 1.6
"""Pixels may be so many times as far apart as the widest of the training scans."""

METAL_ML = 1.0
"""Volume of metal from which on its streaks matter."""


class Finding(BaseModel):
    """One unusual trait.

    Attributes:
        trait: its name in `ScanTraits`, or "values" or "thicker_slices".
        verdict: what follows from it alone.
        sentence: for the user: what is unusual, the likely cause, what to do.
        value: the value measured, where it is one number.
        usual: lowest and highest value of the training scans, where they have the trait.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trait: str
    verdict: Verdict
    sentence: str
    value: float | None = None
    usual: tuple[float, float] | None = None


def findings(traits: ScanTraits, reference: TrainingSet) -> list[Finding]:
    """What is unusual about a scan, the worst first; empty for an ordinary one.

    Args:
        traits: of the scan.
        reference: the training scans.
    """
    found = [*_values(traits, reference), *_slices(traits, reference), *_kernel(traits, reference)]
    return sorted(found, key=lambda finding: finding.verdict != "not for this network")


def _values(traits: ScanTraits, reference: TrainingSet) -> Iterator[Finding]:
    """Other contrast, unit or window."""
    lowest = traits.lowest_level_hu
    if lowest is not None and (lowest < LOWEST_LEVEL_HU or AIR_HU < lowest < NO_AIR_HU):
        yield Finding(
            trait="lowest_level_hu",
            verdict="not for this network",
            value=lowest,
            sentence=f"The lowest even level is {lowest:.0f} HU, where air is -1000 and lung -900 to -700: the values "
            "seem rescaled, shifted or of another contrast. Check the conversion to HU.",
        )
    familiar = traits.familiar_share
    # Noise beyond the training scans' moves the levels themselves, and is a finding of its own.
    if familiar is not None and familiar < LEAST_FAMILIAR and not _is_too_noisy(traits, reference):
        yield Finding(
            trait="familiar_share",
            verdict="not for this network",
            value=familiar,
            sentence=f"Of the even levels between -450 and 130 HU, {100 * (1 - familiar):.0f} % are neither fat nor "
            "soft tissue: the values seem to be of another contrast (inverted, gamma, another modality). Give HU.",
        )
    soft, raised, dense = traits.soft_share, traits.raised_share, traits.dense_share
    if soft is not None and soft < LEAST_SOFT:
        yield Finding(
            trait="soft_share",
            verdict="not for this network",
            value=soft,
            sentence=f"Only {100 * soft:.0f} % of the tissue lies between -20 and 130 HU, where muscle, blood and "
            "organs are in a CT. Check the conversion to HU.",
        )
    for name, share, most, where in (
        ("raised_share", raised, MOST_RAISED, "between 130 and 300 HU, as tissue full of contrast does"),
        ("dense_share", dense, MOST_DENSE, "above 300 HU, as bone does"),
    ):
        if share is not None and share > most:
            yield Finding(
                trait=name,
                verdict="not for this network",
                value=share,
                sentence=f"{100 * share:.0f} % of the tissue lies {where}: the values seem to be of another contrast. "
                "Check the conversion to HU.",
            )
    cut_high, cut_low = traits.cut_high_share > CUT_SHARE, traits.cut_low_share > CUT_LOW_SHARE
    if cut_high or cut_low:
        ends = " and ".join(name for name, cut in (("lowest", cut_low), ("highest", cut_high)) if cut)
        yield Finding(
            trait="cut_low_share" if cut_low else "cut_high_share",
            verdict="not for this network" if cut_high and cut_low else "look closely",
            value=traits.cut_low_share if cut_low else traits.cut_high_share,
            sentence=f"Many voxels share the {ends} value, as where a display window cut HU off. Export the CT with "
            "its full range.",
        )
    if traits.metal_ml > METAL_ML:
        yield Finding(
            trait="metal_ml",
            verdict="look closely",
            value=traits.metal_ml,
            sentence=f"{traits.metal_ml:.1f} ml lie above 3000 HU, as metal does: near it, and in its streaks, "
            "synthesised detail is not to be trusted.",
        )


def _slices(traits: ScanTraits, reference: TrainingSet) -> Iterator[Finding]:
    """Headers that do not fit the slices; slices that were repeated, interpolated, lost or sharpened along z."""
    header = traits.header_thickness
    stated = _stated(header)
    if traits.repeated:
        yield Finding(
            trait="repeated",
            verdict="not for this network",
            value=float(len(traits.repeated)),
            sentence=f"Slice {traits.repeated[0]} (counted from 1) and its successor are copies of each other"
            f"{f', and {len(traits.repeated) - 1} more are' if len(traits.repeated) > 1 else ''}: give the series as "
            "it was reconstructed.",
        )
    elif (excess := _correlation_excess(traits)) is not None:
        usual = _correlation_range(reference)
        value = traits.neighbour_correlation
        if usual is not None and excess > usual[1] + CORRELATION_MARGINS[1]:
            yield Finding(
                trait="neighbour_correlation",
                verdict="not for this network",
                value=value,
                usual=usual,
                sentence=f"Neighbouring slices share {100 * (value or 0):.0f} % of their noise, too much for slices "
                f"that {stated}: they overlap more, or were interpolated. Check slice thickness and distance in the "
                "header, and give the series as it was reconstructed.",
            )
        elif usual is not None and excess < usual[0] - CORRELATION_MARGINS[0]:
            sharpened = (value or 0.0) <= -OPPOSED
            cause = (
                "they seem to have been sharpened across the slices. Give the series as it was reconstructed."
                if sharpened
                else "they overlap less. Check the slice thickness in the header."
            )
            yield Finding(
                trait="neighbour_correlation",
                verdict="look closely" if sharpened else "not for this network",
                value=value,
                usual=usual,
                sentence=f"Neighbouring slices share {100 * (value or 0):.0f} % of their noise, too little for slices "
                f"that {stated}: {cause}",
            )
    measured, usual = traits.measured_thickness, reference.usual("measured_thickness")
    # Sharpening across the slices makes boundaries overshoot, which is no thickness.
    if measured is not None and usual is not None and (traits.neighbour_correlation or 0.0) > -OPPOSED:
        low, high = usual[0] - THICKNESS_MARGIN, usual[1] + THICKNESS_MARGIN
        most = header + GAP_MARGIN if header < 1.0 - WIDTH_TOLERANCE else max(1.0, header) * high
        if not header * low <= measured <= most:
            yield Finding(
                trait="measured_thickness",
                verdict="not for this network",
                value=measured,
                usual=usual,
                sentence=f"By the boundaries of organs, slices are {max(measured, 0.0):.1f} times as thick as they are "
                f"apart; by the header they {stated}. Check slice thickness and distance in the header.",
            )
    apparent, usual = traits.apparent_distance, reference.usual("apparent_distance")
    if (
        apparent is not None
        and usual is not None
        and not usual[0] / DISTANCE_TIMES <= apparent <= usual[1] * DISTANCE_TIMES
    ):
        yield Finding(
            trait="apparent_distance",
            verdict="look closely",
            value=apparent,
            usual=usual,
            sentence=f"By the anatomy of the chest slices seem to lie {apparent * traits.distance_mm:.2g} mm apart, "
            f"and by the header they lie {traits.distance_mm:.3g} mm apart. Check the distance of slices and pixels.",
        )
    if header < GAP:
        yield Finding(
            trait="header_thickness",
            verdict="look closely",
            value=header,
            sentence=f"By the header {100 * (1 - header):.0f} % of the tissue lies in no slice: what the network puts "
            "there is made up. Check the slice thickness in the header.",
        )
    if traits.jump is not None and traits.jump > LARGEST_JUMP:
        yield Finding(
            trait="jump",
            verdict="look closely",
            value=traits.jump,
            usual=reference.usual("jump"),
            sentence=f"Slices {traits.jump_at} and {(traits.jump_at or 0) + 1} (counted from 1) differ "
            f"{traits.jump:.1f} times as much as those beside them: a slice may be missing or out of place, or the "
            "patient moved.",
        )


def _kernel(traits: ScanTraits, reference: TrainingSet) -> Iterator[Finding]:
    """Pixels, noise and sharpness in plane."""
    pixel, usual = traits.pixel_mm, reference.usual("pixel_mm")
    if pixel is not None and usual is not None and pixel > PIXEL_TIMES * usual[1]:
        yield Finding(
            trait="pixel_mm",
            verdict="look closely",
            value=pixel,
            usual=usual,
            sentence=f"Pixels are {pixel:.2g} mm apart, and those of the training scans {usual[0]:.2g} to "
            f"{usual[1]:.2g} mm: give the scan as it was reconstructed, before any resampling.",
        )
    noise, usual = traits.noise_hu, reference.usual("noise_hu")
    if noise is not None and usual is not None and _is_too_noisy(traits, reference):
        yield Finding(
            trait="noise_hu",
            verdict="look closely",
            value=noise,
            usual=usual,
            sentence=f"Noise in soft tissue is {noise:.0f} HU, and no training scan has more than {usual[1]:.0f} HU: "
            "detail below the noise is lost.",
        )
    whiteness, usual = traits.noise_whiteness, reference.usual("noise_whiteness")
    if whiteness is not None and usual is not None and whiteness > usual[1] + WHITENESS_MARGIN:
        yield Finding(
            trait="noise_whiteness",
            verdict="look closely",
            value=whiteness,
            usual=usual,
            sentence=f"Noise is almost white ({whiteness:.2f} of 1), as no kernel of a CT leaves it: it was added, or "
            "the pixels were changed, after the reconstruction.",
        )
    overshoot, usual = traits.overshoot, reference.usual("overshoot")
    if overshoot is not None and usual is not None and overshoot > usual[1] + OVERSHOOT_MARGIN:
        yield Finding(
            trait="overshoot",
            verdict="look closely",
            value=overshoot,
            usual=usual,
            sentence=f"Edges in the plane overshoot by {100 * max(overshoot, 0.0):.0f} % of their height, as after "
            "strong sharpening: take the reconstruction with a softer kernel where there is one.",
        )


def _is_too_noisy(traits: ScanTraits, reference: TrainingSet) -> bool:
    usual = reference.usual("noise_hu")
    return traits.noise_hu is not None and usual is not None and traits.noise_hu > NOISE_TIMES * usual[1]


def _stated(header: float) -> str:
    if abs(header - 1.0) <= WIDTH_TOLERANCE:
        return "are as thick as they are apart"
    return f"are {header:.2g} times as thick as they are apart"


def expected_correlation(thickness: float) -> float:
    """Correlation of the noise of neighbouring slices, boxes of a thickness over their distance.

    >>> expected_correlation(1.0), expected_correlation(2.0)
    (0.0, 0.5)
    """
    return max(0.0, 1.0 - 1.0 / thickness)


def _correlation_excess(traits: ScanTraits) -> float | None:
    if traits.neighbour_correlation is None:
        return None
    return traits.neighbour_correlation - expected_correlation(traits.header_thickness)


def _correlation_range(reference: TrainingSet) -> tuple[float, float] | None:
    values = [excess for scan in reference.scans if (excess := _correlation_excess(scan.traits)) is not None]
    return (min(values), max(values)) if values else None
