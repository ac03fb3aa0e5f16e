"""Scoring protocols: the voxels that are compared and their units, so that scores compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.arguments import check_text
from thinslice.errors import InputError, UsageError
from thinslice.evaluation.align import overlap_by_position
from thinslice.evaluation.metrics import mean_squared_error, psnr_of, ssim_per_slice
from thinslice.intensity import to_hu, to_unit
from thinslice.volume import Volume, check_volume

PROTOCOLS = ("rplhr", "clinical")
"""Names of the protocols."""

ALIGNMENTS = ("world", "index")
"""Ways to pair voxels of estimate and reference: by position in the patient, or by array index."""

INTENSITIES = ("auto", "hu", "unit")
"""Units of the volumes' values: Hounsfield units, or [0, 1] as the RPLHR-CT files hold."""

EDGE_SLICES = 5
"""Thin slices left out at each end, at every factor."""

DATA_RANGE = 1.0
"""Extent of the unit window."""

UNIT_SLACK = 0.1
"""Distance of floats outside [0, 1] that still counts as unit values: networks overshoot a little."""


@dataclass(frozen=True)
class Scores:
    """Scores of one case under a protocol.

    Attributes:
        protocol: its name.
        psnr: dB over the scored voxels; infinite for identical ones.
        ssim: mean of `ssim_per_slice`.
        ssim_per_slice: one value per scored slice, in depth order.
        slices_scored: their number.
        align: way in which voxels were paired, "world" or "index".
        intensity: units assumed of the values: "hu", "unit", or "mixed" for one of each.
        warnings: sentences on assumptions and steps.
        clinical: measures of `thinslice.evaluation.clinical.measures`, for the protocol of that name.
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
        values = {
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
        return values if self.clinical is None else {**values, "clinical": self.clinical}


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

    `clinical`: the measures of `thinslice.evaluation.clinical.measures`, in HU and without clamping, beside PSNR and
    SSIM as above. With thick slices they cover the cells of all thick slices but the first and the last, as in
    `thinslice models check`; without, the slices that PSNR counts. The lung is found in the whole reference.

    Args:
        estimate: thin volume under test.
        reference: thin truth; slices are the planes across its depth axis.
        protocol: one of `PROTOCOLS`.
        align: "world" crops both to their overlap by position (tolerance 0.1 mm); "index" ignores geometry
            and needs equal shapes.
        intensity: "hu" or "unit" for both volumes, or "auto": floats within [0, 1] are unit values, each
            volume judged for itself, with a warning.
        thick: thick slices that the estimate was made from, for the protocol `clinical`.

    Raises:
        ArgumentTypeError: an argument of another type, such as a path; read it first.
        UsageError: an unknown protocol, alignment or intensity.
        GeometryError: the volumes cannot be aligned; the message names the axis and the distance.
        InputError: unequal shapes under "index", fewer than 11 slices, or values that are not finite.

    Source: paper, section 3 (Evaluation Metrics); the released code for clamping and for the slices left out.
    """
    estimate, reference = check_volume("estimate", estimate), check_volume("reference", reference)
    thick = None if thick is None else check_volume("thick", thick)
    _known("protocol", protocol, PROTOCOLS)
    _known("alignment", align, ALIGNMENTS)
    _known("intensity", intensity, INTENSITIES)
    units, warnings = _units(estimate, reference, intensity)
    whole = reference
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
        clinical, notes = _clinical(estimate, reference, whole, thick, units, align, intensity)
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
    """Units of estimate and reference, and warnings about them."""
    if intensity != "auto":
        return (intensity, intensity), ()
    found = tuple("unit" if looks_like_unit(v.hu) else "hu" for v in (estimate, reference))
    units = (found[0], found[1])
    if units == ("hu", "hu"):
        return units, ()
    if units == ("unit", "unit"):
        warning = "Both volumes hold floats in [0, 1], taken as unit intensities (HU = 3072 v - 1024)."
    else:
        which = "estimate" if units[0] == "unit" else "reference"
        warning = f"The {which} alone holds floats in [0, 1], taken as unit intensities (HU = 3072 v - 1024)."
    return units, (warning,)


def _clinical(
    estimate: Volume,
    reference: Volume,
    whole: Volume,
    thick: Volume | None,
    units: tuple[str, str],
    align: str,
    intensity: str,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The measures of `clinical` on aligned volumes, and warnings; the lung is found in the `whole` reference."""
    from thinslice.evaluation.clinical.lung_density import find_lung, voxel_mm3
    from thinslice.evaluation.clinical.measures import measure
    from thinslice.evaluation.clinical.radiomics import MISSING, is_installed
    from thinslice.evaluation.placed import index_thick, place_thick

    grid = reference.geometry
    for index in range(grid.shape[0]):
        _finite_pair(estimate.hu, reference.hu, index)
    warnings: list[str] = []
    placed = None
    if thick is None:
        warnings.append(
            "No thick volume was given: tissue classes and even patches come from the reference, slice by slice, and "
            f"{EDGE_SLICES} slices at each end are left out."
        )
    else:
        (unit, _), _ = _units(thick, thick, intensity)
        thick = Volume(_in_hu(thick.hu, unit), thick.geometry, thick.provenance)
        placed = place_thick(thick, grid) if align == "world" else index_thick(thick, grid)
        if sum(0 <= centre < grid.shape[0] for centre in placed.centres) < 3:
            warnings.append("Fewer than 3 thick slices lie on the thin grid, so most clinical measures are empty.")
    if not is_installed():
        warnings.append(MISSING)
    lung = find_lung(_in_hu(whole.hu, units[1]), voxel_mm3(whole.geometry))
    if whole is not reference:
        start = [round(at) for at in whole.geometry.index_at(grid.origin_mm)]
        lung = lung[tuple(slice(first, first + size) for first, size in zip(start, grid.shape, strict=True))]
    scored = range(EDGE_SLICES, grid.shape[0] - EDGE_SLICES)
    ours, theirs = _in_hu(estimate.hu, units[0]), _in_hu(reference.hu, units[1])
    return measure(ours, theirs, lung, grid, placed, scored), tuple(warnings)


def _in_hu(values: npt.NDArray[Any], unit: str) -> npt.NDArray[Any]:
    return to_hu(values) if unit == "unit" else values


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
    """A slice of both volumes, checked: clamping would turn an infinite value into a plausible one."""
    for name, values in (("estimate", estimate), ("reference", reference)):
        wrong = int(np.sum(~np.isfinite(values[index])))
        if wrong:
            raise InputError(
                f"The {name} holds {wrong} NaN or infinite values in slice {index}; repair it before scoring."
            )
    return estimate[index], reference[index]


def _known(kind: str, name: str, names: tuple[str, ...]) -> None:
    if check_text(kind, name, "a name") not in names:
        raise UsageError(f"There is no {kind} named {name!r}; choose one of {', '.join(names)}.")
