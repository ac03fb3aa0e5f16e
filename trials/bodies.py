"""Other bodies for ThinNet; stem, head and consistency are those of the network.

None of them is part of the package. They are kept to reproduce the table in docs/results/trials.md.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import rearrange
from torch import nn

from thinslice.models.thinnet import Block, ModulatedConv, ThinNet, start_weights
from thinslice.models.thinnet_config import ThinNetConfig
from thinslice.profile import SliceProfile


class TrialConfig(ThinNetConfig):
    """ThinNet's config with a choice of body.

    Attributes:
        body: "pointwise" for ThinNet's own; "plain" for a 1x3x3 convolution in place of a block's second one;
            "separable" for alternating convolutions along z and in plane; "pyramid" for some blocks at a quarter of the
            resolution.
        standardised: whether the body's input has about zero mean and unit variance.
        gains: whether constant gains replace small initial weights.
        smooth: whether SiLU replaces ReLU.
        dilated: whether a plain block's second convolution is dilated by 2 in plane.
        deep_features: channels of the pyramid's lower level.
        deep_blocks: blocks of the pyramid's lower level; `blocks` counts those of the upper one.
    """

    body: Literal["pointwise", "plain", "separable", "pyramid"] = "pointwise"
    standardised: bool = True
    gains: bool = True
    smooth: bool = False
    dilated: bool = False
    deep_features: int = 80
    deep_blocks: int = 3


class TrialBlock(nn.Module):
    """A block like `Block` with other kernels: across slices, then in plane, with a skip."""

    gain = Block.GAIN

    def __init__(self, features: int, condition: int, body: str) -> None:
        super().__init__()
        self.before: nn.Conv3d | None = None
        across, within = (3, 3, 3), (1, 3, 3)
        if body == "pointwise":
            within = (1, 1, 1)
        if body == "separable":
            across = (3, 1, 1)
            self.before = nn.Conv3d(features, features, within, padding=(0, 1, 1))
            start_weights(self.before, gain=math.sqrt(2.0))
        self.across = ModulatedConv(features, across, condition)
        self.within = nn.Conv3d(features, features, within, padding=(0, within[1] // 2, within[2] // 2))
        start_weights(self.across, gain=math.sqrt(2.0))
        start_weights(self.within)
        self.activation: nn.Module = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Output of the block for x (batch, features, depth, height, width) and condition (condition,)."""
        inside = x if self.before is None else self.activation(self.before(x))
        change: torch.Tensor = self.within(self.activation(self.across(inside, condition)))
        return x + self.gain * change


class TrialNet(ThinNet):
    """ThinNet with another body."""

    def __init__(self, config: TrialConfig) -> None:
        super().__init__(config)
        self.body = config.body
        features, condition = config.features, config.condition
        if not config.standardised:
            self.middle, self.spread = 0.0, 1.0
        self.blocks = nn.ModuleList(TrialBlock(features, condition, config.body) for _ in range(config.blocks))
        lower: list[nn.Module] = []
        if config.body == "pyramid":
            deep = config.deep_features
            self.down = nn.Conv3d(4 * features, deep, 1)
            self.deep = nn.ModuleList(TrialBlock(deep, condition, "plain") for _ in range(config.deep_blocks))
            self.up = nn.Conv3d(deep, 4 * features, 1)
            start_weights(self.up, gain=0.5)
            lower = list(self.deep)
        for block in [*self.blocks, *lower]:
            assert isinstance(block, TrialBlock)
            if config.dilated:
                block.within.dilation, block.within.padding = (1, 2, 2), (0, 2, 2)
            if config.smooth:
                block.activation = nn.SiLU()
            if not config.gains:
                block.gain = 1.0
                block.across.reset_parameters()
                nn.init.normal_(block.within.weight, std=0.1 / math.sqrt(block.within.weight[0].numel()))
        if not config.gains:
            self.head.gain = 1.0
            self.stem.reset_parameters()
            nn.init.normal_(self.head.filters.weight, std=0.02 / math.sqrt(27 * features))
        side, height = config.unshuffle, len(self.blocks) + len(lower)
        reach = side * (3 * len(self.blocks) + 4 * len(lower) + 6)
        self.window = replace(self.window, halo=(height + 3, reach, reach))

    def _features(self, x: torch.Tensor, factor: int, profile: SliceProfile) -> tuple[torch.Tensor, torch.Tensor]:
        if self.body != "pyramid":
            return super()._features(x, factor, profile)
        side = self.config.unshuffle
        height, width = (-(-extent // side) for extent in x.shape[3:])
        x = F.pad(x, (0, -x.shape[4] % (2 * side), 0, -x.shape[3] % (2 * side), 0, 0), mode="replicate")
        blocks, self.blocks = self.blocks, nn.ModuleList()
        try:
            features, condition = super()._features(x, factor, profile)
        finally:
            self.blocks = blocks
        half = len(blocks) // 2
        for block in blocks[:half]:
            features = block(features, condition)
        deep = self.down(
            rearrange(features, "b c d (h p) (w q) -> b (p q c) d h w", p=2, q=2).contiguous(
                memory_format=torch.channels_last_3d
            )
        )
        for block in self.deep:
            deep = block(deep, condition)
        features = features + rearrange(self.up(deep), "b (p q c) d h w -> b c d (h p) (w q)", p=2, q=2)
        for block in blocks[half:]:
            features = block(features, condition)
        return features[..., :height, :width], condition
