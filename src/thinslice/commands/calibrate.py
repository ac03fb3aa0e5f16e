"""Measurement of a network's uncertainty on patients, and its calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.about import __version__
from thinslice.errors import NotEligibleError, OutputError, OutputExistsError, UsageError
from thinslice.options import option
from thinslice.typing import Notify

if TYPE_CHECKING:
    from thinslice.experiments.calibration.run import PatientErrors
    from thinslice.inference.settings import UncertaintySource
    from thinslice.volume import Volume


@dataclass(frozen=True)
class CalibrationJob:
    """A network, the volumes to measure it on, and the files to write.

    Attributes:
        model: a name of the catalog, or a weights file.
        thin: label -> thin volume that the network was not trained on; thick slices are simulated from it.
        pairs: label -> (thick, thin), two reconstructions of one acquisition.
        factors: factors for `thin`, in turn.
        uncertainty: "learned" or "ensemble".
        earlier: JSON files of earlier jobs; their patients give the calibration to test.
        json_file: JSON to write, or None.
        figure: PNG to write, or None.
        weights: weights file whose card gets the calibration, or None.
        crop: side in pixels of the middle of the plane to measure on; None for the whole plane.
        device, backend, threads: as for `thinslice.upscale`.
        overwrite: replace files that exist.
    """

    model: str
    thin: Mapping[str, Path] = field(default_factory=dict)
    pairs: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    factors: Sequence[int] = (2, 3, 5, 8)
    uncertainty: UncertaintySource = "learned"
    earlier: Sequence[Path] = ()
    json_file: Path | None = None
    figure: Path | None = None
    weights: Path | None = None
    crop: int | None = None
    device: str = "auto"
    backend: str = "auto"
    threads: int | None = None
    overwrite: bool = False


def run_calibrate(job: CalibrationJob, *, notify: Notify | None = None) -> dict[str, Any]:
    """The coverage of a network's intervals on patients, and the calibration that these give; no file is written.

    Args:
        job: network, volumes and files.
        notify: called with one plain line after each measurement.

    Returns:
        The findings as JSON values (`thinslice.experiments.calibration.run.findings`), for `write_findings`.

    Raises:
        UsageError: nothing to measure, a patient both measured and in `earlier`, or options that contradict each other.
        NotEligibleError: volumes too shallow for every factor; the message names a way out.
        OutputError: a file exists, or its folder does not.
        ThinsliceError: as `thinslice.read` and `thinslice.upscale`.
    """
    from thinslice.experiments.calibration import run as calibration
    from thinslice.models.calibration import Calibration
    from thinslice.models.load import load_model

    check_job(job)
    earlier = [row for file in job.earlier for row in calibration.read_findings(file, deviation=job.uncertainty)]
    both = sorted({row.case for row in earlier} & {*job.thin, *job.pairs})
    if both:
        raise UsageError(
            f"{', '.join(map(repr, both))}: measured here and in a file of --from, so intervals would be tested on "
            "the patients that they were found on; leave it out of one of them."
        )
    model = load_model(job.model)
    measured = _measured(job, model, notify)
    if not measured and not earlier:
        raise NotEligibleError(
            f"No factor leaves three thick slices of any volume; give {option('factors', 2)}, or deeper volumes."
        )
    card = getattr(model, "card", None) or {}
    return calibration.findings(
        measured,
        model={
            "name": str(card.get("name") or Path(job.model).stem),
            "version": str(card.get("version") or __version__),
            "sha256": getattr(model, "sha256", None),
        },
        deviation=job.uncertainty,
        card=Calibration.from_card(card) if job.uncertainty == "learned" else Calibration(1.0, {}),
        fit_on=earlier,
        keep=job.weights is not None,
    )


def write_findings(job: CalibrationJob, findings: dict[str, Any], *, notify: Notify | None = None) -> None:
    """Write the JSON, the figure and the card of a job.

    Raises:
        OutputError: a file exists or cannot be written.
        CheckpointError: the weights file is not one of thinslice.
    """
    from thinslice.experiments.calibration import report
    from thinslice.experiments.calibration.run import write_into_card
    from thinslice.pictures.drawing import save_png
    from thinslice.system.atomic import atomic_file

    if job.json_file is not None:
        with atomic_file(job.json_file, overwrite=job.overwrite) as unfinished:
            unfinished.write_text(json.dumps(findings, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if job.figure is not None:
        save_png(report.as_figure(findings), job.figure, overwrite=job.overwrite)
    if job.weights is not None:
        write_into_card(job.weights, findings)
        if notify is not None:
            notify(f"{job.weights.name}: its card holds the calibration")


def check_job(job: CalibrationJob) -> None:
    """Refuse a job that cannot be carried out, as far as that shows without reading.

    Raises:
        UsageError: options that contradict each other, or nothing to measure.
        OutputExistsError: a file exists and `overwrite` is false.
        OutputError: the folder of a file does not exist.
    """
    if job.uncertainty == "ensemble" and job.weights is not None:
        raise UsageError("A card holds the calibration of a network's own head; leave --ensemble or --write-card out.")
    if job.figure is not None and job.figure.suffix.lower() != ".png":
        raise UsageError(f"{option('figure')} writes PNG; end {job.figure.name!r} in .png.")
    for output in (job.json_file, job.figure):
        if output is not None and output.exists() and not job.overwrite:
            raise OutputExistsError(
                f"{output.name!r} exists; choose another output, or pass {option('overwrite', True)}."
            )
        if output is not None and not output.absolute().parent.is_dir():
            raise OutputError(f"The folder for {output.name!r} does not exist; make it first.")
    if not job.thin and not job.pairs and not (job.earlier and job.weights is not None):
        raise UsageError("Nothing to measure: give --thin LABEL=PATH or --pair LABEL=THICK,THIN.")
    if job.figure is not None and not job.thin and not job.pairs:
        raise UsageError("Nothing to draw: give --thin LABEL=PATH or --pair LABEL=THICK,THIN.")


def _measured(job: CalibrationJob, model: Any, notify: Notify | None) -> list[PatientErrors]:
    from thinslice.experiments.calibration.run import measure_pair, measure_simulated
    from thinslice.io.files import read

    run = {"device": job.device, "backend": job.backend, "threads": job.threads}
    measured: list[PatientErrors] = []

    def note(line: str) -> None:
        if notify is not None:
            notify(line)

    for label, path in job.thin.items():
        thin = _middle(read(path), job.crop)
        for row in measure_simulated(model, thin, case=label, factors=job.factors, deviation=job.uncertainty, **run):
            measured.append(row)
            note(f"{label}, factor {row.factor}: measured")
    for label, (thick_path, thin_path) in job.pairs.items():
        thick, thin = (_middle(read(path), job.crop) for path in (thick_path, thin_path))
        measured.append(measure_pair(model, thick, thin, case=label, deviation=job.uncertainty, **run))
        note(f"{label}: measured")
    return measured


def _middle(volume: Volume, crop: int | None) -> Volume:
    """The middle `crop` x `crop` pixels of every slice; of 512 pixels and a crop of 128, pixels [192, 320)."""
    if crop is None:
        return volume
    depth, *plane = volume.geometry.shape
    start = [max(0, (extent - crop) // 2) for extent in plane]
    stop = [min(extent, at + crop) for extent, at in zip(plane, start, strict=True)]
    return volume.crop((0, start[0], start[1]), (depth, stop[0], stop[1]))
