"""Command `reader-study`: anonymised, shuffled cases for a blinded reading."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries


def reader_study(
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False, help="Folder for the reader.")],
    method: Annotated[
        list[str],
        typer.Option(
            "--method",
            metavar="LABEL=FOLDER",
            show_default=False,
            help="A method and the folder of its volumes, one for each case; two methods or more.",
        ),
    ],
    key: Annotated[
        Path,
        typer.Option("--key", metavar="KEY.json", show_default=False, help="The key, which the reader must not have."),
    ],
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="NUMBER",
            min=0,
            show_default=False,
            help="Order of cases and methods. Default: drawn, and kept in the key.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
) -> None:
    """Prepare cases for a blinded reading.

    Volumes of several methods side by side as NIfTI, with pictures, a form to fill in, and a key that is kept apart.
    The folder of a method holds one volume for each case: a file, or a folder of DICOM, of the same name in all
    folders.

    All volumes of a case lie on one grid, without headers and positions, so that neither shows the method. The key
    holds the names of the cases, which may be those of patients.

    \b
    thinslice reader-study reading/ --key key.json \\
        --method thick=thick/ --method default=thin/ --method truth=true/
    """
    from thinslice.cli.labelled_paths import folders_of
    from thinslice.experiments.reader_study import export_study

    hush_libraries()
    console = Console(quiet=quiet)
    with console.progress("cases") as progress:
        study, notes = export_study(
            folders_of("--method", method), out, key, seed=seed, overwrite=overwrite, progress=progress
        )
    for sentence in notes:
        console.warn(sentence)
    console.note(f"{len(study)} cases in {out}; key: {key}")
