"""thinslice models calibrate: whether a network is as sure as it should be, and what would make it so."""

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
            help="Find the calibration to test on the patients of an earlier --json instead; again for more.",
        ),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Measure the spread over mirrored inputs instead of the learned head.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything that was measured.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw coverage against nominal level.")
    ] = None,
    write_card: Annotated[
        bool, typer.Option("--write-card", help="Keep what is found in the weights file's card.")
    ] = False,
    crop: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", min=32, help="Measure on the middle of the plane alone, to be quick."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    backend: Annotated[str, typer.Option(help="What runs the network.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Test whether intervals of 50, 68, 90 and 95 % hold what they promise: over all voxels, per tissue, at edges.

    What is tested is the calibration in the card; with --from, the one found on its patients; where the card holds
    none, or with --write-card, the one found on these. With several patients each is tested with what the others give,
    too. docs/doubt.md tells more.

    \b
    thinslice models calibrate default --thin chest=/data/thin.nii.gz --figure reliability.png
    thinslice models calibrate mine.safetensors --thin a=a.nii.gz --thin b=b.nii.gz --write-card
    thinslice models calibrate mine.safetensors --from fold-1.json --from fold-2.json --write-card
    """
    import json

    from thinslice.about import __version__
    from thinslice.cli import labelled_paths
    from thinslice.errors import NotEligibleError, OutputError, OutputExistsError, UsageError
    from thinslice.experiments.calibration import report
    from thinslice.experiments.calibration import run as calibration_run
    from thinslice.inference.deviation import Kind
    from thinslice.io.files import read
    from thinslice.models.deviation import Calibration
    from thinslice.models.load import load_model
    from thinslice.pictures.figures import save_png
    from thinslice.system.atomic import atomic_file
    from thinslice.volume import Volume

    hush_libraries()
    console = Console(quiet=quiet)
    kind: Kind = "ensemble" if ensemble else "learned"
    if ensemble and write_card:
        raise UsageError("A card holds the calibration of a network's own head; leave --ensemble or --write-card out.")
    if figure is not None and figure.suffix.lower() != ".png":
        raise UsageError(f"--figure writes PNG; end {figure.name!r} in .png.")
    for output in (json_file, figure):
        if output is not None and output.exists() and not overwrite:
            raise OutputExistsError(f"{output.name!r} exists; choose another output, or pass --overwrite.")
        if output is not None and not output.absolute().parent.is_dir():
            raise OutputError(f"The folder for {output.name!r} does not exist; make it first.")
    wanted, singles, doubles = (
        labelled_paths.factors(factors),
        labelled_paths.thin_cases(thin),
        labelled_paths.pair_cases(pair),
    )
    if not singles and not doubles and not (found_on and write_card):
        raise UsageError("Nothing to measure: give --thin LABEL=PATH or --pair LABEL=THICK,THIN.")
    if figure is not None and not singles and not doubles:
        raise UsageError("Nothing to draw: give --thin LABEL=PATH or --pair LABEL=THICK,THIN.")
    weights = labelled_paths.own_weights(name) if write_card else None
    earlier = [row for file in found_on or [] for row in calibration_run.read_findings(file, deviation=kind)]
    both = sorted({row.case for row in earlier} & {*singles, *doubles})
    if both:
        raise UsageError(
            f"{', '.join(map(repr, both))}: measured here and in a file of --from, so intervals would be tested on "
            "what they were found on; leave it out of one of them."
        )
    model = load_model(name)
    run = {"device": device, "backend": backend, "threads": threads}

    def part(volume: Volume) -> Volume:
        if crop is None:
            return volume
        depth, *plane = volume.geometry.shape
        start = [max(0, (extent - crop) // 2) for extent in plane]
        stop = [min(extent, at + crop) for extent, at in zip(plane, start, strict=True)]
        return volume.crop((0, start[0], start[1]), (depth, stop[0], stop[1]))

    measured: list[calibration_run.PatientErrors] = []
    for label, path in singles.items():
        volume = part(read(path))
        for row in calibration_run.measure_simulated(model, volume, case=label, factors=wanted, deviation=kind, **run):
            measured.append(row)
            console.note(f"{label}, factor {row.factor}: measured")
    for label, (thick_path, thin_path) in doubles.items():
        thick, truth = part(read(thick_path)), part(read(thin_path))
        measured.append(calibration_run.measure_pair(model, thick, truth, case=label, deviation=kind, **run))
        console.note(f"{label}: measured")
    if not measured and not earlier:
        raise NotEligibleError(
            "No factor leaves three thick slices of any volume; give --factors 2, or deeper volumes."
        )
    card = getattr(model, "card", None) or {}
    told = calibration_run.findings(
        measured,
        model={
            "name": str(card.get("name") or Path(name).stem),
            "version": str(card.get("version") or __version__),
            "sha256": getattr(model, "sha256", None),
        },
        deviation=kind,
        card=Calibration.from_card(card) if kind == "learned" else Calibration(1.0, {}),
        fit_on=earlier,
        keep=write_card,
    )
    print(report.as_markdown(told), end="")
    if json_file is not None:
        with atomic_file(json_file, overwrite=overwrite) as unfinished:
            unfinished.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if figure is not None:
        save_png(report.as_figure(told), figure, overwrite=overwrite)
    if weights is not None:
        calibration_run.write_into_card(weights, told)
        console.note(f"{weights.name}: its card holds the calibration")
