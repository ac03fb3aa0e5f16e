"""Upscaling plane by plane: the config and the stages that SAINT and DA-VSR share.

    thick ──┬── sagittal planes ── upsample ──┐
            └── coronal planes ─── upsample ──┴── mean + residual (fusion, per axial slice) ── thin

Each network adds how it upsamples the planes of a view. The bricks are in `thinslice.models.blocks.views`.

Source: Peng et al., "SAINT: Spatially Aware Interpolation NeTwork for Medical Slice Synthesis", CVPR 2020.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field

from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks.views import (
    HALO,
    IN_PLANE_SPACING_MM,
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


class PlanewiseConfig(BaseModel):
    """Sizes of a network that upscales plane by plane, and the spacings that it assumes.

    Attributes:
        features: channels of the residual dense network.
        blocks: residual dense blocks.
        layers: convolutions in each block.
        growth: channels that each convolution adds.
        meta_hidden: channels between the convolutions of a meta-upsampler.
        fusion_features, fusion_blocks, fusion_layers, fusion_growth: the same sizes of the fusion network.
        factor: the factor that factor=None means.
        window_depth: thick slices of a window in inference: as many as the crops that the network is trained on. It
            takes any number, but pads with zeros, and does much worse with more slices than it was trained on.
        thin_spacing_mm: distance of thin slices that `forward` assumes; that of thick ones is the factor times it.
        in_plane_spacing_mm: distance of pixels that `forward` assumes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: int = Field(64, ge=2, le=1024)
    blocks: int = Field(6, ge=1, le=64)
    layers: int = Field(8, ge=1, le=64)
    growth: int = Field(32, ge=1, le=1024)
    meta_hidden: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((32, 64, 64, 64), max_length=16)
    fusion_features: int = Field(64, ge=2, le=1024)
    fusion_blocks: int = Field(4, ge=1, le=64)
    fusion_layers: int = Field(6, ge=1, le=64)
    fusion_growth: int = Field(12, ge=1, le=1024)
    factor: int = Field(5, ge=2, le=8)
    window_depth: int = Field(4, ge=2, le=512)
    thin_spacing_mm: float = Field(THIN_SPACING_MM, ge=1e-3, le=1e3)
    in_plane_spacing_mm: float = Field(IN_PLANE_SPACING_MM, ge=1e-3, le=1e3)

    def fusion(self) -> Fusion:
        """A fusion network of these sizes, untrained."""
        return Fusion(
            self.fusion_features, blocks=self.fusion_blocks, layers=self.fusion_layers, growth=self.fusion_growth
        )


class PlanewiseModel(ThroughPlaneModel, ABC):
    """A network that upsamples sagittal and coronal planes and fuses both results; any depth >= 2, plane and factor.

    Attributes:
        config: its sizes and spacings.
        fusion: makes one volume of both results; the subclass sets it after the stages that come first.
    """

    factors = range(2, 9)
    config: PlanewiseConfig
    fusion: Fusion

    def __init__(self, config: PlanewiseConfig) -> None:
        super().__init__()
        self.config = config
        self.default_factor = config.factor
        self.window = ModelWindow(
            min_depth=2, max_depth=config.window_depth, tile=(256, 256), halo=HALO, working_bytes=WORKING_BYTES
        )

    @abstractmethod
    def upsampler(self, view: View) -> MetaUpsampler:
        """The meta-upsampler that generates the filters of a view."""

    @abstractmethod
    def upsample(self, planes: torch.Tensor, filters: torch.Tensor, view: View) -> torch.Tensor:
        """Upsample planes along z.

        Args:
            planes: (planes, 3, depth, extent), from `to_planes`.
            filters: (u, features, 3, 3) from the upsampler, one per sub-slice.
            view: of the planes.

        Returns:
            (planes, depth * u, extent), sub-slice i of thick slice k at u * k + i.
        """

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
        """The result of one view before fusion.

        Args:
            x: (batch, 1, D, H, W); for adaptation D is an in-plane axis that was made thick.
            view: "sagittal" for planes of depth and rows, "coronal" for planes of depth and columns.
            factor: thin slices per thick interval; None for the network's own.

        Returns:
            (batch, 1, (D - 1) * factor + 1, H, W).

        Raises:
            ShapeError: for a depth, plane or factor that it cannot do.
        """
        chosen = self.checked_factor(x, factor)
        sub_slices = SubSlices.of_factor(chosen, x.shape[2])
        return self.restore_at(
            x,
            view,
            sub_slices,
            thick_spacing_mm=chosen * self.config.thin_spacing_mm,
            in_plane_spacing_mm=self.config.in_plane_spacing_mm,
        )

    def restore_at(
        self,
        x: torch.Tensor,
        view: View,
        sub_slices: SubSlices,
        *,
        thick_spacing_mm: float,
        in_plane_spacing_mm: float,
    ) -> torch.Tensor:
        """The result of one view at chosen positions, (batch, 1, t, H, W); x: (batch, 1, D, H, W)."""
        filters = self.upsampler(view).filters(
            sub_slices.offsets, thick_spacing_mm=thick_spacing_mm, in_plane_spacing_mm=in_plane_spacing_mm
        )
        planes = in_chunks(lambda some: sub_slices.pick(self.upsample(some, filters, view)), to_planes(x, view))
        return from_planes(planes, view, len(x))
