"""One study end to end: read, decide, upscale, write, show, report."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thinslice.errors import OutputExistsError, UsageError
from thinslice.typing import Notify, Progress

if TYPE_CHECKING:
    from thinslice.commands.run_report import DeviationReport, RunReport, SecondsReport
    from thinslice.inference.deviation import DeviationSummary
    from thinslice.inference.upscale import SlabStream
    from thinslice.volume import Volume


@dataclass(frozen=True)
class UpscaleJob:
    """What to read, how to upscale it and what to write.

    Attributes:
        source: a DICOM folder, file or zip, a NIfTI, NRRD or MetaImage file.
        output: a file by its suffix; without one, a DICOM folder.
        model: a name of the catalog, or a weights file.
        factor: thin slices per thick interval; not together with `spacing_mm`.
        spacing_mm: wanted distance of thin slices; 1 mm when neither is given.
        plan: window plan; None for the model's own.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        backend: one of `thinslice.inference.backends.choice.BACKENDS`.
        output_format: what --format says; None for what the name of `output` says.
        series_uid: which series, where `source` holds several.
        axis: the file's through-plane axis, where its spacings do not tell.
        preview: PNG to draw, or None.
        report: .json or .html to write, or None.
        deviation: NIfTI, NRRD or MetaImage file for the standard deviations, or None.
        deviation_by: "learned" or "ensemble".
        threads: CPU threads; None for all.
        overwrite: replace outputs that exist.
        force: go on when memory looks short.
    """

    source: Path
    output: Path
    model: str = "default"
    factor: int | None = None
    spacing_mm: float | None = None
    plan: str | None = None
    device: str = "auto"
    backend: str = "auto"
    output_format: str | None = None
    series_uid: str | None = None
    axis: int | None = None
    preview: Path | None = None
    report: Path | None = None
    deviation: Path | None = None
    deviation_by: str = "learned"
    threads: int | None = None
    overwrite: bool = False
    force: bool = False


def run_upscale(job: UpscaleJob, *, say: Notify | None = None, progress: Progress | None = None) -> RunReport:
    """Carry out a job.

    Whatever can be refused is refused before the network starts. Slabs go to the writer as they come, so memory does
    not grow with the number of thin slices. The input is never changed; each output appears whole or not at all.

    Args:
        job: what to do.
        say: told what is about to happen, in plain lines.
        progress: called as windows are done.

    Returns:
        The report, also when no file for it was asked for.

    Raises:
        UsageError: options that contradict each other.
        InputError: the input cannot be read, or cannot be upscaled as asked.
        ModelError: the network or its weights.
        OutputError: an output exists or cannot be written.
        ResourceError: memory or disk short.
        DeviceError: a device that is not there.
    """
    from thinslice.commands.run_report import SecondsReport
    from thinslice.inference.deviation import DeviationSummary
    from thinslice.inference.upscale import upscale_slabs
    from thinslice.intensity import WINDOW_WIDTH_HU
    from thinslice.io.files import open_writer, read
    from thinslice.io.write_behind import WriteBehind
    from thinslice.pictures.figures import Preview, save_png

    say = say or _say_nothing
    begun = time.perf_counter()
    check_job(job)
    volume = read(job.source, series_uid=job.series_uid, axis=job.axis)
    read_s = time.perf_counter() - begun
    stream = upscale_slabs(
        volume,
        model=job.model,
        factor=job.factor,
        spacing_mm=1.0 if job.spacing_mm is None else job.spacing_mm,
        plan=job.plan,
        device=job.device,
        backend=job.backend,
        threads=job.threads,
        progress=progress,
        deviation=False if job.deviation is None else job.deviation_by,
        force=job.force,
    )
    writer = WriteBehind(
        open_writer(
            job.output,
            stream.geometry,
            stream.provenance,
            dtype=stream.dtype,
            hu_range=stream.hu_range,
            overwrite=job.overwrite,
            declared=job.output_format,
        )
    )
    doubt_writer, doubt = None, DeviationSummary()
    if job.deviation is not None:
        doubt_writer = WriteBehind(
            open_writer(
                job.deviation,
                stream.geometry,
                replace(stream.provenance, padding_hu=None),
                dtype="float32",
                hu_range=(0.0, WINDOW_WIDTH_HU),
                overwrite=job.overwrite,
            )
        )
    say(_announcement(volume, stream))
    drawn = job.preview is not None or (job.report is not None and job.report.suffix.lower() == ".html")
    preview = None
    if drawn:
        preview = Preview(volume, stream.geometry, caption=_caption(stream), deviation=job.deviation is not None)
    # Slabs are written while the next ones are made.
    with writer, doubt_writer or nullcontext():
        for slab in stream:
            writer.write(slab.hu)
            if doubt_writer is not None and slab.deviation_hu is not None:
                doubt_writer.write(slab.deviation_hu)
                doubt.add(slab.deviation_hu, slab.hu)
            if preview is not None:
                preview.add(slab.start, slab.hu, slab.deviation_hu)
    png = None if preview is None else preview.png_bytes()
    if png is not None and job.preview is not None:
        save_png(png, job.preview, overwrite=job.overwrite)
    seconds = SecondsReport(
        read=read_s,
        network=stream.network_s,
        write=writer.seconds + (0.0 if doubt_writer is None else doubt_writer.seconds),
        total=time.perf_counter() - begun,
    )
    report = _report(job, volume, stream, seconds, doubt)
    if job.report is not None:
        report.write(job.report, png, overwrite=job.overwrite)
    return report


def check_job(job: UpscaleJob) -> None:
    """Refuse what can be refused without reading anything.

    Raises:
        UsageError: options that contradict each other, or an output that is the input.
        OutputExistsError: an output exists and `overwrite` is false.
    """
    from thinslice.io.files import output_format

    if job.factor is not None and job.spacing_mm is not None:
        raise UsageError("--factor and --spacing say the same thing twice; give one of them.")
    kind = output_format(job.output, job.output_format)
    if kind == "dicom" and job.source.name.lower().endswith((".nii", ".nii.gz")):
        raise UsageError(
            "A NIfTI has no patient or study to derive a DICOM series from; name an output that ends in .nii.gz."
        )
    if job.preview is not None and job.preview.suffix.lower() != ".png":
        raise UsageError(f"--preview writes PNG; end {job.preview.name!r} in .png.")
    if job.report is not None and job.report.suffix.lower() not in (".json", ".html"):
        raise UsageError(f"--report writes JSON or HTML; end {job.report.name!r} in .json or .html.")
    if job.deviation is None and job.deviation_by != "learned":
        raise UsageError(f"--deviation-by {job.deviation_by} goes with --deviation FILE, which is missing.")
    if job.deviation is not None and output_format(job.deviation) == "dicom":
        raise UsageError(
            "Standard deviations are no CT picture: a viewer would show them as tissue, so they are not written as "
            "DICOM; end the name for --deviation in .nii.gz, .nrrd or .mha."
        )
    outputs = [path for path in (job.output, job.preview, job.report, job.deviation) if path is not None]
    places = [path.resolve() for path in outputs]
    if len(set(places)) < len(places):
        raise UsageError("Two outputs have one name; give each its own.")
    source = job.source.resolve()
    for path, place in zip(outputs, places, strict=True):
        if place == source or place in source.parents:
            raise UsageError(f"{path.name!r} would replace the input; choose another output.")
        if not job.overwrite and (path.is_symlink() or path.exists()):
            raise OutputExistsError(f"{path.name!r} exists; choose another output, or pass --overwrite.")


def _say_nothing(line: str) -> None:
    return


def _announcement(volume: Volume, stream: SlabStream) -> str:
    thick, thin, mib = volume.geometry, stream.geometry, 2**20
    depth, height, width = thin.shape
    disk = depth * height * width * stream.dtype.itemsize
    return (
        f"{thick.shape[0]} slices {thick.spacing_mm[0]:.4g} mm apart become {depth} slices {thin.spacing_mm[0]:.4g} mm "
        f"apart ({height} x {width}, {stream.model_name}, factor {stream.factor}, {stream.device}); about "
        f"{stream.memory_estimate.total_bytes / mib:.0f} MiB of memory, and up to {disk / mib:.0f} MiB on disk."
    )


def _caption(stream: SlabStream) -> str:
    return f"{stream.model_name} {stream.model_version}, factor {stream.factor}, plan {stream.plan_name}"


def _deviation_report(job: UpscaleJob, stream: SlabStream, doubt: DeviationSummary) -> DeviationReport | None:
    from thinslice.commands.run_report import DeviationReport
    from thinslice.io.files import output_format

    if job.deviation is None or stream.deviation is None or stream.calibration is None:
        return None
    figures = {"mean_hu": doubt.mean_hu, "median_hu": doubt.percentile_hu(50), "p95_hu": doubt.percentile_hu(95)}
    return DeviationReport(
        format=output_format(job.deviation),
        source=stream.deviation,
        calibrated=stream.calibration.calibrated,
        multipliers={str(level): value for level, value in stream.calibration.multipliers.items()},
        **{name: None if value is None else round(value, 4) for name, value in figures.items()},
    )


def _report(
    job: UpscaleJob, volume: Volume, stream: SlabStream, seconds: SecondsReport, doubt: DeviationSummary
) -> RunReport:
    from thinslice.commands.run_report import (
        FileReport,
        MachineReport,
        ModelReport,
        RunReport,
    )
    from thinslice.io.files import output_format
    from thinslice.system.resources import peak_memory_mib

    thick, thin, derivation = volume.geometry, stream.geometry, stream.provenance.derivation
    settings = {} if derivation is None else derivation.settings
    written = output_format(job.output, job.output_format)
    return RunReport(
        input=FileReport(
            format=volume.provenance.format,
            kind="folder" if job.source.is_dir() else "archive" if job.source.suffix.lower() == ".zip" else "file",
            slices=thick.shape[0],
            matrix=thick.shape[1:],
        ),
        output=FileReport(
            format=written,
            kind="folder" if written == "dicom" else "file",
            slices=thin.shape[0],
            matrix=thin.shape[1:],
        ),
        model=ModelReport(name=stream.model_name, version=stream.model_version, sha256=stream.weights_sha256),
        factor=stream.factor,
        spacing_mm_in=thick.spacing_mm,
        spacing_mm_out=thin.spacing_mm,
        plan=stream.plan_name,
        device=stream.device,
        backend=stream.backend,
        seconds=seconds,
        expected_memory_mib=stream.memory_estimate.total_bytes / 2**20,
        peak_memory_mib=peak_memory_mib(),
        consistency_rms_hu=stream.consistency_rms_hu,
        deviation=_deviation_report(job, stream, doubt),
        warnings=(*volume.provenance.warnings, *stream.warnings),
        machine=MachineReport.here(threads=job.threads),
        settings={
            # Plan, backend and device have places of their own in the report.
            **{k: v for k, v in settings.items() if k not in ("plan", "backend", "device")},
            "precision": stream.precision,
            "windows": stream.windows_total,
            "windows_of_air": stream.windows_skipped,
        },
    )
