"""Command `demo`: upscale a synthetic chest, or the user's own scan, with scores, pictures and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries


def demo(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[INPUT]", show_default=False, help="Your own scan; default: a synthetic chest."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder of the results.")] = Path("demo-output"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that exists.")] = False,
) -> None:
    """Upscale a synthetic chest, or your own scan.

    The folder holds the thick series, the thin DICOM series and NIfTI, a table of scores beside interpolation, a
    picture of thick, estimate and truth, a preview and a report. Your own scan has no truth: the folder then holds the
    thin volume, the preview and the report.

    \b
    thinslice demo
    thinslice demo chest_5mm/ --out look
    """
    from thinslice.commands.demo import run_demo

    hush_libraries()
    console = Console()
    with console.progress("upscaling") as progress:
        lines = run_demo(source, out, overwrite=overwrite, notify=console.note, progress=progress)
    print("\n".join(lines))
