"""Scores on whole validation volumes, upscaled with the window plan of inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from thinslice.data.cache import CachedPair
from thinslice.evaluation.protocol import evaluate
from thinslice.inference.upscale import upscale
from thinslice.models.base import ThroughPlaneModel
from thinslice.pictures.figures import comparison
from thinslice.recipes import ValidationRecipe
from thinslice.recipes.slice_profile import MeasuredProfile
from thinslice.volume import Volume


@dataclass(frozen=True)
class Validation:
    """Mean scores over cases under protocol `rplhr`.

    Attributes:
        psnr: mean PSNR, dB.
        ssim: mean SSIM over slices, then cases.
        cases: number of cases.
        picture: PNG of the first case; empty where the recipe wants none.
    """

    psnr: float
    ssim: float
    cases: int
    picture: bytes = b""


def validate(
    network: ThroughPlaneModel,
    pairs: Sequence[CachedPair],
    recipe: ValidationRecipe,
    fabric: Fabric,
    profile: MeasuredProfile | None = None,
) -> Validation:
    """Score a network on validation pairs; processes share the cases.

    Args:
        network: network in any mode; the mode is restored.
        pairs: all validation pairs, the same in every process.
        recipe: number of cases, part of the plane, pictures.
        fabric: Fabric of the run.
        profile: slice profile of the pairs; None for the box of their slice thickness.

    Returns:
        The mean scores, the same in every process.
    """
    was_training = network.training
    # Scores of one run are comparable only in one arithmetic: torch's float32.
    device, chosen = str(fabric.device), list(pairs)[: recipe.cases]
    sums = torch.zeros(2, dtype=torch.float64)
    picture = b""
    for index in range(fabric.global_rank, len(chosen), fabric.world_size):
        thick, thin = as_volumes(chosen[index], recipe.plane)
        factor = chosen[index].factor
        estimate = upscale(thick, model=network, factor=factor, device=device, backend="torch", profile=profile)
        scores = evaluate(estimate, thin)
        sums += torch.tensor([scores.psnr, scores.ssim], dtype=torch.float64)
        if index == 0 and recipe.pictures:
            cubic = upscale(thick, model="cubic", factor=factor, device="cpu")
            picture = comparison({"thick": thick, "cubic": cubic, "network": estimate}, thin)
    network.train(was_training)
    total = fabric.all_reduce(fabric.to_device(sums), reduce_op="sum") if fabric.world_size > 1 else sums
    psnr, ssim = (float(value) / len(chosen) for value in total)
    return Validation(psnr, ssim, len(chosen), picture)


def as_volumes(pair: CachedPair, plane: int | None = None) -> tuple[Volume, Volume]:
    """Thick and thin volumes of a cached pair.

    Args:
        pair: voxels in HU.
        plane: side in pixels of the central part; None for the whole plane.
    """
    height, width = pair.thin.shape[1:]
    middle = tuple(
        slice(0, extent) if plane is None or plane >= extent else slice((extent - plane) // 2, (extent + plane) // 2)
        for extent in (height, width)
    )

    return pair.volumes((middle[0], middle[1]))
