"""The Muon optimiser: steps of equal length in every direction of a kernel.

The gradient of a convolution, as a matrix of output channels by inputs, is nearly of low rank, and so is a step of
Adam: it moves a few directions and hardly moves the others. Muon steps along the nearest matrix with equal singular
values, so it needs fewer steps.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. The length of a step that
suits AdamW's learning rates: Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982. `torch.optim.Muon`
takes only matrices; this one takes kernels of any rank and moves small tensors by AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

SMALLEST = 8192
"""Least number of values of a kernel that Muon moves; AdamW moves smaller ones and vectors."""

MOMENTUM = 0.95
ADAM_DECAYS = (0.9, 0.99)
_TO_ADAMW = 0.2
"""Approximate root mean square of a step of AdamW, in units of the learning rate."""


class Muon(torch.optim.Optimizer):
    """Muon for kernels and matrices of at least `SMALLEST` values, AdamW for all else; one learning rate for both.

    Args:
        parameters: parameters to optimise.
        lr: learning rate, as of AdamW.
        weight_decay: decoupled weight decay, as of AdamW.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        assert closure is None, "a step of Muon evaluates nothing"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                change = self._muon if is_kernel(parameter) else self._adam
                parameter.sub_(change(parameter, self.state[parameter]), alpha=group["lr"])
        return None

    @staticmethod
    def _muon(parameter: nn.Parameter, state: dict[str, Any]) -> torch.Tensor:
        gradient = parameter.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum: torch.Tensor = state["momentum"].mul_(MOMENTUM).add_(gradient)
        matrix = (gradient + MOMENTUM * momentum).flatten(1)
        length: float = _TO_ADAMW * max(matrix.shape) ** 0.5
        return orthogonal(matrix).reshape(parameter.shape).mul_(length)

    @staticmethod
    def _adam(parameter: nn.Parameter, state: dict[str, Any]) -> torch.Tensor:
        gradient = parameter.grad
        assert gradient is not None
        if not state:
            state.update(steps=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
        state["steps"] += 1
        steps: int = state["steps"]
        mean: torch.Tensor = state["mean"].lerp_(gradient, 1.0 - ADAM_DECAYS[0])
        square: torch.Tensor = state["square"].lerp_(gradient.square(), 1.0 - ADAM_DECAYS[1])
        unbiased = (square / (1.0 - ADAM_DECAYS[1] ** steps)).sqrt_().add_(1e-8)
        change: torch.Tensor = mean / (1.0 - ADAM_DECAYS[0] ** steps) / unbiased
        return change


def is_kernel(parameter: torch.Tensor) -> bool:
    """Whether Muon moves a parameter.

    >>> is_kernel(torch.zeros(48, 48, 3, 3, 3)), is_kernel(torch.zeros(48, 4, 3, 3, 3)), is_kernel(torch.zeros(9000))
    (True, False, False)
    """
    return parameter.dim() >= 2 and parameter.numel() >= SMALLEST


def orthogonal(matrix: torch.Tensor, *, iterations: int = 5) -> torch.Tensor:
    """Approximately the nearest matrix whose singular values are all 1; they end between 0.7 and 1.2.

    A quintic Newton-Schulz iteration with coefficients for speed near zero rather than for convergence.

    Args:
        matrix: (rows, columns), any scale.
        iterations: number of iterations; five suffice for singular values that differ by a factor of a thousand.

    Returns:
        Matrix of the same shape, float32.

    >>> values = torch.linalg.svdvals(orthogonal(torch.randn(8, 50, generator=torch.Generator().manual_seed(0))))
    >>> bool(values.min() > 0.6) and bool(values.max() < 1.3)
    True
    """
    x: torch.Tensor = matrix.float()
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-20)
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.T
