"""I3Net: thick slices are the channels of one axial plane, which two branches refine at full resolution.

    thick ── head ─┬─ cross-view ── 8 blocks ── cross-view ── 8 blocks ── cross-view ──┐
                   │      └───────────────────────────┴──────── fuse ───────────┴──────┘
                   └───────────────────────────────────────────── + ── tail ── thin

    a block:   x + inter-slice branch(x) + intra-slice branch(x)

- The inter-slice branch mixes slices: 2 x 2 pixels become channels, two 3x3 convolutions, and back.
- The intra-slice branch covers the whole plane at once: its cosine transform is cut into windows of 16 x 16
  frequencies, in each of which perceptrons mix frequencies and then channels.
- The cross-view block treats features as the third axis of the volume and convolves coronal planes, all rows being
  channels, and sagittal ones, all columns being channels.

Source: Song et al., "I3Net: Inter-Intra-slice Interpolation Network for Medical Slice Synthesis", IEEE TMI 2024
(arXiv 2405.02857), and the layer sizes of the authors' public code. Both the windows of frequencies (256 of them, each
of 256) and the channels of the cross-view block (256 rows, four at a time) tie the published network to planes of
256 x 256. Ours: that side is a config value, smaller planes are mirrored up to it and larger ones cut into such
squares; any depth and factor at construction. The published network copies the thick slices into its output. This is
left out on purpose: a thick slice is the average of thin ones, not one of them, so all thin slices come from the
network.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from einops import rearrange
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.swin import Perceptron
from thinslice.models.tvsrn import reflect_to_multiple
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile

FREQUENCY_WINDOW = 16
"""Side of a window of frequencies in the intra-slice branch."""

UNSHUFFLE = 2
"""Side of the square of pixels that become channels, in the inter-slice branch and in the cross-view block."""

WORKING_COPIES = 20.0
"""Arrays of all features that a forward pass without gradients holds at its peak: 17 measured on a CPU, 20 with two
threads."""


class I3NetConfig(BaseModel):
    """Sizes of I3Net.

    Attributes:
        depth: thick slices it takes.
        factor: thin slices per thick interval.
        features: channels of the axial plane.
        blocks: inter-intra-slice blocks; even.
        plane: side in pixels of the square planes it works on. Weights of the cosine transform and of the cross-view
            blocks belong to positions in the plane, so train with crops of this size.
        plan: window plan it is meant to run under.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(4, ge=2, le=64)
    factor: int = Field(5, ge=2, le=16)
    features: int = Field(64, ge=1, le=1024)
    blocks: int = Field(16, ge=2, le=128, multiple_of=2)
    plane: int = Field(256, ge=FREQUENCY_WINDOW, le=4096, multiple_of=FREQUENCY_WINDOW)
    plan: Literal["paper", "released"] = "paper"

    @property
    def thin_depth(self) -> int:
        """Thin slices it gives: (depth - 1) * factor + 1."""
        return (self.depth - 1) * self.factor + 1


def cosines(length: int) -> torch.Tensor:
    """The orthonormal cosine transform (type II) as a matrix: (length, length), frequency then position.

    >>> c = cosines(4)
    >>> torch.allclose(c @ c.T, torch.eye(4), atol=1e-6), c[0].tolist()
    (True, [0.5, 0.5, 0.5, 0.5])
    """
    frequency = torch.arange(length, dtype=torch.float64)[:, None]
    position = torch.arange(length, dtype=torch.float64) + 0.5
    matrix = (math.pi / length * frequency * position).cos() * math.sqrt(2 / length)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


class CosineTransform(nn.Module):
    """Cosine transform of square planes, and its inverse; nothing in it is learned."""

    def __init__(self, plane: int) -> None:
        super().__init__()
        self.matrix: torch.Tensor
        self.register_buffer("matrix", cosines(plane), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels (..., row, column) to frequencies of the same shape."""
        return self.matrix @ x @ self.matrix.T

    def inverse(self, bands: torch.Tensor) -> torch.Tensor:
        """Frequencies (..., frequency down, frequency across) to pixels of the same shape."""
        return self.matrix.T @ bands @ self.matrix


class PixelNorm(nn.LayerNorm):
    """Layer norm over the features of each pixel; (batch, feature, row, column) in and out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, feature, row, column)."""
        normed = super().forward(rearrange(x, "b f h w -> b h w f"))
        result: torch.Tensor = rearrange(normed, "b h w f -> b f h w")
        return result


class WindowMixer(nn.Module):
    """In each window of frequencies, one perceptron mixes the frequencies and one the features, each with a skip.

    Source: Tolstikhin et al., "MLP-Mixer", NeurIPS 2021; hidden sizes 1 and 2 times the input's, as published.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        frequencies = FREQUENCY_WINDOW**2
        self.frequency_norm = nn.LayerNorm(features)
        self.frequencies = Perceptron(frequencies, frequencies)
        self.feature_norm = nn.LayerNorm(features)
        self.features = Perceptron(features, 2 * features)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """windows: (windows, frequencies, features), and so is the result."""
        mixed = self.frequencies(self.frequency_norm(windows).transpose(1, 2)).transpose(1, 2)
        windows = windows + mixed
        result: torch.Tensor = windows + self.features(self.feature_norm(windows))
        return result


class IntraSliceBranch(nn.Module):
    """Works on all frequencies of the plane with equal capacity, so that low ones do not crowd out high ones."""

    def __init__(self, features: int, transform: CosineTransform) -> None:
        super().__init__()
        self.transform = transform
        self.norm = PixelNorm(features)
        self.convolutions = nn.Sequential(
            nn.Conv2d(features, features, 1),
            nn.Conv2d(features, features, 3, padding=1),
            nn.Conv2d(features, features, 3, padding=1),
        )
        self.mixer = WindowMixer(features)
        self.projection = nn.Conv2d(features, features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, feature, plane, plane), and so is the result."""
        bands = self.convolutions(self.norm(self.transform(x)))
        sides = {"p": FREQUENCY_WINDOW, "q": FREQUENCY_WINDOW}
        windows = rearrange(bands, "b f (h p) (w q) -> (b h w) (p q) f", **sides)
        windows = windows + self.mixer(windows)
        count = bands.shape[-1] // FREQUENCY_WINDOW
        bands = rearrange(windows, "(b h w) (p q) f -> b f (h p) (w q)", h=count, w=count, **sides)
        result: torch.Tensor = self.projection(self.transform.inverse(bands))
        return result


class Block(nn.Module):
    """The two branches side by side, with a skip (the paper's I2 block)."""

    def __init__(self, features: int, transform: CosineTransform) -> None:
        super().__init__()
        folded = UNSHUFFLE**2 * features
        self.inter_slice = nn.Sequential(
            nn.PixelUnshuffle(UNSHUFFLE),
            nn.Conv2d(folded, folded, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(folded, folded, 3, padding=1),
            nn.PixelShuffle(UNSHUFFLE),
            nn.Conv2d(features, features, 1),
        )
        self.intra_slice = IntraSliceBranch(features, transform)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, feature, plane, plane), and so is the result."""
        result: torch.Tensor = x + self.inter_slice(x) + self.intra_slice(x)
        return result


class ViewBranch(nn.Module):
    """Convolves the planes spanned by the features and one axis, all pixels of the other axis being channels.

    Args:
        features: of each pixel.
        plane: pixels along either axis.
        planes: einops axes of the planes: the axis that becomes channels, the features, the other axis.
    """

    def __init__(self, features: int, plane: int, planes: str) -> None:
        super().__init__()
        self.planes = planes
        channels = plane // UNSHUFFLE**2
        self.projection = nn.Conv2d(features, features, 1)
        self.convolutions = nn.Sequential(
            nn.PixelShuffle(UNSHUFFLE),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.PixelUnshuffle(UNSHUFFLE),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, feature, plane, plane), and so is the result."""
        planes = rearrange(self.projection(x), f"b f h w -> {self.planes}")
        result: torch.Tensor = rearrange(self.convolutions(planes), f"{self.planes} -> b f h w")
        return result


class CrossViewBlock(nn.Module):
    """The coronal and the sagittal view of the features, added to them."""

    def __init__(self, features: int, plane: int) -> None:
        super().__init__()
        self.norm = PixelNorm(features)
        self.coronal = ViewBranch(features, plane, "b h f w")
        self.sagittal = ViewBranch(features, plane, "b w f h")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, feature, plane, plane), and so is the result."""
        normed = self.norm(x)
        result: torch.Tensor = x + self.coronal(normed) + self.sagittal(normed)
        return result


class I3Net(ThroughPlaneModel):
    """The network of the module's page. Its depth and factor are fixed when it is built."""

    def __init__(self, config: I3NetConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = (config.factor,)
        self.default_factor = config.factor
        self.window = ModelWindow(
            depth=config.depth,
            min_depth=config.depth,
            tile=(config.plane, config.plane),
            halo=(0, 0, 0),
            plan=config.plan,
            working_bytes=4.0 * WORKING_COPIES * config.features / config.depth,
        )
        features, plane = config.features, config.plane
        transform = CosineTransform(plane)
        self.head = nn.Sequential(
            nn.Conv2d(config.depth, features, 3, padding=1), nn.ReLU(), nn.Conv2d(features, features, 3, padding=1)
        )
        self.cross_views = nn.ModuleList(CrossViewBlock(features, plane) for _ in range(3))
        self.halves = nn.ModuleList(
            nn.Sequential(*(Block(features, transform) for _ in range(config.blocks // 2))) for _ in range(2)
        )
        self.fuse = nn.Conv2d(len(self.cross_views) * features, features, 1)
        self.tail = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1), nn.ReLU(), nn.Conv2d(features, config.thin_depth, 3, padding=1)
        )

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`. The profile is ignored."""
        self.checked_factor(x, factor)
        height, width = x.shape[-2:]
        if not (len(x) and height and width):
            raise ShapeError(f"I3Net cannot upscale an empty tensor of shape {tuple(x.shape)}; give it voxels.")

        padded = reflect_to_multiple(x, self.config.plane)
        rows, columns = (extent // self.config.plane for extent in padded.shape[-2:])
        squares = rearrange(padded, "b 1 d (rows h) (columns w) -> (b rows columns) d h w", rows=rows, columns=columns)
        thin = self.upscale_squares(squares)
        result: torch.Tensor = rearrange(
            thin, "(b rows columns) t h w -> b 1 t (rows h) (columns w)", rows=rows, columns=columns
        )
        return result[..., :height, :width]

    def upscale_squares(self, thick: torch.Tensor) -> torch.Tensor:
        """Thick slices (batch, slice, plane, plane) to thin slices, (batch, thin slice, plane, plane)."""
        head = self.head(thick)
        first = self.cross_views[0](head)
        second = self.cross_views[1](self.halves[0](first))
        third = self.cross_views[2](self.halves[1](second))
        result: torch.Tensor = self.tail(head + self.fuse(torch.cat([first, second, third], dim=1)))
        return result
