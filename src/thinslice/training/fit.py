"""Training as a recipe says: one run, or several stages one after the other.

Stages are for networks trained part by part (SAINT's views, then their fusion): each is a run of its own in a folder of
its own, starts from the weights the last one left, and moves the parameters it names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from thinslice.errors import UsageError
from thinslice.models import catalog, checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.recipes import TrainRecipe
from thinslice.training import loop
from thinslice.training.export import export
from thinslice.training.loop import LogLine
from thinslice.training.optimiser import RunningAverage, ValidationHistory, make_optimiser
from thinslice.training.state import Run

__all__ = ["LogLine", "export_state", "fit"]


def fit(
    recipe: TrainRecipe,
    out: Path,
    *,
    data_root: Path,
    device: str = "auto",
    threads: int | None = None,
    stop_after_s: float | None = None,
    report: Callable[[LogLine], None] | None = None,
) -> Path | None:
    """Train as the recipe says, or go on with a run that was interrupted.

    Started by torchrun, the processes share each batch.

    Args:
        recipe: what to do.
        out: folder of the run; made when missing.
        data_root: folder that the recipe's relative data paths start from.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: CPU threads; None for torch's default.
        stop_after_s: save the state and return after so many seconds; None to go on to the end.
        report: called with each line of the log, in the first process.

    Returns:
        The weights file, or None when stopped before the end.

    Raises:
        UsageError: when the folder holds a run of another recipe.
        UnreadableError: when a data path holds no volume.
        InputError: when a case is corrupt or misaligned; it is named.
        ModelError: when the loss stops being finite; the last saved state is kept.
        DeviceError: when the device is missing.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    fabric = loop.make_fabric(device, recipe.precision)
    if not recipe.stages:
        return loop.run(recipe, out, fabric=fabric, data_root=data_root, stop_after_s=stop_after_s, report=report)
    weights: Path | None = None
    begun = None if recipe.start is None else checkpoint.inspect(catalog.weights_of(recipe.start))
    for index, stage in enumerate(recipe.stages):
        weights = loop.run(
            recipe.at_stage(index),
            out / stage.name,
            fabric=fabric,
            data_root=data_root,
            start=weights,
            stage=stage.name,
            stop_after_s=stop_after_s,
            report=report,
        )
        if weights is None:
            return None
    assert weights is not None
    final = out / f"{recipe.name}.safetensors"
    if fabric.is_global_zero:
        export(recipe, checkpoint.load(weights), final, steps=sum(stage.steps for stage in recipe.stages), begun=begun)
    fabric.barrier()
    return final


def export_state(recipe: TrainRecipe, out: Path) -> Path:
    """Write the kept weights of an unfinished run, to look at them before the end.

    Of a run in stages, those of the last stage that has begun.

    Raises:
        UsageError: when the folder holds no state of this recipe.
    """
    places: list[tuple[TrainRecipe, Path]] = [(recipe, out)]
    if recipe.stages:
        places = [(recipe.at_stage(i), out / s.name) for i, s in enumerate(recipe.stages)]
    for number, (part, folder) in reversed([*enumerate(places)]):
        network, begun = loop.starting_network(part)
        moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
        average = RunningAverage(network, part.optimiser.average)
        key = loop.run_key(part, None if number else begun)
        at = Run(key, network, average, make_optimiser(moving, part.optimiser), ValidationHistory())
        if at.load(folder) and at.step:
            assert isinstance(average.network, ThroughPlaneModel)
            return export(recipe, average.network, out / f"{recipe.name}.safetensors", steps=at.step, begun=begun)
    raise UsageError(f"{out} holds no training state yet.")
