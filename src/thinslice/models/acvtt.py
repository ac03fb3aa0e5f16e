"""ACVTT: planes along z are restored with texture taken from axial slices, which are sharp, then fused.

    thick ── linear along z ──┬── sagittal planes ──┐                     ┌── sagittal result ──┐
      │                       └── coronal planes ───┤  transfer network   ├── coronal result ───┴── fusion ── thin
      └── three axial slices ── (same encoder) ─────┘  (shared weights)

Both networks are U-Nets of the same size whose output is added to their input. On its way up, the transfer network
compares at every scale each 8 x 8 block of its plane (in thin pixels) with all blocks of each axial slice, and adds
the matching blocks.

Trained in two stages: `transfer` first, on both results of `views`, then `fusion` with `transfer` frozen.

Source: Uhm et al., "An Anisotropic Cross-View Texture Transfer with Multi-Reference Non-Local Attention for CT Slice
Interpolation", arXiv 2509.20242, and the layer sizes of the authors' public code. Ours: the axial slices are spread
over the window at hand, in training too, where the code takes the whole volume's and in training random ones; any
factor, since thin slices are there before the network starts.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import einsum, rearrange
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.views import in_chunks
from thinslice.models.tvsrn import reflect_to_multiple
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile

PLANES = {"sagittal": "w 1 t h", "coronal": "h 1 t w"}
"""Planes along z of a volume of t x h x w voxels: one per column, or one per row."""

HALO = (2, 16, 16)
"""Margins of a window's input around its output. Convolutions reach about 50 thin voxels and the axial slices lie
anywhere, so that a result depends on the window whatever the halo."""

WORKING_BYTES = 2000.0
"""Bytes per thick voxel: 918 measured on a CPU with 8 slices of 128 x 128. Most of it belongs to the axial slices
whatever the depth, so shallower windows take more per voxel; twice the measured serves four slices."""


class ACVTTConfig(BaseModel):
    """Sizes of ACVTT.

    Attributes:
        features: channels at the finest scale; each coarser one has twice as many.
        levels: scales; planes are padded to multiples of 2^(levels - 1).
        references: axial slices that serve as sources of texture.
        factor: factor that factor=None means.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: int = Field(64, ge=1, le=512)
    levels: int = Field(4, ge=1, le=6)
    references: int = Field(3, ge=1, le=16)
    factor: int = Field(5, ge=2, le=8)

    @property
    def block(self) -> int:
        """Side of a compared block in pixels of the plane; planes are padded to a multiple of it."""
        return 1 << (self.levels - 1)


def spread(depth: int, count: int) -> list[int]:
    """Thick slices spread evenly over a volume, its ends left out where they can be.

    >>> spread(8, 3), spread(2, 3)
    ([2, 4, 6], [0, 1, 1])
    """
    return [(index + 1) * depth // (count + 1) for index in range(count)]


class Convolutions(nn.Sequential):
    """Two 3x3 convolutions, each followed by a ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
        )


class Texture(NamedTuple):
    """Blocks of axial slices at one scale.

    Attributes:
        key: (reference, block, values of a block), compared with the blocks of planes.
        value: (reference, block, values of a block), added to the planes.
    """

    key: torch.Tensor
    value: torch.Tensor


class TextureTransfer(nn.Module):
    """Adds matching blocks of the axial slices to each block of a plane (the paper's multi-reference attention).

    Within one axial slice blocks are weighed by attention; then the slices are weighed by how well they match.

    Args:
        channels: of plane and axial slices.
        block: side of a block in pixels at this scale.
    """

    def __init__(self, channels: int, block: int) -> None:
        super().__init__()
        self.block = block
        self.query, self.key, self.value, self.projection = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        self.query_norm = nn.LayerNorm(channels * block**2)
        self.key_norm = nn.LayerNorm(channels * block**2)

    def blocks(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channel, height, width) to (n, block, values of a block)."""
        return rearrange(x, "n c (h p) (w q) -> n (h w) (c p q)", p=self.block, q=self.block)

    def remember(self, axial: torch.Tensor) -> Texture:
        """Keys and values of axial slices, (references, channel, height, width)."""
        return Texture(self.key_norm(self.blocks(self.key(axial))), self.blocks(self.value(axial)))

    def forward(self, planes: torch.Tensor, texture: Texture) -> torch.Tensor:
        """Transfer.

        Args:
            planes: (planes, channel, thin, extent).
            texture: of the axial slices.

        Returns:
            The shape of `planes`.
        """
        query = self.query_norm(self.blocks(self.query(planes)))
        # Fused attention does not return how well a block matched, which the weights of the axial slices need.
        similarity = einsum(query, texture.key, "n query f, r key f -> n r query key") * query.shape[-1] ** -0.5
        attention = similarity.softmax(dim=-1)
        relevance = (attention * similarity).sum(dim=-1, keepdim=True).softmax(dim=1)
        found = einsum(relevance * attention, texture.value, "n r query key, r key f -> n query f")
        height = planes.shape[-2] // self.block
        matching = rearrange(found, "n (h w) (c p q) -> n c (h p) (w q)", h=height, p=self.block, q=self.block)
        transferred: torch.Tensor = planes + self.projection(matching)
        return transferred


class UNet(nn.Module):
    """Encoder, decoder and skips; the mean of its inputs is added to its output.

    Args:
        inputs: channels.
        config: sizes.
        transfer: whether it takes texture from references at every scale.
    """

    def __init__(self, inputs: int, config: ACVTTConfig, *, transfer: bool) -> None:
        super().__init__()
        channels = [config.features << level for level in range(config.levels)]
        self.first = nn.Conv2d(inputs, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            Convolutions(channels[max(level - 1, 0)], channels[level]) for level in range(config.levels)
        )
        self.up = nn.ModuleList(
            Convolutions(channels[level] + channels[level + 1], channels[level]) for level in range(config.levels - 1)
        )
        self.transfers = nn.ModuleList(
            TextureTransfer(channels[level], config.block >> level) for level in range(config.levels if transfer else 0)
        )
        self.last = nn.Conv2d(channels[0], 1, 3, padding=1)

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of every scale, the finest first; x: (n, inputs, height, width), extents multiples of a block."""
        scales: list[torch.Tensor] = [self.down[0](self.first(x))]
        for down in self.down[1:]:
            scales.append(down(F.avg_pool2d(scales[-1], 2)))
        return scales

    def remember(self, axial: torch.Tensor) -> list[Texture]:
        """Texture of every scale; axial: (references, inputs, height, width), extents multiples of a block."""
        return [
            transfer.remember(features)
            for transfer, features in zip(
                (cast(TextureTransfer, module) for module in self.transfers), self.encode(axial), strict=True
            )
        ]

    def forward(self, x: torch.Tensor, textures: list[Texture] | None = None) -> torch.Tensor:
        """Restore.

        Args:
            x: (n, inputs, height, width), extents multiples of a block.
            textures: `remember` of the axial slices; None without transfer.

        Returns:
            (n, 1, height, width).
        """
        scales = self.encode(x)
        features = scales[-1]
        for level in reversed(range(len(scales))):
            if level < len(scales) - 1:
                finer = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
                features = self.up[level](torch.cat([finer, scales[level]], dim=1))
            if textures is not None:
                features = self.transfers[level](features, textures[level])
        result: torch.Tensor = x.mean(dim=1, keepdim=True) + self.last(features)
        return result


class ACVTT(ThroughPlaneModel):
    """The network of the module's page, for any depth >= 2, any plane and any factor."""

    factors = range(2, 9)

    def __init__(self, config: ACVTTConfig) -> None:
        super().__init__()
        self.config = config
        self.default_factor = config.factor
        self.window = ModelWindow(min_depth=2, tile=(256, 256), halo=HALO, working_bytes=WORKING_BYTES)
        self.transfer = UNet(1, config, transfer=True)
        self.fusion = UNet(2, config, transfer=False)

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`. The profile is ignored."""
        both = torch.cat(self.views(x, factor=factor, profile=profile), dim=1)
        height, width = both.shape[-2:]
        slices = reflect_to_multiple(rearrange(both, "b views t h w -> (b t) views h w"), self.config.block)
        fused = in_chunks(self.fusion, slices)[..., :height, :width]
        result: torch.Tensor = rearrange(fused, "(b t) 1 h w -> b 1 t h w", b=len(x))
        return result

    def views(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sagittal and the coronal result before fusion, which the first stage of training compares with the truth.

        Arguments and errors as for `forward`.

        Returns:
            Two tensors (batch, 1, (D - 1) * factor + 1, H, W).
        """
        chosen = self.checked_factor(x, factor)
        if not x.numel():
            raise ShapeError(f"ACVTT cannot upscale an empty tensor of shape {tuple(x.shape)}; give it voxels.")
        size = ((x.shape[2] - 1) * chosen + 1, *x.shape[-2:])
        blurred = F.interpolate(x, size, mode="trilinear", align_corners=True)
        axial = rearrange(x[:, :, spread(x.shape[2], self.config.references)], "b 1 r h w -> b r 1 h w")
        textures = [self.transfer.remember(reflect_to_multiple(some, self.config.block)) for some in axial]
        sagittal, coronal = (
            torch.cat(
                [
                    self.restore(volume, planes, texture)
                    for volume, texture in zip(torch.split(blurred, 1), textures, strict=True)
                ]
            )
            for planes in PLANES.values()
        )
        return sagittal, coronal

    def restore(self, blurred: torch.Tensor, planes: str, textures: list[Texture]) -> torch.Tensor:
        """The result of one view of one volume before fusion.

        Args:
            blurred: (1, 1, thin, height, width), and so is the result.
            planes: einops axes of the view's planes, from `PLANES`.
            textures: of the volume's axial slices, one per scale.
        """
        cut = rearrange(blurred, f"1 1 t h w -> {planes}")
        thin, extent = cut.shape[-2:]
        padded = reflect_to_multiple(cut, self.config.block)
        restored = in_chunks(lambda some: self.transfer(some, textures), padded)[..., :thin, :extent]
        result: torch.Tensor = rearrange(restored, f"{planes} -> 1 1 t h w")
        return result
