"""SAINT: planes along z upsampled by one network that knows physical distances, then fused slice by slice.

    thick ──┬── sagittal planes ──┐                        ┌── sagittal result ──┐
            │                     ├── through-plane network ┤                     ├── fusion ── thin
            └── coronal planes ───┘    (shared weights)    └── coronal result ───┘

Trained in two stages: `through_plane` first, on both results of `views`, then `fusion` with `through_plane` frozen.

Source: Peng et al., "SAINT: Spatially Aware Interpolation NeTwork for Medical Slice Synthesis", CVPR 2020. From the
description: three adjacent planes as channels; a residual dense network of 64 features, 6 blocks of 8 convolutions,
growth 32; the meta-upsampler, from a 3x3 map of physical distances through five convolutions to a 64x3x3 filter; fusion
by a residual dense network of 4 blocks of 6, growth 12, whose residual is added to the mean. Read so, the counts are
the published ones: 2,787,712 parameters (published 2.79M), of them 129,600 in the meta-upsampler (0.13M), and 371,105
in the fusion (0.37M). The published version copies the thick slices into its output; here that is off, because thick
slices are averages, not samples.

Ours, where the description is silent: the convolutions pad with zeros; at the border a plane is its own neighbour;
ReLU between the meta-upsampler's convolutions; the fusion is 64 features wide; what the spacing is when nobody says it
(see `SAINTConfig`).
"""

from __future__ import annotations

import torch
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


class SAINTConfig(BaseModel):
    """Sizes of SAINT, and the spacings it takes for granted.

    `forward` is told a factor but no spacing, so the distance of thick slices is taken to be the factor times
    `thin_spacing_mm`. `SAINT.at_positions` takes true spacings.

    Attributes:
        features: channels of the through-plane network.
        blocks: its residual dense blocks.
        layers: convolutions in each.
        growth: channels that each convolution adds.
        meta_hidden: channels between the meta-upsampler's convolutions.
        fusion_features, fusion_blocks, fusion_layers, fusion_growth: the same of the fusion network.
        factor: the one that factor=None means.
        window_depth: thick slices of a window in inference: those of the crops it is trained on. Any number can be
            given to the network, but it pads with zeros, and does much worse where it sees more than it learned on.
        thin_spacing_mm: distance of thin slices that `forward` takes for granted.
        in_plane_spacing_mm: distance of pixels that it takes for granted.
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


class ThroughPlane(nn.Module):
    """Upsamples planes along z: features of a plane and its neighbours, then generated filters."""

    def __init__(self, config: SAINTConfig) -> None:
        super().__init__()
        self.body = ResidualDenseNetwork(
            NEIGHBOURS, config.features, blocks=config.blocks, layers=config.layers, growth=config.growth
        )
        self.upsampler = MetaUpsampler(config.features, config.meta_hidden)

    def forward(self, planes: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
        """Upsample.

        Args:
            planes: (planes, 3, depth, extent).
            filters: (u, features, 3, 3) from the upsampler, one per sub-slice.

        Returns:
            (planes, depth * u, extent), sub-slice i of thick slice k at u * k + i.
        """
        return self.upsampler.apply_filters(self.body(planes), filters)


class SAINT(ThroughPlaneModel):
    """Any depth >= 2, any plane, any factor; see the module's page."""

    factors = range(2, 9)

    def __init__(self, config: SAINTConfig) -> None:
        super().__init__()
        self.config = config
        self.default_factor = config.factor
        self.through_plane = ThroughPlane(config)
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
        chosen = self.checked_factor(x, factor)
        sub_slices = SubSlices.of_factor(chosen, x.shape[2])
        spacing = (chosen * self.config.thin_spacing_mm, self.config.in_plane_spacing_mm)
        return self._view(x, "sagittal", sub_slices, spacing), self._view(x, "coronal", sub_slices, spacing)

    def at_positions(
        self,
        x: torch.Tensor,
        positions: torch.Tensor,
        *,
        thick_spacing_mm: float,
        in_plane_spacing_mm: float | None = None,
    ) -> torch.Tensor:
        """Slices at any positions, for factors that are not whole, or known spacings.

        Args:
            x: (batch, 1, D, H, W), D >= 2.
            positions: (t,), in thick spacings from the first thick slice, within [0, D - 1].
            thick_spacing_mm: distance of thick slices.
            in_plane_spacing_mm: distance of pixels; None for the config's.

        Returns:
            (batch, 1, t, H, W), in the order of `positions`.

        Raises:
            ShapeError: for a wrong shape, or positions outside the volume.
        """
        self.checked_factor(x, None)
        sub_slices = SubSlices.at(positions, x.shape[2])
        spacing = (thick_spacing_mm, in_plane_spacing_mm or self.config.in_plane_spacing_mm)
        views = (self._view(x, "sagittal", sub_slices, spacing), self._view(x, "coronal", sub_slices, spacing))
        fused: torch.Tensor = self.fusion(*views)
        return fused

    def _view(
        self, x: torch.Tensor, view: View, sub_slices: SubSlices, spacing_mm: tuple[float, float]
    ) -> torch.Tensor:
        """One view's result: (batch, 1, t, H, W); spacing_mm: of thick slices, and of pixels."""
        filters = self.through_plane.upsampler.filters(
            sub_slices.offsets, thick_spacing_mm=spacing_mm[0], in_plane_spacing_mm=spacing_mm[1]
        )
        planes = in_chunks(lambda some: sub_slices.pick(self.through_plane(some, filters)), to_planes(x, view))
        return from_planes(planes, view, len(x))
