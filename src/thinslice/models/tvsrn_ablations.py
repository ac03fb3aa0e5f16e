"""The paper's ablations of TVSRN that are networks of their own: an encoder, and sub-pixel up-sampling for a decoder.

    tvsrn-encoder:      thick ── linear 1 -> 32 ── Swin blocks on slices as channels (+) ── linear ── sub-pixel ── thin
    tvsrn-vit-encoder:  thick ── 1x16x16 patches ── + position ── transformer layers ── linear ── sub-pixel ── thin

(The third, `tvsrn-no-tab`, is TVSRN without through-plane attention: a preset of `tvsrn`.)

Source: Yu et al., MICCAI 2022, section 3.3. Stated of the encoder: TVSRN's encoder only, with N = 8 and C = 32, and
sub-pixel up-sampling. Stated of the other: standard transformer layers after Dosovitskiy et al. (ViT, ICLR 2021), eight
of them, patches of 1 x 16 x 16, tokens of 512, sub-pixel up-sampling.
Ours, for both: a linear map of each thick slice's features to its sub-slices (these networks have no convolutions), in
symmetric order about it (`subpixel`). For the encoder: 8 heads, window 8 x 8, one residual group, skip and stochastic
depth as in our `tvsrn`. For ViT, as in its paper: pre-norm layers, 8 heads of 64, perceptrons of four times the width,
GELU, learned positions (a vector per token of 4 x 256 x 256 voxels, interpolated in plane for other sizes), a norm at
the end; every token attends to every other, across slices too.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import rearrange
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.subpixel import interleave, sub_slices
from thinslice.models.blocks.swin import INIT_STD, Perceptron, SwinBackbone, start_linear_layers
from thinslice.models.tvsrn import PLANE_WINDOW, VoxelEmbedding, reflect_to_multiple
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile

TILE = 256
"""Side in pixels of the planes of training and inference in the paper, and of the learned positions."""


class TVSRNEncoderConfig(BaseModel):
    """Sizes of the encoder-only network.

    Attributes:
        depth: thick slices it takes.
        factor: thin slices per thick interval.
        features: per voxel (the paper's C).
        heads: attention heads.
        blocks: Swin blocks (the paper's N).
        drop_rate: stochastic depth of the last block.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(4, ge=2, le=64)
    factor: int = Field(5, ge=2, le=16)
    features: int = Field(32, ge=1, le=256)
    heads: int = Field(8, ge=1, le=256)
    blocks: int = Field(8, ge=1, le=64)
    drop_rate: float = Field(0.1, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.depth * self.features % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide the {self.depth * self.features} channels")
        return self


class TVSRNViTEncoderConfig(BaseModel):
    """Sizes of the network of standard transformer layers.

    Attributes:
        depth: thick slices it takes.
        factor: thin slices per thick interval.
        patch: side in pixels of a patch of one slice.
        features: per token.
        heads: attention heads.
        layers: transformer layers.
        mlp_ratio: hidden features of the perceptrons over `features`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(4, ge=2, le=64)
    factor: int = Field(5, ge=2, le=16)
    patch: int = Field(16, ge=1, le=64)
    features: int = Field(512, ge=1, le=4096)
    heads: int = Field(8, ge=1, le=256)
    layers: int = Field(8, ge=1, le=64)
    mlp_ratio: int = Field(4, ge=1, le=16)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.features % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide the {self.features} features")
        return self


class TVSRNEncoder(ThroughPlaneModel):
    """TVSRN's encoder and sub-pixel up-sampling. Its depth and factor are fixed when it is built."""

    def __init__(self, config: TVSRNEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = (config.factor,)
        self.default_factor = config.factor
        self.window = ModelWindow(
            depth=config.depth,
            min_depth=config.depth,
            tile=(TILE, TILE),
            plan="paper",
            working_bytes=4.0 * 11 * config.features,  # measured
        )
        self.embedding = VoxelEmbedding(config.features)
        self.encoder = SwinBackbone(
            config.depth * config.features,
            (config.blocks,),
            heads=config.heads,
            window=(PLANE_WINDOW, PLANE_WINDOW),
            drop_rate=config.drop_rate,
        )
        self.head = nn.Linear(config.features, sub_slices(config.factor))

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`. The profile is ignored."""
        factor = self.checked_factor(x, factor)
        height, width = x.shape[-2:]
        thick = self.embedding(reflect_to_multiple(x, PLANE_WINDOW))
        encoded = thick + self.encoder(thick.flatten(3)).view_as(thick)
        sub = rearrange(self.head(encoded), "b h w d thin -> b thin d h w")
        return interleave(sub[..., :height, :width], factor)


class TransformerLayer(nn.Module):
    """Attention among all tokens, then a perceptron per token, each behind a norm and with a skip."""

    def __init__(self, features: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(features)
        self.qkv = nn.Linear(features, 3 * features)
        self.projection = nn.Linear(features, features)
        self.mlp_norm = nn.LayerNorm(features)
        self.mlp = Perceptron(features, mlp_ratio * features)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens: (batch, tokens, features), and so is the result."""
        tokens = tokens + self.attend(self.attention_norm(tokens))
        result: torch.Tensor = tokens + self.mlp(self.mlp_norm(tokens))
        return result

    def attend(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attention of every token to every other; tokens: (batch, tokens, features), and so is the result."""
        query, key, value = rearrange(
            self.qkv(tokens), "b n (three heads c) -> three b heads n c", three=3, heads=self.heads
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        projected: torch.Tensor = self.projection(rearrange(attended, "b heads n c -> b n (heads c)"))
        return projected


class TVSRNViTEncoder(ThroughPlaneModel):
    """Standard transformer layers and sub-pixel up-sampling. Its depth and factor are fixed when it is built."""

    def __init__(self, config: TVSRNViTEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = (config.factor,)
        self.default_factor = config.factor
        self.window = ModelWindow(
            depth=config.depth,
            min_depth=config.depth,
            tile=(TILE, TILE),
            plan="paper",
            working_bytes=4.0 * 14 * config.features / config.patch**2,  # measured
        )
        side = -(-TILE // config.patch)
        self.embedding = nn.Linear(config.patch**2, config.features)
        self.position = nn.Parameter(torch.empty(config.depth, side, side, config.features))
        self.layers = nn.Sequential(
            *(TransformerLayer(config.features, config.heads, config.mlp_ratio) for _ in range(config.layers))
        )
        self.norm = nn.LayerNorm(config.features)
        self.head = nn.Linear(config.features, sub_slices(config.factor) * config.patch**2)
        nn.init.trunc_normal_(self.position, std=INIT_STD)
        start_linear_layers(self)

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`. The profile is ignored."""
        factor = self.checked_factor(x, factor)
        height, width = x.shape[-2:]
        pixels = {"p": self.config.patch, "q": self.config.patch}
        patches = rearrange(reflect_to_multiple(x, self.config.patch), "b 1 d (h p) (w q) -> b d h w (p q)", **pixels)
        tokens = self.embedding(patches) + self.positions(*patches.shape[2:4])
        encoded = self.norm(self.layers(tokens.flatten(1, 3))).view_as(tokens)
        sub = rearrange(self.head(encoded), "b d h w (thin p q) -> b thin d (h p) (w q)", **pixels)
        return interleave(sub[..., :height, :width], factor)

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """The learned positions for a plane of so many patches: (depth, rows, columns, features)."""
        if (rows, columns) == self.position.shape[1:3]:
            return self.position
        planes = rearrange(self.position, "d h w c -> d c h w")
        resized = F.interpolate(planes, size=(rows, columns), mode="bilinear", align_corners=False)
        return rearrange(resized, "d c h w -> d h w c")
