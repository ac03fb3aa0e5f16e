"""DA-VSR: one feature extractor for all planes, a light head per plane, fusion; the extractor adapts to a volume.

    thick ──┬── sagittal planes ──┐           ┌── sagittal head ──┐
            │                     ├ extractor ┤                   ├── fusion ── thin
            └── coronal planes ───┘           └── coronal head ───┘

At test time the extractor alone may be fine-tuned on the volume itself (`thinslice.inference.adapt`): its axial slices
are sharp along both axes, so one axis is degraded as if it were the through-plane one, and the network learns to
restore it. `restore` is the pass that this takes.

Source: Peng et al., "DA-VSR: Domain Adaptable Volumetric Super-Resolution for Medical Images", MICCAI 2021, after the
published description: the shared extractor, light heads per plane, fusion, and adaptation of the extractor alone. It
gives no sizes. Ours: extractor, meta-upsampler and fusion as in SAINT (`thinslice.models.saint`), a head being one 3x3
convolution with ReLU and a meta-upsampler of its own, so that any factor works; 2,658,112 parameters in the extractor,
166,528 in each head, 371,105 in the fusion, 3,362,273 in all. Axial planes have no head of their own: the head whose
other axis stays sharp takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.residual_dense import ResidualDenseNetwork
from thinslice.models.blocks.views import (
    HALO,
    IN_PLANE_SPACING_MM,
    NEIGHBOURS,
    THIN_SPACING_MM,
    WORKING_BYTES,
    Fusion,
    MetaUpsampler,
    SubSlices,
    View,
    from_planes,
    in_chunks,
    to_planes,
)
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile


class DAVSRConfig(BaseModel):
    """Sizes of DA-VSR, and the spacings it takes for granted.

    Attributes:
        features: channels of extractor and heads.
        blocks: residual dense blocks of the extractor.
        layers: convolutions in each.
        growth: channels that each convolution adds.
        meta_hidden: channels between the convolutions of a head's meta-upsampler.
        fusion_features, fusion_blocks, fusion_layers, fusion_growth: the same of the fusion network.
        factor: the one that factor=None means.
        window_depth: thick slices of a window in inference: those of the crops it is trained on. Any number can be
            given to the network, but it pads with zeros, and does much worse where it sees more than it learned on.
        thin_spacing_mm: distance of thin slices taken for granted; that of thick ones is the factor times it.
        in_plane_spacing_mm: distance of pixels taken for granted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: int = Field(64, ge=2, le=1024)
    blocks: int = Field(6, ge=1, le=64)
    layers: int = Field(8, ge=1, le=64)
    growth: int = Field(32, ge=1, le=1024)
    meta_hidden: tuple[int, ...] = (32, 64, 64, 64)
    fusion_features: int = Field(64, ge=2, le=1024)
    fusion_blocks: int = Field(4, ge=1, le=64)
    fusion_layers: int = Field(6, ge=1, le=64)
    fusion_growth: int = Field(12, ge=1, le=1024)
    factor: int = Field(5, ge=2, le=8)
    window_depth: int = Field(4, ge=2)
    thin_spacing_mm: float = Field(THIN_SPACING_MM, gt=0.0)
    in_plane_spacing_mm: float = Field(IN_PLANE_SPACING_MM, gt=0.0)


class PlaneHead(nn.Module):
    """What is particular to a plane: one convolution over the shared features, and a meta-upsampler."""

    def __init__(self, features: int, meta_hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.refine = nn.Conv2d(features, features, 3, padding=1)
        self.upsampler = MetaUpsampler(features, meta_hidden)

    def forward(self, features: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
        """Upsample.

        Args:
            features: (planes, features, depth, extent).
            filters: (u, features, 3, 3) from the upsampler, one per sub-slice.

        Returns:
            (planes, depth * u, extent), sub-slice i of thick slice k at u * k + i.
        """
        return self.upsampler.apply_filters(F.relu(self.refine(features)), filters)


class DAVSR(ThroughPlaneModel):
    """Any depth >= 2, any plane, any factor; see the module's page."""

    factors = range(2, 9)

    def __init__(self, config: DAVSRConfig) -> None:
        super().__init__()
        self.config = config
        self.default_factor = config.factor
        self.extractor = ResidualDenseNetwork(
            NEIGHBOURS, config.features, blocks=config.blocks, layers=config.layers, growth=config.growth
        )
        self.heads = nn.ModuleDict(
            {view: PlaneHead(config.features, config.meta_hidden) for view in ("sagittal", "coronal")}
        )
        self.fusion = Fusion(
            config.fusion_features,
            blocks=config.fusion_blocks,
            layers=config.fusion_layers,
            growth=config.fusion_growth,
        )
        self.window = ModelWindow(
            min_depth=2, max_depth=config.window_depth, tile=(256, 256), halo=HALO, working_bytes=WORKING_BYTES
        )

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale; see `ThroughPlaneModel.forward`. The profile is ignored."""
        fused: torch.Tensor = self.fusion(*self.views(x, factor=factor, profile=profile))
        return fused

    def views(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sagittal and the coronal result before fusion, which the first stage of training compares with the truth.

        Arguments and errors as for `forward`.

        Returns:
            Two tensors (batch, 1, (D - 1) * factor + 1, H, W).
        """
        return self.restore(x, "sagittal", factor=factor), self.restore(x, "coronal", factor=factor)

    def restore(self, x: torch.Tensor, view: View, *, factor: int | None = None) -> torch.Tensor:
        """One view's result.

        Args:
            x: (batch, 1, D, H, W); for adaptation D is an in-plane axis that was made thick.
            view: whose planes: "sagittal" has rows beside depth, "coronal" columns.
            factor: thin slices per thick interval; None for the network's own.

        Returns:
            (batch, 1, (D - 1) * factor + 1, H, W).

        Raises:
            ShapeError: for a depth, plane or factor that it cannot do.
        """
        chosen = self.checked_factor(x, factor)
        sub_slices = SubSlices.of_factor(chosen, x.shape[2])
        head = cast(PlaneHead, self.heads[view])
        filters = head.upsampler.filters(
            sub_slices.offsets,
            thick_spacing_mm=chosen * self.config.thin_spacing_mm,
            in_plane_spacing_mm=self.config.in_plane_spacing_mm,
        )
        planes = in_chunks(lambda some: sub_slices.pick(head(self.extractor(some), filters)), to_planes(x, view))
        return from_planes(planes, view, len(x))

    def adaptable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that adaptation to a volume may change: the extractor's."""
        return self.extractor.parameters()
