"""ColumnNet: linear interpolation along z and a small correction from a pixel's neighbourhood.

It is a small network, not a good one: it trains, is scored, and gets its row beside the published ones.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from thinslice.models.base import ThroughPlaneModel
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile


class ColumnNetConfig(BaseModel):
    """Sizes of ColumnNet.

    Attributes:
        factor: thin slices per thick interval.
        features: channels of the hidden layer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: int = Field(5, ge=2, le=8)
    features: int = Field(16, ge=1)


class ColumnNet(ThroughPlaneModel):
    """Two convolutions over thick slices give a correction for each thin slice of an interval."""

    def __init__(self, config: ColumnNetConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = (config.factor,)
        self.default_factor = config.factor
        # Two 3 x 3 x 3 convolutions reach two voxels in every direction.
        self.window = ModelWindow(halo=(2, 2, 2), working_bytes=4.0 * (2 * config.features + 6 * config.factor))
        self.hidden = nn.Conv3d(1, config.features, 3, padding=1)
        self.correction = nn.Conv3d(config.features, config.factor, 3, padding=1)

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale thick slices; the contract is that of `thinslice.models.base.ThroughPlaneModel`."""
        factor = self.checked_factor(x, factor)
        batch, _, depth, height, width = x.shape
        thin_depth = (depth - 1) * factor + 1
        linear = nn.functional.interpolate(x, (thin_depth, height, width), mode="trilinear", align_corners=True)
        # Channel i of thick slice k belongs to thin slice factor * k + i.
        corrections = self.correction(torch.relu(self.hidden(x)))
        thin = corrections.transpose(1, 2).reshape(batch, 1, depth * factor, height, width)
        return linear + thin[:, :, :thin_depth]


def build(**config: Any) -> ColumnNet:
    """The network of the entry point, with config values from a recipe or a weights file."""
    return ColumnNet(ColumnNetConfig(**config))
