"""Swin blocks on volumes: attention inside small cubes that shift by half from block to block.

As in `thinslice.models.blocks.swin`, a shifted volume is cut where its windows end, so that those at the border are
smaller, without rolling and without a mask.

Source: Liu et al., "Video Swin Transformer", CVPR 2022, section 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import rearrange
from torch import nn

from thinslice.models.blocks.swin import INIT_STD, Perceptron, WindowSpan, cut, joined

MOST_WINDOWS = 1 << 14
"""Windows of one call of attention: fewer than the 65535 that CUDA's fused kernels take, and few enough that queries,
keys and values of a call stay small."""


def cube_position_index(side: int) -> torch.Tensor:
    """Row of the bias table for each pair of positions in a cubic window.

    Returns:
        int64 (side,) * 6, query position then key position, values in [0, (2 side - 1)^3). Its corner serves smaller
        windows, because rows depend on differences of position only.

    >>> cube_position_index(1).reshape(1, 1).tolist()
    [[0]]
    >>> sorted(set(cube_position_index(2).flatten().tolist())) == list(range(27))
    True
    """
    distance = torch.arange(side)[:, None] - torch.arange(side) + side - 1
    rows = 2 * side - 1
    return (
        distance[:, None, None, :, None, None] * rows**2
        + distance[None, :, None, None, :, None] * rows
        + distance[None, None, :, None, None, :]
    )


class CubeAttention(nn.Module):
    """Multi-head attention inside cubic windows of a volume, with a learned bias per relative position.

    Windows at the volume's border are smaller; none wraps around it.

    Args:
        channels: features per voxel; `heads` divides it.
        heads: attention heads.
        side: extent of a whole window in voxels.
        shifted: whether the first whole window starts after half a window, along every axis longer than a window.
    """

    def __init__(self, channels: int, heads: int, side: int, *, shifted: bool) -> None:
        super().__init__()
        self.heads = heads
        self.side = side
        self.shift = side // 2 if shifted else 0
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        self.position_bias = nn.Parameter(torch.empty((2 * side - 1) ** 3, heads))
        nn.init.trunc_normal_(self.position_bias, std=INIT_STD)
        self.position_index: torch.Tensor
        self.register_buffer("position_index", cube_position_index(side), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, slice, height, width, channel), and so is the result."""
        cuts = [cut(extent, self.side, self.shift * (extent > self.side)) for extent in x.shape[1:4]]
        result: torch.Tensor = self.projection(self.attend_regions(self.qkv(x), cuts))
        return result

    def attend_regions(
        self, query_key_value: torch.Tensor, cuts: list[list[WindowSpan]], *spans: WindowSpan
    ) -> torch.Tensor:
        """Cut the volume axis by axis into parts whose windows have one size, and attend in each.

        Args:
            query_key_value: (batch, slice, height, width, 3 * channel), already cut along the first `len(spans)` axes.
            cuts: windows of the volume along the three axes.
            spans: windows of the part along the axes already cut.

        Returns:
            (batch, slice, height, width, channel).
        """
        if len(spans) == len(cuts):
            return self.attend(query_key_value, spans)
        axis, here = len(spans) + 1, cuts[len(spans)]
        parts = torch.split(query_key_value, [span.stop - span.start for span in here], dim=axis)
        attended = [self.attend_regions(part, cuts, *spans, span) for part, span in zip(parts, here, strict=True)]
        return joined(attended, axis)

    def attend(self, query_key_value: torch.Tensor, spans: tuple[WindowSpan, ...]) -> torch.Tensor:
        """Attention in a part of the volume whose windows have one size.

        Args:
            query_key_value: (batch, its slices, its height, its width, 3 * channel).
            spans: windows of the part along the three axes.

        Returns:
            (batch, its slices, its height, its width, channel).
        """
        a, b, c = (span.window for span in spans)
        extents = {"a": a, "b": b, "c": c}
        query, key, value = rearrange(
            query_key_value,
            "batch (d a) (h b) (w c) (three heads f) -> three (batch d h w) heads (a b c) f",
            three=3,
            heads=self.heads,
            **extents,
        )
        index = self.position_index[:a, :b, :c, :a, :b, :c]
        bias = rearrange(self.position_bias[index], "qa qb qc ka kb kc heads -> heads (qa qb qc) (ka kb kc)")
        mixed = torch.cat(
            [
                F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(len(q), -1, -1, -1))
                for q, k, v in zip(*(part.split(MOST_WINDOWS) for part in (query, key, value)), strict=True)
            ]
        )
        counts = {
            axis: (span.stop - span.start) // span.window for axis, span in zip(("d", "h", "w"), spans, strict=True)
        }
        put_back: torch.Tensor = rearrange(
            mixed, "(batch d h w) heads (a b c) f -> batch (d a) (h b) (w c) (heads f)", **counts, **extents
        )
        return put_back


class CubeBlock(nn.Module):
    """Attention in cubic windows, then a perceptron per voxel, each behind a norm and with a skip."""

    def __init__(self, channels: int, heads: int, side: int, *, shifted: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = CubeAttention(channels, heads, side, shifted=shifted)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = Perceptron(channels, 4 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, slice, height, width, channel), and so is the result."""
        attended: torch.Tensor = x + self.attention(self.attention_norm(x))
        result: torch.Tensor = attended + self.mlp(self.mlp_norm(attended))
        return result
