"""Command `dataset manifest`: a manifest for pairs whose file names follow a pattern."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries

_SHOWN = 5


def manifest(
    root: Annotated[Path, typer.Argument(metavar="ROOT", show_default=False, help="Folder of the files.")],
    thin: Annotated[
        str, typer.Option("--thin", metavar="PATTERN", show_default=False, help="Thin files below ROOT, with {case}.")
    ],
    thick: Annotated[
        str, typer.Option("--thick", metavar="PATTERN", show_default=False, help="Thick files below ROOT, with {case}.")
    ],
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Split of all cases; or put {split} into a pattern.")
    ] = None,
    thick_mm: Annotated[
        float | None,
        typer.Option("--thick-mm", metavar="MM", min=0.01, help="Thickness of the thick slices, for NIfTI."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.csv", help="The manifest; default: ROOT/manifest.csv.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
) -> None:
    """List pairs of thick and thin files in a manifest, by patterns of their names.

    \b
    thinslice dataset manifest MSS-CT --thin '{split}/thin/{case}.nii.gz' \\
        --thick '{split}/5mm/{case}.nii.gz' --out MSS-CT/factor-5.csv

    In a pattern, {case} stands for the name that both files of a pair have in common; {split} and {patient} for theirs;
    * for any text that does not matter. None of them spans a slash. A pattern may also fit folders of DICOM.

    No volume is read: thinslice dataset verify FILE.csv does that. Training, benchmark and verify take the manifest as
    a data set. Pairs of two factors, such as 3 mm and 5 mm slices of the same scans, are two manifests.
    """
    from thinslice.data.list_pairs import list_pairs

    hush_libraries()
    console = Console(quiet=quiet)
    target = root / "manifest.csv" if out is None else out
    found = list_pairs(
        root, target, thin=thin, thick=thick, split=split, thick_thickness_mm=thick_mm, overwrite=overwrite
    )
    for kind, names in (("thin", found.only_thin), ("thick", found.only_thick)):
        if names:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            have = "case has" if len(names) == 1 else "cases have"
            console.warn(f"{len(names)} {have} a {kind} file alone, left out: {shown}.")
    for name in dict.fromkeys(row["split"] for row in found.rows):
        count = sum(row["split"] == name for row in found.rows)
        console.note(f"{name}: {count} pair{'' if count == 1 else 's'}")
