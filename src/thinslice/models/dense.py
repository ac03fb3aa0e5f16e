"""Linear layers on a CPU through oneDNN, which torch carries for convolutions but does not use for float32 products.

torch gives products of matrices to MKL, which on processors that are not Intel's does without their widest
instructions: oneDNN takes half the time there, and no more elsewhere. It also applies the GELU behind a layer while its
output is still in registers.

The operator is torch's own but not documented, so it is tried once per process on a small case; where it is missing or
gives other numbers, and wherever gradients are recorded or a graph is, the ordinary layer is used.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import nn

AGREEMENT = 1e-5
"""Largest difference from the ordinary layer in the trial, whose results are of the order of 1."""


def runs_in_pieces(x: torch.Tensor) -> bool:
    """Whether work on `x` may be done a few rows at a time, so that what is between layers stays in the cache.

    So on a CPU without gradients. Elsewhere the whole is faster; and a graph being recorded, for autograd or for
    another runtime, would grow with the number of pieces.
    """
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not _is_traced()


def linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    """`layer(x)`; x: (..., inputs), the result (..., outputs)."""
    if _fits(x, layer):
        return _product(x, layer)
    result: torch.Tensor = layer(x)
    return result


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
    channels_last = x.movedim(1, -1)
    if _fits(channels_last, layer):
        # torch has no fast 1x1x1 convolution for a single thread.
        return _product(channels_last, layer).movedim(-1, 1)
    return F.conv3d(x, layer.weight[:, :, None, None, None], layer.bias)


def linear_gelu(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    """Exact GELU of `layer(x)`; x: (..., inputs), the result (..., outputs).

    >>> layer, x = nn.Linear(8, 4), torch.ones(2, 8)
    >>> with torch.inference_mode():
    ...     bool(torch.allclose(linear_gelu(x, layer), F.gelu(layer(x)), atol=1e-5))
    True
    """
    if _fits(x, layer):
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "gelu", [], "none")
        return result
    return F.gelu(layer(x))


def _product(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    return result


def _fits(x: torch.Tensor, layer: nn.Linear) -> bool:
    return (
        runs_in_pieces(x)
        and x.dtype == layer.weight.dtype == torch.float32
        and layer.bias is not None
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
        and is_sound()
    )


@cache
def is_sound() -> bool:
    """Whether the operator is there and gives what the ordinary layer gives, to rounding."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    # Made without the global random state, which training draws from.
    at = torch.arange(48 * 24, dtype=torch.float32).view(48, 24)
    x, weight, bias = at.sin(), at[:32].cos() / 24, at[:32, 0].sin()
    expected = F.linear(x, weight, bias)
    try:
        plain = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        activated = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
    return bool(
        torch.allclose(plain, expected, rtol=0, atol=AGREEMENT)
        and torch.allclose(activated, F.gelu(expected), rtol=0, atol=AGREEMENT)
    )


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
