"""Linear layers and convolutions on a CPU through oneDNN, which torch carries but does not always use.

torch gives float32 products of matrices to MKL, which on processors that are not Intel's does without their widest
instructions: oneDNN takes half the time there, and no more elsewhere. Convolutions torch gives to oneDNN, but not where
channels x depth x rows come to 20,480 or fewer: a window of few slices then takes fifteen times as long
(speed/convolutions.py). oneDNN also applies the activation behind a layer while its output is still in registers.

The operators are torch's own but not documented, so they are tried once per process on a small case; where one is
missing or gives other numbers, and wherever gradients are recorded or a graph is, the ordinary layer is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import nn

AGREEMENT = 1e-5
"""Largest difference from the ordinary layer in the trial, whose results are of the order of 1."""


PIECE_BYTES = 4 << 20
"""Of a volume that `depth_pieces` gives at a time, about: what a processor's caches hold."""


def runs_in_pieces(x: torch.Tensor) -> bool:
    """Whether work on `x` may be done a few rows at a time, so that what is between layers stays in the cache.

    So on a CPU without gradients. Elsewhere the whole is faster; and a graph being recorded, for autograd or for
    another runtime, would grow with the number of pieces.
    """
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not _is_traced()


def depth_pieces(
    x: torch.Tensor, before: Callable[[torch.Tensor], torch.Tensor] = lambda piece: piece
) -> Iterator[tuple[slice, torch.Tensor]]:
    """A volume a few slices at a time, for 3x3x3 convolutions without padding along z.

    Args:
        x: (batch, channels, depth, height, width).
        before: applied to slices first; each by itself, as zeros are put at the ends after it.

    Yields:
        (slices, piece): which slices; and they, between the slice before and the one after, or zeros at the ends of
        the volume. Pieces inside are views: slices of the piece given last must not be written to before the next one
        is done with.

    >>> for at, piece in depth_pieces(torch.arange(1.0, 4.0).reshape(1, 1, 3, 1, 1)):
    ...     piece.flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 0.0]
    """
    depth = x.shape[2]
    step = max(1, PIECE_BYTES // max(1, x[:, :, :1].numel() * x.element_size()))
    for start in range(0, depth, step):
        stop = min(start + step, depth)
        piece = before(x[:, :, max(start - 1, 0) : stop + 1])
        if start == 0 or stop == depth:
            piece = _between_zeros(piece, first=start == 0, last=stop == depth)
        yield slice(start, stop), piece


def _between_zeros(x: torch.Tensor, *, first: bool, last: bool) -> torch.Tensor:
    """Slices with one of zeros before the first and after the last; `F.pad` fills all of it with zeros first."""
    batch, channels, depth, height, width = x.shape
    size = (batch, channels, first + depth + last, height, width)
    padded = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
    padded[:, :, first : first + depth] = x
    if first:
        padded[:, :, 0] = 0.0
    if last:
        padded[:, :, -1] = 0.0
    return padded


def replace_in_pieces(x: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Change a volume in place where each slice depends on its neighbours as they were.

    Args:
        x: (batch, channels, depth, height, width), overwritten.
        change: a piece (`depth_pieces`) -> what stands in its place, without the slices at either end.

    Returns:
        `x`.

    >>> replace_in_pieces(torch.arange(1.0, 4.0).reshape(1, 1, 3, 1, 1), lambda p: p[:, :, :-2] + p[:, :, 2:]).flatten()
    tensor([2., 4., 2.])
    """
    waiting: tuple[slice, torch.Tensor] | None = None
    for at, piece in depth_pieces(x):
        changed = change(piece)
        if waiting is not None:
            x[:, :, waiting[0]] = waiting[1]
        waiting = at, changed
    if waiting is not None:
        x[:, :, waiting[0]] = waiting[1]
    return x


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


def convolution(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, padding: tuple[int, int, int], relu: bool = False
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
    # oneDNN knows no empty arrays.
    if _allowed(x, weight) and x.numel():
        return _convolve(x, weight, bias, padding, "relu" if relu else "none")
    result = F.conv3d(x, weight, bias, padding=padding)
    return F.relu(result, inplace=True) if relu else result


def _convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: tuple[int, ...], activation: str
) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, (1, 1, 1), (1, 1, 1), 1, activation, [], ""
    )
    return result


def _product(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    return result


def _fits(x: torch.Tensor, layer: nn.Linear) -> bool:
    return layer.bias is not None and _allowed(x, layer.weight)


def _allowed(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        runs_in_pieces(x)
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
        and is_sound()
    )


@cache
def is_sound() -> bool:
    """Whether the operators are there and give what the ordinary layers give, to rounding."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    # Made without the global random state, which training draws from.
    at = torch.arange(48 * 24, dtype=torch.float32).view(48, 24)
    x, weight, bias = at.sin(), at[:32].cos() / 24, at[:32, 0].sin()
    expected = F.linear(x, weight, bias)
    cube, kernel = at[:, :20].reshape(1, 16, 3, 4, 5).sin(), at[:36].reshape(2, 16, 3, 3, 3).cos() / 24
    convolved = F.conv3d(cube, kernel, bias[:2], padding=1)
    try:
        plain = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        convolutions = [_convolve(cube, kernel, bias[:2], (1, 1, 1), name) for name in ("none", "relu")]
        activated = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
    return bool(
        torch.allclose(plain, expected, rtol=0, atol=AGREEMENT)
        and torch.allclose(activated, F.gelu(expected), rtol=0, atol=AGREEMENT)
        and torch.allclose(convolutions[0], convolved, rtol=0, atol=AGREEMENT)
        and torch.allclose(convolutions[1], convolved.relu(), rtol=0, atol=AGREEMENT)
    )


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
