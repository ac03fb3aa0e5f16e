"""TVSRN, the paper's transformer: thick slices are the visible part of a volume of which the rest is masked.

    thick ── embedding ── encoder ──┐ + ── thick tokens ──┐
                     └──────────────┘                     ├─ interleave ── + z code ── tokens
                                           mask tokens ───┘                              │
      thin ── head ── + ── in-plane decoder (+) ── through-plane attention (+) ──────────┤
                      └──────────────────────────────────────────────────────────────────┘

Tokens are (batch, height, width, slice, feature) in all stages, so that each stage's channels are a view of them:
slices and features in the encoder and in the in-plane decoder, features of neighbouring pixels in through-plane
attention.

The catalog has two presets of this implementation: `tvsrn`, after the paper's text where it is clear, and
`tvsrn-released`, which reproduces the authors' checkpoints with their deviations from it.

Source: Yu et al., "RPLHR-CT Dataset and Transformer Baseline for Volumetric Super-Resolution from CT Scans", MICCAI
2022, section 2.2. Deviations from the text in both presets: a skip around the encoder and around the decoder and two
residual groups in the decoder, as in the released code. Ours alone: planes of any size, any depth, any factor.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, Self

import torch
from einops import rearrange
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.pieces import add_in_pieces, in_pieces, kept
from thinslice.models.blocks.swin import INIT_STD, SwinBackbone
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile

PLANE_WINDOW = 8
"""Side in pixels of an in-plane attention window and of an embedded patch, and number of pixels that through-plane
attention folds; planes are padded to a multiple of it."""

GROUP_BLOCKS = 4
"""Swin blocks in a residual group of the decoder."""

VIEWS = {
    "sagittal": ("b h (g fold) t f", "(b g) t h (f fold)"),
    "coronal": ("b (g fold) w t f", "(b g) t w (f fold)"),
}
"""Tokens of the volume, and the same tokens as planes along z whose features hold the neighbours across the plane."""

ACROSS = {"sagittal": 2, "coronal": 1}
"""Axis of the tokens orthogonal to the planes of a view."""

CACHED_PLANES = 8
"""Planes along z that through-plane attention takes at a time on a CPU: a few MiB, and enough for whole pieces."""

WORKING_COPIES = 8
"""Arrays as large as all tokens that a forward pass without gradients holds at its peak: 6 measured on a CPU. An
accelerator, where blocks run whole, holds 17; passes too large for its memory are halved there."""


class TVSRNConfig(BaseModel):
    """Sizes of TVSRN, and the choices in which the paper and the released code differ.

    Attributes:
        depth: thick slices it takes.
        factor: thin slices per thick interval.
        features: per voxel (the paper's C); even.
        heads: attention heads everywhere.
        encoder_blocks: Swin blocks in the encoder (the paper's N).
        through_plane_blocks: Swin blocks of through-plane attention; 0 leaves it out, as in the paper's ablation.
        through_plane_window: its window (thin slices, pixels).
        decoder_groups: residual groups of four Swin blocks in the in-plane decoder. The paper's text
            has one (its M); only two fit its parameter counts, and the released code has two.
        embedding: "voxel", each voxel by itself (paper); "patch", all slices of 8 x 8 pixels at once (released).
        mask_tokens: "learned", a vector per missing slice (paper); "zero" (released, where they never became
            parameters).
        head: "linear", features -> 1 (paper); "released", two layers that read the channels in the wrong order.
        drop_rate: stochastic depth of each backbone's last block.
        plan: window plan it is meant for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(4, ge=2, le=64)
    factor: int = Field(5, ge=2, le=16)
    features: int = Field(8, ge=2, le=256, multiple_of=2)
    heads: int = Field(8, ge=1, le=256)
    encoder_blocks: int = Field(4, ge=1, le=64)
    through_plane_blocks: int = Field(4, ge=0, le=64)
    through_plane_window: tuple[int, int] = (4, 8)
    decoder_groups: int = Field(2, ge=1, le=16)
    embedding: Literal["voxel", "patch"] = "voxel"
    mask_tokens: Literal["learned", "zero"] = "learned"
    head: Literal["linear", "released"] = "linear"
    drop_rate: float = Field(0.1, ge=0.0, lt=1.0)
    plan: Literal["paper", "released"] = "paper"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for stage, channels in (
            ("encoder", self.depth * self.features),
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


def position_code(length: int, features: int) -> torch.Tensor:
    """Sinusoidal code of positions 0 to length - 1: (length, features), sines at even features, cosines at odd ones.

    Source: Vaswani et al., "Attention is all you need", section 3.5.

    >>> position_code(3, 8)[0].tolist()
    [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """
    rates = torch.exp(torch.arange(0, features, 2, dtype=torch.float64) * (-math.log(10000.0) / features))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


def reflect_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """The last two axes padded at their ends to a multiple, mirrored as often as necessary (a single row is repeated).

    Args:
        x: (..., height, width), neither of them 0.
        multiple: divides the extents of the result.

    >>> reflect_to_multiple(torch.arange(3.0)[None], 8)[0].tolist()
    [0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0]
    """
    for axis in (-2, -1):
        extent = x.shape[axis]
        if extent % multiple:
            at = torch.arange(extent + -extent % multiple, device=x.device) % max(1, 2 * extent - 2)
            x = x.index_select(axis, torch.minimum(at, 2 * extent - 2 - at))
    return x


def attend_in_view(backbone: nn.Module, tokens: torch.Tensor, view: str) -> torch.Tensor:
    """Attention in the planes of a view, eight neighbouring pixels orthogonal to it folded into the features.

    Args:
        backbone: attends in planes (planes, thin slice, row or column, 8 * feature).
        tokens: (batch, height, width, slice, feature), and so is the result.
        view: "sagittal" or "coronal".
    """
    volume, planes = VIEWS[view]
    attended = backbone(rearrange(tokens, f"{volume} -> {planes}", fold=PLANE_WINDOW))
    result: torch.Tensor = rearrange(attended, f"{planes} -> {volume}", b=len(tokens), fold=PLANE_WINDOW)
    return result


class VoxelEmbedding(nn.Module):
    """One linear map of each voxel to its features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 1, slice, height, width) to (batch, height, width, slice, feature)."""
        embedded: torch.Tensor = self.linear(rearrange(x, "b 1 d h w -> b h w d 1"))
        return embedded


class PatchEmbedding(nn.Module):
    """One linear map of all slices of an in-plane patch to all features of its voxels."""

    def __init__(self, depth: int, features: int) -> None:
        super().__init__()
        self.depth = depth
        pixels = PLANE_WINDOW**2
        self.linear = nn.Linear(depth * pixels, depth * features * pixels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 1, slice, height, width) to (batch, height, width, slice, feature)."""
        sides = {"p": PLANE_WINDOW, "q": PLANE_WINDOW}
        patches = self.linear(rearrange(x, "b 1 d (h p) (w q) -> b h w (d p q)", **sides))
        voxels: torch.Tensor = rearrange(patches, "b h w (d f p q) -> b (h p) (w q) d f", d=self.depth, **sides)
        return voxels


class ReleasedHead(nn.Module):
    """Two pointwise layers that take the channels in the order of the released code.

    Channel f + features * s holds feature f of slice s, but is read as feature c // slices of slice c % slices.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, 2 * features)
        self.activation = nn.LeakyReLU(0.01)
        self.output = nn.Linear(2 * features, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, height, width, slice, feature) to (batch, height, width, slice, 1)."""

        def read(rows: torch.Tensor) -> torch.Tensor:
            misread = rearrange(rows.flatten(3), "b h w (f t) -> b h w t f", t=rows.shape[3])
            thin: torch.Tensor = self.output(self.activation(self.hidden(misread)))
            return thin

        return in_pieces(tokens, read, axis=1, step=PLANE_WINDOW)


class TVSRN(ThroughPlaneModel):
    """The network of the module's page. Its depth and factor are fixed when it is built."""

    def __init__(self, config: TVSRNConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = (config.factor,)
        self.default_factor = config.factor
        self.window = ModelWindow(
            depth=config.depth,
            min_depth=config.depth,
            tile=(256, 256),
            halo=(0, 0, 0),
            plan=config.plan,
            working_bytes=4.0 * WORKING_COPIES * config.features * config.thin_depth / config.depth,
        )
        features, heads, missing = config.features, config.heads, config.thin_depth - config.depth

        def backbone(channels: int, groups: tuple[int, ...], window: tuple[int, int]) -> SwinBackbone:
            return SwinBackbone(channels, groups, heads=heads, window=window, drop_rate=config.drop_rate)

        plane = (PLANE_WINDOW, PLANE_WINDOW)
        self.embedding = (
            VoxelEmbedding(features) if config.embedding == "voxel" else PatchEmbedding(config.depth, features)
        )
        self.encoder = backbone(config.depth * features, (config.encoder_blocks,), plane)
        self.through_plane = (
            backbone(PLANE_WINDOW * features, (config.through_plane_blocks,), config.through_plane_window)
            if config.through_plane_blocks
            else None
        )
        self.in_plane = backbone(config.thin_depth * features, (GROUP_BLOCKS,) * config.decoder_groups, plane)
        self.head = nn.Linear(features, 1) if config.head == "linear" else ReleasedHead(features)

        self.mask_tokens: torch.Tensor
        if config.mask_tokens == "learned":
            self.mask_tokens = nn.Parameter(torch.empty(missing, features))
            nn.init.trunc_normal_(self.mask_tokens, std=INIT_STD)
        else:
            self.register_buffer("mask_tokens", torch.zeros(missing, features), persistent=False)
        self.position_code: torch.Tensor
        self.register_buffer("position_code", position_code(config.thin_depth, features), persistent=False)
        self.interleaving: torch.Tensor
        self.register_buffer("interleaving", interleaving(config), persistent=False)

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`. The profile is ignored."""
        self.checked_factor(x, factor)
        height, width = x.shape[-2:]

        thick = self.encode(self.embedding(reflect_to_multiple(x, PLANE_WINDOW)))
        tokens = self.insert_mask_tokens(thick) + self.position_code
        thin = self.head(tokens + self.decode_in_plane(self.attend_through_plane(tokens)))
        result: torch.Tensor = rearrange(thin, "b h w t 1 -> b 1 t h w")[..., :height, :width]
        return result

    def encode(self, thick: torch.Tensor) -> torch.Tensor:
        """Attention inside the plane; thick: (batch, height, width, slice, feature), and so is the result."""
        encoded: torch.Tensor = self.encoder(thick.flatten(3))
        return thick + encoded.view_as(thick)

    def insert_mask_tokens(self, thick: torch.Tensor) -> torch.Tensor:
        """Thick slice k at thin slice factor * k, mask tokens between; both (batch, height, width, slice, feature)."""
        masked = self.mask_tokens.expand(*thick.shape[:3], -1, -1)
        return torch.cat([thick, masked], dim=3).index_select(3, self.interleaving)

    def attend_through_plane(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attention in sagittal and coronal views, with the same weights (the paper's TAB, equation 2).

        Tokens are (batch, height, width, slice, feature), and so is the result. Eight neighbouring pixels orthogonal to
        the view are folded into its features.
        """
        if self.through_plane is None:
            return tokens
        result, attend = kept(tokens), partial(attend_in_view, self.through_plane)
        for view, axis in ACROSS.items():
            # Planes pass all blocks of the backbone while they are in a CPU's cache.
            step = CACHED_PLANES * PLANE_WINDOW
            result = add_in_pieces(result, tokens, partial(attend, view=view), axis=axis, step=step)
        return result

    def decode_in_plane(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attention inside the plane; tokens: (batch, height, width, slice, feature), and so is the result."""
        decoded: torch.Tensor = self.in_plane(tokens.flatten(3))
        return tokens + decoded.view_as(tokens)


def interleaving(config: TVSRNConfig) -> torch.Tensor:
    """Index of each thin slice's token among the thick slices followed by the mask tokens: (thin_depth,).

    >>> interleaving(TVSRNConfig(depth=3, factor=2)).tolist()
    [0, 3, 1, 4, 2]
    """
    order = torch.empty(config.thin_depth, dtype=torch.int64)
    is_thick = torch.arange(config.thin_depth) % config.factor == 0
    order[is_thick] = torch.arange(config.depth)
    order[~is_thick] = torch.arange(config.depth, config.thin_depth)
    return order
