"""Everything of a run that is settled before its data are read: device, precision, network and initial weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from thinslice.errors import UsageError
from thinslice.inference.backends.choice import choose_device
from thinslice.models import catalog, checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.swin import StochasticDepth
from thinslice.models.checkpoint import CheckpointInfo
from thinslice.recipes import TrainRecipe


def make_fabric(device: str, precision: str) -> Fabric:
    """Lightning Fabric for this process, which runs alone or was started by torchrun.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: Fabric's name of the precision, such as "32-true".

    Raises:
        UsageError: no such device, or float16 on a CPU, which Fabric would exchange for bfloat16; choose another
            device or precision.
        DeviceError: when the device is missing; use "cpu" or "auto".
    """
    chosen = choose_device(device)
    kind, _, number = chosen.partition(":")
    if kind == "cpu" and precision == "16-mixed":
        raise UsageError(
            "The precision '16-mixed' (float16) needs a GPU, and this training would run on the CPU; set precision to "
            "'bf16-mixed' or '32-true' in the recipe."
        )
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        devices: int | list[int] = [int(number)] if number else 1
        return Fabric(accelerator=kind, devices=devices, precision=precision)  # type: ignore[arg-type]
    fabric = Fabric(
        accelerator=kind,
        devices=processes,
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        strategy=DDPStrategy(process_group_backend="gloo" if kind == "cpu" else "nccl"),
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def initial_weights(recipe: TrainRecipe, places: Sequence[Path] = ()) -> Path | None:
    """The weights file that `start` of a recipe names; None where it names none.

    Args:
        recipe: recipe of the run.
        places: folders that a relative path may start from, beside the current one, which comes first.

    Raises:
        UsageError: when no place has the file; the message names the places.
        CheckpointError: for a network of the catalog without weights.
    """
    if recipe.start is None:
        return None
    if recipe.start not in catalog.CATALOG:
        searched = list(dict.fromkeys(place.resolve() for place in (Path(), *places)))
        for place in searched:
            if (place / recipe.start).is_file():
                return place / recipe.start
        if recipe.start not in catalog.names():
            raise UsageError(
                f"The recipe's start, {recipe.start!r}, is neither a network with weights nor a weights file in "
                f"{', '.join(map(str, searched))}; correct start in the recipe."
            )
    return catalog.weights_of(recipe.start)


def starting_network(recipe: TrainRecipe, start: Path | None = None) -> tuple[ThroughPlaneModel, CheckpointInfo | None]:
    """The network at the start of a run; parameters that are not trainable are frozen.

    Args:
        recipe: recipe of the run, or of one stage.
        start: initial weights (`initial_weights`), or those of an earlier stage; None for random ones.

    Returns:
        The network, and the facts about the weights (None for random ones).

    Raises:
        UsageError: when no parameter is trainable; correct `trainable`.
        CheckpointError: when the weights do not fit. They may lack tensors that the recipe's config adds and the run
            trains.
    """
    initial = None if start is None else checkpoint.inspect(start)
    config = {**(initial.config if initial is not None else {}), **recipe.network.config}
    network = catalog.build(recipe.network.name, **config)
    if start is not None:
        loaded = checkpoint.load(start).state_dict()
        # Tensors that the run trains by name, and that the initial weights may lack.
        named = tuple(prefix for prefix in recipe.trainable if prefix)
        fresh = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(named)}
        network_tensors = {**fresh, **loaded}
        checkpoint.check_fit(network, {name: tuple(t.shape) for name, t in network_tensors.items()}, start.name)
        network.load_state_dict(network_tensors)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(recipe.trainable))
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(f"No parameter of {recipe.network.name!r} begins with {' or '.join(recipe.trainable)}.")
    return network.train(), initial


def passes_count(recipe: TrainRecipe, network: ThroughPlaneModel) -> bool:
    """Whether the number of crops in a forward pass (`optimiser.micro_batch`) changes the weights beyond rounding.

    It does where a pass draws random numbers, and where voxels have weights, so that a pass of fewer ones counts as
    much. Of plug-in networks neither is known.
    """
    draws = any(isinstance(module, StochasticDepth) and module.rate for module in network.modules())
    pairs_alone = recipe.dataset is not None and not recipe.dataset.simulated_share and recipe.objective != "deviation"
    return draws or not pairs_alone or recipe.network.name not in catalog.CATALOG
