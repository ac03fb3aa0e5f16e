"""CTHNet: a convolutional and 3D attention encoder, then TVSRN's two kinds of attention on all thin slices.

    thick ── stem ──┬── 3D encoder ── convolution ── + ── convolution ── nearest thick slice ── + z code ── tokens
                    └────────────────────────────────┘                                                        │
      thin ── head ── + ── convolution ── in-plane attention ── through-plane attention ──────────────────────┤
                      └───────────────────────────────────────────────────────────────────────────────────────┘

It differs from TVSRN in three ways: the encoder attends along all three axes, thin slices start as copies of the
nearest thick one instead of mask tokens, and every group of attention blocks ends in a 3x3 convolution.

Tokens are (batch, height, width, slice, feature), as in `thinslice.models.tvsrn`; volumes in the encoder are
(batch, channel, slice, height, width) for convolutions and channels-last for attention.

Source: Yu et al., "Spatial resolution enhancement using deep learning improves chest disease diagnosis based on thick
slice CT", npj Digital Medicine 7, 2024, and the layer sizes of the authors' public code. Deviations, all on purpose:
"nearest" is by position (`thinslice.geometry.nearest_thick`), where the code stretches D slices over all thin ones;
shifted windows of the encoder end at the volume's border, where the code lets them wrap around it; the through-plane
attention reads its channels in the order in which they lie, which the code mixes up. Ours alone: planes of any size,
any depth, any factor.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from einops import rearrange
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from thinslice.errors import ShapeError
from thinslice.geometry import nearest_thick
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.cube_attention import CubeBlock
from thinslice.models.blocks.pieces import kept
from thinslice.models.blocks.swin import SwinBlock, start_linear_layers
from thinslice.models.tvsrn import PLANE_WINDOW, VIEWS, attend_in_view, position_code, reflect_to_multiple
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile

GROUP_BLOCKS = 4
"""Swin blocks in a group, everywhere."""

HEAD_FEATURES = 16
"""Features between the two pointwise layers of the head."""

TOKEN_COPIES = 16.0
"""Arrays as large as all tokens that a forward pass without gradients holds at its peak: 12 to 15 measured on a CPU."""

ENCODER_COPIES = 13.0
"""Arrays of the encoder's features that a pass holds at its peak, if they are more: 12 measured on a CPU."""

UNFOLDING_COPIES = 38.0
"""`ENCODER_COPIES` of two or three slices, as the CPU's 3D convolution unfolds every voxel's neighbours: 34 to 37."""


class CTHNetConfig(BaseModel):
    """Sizes of CTHNet.

    Attributes:
        depth: thick slices it takes.
        factor: thin slices per thick interval.
        features: per voxel of the tokens; even.
        encoder_features: per voxel in the encoder; `heads` divides it.
        heads: attention heads everywhere.
        encoder_window: side in voxels of the encoder's cubic attention windows.
        through_plane_window: window of through-plane attention (thin slices, pixels).
        decoder_groups: groups of four Swin blocks in the in-plane decoder.
        drop_rate: stochastic depth of the last block of through-plane and of in-plane attention; the encoder has none.
        plan: window plan it is meant for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(8, ge=2, le=64)
    factor: int = Field(5, ge=2, le=16)
    features: int = Field(8, ge=2, le=256, multiple_of=2)
    encoder_features: int = Field(32, ge=1, le=1024)
    heads: int = Field(8, ge=1, le=256)
    encoder_window: int = Field(2, ge=1, le=8)
    through_plane_window: tuple[int, int] = (4, 4)
    decoder_groups: int = Field(2, ge=1, le=16)
    drop_rate: float = Field(0.1, ge=0.0, lt=1.0)
    plan: Literal["paper", "released"] = "released"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for stage, channels in (
            ("encoder", self.encoder_features),
            ("through-plane attention", PLANE_WINDOW * self.features),
            ("in-plane decoder", self.thin_depth * self.features),
        ):
            if channels % self.heads:
                raise ValueError(f"heads ({self.heads}) must divide the {channels} channels of the {stage}")
        if not all(1 <= extent <= 16 for extent in self.through_plane_window):
            raise ValueError("through_plane_window must lie in 1 to 16 along either axis")
        return self

    @property
    def thin_depth(self) -> int:
        """Thin slices it gives: (depth - 1) * factor + 1."""
        return (self.depth - 1) * self.factor + 1


class Encoder(nn.Module):
    """Attention in small cubes, a 3x3x3 convolution and a norm, with a skip around them.

    Args:
        channels: features per voxel; `heads` divides it.
        heads: attention heads.
        side: of an attention window, in voxels.
    """

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(channels)
        self.blocks = nn.Sequential(
            *(CubeBlock(channels, heads, side, shifted=index % 2 == 1) for index in range(GROUP_BLOCKS))
        )
        self.convolution = nn.Conv3d(channels, channels, 3, padding=1)
        self.group_norm = nn.LayerNorm(channels)
        self.norm_out = nn.LayerNorm(channels)
        start_linear_layers(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, channel, slice, height, width), and so is the result."""
        normed = self.norm_in(rearrange(x, "b c d h w -> b d h w c"))
        convolved = self.convolution(rearrange(self.blocks(normed), "b d h w c -> b c d h w"))
        grouped = normed + self.group_norm(rearrange(convolved, "b c d h w -> b d h w c"))
        result: torch.Tensor = rearrange(self.norm_out(grouped), "b d h w c -> b c d h w")
        return result


class PlaneConvolution(nn.Conv2d):
    """A 3x3 convolution of channels-last planes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, height, width, channels), and so is the result."""
        convolved = super().forward(rearrange(x, "b h w c -> b c h w"))
        result: torch.Tensor = rearrange(convolved, "b c h w -> b h w c")
        return result


class ConvolutionalGroup(nn.Module):
    """Swin blocks, every other one shifted, then a 3x3 convolution, with a skip around all of them."""

    def __init__(self, channels: int, heads: int, window: tuple[int, int], drop_rates: list[float]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                SwinBlock(channels, heads, window, shifted=index % 2 == 1, drop_rate=rate)
                for index, rate in enumerate(drop_rates)
            )
        )
        self.convolution = PlaneConvolution(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, height, width, channels), and so is the result, which may overwrite x."""
        skip = kept(x)
        result: torch.Tensor = skip + self.convolution(self.blocks(x))
        return result


class Backbone(nn.Module):
    """Norm, convolutional groups, norm; at one resolution throughout.

    Args:
        channels: features per position; `heads` divides it.
        groups: how many.
        heads: attention heads.
        window: (height, width) of a whole attention window.
        drop_rate: stochastic depth of the last block; it rises linearly from 0 at the first.

    Source: Liang et al., "SwinIR", ICCV workshops 2021.
    """

    def __init__(
        self, channels: int, groups: int, *, heads: int, window: tuple[int, int], drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        last = groups * GROUP_BLOCKS - 1
        rates = [drop_rate * index / last for index in range(last + 1)]
        self.norm_in = nn.LayerNorm(channels)
        self.groups = nn.Sequential(
            *(
                ConvolutionalGroup(channels, heads, window, rates[start : start + GROUP_BLOCKS])
                for start in range(0, len(rates), GROUP_BLOCKS)
            )
        )
        self.norm_out = nn.LayerNorm(channels)
        start_linear_layers(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, height, width, channels), and so is the result."""
        result: torch.Tensor = self.norm_out(self.groups(self.norm_in(x)))
        return result


class CTHNet(ThroughPlaneModel):
    """The network of the module's page. Its depth and factor are fixed when it is built."""

    def __init__(self, config: CTHNetConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = (config.factor,)
        self.default_factor = config.factor
        encoder_copies = ENCODER_COPIES if config.depth > 3 else UNFOLDING_COPIES
        self.window = ModelWindow(
            depth=config.depth,
            min_depth=config.depth,
            tile=(256, 256),
            halo=(0, 0, 0),
            plan=config.plan,
            working_bytes=4.0
            * max(
                TOKEN_COPIES * config.features * config.thin_depth / config.depth,
                encoder_copies * config.encoder_features,
            ),
        )
        features, wide, heads = config.features, config.encoder_features, config.heads
        channels = config.thin_depth * features

        self.stem = nn.Conv3d(1, wide, (3, 7, 7), padding=(1, 3, 3))
        self.encoder = Encoder(wide, heads, config.encoder_window)
        self.after_encoder = nn.Conv3d(wide, wide, 3, padding=1)
        self.narrow = nn.Conv3d(wide, features, 3, padding=1)
        self.through_plane = Backbone(
            PLANE_WINDOW * features, 1, heads=heads, window=config.through_plane_window, drop_rate=config.drop_rate
        )
        self.in_plane = Backbone(
            channels,
            config.decoder_groups,
            heads=heads,
            window=(PLANE_WINDOW, PLANE_WINDOW),
            drop_rate=config.drop_rate,
        )
        self.after_decoder = PlaneConvolution(channels)
        self.head = nn.Sequential(nn.Linear(features, HEAD_FEATURES), nn.LeakyReLU(0.01), nn.Linear(HEAD_FEATURES, 1))
        self.position_code: torch.Tensor
        self.register_buffer("position_code", position_code(config.thin_depth, features), persistent=False)
        self.nearest_thick: torch.Tensor
        nearest = [nearest_thick(thin_index, config.factor) for thin_index in range(config.thin_depth)]
        self.register_buffer("nearest_thick", torch.tensor(nearest), persistent=False)

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`. The profile is ignored."""
        self.checked_factor(x, factor)
        height, width = x.shape[-2:]
        if not (len(x) and height and width):
            raise ShapeError(f"CTHNet cannot upscale an empty tensor of shape {tuple(x.shape)}; give it voxels.")

        thick = self.encode(reflect_to_multiple(x, PLANE_WINDOW))
        tokens = thick.index_select(3, self.nearest_thick) + self.position_code
        thin = self.head(tokens + self.decode_in_plane(self.attend_through_plane(tokens)))
        result: torch.Tensor = rearrange(thin, "b h w t 1 -> b 1 t h w")[..., :height, :width]
        return result

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Features of thick slices.

        Args:
            x: (batch, 1, slice, height, width).

        Returns:
            (batch, height, width, slice, feature).
        """
        stem = self.stem(x)
        thick = self.narrow(stem + self.after_encoder(self.encoder(stem)))
        result: torch.Tensor = rearrange(thick, "b f d h w -> b h w d f")
        return result

    def attend_through_plane(self, tokens: torch.Tensor) -> torch.Tensor:
        """The sum of attention in sagittal and in coronal views, with the same weights.

        Tokens are (batch, height, width, slice, feature), and so is the result. Eight neighbouring pixels orthogonal to
        the view are folded into its features, as in TVSRN; unlike there, the tokens themselves are not added.
        """
        views = [attend_in_view(self.through_plane, tokens, view) for view in VIEWS]
        return torch.stack(views).sum(dim=0)

    def decode_in_plane(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attention inside the plane and a convolution, all thin slices being channels.

        Tokens are (batch, height, width, slice, feature), and so is the result.
        """
        decoded: torch.Tensor = self.after_decoder(self.in_plane(tokens.flatten(3)))
        result: torch.Tensor = rearrange(decoded, "b h w (t f) -> b h w t f", t=tokens.shape[3])
        return result
