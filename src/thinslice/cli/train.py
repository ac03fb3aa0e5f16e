"""thinslice train: train a network as a recipe says, or go on with a run that was interrupted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from thinslice.cli.console import Console, hush_libraries


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", show_default=False, help="What to train, and how.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run; default runs/NAME.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder that the recipe's data paths start from; default THINSLICE_SHARED, else the recipe's folder.",
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; default all cores.")] = None,
    export_now: Annotated[
        bool, typer.Option("--export", help="Do not train: write the unfinished run's weights, to look at them.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Train a network on thin CT, with thick slices simulated from it.

    The run's folder holds state.pt (resumable), log.csv and, at the end, NAME.safetensors with its model card. Stop it
    at any time; the same command goes on where the last state was saved and ends with the same weights.

    \b
    thinslice train recipes/default.toml --data /data/thin-chests
    thinslice upscale thick.nii.gz thin.nii.gz --model runs/default/default.safetensors

    Needs: pip install "thinslice[train]".
    """
    from thinslice.errors import MissingExtraError
    from thinslice.recipes import read_train_recipe

    console = Console(quiet=quiet)
    chosen = read_train_recipe(recipe)
    try:
        from thinslice.training import fit
    except ModuleNotFoundError as error:
        raise MissingExtraError('Training needs more packages: pip install "thinslice[train]".') from error
    hush_libraries()
    folder = out or Path("runs") / chosen.name
    if export_now:
        print(fit.export_state(chosen, folder))
        return
    data_root = data or Path(os.environ.get("THINSLICE_SHARED", recipe.parent))
    weights = fit.fit(
        chosen,
        folder,
        data_root=data_root,
        device=device,
        threads=threads,
        report=lambda line: console.say(
            f"step {line.step} of {line.steps}: loss {line.loss:.4f}, about {line.seconds_left / 60:.0f} min left"
        ),
    )
    print(weights)
