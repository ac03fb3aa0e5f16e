"""The clinical check: measures of bias, density, edges, noise, radiomics and nodules in a model's thin slices.

Thick slices are simulated from thin volumes, or belong to a real pair. Every model upscales them as `upscale` does, and
its result is measured against the truth: bias by tissue, lung density, edges, noise and its power spectrum, radiomic
agreement, consistency. In phantoms the same models are measured on known nodules, slanted edges and noise; the guard
judges the nodules. Interpolation runs beside the models.

`check` returns JSON values; `thinslice.experiments.clinical_check.table.to_document` is the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from thinslice.about import NOTICE, __version__
from thinslice.errors import ShapeError, UsageError
from thinslice.evaluation.clinical import edges as clinical_edges
from thinslice.evaluation.clinical import lung_density, noise, noise_spectrum, radiomics, tissue_bias
from thinslice.experiments.clinical_check import guard
from thinslice.experiments.clinical_check.cases import Case, cropped, digest_of, prepared, real_case, simulated_case
from thinslice.experiments.clinical_check.phantoms import phantom_results
from thinslice.experiments.provenance import commit, device_name, now
from thinslice.inference.backends.choice import choose_device
from thinslice.inference.upscale import collect, upscale_slabs
from thinslice.models import catalog, checkpoint
from thinslice.models.load import load_model
from thinslice.typing import Notify
from thinslice.volume import Volume

SCHEMA = "thinslice-clinical-check/1"
"""Value of `schema`; the number rises when a key changes its meaning."""

BASELINES = ("cubic", "cubic-consistent")
"""Interpolations that are measured beside the models."""

TRUTH, THICK = "truth", "thick"
"""Rows of the thin truth, and of the thick slices as a viewer shows them: linear between slices."""


@dataclass(frozen=True)
class MethodOutput:
    """A result of one method.

    Attributes:
        hu: thin slices, HU.
        consistency_rms_hu: as `upscale` measures it; None for truth and thick slices.
        seconds: wall clock; None likewise.
    """

    hu: npt.NDArray[Any]
    consistency_rms_hu: float | None = None
    seconds: float | None = None


class Methods:
    """The interpolations and the models that are checked, each under one label.

    Args:
        models: names of the catalog or weights files.
        device, threads: as for `upscale`.

    Raises:
        UsageError: no model, or an unknown one.
        CheckpointError: weights that are missing or damaged.
    """

    def __init__(self, models: Sequence[str | Path], *, device: str = "auto", threads: int | None = None) -> None:
        if not models:
            raise UsageError("Nothing to check: name a model or a weights file.")
        self.device, self.threads = choose_device(device), threads
        self.facts: list[dict[str, Any]] = []
        self.skipped: list[dict[str, Any]] = []
        self._sources: dict[str, str | Path] = {}
        for source in (*BASELINES, *(model for model in models if str(model) not in BASELINES)):
            model = load_model(source)
            card = getattr(model, "card", None) or {}
            stem = str(source) if str(source) in catalog.names() else Path(source).stem
            label = stem
            while label in self._sources or label in (TRUTH, THICK):
                label += "'"
            self._sources[label] = source
            self.facts.append(
                {
                    "label": label,
                    "kind": "interpolation" if str(source) in BASELINES else "model",
                    "name": card.get("name") or stem,
                    "version": card.get("version") or __version__,
                    "weights_sha256": checkpoint.weights_digest(model),
                    "factors": sorted(model.factors),
                }
            )

    @property
    def labels(self) -> list[str]:
        """Labels in the order in which methods run."""
        return list(self._sources)

    def able(self, factor: int) -> list[str]:
        """Labels of the methods that can do a factor; the others are added to `skipped`."""
        able = []
        for facts in self.facts:
            if factor in facts["factors"]:
                able.append(facts["label"])
            elif not any(s["method"] == facts["label"] and s["factor"] == factor for s in self.skipped):
                reason = f"cannot do factor {factor}"
                self.skipped.append({"method": facts["label"], "factor": factor, "reason": reason})
        return able

    def run(self, label: str, thick: Volume, factor: int) -> MethodOutput:
        """Upscale one thick volume with one method."""
        begun = time.perf_counter()
        stream = upscale_slabs(
            thick, model=self._sources[label], factor=factor, device=self.device, threads=self.threads
        )
        thin = collect(stream)
        return MethodOutput(thin.hu, stream.result.consistency_rms_hu, time.perf_counter() - begun)


def check(
    models: Sequence[str | Path],
    cases: Mapping[str, Callable[[], Volume]],
    *,
    pairs: Mapping[str, Callable[[], tuple[Volume, Volume]]] | None = None,
    factors: Sequence[int] = (5,),
    crop: int | None = None,
    phantom: bool = True,
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    notify: Notify | None = None,
) -> dict[str, Any]:
    """Measure models beside interpolation.

    Args:
        models: names of the catalog or weights files.
        cases: label -> function that reads a thin volume, on which no model was trained; labels must not identify a
            patient.
        pairs: label -> function that reads a thick and a thin volume of one acquisition; they are cut by position.
        factors: thin slices per thick interval of `cases` and phantoms, in turn.
        crop: height and width in pixels to which cases are cropped, and the phantoms' size; None for all.
        phantom: whether to measure phantoms too.
        device, threads: as for `upscale`.
        seed: of phantoms and bootstrap.
        notify: called with lines about the progress.

    Returns:
        JSON values, see docs/explanation/clinical-checks.md.

    Raises:
        UsageError: nothing to do, or an unknown model.
        NotEligibleError: a thin volume too short for a factor, or a pair of fewer than four thick slices.
        GeometryError: volumes that are no pair by position.
        CheckpointError, InputError, ResourceError, ModelError: as `upscale` and `read` raise them.
    """
    if not cases and not pairs and not phantom:
        raise UsageError(
            "Nothing to check: give --thin LABEL=PATH or --pair LABEL=THICK,THIN, or leave the phantoms on."
        )
    if not factors:
        raise UsageError("Nothing to check: give a factor.")
    if crop is not None and crop < 64:
        raise UsageError(f"A crop of {crop} pixels is too small to measure in; take 64 or more.")
    notify = notify or (lambda line: None)
    methods = Methods(models, device=device, threads=threads)
    case_facts: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for label, read in cases.items():
        thin = prepared(read())
        lung = lung_density.find_lung(thin.hu, lung_density.voxel_mm3(thin.geometry))
        digest = digest_of(thin)
        if crop is not None:
            thin, lung = cropped(thin, lung, crop)
        for factor in factors:
            notify(f"{label}, factor {factor}")
            case = simulated_case(label, thin, lung, factor)
            case_facts.append({**case.facts(), "sha256": digest, "crop": crop})
            results += _measured(methods, case, seed, notify)
    for label, read_both in (pairs or {}).items():
        notify(label)
        case, digest = real_case(label, *read_both(), crop)
        case_facts.append({**case.facts(), "sha256": digest, "crop": crop})
        results += _measured(methods, case, seed, notify)
    phantoms: list[dict[str, Any]] = []
    if phantom:
        for factor in factors:
            notify(f"phantoms, factor {factor}")
            able = methods.able(factor)
            phantoms += phantom_results(
                {label: _runner(methods, label, factor) for label in able},
                factor,
                seed=seed,
                pixels=crop,
                notify=notify,
            )
    return {
        "schema": SCHEMA,
        "notice": NOTICE,
        "thinslice": __version__,
        "commit": commit(),
        "made": now(),
        "device": {"kind": methods.device, "name": device_name(methods.device), "threads": threads},
        "seed": seed,
        "rule": {"max_bias_hu": tissue_bias.MAX_BIAS_HU, "min_voxels": tissue_bias.MIN_VOXELS},
        "guard": guard.verdicts(phantoms, whole=crop is None),
        "methods": methods.facts,
        "skipped": methods.skipped,
        "radiomics_installed": radiomics.is_installed(),
        "cases": case_facts,
        "verdicts": verdicts(methods.labels, results),
        "results": results,
        "phantoms": phantoms,
    }


def verdicts(labels: Sequence[str], results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rule, method by method and class by class, over all cases and factors.

    Returns:
        Dictionaries with `method`, `class`, `verdict` ("pass", "FAIL", "too few"), and of the case furthest from 0:
        `bias_hu`, `worst_offset_hu` (bias at the worst distance from a thick slice), case and factor; null where no
        case holds enough of the class.
    """
    found = []
    for label in labels:
        rows = [row for row in results if row["method"] == label]
        for name in tissue_bias.JUDGED:
            judged = [
                (row["bias_by_thick"][name], row) for row in rows if row["bias_by_thick"][name]["verdict"] != "too few"
            ]
            worst, row = max(
                judged,
                key=lambda pair: max(abs(pair[0]["bias_hu"]), abs(pair[0]["worst_offset_hu"] or 0.0)),
                default=(None, {}),
            )
            found.append(
                {
                    "method": label,
                    "class": name,
                    "verdict": "too few" if worst is None else worst["verdict"],
                    "bias_hu": None if worst is None else worst["bias_hu"],
                    "worst_offset_hu": None if worst is None else worst["worst_offset_hu"],
                    "interval_95_hu": None if worst is None else worst["interval_95_hu"],
                    "case": row.get("case"),
                    "factor": row.get("factor"),
                }
            )
    return found


def _measured(methods: Methods, case: Case, seed: int, notify: Notify) -> list[dict[str, Any]]:
    """A row for truth, thick slices and every method."""
    label, thick, truth, factor = case.label, case.thick, case.truth, case.factor
    step_mm = truth.geometry.spacing_mm[0]
    inner = tissue_bias.inner_thin(thick.geometry.shape[0], factor)
    edges = clinical_edges.find_edges(truth.hu, step_mm, factor * step_mm, first=inner.start, last=inner.stop)
    spectra = noise_spectrum.patch_spectra(truth.hu, truth.hu, thick.hu, factor, truth.geometry.spacing_mm)
    regions = radiomics.find_regions(truth.hu, case.lung, truth.geometry.spacing_mm, inner)
    known = radiomics.region_features(truth.hu, regions) if radiomics.is_installed() else None
    rows = []
    for name, made in _rows(methods, thick, truth, factor, notify):
        row: dict[str, Any] = {"case": label, "factor": factor, "method": name}
        if name not in (TRUTH, THICK):
            for key, by in (("bias_by_thick", "thick"), ("bias_by_truth", "truth")):
                found = tissue_bias.tissue_bias(made.hu, truth.hu, thick.hu, factor, by=by, seed=seed)
                row[key] = {name: part.to_json() for name, part in found.items()}
        measured = lung_density.densitometry(
            thick.hu if name == THICK else made.hu,
            case.lung,
            factor,
            lung_density.voxel_mm3(truth.geometry),
            thick=name == THICK,
        )
        row["lung"] = None if measured is None else measured.to_json()
        row["edges"] = clinical_edges.measure_edges(made.hu, truth.hu, edges)
        row["noise"] = noise.patch_noise(made.hu, truth.hu, thick.hu, factor)
        own = noise_spectrum.patch_spectra(made.hu, truth.hu, thick.hu, factor, truth.geometry.spacing_mm)
        percent = noise_spectrum.percent_of_truth(own, spectra, factor * step_mm)
        row["noise_power"] = {**own.to_json(), "percent": percent}
        row["radiomics"] = None
        if known is not None and name != TRUTH:
            agreed = radiomics.agreement(radiomics.region_features(made.hu, regions), known)
            row["radiomics"] = {tissue: part and part.to_json() for tissue, part in agreed.items()}
        row["consistency_rms_hu"], row["seconds"] = made.consistency_rms_hu, made.seconds
        rows.append(row)
    return rows


def _rows(
    methods: Methods, thick: Volume, truth: Volume, factor: int, notify: Notify
) -> Iterator[tuple[str, MethodOutput]]:
    """Truth, thick slices and methods, one at a time so that memory holds one result."""
    yield TRUTH, MethodOutput(truth.hu)
    yield THICK, MethodOutput(clinical_edges.straight_between(thick.hu, factor))
    for label in methods.able(factor):
        notify(f"  {label}")
        try:
            made = methods.run(label, thick, factor)
        except ShapeError as error:
            methods.skipped.append({"method": label, "factor": factor, "reason": str(error)})
            continue
        yield label, made


def _runner(methods: Methods, label: str, factor: int) -> Callable[[Volume], npt.NDArray[Any]]:
    return lambda thick: methods.run(label, thick, factor).hu
