"""DP-NSL: detail from a mixture of splines, confined to what the thick slices cannot see.

    thick ─┬── stem ── block ── ... ── block ─┬── coefficients of each expert ── B-splines along z ─┐
           │                                  └── router ── share of each expert in every voxel ────┴─ mixture
           │                                                                                           │
           │                         thin = anchor + detail - (what the thick slices see of it)     decoder
           └── anchor (range space) ──────────────── + ──────────── projection (null space) ────────── detail

- The measurement-consistent projection splits the thin volume in two: the anchor, which alone reproduces the thick
  slices, and detail that the measurement does not see.
- The mixture of splines brings features to the thin slices. Its experts are B-splines of different orders (box, linear,
  quadratic, cubic), so that an edge and a smooth region get a continuity of their own; a router chooses by content.
- The local spatial consistency decoder makes voxels of features by convolutions, so that neighbours agree.

Source: Song et al., "Dual-Prior Guided Null-Space Learning with Mixture-of-Splines for Arbitrary Medical Slice
Super-Resolution", 2026 (arXiv 2606.26716): its abstract, public summaries of the three parts, and the text beside the
authors' code (one network for all factors). Their layer sizes were not to be seen.
From the source: the three parts, their order, B-splines built from the box by convolution, a weighted mixture of the
experts that a router selects, one set of weights for all factors.
Ours: all sizes; an encoder of 3D residual blocks, zero padding; orders 0 to 3, all mixed in each thin voxel, because an
expert that is never selected learns nothing (`selected` takes fewer); the router's logits are interpolated linearly;
splines run along z alone, because the grid in plane stays as it is; the last layer starts at zero, so the untrained
network gives the anchor, which is linear. The source takes thick slices for samples of thin ones and copies them into
its output (`measurement="sample"`). Here they are averages, so the default projection (`"profile"`) keeps the averages
by the slice profile instead.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import einsum
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from thinslice.models.along_z import z_matrix
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.thinnet import full_precision
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile

WORKING_COPIES = 4.0
"""Arrays of an expert's features on the thin grid that a forward pass without gradients holds at its peak; with four of
the encoder's, 5 % more than measured on a CPU."""

Doubles = npt.NDArray[np.float64]
Measurement = Literal["profile", "sample"]


class DPNSLConfig(BaseModel):
    """Sizes of DP-NSL.

    Attributes:
        factor: the factor that factor=None means.
        window_depth: thick slices of a window in inference: as many as the crops that the network is trained on. It
            takes any number, but pads with zeros.
        features: channels of the encoder.
        blocks: residual blocks of the encoder.
        expert_features: channels of each expert and of the decoder.
        orders: polynomial orders of the experts' B-splines.
        selected: experts that are mixed in each thin voxel, those of the largest shares.
        measurement: "profile" keeps the averages of thin slices by the slice profile, "sample" copies the thick slices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: int = Field(5, ge=2, le=8)
    window_depth: int = Field(4, ge=2, le=512)
    features: int = Field(64, ge=1, le=1024)
    blocks: int = Field(8, ge=1, le=128)
    expert_features: int = Field(32, ge=1, le=1024)
    orders: tuple[Annotated[int, Field(ge=0, le=5)], ...] = Field((0, 1, 2, 3), min_length=1, max_length=6)
    selected: int = Field(4, ge=1, le=6)
    measurement: Measurement = "profile"

    @model_validator(mode="after")
    def _enough_experts(self) -> Self:
        if self.selected > len(self.orders):
            raise ValueError(f"selected ({self.selected}) is more than there are orders ({len(self.orders)})")
        return self


def b_spline(order: int, x: Doubles) -> Doubles:
    """The centred B-spline of an order: the box of width 1, convolved with itself `order` times.

    Args:
        order: polynomial order, >= 0; the result is `order` - 1 times continuously differentiable.
        x: distances from its centre, any shape, in knots.

    Returns:
        The shape of `x`. The box is 1/2 at its ends, so that shifted splines sum to 1 everywhere.

    >>> b_spline(1, np.array([0.0, 0.25, 1.0])).tolist(), b_spline(3, np.array([0.0])).round(4).tolist()
    ([1.0, 0.75, 0.0], [0.6667])
    """
    if order == 0:
        return np.where(np.abs(x) < 0.5, 1.0, np.where(np.abs(x) == 0.5, 0.5, 0.0))
    half = 0.5 * (order + 1)
    rising, falling = b_spline(order - 1, x + 0.5), b_spline(order - 1, x - 0.5)
    return ((half + x) * rising + (half - x) * falling) / order


@lru_cache(maxsize=256)
def spline_matrix(order: int, depth: int, factor: int) -> Doubles:
    """Values at the thin slices of a spline whose coefficients lie at the thick ones.

    Args:
        order: of the B-spline.
        depth: thick slices; coefficients beyond the first and the last repeat these.
        factor: thin slices per thick interval.

    Returns:
        ((depth - 1) * factor + 1, depth), read-only; its rows sum to 1.

    >>> spline_matrix(1, 2, 2).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    at = np.arange((depth - 1) * factor + 1) / factor
    beyond = order // 2 + 1
    matrix = np.zeros((len(at), depth))
    for knot in range(-beyond, depth + beyond):
        matrix[:, min(max(knot, 0), depth - 1)] += b_spline(order, at - knot)
    matrix.setflags(write=False)
    return matrix


@lru_cache(maxsize=256)
def measurement_matrices(
    measurement: Measurement, depth: int, profile: SliceProfile, factor: int
) -> tuple[Doubles, Doubles, Doubles]:
    """The anchor, what the measurement sees, and its pseudo-inverse.

    Args:
        measurement: as in `DPNSLConfig`.
        depth: thick slices.
        profile: of the thick slices; only "profile" needs it.
        factor: thin slices per thick interval.

    Returns:
        anchor (thin slices, depth), A (m, thin slices), A+ (thin slices, m): thin = anchor @ thick + (I - A+ A) detail.
        For "profile", m counts the thick slices whose whole profile lies inside.

    >>> anchor, seen, back = measurement_matrices("profile", 4, SliceProfile.mean(5), 5)
    >>> bool(np.allclose(seen @ anchor, np.eye(4)[1:3])), bool(np.allclose(seen @ back, np.eye(2)))
    (True, True)
    """
    if measurement == "sample":
        picked = np.eye((depth - 1) * factor + 1)[::factor]
        return z_matrix("linear", depth, profile, factor), picked, picked.T
    anchor = z_matrix("linear-consistent", depth, profile, factor)
    return anchor, profile.matrix(depth), profile.correction(depth)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with a ReLU between them, and a skip."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(features, features, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(features, features, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, features, depth, height, width), and so is the result."""
        change: torch.Tensor = self.layers(x)
        return x + change


class MixtureOfSplines(nn.Module):
    """Features at the thin slices, from B-splines of several orders that a router mixes."""

    def __init__(self, config: DPNSLConfig) -> None:
        super().__init__()
        self.orders, self.selected = config.orders, config.selected
        self.experts = nn.ModuleList(nn.Conv3d(config.features, config.expert_features, 1) for _ in config.orders)
        self.router = nn.Conv3d(config.features, len(config.orders), 1)

    def shares(self, x: torch.Tensor, factor: int) -> torch.Tensor:
        """Share of each expert at each thin voxel: (batch, expert, thin, height, width), summing to 1 over experts.

        Args:
            x: (batch, features, depth, height, width).
            factor: thin slices per thick interval.
        """
        logits = along_z(spline_matrix(1, x.shape[2], factor), self.router(x))
        least = logits.topk(self.selected, dim=1).values[:, -1:]
        return logits.masked_fill(logits < least, float("-inf")).softmax(dim=1)

    def forward(self, x: torch.Tensor, factor: int) -> torch.Tensor:
        """Arguments as for `shares`.

        Returns:
            (batch, expert features, (depth - 1) * factor + 1, height, width).
        """
        shares = self.shares(x, factor)
        mixed = torch.zeros(())
        for number, (order, expert) in enumerate(zip(self.orders, self.experts, strict=True)):
            made = along_z(spline_matrix(order, x.shape[2], factor), expert(x)) * shares[:, number : number + 1]
            mixed = made if number == 0 else mixed + made
        return mixed


class DPNSL(ThroughPlaneModel):
    """The network of the module's page, for any depth >= 2, any plane and factors 2 to 8.

    A window's output averages back to its thick slices by construction. The whole volume does so only nearly, where
    windows of few slices meet, so `consistent` stays False.
    """

    factors = range(2, 9)

    def __init__(self, config: DPNSLConfig) -> None:
        super().__init__()
        self.config = config
        self.default_factor = config.factor
        self.stem = nn.Conv3d(1, config.features, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(config.features) for _ in range(config.blocks)))
        self.splines = MixtureOfSplines(config)
        self.decoder = nn.Sequential(
            nn.Conv3d(config.expert_features, config.expert_features, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(config.expert_features, 1, 3, padding=1),
        )
        for last in self.decoder[-1].parameters():
            nn.init.zeros_(last)
        self.window = ModelWindow(
            min_depth=2,
            max_depth=config.window_depth,
            tile=(256, 256),
            halo=(1, 16, 16),
            # Arrays on the thin grid: an expert's result, its share of the mixture, the mixture and the decoder's.
            working_bytes=4.0 * (4 * config.features + WORKING_COPIES * config.expert_features * config.factor),
        )

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`."""
        factor = self.checked_factor(x, factor)
        matrices = measurement_matrices(
            self.config.measurement, x.shape[2], profile or SliceProfile.mean(factor), factor
        )
        features = F.relu(self.stem(x)).contiguous(memory_format=torch.channels_last_3d)
        detail: torch.Tensor = self.decoder(self.splines(self.blocks(features), factor))
        with full_precision(x.device.type):
            anchor, seen, back = matrices
            detail = detail.float()
            return along_z(anchor, x.float()) + detail - along_z(back, along_z(seen, detail))


def along_z(matrix: Doubles, x: torch.Tensor) -> torch.Tensor:
    """A matrix (out, depth) applied along z: (batch, channels, depth, height, width) to (..., out, height, width)."""
    return einsum(torch.tensor(matrix, dtype=x.dtype, device=x.device), x, "out d, b c d h w -> b c out h w")
