"""ThinNet, our own network: small and fast rather than deep, one set of weights for factors 2 to 8.

    thick slices ── unshuffle in plane ── stem ── blocks ── head ── shuffle ──┐
         │                                  ▲        ▲        ▲               │ residual
         │             (factor, profile) ───┴────────┴────────┘               ▼
         └── linear interpolation consistent with the thick slices ────────── + ── thin slices
                                                                     (null space only)

- Slices stay depth; in plane, 2 x 2 pixels become channels, so convolutions run at half resolution.
- A block is a 3x3x3 convolution and a 1x1x1 one, with a skip. The factor and the profile's width scale and shift the
  first one's output channels. Both act on the weights, so this costs nothing per voxel.
- The head gives, for each thick slice, the residual of the thin slices around it. Its filters are a small learned basis
  along z sampled where the thin slices lie, so that all factors share it.
- Training is short, so the network is made easy to train: the body gets intensities of about zero mean and unit
  variance, and constant gains (of a block's change, of the residual) keep weights of order one over the square root of
  the number of terms they sum, where steps of equal length have equal effect. Gains act on the weights too.
- The output averages back to the thick slices by construction: the residual passes through I - A^T (A A^T)^-1 A, the
  projection onto the null space of the slice profile A. End slices, whose profile reaches past the volume, are exempt.

Source: ours. Data consistency as a projection: "null-space learning", Schwab et al., Inverse Problems 2019. Scale
and shift by a condition: FiLM, Perez et al., AAAI 2018. Filters generated from a position: meta-upsampling, Hu et al.,
CVPR 2019, as SAINT uses it along z. Gains in place of small weights: "equalised learning rate", Karras et al.,
ICLR 2018.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import einsum, rearrange
from torch import nn

from thinslice.models.along_z import z_matrix
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.onednn import convolution, pointwise
from thinslice.models.blocks.pieces import Padding, add_across_slices, add_product
from thinslice.models.blocks.subpixel import thin_slices
from thinslice.models.deviation import DeviationHead
from thinslice.models.thinnet_config import (
    DEFAULT_FACTOR,
    DEVIATION_BASIS,
    DEVIATION_HIDDEN,
    DEVIATION_WIDTH,
    POSITIONS,
    ThinNetConfig,
    condition_features,
    thin_positions,
)
from thinslice.profile import SliceProfile

Matrix = npt.NDArray[np.float64] | torch.Tensor
"""A matrix along z: computed in double precision, or float32 where a graph computes it."""


class ModulatedConv(nn.Conv3d):
    """A convolution whose output channels are scaled and shifted by a condition, through its weights.

    Args:
        features: channels in and out.
        kernel: its extent along z, y and x.
        condition: values of the condition.
        gain: constant factor of the output.
    """

    def __init__(self, features: int, kernel: tuple[int, int, int], condition: int, gain: float = 1.0) -> None:
        super().__init__(features, features, kernel, padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2))
        self.gain = gain
        self.modulation = nn.Linear(condition, 2 * features)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Convolve.

        Args:
            x: (batch, features, depth, height, width).
            condition: (condition,).
        """
        return F.conv3d(x, *self.modulated(condition), padding=self.padding)

    def modulated(self, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias under a condition, (condition,)."""
        scale, shift = self.modulation(condition).chunk(2)
        scale, shift = self.gain * (1 + scale), self.gain * shift
        bias: torch.Tensor = self.bias  # type: ignore[assignment]  # Conv3d made one
        return self.weight * scale[:, None, None, None, None], bias * scale + shift


class Block(nn.Module):
    """A 3x3x3 convolution, then a 1x1x1 one, with a skip."""

    GAIN = 0.25
    """Gain of a block's change; it precedes the ReLU, where it acts on weights."""

    def __init__(self, features: int, condition: int) -> None:
        super().__init__()
        self.across = ModulatedConv(features, (3, 3, 3), condition, gain=self.GAIN)
        self.mix = nn.Linear(features, features)
        start_weights(self.across, gain=math.sqrt(2.0))
        start_weights(self.mix)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Features for the next block.

        Args:
            x: (batch, features, depth, height, width), channels last in memory; the result may overwrite it.
            condition: (condition,).
        """
        weight, bias = self.across.modulated(condition)

        def change(slices: torch.Tensor, padding: Padding) -> torch.Tensor:
            return pointwise(convolution(slices, weight, bias, padding=padding, relu=True), self.mix)

        return add_across_slices(x, change)


def start_weights(layer: nn.Linear | nn.Conv3d, gain: float = 1.0) -> None:
    """Initialise weights so that noise of unit variance comes out with a variance of gain squared; biases are zero."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # both made one


class ThinHead(nn.Module):
    """For each thick slice, the thin slices around it, from a learned basis along z."""

    gain = 0.01
    """Gain of the residual: about 40 HU."""

    def __init__(self, config: ThinNetConfig) -> None:
        super().__init__()
        self.config = config
        pixels = config.unshuffle**2
        self.filters = nn.Conv3d(config.features, config.basis * pixels, 3, padding=1)
        self.position = nn.Sequential(
            nn.Linear(POSITIONS, config.condition), nn.SiLU(), nn.Linear(config.condition, config.basis)
        )
        start_weights(self.filters)

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Residual of the thin slices.

        Args:
            x: (batch, features, depth, height, width) features of thick slices.
            positions: (factor, 6) from `thin_positions`.

        Returns:
            (batch, depth * factor, height * unshuffle, width * unshuffle); thin slice i of thick slice k is at
            k * factor + i - factor // 2 on the thin grid.
        """
        factor = positions.shape[0]
        basis = self.position(positions.to(self.filters.weight.dtype))
        basis = basis * (self.gain / math.sqrt(self.config.basis))
        side, functions = self.config.unshuffle, self.config.basis
        bias: torch.Tensor = self.filters.bias  # type: ignore[assignment]  # Conv3d made one
        # Vector units take channels sixteen at a time: fewer cost more (measured), so the rest is filled with zeros.
        basis = F.pad(basis, (0, 0, 0, -factor % (16 // math.gcd(16, side**2))))
        kernels = einsum(
            basis,
            rearrange(self.filters.weight, "(k pixel) f z y x -> k pixel f z y x", k=functions),
            "thin k, k pixel f z y x -> thin pixel f z y x",
        )
        biases = einsum(basis, rearrange(bias, "(k pixel) -> k pixel", k=functions), "thin k, k pixel -> thin pixel")
        return thin_slices(x, kernels.flatten(0, 1), biases.flatten(), factor=factor, side=side)


class ThinNet(ThroughPlaneModel):
    """The network of the module's page, for any depth >= 2, any plane and any factor of its range."""

    default_factor = DEFAULT_FACTOR
    consistent = True
    any_plane = True

    middle, spread = 0.25, 0.2
    """Mean and half-range of intensities in a body, about: water, and half the distance between lung and bone."""

    def __init__(self, config: ThinNetConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = config.all_factors
        channels = config.unshuffle**2
        self.describe = nn.Sequential(nn.Linear(4, config.condition), nn.SiLU())
        self.stem = nn.Conv3d(channels, config.features, 3, padding=1)
        self.blocks = nn.ModuleList(Block(config.features, config.condition) for _ in range(config.blocks))
        self.head = ThinHead(config)
        start_weights(self.stem)
        self.has_deviation = config.deviation
        if config.deviation:
            # Last, so that the network itself starts from the same values with it and without.
            self.deviation = DeviationHead(
                config.features,
                unshuffle=config.unshuffle,
                condition=config.condition,
                positions=POSITIONS,
                width=DEVIATION_WIDTH,
                basis=DEVIATION_BASIS,
                hidden=DEVIATION_HIDDEN,
            )
        self.window = config.window

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`."""
        factor = self.checked_factor(x, factor)
        profile = profile or SliceProfile.mean(factor)
        features, _ = self.encode(x, torch.from_numpy(condition_features(factor, profile)))
        residual = on_grid(self.head(features, _positions(factor, x)), x, factor)
        del features  # the next tensors are as large
        return self.make_consistent(x[:, 0], residual, *consistency_matrices(x.shape[2], profile, factor))[:, None]

    def with_deviation(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Upscale and estimate the standard deviation; see `ThroughPlaneModel.with_deviation`."""
        if not self.has_deviation:
            return super().with_deviation(x, factor=factor, profile=profile)
        factor = self.checked_factor(x, factor)
        profile = profile or SliceProfile.mean(factor)
        features, condition = self.encode(x, torch.from_numpy(condition_features(factor, profile)))
        positions = _positions(factor, x)
        residual = on_grid(self.head(features, positions), x, factor)
        deviation = self.deviation(features, condition, positions)
        del features
        estimate = self.make_consistent(x[:, 0], residual, *consistency_matrices(x.shape[2], profile, factor))
        return estimate[:, None], on_grid(deviation, x, factor)[:, None]

    def encode(self, x: torch.Tensor, described: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs of both heads: features (batch, features, D, H / unshuffle, W / unshuffle), rounded up; condition.

        Args:
            x: (batch, 1, D, H, W), unit intensity.
            described: (4,) from `condition_features`.
        """
        height, width = x.shape[3:]
        side = self.config.unshuffle
        condition: torch.Tensor = self.describe(described.to(x))
        standardised = (x - self.middle) / self.spread
        padded = F.pad(standardised, (0, -width % side, 0, -height % side, 0, 0), mode="replicate")
        bias: torch.Tensor = self.stem.bias  # type: ignore[assignment]  # Conv3d made one
        features = convolution(
            rearrange(padded, "b 1 d (h p) (w q) -> b (p q) d h w", p=side, q=side).contiguous(
                memory_format=torch.channels_last_3d
            ),
            self.stem.weight,
            bias,
            padding=(1, 1, 1),
        )
        for block in self.blocks:
            features = block(features, condition)
        return features, condition

    def make_consistent(
        self, thick: torch.Tensor, residual: torch.Tensor, base: Matrix, averages: Matrix
    ) -> torch.Tensor:
        """Interpolation consistent with the thick slices, plus the projection of the residual onto the null space.

        In float32 whatever the precision around it; the result may overwrite `residual`.

        Args:
            thick: (batch, depth, height, width).
            residual: (batch, (depth - 1) * factor + 1, height, width).
            base, averages: from `consistency_matrices`.
        """
        with full_precision(thick.device.type):  # with eight bits the error was up to 16 HU
            rows, change = thick.float().flatten(2), residual.float().flatten(2)
            # Else no thick slice has its whole profile here, and other runtimes take no empty arrays.
            if averages.shape[0]:
                rows = torch.cat([rows, _tensor(averages, thick) @ change], dim=1)
            matrix = _tensor(base, thick).expand(len(thick), -1, -1)
            # Thin volumes are the largest tensors here, so this is one product, added to the residual.
            thin = add_product(change, matrix, rows)
        return thin.reshape(residual.shape)


def consistency_matrices(
    depth: int, profile: SliceProfile, factor: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Matrices of the consistent interpolation and of the projection, for `ThinNet.make_consistent`.

    Args:
        depth: number of thick slices.
        profile: of the thick slices.
        factor: thin slices per thick interval.

    Returns:
        (base, averages): thin = residual + base @ [thick, averages @ residual]. `averages` is the profile's matrix,
        (supported thick slices, thin slices); `base` is (thin slices, depth + supported thick slices).

    >>> [matrix.shape for matrix in consistency_matrices(4, SliceProfile.mean(5), 5)]
    [(16, 6), (2, 16)]
    """
    base = z_matrix("linear-consistent", depth, profile, factor)
    return np.concatenate([base, -profile.correction(depth)], axis=1), profile.matrix(depth)


def on_grid(thin: torch.Tensor, x: torch.Tensor, factor: int) -> torch.Tensor:
    """A head's result for whole thick slices and whole blocks of pixels, cut to the thin grid of `x`.

    At factor 5 and depth 4, a head gives 20 thin slices; slices 2 to 17 are the 16 of the grid.
    """
    depth, height, width = x.shape[2:]
    first = factor // 2
    return thin[:, first : first + (depth - 1) * factor + 1, :height, :width]


def full_precision(device: str) -> contextlib.AbstractContextManager[Any]:
    """A context without autocast, on devices that have autocast."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def _positions(factor: int, beside: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(thin_positions(factor)).to(beside.device)


def _tensor(matrix: Matrix, beside: torch.Tensor) -> torch.Tensor:
    """A matrix as a float32 tensor on the device of another tensor, whatever the precision around it."""
    if isinstance(matrix, torch.Tensor):
        return matrix
    return torch.tensor(matrix, dtype=torch.float32, device=beside.device)
