"""thinslice demo: the whole of it, on a synthetic chest or on a scan of yours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries


def demo(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[INPUT]", show_default=False, help="A scan of yours; a synthetic chest unless given."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")] = Path("demo-output"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that exists.")] = False,
) -> None:
    """Upscale a synthetic chest, or a scan of yours.

    Makes a folder with the thick series, the thin DICOM series and NIfTI, a table of scores beside interpolation, a
    picture of thick, estimate and truth, a preview and a report. With a scan of your own there is no truth, so it
    makes the thin volume, the preview and the report.

    \b
    thinslice demo
    thinslice demo chest_5mm/ --out look
    """
    from thinslice.commands.demo import run_demo

    hush_libraries()
    console = Console()
    with console.progress("upscaling") as progress:
        lines = run_demo(source, out, overwrite=overwrite, say=console.note, progress=progress)
    print("\n".join(lines))
