"""Command `train`: train a network by a recipe, or continue an interrupted run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinslice.cli.console import Console, hush_libraries
from thinslice.cli.data_folder import data_folder

if TYPE_CHECKING:
    from thinslice.training.fit import LogLine


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", show_default=False, help="Training recipe.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Folder of the run; default: runs/NAME.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Folder that holds the data; default: here, beside the recipe, or THINSLICE_SHARED.",
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a value of the recipe, as in optimiser.steps=500; may be given several times.",
        ),
    ] = None,
    leave_out: Annotated[
        int,
        typer.Option(
            "--leave-out",
            metavar="NUMBER",
            min=0,
            help="Also train without one patient, for so many patients in turn, and score on the one; pairs only.",
        ),
    ] = 0,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="Device: auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="NUMBER", min=1, help="CPU threads; default: all cores.")
    ] = None,
    export_now: Annotated[
        bool, typer.Option("--export", help="Write the weights of an unfinished run instead of training.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
) -> None:
    """Train a network on pairs of a data set, or on thin CT with thick slices simulated from it.

    The run's folder holds state.pt (resumable), log.csv, validation.csv, pictures, TensorBoard events, best and last
    weights and, at the end, NAME.safetensors with its model card. After an interruption the same command continues from
    the last saved state and ends with the same weights. With more optimiser.steps it lengthens a finished run.

    \b
    thinslice train recipes/paper-tvsrn.toml --data /data          /data/RPLHR-CT holds the data set
    thinslice train recipes/finetune.toml --data pairs/ --out runs/mine --leave-out 3      few pairs of your own
    thinslice train recipes/saint.toml --data /data --set crops.plane=128 --set optimiser.batch=2
    torchrun --nproc-per-node 4 -m thinslice train recipes/paper-tvsrn.toml --data /data --set optimiser.batch=4
    thinslice upscale thick.nii.gz thin.nii.gz --model runs/paper-tvsrn/paper-tvsrn.safetensors

    Needs more packages; in a clone of the repository: pip install ".[train]".
    """
    from thinslice.errors import TRAINING_PACKAGES, MissingExtraError
    from thinslice.models import catalog
    from thinslice.recipes import overridden, read_train_recipe

    console = Console(quiet=quiet)
    chosen = overridden(read_train_recipe(recipe), dict(map(_value, values or [])))
    try:
        from thinslice.training import fit
    except ModuleNotFoundError as error:
        raise MissingExtraError(TRAINING_PACKAGES) from error
    hush_libraries()
    catalog.check_config(chosen.network.name, chosen.network.config, where=recipe.name)
    folder = out or Path("runs") / chosen.name
    places = [recipe.parent, *([data] if data is not None else [])]
    if export_now:
        print(fit.export_state(chosen, folder, places=places))
        return
    named = chosen.data if chosen.dataset is None else (chosen.dataset.root,)
    data_root = data_folder(data, named, recipe.parent)
    options: dict[str, Any] = {
        "data_root": data_root,
        "device": device,
        "threads": threads,
        "places": places,
        "report": lambda line: console.note(_as_text(line)),
        "notify": console.note,
    }
    first = os.environ.get("RANK", "0") == "0"
    weights: Path | None
    if leave_out:
        from thinslice.experiments.leave_one_out import table, train_leaving_out

        weights, left_out = train_leaving_out(chosen, folder, leave_out=leave_out, **options)
        if first and not quiet:
            print("\n".join(table(left_out)))
    else:
        weights = fit.fit(chosen, folder, **options)
        if first and chosen.dataset is not None and not chosen.validates and chosen.objective == "output":
            console.note("The weights have not been scored on other patients; --leave-out 3 does that.")
    if first:
        print(weights)


def _value(text: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE; the value is read as TOML, or else as a plain word."""
    import tomllib

    from thinslice.errors import UsageError

    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"--set takes NAME=VALUE, as in --set optimiser.steps=500, not {text!r}.")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def _as_text(line: LogLine) -> str:
    step = f"{line.stage}: step" if line.stage else "step"
    value = f"loss {line.loss:.4g}" if line.psnr is None else f"validation {line.psnr:.3f} dB"
    return f"{step} {line.step} of {line.steps}: {value}, about {line.seconds_left / 60:.0f} min left"
