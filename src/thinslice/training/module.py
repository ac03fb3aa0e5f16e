"""What one step of training does, apart from the loop: the loss, the learning rate, the running average."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from thinslice.intensity import WINDOW_WIDTH_HU
from thinslice.recipes import OptimiserRecipe


def huber_hu(estimate: torch.Tensor, reference: torch.Tensor, weight: torch.Tensor, *, knee_hu: float) -> torch.Tensor:
    """Weighted mean Huber loss in units of the knee: square below `knee_hu`, absolute above.

    Squares below the knee make it the loss that PSNR measures; the knee keeps bone edges and metal from ruling it.

    Args:
        estimate: unit intensity, any shape.
        reference: the same shape.
        weight: the same shape, >= 0; voxels of weight 0 do not count.
        knee_hu: error in HU at which the square turns into a line.

    Returns:
        Scalar.
    """
    error = (estimate - reference) * (WINDOW_WIDTH_HU / knee_hu)
    loss = nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def learning_rate(step: int, recipe: OptimiserRecipe) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to zero.

    >>> recipe = OptimiserRecipe(steps=100, warmup=10, learning_rate=1.0)
    >>> learning_rate(0, recipe), learning_rate(10, recipe), round(learning_rate(55, recipe), 3)
    (0.1, 1.0, 0.5)
    """
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


class RunningAverage:
    """An exponential running average of a network's weights; what is kept at the end.

    Attributes:
        network: a copy of the network that holds the average.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network; early on it follows faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for kept, new in zip(self.network.parameters(), network.parameters(), strict=True):
            kept.lerp_(new, 1.0 - decay)
        for held, fresh in zip(self.network.buffers(), network.buffers(), strict=True):
            held.copy_(fresh)
