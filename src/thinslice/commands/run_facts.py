"""What a run of `thinslice.commands.upscale` did, as the report that is printed and written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.commands.run_report import RunReport, voxel_digest
from thinslice.commands.run_report_parts import (
    DeviationReport,
    FileReport,
    MachineReport,
    ModelReport,
    SecondsReport,
    TextureReport,
)
from thinslice.experiments.provenance import now
from thinslice.geometry import orientation_name
from thinslice.io.files import output_format
from thinslice.system.resources import peak_memory_mib

if TYPE_CHECKING:
    from thinslice.commands.check_report import CheckReport
    from thinslice.commands.labels_report import LabelsReport
    from thinslice.inference.deviation import DeviationSummary
    from thinslice.inference.prepare import Prepared
    from thinslice.inference.upscale import RunResult
    from thinslice.volume import Volume


def deviation_report(
    path: Path | None, prepared: Prepared, result: RunResult, summary: DeviationSummary
) -> DeviationReport | None:
    """What the report holds of the standard deviations; None where none were written.

    Args:
        path: file of the standard deviations, or None.
        prepared: the run.
        result: what its network did.
        summary: of all slabs.
    """
    if path is None or prepared.uncertainty is None or prepared.calibration is None:
        return None
    figures = {
        "mean_hu": summary.mean_hu,
        "median_hu": summary.percentile_hu(50),
        "p95_hu": summary.percentile_hu(95),
    }
    return DeviationReport(
        format=output_format(path),
        source=prepared.uncertainty,
        calibrated=prepared.calibration.calibrated,
        multipliers={str(level): value for level, value in prepared.calibration.multipliers.items()},
        scale=None
        if result.scan_scale is None
        else {place: round(factor, 3) for place, factor in asdict(result.scan_scale).items()},
        **{name: None if value is None else round(value, 4) for name, value in figures.items()},
    )


def _texture_report(prepared: Prepared, result: RunResult) -> TextureReport | None:
    if prepared.texture is None or result.noise_size is None:
        return None
    noise, size = prepared.texture.noise, result.noise_size
    return TextureReport(
        seed=prepared.texture.seed,
        thick_noise_hu=round(noise.thick_hu, 2),
        thin_noise_hu=round(noise.thin_hu, 2),
        blur_slices=round(noise.blur, 3),
        map_factor_soft=round(size.soft, 3),
        map_factor_lung=round(size.lung, 3),
    )


def report_of(
    prepared: Prepared,
    result: RunResult,
    seconds: SecondsReport,
    *,
    sources: tuple[Path, ...],
    written: str,
    with_digest: bool,
    deidentify: bool,
    deviation: DeviationReport | None = None,
    labels: LabelsReport | None = None,
    checked: CheckReport | None = None,
    writer_warnings: tuple[str, ...] = (),
) -> RunReport:
    """The report on a run that is complete.

    Args:
        prepared: the run.
        result: what its network did.
        seconds: time by phase.
        sources: paths of the input, of which only the kind is reported.
        written: format of the output.
        with_digest: whether to hash the voxels that were read.
        deidentify: leave out what may help to recognise the source.
        deviation: of the standard deviations.
        labels: of the segmentation.
        checked: of `thinslice.commands.check`.
        writer_warnings: sentences of the writer.
    """
    source, thin, derivation = prepared.volume, prepared.geometry, prepared.provenance.derivation
    settings = {} if derivation is None else derivation.settings
    return RunReport(
        input=FileReport(
            format=source.provenance.format,
            kind=_kind(sources),
            slices=source.geometry.shape[0],
            matrix=source.geometry.shape[1:],
            orientation=orientation_name(tuple(source.geometry.normal.tolist())),
            voxels_sha256=voxel_digest(source) if with_digest else None,
            **({} if deidentify else _series_facts(source)),
        ),
        output=FileReport(
            format=written,
            kind="folder" if written == "dicom" else "file",
            slices=thin.shape[0],
            matrix=thin.shape[1:],
        ),
        model=ModelReport(name=prepared.model_name, version=prepared.model_version, sha256=prepared.weights_sha256),
        factor=prepared.ratio,
        spacing_mm_in=source.geometry.spacing_mm,
        spacing_mm_out=thin.spacing_mm,
        plan=prepared.plan_name,
        device=result.device,
        backend=prepared.backend,
        seconds=seconds,
        expected_memory_mib=prepared.memory_estimate.total_bytes / 2**20,
        peak_memory_mib=peak_memory_mib(),
        consistency_rms_hu=result.consistency_rms_hu,
        deviation=deviation,
        texture=_texture_report(prepared, result),
        labels=labels,
        check=checked,
        warnings=(*source.provenance.warnings, *result.warnings, *writer_warnings),
        created=now(),
        machine=MachineReport.here(threads=prepared.settings.threads),
        settings={
            # Plan, backend and device have keys of their own in the report.
            **{k: v for k, v in settings.items() if k not in ("plan", "backend", "device")},
            "precision": result.precision,
            "windows": prepared.windows_total,
            "windows_of_air": result.windows_skipped,
        },
    )


def _series_facts(source: Volume) -> dict[str, Any]:
    """What helps to recognise the source."""
    details = source.provenance.details
    return {name: details.get(name) or None for name in ("series_number", "description", "kernel")}


def _kind(sources: tuple[Path, ...]) -> str:
    """Kind of the input for the report, which holds no names."""
    if len(sources) > 1:
        return "files"
    return "folder" if sources[0].is_dir() else "archive" if sources[0].suffix.lower() == ".zip" else "file"
