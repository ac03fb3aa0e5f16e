"""DA-VSR: one feature extractor for all planes, a light head per plane, fusion; the extractor adapts to a volume.

    thick ──┬── sagittal planes ──┐           ┌── sagittal head ──┐
            │                     ├ extractor ┤                   ├── fusion ── thin
            └── coronal planes ───┘           └── coronal head ───┘

At test time the extractor alone may be fine-tuned on the volume itself (`thinslice.inference.adapt`): its axial slices
are sharp along both axes, so one axis is degraded as if it were the through-plane one, and the network learns to
restore it, through `restore`.

Source: Peng et al., "DA-VSR: Domain Adaptable Volumetric Super-Resolution for Medical Images", MICCAI 2021, after the
published description: the shared extractor, light heads per plane, fusion, and adaptation of the extractor alone. It
gives no sizes. Ours: extractor, meta-upsampler and fusion as in SAINT (`thinslice.models.planewise`), a head being one
3x3 convolution with ReLU and a meta-upsampler of its own, so that any factor works; 2,658,112 parameters in the
extractor, 166,528 in each head, 371,105 in the fusion, 3,362,273 in all. Axial planes have no head of their own: the
head whose other axis stays sharp takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import nn

from thinslice.models.blocks.residual_dense import ResidualDenseNetwork
from thinslice.models.blocks.views import NEIGHBOURS, MetaUpsampler, View
from thinslice.models.planewise import PlanewiseConfig, PlanewiseModel


class DAVSRConfig(PlanewiseConfig):
    """Sizes of DA-VSR, and the spacings that it assumes; `features` to `growth` are those of the extractor."""


class PlaneHead(nn.Module):
    """The layers of one view: a convolution over the shared features, and a meta-upsampler."""

    def __init__(self, features: int, meta_hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.refine = nn.Conv2d(features, features, 3, padding=1)
        self.upsampler = MetaUpsampler(features, meta_hidden)

    def forward(self, features: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
        """Upsample; features: (planes, features, depth, extent), the rest as for `PlanewiseModel.upsample`."""
        return self.upsampler.apply_filters(F.relu(self.refine(features)), filters)


class DAVSR(PlanewiseModel):
    """The network of the module's page."""

    def __init__(self, config: DAVSRConfig) -> None:
        super().__init__(config)
        self.extractor = ResidualDenseNetwork(
            NEIGHBOURS, config.features, blocks=config.blocks, layers=config.layers, growth=config.growth
        )
        self.heads = nn.ModuleDict(
            {view: PlaneHead(config.features, config.meta_hidden) for view in ("sagittal", "coronal")}
        )
        self.fusion = config.fusion()

    def upsampler(self, view: View) -> MetaUpsampler:
        """The meta-upsampler of a view's head."""
        return cast(PlaneHead, self.heads[view]).upsampler

    def upsample(self, planes: torch.Tensor, filters: torch.Tensor, view: View) -> torch.Tensor:
        """Upsample planes by the shared extractor and the view's head; see `PlanewiseModel.upsample`."""
        upsampled: torch.Tensor = self.heads[view](self.extractor(planes), filters)
        return upsampled

    def adaptable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that adaptation to a volume may change: the extractor's."""
        return self.extractor.parameters()
