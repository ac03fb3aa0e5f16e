"""Units of the values that are scored: Hounsfield units, or [0, 1] as the files of RPLHR-CT hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import InputError
from thinslice.intensity import to_hu
from thinslice.options import option
from thinslice.plausibility import LEAST_SPREAD_HU, SAMPLED_VOXELS
from thinslice.volume import Volume

UNIT_SLACK = 0.2
"""Distance outside [0, 1] at which all but a few values count as unit values: networks overshoot."""

FEW_PERCENT = 0.1
"""Percentage of the values at either end that do not decide about the unit: networks overshoot far in single voxels."""


def looks_like_unit(values: npt.NDArray[Any]) -> bool:
    """Whether values are floats of which nearly all lie in [0, 1], rather than HU.

    A CT in HU holds air near -1000, and one that does not is stored as whole numbers, hence as int16.

    >>> looks_like_unit(np.float32([0.0, 0.4])), looks_like_unit(np.float32([-1000.0, 0.4]))
    (True, False)
    """
    if values.dtype.kind != "f":
        return False
    low, high = _most_of(values)
    return low >= -UNIT_SLACK and high <= 1.0 + UNIT_SLACK


def _most_of(values: npt.NDArray[Any]) -> tuple[float, float]:
    """The range of nearly all finite values, from a sample."""
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size // SAMPLED_VOXELS)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 0.0
    low, high = np.percentile(sample, (FEW_PERCENT, 100.0 - FEW_PERCENT))
    return float(low), float(high)


def units_of_pair(estimate: Volume, reference: Volume, intensity: str) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Units of estimate and reference, and warnings about them."""
    if intensity != "auto":
        return (intensity, intensity), ()
    found = tuple(_unit_of(name, v.hu) for name, v in (("estimate", estimate), ("reference", reference)))
    units = (found[0], found[1])
    if units == ("hu", "hu"):
        return units, ()
    if units == ("unit", "unit"):
        warning = "Both volumes hold floats in [0, 1], taken as unit intensities (HU = 3072 v - 1024)."
    else:
        which = "estimate" if units[0] == "unit" else "reference"
        warning = f"The {which} alone holds floats in [0, 1], taken as unit intensities (HU = 3072 v - 1024)."
    return units, (warning,)


def _unit_of(name: str, values: npt.NDArray[Any]) -> str:
    """ "unit" or "hu".

    Raises:
        InputError: the values span less than the noise of a CT in HU, and are no unit values either.
    """
    if looks_like_unit(values):
        return "unit"
    low, high = _most_of(values)
    if values.dtype.kind == "f" and 0.0 < high - low < LEAST_SPREAD_HU and not np.all(values == np.rint(values)):
        raise InputError(
            f"Nearly all values of the {name} lie between {low:.3g} and {high:.3g}: neither HU nor [0, 1], as after "
            f"normalisation. Convert them, or state the unit of both volumes ({option('intensity', 'hu')} or "
            f"{option('intensity', 'unit')})."
        )
    return "hu"


def in_hu(values: npt.NDArray[Any], unit: str) -> npt.NDArray[Any]:
    """Values of a unit, "hu" or "unit", as HU.

    >>> in_hu(np.float32([0.0, 1.0]), "unit").tolist()
    [-1024.0, 2048.0]
    """
    return to_hu(values) if unit == "unit" else values


def volume_in_hu(volume: Volume, intensity: str = "auto") -> Volume:
    """A volume with its values as HU.

    Args:
        volume: in HU or in [0, 1].
        intensity: "hu", "unit", or "auto" to judge by the values.

    Raises:
        InputError: its values are neither HU nor unit values.
    """
    unit = _unit_of("volume", volume.hu) if intensity == "auto" else intensity
    return volume if unit == "hu" else Volume(to_hu(volume.hu), volume.geometry, volume.provenance)
