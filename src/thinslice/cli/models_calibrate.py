"""thinslice models calibrate: measure the uncertainty of a network on patients, and calibrate it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries


def calibrate_model(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", show_default=False, help="A network, or a weights file.")],
    thin: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=PATH", help="A thin volume not trained on; thick slices are simulated from it."),
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=THICK,THIN", help="Two reconstructions of one acquisition.")
    ] = None,
    factors: Annotated[str, typer.Option(help="Factors for --thin, separated by commas.")] = "2,3,5,8",
    found_on: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="FILE.json",
            help="Find the calibration to test on the patients of an earlier --json instead; repeatable.",
        ),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Measure the spread over mirrored inputs instead of the learned head.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all measurements.")] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw coverage against nominal level.")
    ] = None,
    write_card: Annotated[
        bool, typer.Option("--write-card", help="Write the calibration into the weights file's card.")
    ] = False,
    crop: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", min=32, help="Measure on the middle of the plane alone, to be quick."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    backend: Annotated[str, typer.Option(help="Library that runs the network.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and the result.")] = False,
) -> None:
    """Test whether intervals of 50, 68, 90 and 95 % cover their share of voxels: all, by tissue, and at edges.

    The test takes the calibration in the card; with --from, the one found on those patients; without one in the card,
    or with --write-card, the one found on the measured patients. With several patients, each is also tested with the
    calibration of all others. See docs/explanation/uncertainty.md.

    \b
    thinslice models calibrate default --thin chest=/data/thin.nii.gz --figure reliability.png
    thinslice models calibrate mine.safetensors --thin a=a.nii.gz --thin b=b.nii.gz --write-card
    thinslice models calibrate mine.safetensors --from fold-1.json --from fold-2.json --write-card
    """
    from thinslice.cli import labelled_paths
    from thinslice.commands.calibrate import CalibrationJob, run_calibrate, write_findings
    from thinslice.experiments.calibration.report import as_markdown

    hush_libraries()
    notify = Console(quiet=quiet).note
    job = CalibrationJob(
        model=name,
        thin=labelled_paths.thin_cases(thin),
        pairs=labelled_paths.pair_cases(pair),
        factors=labelled_paths.factors(factors),
        uncertainty="ensemble" if ensemble else "learned",
        earlier=found_on or [],
        json_file=json_file,
        figure=figure,
        weights=labelled_paths.own_weights(name) if write_card else None,
        crop=crop,
        device=device,
        backend=backend,
        threads=threads,
        overwrite=overwrite,
    )
    findings = run_calibrate(job, notify=notify)
    print(as_markdown(findings), end="")
    write_findings(job, findings, notify=notify)
