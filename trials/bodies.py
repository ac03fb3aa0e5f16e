"""Bodies that were tried for ThinNet; the frame (stem, head, consistency) is the network's own.

None of them is part of the package: what lost is kept here, so that the table in docs/trials.md can be made again.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import rearrange
from torch import nn

from thinslice.models.thinnet import Block, ModulatedConv, ThinNet, ThinNetConfig, _condition_features
from thinslice.profile import SliceProfile


class TrialConfig(ThinNetConfig):
    """ThinNet's sizes, and which body.

    Attributes:
        body: "plain", ThinNet's own; "separable", convolutions along z and in plane by turns; "pyramid", half of the
            blocks at a quarter of the resolution.
        standardised: whether the body sees intensities shifted and scaled to about zero mean and unit variance.
        deep_features: channels of the pyramid's lower level.
        deep_blocks: blocks of the lower level; `blocks` are those of the upper one.
    """

    body: Literal["plain", "separable", "pyramid"] = "plain"
    standardised: bool = False
    deep_features: int = 80
    deep_blocks: int = 3


class SeparableBlock(nn.Module):
    """In plane, across slices, in plane, with a skip."""

    def __init__(self, features: int, condition: int) -> None:
        super().__init__()
        self.before = nn.Conv3d(features, features, (1, 3, 3), padding=(0, 1, 1))
        self.across = ModulatedConv(features, (3, 1, 1), condition)
        self.within = nn.Conv3d(features, features, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x: (batch, features, depth, height, width); condition: (condition,)."""
        inside = F.relu(self.across(F.relu(self.before(x), inplace=True), condition), inplace=True)
        change: torch.Tensor = self.within(inside)
        return x + change


class TrialNet(ThinNet):
    """ThinNet with another body."""

    def __init__(self, config: TrialConfig) -> None:
        super().__init__(config)
        self.body, self.standardised = config.body, config.standardised
        features, condition = config.features, config.condition
        if config.body == "separable":
            self.blocks = nn.ModuleList(SeparableBlock(features, condition) for _ in range(config.blocks))
        if config.body == "pyramid":
            deep = config.deep_features
            self.down = nn.Conv3d(4 * features, deep, 1)
            self.deep = nn.ModuleList(Block(deep, condition) for _ in range(config.deep_blocks))
            self.up = nn.Conv3d(deep, 4 * features, 1)
            nn.init.normal_(self.up.weight, std=0.1 / math.sqrt(deep))
        for block in [*self.blocks, *getattr(self, "deep", [])]:
            nn.init.normal_(block.within.weight, std=0.1 / math.sqrt(block.within.weight[0].numel()))

    def _features(self, x: torch.Tensor, factor: int, profile: SliceProfile) -> tuple[torch.Tensor, torch.Tensor]:
        if self.standardised:
            x = (x - 0.25) * 5.0
        if self.body != "pyramid":
            return super()._features(x, factor, profile)
        side = self.config.unshuffle
        condition: torch.Tensor = self.describe(_condition_features(factor, profile).to(x))
        height, width = x.shape[3:]
        padded = F.pad(x, (0, -width % (2 * side), 0, -height % (2 * side), 0, 0), mode="replicate")
        features: torch.Tensor = self.stem(
            _channels_last(rearrange(padded, "b 1 d (h p) (w q) -> b (p q) d h w", p=side, q=side))
        )
        half = len(self.blocks) // 2
        for block in self.blocks[:half]:
            features = block(features, condition)
        deep = self.down(_channels_last(rearrange(features, "b c d (h p) (w q) -> b (p q c) d h w", p=2, q=2)))
        for block in self.deep:
            deep = block(deep, condition)
        features = features + rearrange(self.up(deep), "b (p q c) d h w -> b c d (h p) (w q)", p=2, q=2)
        for block in self.blocks[half:]:
            features = block(features, condition)
        return features[..., : -(-height // side), : -(-width // side)], condition


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)
