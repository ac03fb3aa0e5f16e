"""Command `demo`: upscale a synthetic chest, or the user's own scan, with scores, pictures and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli import options
from thinslice.cli.console import Console, hush_libraries


def demo(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="INPUT", show_default=False, help="Your own scan; a synthetic chest unless given."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "--output", "-o", metavar="FOLDER", help="Folder of the results.")
    ] = Path("demo-output"),
    model: options.Model = "default",
    factor: options.Factor = None,
    spacing: options.Spacing = None,
    plan: options.Plan = None,
    device: options.Device = "auto",
    backend: options.Backend = options.BackendName.AUTO,
    series: options.Series = None,
    axis: options.Axis = None,
    on_tilt: options.OnTilt = options.OnFaultName.REFUSE,
    on_spacing: options.OnSpacing = options.OnFaultName.REFUSE,
    intensity: options.Intensity = options.IntensityName.AUTO,
    profile: options.Profile = None,
    texture: options.Texture = False,
    texture_seed: options.TextureSeed = 0,
    threads: options.Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that an earlier demo made.")] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Upscale a synthetic chest, or your own scan.

    The folder holds the thick series, the thin DICOM series and NIfTI, a table of scores beside interpolation, a
    picture of thick, estimate and truth, a preview and a report. Your own scan has no truth: the folder then holds the
    thin volume, the preview and the report.

    \b
    thinslice demo
    thinslice demo chest_5mm/ --out look
    thinslice demo disk.zip --series 2 --model fast
    thinslice demo chest_5mm/ --out measure --texture
    """
    from thinslice.commands.demo import run_demo
    from thinslice.inference.settings import UpscaleSettings
    from thinslice.io.settings import ReadSettings

    hush_libraries()
    settings = UpscaleSettings(
        model=model,
        factor=factor,
        spacing_mm=spacing,
        plan=plan,
        device=device,
        backend=backend.value,
        threads=threads,
        force=force,
        intensity=intensity.value,
        profile=profile,
        texture=texture,
        texture_seed=texture_seed,
    )
    reading = ReadSettings(series=series, axis=axis, on_tilt=on_tilt.value, on_spacing=on_spacing.value)
    console = Console(quiet=quiet)
    with console.work() as work:
        result = run_demo(
            source, out, settings=settings, reading=reading, overwrite=overwrite, notify=console.note, phase=work.phase
        )
    for sentence in result.report.warnings:
        console.warn(sentence)
    if not quiet:
        print("\n".join(result.lines))
