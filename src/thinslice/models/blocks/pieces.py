"""Work on a volume a piece at a time, on a CPU: each function here is one operation with two executions.

Features between two layers then stay in the processor's cache, and results overwrite their inputs. Both save time: the
first use of memory costs more than the sums of a layer. On an accelerator, and where gradients or a graph are recorded,
the same operation runs whole and overwrites nothing (`runs_in_pieces`). Callers write the operation once; after a call
they must not read the tensor that they passed as `overwritten`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

Padding = tuple[int, int, int]
"""Zeros that a convolution puts on either side of depth, height and width."""

PIECE_BYTES = 4 << 20
"""Size of the pieces of a volume, about: the size of a processor's caches."""


def runs_in_pieces(x: torch.Tensor) -> bool:
    """Whether work on `x` is done in pieces and in place: on a CPU, without gradients.

    Elsewhere the whole is faster; and a graph being recorded, for autograd or for another runtime, would grow with the
    number of pieces.
    """
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not recorded


def kept(x: torch.Tensor) -> torch.Tensor:
    """Values of `x` that stay when the next layer overwrites `x`: a copy on a CPU, elsewhere `x` itself."""
    return x.clone() if runs_in_pieces(x) else x


def scaled(overwritten: torch.Tensor, scale: float) -> torch.Tensor:
    """`overwritten * scale`, in place on a CPU."""
    return overwritten.mul_(scale) if runs_in_pieces(overwritten) else overwritten * scale


def add_product(overwritten: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """`overwritten + first @ second`, in place on a CPU.

    Args:
        overwritten: (batch, rows, columns).
        first: (batch, rows, inner).
        second: (batch, inner, columns).
    """
    if runs_in_pieces(overwritten):
        return overwritten.baddbmm_(first, second)
    return torch.baddbmm(overwritten, first, second)


def in_pieces(x: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor], *, axis: int, step: int) -> torch.Tensor:
    """`change(x)`, on a CPU `step` positions of an axis at a time.

    Args:
        x: any tensor.
        change: treats positions along `axis` independently and keeps their number.
        axis: of `x` and of the result.
        step: positions in a piece.

    >>> with torch.inference_mode():
    ...     in_pieces(torch.arange(5.0), torch.square, axis=0, step=2).tolist()
    [0.0, 1.0, 4.0, 9.0, 16.0]
    """
    extent = x.shape[axis]
    if extent <= step or not runs_in_pieces(x):
        return change(x)
    result: torch.Tensor | None = None
    for start in range(0, extent, step):
        length = min(step, extent - start)
        changed = change(x.narrow(axis, start, length))
        if result is None:
            result = changed.new_empty((*changed.shape[:axis], extent, *changed.shape[axis + 1 :]))
        result.narrow(axis, start, length).copy_(changed)
    assert result is not None
    return result


def rows_in_pieces(x: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor], *, step: int) -> torch.Tensor:
    """`change(x)`, on a CPU `step` rows at a time.

    Args:
        x: (..., values); a row is one vector of values.
        change: treats rows independently and keeps their length.
        step: rows in a piece.
    """
    if not runs_in_pieces(x):
        return change(x)
    return in_pieces(x.reshape(-1, x.shape[-1]), change, axis=0, step=step).view(x.shape)


def add_in_pieces(
    overwritten: torch.Tensor,
    x: torch.Tensor,
    change: Callable[[torch.Tensor], torch.Tensor],
    *,
    axis: int,
    step: int,
) -> torch.Tensor:
    """`overwritten + change(x)`, on a CPU `step` positions of an axis at a time and in place.

    Args:
        overwritten: a tensor of the result's shape that shares no memory with `x`.
        x: as for `in_pieces`.
        change: as for `in_pieces`.
        axis: of `overwritten` and of `x`.
        step: positions in a piece.

    >>> with torch.inference_mode():
    ...     add_in_pieces(torch.ones(3), torch.arange(3.0), torch.square, axis=0, step=2).tolist()
    [1.0, 2.0, 5.0]
    """
    if not runs_in_pieces(x):
        return overwritten + change(x)
    for start in range(0, x.shape[axis], step):
        length = min(step, x.shape[axis] - start)
        overwritten.narrow(axis, start, length).add_(change(x.narrow(axis, start, length)))
    return overwritten


def add_across_slices(
    overwritten: torch.Tensor, change: Callable[[torch.Tensor, Padding], torch.Tensor]
) -> torch.Tensor:
    """`overwritten + change(overwritten)` for a change that reaches one slice up and down, in place on a CPU.

    Args:
        overwritten: (batch, channels, depth, height, width).
        change: (slices, padding) -> their change, a tensor of its own, without the outer slices where padding[0] is 0.
            It is a 3x3x3 convolution with this padding, followed by layers that act on each voxel by itself.

    >>> summed = lambda x, padding: torch.nn.functional.conv3d(x, torch.ones(1, 1, 3, 3, 3), padding=padding)
    >>> add_across_slices(torch.arange(1.0, 4.0).reshape(1, 1, 3, 1, 1), summed).flatten().tolist()
    [4.0, 8.0, 8.0]
    """
    if not runs_in_pieces(overwritten):
        return change(overwritten, (1, 1, 1)).add_(overwritten)
    # Slices are written one piece late, as the next piece starts with the last slice of this one.
    late: tuple[slice, torch.Tensor] | None = None
    for at, piece in depth_pieces(overwritten):
        changed = change(piece, (0, 1, 1)).add_(piece[:, :, 1:-1])
        if late is not None:
            overwritten[:, :, late[0]] = late[1]
        late = at, changed
    if late is not None:
        overwritten[:, :, late[0]] = late[1]
    return overwritten


def map_across_slices(
    x: torch.Tensor,
    change: Callable[[torch.Tensor, Padding], torch.Tensor],
    *,
    per_slice: int,
    before: Callable[[torch.Tensor], torch.Tensor] = lambda slices: slices,
) -> torch.Tensor:
    """`change(before(x))` for a change that reaches one slice up and down, a few slices at a time on a CPU.

    Args:
        x: (batch, channels, depth, height, width).
        change: (slices, padding) -> (batch, their number * per_slice, rows, columns), without the outer slices where
            padding[0] is 0; otherwise as for `add_across_slices`.
        per_slice: slices that `change` makes of one.
        before: changes each voxel by itself.

    Returns:
        (batch, depth * per_slice, rows, columns).
    """
    if not runs_in_pieces(x):
        return change(before(x), (1, 1, 1))
    result: torch.Tensor | None = None
    for at, piece in depth_pieces(x, before):
        changed = change(piece, (0, 1, 1))
        if result is None:
            result = changed.new_empty((len(changed), x.shape[2] * per_slice, *changed.shape[2:]))
        result[:, at.start * per_slice : at.stop * per_slice] = changed
        del changed  # before the next piece takes its memory
    assert result is not None
    return result


def depth_pieces(
    x: torch.Tensor, before: Callable[[torch.Tensor], torch.Tensor] = lambda slices: slices
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Pieces of a volume for 3x3x3 convolutions without padding along z: a few slices and their neighbours.

    Args:
        x: (batch, channels, depth, height, width), depth >= 1.
        before: changes each voxel by itself, before zeros are put at the ends of the volume.

    Yields:
        (at, piece): the slices [at.start, at.stop) of `x` between one slice before and one after, or zeros at the ends
        of the volume. Of 10 slices in pieces of 4, the second one is (slice(4, 8), slices 3 to 8). Pieces inside the
        volume are views: do not write to the slices of one before the next one has been used.

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
    """Slices with one of zeros before the first and after the last; `F.pad` would fill all of it with zeros first."""
    batch, channels, depth, height, width = x.shape
    size = (batch, channels, first + depth + last, height, width)
    padded = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
    padded[:, :, first : first + depth] = x
    if first:
        padded[:, :, 0] = 0.0
    if last:
        padded[:, :, -1] = 0.0
    return padded
