"""Uncertainty of a network: a head that estimates the standard deviation of the error in every voxel.

The head reads a network's last features, which lie on thick slices, and gives the standard deviation of every thin
voxel around them, through a learned basis along z like the head of the estimate, so that it learns how errors grow with
the distance from a thick slice. It is trained after the network, on the network's errors, and does not change the
estimate. `Calibration` holds factors measured on patients that the network was not trained on.

Source: ours. A learned scale: Kendall and Gal, NeurIPS 2017; beside a frozen network: Upadhyay et al., ECCV 2022
(BayesCap).
"""

from __future__ import annotations

import math
from abc import ABC
from dataclasses import replace
from typing import cast

import torch
from einops import einsum, rearrange
from torch import nn

from thinslice.intensity import WINDOW_WIDTH_HU
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.onednn import convolution
from thinslice.models.blocks.pieces import scaled
from thinslice.models.blocks.subpixel import thin_slices
from thinslice.profile import SliceProfile

FLOOR_HU = 0.5
"""Least standard deviation; rounding to whole HU alone gives 0.3."""

START_HU = 20.0
"""Standard deviation that an untrained head gives everywhere."""

_LOG_RANGE = (-4.0, 7.0)
"""Range of the head's output, the logarithm of HU: up to 1097 HU."""


class DeviationHead(nn.Module):
    """Standard deviations of the thin slices around each thick one.

    Args:
        features: channels of its input.
        width: channels inside.
        basis: functions along z that it combines.
        hidden: width of the network that samples them.
        unshuffle: in-plane pixels per side that a feature covers.
        condition: values that describe the thick slices (factor and profile).
        positions: values that describe the position of a thin slice.
    """

    def __init__(
        self, features: int, *, unshuffle: int, condition: int, positions: int, width: int, basis: int, hidden: int
    ) -> None:
        super().__init__()
        self.unshuffle, self.basis = unshuffle, basis
        # One voxel wide, so that this head reaches no further than the estimate's own and needs no larger windows.
        self.gather = nn.Conv3d(features, width, 1)
        self.modulation = nn.Linear(condition, 2 * width)
        self.filters = nn.Conv3d(width, basis * unshuffle**2, 3, padding=1)
        self.position = nn.Sequential(nn.Linear(positions, hidden), nn.SiLU(), nn.Linear(hidden, basis + 1))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        nn.init.normal_(self.filters.weight, std=0.1 / math.sqrt(27 * width))
        nn.init.zeros_(self.filters.bias)  # type: ignore[arg-type]  # Conv3d made one

    def forward(self, x: torch.Tensor, condition: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Standard deviations.

        Args:
            x: (batch, features, depth, height, width) features of thick slices.
            condition: (condition,).
            position: (factor, positions), one row for each thin slice of a thick one.

        Returns:
            (batch, depth * factor, height * unshuffle, width * unshuffle), unit intensity, at least
            `FLOOR_HU` of it; ordered as the rows of `position`.
        """
        scale, shift = self.modulation(condition).chunk(2)
        gather_bias, filters_bias = cast(torch.Tensor, self.gather.bias), cast(torch.Tensor, self.filters.bias)
        gather = self.gather.weight * (1 + scale)[:, None, None, None, None], gather_bias * (1 + scale) + shift
        along = self.position(position.to(x.dtype))
        basis, offset = along[:, :-1] / math.sqrt(self.basis), along[:, -1]
        kernels = rearrange(self.filters.weight, "(k pixel) f z y x -> k pixel f z y x", k=self.basis)
        weight = einsum(basis, kernels, "thin k, k pixel f z y x -> thin pixel f z y x")
        biases = rearrange(filters_bias, "(k pixel) -> k pixel", k=self.basis)
        bias = einsum(basis, biases, "thin k, k pixel -> thin pixel") + offset[:, None] + math.log(START_HU)

        def gathered(features: torch.Tensor) -> torch.Tensor:
            return convolution(features, *gather, padding=(0, 0, 0), relu=True)

        def in_unit(log_hu: torch.Tensor) -> torch.Tensor:
            # In float32 whatever the precision around it: eight bits are too coarse for an exponential.
            return log_hu.float().clamp(*_LOG_RANGE).exp().add(FLOOR_HU).div(WINDOW_WIDTH_HU)

        return thin_slices(
            x,
            weight.flatten(0, 1),
            bias.flatten(),
            factor=position.shape[0],
            side=self.unshuffle,
            before=gathered,
            after=in_unit,
        )


class WithDeviation(ThroughPlaneModel, ABC):
    """A network whose forward pass gives two channels, estimate and standard deviation; the rest is the network's.

    Args:
        network: gives the estimate.
    """

    def __init__(self, network: ThroughPlaneModel) -> None:
        super().__init__()
        self.network = network
        self.factors, self.default_factor, self.window = network.factors, network.default_factor, network.window
        self.consistent, self.any_plane = network.consistent, network.any_plane


class Learned(WithDeviation):
    """A network with the standard deviation of its own head.

    Args:
        network: one that `has_deviation`.
        scale: factor of the standard deviation, from its calibration.
    """

    def __init__(self, network: ThroughPlaneModel, scale: float = 1.0) -> None:
        super().__init__(network)
        self.scale = scale

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """(batch, 1, D, H, W) to (batch, 2, (D - 1) * factor + 1, H, W), unit intensity, float32."""
        thin, deviation = self.network.with_deviation(x, factor=factor, profile=profile)
        return torch.cat([thin.float(), scaled(deviation.float(), self.scale)], dim=1)


class Ensemble(WithDeviation):
    """Any network, with the standard deviation of its estimates over mirrored inputs.

    The estimate is that of the input as it is. The standard deviation covers differences between the mirrored inputs
    but no error that they have in common, so it is too small; it is not calibrated.
    """

    MIRRORED: tuple[tuple[int, ...], ...] = ((3,), (4,), (3, 4), (2,), (2, 3), (2, 4), (2, 3, 4))
    """Mirrored axes of each further estimate."""

    def __init__(self, network: ThroughPlaneModel) -> None:
        super().__init__(network)
        # Beside the two results: the sum, an estimate before and after it is mirrored back, and holes in the heap.
        self.window = replace(network.window, thin_bytes=network.window.thin_bytes + 14.0)

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """(batch, 1, D, H, W) to (batch, 2, (D - 1) * factor + 1, H, W), unit intensity, float32."""
        estimate = self.network(x, factor=factor, profile=profile).float()
        result = torch.cat([estimate, torch.zeros_like(estimate)], dim=1)
        del estimate
        first, squares = result[:, :1], result[:, 1:]
        total = torch.zeros_like(first)
        for axes in self.MIRRORED:
            other = self.network(x.flip(axes), factor=factor, profile=profile).float().flip(axes)
            # Differences to the first estimate, as the spread is small against the values.
            total.add_(other.sub_(first))
            squares.addcmul_(other, other)
            del other  # before the next one is made
        members = 1 + len(self.MIRRORED)
        squares.sub_(total.square_().div_(members)).clamp_(min=0.0).div_(members - 1).sqrt_()
        squares.clamp_(min=FLOOR_HU / WINDOW_WIDTH_HU)
        return result
