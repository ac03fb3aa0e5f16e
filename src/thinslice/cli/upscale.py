"""thinslice upscale: one study, end to end."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinslice.cli.console import Console, hush_libraries

if TYPE_CHECKING:
    from thinslice.commands.run_report import RunReport


class BackendName(StrEnum):
    """Values of --backend."""

    AUTO = "auto"
    TORCH = "torch"
    TORCH_COMPILE = "torch-compile"
    OPENVINO = "openvino"


class UncertaintyBy(StrEnum):
    """Values of --uncertainty-by."""

    LEARNED = "learned"
    ENSEMBLE = "ensemble"


class Intensity(StrEnum):
    """Unit of the voxels."""

    AUTO = "auto"
    HU = "hu"
    UNIT = "unit"


class Format(StrEnum):
    """Values of --format."""

    DICOM = "dicom"
    DICOM_ENHANCED = "dicom-enhanced"
    NIFTI = "nifti"


def upscale(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", show_default=False, help="A DICOM folder, file or zip; a NIfTI; NRRD or MetaImage."
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", show_default=False, help="A name ending in .nii or .nii.gz, or else a DICOM folder."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="default, fast, best, another network of 'thinslice models list', or a weights file.",
        ),
    ] = "default",
    factor: Annotated[
        int | None, typer.Option(metavar="N", help="Thin slices per thick interval, 2 to 8. Not with --spacing.")
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Wanted distance of thin slices in mm; 1 unless --factor is given."),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Window plan: overlap, released or paper. The model's own unless set."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]|mps", help="Where the network runs.")] = "auto",
    backend: Annotated[BackendName, typer.Option(help="Library that runs the network.")] = BackendName.AUTO,
    output_format: Annotated[
        Format | None, typer.Option("--format", help="Format of OUTPUT; must agree with its name.")
    ] = None,
    series: Annotated[
        str | None,
        typer.Option("--series", "--series-uid", metavar="UID", help="UID of the series, where INPUT holds several."),
    ] = None,
    axis: Annotated[
        int | None,
        typer.Option(metavar="N", help="The file's through-plane axis (0, 1 or 2), where its spacings do not show it."),
    ] = None,
    intensity: Annotated[
        Intensity,
        typer.Option(
            help="Unit of the voxels. auto: HU, refused where they certainly are not; hu: HU in any case; unit: "
            "[-1024, 2048] HU scaled to [0, 1] (the result is in HU)."
        ),
    ] = Intensity.AUTO,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Slice profile of 'thinslice dataset profile'; a box of the slice thickness unless set.",
        ),
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also draw thick beside thin, coronal and sagittal.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json|FILE.html", help="Also write a report: settings, times and consistency."),
    ] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            "--uncertainty",
            "--deviation",
            metavar="FILE",
            help="Also write the uncertainty: a standard deviation in HU for every voxel.",
        ),
    ] = None,
    uncertainty_by: Annotated[
        UncertaintyBy,
        typer.Option(
            "--uncertainty-by",
            "--deviation-by",
            help="learned: the network's own head; ensemble: any network, 8 times the cost, not calibrated.",
        ),
    ] = UncertaintyBy.LEARNED,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads; all cores unless set.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Go on when memory looks short. Never past a fault in the input's geometry."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Make a thin-slice volume from a thick-slice one.

    The output lies exactly where the input lies: thick slice k and thin slice factor * k share their position, though
    not their values, since a thin slice averages over less tissue. The thin volume, averaged back, is compared with the
    thick one, and the root mean square difference is printed in HU. The input is never changed; an output appears whole
    or not at all.

    \b
    thinslice upscale chest_5mm/ chest_1mm/ --preview look.png
    thinslice upscale thick.nii.gz thin.nii.gz --factor 5
    thinslice upscale disk.zip thin.nii.gz --series 1.2.840.1 --report report.html
    """
    from thinslice.commands.upscale import UpscaleJob, run_upscale
    from thinslice.errors import UsageError
    from thinslice.inference.settings import UpscaleSettings, uncertainty_source
    from thinslice.io.settings import ReadSettings

    hush_libraries()
    console = Console(quiet=quiet)
    if factor is not None and spacing is not None:
        raise UsageError("--factor and --spacing both set the distance of thin slices; give one of them.")
    wanted = uncertainty is not None or uncertainty_by is not UncertaintyBy.LEARNED
    settings = UpscaleSettings(
        model=model,
        factor=factor,
        spacing_mm=1.0 if spacing is None else spacing,
        plan=plan,
        device=device,
        backend=backend.value,
        threads=threads,
        uncertainty=uncertainty_source(uncertainty_by.value if wanted else False),
        force=force,
        intensity=intensity.value,
        profile=profile,
    )
    job = UpscaleJob(
        source=source,
        output=output,
        settings=settings,
        output_format=None if output_format is None else output_format.value,
        reading=ReadSettings(series=series, axis=axis),
        preview=preview,
        report=report,
        uncertainty=uncertainty,
        overwrite=overwrite,
    )
    with console.progress("upscaling") as progress:
        outcome = run_upscale(job, notify=console.note, progress=progress)
    for sentence in outcome.warnings:
        console.warn(sentence)
    if not quiet:
        print(summary(outcome, output))


def summary(report: RunReport, output: Path) -> str:
    """The lines that close a run.

    Args:
        report: report of the run.
        output: the path that was written; only its last part is printed.
    """
    consistency = report.consistency_rms_hu
    agreement = (
        "could not be measured (too few slices)"
        if consistency is None
        else f"{consistency:.2f} HU RMS between the thick slices and those made again from the thin ones"
    )
    memory = "" if report.peak_memory_mib is None else f", {report.peak_memory_mib:.0f} MiB at most"
    deviation = report.deviation
    uncertainty: tuple[str, ...] = ()
    if deviation is not None and deviation.median_hu is not None and deviation.p95_hu is not None:
        uncertainty = (
            f"uncertainty  median {deviation.median_hu:.1f} HU, 95 % of voxels below {deviation.p95_hu:.1f} HU",
        )
    return "\n".join(
        (
            f"slices       {report.input.slices} -> {report.output.slices}, factor {report.factor}",
            f"spacing      {report.spacing_mm_in[0]:.4g} mm -> {report.spacing_mm_out[0]:.4g} mm",
            f"consistency  {agreement}",
            *uncertainty,
            f"took         {report.seconds.total:.1f} s on {report.device}{memory}",
            f"output       {output.name} ({report.output.format})",
            report.notice,
        )
    )
