"""The training objective: the loss, and the outputs of a network that it compares with the truth.

The loop calls one module that maps a batch to a scalar. Networks trained part by part differ only in the objective:
SAINT's first stage compares its two views before fusion, MPU-Net each output of its progressive decoder, and a head for
the standard deviation is compared with the errors of the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, cast

import torch
from torch import nn

from thinslice.errors import ShapeError, UsageError
from thinslice.intensity import WINDOW_MIN_HU, WINDOW_WIDTH_HU
from thinslice.models.base import ThroughPlaneModel
from thinslice.profile import SliceProfile
from thinslice.recipes.training import LossRecipe, Objective

CONTRAST_WINDOWS_HU = ((-1350.0, 150.0), (-160.0, 240.0))
"""Display windows of lung and soft tissue for the contrast-aware loss."""


class Conditions:
    """Inputs of a network beside voxels: factor and slice profile.

    Not a dataclass: Fabric searches dataclasses for tensors to convert, and refuses frozen ones.
    """

    def __init__(self, factor: int, profile: SliceProfile) -> None:
        self.factor, self.profile = factor, profile


class ObjectiveModule(nn.Module):
    """A network together with its loss, so that distributed training has one forward pass.

    Args:
        network: network that is trained.
        objective: "output", "views", "stages" or "deviation" (`thinslice.recipes.training.StageRecipe`).
        recipe: recipe of the loss.

    Raises:
        UsageError: when the network has no such outputs; use "output".
    """

    def __init__(self, network: ThroughPlaneModel, objective: Objective, recipe: LossRecipe) -> None:
        super().__init__()
        able = network.has_deviation if objective == "deviation" else hasattr(network, objective)
        if objective != "output" and not able:
            raise UsageError(
                f"{type(network).__name__} has no {objective} to train on; use objective = 'output' in the recipe."
            )
        self.network, self.objective, self.recipe = network, objective, recipe

    def forward(
        self, thick: torch.Tensor, thin: torch.Tensor, weight: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """The loss of a batch.

        Args:
            thick: (batch, 1, D, H, W), unit intensity.
            thin: (batch, 1, (D - 1) * factor + 1, H, W), unit intensity.
            weight: same shape as `thin`, >= 0; voxels of weight 0 do not count.
            conditions: factor and profile.

        Returns:
            Scalar, float32.
        """
        factor, profile = conditions.factor, conditions.profile
        if self.objective == "views":
            views: Any = cast(Any, self.network).views(thick, factor=factor, profile=profile)
            losses = [loss(view.float(), thin, weight, self.recipe) for view in views]
            return torch.stack(losses).mean()
        if self.objective == "stages":
            *sides, (_, output) = cast(Any, self.network).stages(thick, factor=factor, profile=profile)
            total = loss(output.float(), thin, weight, self.recipe)
            for _, side in sides:
                truth, kept = (resample_depth(a, side.shape[2]) for a in (thin, weight))
                total = total + self.recipe.side_outputs * pixel_loss(side.float(), truth, kept, self.recipe)
            return total
        if self.objective == "deviation":
            estimate, deviation = self.network.with_deviation(thick, factor=factor, profile=profile)
            error_hu = (estimate.detach().float().clamp(0.0, 1.0) - thin) * WINDOW_WIDTH_HU
            # A clipped voxel has no error that a head could learn.
            return surprise(error_hu, deviation.float() * WINDOW_WIDTH_HU, weight * (thin < 1.0), self.recipe)
        output = self.network(thick, factor=factor, profile=profile)
        _check_shape(self.network, thick, thin, output)
        return loss(output.float(), thin, weight, self.recipe)


def _check_shape(network: nn.Module, thick: torch.Tensor, thin: torch.Tensor, output: object) -> None:
    """Refuse a plug-in network whose output has another shape than the contract gives it."""
    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if found != tuple(thin.shape):
        raise ShapeError(
            f"The network {type(network).__name__} returns {found} for crops of {tuple(thick.shape)}, where "
            f"{tuple(thin.shape)} is wanted: (batch, 1, (D - 1) * factor + 1, height, width); correct its forward()."
        )


def loss(estimate: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor, recipe: LossRecipe) -> torch.Tensor:
    """The loss of thin slices.

    Args:
        estimate: (batch, 1, T, H, W), unit intensity.
        truth: same shape.
        weight: same shape, >= 0.
        recipe: terms of the loss and their weights.

    Returns:
        Scalar.
    """
    if recipe.trim:
        kept = slice(recipe.trim, estimate.shape[2] - recipe.trim)
        estimate, truth, weight = (a[:, :, kept] for a in (estimate, truth, weight))
    total = pixel_loss(estimate, truth, weight, recipe)
    if recipe.gradient:
        total = total + recipe.gradient * gradient_difference(estimate, truth, weight)
    if recipe.contrast:
        differences = [
            weighted_mean((_display(estimate, window) - _display(truth, window)).abs(), weight)
            for window in CONTRAST_WINDOWS_HU
        ]
        total = total + recipe.contrast * torch.stack(differences).mean()
    return total


def pixel_loss(estimate: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor, recipe: LossRecipe) -> torch.Tensor:
    """The loss by voxel: L1, squares, or Huber in units of the knee.

    Below the knee, Huber's loss is the squared error that PSNR measures; above it, bone edges and metal count linearly
    and do not dominate.
    """
    error = estimate - truth
    if recipe.kind == "l1":
        return weighted_mean(error.abs(), weight)
    if recipe.kind == "mse":
        return weighted_mean(error.square(), weight)
    scaled = error * (WINDOW_WIDTH_HU / recipe.knee_hu)
    return weighted_mean(nn.functional.huber_loss(scaled, torch.zeros_like(scaled), reduction="none"), weight)


STUDENT_FREEDOM = 4.0
"""Degrees of freedom of the loss "student"."""


def surprise(error: torch.Tensor, deviation: torch.Tensor, weight: torch.Tensor, recipe: LossRecipe) -> torch.Tensor:
    """Mean negative log-likelihood of errors under a distribution with a standard deviation, less a constant.

    Each is a proper score: if the errors have this distribution, the expected score is least at their true standard
    deviation. The Gaussian follows rare large errors, the Laplace distribution the mean absolute error, Student's lies
    between.

    Args:
        error: (batch, 1, T, H, W), any unit.
        deviation: same shape and unit, above 0.
        weight: same shape, >= 0.
        recipe: distribution (`deviation`) and slices that do not count (`trim`).

    Returns:
        Scalar.

    >>> error = torch.randn(1, 1, 1, 100, 100, generator=torch.Generator().manual_seed(0)) * 5.0
    >>> recipe = LossRecipe(deviation="gaussian")
    >>> low, true, high = (surprise(error, torch.full_like(error, s), torch.ones_like(error), recipe)
    ...                    for s in (4.0, 5.0, 6.0))
    >>> bool(true < low) and bool(true < high)
    True
    """
    if recipe.trim:
        kept = slice(recipe.trim, error.shape[2] - recipe.trim)
        error, deviation, weight = (a[:, :, kept] for a in (error, deviation, weight))
    if recipe.deviation == "gaussian":
        values = deviation.log() + 0.5 * (error / deviation).square()
    elif recipe.deviation == "laplace":
        values = deviation.log() + math.sqrt(2.0) * error.abs() / deviation
    else:
        freedom = STUDENT_FREEDOM
        # The scale of Student's distribution is sqrt((n - 2) / n) of its standard deviation.
        values = deviation.log() + 0.5 * (freedom + 1.0) * torch.log1p((error / deviation).square() / (freedom - 2.0))
    return weighted_mean(values, weight)


def gradient_difference(estimate: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """L1 distance between the differences of each voxel to its neighbours in estimate and truth.

    The 26 neighbours form 13 pairs of opposite directions with equal differences, so 13 directions are averaged.

    Source: Ge et al., MICCAI 2019 (ResVox), the gradient-difference term of the generator's loss.

    >>> flat, ramp = torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2)
    >>> ramp[0, 0, 1] = 1.0
    >>> round(float(gradient_difference(ramp, flat, torch.ones_like(flat))), 4)  # 9 of 13 directions cross it
    0.6923
    """
    error = estimate - truth
    terms = []
    for shift in half_neighbourhood():
        back = (-shift[0], -shift[1], -shift[2])
        difference = _moved(error, shift) - _moved(error, back)
        if difference.numel():
            both = torch.minimum(_moved(weight, shift), _moved(weight, back))
            terms.append(weighted_mean(difference.abs(), both))
    return torch.stack(terms).mean() if terms else error.sum() * 0.0


def half_neighbourhood() -> Iterator[tuple[int, int, int]]:
    """The 13 directions to the 26 neighbours, one of each two opposite ones.

    >>> len(list(half_neighbourhood()))
    13
    """
    for z, y, x in product((-1, 0, 1), repeat=3):
        if (z, y, x) > (0, 0, 0):
            yield z, y, x


def _moved(volume: torch.Tensor, shift: tuple[int, int, int]) -> torch.Tensor:
    """Voxels that have a neighbour at minus `shift`: (batch, 1, depth, height, width)."""
    for axis, step in enumerate(shift, start=2):
        extent = volume.shape[axis]
        volume = volume.narrow(axis, max(0, step), max(0, extent - abs(step)))
    return volume


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean of values; 0 where all weights are 0."""
    return (values * weight).sum() / weight.sum().clamp(min=1.0)


def resample_depth(volume: torch.Tensor, depth: int) -> torch.Tensor:
    """Linear interpolation along z with the first and last slice kept: (batch, 1, T, H, W) to (batch, 1, depth, H, W).

    >>> resample_depth(torch.arange(3.0).view(1, 1, 3, 1, 1), 5).flatten().tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    if volume.shape[2] == depth:
        return volume
    return nn.functional.interpolate(volume, size=(depth, *volume.shape[3:]), mode="trilinear", align_corners=True)


def _display(unit: torch.Tensor, window_hu: tuple[float, float]) -> torch.Tensor:
    """Unit intensity as a display window shows it, in [0, 1]."""
    low, high = ((edge - WINDOW_MIN_HU) / WINDOW_WIDTH_HU for edge in window_hu)
    return ((unit - low) / (high - low)).clamp(0.0, 1.0)
