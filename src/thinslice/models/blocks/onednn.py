"""Linear layers and convolutions on a CPU through oneDNN, which torch contains but does not always use.

torch gives float32 matrix products to MKL, which does not use the widest instructions of processors that are not
Intel's: oneDNN takes half the time there, and no more elsewhere. torch gives convolutions to oneDNN, but not where
channels x depth x rows come to 20,480 or fewer: a window of few slices then takes fifteen times as long
(speed/convolutions.py). oneDNN also applies the activation after a layer while its output is still in registers.

torch does not document these two operators. They are reached through `operators` alone, which tries them once per
process on a small case. Where one is missing or gives other numbers, and wherever gradients or a graph are recorded,
the functions below use the ordinary layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import nn

from thinslice.models.blocks.pieces import Padding, runs_in_pieces

AGREEMENT = 1e-5
"""Largest difference from the ordinary layer in the trial, whose results are of the order of 1."""


class Operators(NamedTuple):
    """The undocumented operators of torch.

    Attributes:
        linear: (x, weight, bias, activation, its scalars, its algorithm) -> activation of the linear layer.
        convolution: (x, weight, bias, padding, stride, dilation, groups, activation, its scalars, its algorithm) ->
            activation of the convolution.
    """

    linear: Callable[..., torch.Tensor]
    convolution: Callable[..., torch.Tensor]


@cache
def operators() -> Operators | None:
    """oneDNN's operators; None where one is missing or its results differ from the ordinary layer's beyond rounding."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    # Made without the global random state, which training draws from.
    at = torch.arange(48 * 24, dtype=torch.float32).view(48, 24)
    x, weight, bias = at.sin(), at[:32].cos() / 24, at[:32, 0].sin()
    product = F.linear(x, weight, bias)
    cube, kernel = at[:, :20].reshape(1, 16, 3, 4, 5).sin(), at[:36].reshape(2, 16, 3, 3, 3).cos() / 24
    convolved = F.conv3d(cube, kernel, bias[:2], padding=1)
    one = (1, 1, 1)
    try:
        found = Operators(torch.ops.mkldnn._linear_pointwise, torch.ops.mkldnn._convolution_pointwise)
        pairs = [
            (found.linear(x, weight, bias, "none", [], ""), product),
            (found.linear(x, weight, bias, "gelu", [], "none"), F.gelu(product)),
            (found.convolution(cube, kernel, bias[:2], one, one, one, 1, "none", [], ""), convolved),
            (found.convolution(cube, kernel, bias[:2], one, one, one, 1, "relu", [], ""), convolved.relu()),
        ]
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return None
    agree = all(torch.allclose(ours, expected, rtol=0, atol=AGREEMENT) for ours, expected in pairs)
    return found if agree else None


def linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    """`layer(x)`; x: (..., inputs), the result (..., outputs)."""
    if (fast := _usable(x, layer.weight, layer.bias)) is not None:
        return fast.linear(x, layer.weight, layer.bias, "none", [], "")
    result: torch.Tensor = layer(x)
    return result


def linear_gelu(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    """Exact GELU of `layer(x)`; x: (..., inputs), the result (..., outputs).

    >>> layer, x = nn.Linear(8, 4), torch.ones(2, 8)
    >>> with torch.inference_mode():
    ...     bool(torch.allclose(linear_gelu(x, layer), F.gelu(layer(x)), atol=1e-5))
    True
    """
    if (fast := _usable(x, layer.weight, layer.bias)) is not None:
        return fast.linear(x, layer.weight, layer.bias, "gelu", [], "none")
    return F.gelu(layer(x))


def pointwise(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    """`layer` applied to the channels of every voxel, a 1x1x1 convolution.

    Args:
        x: (batch, inputs, depth, height, width); fast where channels are last in memory.
        layer: inputs to outputs.

    Returns:
        (batch, outputs, depth, height, width), a tensor of its own.

    >>> layer, x = nn.Linear(8, 4), torch.ones(1, 8, 2, 3, 5)
    >>> bool(torch.allclose(pointwise(x, layer)[0, :, 1, 2, 4], layer(torch.ones(8)), atol=1e-5))
    True
    """
    if _usable(x, layer.weight, layer.bias) is not None:
        # torch has no fast 1x1x1 convolution for a single thread.
        return linear(x.movedim(1, -1), layer).movedim(-1, 1)
    return F.conv3d(x, layer.weight[:, :, None, None, None], layer.bias)


def convolution(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, padding: Padding, relu: bool = False
) -> torch.Tensor:
    """A 3-D convolution with stride 1, and its ReLU where asked for.

    Args:
        x: (batch, inputs, depth, height, width); fast where channels are last in memory.
        weight: (outputs, inputs, *kernel).
        bias: (outputs,).
        padding: zeros on either side of each axis.
        relu: whether negative results become 0.

    Returns:
        (batch, outputs, ...), a tensor of its own.

    >>> x, weight, bias = torch.ones(1, 2, 3, 3, 3), torch.ones(4, 2, 3, 3, 3), torch.zeros(4)
    >>> with torch.inference_mode():
    ...     convolution(x, weight, bias, padding=(1, 1, 1), relu=True)[0, 0, 1].tolist()
    [[24.0, 36.0, 24.0], [36.0, 54.0, 36.0], [24.0, 36.0, 24.0]]
    """
    # oneDNN takes no empty arrays.
    if (fast := _usable(x, weight, bias)) is not None and x.numel():
        activation = "relu" if relu else "none"
        return fast.convolution(x, weight, bias, padding, (1, 1, 1), (1, 1, 1), 1, activation, [], "")
    result = F.conv3d(x, weight, bias, padding=padding)
    return F.relu(result, inplace=True) if relu else result


def _usable(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Operators | None:
    """The operators where they may run a layer: float32 on a CPU, with a bias, nothing recorded, no autocast."""
    allowed = (
        bias is not None
        and runs_in_pieces(x)
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
    )
    return operators() if allowed else None
