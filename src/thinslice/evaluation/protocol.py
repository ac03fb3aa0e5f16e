"""Scoring protocols: the voxels that are compared and their units, so that scores compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.arguments import check_text
from thinslice.errors import InputError, UsageError
from thinslice.evaluation.align import overlap_by_position
from thinslice.evaluation.metrics import mean_squared_error, psnr_of, ssim_of_volume, ssim_per_slice
from thinslice.evaluation.rules import NETWORK_WINDOW_HU, RULES, Rule
from thinslice.evaluation.units import in_hu, units_of_pair, volume_in_hu
from thinslice.intensity import to_unit
from thinslice.options import option
from thinslice.volume import Volume, check_volume

PROTOCOLS = tuple(RULES)
"""Names of the protocols."""

ALIGNMENTS = ("world", "index")
"""Ways to pair voxels of estimate and reference: by position in the patient, or by array index."""

INTENSITIES = ("auto", "hu", "unit")
"""Units of the volumes' values: Hounsfield units, or [0, 1] as the RPLHR-CT files hold."""

DATA_RANGE = 1.0
"""Extent of the values that are scored: every window is mapped to [0, 1]."""

LungMask = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Scores:
    """Scores of one case under a protocol.

    Attributes:
        protocol: its name.
        psnr: dB over the scored voxels; infinite for identical ones.
        ssim: mean of `ssim_per_slice`, or of the means of the three planes under `volume`.
        ssim_per_slice: one value per axial slice, in depth order; under `skimage` for slices 3 from the ends or more.
        slices_scored: number of thin slices that PSNR counts.
        align: way in which voxels were paired, "world" or "index".
        intensity: units assumed of the values: "hu", "unit", or "mixed" for one of each.
        warnings: sentences on assumptions and steps.
        clinical: measures of `thinslice.evaluation.clinical.measures`, for the protocol of that name.
        window_hu: HU clamped to, the full scale of PSNR and SSIM.
        box: (start, stop) in voxels of the aligned reference along (depth, height, width) that PSNR counts.
        planes: SSIM by "axial", "coronal" and "sagittal" planes, under `volume`.
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
    window_hu: tuple[float, float] = NETWORK_WINDOW_HU
    box: tuple[tuple[int, int], ...] = ()
    planes: dict[str, float] | None = field(default=None, compare=False)

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
            "window_hu": list(self.window_hu),
            "box": [list(limits) for limits in self.box],
            "warnings": list(self.warnings),
        }
        added = {"planes": self.planes, "clinical": self.clinical}
        return {**values, **{name: value for name, value in added.items() if value is not None}}


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

    Protocols (`thinslice.evaluation.rules`); values are clamped to the window and scaled to [0, 1]:

    - `rplhr`, of the benchmark's paper: window [-1024, 2048] HU, the first and last 5 slices left out, PSNR over the
      whole remaining volume, SSIM the mean over its axial slices (Gaussian window of 11 pixels, zeros outside).
    - `clinical`: the measures of `thinslice.evaluation.clinical.measures`, in HU and without clamping, beside PSNR and
      SSIM as above. With thick slices they cover the cells of all thick slices but the first and the last, as in
      `thinslice models check`; without, the slices that PSNR counts. The lung is found in the whole reference.
    - `volume`: the same window, no slices left out, SSIM the mean of those of axial, coronal and sagittal planes.
    - `skimage`: window and slices as `rplhr`, PSNR and SSIM by the defaults of scikit-image for a volume: a uniform
      window of 7 x 7 x 7 voxels.
    - `lung`: window [-1000, 200] HU, within the bounding box of the lungs of the reference; otherwise as `rplhr`.

    Args:
        estimate: thin volume under test.
        reference: thin truth; slices are the planes across its depth axis.
        protocol: one of `PROTOCOLS`.
        align: "world" crops both to their overlap by position (tolerance 0.1 mm); "index" ignores geometry
            and needs equal shapes.
        intensity: "hu" or "unit" for both volumes, or "auto": floats of which nearly all lie in [0, 1] are unit values,
            each volume judged for itself, with a warning.
        thick: thick slices that the estimate was made from, for the protocol `clinical`.

    Raises:
        ArgumentTypeError: an argument of another type, such as a path; read it first.
        UsageError: an unknown protocol, alignment or intensity.
        GeometryError: the volumes cannot be aligned; the message names the axis and the distance.
        InputError: unequal shapes under "index", too few slices, values that are not finite or are neither HU nor unit
            values, or no lung under `lung`.

    Source: paper, section 3 (Evaluation Metrics), and the released code for `rplhr`; the article on MSS-CT for
    `volume`; the released code of ACVTT for `skimage`. Of `lung` (SCTE) only window and box are known to us: SSIM and
    the finding of the lungs are this project's.
    """
    _known("protocol", protocol, PROTOCOLS)
    return evaluate_all(estimate, reference, (protocol,), align=align, intensity=intensity, thick=thick)[protocol]


def evaluate_all(
    estimate: Volume,
    reference: Volume,
    protocols: Sequence[str],
    *,
    align: str = "world",
    intensity: str = "auto",
    thick: Volume | None = None,
) -> dict[str, Scores]:
    """Score under several protocols at once; arguments and errors as for `evaluate`, which scores under one.

    Args:
        protocols: names, each once.

    Returns:
        Protocol -> scores, in the order given. Protocols of equal PSNR and SSIM share one pass over the voxels.
    """
    estimate, reference = check_volume("estimate", estimate), check_volume("reference", reference)
    thick = None if thick is None else check_volume("thick", thick)
    for protocol in protocols:
        _known("protocol", protocol, PROTOCOLS)
    if not protocols or len(set(protocols)) < len(protocols):
        raise UsageError(f"{option('protocols')} takes names of protocols, each once: {', '.join(PROTOCOLS)}.")
    _known("alignment", align, ALIGNMENTS)
    _known("intensity", intensity, INTENSITIES)
    units, warnings = units_of_pair(estimate, reference, intensity)
    whole = reference
    if align == "world":
        estimate, reference, notes = overlap_by_position(estimate, reference)
        warnings = (*warnings, *notes)
    elif estimate.hu.shape != reference.hu.shape:
        raise InputError(
            f"Estimate {estimate.hu.shape} and reference {reference.hu.shape} differ in shape, so they "
            "cannot be aligned by index; align by world position."
        )
    rules = [RULES[protocol] for protocol in protocols]
    lung = None
    if any(rule.clinical or rule.box == "lungs" for rule in rules):
        lung = _lung_of(whole, reference, units[1])
    boxes = {rule.name: _box(rule, reference, lung) for rule in rules}
    scored: dict[tuple[object, ...], Scores] = {}
    results: dict[str, Scores] = {}
    for rule in rules:
        if rule.scores_like not in scored:
            scored[rule.scores_like] = _score(estimate, reference, rule, boxes[rule.name], units)
        clinical, notes = None, ()
        if rule.clinical:
            assert lung is not None
            clinical, notes = _clinical(estimate, reference, lung, thick, units, align, intensity)
        results[rule.name] = replace(
            scored[rule.scores_like],
            protocol=rule.name,
            align=align,
            intensity=units[0] if units[0] == units[1] else "mixed",
            warnings=(*warnings, *notes),
            clinical=clinical,
        )
    return results


def _lung_of(whole: Volume, reference: Volume, unit: str) -> LungMask:
    """The lung of the whole reference, cut to the part that is scored."""
    from thinslice.evaluation.clinical.lung_density import find_lung, voxel_mm3

    lung = find_lung(in_hu(whole.hu, unit), voxel_mm3(whole.geometry))
    if whole is not reference:
        grid = reference.geometry
        start = [round(at) for at in whole.geometry.index_at(grid.origin_mm)]
        lung = lung[tuple(slice(first, first + size) for first, size in zip(start, grid.shape, strict=True))]
    return lung


def _box(rule: Rule, reference: Volume, lung: LungMask | None) -> Box:
    """The voxels of the aligned reference that a protocol counts."""
    depth, height, width = reference.hu.shape
    if rule.box == "lungs":
        assert lung is not None
        if not lung.any():
            raise InputError(
                f"Protocol {rule.name} scores the box around the lungs, and the reference holds none; choose another."
            )
        spans = [np.flatnonzero(lung.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        first, second, third = (slice(int(at[0]), int(at[-1]) + 1) for at in spans)
        return first, second, third
    if depth < 2 * rule.edge_slices + 1:
        raise InputError(
            f"The volumes share {depth} slices; protocol {rule.name} leaves out {rule.edge_slices} at each end and so "
            f"needs at least {2 * rule.edge_slices + 1}."
        )
    return slice(rule.edge_slices, depth - rule.edge_slices), slice(0, height), slice(0, width)


def _score(estimate: Volume, reference: Volume, rule: Rule, box: Box, units: tuple[str, str]) -> Scores:
    """PSNR and SSIM of the voxels in a box."""
    for index in range(box[0].start, box[0].stop):
        _finite_pair(estimate.hu, reference.hu, index)
    ours, theirs = estimate.hu[box], reference.hu[box]
    errors: list[float] = []
    similar: list[float] = []
    planes: dict[str, float] | None = None
    for a, b in _clamped(ours, theirs, rule.window_hu, units, axis=0):
        errors.append(mean_squared_error(a, b))
        if rule.similarity != "volume":
            similar.extend(ssim_per_slice(a, b, data_range=DATA_RANGE).tolist())
    if rule.similarity == "volume":
        cubes = [np.empty(theirs.shape, np.float32) for _ in range(2)]
        for index, pair in enumerate(_clamped(ours, theirs, rule.window_hu, units, axis=0)):
            cubes[0][index], cubes[1][index] = pair
        similar = ssim_of_volume(*cubes, data_range=DATA_RANGE).tolist()
    if rule.similarity == "three planes":
        planes = {"axial": float(np.mean(similar))}
        for name, axis in (("coronal", 1), ("sagittal", 2)):
            cuts = _clamped(ours, theirs, rule.window_hu, units, axis=axis)
            planes[name] = float(np.mean([ssim_per_slice(a, b, data_range=DATA_RANGE)[0] for a, b in cuts]))
    return Scores(
        protocol=rule.name,
        # All slices have the same number of voxels, so the mean of their errors is that of the volume.
        psnr=psnr_of(float(np.mean(errors)), data_range=DATA_RANGE),
        ssim=float(np.mean(list(planes.values()) if planes else similar)),
        ssim_per_slice=tuple(similar),
        slices_scored=len(errors),
        window_hu=rule.window_hu,
        box=tuple((span.start, span.stop) for span in box),
        planes=planes,
    )


def _clinical(
    estimate: Volume,
    reference: Volume,
    lung: LungMask,
    thick: Volume | None,
    units: tuple[str, str],
    align: str,
    intensity: str,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The measures of `clinical` on aligned volumes, and warnings."""
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
            f"{RULES['clinical'].edge_slices} slices at each end are left out."
        )
    else:
        thick = volume_in_hu(thick, intensity)
        placed = place_thick(thick, grid) if align == "world" else index_thick(thick, grid)
        if sum(0 <= centre < grid.shape[0] for centre in placed.centres) < 3:
            warnings.append("Fewer than 3 thick slices lie on the thin grid, so most clinical measures are empty.")
    if not is_installed():
        warnings.append(MISSING)
    edge = RULES["clinical"].edge_slices
    scored = range(edge, grid.shape[0] - edge)
    ours, theirs = in_hu(estimate.hu, units[0]), in_hu(reference.hu, units[1])
    return measure(ours, theirs, lung, grid, placed, scored), tuple(warnings)


def _clamped(
    estimate: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    window_hu: tuple[float, float],
    units: tuple[str, str],
    *,
    axis: int,
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """The planes across an axis of both volumes, each (1, rows, columns) in [0, 1], one at a time."""
    for index in range(reference.shape[axis]):
        first, second = (
            _windowed(np.take(values, index, axis), unit, window_hu)[None]
            for values, unit in zip((estimate, reference), units, strict=True)
        )
        yield first, second


def _windowed(plane: npt.NDArray[Any], unit: str, window_hu: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Values clamped to a window and scaled to [0, 1]."""
    if window_hu == NETWORK_WINDOW_HU:
        value = plane.astype(np.float32) if unit == "unit" else to_unit(plane)
    else:
        low, high = np.float32(window_hu[0]), np.float32(window_hu[1])
        value = (np.asarray(in_hu(plane, unit), np.float32) - low) / (high - low)
    return np.clip(value, 0.0, 1.0)


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
