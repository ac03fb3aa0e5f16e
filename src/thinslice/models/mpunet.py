"""MPU-Net, one stream of it: an encoder-decoder that shrinks in plane, and whose decoder grows along z in steps.

    thick ── encode ─────────────────────── z up ── decode ── side output ── + ── thin
               └ pool ── encode ─── z up ── decode ── side output ── z up ───┘
                           └ pool ── encode ── decode ┘
                                       └ pool ── encode ┘

Skips and features from the level below are brought to the depth of their level by linear interpolation along z;
convolutions follow. At each of these depths a thick slice lies exactly on a slice: at depth (D - 1) * c + 1, with c a
whole number, thick slice k lies at c * k. c grows from 1 to the factor in two steps (1, 2, 5 for factor 5), as even as
whole numbers allow (`steps`).

A side output is a volume of the plane's full size at the depth of its level. The final output is the sum of the last
side output and of the one before, brought to its depth.

Source: Liu et al., "Multi-stream progressive up-sampling network for dense CT image reconstruction", MICCAI 2020:
encoder-decoder, progressive up-sampling in the decoder, supervision at each step. One stream only, as in the paper that
compares with it, which had no lung masks for the others.
Ours: 32-64-128-256 features; two 3x3x3 convolutions with ReLU per level; max-pooling in plane; a transposed
convolution per 2 x 2 pixels on the way up; no normalisation, and hence weights that start as He et al. (2015) do; two
steps along z, in the decoder's last two levels; side outputs of levels with fewer pixels by sub-pixel convolution in
plane; the outputs of the two steps add up (as in LapSRN, Lai et al., CVPR 2017), so that the first step's output is
used without its loss too; no skip from the interpolated input. Planes of any size are padded by reflection and cropped.
The contrast-aware and feature-matching losses belong to training.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import rearrange
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from thinslice.models.base import ThroughPlaneModel
from thinslice.models.tvsrn import reflect_to_multiple
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile


class MPUNetConfig(BaseModel):
    """Sizes of MPU-Net.

    Attributes:
        factor: thin slices per thick interval.
        features: channels of each level, from the full plane down; three levels or more.
        window_depth: thick slices of a window in inference: as many as the crops that the network is trained on. It
            takes any number, but pads with zeros and does worse with more slices than it was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: int = Field(5, ge=2, le=16)
    window_depth: int = Field(4, ge=2, le=512)
    features: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((32, 64, 128, 256), min_length=3, max_length=6)


def steps(factor: int) -> tuple[int, int]:
    """Thin slices per thick interval after either step along z; whole numbers, their ratio as even as can be.

    >>> {factor: steps(factor) for factor in range(2, 9)}
    {2: (1, 2), 3: (2, 3), 4: (2, 4), 5: (2, 5), 6: (2, 6), 7: (3, 7), 8: (3, 8)}
    """
    return round(factor**0.5), factor


def stretch(x: torch.Tensor, depth: int) -> torch.Tensor:
    """Linear interpolation along z to another depth, first slice on first and last on last.

    Args:
        x: (batch, channels, its depth, height, width).
        depth: of the result.

    >>> stretch(torch.tensor([0.0, 2.0, 3.0]).reshape(1, 1, 3, 1, 1), 5).flatten().tolist()
    [0.0, 1.0, 2.0, 2.5, 3.0]
    """
    if x.shape[2] == depth:
        return x
    return F.interpolate(x, size=(depth, *x.shape[-2:]), mode="trilinear", align_corners=True)


def convolutions(inside: int, outside: int) -> nn.Sequential:
    """Two 3x3x3 convolutions, each with ReLU, from `inside` channels to `outside`, started as He et al. (2015) do."""
    layers = nn.Sequential(
        nn.Conv3d(inside, outside, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv3d(outside, outside, 3, padding=1),
        nn.ReLU(inplace=True),
    )
    for layer in layers:
        if isinstance(layer, nn.Conv3d):
            # There is no normalisation to make up for a variance that shrinks from layer to layer.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # Conv3d made one
    return layers


class Rise(nn.Module):
    """One level of the decoder: features from the level below, enlarged, and the skip of this level."""

    def __init__(self, below: int, features: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose3d(below, features, (1, 2, 2), stride=(1, 2, 2))
        self.decode = convolutions(2 * features, features)

    def forward(self, below: torch.Tensor, skip: torch.Tensor, depth: int) -> torch.Tensor:
        """Decode.

        Args:
            below: (batch, its features, its depth, height / 2, width / 2).
            skip: (batch, features, thick depth, height, width).
            depth: of the result.

        Returns:
            (batch, features, depth, height, width).
        """
        both = torch.cat([stretch(self.enlarge(below), depth), stretch(skip, depth)], dim=1)
        decoded: torch.Tensor = self.decode(both)
        return decoded


class SideOutput(nn.Module):
    """A volume of the plane's full size from a level with fewer pixels, each of which becomes side x side of them."""

    def __init__(self, features: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.filters = nn.Conv3d(features, side**2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, features, depth, height, width) to (batch, 1, depth, side * height, side * width)."""
        pixels = self.filters(x)
        volume: torch.Tensor = rearrange(pixels, "b (p q) d h w -> b 1 d (h p) (w q)", p=self.side, q=self.side)
        return volume


class MPUNet(ThroughPlaneModel):
    """The network of the module's page, for any depth >= 2 and any plane; its factor is fixed when it is built."""

    def __init__(self, config: MPUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = (config.factor,)
        self.default_factor = config.factor
        features = config.features
        self.encoders = nn.ModuleList(
            convolutions(inside, outside) for inside, outside in zip((1, *features), features, strict=False)
        )
        self.rises = nn.ModuleList(
            Rise(below, level) for below, level in zip(features[:0:-1], features[-2::-1], strict=True)
        )
        self.side_outputs = nn.ModuleList([SideOutput(features[1], 2), SideOutput(features[0], 1)])
        self.window = ModelWindow(
            min_depth=2,
            tile=(256, 256),
            max_depth=config.window_depth,
            halo=(1, 16, 16),
            # Four arrays of thin features at once in the last level, and the skips (measured).
            working_bytes=4.0 * features[0] * (4 * config.factor + 6),
        )

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`. The profile is ignored."""
        _, thin = self.stages(x, factor=factor, profile=profile)[-1]
        return thin

    def stages(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> list[tuple[float, torch.Tensor]]:
        """The outputs of all steps along z, for a loss at each.

        Args:
            x: (batch, 1, D, H, W), nominally in [0, 1].
            factor: thin slices per thick interval; None for the network's own.
            profile: ignored.

        Returns:
            Per step, its thin slices per thick interval (c) and its output (batch, 1, (D - 1) * c + 1, H, W), whose
            slice j lies at thin index j * factor / c. The last output is the result of `forward`. The reference of an
            output of depth d is the thin volume brought to that depth, `stretch(thin, d)`. At factor 5, c = 2 and
            D = 4, slice 3 of 7 lies at thin index 7.5.

        Raises:
            ShapeError: as for `ThroughPlaneModel.forward`.
        """
        factor = self.checked_factor(x, factor)
        depth, height, width = x.shape[2:]
        reached = steps(factor)
        depths = [(depth - 1) * c + 1 for c in reached]

        skips = []
        features = reflect_to_multiple(x, 2 ** (len(self.encoders) - 1))
        for level, encode in enumerate(self.encoders):
            if level:
                features = F.max_pool3d(features, (1, 2, 2))
            features = encode(features).contiguous(memory_format=torch.channels_last_3d)
            skips.append(features)
        skips.pop()

        outputs: list[torch.Tensor] = []
        level_depths = [depth] * (len(self.rises) - len(reached)) + depths
        for rise, level_depth in zip(self.rises, level_depths, strict=True):
            features = rise(features, skips.pop(), level_depth)
            if len(skips) < len(reached):
                side = self.side_outputs[len(outputs)](features)
                outputs.append(side + stretch(outputs[-1], level_depth) if outputs else side)
        return [(float(c), output[..., :height, :width]) for c, output in zip(reached, outputs, strict=True)]
