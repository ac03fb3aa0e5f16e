"""Command `models check`: clinical measures of networks beside cubic interpolation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries


def check_models(
    models: Annotated[
        list[str], typer.Argument(metavar="NAME|FILE...", show_default=False, help="Networks, or weights files.")
    ],
    thin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=PATH", help="Thin volume outside the training data; thick slices are simulated from it."
        ),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=THICK,THIN", help="Thick and thin reconstruction of one acquisition."),
    ] = None,
    factors: Annotated[str, typer.Option(metavar="NUMBERS", help="Factors, separated by commas.")] = "5",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for check.html, check.json, check.md and figures.")
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Measure on a crop of this width and fewer nodules, for slow networks."),
    ] = None,
    phantom: Annotated[bool, typer.Option("--phantom/--no-phantom", help="Measure nodules, edges and noise.")] = True,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="Device: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(metavar="NUMBER", min=1, help="CPU threads.")] = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of phantoms and bootstrap.")] = 0,
    guarded: Annotated[
        bool,
        typer.Option("--guard", help="Exit with code 4 unless every network keeps the phantom's nodules. Factor 5."),
    ] = False,
    write_card: Annotated[
        bool, typer.Option("--write-card", help="Keep the numbers in the weights file's card; one network at a time.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> None:
    """Measure networks clinically, beside cubic interpolation.

    HU bias by tissue (limit: 2 HU in every class, at every distance from a thick slice), lung density, edges across
    slices, noise and its power spectrum, radiomic agreement (extra radiomics), nodules of 3 to 10 mm, consistency.
    docs/explanation/clinical-checks.md explains each number.

    The guard judges nodules of the phantom in 5 mm slices: ground glass of 8 and 10 mm keeps 95 to 105 % of its
    contrast, solid nodules of 5 mm at least 80 % of their volume. A network that breaks it is not embedded.

    \b
    thinslice models check default --thin chest=/data/thin.nii.gz --out check
    thinslice models check default tvsrn.safetensors --thin chest=/data/thin.nii.gz --crop 192
    thinslice models check default --pair head=thick.nii.gz,thin.nii.gz --no-phantom
    thinslice models check default --factors 3,5,8            phantoms only
    thinslice models check mine.safetensors --guard           exit code 0 or 4
    """
    from thinslice.cli import labelled_paths
    from thinslice.errors import ModelError, UsageError
    from thinslice.experiments.clinical_check import card, guard
    from thinslice.experiments.clinical_check.report import write_check
    from thinslice.experiments.clinical_check.run import check
    from thinslice.experiments.clinical_check.table import to_document
    from thinslice.experiments.document import to_markdown
    from thinslice.io.files import read

    hush_libraries()
    wanted, paths = labelled_paths.factors(factors), labelled_paths.thin_cases(thin)
    both = labelled_paths.pair_cases(pair)
    if shared := sorted(paths.keys() & both.keys()):
        raise UsageError(f"--thin and --pair share the label {shared[0]!r}; give each case a label of its own.")
    if out is not None and out.is_file():
        raise UsageError(f"--out names a folder, and {out.name!r} is a file.")
    if guarded and (guard.FACTOR not in wanted or crop is not None or not phantom):
        raise UsageError(
            f"--guard judges the whole phantom at factor {guard.FACTOR}: add it to --factors, and leave --crop and "
            "--no-phantom out."
        )
    if write_card and len(models) != 1:
        raise UsageError("--write-card changes one weights file; name one network.")
    weights = labelled_paths.own_weights(models[0]) if write_card else None
    measured = check(
        models,
        {label: lambda path=path: read(path) for label, path in paths.items()},  # type: ignore[misc]
        pairs={label: lambda two=two: (read(two[0]), read(two[1])) for label, two in both.items()},  # type: ignore[misc]
        factors=wanted,
        crop=crop,
        phantom=phantom,
        device=device,
        threads=threads,
        seed=seed,
        notify=Console(quiet=quiet).note,
    )
    print(to_markdown(to_document(measured)), end="")
    if out is not None:
        write_check(measured, out)
        Console(quiet=quiet).note(f"{out.name}: check.html, check.json, check.md, figures")
    labels = [entry["label"] for entry in measured["methods"] if entry["kind"] == "model" or entry["label"] in models]
    if weights is not None:
        card.write_into_card(weights, measured, labels[-1])
        Console(quiet=quiet).note(f"{weights.name}: the clinical check is written into the card")
    if guarded and (broken := guard.broken(measured, labels)):
        raise ModelError(
            f"The guard of the nodules is not kept by {', '.join(broken)}: the table 'The guard' above has the "
            "measured percentages. Train longer, or with more synthetic ellipsoids (simulation.sown_share)."
        )
