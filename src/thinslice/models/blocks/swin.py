"""Swin blocks on planes of any size: attention inside windows that shift by half from block to block.

Every tensor here is channels-last: (batch, height, width, channels), where "height" and "width" are the two axes of
whatever plane is attended to (axial, coronal or sagittal).

The published blocks shift by rolling the plane cyclically, and then forbid with a mask what the roll brought together.
Here a shifted plane is cut where its windows end, so that those at the border are smaller: the same attention
pairs, hence the same numbers, without rolling and without a mask. In the same way a plane that the
window does not divide ends in smaller windows instead of masked padding. All windows of one size share one bias, which
goes into fused attention by broadcasting, so nothing has to be cached per plane size.

On a CPU without gradients a block takes some windows at a time through all of its layers, so that what is between them
stays in the processor's cache, and puts them back where they came from: windows do not overlap.

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

from thinslice.models.blocks.onednn import linear, linear_gelu, runs_in_pieces

INIT_STD = 0.02
"""Standard deviation of the truncated normal that linear weights and position biases start from."""


CACHED_POSITIONS = 1024
"""Positions that a perceptron takes at a time on a CPU, where its hidden features should stay in the cache."""

CACHED_VALUES = 1 << 18
"""Values of features that a block takes at a time on a CPU: a MiB, and four times that in between. Smaller pieces cost
more in calls than they gain."""


@dataclass(frozen=True)
class Run:
    """Neighbouring windows of one size along one axis.

    Attributes:
        start: first position.
        stop: position after the last.
        window: extent of each window; divides stop - start.
    """

    start: int
    stop: int
    window: int


def cut(extent: int, window: int, shift: int = 0) -> list[Run]:
    """Cut an axis into windows, the first one after `shift` positions; what is left at either end is a smaller window.

    Args:
        extent: positions along the axis, >= 1.
        window: extent of a whole window, >= 1.
        shift: positions before the first whole window, 0 to window - 1.

    Returns:
        One to three runs that cover the axis in order.

    >>> cut(16, 8)
    [Run(start=0, stop=16, window=8)]
    >>> cut(16, 8, 4)
    [Run(start=0, stop=4, window=4), Run(start=4, stop=12, window=8), Run(start=12, stop=16, window=4)]
    >>> cut(6, 4)
    [Run(start=0, stop=4, window=4), Run(start=4, stop=6, window=2)]
    """
    first = min(shift, extent)
    last = first + (extent - first) // window * window
    runs = [Run(0, first, first), Run(first, last, window), Run(last, extent, extent - last)]
    return [run for run in runs if run.stop > run.start]


def pieces(batch: int, row: Run, column: Run, positions: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut a region whose windows have one size into pieces of whole windows.

    Args:
        batch: planes.
        row, column: the region's windows along either axis.
        positions: in a piece at most, unless a single window has more.

    Yields:
        Slices of batch, rows and columns. Planes and rows of windows are split only where one piece cannot hold them.

    >>> [(rows.start, rows.stop, columns.stop) for _, rows, columns in pieces(1, Run(0, 8, 4), Run(2, 6, 4), 16)]
    [(0, 4, 6), (4, 8, 6)]
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
    """A view of planes as windows of (height, width), which divide them.

    Args:
        planes: (batch, rows, columns, channels).
        height, width: of a window.

    Returns:
        (batch, windows down, windows across, height, width, channels).

    >>> in_windows(torch.arange(8).view(1, 2, 4, 1), 2, 2)[0, 0, 1, :, :, 0].tolist()
    [[2, 3], [6, 7]]
    """
    batch, rows, columns, channels = planes.shape
    return planes.view(batch, rows // height, height, columns // width, width, channels).transpose(2, 3)


def relative_position_index(window: tuple[int, int]) -> torch.Tensor:
    """Which row of the bias table belongs to each pair of positions in a window.

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
        if not runs_in_pieces(x):
            return self.whole(x)
        # A few positions at a time, so that the hidden features never leave the processor's cache: a third less
        # time and no array of hidden features for the whole plane.
        rows = x.reshape(-1, x.shape[-1])
        result = torch.empty_like(rows)
        for start in range(0, len(rows), CACHED_POSITIONS):
            some = slice(start, start + CACHED_POSITIONS)
            result[some] = self.whole(rows[some])
        return result.view(x.shape)

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        """The same, all positions at once."""
        return linear(linear_gelu(x, self.expand), self.contract)


class SwinBlock(nn.Module):
    """Attention in windows, then a perceptron per position, each behind a norm and with a skip.

    Args:
        channels: features per position.
        heads: attention heads.
        window: (height, width) of a whole window.
        shifted: whether windows start half a window in.
        mlp_ratio: hidden features of the perceptron over `channels`.
        drop_rate: chance of dropping each of the two branches in training.
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
        """x: (batch, height, width, channels), and so is the result."""
        if runs_in_pieces(x) and not self.training:
            return self.forward_in_pieces(x, torch.empty_like(x))
        attended: torch.Tensor = x + self.stochastic_depth(self.attend(self.attention_norm(x)))
        result: torch.Tensor = attended + self.stochastic_depth(self.mlp(self.mlp_norm(attended)))
        return result

    def forward_in_pieces(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """The same, some windows at a time; for inference on a CPU.

        Args:
            x: (batch, height, width, channels).
            out: of the same shape, takes the result; may be `x` itself, as no window reads another's positions.

        Returns:
            `out`.
        """
        for row, column in product(*self.cuts(x.shape[1], x.shape[2])):
            bias = self.attention.bias(row.window, column.window)
            for piece in pieces(len(x), row, column, CACHED_VALUES // x.shape[-1]):
                before = in_windows(x[piece], row.window, column.window)
                windows = before.reshape(-1, row.window * column.window, x.shape[-1])
                windows = windows + self.attention(self.attention_norm(windows), bias)
                windows += self.mlp.whole(self.mlp_norm(windows))
                in_windows(out[piece], row.window, column.window).copy_(windows.view(before.shape))
        return out

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Attention inside every window of the plane; x: (batch, height, width, channels), and so is the result."""
        rows, columns = self.cuts(x.shape[1], x.shape[2])
        return _joined(
            [_joined([self._attend_region(x, row, column) for column in columns], axis=2) for row in rows],
            axis=1,
        )

    def _attend_region(self, x: torch.Tensor, row: Run, column: Run) -> torch.Tensor:
        """Attention in a part of the plane whose windows have one size: (batch, its height, its width, channels)."""
        region = x[:, row.start : row.stop, column.start : column.stop]
        windows = in_windows(region, row.window, column.window)
        mixed = self.attention(windows.flatten(3, 4).flatten(0, 2), self.attention.bias(row.window, column.window))
        put_back: torch.Tensor = mixed.view(windows.shape).transpose(2, 3).reshape(region.shape)
        return put_back

    def cuts(self, height: int, width: int) -> tuple[list[Run], list[Run]]:
        """The windows along either axis of a plane.

        A plane of which one side is a single window is not shifted at all, along neither axis, as published.
        """
        shifted = self.shifted and height > self.window[0] and width > self.window[1]
        shift = (self.window[0] // 2, self.window[1] // 2) if shifted else (0, 0)
        return cut(height, self.window[0], shift[0]), cut(width, self.window[1], shift[1])


def _joined(parts: list[torch.Tensor], axis: int) -> torch.Tensor:
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
        """x: (batch, height, width, channels), and so is the result."""
        result: torch.Tensor = x + self.blocks(x)
        return result

    def forward_in_place(self, x: torch.Tensor) -> torch.Tensor:
        """The same for inference on a CPU; the result is written over x."""
        skip = x.clone()
        for block in self.blocks:
            block.forward_in_pieces(x, x)  # type: ignore[operator]
        return x.add_(skip)


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
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, height, width, channels), and so is the result."""
        result: torch.Tensor = self.norm_in(x)
        if runs_in_pieces(x) and not self.training:
            for group in self.groups:
                group.forward_in_place(result)  # type: ignore[operator]
        else:
            result = self.groups(result)
        result = self.norm_out(result)
        return result
