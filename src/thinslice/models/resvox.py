"""ResVox without its noise reduction: residual blocks of two scales, then sub-pixel up-sampling along z.

    thick ── stem ── block ── ... ── block ── sub-pixel head ── thin

    block:  ─┬── 3x3x3 ─────────── concatenate ── 1x1x1 ── + ──
             ├── 3x3x3 ── 3x3x3 ──────┘                    │
             └─────────────────────────────────────────────┘

Source: the generator of Ge et al., "Stereo-correlation and noise-distribution aware ResVoxGAN for dense slices
reconstruction and noise reduction in thick low-dose CT", MICCAI 2019: consecutive 3D multi-scale residual blocks, then
a sub-pixel network. No skip from an interpolated input is described, so there is none: the thin slices come from the
features alone. As in the paper that compares with it, its denoising is left out.
Ours: 64 features and 8 blocks; the two scales are one 3x3x3 convolution and two of them in a row (the reach of a
5x5x5 one at less than half its cost); ReLU after each convolution but the 1x1x1; no normalisation; zero padding; one
sub-pixel convolution straight to the thin slices, laid out symmetrically about the thick ones (`subpixel`).
Its stereo-correlation constraint (26-neighbour gradients), perceptual and adversarial parts are losses and belong to
training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.subpixel import interleave, sub_slices
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile


class ResVoxConfig(BaseModel):
    """Sizes of ResVox.

    Attributes:
        factor: thin slices per thick interval.
        features: channels inside.
        blocks: multi-scale residual blocks.
        window_depth: thick slices of a window in inference: as many as the crops that the network is trained on. It
            takes any number, but pads with zeros and does worse with more slices than it was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: int = Field(5, ge=2, le=16)
    window_depth: int = Field(4, ge=2, le=512)
    features: int = Field(64, ge=1, le=1024)
    blocks: int = Field(8, ge=1, le=128)


class MultiScaleBlock(nn.Module):
    """Two receptive fields side by side, merged, with a skip."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.near = nn.Conv3d(features, features, 3, padding=1)
        self.far = nn.Sequential(
            nn.Conv3d(features, features, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv3d(features, features, 3, padding=1),
        )
        self.merge = nn.Conv3d(2 * features, features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, features, depth, height, width), and so is the result."""
        scales = torch.cat([self.near(x), self.far(x)], dim=1)
        change: torch.Tensor = self.merge(F.relu(scales, inplace=True))
        return x + change


class ResVox(ThroughPlaneModel):
    """The network of the module's page, for any depth >= 2 and any plane; its factor is fixed when it is built."""

    def __init__(self, config: ResVoxConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = (config.factor,)
        self.default_factor = config.factor
        self.stem = nn.Conv3d(1, config.features, 3, padding=1)
        self.blocks = nn.Sequential(*(MultiScaleBlock(config.features) for _ in range(config.blocks)))
        self.head = nn.Conv3d(config.features, sub_slices(config.factor), 3, padding=1)
        self.window = ModelWindow(
            min_depth=2,
            max_depth=config.window_depth,
            tile=(256, 256),
            halo=(1, 16, 16),
            # Seven arrays of features at once (measured).
            working_bytes=4.0 * 7.25 * config.features,
        )

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`. The profile is ignored."""
        factor = self.checked_factor(x, factor)
        features = F.relu(self.stem(x)).contiguous(memory_format=torch.channels_last_3d)
        return interleave(self.head(self.blocks(features)), factor)
