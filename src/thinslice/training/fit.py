"""Training by a recipe: one run, or several stages one after the other.

Stages serve networks that are trained part by part (SAINT's views, then their fusion). Each stage is a run in a folder
of its own, starts from the weights of the stage before, and trains the parameters that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from thinslice.errors import UsageError
from thinslice.models import checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.recipes import TrainRecipe
from thinslice.recipes.slice_profile import read_slice_profile
from thinslice.training import loop
from thinslice.training.export import PROFILE_FILE, export
from thinslice.training.loop import LogLine, RunOptions
from thinslice.training.optimiser import RunningAverage, ValidationHistory, make_optimiser
from thinslice.training.run_folder import run_folder
from thinslice.training.setup import initial_weights, make_fabric, passes_count, starting_network
from thinslice.training.state import Origin, Run
from thinslice.typing import Notify

__all__ = ["LogLine", "export_state", "fit"]


def fit(
    recipe: TrainRecipe,
    out: Path,
    *,
    data_root: Path,
    device: str = "auto",
    threads: int | None = None,
    stop_after_s: float | None = None,
    places: Sequence[Path] = (),
    report: Callable[[LogLine], None] | None = None,
    notify: Notify | None = None,
) -> Path | None:
    """Train by a recipe, continue an interrupted run, or lengthen a finished one.

    Processes started by torchrun share each batch. In a folder that holds a run, values that change no weight may
    differ (`thinslice.recipes.continuation.HARMLESS`), and `optimiser.steps` may be raised.

    Args:
        recipe: recipe of the run.
        out: folder of the run; created when missing.
        data_root: folder that holds the recipe's relative data paths.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: CPU threads; None for torch's default.
        stop_after_s: seconds after which the state is saved and training stops; None for no limit.
        places: folders, beside the current one, that a relative `start` of the recipe may lie in.
        report: called with each line of the log, and after the first step, in the first process.
        notify: called with lines about what is trained and read, and about an interruption, in the first process.

    Returns:
        The weights file, or None when stopped before the end.

    Raises:
        UsageError: when the folder holds another run; restore the values that the message names, or choose another
            folder. When the processor cannot do the precision, or nothing is left to train on; correct the recipe.
        UnreadableError: when a data path holds no volume; correct the path.
        InputError: when a case is corrupt or misaligned; the message names the case to repair.
        ModelError: when the loss is no longer finite; the last saved state is kept. Lower the learning rate.
        DeviceError: when the device is missing; choose another.
        OutputBusyError: when another training runs in the folder; wait for it, or choose another folder.
        OutputError, ResourceError: when the folder is a file or cannot be written, or the disk is full; choose another
            place, or free some space.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the state is saved; the same command continues.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    fabric = make_fabric(device, recipe.precision)
    with run_folder(out, holds=fabric.is_global_zero):
        options = RunOptions(fabric, data_root, stop_after_s, report, notify, tuple(places))
        return _staged(recipe, out, options) if recipe.stages else loop.run(recipe, out, options)


def _staged(recipe: TrainRecipe, out: Path, options: RunOptions) -> Path | None:
    """Train the stages of a recipe one after the other; arguments and result as for `loop.run`."""
    weights: Path | None = None
    start = initial_weights(recipe, options.places)
    for index, stage in enumerate(recipe.stages):
        weights = loop.run(recipe.at_stage(index), out / stage.name, options, start=weights, stage=stage.name)
        if weights is None:
            return None
    assert weights is not None
    final = out / f"{recipe.name}.safetensors"
    if options.fabric.is_global_zero:
        last = checkpoint.inspect(weights).card
        export(
            recipe,
            checkpoint.load(weights),
            final,
            steps=sum(stage.steps for stage in recipe.stages),
            initial=None if start is None else checkpoint.inspect(start),
            data=last.get("training_data", {}).get("cases"),
        )
    options.fabric.barrier()
    return final


def export_state(recipe: TrainRecipe, out: Path, *, places: Sequence[Path] = ()) -> Path:
    """Write the weights of an unfinished run; of a run in stages, those of the last stage that has started.

    Args:
        recipe: recipe of the run.
        out: folder of the run.
        places: as for `fit`.

    Returns:
        The weights file.

    Raises:
        UsageError: when the folder holds no state of this recipe; check the folder.
    """
    parts: list[tuple[TrainRecipe, Path]] = [(recipe, out)]
    if recipe.stages:
        parts = [(recipe.at_stage(i), out / s.name) for i, s in enumerate(recipe.stages)]
    for number, (part, folder) in reversed([*enumerate(parts)]):
        network, initial = starting_network(part, initial_weights(part, places))
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        average = RunningAverage(network, part.optimiser.average, part.optimiser.start_share)
        # Later stages began with the weights of the stage before, which is not asked here.
        began = None if number else "" if initial is None else initial.sha256
        origin = Origin(part, began, passes_count(part, network))
        run = Run(origin, network, average, make_optimiser(trainable, part.optimiser), ValidationHistory())
        if run.load(folder) and run.step:
            kept = average.kept()
            assert isinstance(kept, ThroughPlaneModel)
            measured = read_slice_profile(folder / PROFILE_FILE) if (folder / PROFILE_FILE).is_file() else None
            final = out / f"{recipe.name}.safetensors"
            return export(
                recipe,
                kept,
                final,
                steps=run.step,
                initial=initial,
                profile=measured,
                data=run.origin.data,
                schedule=run.schedule,
            )
    raise UsageError(f"{out} holds no training state yet.")
