"""SAINT: planes along z upsampled by one network whose filters follow physical distances, then fused slice by slice.

    thick ──┬── sagittal planes ──┐                        ┌── sagittal result ──┐
            │                     ├── through-plane network ┤                     ├── fusion ── thin
            └── coronal planes ───┘    (shared weights)    └── coronal result ───┘

Trained in two stages: `through_plane` first, on both results of `views`, then `fusion` with `through_plane` frozen.

Source: Peng et al., "SAINT: Spatially Aware Interpolation NeTwork for Medical Slice Synthesis", CVPR 2020. From the
description: three adjacent planes as channels; a residual dense network of 64 features, 6 blocks of 8 convolutions,
growth 32; the meta-upsampler, from a 3x3 map of physical distances through five convolutions to a 64x3x3 filter; fusion
by a residual dense network of 4 blocks of 6, growth 12, whose residual is added to the mean. The counts then are
the published ones: 2,787,712 parameters (published 2.79M), of them 129,600 in the meta-upsampler (0.13M), and 371,105
in the fusion (0.37M). The published version copies the thick slices into its output; here that is off, because thick
slices are averages, not samples.

Ours, where the description has no details: the convolutions pad with zeros; at the border a plane is its own neighbour;
ReLU between the meta-upsampler's convolutions; the fusion is 64 features wide; the spacing where none is stated
(see `SAINTConfig`).
"""

from __future__ import annotations

import torch
from torch import nn

from thinslice.models.blocks.residual_dense import ResidualDenseNetwork
from thinslice.models.blocks.views import NEIGHBOURS, MetaUpsampler, SubSlices, View
from thinslice.models.planewise import PlanewiseConfig, PlanewiseModel


class SAINTConfig(PlanewiseConfig):
    """Sizes of SAINT, and the spacings that it assumes; `features` to `growth` are those of the through-plane network.

    `forward` has a factor but no spacing, so the distance of thick slices is taken to be the factor times
    `thin_spacing_mm`. `SAINT.at_positions` takes true spacings.
    """


class ThroughPlane(nn.Module):
    """Upsamples planes along z: features of a plane and its neighbours, then generated filters."""

    def __init__(self, config: SAINTConfig) -> None:
        super().__init__()
        self.body = ResidualDenseNetwork(
            NEIGHBOURS, config.features, blocks=config.blocks, layers=config.layers, growth=config.growth
        )
        self.upsampler = MetaUpsampler(config.features, config.meta_hidden)

    def forward(self, planes: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
        """Upsample; see `PlanewiseModel.upsample`."""
        return self.upsampler.apply_filters(self.body(planes), filters)


class SAINT(PlanewiseModel):
    """The network of the module's page."""

    def __init__(self, config: SAINTConfig) -> None:
        super().__init__(config)
        self.through_plane = ThroughPlane(config)
        self.fusion = config.fusion()

    def upsampler(self, view: View) -> MetaUpsampler:
        """The meta-upsampler of the through-plane network, for either view."""
        return self.through_plane.upsampler

    def upsample(self, planes: torch.Tensor, filters: torch.Tensor, view: View) -> torch.Tensor:
        """Upsample planes of either view; see `PlanewiseModel.upsample`."""
        upsampled: torch.Tensor = self.through_plane(planes, filters)
        return upsampled

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
        spacing_mm = {
            "thick_spacing_mm": thick_spacing_mm,
            "in_plane_spacing_mm": in_plane_spacing_mm or self.config.in_plane_spacing_mm,
        }
        sagittal = self.restore_at(x, "sagittal", sub_slices, **spacing_mm)
        fused: torch.Tensor = self.fusion(sagittal, self.restore_at(x, "coronal", sub_slices, **spacing_mm))
        return fused
