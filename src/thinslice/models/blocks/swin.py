"""Swin blocks on planes of any size: attention inside windows that shift by half from block to block.

Every tensor here is channels-last: (batch, height, width, channels), where "height" and "width" are the two axes of
whatever plane is attended to (axial, coronal or sagittal).

The published blocks shift by rolling the plane cyclically, and mask attention between positions that only the roll
made neighbours. Here a shifted plane is cut where its windows end, so that those at the border are smaller: the same
attention pairs, hence the same numbers, without rolling and without a mask. In the same way a plane that the window
does not divide ends in smaller windows instead of masked padding. All windows of one size share one bias, which is
broadcast in fused attention, so nothing has to be cached per plane size.

On a CPU without gradients a block takes some windows at a time through all of its layers, so that the features between
the layers stay in the processor's cache, and writes them where they were read: windows do not overlap. A block's result
may therefore overwrite its input (`thinslice.models.blocks.pieces`).

Source: Liu et al., "Swin Transformer", ICCV 2021, section 3; residual groups as in SwinIR, Liang et al., 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import rearrange
from torch import nn

from thinslice.models.blocks.onednn import linear, linear_gelu
from thinslice.models.blocks.pieces import kept, rows_in_pieces, runs_in_pieces

INIT_STD = 0.02
"""Standard deviation of the truncated normal distribution of untrained linear weights and position biases."""


CACHED_POSITIONS = 1024
"""Positions that a perceptron takes at a time on a CPU, so that its hidden features stay in the cache."""

CACHED_VALUES = 1 << 18
"""Values of features that a block takes at a time on a CPU: a MiB, and four MiB of hidden features. Smaller pieces cost
more in calls than they save."""


@dataclass(frozen=True)
class WindowSpan:
    """Neighbouring windows of one size along one axis.

    Attributes:
        start: first position.
        stop: position after the last.
        window: extent of each window; divides stop - start.
    """

    start: int
    stop: int
    window: int


def cut(extent: int, window: int, shift: int = 0) -> list[WindowSpan]:
    """Spans of windows that cover an axis: a smaller window at either end where whole windows do not fit.

    Args:
        extent: positions along the axis, >= 1.
        window: extent of a whole window, >= 1.
        shift: positions before the first whole window, 0 to window - 1.

    Returns:
        One to three spans, in order.

    >>> cut(16, 8)
    [WindowSpan(start=0, stop=16, window=8)]
    >>> [(span.start, span.stop, span.window) for span in cut(16, 8, 4)]
    [(0, 4, 4), (4, 12, 8), (12, 16, 4)]
    >>> cut(6, 4)
    [WindowSpan(start=0, stop=4, window=4), WindowSpan(start=4, stop=6, window=2)]
    """
    first = min(shift, extent)
    last = first + (extent - first) // window * window
    spans = [WindowSpan(0, first, first), WindowSpan(first, last, window), WindowSpan(last, extent, extent - last)]
    return [span for span in spans if span.stop > span.start]


def window_pieces(
    batch: int, row: WindowSpan, column: WindowSpan, positions: int
) -> Iterator[tuple[slice, slice, slice]]:
    """Pieces of whole windows that cover a region whose windows have one size.

    Args:
        batch: planes.
        row, column: the region's windows along either axis.
        positions: most positions in a piece, unless a single window has more.

    Yields:
        Slices of batch, rows and columns. Planes and rows of windows are split only where one piece cannot hold them.

    >>> row, column = WindowSpan(0, 8, 4), WindowSpan(2, 6, 4)
    >>> [(rows.start, rows.stop, columns.start, columns.stop) for _, rows, columns in window_pieces(1, row, column, 16)]
    [(0, 4, 2, 6), (4, 8, 2, 6)]
    """
    most = max(1, positions // (row.window * column.window))
    across = min(most, (column.stop - column.start) // column.window)
    down = min(most // across, (row.stop - row.start) // row.window)
    planes = min(most // (across * down), batch)
    steps = (
        (0, batch, planes),
        (row.start, row.stop, down * row.window),
        (column.start, column.stop, across * column.window),
    )
    yield from product(
        *([slice(at, min(at + step, stop)) for at in range(start, stop, step)] for start, stop, step in steps)
    )


def in_windows(planes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A view of planes as windows.

    Args:
        planes: (batch, rows, columns, channels).
        height, width: extents of a window; they divide rows and columns.

    Returns:
        (batch, windows down, windows across, height, width, channels).

    >>> in_windows(torch.arange(8).view(1, 2, 4, 1), 2, 2)[0, 0, 1, :, :, 0].tolist()
    [[2, 3], [6, 7]]
    """
    batch, rows, columns, channels = planes.shape
    return planes.view(batch, rows // height, height, columns // width, width, channels).transpose(2, 3)


def relative_position_index(window: tuple[int, int]) -> torch.Tensor:
    """Row of the bias table for each pair of positions in a window.

    Args:
        window: (height, width) of a whole window.

    Returns:
        int64 (height, width, height, width), query position then key position, values in
        [0, (2 height - 1) (2 width - 1)). Its corner [:a, :b, :a, :b] serves a smaller window of (a, b), because rows
        depend on differences of position only.

    >>> relative_position_index((1, 2)).reshape(2, 2).tolist()
    [[1, 0], [2, 1]]
    """
    height, width = window
    along_height = torch.arange(height)[:, None] - torch.arange(height) + height - 1
    along_width = torch.arange(width)[:, None] - torch.arange(width) + width - 1
    return along_height[:, None, :, None] * (2 * width - 1) + along_width[None, :, None, :]


class StochasticDepth(nn.Module):
    """Drops a residual branch for some samples of a batch, in training only.

    Source: Huang et al., "Deep networks with stochastic depth", ECCV 2016; kept branches are scaled up, as in Swin.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """branch: (batch, ...), returned with each sample either zero or divided by 1 - rate."""
        if not self.training or self.rate == 0.0:
            return branch
        kept = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) >= self.rate
        return branch * (kept.to(branch.dtype) / (1.0 - self.rate))


class WindowAttention(nn.Module):
    """Multi-head attention inside each window, with a learned bias per relative position.

    Args:
        channels: features per position; `heads` divides it.
        heads: attention heads.
        window: (height, width) of a whole window.
    """

    def __init__(self, channels: int, heads: int, window: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        self.position_bias = nn.Parameter(torch.empty((2 * window[0] - 1) * (2 * window[1] - 1), heads))
        nn.init.trunc_normal_(self.position_bias, std=INIT_STD)
        self.position_index: torch.Tensor
        self.register_buffer("position_index", relative_position_index(window), persistent=False)

    def bias(self, height: int, width: int) -> torch.Tensor:
        """Position bias of windows of (height, width): (heads, positions, positions), query then key."""
        index = self.position_index[:height, :width, :height, :width]
        return rearrange(self.position_bias[index], "qh qw kh kw heads -> heads (qh qw) (kh kw)").contiguous()

    def forward(self, windows: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Attend.

        Args:
            windows: (windows, positions, channels).
            bias: (heads, positions, positions) from `bias`.

        Returns:
            The shape of `windows`.
        """
        # (windows, positions, [query, key, value], heads, channels of a head); plain views cost less time than einops.
        mixed = linear(windows, self.qkv).view(*windows.shape[:2], 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.expand(len(windows), -1, -1, -1))
        return linear(attended.transpose(1, 2).flatten(2), self.projection)


class Perceptron(nn.Module):
    """Two linear layers with an exact GELU between, position by position."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden)
        self.contract = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., channels), and so is the result."""
        # A few positions at a time, so that the hidden features never leave a CPU's cache: a third less time and no
        # array of hidden features for the whole plane.
        return rows_in_pieces(x, self.whole, step=CACHED_POSITIONS)

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        """`forward` of all positions at once."""
        return linear(linear_gelu(x, self.expand), self.contract)


class SwinBlock(nn.Module):
    """Attention in windows, then a perceptron per position, each behind a norm and with a skip.

    Args:
        channels: features per position.
        heads: attention heads.
        window: (height, width) of a whole window.
        shifted: whether the first whole window starts after half a window.
        mlp_ratio: hidden features of the perceptron over `channels`.
        drop_rate: probability of dropping each of the two branches in training.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: tuple[int, int],
        *,
        shifted: bool,
        mlp_ratio: int = 4,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.window = window
        self.shifted = shifted
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = Perceptron(channels, mlp_ratio * channels)
        self.stochastic_depth = StochasticDepth(drop_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, height, width, channels), and so is the result, which may overwrite x."""
        if runs_in_pieces(x) and not self.training:
            return self.replace_in_pieces(x)
        attended: torch.Tensor = x + self.stochastic_depth(self.attend(self.attention_norm(x)))
        result: torch.Tensor = attended + self.stochastic_depth(self.mlp(self.mlp_norm(attended)))
        return result

    def replace_in_pieces(self, x: torch.Tensor) -> torch.Tensor:
        """`forward` on a CPU: some windows at a time pass both branches, and are written where they were read.

        No window reads the positions of another one. x: (batch, height, width, channels), overwritten and returned.
        """
        for row, column in product(*self.cuts(x.shape[1], x.shape[2])):
            bias = self.attention.bias(row.window, column.window)
            for piece in window_pieces(len(x), row, column, CACHED_VALUES // x.shape[-1]):
                place = in_windows(x[piece], row.window, column.window)
                windows = place.reshape(-1, row.window * column.window, x.shape[-1])
                windows = windows + self.attention(self.attention_norm(windows), bias)
                windows += self.mlp.whole(self.mlp_norm(windows))
                place.copy_(windows.view(place.shape))
        return x

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Attention inside every window of the plane; x: (batch, height, width, channels), and so is the result."""
        rows, columns = self.cuts(x.shape[1], x.shape[2])
        return joined(
            [joined([self.attend_region(x, row, column) for column in columns], axis=2) for row in rows], axis=1
        )

    def attend_region(self, x: torch.Tensor, row: WindowSpan, column: WindowSpan) -> torch.Tensor:
        """Attention in a part of the plane whose windows have one size: (batch, its height, its width, channels)."""
        region = x[:, row.start : row.stop, column.start : column.stop]
        windows = in_windows(region, row.window, column.window)
        mixed = self.attention(windows.flatten(3, 4).flatten(0, 2), self.attention.bias(row.window, column.window))
        put_back: torch.Tensor = mixed.view(windows.shape).transpose(2, 3).reshape(region.shape)
        return put_back

    def cuts(self, height: int, width: int) -> tuple[list[WindowSpan], list[WindowSpan]]:
        """The windows along either axis of a plane.

        A plane of which one side is a single window is not shifted at all, along neither axis, as published.
        """
        shifted = self.shifted and height > self.window[0] and width > self.window[1]
        shift = (self.window[0] // 2, self.window[1] // 2) if shifted else (0, 0)
        return cut(height, self.window[0], shift[0]), cut(width, self.window[1], shift[1])


def joined(parts: list[torch.Tensor], axis: int) -> torch.Tensor:
    """Parts concatenated along an axis; a single part is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


class ResidualGroup(nn.Module):
    """Blocks, every other one shifted, with a skip around all of them."""

    def __init__(
        self, channels: int, heads: int, window: tuple[int, int], mlp_ratio: int, drop_rates: list[float]
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                SwinBlock(channels, heads, window, shifted=index % 2 == 1, mlp_ratio=mlp_ratio, drop_rate=rate)
                for index, rate in enumerate(drop_rates)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, height, width, channels), and so is the result, which may overwrite x."""
        skip = kept(x)
        result: torch.Tensor = self.blocks(x).add_(skip)
        return result


class SwinBackbone(nn.Module):
    """Norm, residual groups of Swin blocks, norm; at one resolution throughout.

    Args:
        channels: features per position; `heads` divides it.
        groups: blocks in each residual group, one number per group.
        heads: attention heads.
        window: (height, width) of a whole window.
        mlp_ratio: hidden features of the perceptrons over `channels`.
        drop_rate: stochastic depth of the last block; it rises linearly from 0 at the first.
    """

    def __init__(
        self,
        channels: int,
        groups: tuple[int, ...],
        *,
        heads: int,
        window: tuple[int, int],
        mlp_ratio: int = 4,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        total = sum(groups)
        rates = [drop_rate * index / max(1, total - 1) for index in range(total)]
        self.norm_in = nn.LayerNorm(channels)
        self.groups = nn.Sequential(
            *(
                ResidualGroup(channels, heads, window, mlp_ratio, rates[sum(groups[:i]) : sum(groups[: i + 1])])
                for i in range(len(groups))
            )
        )
        self.norm_out = nn.LayerNorm(channels)
        start_linear_layers(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, height, width, channels), and so is the result."""
        result: torch.Tensor = self.norm_out(self.groups(self.norm_in(x)))
        return result


def start_linear_layers(module: nn.Module) -> None:
    """Initialise all linear layers of a module as Swin's: weights from a truncated normal, biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=INIT_STD)
            nn.init.zeros_(layer.bias)
