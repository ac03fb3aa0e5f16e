"""Parts of a training step beside the loss: optimiser, learning rate, history of validations, running average."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from thinslice.recipes import OptimiserRecipe
from thinslice.training.muon import Muon


def make_optimiser(parameters: Iterable[nn.Parameter], recipe: OptimiserRecipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe; the loop sets its learning rate before each step."""
    if recipe.method == "muon":
        return Muon(parameters, lr=0.0, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.method == "adam" else torch.optim.AdamW
    return kind(parameters, lr=0.0, weight_decay=recipe.weight_decay)


class Span(NamedTuple):
    """A part of a run with one length of the schedule.

    Attributes:
        first: its first step, from 0.
        steps: steps of the whole run as the recipe gave them then.
    """

    first: int
    steps: int


def learning_rate(
    step: int, recipe: OptimiserRecipe, *, plateau: float = 1.0, spans: Sequence[Span] | None = None
) -> float:
    """Learning rate of a step: linear warm-up, then the schedule.

    A run that was lengthened follows the longer schedule from there: over `warmup` steps its learning rate passes
    linearly from that of the shorter schedule to that of the longer one.

    Args:
        step: number of the step, from 0.
        recipe: recipe of the optimiser.
        plateau: product of the factors that the plateau schedule has applied so far.
        spans: lengths of the run in order; None for `recipe.steps` all along.

    >>> recipe = OptimiserRecipe(steps=100, warmup=10, learning_rate=1.0)
    >>> learning_rate(0, recipe), learning_rate(10, recipe), round(learning_rate(55, recipe), 3)
    (0.1, 1.0, 0.5)
    >>> learning_rate(55, OptimiserRecipe(schedule="constant", warmup=0, learning_rate=1e-4))
    0.0001

    Lengthened from 100 to 200 steps at its end, where the cosine of 100 steps has reached 0, it rises in 10 steps:

    >>> spans = [Span(0, 100), Span(100, 200)]
    >>> [round(learning_rate(step, recipe, spans=spans), 3) for step in (99, 100, 104, 109, 110, 155)]
    [0.0, 0.054, 0.254, 0.467, 0.459, 0.132]
    """
    if spans is not None:
        rate = _of_length(step, recipe, spans[0].steps, plateau)
        for span in spans[1:]:
            if step >= span.first:
                share = min(1.0, (step - span.first + 1) / max(1, recipe.warmup))
                rate += share * (_of_length(step, recipe, span.steps, plateau) - rate)
        return rate
    return _of_length(step, recipe, recipe.steps, plateau)


def _of_length(step: int, recipe: OptimiserRecipe, steps: int, plateau: float) -> float:
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if recipe.schedule == "plateau":
        return recipe.learning_rate * plateau
    done = (step - recipe.warmup) / max(1, steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


@dataclass
class ValidationHistory:
    """The validations so far: the best one, and what plateau schedule and early stopping need.

    Attributes:
        best: highest PSNR so far, dB.
        best_step: optimiser steps done at the best validation.
        waiting: validations since the best one.
        plateau: factor of the learning rate.
        waiting_plateau: validations since the best one or since the learning rate was last lowered.
    """

    best: float = -math.inf
    best_step: int = 0
    waiting: int = 0
    plateau: float = 1.0
    waiting_plateau: int = 0

    def add(self, psnr: float, step: int, recipe: OptimiserRecipe) -> bool:
        """Record a validation; returns whether it is the best so far.

        >>> recipe = OptimiserRecipe(schedule="plateau", plateau_patience=1, plateau_factor=0.5)
        >>> history = ValidationHistory()
        >>> [history.add(psnr, step, recipe) for step, psnr in enumerate([30.0, 31.0, 30.5, 30.9])]
        [True, True, False, False]
        >>> history.best, history.best_step, history.waiting, history.plateau
        (31.0, 1, 2, 0.5)
        """
        if psnr > self.best:
            self.best, self.best_step, self.waiting, self.waiting_plateau = psnr, step, 0, 0
            return True
        self.waiting += 1
        self.waiting_plateau += 1
        if recipe.schedule == "plateau" and self.waiting_plateau > recipe.plateau_patience:
            self.plateau *= recipe.plateau_factor
            self.waiting_plateau = 0
        return False


class RunningAverage:
    """An exponential running average of a network's weights, which is validated and kept at the end.

    Args:
        network: network that is trained, with its weights before the first step.
        decay: decay of the average by step; 0 for no average.
        start_share: share of the weights before the first step in those that are kept.

    Attributes:
        network: copy of the network that holds the average; with decay 0 the network itself.

    Source of the share: Wortsman et al., CVPR 2022 (WiSE-FT): weights halfway between a network and what it became by
    fine-tuning do well on old and new data.
    """

    def __init__(self, network: nn.Module, decay: float, start_share: float = 0.0) -> None:
        self.decay, self.start_share = decay, start_share
        self._start = [p.detach().clone() for p in network.parameters()] if start_share else []
        self.network = copy.deepcopy(network).eval().requires_grad_(False) if decay else network

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network; the first steps move it further."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for kept, new in zip(self.network.parameters(), network.parameters(), strict=True):
            kept.lerp_(new, 1.0 - decay)
        for held, fresh in zip(self.network.buffers(), network.buffers(), strict=True):
            held.copy_(fresh)

    @torch.no_grad()
    def kept(self) -> nn.Module:
        """The network that is validated and kept: the average, drawn towards the start."""
        if not self.start_share:
            return self.network
        blend = copy.deepcopy(self.network).eval().requires_grad_(False)
        for parameter, start in zip(blend.parameters(), self._start, strict=True):
            parameter.lerp_(start.to(parameter.device), self.start_share)
        return blend
