"""Calibration of a network's standard deviations, measured and fitted on patients that it was not trained on.

Every volume runs through all steps of `upscale` (windows, stitching, rounding to integer HU), as a user's scan does.
Patients are exchangeable, voxels of one patient are not: each patient has the same weight, and where there are several,
multipliers found on the others are tested on each in turn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thinslice.data.simulate import simulate_thick
from thinslice.errors import NotEligibleError, UsageError
from thinslice.evaluation.align import overlap_by_position
from thinslice.evaluation.coverage import BINS, GROUPS, KINDS, CoverageMeter, Tally
from thinslice.evaluation.placed import PlacedThick, index_thick, place_thick
from thinslice.inference.settings import UncertaintySource
from thinslice.inference.upscale import upscale_with_uncertainty
from thinslice.models import checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.calibration import LEVELS, Calibration
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

SCHEMA = "thinslice-calibration/1"

NOTE = (
    "Errors include the noise of the thin truth, which no estimate can predict; voxels whose truth lies at an end of "
    "the networks' window are left out. Each patient has the same weight."
)

_RAW = 2.0 ** np.linspace(-9.0, 9.0, 2305)
"""Multiples of a head's bare standard deviation at which coverages are averaged over patients."""


@dataclass(frozen=True)
class PatientErrors:
    """Standardised errors of one patient at one factor.

    Attributes:
        case: label chosen by the caller; nothing that identifies a patient.
        factor: thin slices per thick interval.
        scale: factor already applied to the head's standard deviations.
        groups: kind (`thinslice.evaluation.coverage.KINDS`) -> name -> tally.
        voxels: of the thin volume.
        left_out: of these, at the ends of the networks' window.
    """

    case: str
    factor: int
    scale: float
    groups: dict[str, dict[str, Tally]]
    voxels: int = 0
    left_out: int = 0

    @property
    def whole(self) -> Tally:
        """All voxels."""
        return self.groups["all"]["all"]


def measure_simulated(
    model: ThroughPlaneModel,
    thin: Volume,
    *,
    case: str,
    factors: Sequence[int],
    deviation: UncertaintySource = "learned",
    **run: Any,
) -> Iterator[PatientErrors]:
    """Measure on thick slices simulated from a thin volume as means, a row for each factor.

    Args:
        model: a network, with its card.
        thin: the truth; never one that the weights were trained on.
        case: label.
        factors: in turn; one that leaves too few slices is skipped.
        deviation: "learned" or "ensemble".
        run: device, threads and so on, for `thinslice.upscale`.
    """
    for factor in factors:
        try:
            thick, truth = simulate_thick(thin, SliceProfile.mean(factor), whole_hu=True)
        except NotEligibleError:
            continue
        if thick.geometry.shape[0] < 3:
            continue
        estimate, deviations = upscale_with_uncertainty(thick, model=model, factor=factor, uncertainty=deviation, **run)
        placed = index_thick(thick, truth.geometry)
        yield _measured(estimate, deviations, truth, placed, PatientErrors(case, factor, _scale(model, deviation), {}))


def measure_pair(
    model: ThroughPlaneModel,
    thick: Volume,
    thin: Volume,
    *,
    case: str,
    deviation: UncertaintySource = "learned",
    **run: Any,
) -> PatientErrors:
    """Measure on a real pair, aligned by position; arguments as for `measure_simulated`."""
    factor = round(thick.geometry.spacing_mm[0] / thin.geometry.spacing_mm[0])
    estimate, deviations = upscale_with_uncertainty(thick, model=model, factor=factor, uncertainty=deviation, **run)
    ours, truth, _ = overlap_by_position(estimate, thin)
    deviations, _, _ = overlap_by_position(deviations, thin)
    placed = place_thick(thick, truth.geometry)
    return _measured(ours, deviations, truth, placed, PatientErrors(case, factor, _scale(model, deviation), {}))


def fitted(measured: Sequence[PatientErrors]) -> Calibration:
    """Scale and multipliers that give intervals their nominal coverage, each patient having the same weight.

    Args:
        measured: at least one; the factors of one patient are taken together first.
    """
    patients = _by_case(measured)
    squares, coverages = [], []
    for rows in patients.values():
        squares.append(np.mean([(row.scale * row.whole.rms) ** 2 for row in rows]))
        coverages.append(np.mean([[row.whole.coverage(m / row.scale) for m in _RAW] for row in rows], axis=0))
    scale = math.sqrt(float(np.mean(squares)))
    covered = np.mean(coverages, axis=0)
    raw = np.interp([level / 100.0 for level in LEVELS], covered, np.log2(_RAW))
    multipliers = {level: float(2.0**value / scale) for level, value in zip(LEVELS, raw, strict=True)}
    return Calibration(scale, multipliers, tuple(patients))


def left_one_out(measured: Sequence[PatientErrors], also: Sequence[PatientErrors] = ()) -> dict[str, Calibration]:
    """Calibration of each patient of `measured` fitted on all others, those of `also` too; empty without others."""
    everyone = [*measured, *also]
    return {
        case: fitted(others) for case in _by_case(measured) if (others := [row for row in everyone if row.case != case])
    }


def table(measured: Sequence[PatientErrors], tested: Mapping[str, Calibration]) -> list[dict[str, Any]]:
    """Coverage by patient and factor and over all of them (case "all"), by kind and group, as JSON values.

    Args:
        measured: rows.
        tested: the calibration under test for each case; those without one are left out.
    """
    rows, shifted = [], [row for row in measured if row.case in tested]
    for kind in KINDS:
        names = {name for row in shifted for name in row.groups.get(kind, ())}
        for name in GROUPS.get(kind) or sorted(names, key=float):
            if name not in names:
                continue
            having = [row for row in shifted if name in row.groups.get(kind, ())]
            found = [(row, _row_of(row.groups[kind][name], tested[row.case], row.scale)) for row in having]
            for row, values in found:
                rows.append({"case": row.case, "factor": row.factor, "kind": kind, "group": name, **values})
            rows.append({"case": "all", "factor": None, "kind": kind, "group": name, **_mean_row(found)})
    return rows


def findings(
    measured: Sequence[PatientErrors],
    *,
    model: Mapping[str, Any],
    deviation: str,
    card: Calibration,
    fit_on: Sequence[PatientErrors] = (),
    keep: bool = False,
) -> dict[str, Any]:
    """All measurements of a calibration, as JSON values.

    Args:
        measured: rows of the patients that a calibration is tested on; may be none where `fit_on` are given.
        model: name, version and sha256 of the network.
        deviation: "learned" or "ensemble".
        card: calibration of the network's card, which is tested; where there is none, and with `fit_on` or `keep`, the
            fitted one is.
        fit_on: patients to find a calibration on, such as those of `read_findings`; without them it is found on
            `measured`.
        keep: whether the fitted calibration replaces the card's.
    """
    fit = fitted(fit_on or measured)
    own = card.calibrated and not keep and not fit_on
    tested = card if own else fit
    alone = left_one_out(fit_on or measured)
    return {
        "schema": SCHEMA,
        "model": dict(model),
        "deviation": deviation,
        "levels": list(LEVELS),
        "note": NOTE,
        "tested": {**tested.to_card(), "from": "card" if own else "others" if fit_on else "these patients"},
        "fitted": fit.to_card(),
        "rows": table(measured, {row.case: tested for row in measured}),
        "left_one_out": table(fit_on or measured, alone) if alone else [],
        "left_out_percent": 100.0 * sum(row.left_out for row in measured) / max(1, sum(row.voxels for row in measured)),
        "patients": [
            {
                "case": row.case,
                "factor": row.factor,
                "scale": row.scale,
                "mean_square": row.whole.squares / row.whole.voxels,
                "rmse_hu": row.whole.rmse_hu,
                "bias_hu": row.whole.bias_hu,
                "counts": [round(count) for count in row.whole.counts],
                "deviations_hu": [round(total, 1) for total in row.whole.deviations],
            }
            for row in measured
        ],
    }


def read_findings(path: Path, *, deviation: UncertaintySource = "learned") -> list[PatientErrors]:
    """The patients of a JSON that `findings` made, with all voxels taken together.

    Args:
        path: the JSON.
        deviation: kind of standard deviation that it must hold.

    Raises:
        UsageError: when it is another file; measure again with --json.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise ValueError("schema")
        measured = [_restored(patient) for patient in values["patients"]]
        kind = str(values["deviation"])
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {path.name!r} of an earlier calibration.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path.name!r} was not written by thinslice models calibrate --json.") from error
    if kind != deviation:
        raise UsageError(
            f"{path.name!r} measured standard deviations of the kind {kind!r}, not {deviation!r}; measure those "
            f"patients {'with' if deviation == 'ensemble' else 'without'} --ensemble."
        )
    return measured


def write_into_card(weights: Path, found: Mapping[str, Any]) -> None:
    """Write a fitted calibration into the card of a weights file, replacing an earlier one.

    Args:
        weights: a weights file of ours; replaced atomically.
        found: of `findings`.

    Raises:
        CheckpointError: when `weights` is not a weights file of ours.
        OutputError: when it cannot be replaced.
    """
    about = {**found["fitted"], "note": found["note"]}
    if found["left_one_out"]:
        about["left_one_out_coverage_percent"] = next(
            row["coverage_percent"] for row in found["left_one_out"] if (row["case"], row["kind"]) == ("all", "all")
        )
    checkpoint.update_card(
        weights, lambda card: {**card, "deviation": {**(card.get("deviation") or {}), "calibration": about}}
    )


def _measured(
    estimate: Volume, deviation: Volume, truth: Volume, thick: PlacedThick, row: PatientErrors
) -> PatientErrors:
    meter = CoverageMeter(thick, truth.geometry.spacing_mm)
    last = len(estimate.hu) - 1
    for index, plane in enumerate(truth.hu):
        around = [estimate.hu[min(max(index + step, 0), last)].astype(np.float32) for step in (-1, 0, 1)]
        if index == 0:
            around[0] = around[1]
        if index == last:
            around[2] = around[1]
        meter.add(index, around, plane.astype(np.float32), deviation.hu[index])
    if not meter.groups["all"]:
        raise NotEligibleError(f"The truth of {row.case!r} lies at the ends of the networks' window everywhere.")
    return PatientErrors(row.case, row.factor, row.scale, meter.groups, meter.voxels, meter.left_out)


def _scale(model: ThroughPlaneModel, deviation: str) -> float:
    return Calibration.from_card(getattr(model, "card", None)).scale if deviation == "learned" else 1.0


def _by_case(measured: Iterable[PatientErrors]) -> dict[str, list[PatientErrors]]:
    cases: dict[str, list[PatientErrors]] = {}
    for row in measured:
        cases.setdefault(row.case, []).append(row)
    return cases


def _row_of(tally: Tally, tested: Calibration, scale: float) -> dict[str, Any]:
    # The tally's standard deviations include the scale they were estimated with.
    more = tested.scale / scale
    ninety = tested.multipliers.get(90)
    return {
        "voxels": round(tally.voxels),
        "coverage_percent": {
            str(level): 100.0 * tally.coverage(multiple * more) for level, multiple in tested.multipliers.items()
        },
        "rms_standardised": tally.rms / more,
        "mean_deviation_hu": tally.mean_deviation_hu * more,
        "rmse_hu": tally.rmse_hu,
        "bias_hu": tally.bias_hu,
        "interval_score_90_hu": None if ninety is None else tally.interval_score_hu(ninety * more, 90),
    }


def _mean_row(found: Sequence[tuple[PatientErrors, dict[str, Any]]]) -> dict[str, Any]:
    """Mean over patients of means over factors; root mean squares are averaged as squares."""
    by_case: dict[str, list[dict[str, Any]]] = {}
    for row, values in found:
        by_case.setdefault(row.case, []).append(values)

    def mean(read: Any) -> float:
        return float(np.mean([np.mean([read(values) for values in rows]) for rows in by_case.values()]))

    first = found[0][1]
    result: dict[str, Any] = {
        "voxels": sum(values["voxels"] for _, values in found),
        "coverage_percent": {
            level: mean(lambda values, level=level: values["coverage_percent"][level])
            for level in first["coverage_percent"]
        },
    }
    for key in ("rms_standardised", "rmse_hu"):
        result[key] = math.sqrt(mean(lambda values, key=key: values[key] ** 2))
    for key in ("mean_deviation_hu", "bias_hu", "interval_score_90_hu"):
        result[key] = None if first[key] is None else mean(lambda values, key=key: values[key])
    return result


def _restored(patient: Mapping[str, Any]) -> PatientErrors:
    counts = np.asarray(patient["counts"], dtype=np.float64)
    scale, square = float(patient["scale"]), float(patient["mean_square"])
    if counts.shape != (BINS,) or not counts.sum() > 0 or not (scale > 0 and math.isfinite(square)):
        raise ValueError("counts")
    deviations = np.asarray(patient["deviations_hu"], dtype=np.float64)
    if deviations.shape != (BINS,):
        raise ValueError("deviations")
    voxels = float(counts.sum())
    squared_hu, signed_hu = float(patient["rmse_hu"]) ** 2 * voxels, float(patient["bias_hu"]) * voxels
    tally = Tally(counts, deviations, square * voxels, squared_hu, signed_hu)
    return PatientErrors(str(patient["case"]), int(patient["factor"]), scale, {"all": {"all": tally}})
