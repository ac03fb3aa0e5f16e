"""Whether voxels look like HU of a CT, from their values alone.

A CT in HU holds air near -1000, fat near -100 and soft tissue near 40. A file whose rescaling was lost, that was
windowed, normalised or masked, or that is no CT, breaks one of these laws. The check reads a sample of the voxels and
takes milliseconds; only for the extremes every voxel is looked at.

Source: our own thresholds. No kind but "hu" is found on the project's CT of chests, heads, abdomens and phantoms from
five makers, nor on crops of them without air.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thinslice.options import option
from thinslice.typing import Doubles

SAMPLED_VOXELS = 1_000_000
"""Voxels sampled, at even steps: enough to find what fills a thousandth of a volume."""

UNIT_REACH = 1.05
"""Largest magnitude of values that were scaled to [0, 1] or [-1, 1]."""

LEAST_SPREAD_HU = 30.0
"""Distance of the 0.1 and 99.9 percentiles below which fractional values are no HU: image noise alone spans more."""

MOST_LABELS = 32
"""Distinct whole values from 0 on, up to which a volume is a label map."""

WRAPPED_HU = 31_000.0
"""Above the HU of any metal; reached where negative pixels were read as unsigned."""

RARE = 0.001
"""Share of the voxels that is taken for none."""

AIR_BELOW_HU = -200.0
"""Lung and air lie below; only crops of soft tissue hold none."""

LOWEST_HU = -3000.0
"""Below the lowest values that streaks beside metal reach; only padding, a single value, lies lower."""

FAR_BELOW_HU, SHIFTED_SHARE = -1200.0, 0.02
"""Noise and streaks in air reach below -1200 HU in fewer voxels than this share; padding is a single value."""

RAW_TISSUE = (850.0, 1200.0)
"""Fat and soft tissue as scanners store them, HU + 1024."""

MASK_SHARE, MASK_SPIKE = 0.05, 20.0
"""Share of voxels that are exactly 0, and its ratio to the mean share of the values 1 to 5 and -5 to -1, from which on
voxels were set to 0. In CT, 0 HU is a value like others (0.1 to 0.3 % of the voxels)."""

Kind = Literal[
    "hu",
    "empty",
    "unit",
    "signed unit",
    "normalised",
    "labels",
    "8 bit",
    "wrapped",
    "masked",
    "raw",
    "shifted",
    "other",
    "beyond",
]
"""What values look like; each has a sentence below but "hu" and "empty" (one value throughout)."""

REFUSALS: dict[Kind, str] = {
    "unit": "The values lie between 0 and 1 and are not HU. State that they are [-1024, 2048] HU scaled to [0, 1] "
    "({unit}), or convert them to HU first.",
    "signed unit": "The values lie between -1 and 1 and are not HU; convert them to HU first.",
    "normalised": "The values span less than the noise of a CT in HU, as after normalisation (z-scores); convert them "
    "to HU first.",
    "labels": "The values are a few whole numbers from 0 on, as in a segmentation, and not HU; give the CT itself.",
}
"""Why a volume of a kind is refused; {unit} stands for the option or argument that states the unit."""

WARNINGS: dict[Kind, str] = {
    "8 bit": "The values are whole numbers from 0 to 255, as after a display window of 8 bits, and not HU: the result "
    "will be wrong. Export the CT with its full range.",
    "wrapped": "Values above 31000 occur, as where negative pixels were read as unsigned: the result will be wrong. "
    "Check the data type of the file.",
    "masked": "Many voxels are exactly 0, as where everything outside the body was set to 0: the network takes it for "
    "soft tissue. Give the CT before masking, or set the outside to -1024 HU.",
    "raw": "No voxel lies below -200, and most tissue lies near 1024, as in scanner values that lost their rescale "
    "intercept (HU + 1024): the result will be wrong. Subtract 1024 first.",
    "shifted": "Many voxels lie far below -1024, the HU of a vacuum, as where an intercept was subtracted twice: the "
    "result will be wrong. Check the conversion to HU.",
    "other": "No voxel lies below 0, where HU of air and fat lie: this may be another modality (MR), or a rescaled "
    "file. The result will be wrong unless the values are HU.",
    "beyond": "Some voxels lie below -3000 or above 31000, where neither tissue nor metal lies: pixels may be damaged. "
    "Compare them with the original.",
}
"""What a user reads about a volume of a kind that is upscaled all the same."""


@dataclass(frozen=True)
class Plausibility:
    """What the values of a volume look like.

    Attributes:
        kind: what they look like.
        low, high: smallest and largest value sampled, padding left out.
    """

    kind: Kind
    low: float
    high: float

    @property
    def is_refused(self) -> bool:
        """Whether the values are certainly no HU."""
        return self.kind in REFUSALS

    def sentence(self) -> str | None:
        """What a user should know and do; None where values look like HU."""
        found = REFUSALS.get(self.kind) or WARNINGS.get(self.kind)
        return (
            None
            if found is None
            else f"{found.format(unit=option('intensity', 'unit'))} (Values from {self.low:g} to {self.high:g}.)"
        )


def examine(values: npt.NDArray[Any], *, padding: float | None = None) -> Plausibility:
    """What the values of a volume look like.

    Args:
        values: any shape, finite numbers.
        padding: value outside the reconstruction, which is left out; None for none.

    Returns:
        The kind of values, with their range.

    >>> examine(np.linspace(0, 1, 1000)).kind
    'unit'
    >>> examine(np.repeat([-1000, -100, 40], 1000) + np.arange(3000) % 50).kind
    'hu'
    """
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size // SAMPLED_VOXELS)].astype(np.float64)
    if padding is not None and np.any(sample != padding):
        sample = sample[sample != padding]
    kind: Kind = _kind(sample) if sample.size else "empty"
    if kind == "hu" and _reaches_beyond(flat, padding):
        kind = "beyond"
    return Plausibility(kind, *((float(sample.min()), float(sample.max())) if sample.size else (0.0, 0.0)))


def _kind(sample: Doubles) -> Kind:
    low, high = float(sample.min()), float(sample.max())
    if low == high:
        return "empty"
    whole = bool(np.all(sample == np.rint(sample)))
    if whole and low >= 0 and len(np.unique(sample)) <= MOST_LABELS:
        return "labels"
    if max(abs(low), abs(high)) <= UNIT_REACH:
        return "unit" if low >= 1.0 - UNIT_REACH else "signed unit"
    if not whole and np.subtract(*np.percentile(sample, (99.9, 0.1))) < LEAST_SPREAD_HU:
        return "normalised"
    if whole and low >= 0 and high <= 255:
        return "8 bit"
    if np.mean(sample > WRAPPED_HU) > RARE:
        return "wrapped"
    inside = sample[sample != low] if low < FAR_BELOW_HU else sample  # without undeclared padding
    if np.mean(inside < FAR_BELOW_HU) > SHIFTED_SHARE:
        return "shifted"
    if np.mean(inside < AIR_BELOW_HU) <= RARE and np.mean(inside < -2.0) <= RARE and _is_raw(inside):
        return "raw"
    if _is_masked(inside):
        return "masked"
    # Crops of soft tissue hold no air, but noise reaches below 0; MR and PET hold nothing below 0.
    return "hu" if inside.min() < -2.0 else "other"


def _reaches_beyond(flat: npt.NDArray[Any], padding: float | None) -> bool:
    """Whether any voxel lies where no HU are, but for one value of padding."""
    if flat.max() > WRAPPED_HU:
        return True
    lowest = flat.min()
    if lowest >= LOWEST_HU:
        return False
    low = flat[flat < LOWEST_HU]
    return len(low) > 0 and (low.min() < low.max() or (lowest != padding and len(low) <= RARE * len(flat)))


def _is_raw(values: Doubles) -> bool:
    dense = values[values > 500.0]
    return len(dense) > 0.05 * len(values) and bool(np.mean((dense > RAW_TISSUE[0]) & (dense < RAW_TISSUE[1])) > 0.5)


def _is_masked(values: Doubles) -> bool:
    zero = float(np.mean(values == 0))
    around = float(np.mean((np.abs(values) <= 5.5) & (np.abs(values) >= 0.5))) / 10
    return zero > MASK_SHARE and zero > MASK_SPIKE * around
