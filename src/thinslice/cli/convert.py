"""Command `convert`: a weights file from the authors' released checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import hush_libraries


def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", show_default=False, help="Released checkpoint (.pkl), or plain safetensors."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT.safetensors", show_default=False, help="Weights file to write.")
    ],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the weights in their card.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a weights file that exists.")] = False,
) -> None:
    """Convert the authors' released weights.

    A pickle can run any program when it is loaded the usual way. This command reads it as data: an object that is
    neither a tensor nor a plain container is refused.

    \b
    thinslice convert tvsrn.pkl tvsrn.safetensors
    thinslice upscale thick.nii.gz thin.nii.gz --model tvsrn.safetensors
    """
    from thinslice.models.released.convert import convert as convert_weights

    hush_libraries()
    made = convert_weights(source, target, name=name, overwrite=overwrite)
    print(f"{target.name}: {made.architecture}, {made.parameters} values, SHA-256 {made.sha256}")
