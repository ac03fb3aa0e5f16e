"""thinslice upscale: one study, end to end."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinslice.cli import options
from thinslice.cli.console import Console, hush_libraries

if TYPE_CHECKING:
    from thinslice.commands.run_report import RunReport


class UncertaintyBy(StrEnum):
    """Values of --uncertainty-by."""

    LEARNED = "learned"
    ENSEMBLE = "ensemble"


class Format(StrEnum):
    """Values of --format."""

    DICOM = "dicom"
    DICOM_ENHANCED = "dicom-enhanced"
    NIFTI = "nifti"


def upscale(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT... OUTPUT",
            show_default=False,
            help="INPUT: a DICOM folder, zip or the files of one series; a NIfTI; NRRD or MetaImage. OUTPUT, the last "
            "path: a name ending in .nii, .nii.gz, .nrrd or .mha, or else a DICOM folder.",
        ),
    ] = None,
    inputs: Annotated[
        list[Path] | None, typer.Option("--input", "-i", metavar="INPUT", help="INPUT, as an option.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUTPUT", help="OUTPUT, as an option; all paths are then INPUT."),
    ] = None,
    every_series: Annotated[
        bool,
        typer.Option("--all", help="Upscale every eligible CT series below the folder INPUT into the folder OUTPUT."),
    ] = False,
    model: options.Model = "default",
    factor: options.Factor = None,
    spacing: options.Spacing = None,
    plan: options.Plan = None,
    device: options.Device = "auto",
    backend: options.Backend = options.BackendName.AUTO,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="Format of OUTPUT; must agree with its name. With --all: of every output."),
    ] = None,
    series: options.Series = None,
    axis: options.Axis = None,
    on_tilt: options.OnTilt = options.OnFaultName.REFUSE,
    on_spacing: options.OnSpacing = options.OnFaultName.REFUSE,
    intensity: options.Intensity = options.IntensityName.AUTO,
    profile: options.Profile = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also draw thick beside thin, coronal and sagittal.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json|FILE.html", help="Also write a report: settings, times and consistency."),
    ] = None,
    view: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write one page with a viewer and both volumes, without identity; it opens offline in a browser.",
        ),
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
    texture: options.Texture = False,
    texture_seed: options.TextureSeed = 0,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK.nii.gz",
            help="Also bring a segmentation of INPUT (NIfTI, NRRD, MetaImage) onto the thin slices, by shape; it is "
            "written beside OUTPUT as NAME_labels.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Also check whether the network is any good on INPUT, as 'thinslice check' does."),
    ] = False,
    threads: options.Threads = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Let a server do the work: the address that 'thinslice serve' printed."),
    ] = None,
    overwrite: options.Overwrite = False,
    deidentify: options.Deidentify = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a thin-slice volume from a thick-slice one.

    The output lies exactly where the input lies: thick slice k and thin slice factor * k share their position, though
    not their values, since a thin slice averages over less tissue. The thin volume, averaged back, is compared with the
    thick one, and the root mean square difference is printed in HU. The input is never changed; an output appears whole
    or not at all.

    With --all, INPUT is a folder of studies and OUTPUT a folder for one output per series, with summary.csv and
    summary.json. Series that are already thin, or made by thinslice, are left out. A second run skips what is done, so
    an interrupted one continues.

    \b
    thinslice upscale chest_5mm/ chest_1mm/ --preview look.png
    thinslice upscale thick.nii.gz thin.nii.gz --factor 5
    thinslice upscale disk.zip thin.nii.gz --series 2 --report report.html
    thinslice upscale slices/*.dcm chest_1mm/
    thinslice upscale thick.nii.gz thin.nii.gz --labels organs.nii.gz      writes thin_labels.nii.gz too
    thinslice upscale studies/ thin/ --all
    """
    from thinslice.cli.batch import upscale_all
    from thinslice.commands.batch import BatchJob
    from thinslice.commands.upscale import UpscaleJob, run_upscale
    from thinslice.errors import UsageError
    from thinslice.inference.settings import UpscaleSettings, uncertainty_source
    from thinslice.io.settings import ReadSettings

    hush_libraries()
    console = Console(quiet=quiet)
    sources, target = divide_paths(paths or [], inputs or [], output)
    wanted = uncertainty is not None or uncertainty_by is not UncertaintyBy.LEARNED
    settings = UpscaleSettings(
        model=model,
        factor=factor,
        spacing_mm=spacing,
        plan=plan,
        device=device,
        backend=backend.value,
        threads=threads,
        uncertainty=uncertainty_source(uncertainty_by.value if wanted else False),
        force=force,
        intensity=intensity.value,
        profile=profile,
        texture=texture,
        texture_seed=texture_seed,
    )
    reading = ReadSettings(series=series, axis=axis, on_tilt=on_tilt.value, on_spacing=on_spacing.value)
    if every_series:
        one_file = {
            "--preview": preview,
            "--report": report,
            "--uncertainty": uncertainty,
            "--view": view,
            "--labels": labels,
            "--server": server,
        }
        contrary = [name for name, value in one_file.items() if value is not None]
        if check:
            raise UsageError("--check is for one series; run 'thinslice check' on the others, or leave it out.")
        if contrary or len(sources) > 1:
            raise UsageError(
                f"{contrary[0]} is for one series, and --all makes many outputs; leave it out."
                if contrary
                else "--all takes one folder, with all studies below it, and one folder for the outputs."
            )
        upscale_all(
            BatchJob(
                folder=sources[0],
                out=target,
                settings=settings,
                reading=reading,
                output_format=None if output_format is None else output_format.value,
                overwrite=overwrite,
                deidentify=deidentify,
            ),
            console,
        )
        return
    if view is not None and server is not None:
        raise UsageError("--view is made where the volumes are, not by --server; leave one of the two out.")
    job = UpscaleJob(
        source=sources[0] if len(sources) == 1 else sources,
        output=target,
        settings=settings,
        output_format=None if output_format is None else output_format.value,
        reading=reading,
        preview=preview,
        report=report,
        uncertainty=uncertainty,
        view=view,
        labels=labels,
        check=check,
        overwrite=overwrite,
        deidentify=deidentify,
    )
    with console.work() as work:
        if server is not None:
            from thinslice.service.remote import upscale_on_server

            outcome = upscale_on_server(server, job, notify=console.note, phase=work.phase)
        else:
            outcome = run_upscale(job, notify=console.note, phase=work.phase)
    for sentence in outcome.warnings:
        console.warn(sentence)
    if not quiet:
        print(summary(outcome, target))


def divide_paths(paths: list[Path], inputs: list[Path], output: Path | None) -> tuple[tuple[Path, ...], Path]:
    """Inputs and output of a command line; the last path is the output unless an option names it.

    Raises:
        UsageError: an input or the output is missing, or --output is given beside a second output.

    >>> divide_paths([Path("a.dcm"), Path("b.dcm"), Path("thin")], [], None)[1].name
    'thin'
    """
    from thinslice.errors import UsageError

    if output is None and paths:
        *paths, output = paths
    sources = (*inputs, *paths)
    if output is None or not sources:
        given = "" if output is None else f" Only {str(output)!r} was given."
        raise UsageError(
            f"INPUT and OUTPUT are needed, as in: thinslice upscale chest_5mm/ chest_1mm/.{given} "
            "'thinslice upscale --help' describes them."
        )
    return sources, output


def summary(report: RunReport, output: Path) -> str:
    """The lines that close a run.

    Args:
        report: report of the run.
        output: the path that was written, as the user gave it.
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
    texture: tuple[str, ...] = ()
    if report.texture is not None:
        texture = (f"texture      synthetic noise, seed {report.texture.seed}: never read small structures",)
    labels: tuple[str, ...] = ()
    if report.labels is not None:
        from thinslice.commands.labels import labels_path

        change = report.labels.largest_change_percent
        name = labels_path(output).name
        labels = (f"labels       {len(report.labels.volumes)} in {name}, volumes changed by {change:.2f} % at most",)
    return "\n".join(
        (
            f"slices       {report.input.slices} -> {report.output.slices}, factor {report.factor:.4g}",
            f"spacing      {report.spacing_mm_in[0]:.4g} mm -> {report.spacing_mm_out[0]:.4g} mm",
            f"consistency  {agreement}",
            *uncertainty,
            *texture,
            *labels,
            *(() if report.check is None else (f"check        {report.check.sentence}",)),
            f"took         {report.seconds.total:.1f} s{memory}",
            f"ran on       {report.device} by {report.backend}, {report.settings.get('precision', 'float32')}",
            f"output       {output} ({report.output.format})",
            report.notice,
        )
    )
