"""Memory of a training step, estimated before the first one from steps on small crops.

The memory of a step grows in proportion to the area of its crops, but what kernels of convolutions take beside
activations follows no formula. So a step on a small crop is measured, the smallest that takes `ENOUGH_BYTES`.
"""

from __future__ import annotations

import copy

import torch

from thinslice.errors import ResourceError, ThinsliceError
from thinslice.profile import SliceProfile
from thinslice.recipes import TrainRecipe
from thinslice.system.resources import PeakMemory, available_memory_bytes
from thinslice.training.objective import Conditions, ObjectiveModule

SIDES = (32, 64, 96, 128, 192, 256, 384, 512)
"""Sides of the small crops in turn, pixels; the first only warms up. Windows of 8 and 16 divide them."""

ENOUGH_BYTES = 512 << 20
"""Memory of a small step in which what libraries take once no longer counts."""

LEAST_VOXELS = 1 << 18
"""Thin voxels of a pass below which no estimate is made: small crops fit anywhere, and are trained at once."""

_SPARE = 1.1
"""How much more a step may take than in proportion."""


def pass_extent(recipe: TrainRecipe, factor: int, micro_batch: int) -> tuple[int, int, int]:
    """(crops, thick slices, side in pixels) of a forward pass, the largest that the recipe draws."""
    parts = [recipe.simulation if recipe.dataset is None else recipe.crops]
    if recipe.dataset is not None and recipe.dataset.simulated_share:
        parts.append(recipe.simulation)
    return micro_batch, max(part.depth for part in parts), max(part.plane for part in parts)


def estimate_step_bytes(
    module: ObjectiveModule, device: torch.device, extent: tuple[int, int, int], factor: int
) -> int | None:
    """Memory that a step takes beyond what the process holds before it, bytes.

    Args:
        module: network and loss; it is copied, and keeps its weights and gradients.
        device: the device that trains.
        extent: of a forward pass (`pass_extent`).
        factor: thin slices per thick interval.

    Returns:
        The estimate; None where the network does not take small crops, or the system reports no peaks.
    """
    crops, depth, plane = extent
    thin_depth = (depth - 1) * factor + 1
    if crops * thin_depth * plane**2 < LEAST_VOXELS or plane < SIDES[1]:
        return None
    probe = copy.deepcopy(module)
    free = _free_bytes(device)
    taken, side = 0, 0
    for side in SIDES:
        try:
            measured = _measured(probe, device, (depth, thin_depth, side), factor)
        except (ThinsliceError, RuntimeError, ValueError):
            # A network of one size of plane; a shortage ends the first real step with its own message.
            return None
        if measured is None:
            return None
        taken = measured
        larger = next((other for other in SIDES if side < other <= plane), None)
        done = side > SIDES[0] and taken >= ENOUGH_BYTES
        if larger is None or done or (free is not None and taken * (larger / side) ** 2 > free / 2):
            break
    moments = 8 * sum(parameter.numel() for parameter in probe.parameters() if parameter.requires_grad)
    return int(_SPARE * taken * crops * plane**2 / side**2) + moments


def require_step(needed: int, device: torch.device) -> str:
    """A sentence on the memory of a step, or a refusal.

    Args:
        needed: from `estimate_step_bytes`.
        device: the device that trains.

    Raises:
        ResourceError: less is free; lower micro_batch or the crops, or use another machine.
    """
    free = _free_bytes(device)
    sentence = f"a training step needs about {needed / 2**30:.1f} GiB of memory"
    if free is None:
        return sentence
    if needed > free:
        raise ResourceError(
            f"A training step needs about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free; "
            "lower optimiser.micro_batch, crops.plane or crops.depth (of simulated crops simulation.plane or "
            "simulation.depth), or use a machine with more memory."
        )
    return f"{sentence}; {free / 2**30:.1f} GiB are free"


def _measured(probe: ObjectiveModule, device: torch.device, shape: tuple[int, int, int], factor: int) -> int | None:
    depth, thin_depth, side = shape
    generator = torch.Generator().manual_seed(0)
    thick = torch.rand(1, 1, depth, side, side, generator=generator).to(device)
    thin = torch.rand(1, 1, thin_depth, side, side, generator=generator).to(device)
    conditions = Conditions(factor, SliceProfile.mean(factor))
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        probe(thick, thin, torch.ones_like(thin), conditions).backward()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    with PeakMemory() as memory:
        probe(thick, thin, torch.ones_like(thin), conditions).backward()
    probe.zero_grad(set_to_none=True)
    return None if memory.added_mib is None else int(memory.added_mib * 2**20)


def _free_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory_bytes() if device.type == "cpu" else None
