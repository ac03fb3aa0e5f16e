"""Scoring protocols: which voxels are compared, and in which units, so that numbers can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import InputError, UsageError
from thinslice.evaluation.align import overlap_by_position
from thinslice.evaluation.metrics import mean_squared_error, psnr_of, ssim_per_slice
from thinslice.intensity import to_hu, to_unit
from thinslice.volume import Volume

PROTOCOLS = ("rplhr", "clinical")
"""Names that `evaluate` takes."""

ALIGNMENTS = ("world", "index")
"""How voxels of estimate and reference are paired: by position in the patient, or by array index."""

INTENSITIES = ("auto", "hu", "unit")
"""Units of the volumes' values: Hounsfield units, or [0, 1] as the RPLHR-CT files hold."""

EDGE_SLICES = 5
"""Thin slices left out at each end, at every factor."""

DATA_RANGE = 1.0
"""Extent of the unit window."""

UNIT_SLACK = 0.1
"""How far floats may lie outside [0, 1] and still be taken for unit values: networks overshoot a little."""


@dataclass(frozen=True)
class Scores:
    """What a protocol measured of one case.

    Attributes:
        protocol: its name.
        psnr: dB over the scored voxels; infinite for identical ones.
        ssim: mean of `ssim_per_slice`.
        ssim_per_slice: one value per scored slice, in depth order.
        slices_scored: their number.
        align: how voxels were paired, "world" or "index".
        intensity: units the values were taken to have: "hu", "unit", or "mixed" for one of each.
        warnings: sentences on what was assumed or done on the way.
        clinical: what `thinslice.evaluation.clinical.measures` measured, for the protocol of that name.
    """

    protocol: str
    psnr: float
    ssim: float
    ssim_per_slice: tuple[float, ...]
    slices_scored: int
    align: str = "world"
    intensity: str = "hu"
    warnings: tuple[str, ...] = field(default=())
    clinical: dict[str, Any] | None = field(default=None, compare=False)

    @property
    def identical(self) -> bool:
        """Whether no scored voxel differs."""
        return self.psnr == float("inf")

    def to_json(self) -> dict[str, Any]:
        """JSON values; JSON has no infinity, so `psnr` of identical volumes is null beside `identical: true`.

        >>> Scores("rplhr", float("inf"), 1.0, (1.0,), 1).to_json()["psnr"] is None
        True
        """
        told = {
            "protocol": self.protocol,
            "psnr": None if self.identical else self.psnr,
            "identical": self.identical,
            "ssim": self.ssim,
            "ssim_per_slice": list(self.ssim_per_slice),
            "slices_scored": self.slices_scored,
            "align": self.align,
            "intensity": self.intensity,
            "warnings": list(self.warnings),
        }
        return told if self.clinical is None else {**told, "clinical": self.clinical}


def evaluate(
    estimate: Volume,
    reference: Volume,
    *,
    protocol: str = "rplhr",
    align: str = "world",
    intensity: str = "auto",
    thick: Volume | None = None,
) -> Scores:
    """Score an estimate against the true thin volume.

    `rplhr`, which the published numbers use: values clamped to the unit window ([-1024, 2048] HU), range 1,
    the first and last 5 slices left out, PSNR over the whole remaining volume, SSIM the mean over its slices.

    `clinical`, what a radiologist or a pipeline downstream would feel: over the same slices but in HU and without
    clamping, the measures of `thinslice.evaluation.clinical.measures`, beside PSNR and SSIM as above.

    Args:
        estimate: thin volume under test.
        reference: thin truth; its depth axis says which planes are slices.
        protocol: one of `PROTOCOLS`.
        align: "world" crops both to their overlap by position (tolerance 0.1 mm); "index" ignores geometry
            and needs equal shapes.
        intensity: "hu" or "unit" for both volumes, or "auto": floats within [0, 1] are unit values, each
            volume judged for itself, and a warning says so.

    Raises:
        UsageError: an unknown protocol, alignment or intensity.
        GeometryError: the volumes cannot be aligned as asked; the message says why.
        InputError: unequal shapes under "index", fewer than 11 slices, or values that are not finite.

    Source: paper, section 3 (Evaluation Metrics); the released code for clamping and for the slices left out.
    """
    _known("protocol", protocol, PROTOCOLS)
    _known("alignment", align, ALIGNMENTS)
    _known("intensity", intensity, INTENSITIES)
    units, warnings = _units(estimate, reference, intensity)
    if align == "world":
        estimate, reference, notes = overlap_by_position(estimate, reference)
        warnings = (*warnings, *notes)
    elif estimate.hu.shape != reference.hu.shape:
        raise InputError(
            f"Estimate {estimate.hu.shape} and reference {reference.hu.shape} differ in shape, so they "
            "cannot be aligned by index; align by world position."
        )
    depth = reference.hu.shape[0]
    if depth < 2 * EDGE_SLICES + 1:
        raise InputError(
            f"The volumes share {depth} slices; protocol {protocol} leaves out {EDGE_SLICES} at each end and so "
            f"needs at least {2 * EDGE_SLICES + 1}."
        )
    clinical = None
    if protocol == "clinical":
        clinical, notes = _clinical(estimate, reference, thick, units, align, intensity)
        warnings = (*warnings, *notes)
    errors: list[float] = []
    similarities: list[float] = []
    for ours, theirs in _clamped_slices(estimate.hu, reference.hu, units):
        errors.append(mean_squared_error(ours, theirs))
        similarities.extend(ssim_per_slice(ours, theirs, data_range=DATA_RANGE).tolist())
    return Scores(
        protocol=protocol,
        # All slices have the same number of voxels, so the mean of their errors is that of the volume.
        psnr=psnr_of(float(np.mean(errors)), data_range=DATA_RANGE),
        ssim=float(np.mean(similarities)),
        ssim_per_slice=tuple(similarities),
        slices_scored=len(similarities),
        align=align,
        intensity=units[0] if units[0] == units[1] else "mixed",
        warnings=warnings,
        clinical=clinical,
    )


def looks_like_unit(values: npt.NDArray[Any]) -> bool:
    """Whether values are floats within [0, 1] (a little slack allowed) rather than HU.

    A CT in HU holds air near -1000, and one that does not is stored as whole numbers, hence as int16.

    >>> looks_like_unit(np.float32([0.0, 0.4])), looks_like_unit(np.float32([-1000.0, 0.4]))
    (True, False)
    """
    if values.dtype.kind != "f":
        return False
    # Extremes are NaN where a value is, which compares false; the metrics name the slice later.
    return bool(values.min() >= -UNIT_SLACK and values.max() <= 1.0 + UNIT_SLACK)


def _units(estimate: Volume, reference: Volume, intensity: str) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Units of estimate and reference, and what to say about them."""
    if intensity != "auto":
        return (intensity, intensity), ()
    found = tuple("unit" if looks_like_unit(v.hu) else "hu" for v in (estimate, reference))
    units = (found[0], found[1])
    if units == ("hu", "hu"):
        return units, ()
    if units == ("unit", "unit"):
        said = "Both volumes hold floats in [0, 1], taken as unit intensities (HU = 3072 v - 1024)."
    else:
        which = "estimate" if units[0] == "unit" else "reference"
        said = f"The {which} alone holds floats in [0, 1], taken as unit intensities (HU = 3072 v - 1024)."
    return units, (said,)


def _clinical(
    estimate: Volume, reference: Volume, thick: Volume | None, units: tuple[str, str], align: str, intensity: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The measures of `clinical` on aligned volumes, and what to say about them."""
    from thinslice.evaluation.clinical.measures import measure
    from thinslice.evaluation.placed import index_thick, place_thick

    grid = reference.geometry
    placed, notes = None, ["No thick volume was given, so classes come from the reference alone."]
    if thick is not None:
        (unit, _), notes = _units(thick, thick, intensity)[0], []
        thick = thick if unit == "hu" else Volume(to_hu(thick.hu), thick.geometry, thick.provenance)
        placed = place_thick(thick, grid) if align == "world" else index_thick(thick, grid)

    def read(index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        pair = [
            to_hu(plane) if unit == "unit" else plane.astype(np.float32)
            for plane, unit in zip(_finite_pair(estimate.hu, reference.hu, index), units, strict=True)
        ]
        return pair[0], pair[1]

    kept = range(EDGE_SLICES, grid.shape[0] - EDGE_SLICES)
    return measure(read, kept, grid, placed), tuple(notes)


def _clamped_slices(
    estimate: npt.NDArray[Any], reference: npt.NDArray[Any], units: tuple[str, str]
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """The slices to be scored, each (1, height, width) in the unit window, one at a time."""
    for index in range(EDGE_SLICES, reference.shape[0] - EDGE_SLICES):
        pair = []
        for plane, unit in zip(_finite_pair(estimate, reference, index), units, strict=True):
            value = plane.astype(np.float32) if unit == "unit" else to_unit(plane)
            pair.append(np.clip(value, 0.0, 1.0)[None])
        yield pair[0], pair[1]


def _finite_pair(
    estimate: npt.NDArray[Any], reference: npt.NDArray[Any], index: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A slice of both; clamping would turn an infinity into a plausible value, so it is looked for before."""
    for name, values in (("estimate", estimate), ("reference", reference)):
        wrong = int(np.sum(~np.isfinite(values[index])))
        if wrong:
            raise InputError(
                f"The {name} holds {wrong} NaN or infinite values in slice {index}; repair it before scoring."
            )
    return estimate[index], reference[index]


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise UsageError(f"There is no {what} named {name!r}; choose one of {', '.join(names)}.")
