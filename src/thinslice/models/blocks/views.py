"""Bricks of networks that upscale plane by plane (`thinslice.models.planewise`).

A thick volume is cut twice, into sagittal planes (along z and y, one per column) and into coronal planes (along z and
x, one per row). A plane network upsamples each plane along z, with its two neighbours as further channels. A fusion
network that works on axial slices makes one volume of the two results.

    thick ──┬── sagittal planes ── features ── meta-upsampler ──┐
            └── coronal planes ─── features ── meta-upsampler ──┴── mean + residual (fusion, per axial slice) ── thin

Planes go through a network some at a time (`in_chunks`): memory stays small, and on a CPU their features stay in the
cache. Positions along z are counted in thick spacings; thick slice k lies at k.

Source: Peng et al., "SAINT: Spatially Aware Interpolation NeTwork for Medical Slice Synthesis", CVPR 2020; the
meta-upsampler after Hu et al., "Meta-SR", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from einops import rearrange
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models.blocks.residual_dense import ResidualDenseNetwork

View = Literal["sagittal", "coronal"]

NEIGHBOURS = 3
"""Planes in the input of a plane network: the one to upsample and one on either side."""

THIN_SPACING_MM = 1.0
"""Distance of thin slices assumed where none is stated: the product's target, and RPLHR-CT's."""

IN_PLANE_SPACING_MM = 0.7
"""Pixel spacing assumed where none is stated: RPLHR-CT has 0.604 to 0.795 mm, which its release does not keep."""

POSITION_TOLERANCE = 1e-6
"""In thick spacings: positions closer than this to a thick slice, or to each other, count as the same."""

CPU_CHUNK = 16_384
"""Pixels of planes that a plane network takes at a time on a CPU: features of more would not fit the cache."""

ACCELERATOR_CHUNK = 262_144
"""Pixels of planes that a plane network takes at a time on an accelerator, to limit memory: about 1 GB of features."""

HALO = (0, 16, 16)
"""Margins of a window's input around its output. The convolutions reach 52 thick slices and 80 pixels, too many for
any window; along z a window is never deeper than the crops of training (`max_depth`)."""

WORKING_BYTES = 900.0
"""Bytes per thick voxel, measured on a CPU with 4 slices of 256 x 256: 227 MiB. One chunk of planes, or one axial
slice in fusion, takes them, so 8 slices take no more: 220 MiB."""


@dataclass(frozen=True)
class SubSlices:
    """Positions of the slices to make between the thick ones.

    Attributes:
        offsets: (u,) float32, the different distances from the previous thick slice, in thick spacings, [0, 1).
        order: (t,) int64, index u * k + i of each slice to make: offset i after thick slice k. At factor 5, u = 5 and
            thin slice 7 has k = 1 and i = 2.
    """

    offsets: torch.Tensor
    order: torch.Tensor

    @classmethod
    def at(cls, positions: torch.Tensor, depth: int) -> SubSlices:
        """Sub-slices at chosen positions.

        Args:
            positions: (t,), in thick spacings, within [0, depth - 1].
            depth: thick slices.

        Raises:
            ShapeError: for positions outside the volume, or none.

        >>> sub = SubSlices.at(torch.tensor([0.0, 0.4, 0.8, 1.2, 1.6, 2.0]), 3)
        >>> [round(offset, 3) for offset in sub.offsets.tolist()], sub.order.tolist()
        ([0.0, 0.2, 0.4, 0.6, 0.8], [0, 2, 4, 6, 8, 10])
        """
        at = positions.detach().to("cpu", torch.float64)
        inside = (at >= -POSITION_TOLERANCE) & (at <= depth - 1 + POSITION_TOLERANCE)
        if at.ndim != 1 or not len(at) or not bool(inside.all()):
            raise ShapeError(
                f"Give one or more positions from 0 to {depth - 1} thick spacings in a one-dimensional tensor; "
                f"the one of shape {tuple(at.shape)} has none, or some that lie elsewhere."
            )
        steps = torch.round(at / POSITION_TOLERANCE).to(torch.int64)
        per_slice = round(1.0 / POSITION_TOLERANCE)
        before = steps.div(per_slice, rounding_mode="floor")
        offsets, index = torch.unique(steps - before * per_slice, return_inverse=True)
        return cls((offsets * POSITION_TOLERANCE).float(), before * len(offsets) + index)

    @classmethod
    def of_factor(cls, factor: int, depth: int) -> SubSlices:
        """Sub-slices of the whole thin grid: (depth - 1) * factor + 1 slices, thick slice k at factor * k."""
        return cls.at(torch.arange((depth - 1) * factor + 1, dtype=torch.float64) / factor, depth)

    def pick(self, interleaved: torch.Tensor) -> torch.Tensor:
        """The slices to make among all sub-slices of all thick slices: (n, depth * u, width) to (n, t, width)."""
        count = len(self.order)
        if torch.equal(self.order, torch.arange(count)):
            return interleaved[:, :count]
        return interleaved.index_select(1, self.order.to(interleaved.device))


class MetaUpsampler(nn.Module):
    """Filters for every sub-slice, generated from its position.

    For each sub-slice a 3x3 map holds the distances in mm from a pixel of it to the nine feature pixels around. Five
    3x3 convolutions turn the map into a 3x3 filter over all features. Since a sub-slice has one filter over its whole
    plane, its application to unfolded features is a convolution with generated weights.

    Args:
        features: channels of the features.
        hidden: channels between the convolutions.
    """

    def __init__(self, features: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        channels = (1, *hidden, features)
        layers: list[nn.Module] = []
        for inner, outer in pairwise(channels):
            layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU()]
        self.generate = nn.Sequential(*layers[:-1])

    def filters(self, offsets: torch.Tensor, *, thick_spacing_mm: float, in_plane_spacing_mm: float) -> torch.Tensor:
        """Filters of sub-slices: (u, features, 3, 3); axes of the last two: z, in plane.

        Args:
            offsets: (u,), distances from the previous thick slice, in thick spacings.
            thick_spacing_mm: distance of thick slices.
            in_plane_spacing_mm: distance of pixels.
        """
        weight = next(self.parameters())
        steps = torch.arange(-1, 2, dtype=weight.dtype, device=weight.device)
        along_z = (steps - offsets.to(steps)[:, None]) * thick_spacing_mm
        in_plane = steps * in_plane_spacing_mm
        distance_mm = torch.hypot(along_z[:, None, :, None], in_plane[None, None, None, :])
        generated: torch.Tensor = self.generate(distance_mm)
        return generated

    @staticmethod
    def apply_filters(features: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
        """All sub-slices: (n, features, depth, width) to (n, depth * u, width), offset i of slice k at u * k + i."""
        sub_slices = F.conv2d(features, filters.to(features.dtype), padding=1)
        return rearrange(sub_slices, "n u d w -> n (d u) w")


class Fusion(nn.Module):
    """One volume from the sagittal and the coronal result: their mean plus a residual estimated per axial slice."""

    def __init__(self, features: int, *, blocks: int, layers: int, growth: int) -> None:
        super().__init__()
        self.body = ResidualDenseNetwork(2, features, blocks=blocks, layers=layers, growth=growth)
        self.residual = nn.Conv2d(features, 1, 3, padding=1)

    def forward(self, sagittal: torch.Tensor, coronal: torch.Tensor) -> torch.Tensor:
        """Fuse; all (batch, 1, thin, height, width)."""
        both = torch.cat([sagittal, coronal], dim=1)
        residual = in_chunks(
            lambda slices: self.residual(self.body(slices)), rearrange(both, "b views t h w -> (b t) views h w")
        )
        return both.mean(dim=1, keepdim=True) + rearrange(residual, "(b t) 1 h w -> b 1 t h w", b=len(both))


def to_planes(x: torch.Tensor, view: View) -> torch.Tensor:
    """Planes of a volume along z, each with its two neighbours as channels; at the border a plane is its own neighbour.

    Args:
        x: (batch, 1, depth, height, width).
        view: "sagittal", one plane per column, or "coronal", one per row.

    Returns:
        (planes, 3, depth, extent), ordered by volume, then by position; extent is height in sagittal planes and width
        in coronal ones. Channels-last in memory.

    Raises:
        ShapeError: for a volume without voxels.

    >>> to_planes(torch.zeros(2, 1, 4, 6, 5), "sagittal").shape
    torch.Size([10, 3, 4, 6])
    """
    if not x.numel():
        raise ShapeError(f"Planes cannot be cut from an empty tensor of shape {tuple(x.shape)}; give it voxels.")
    across = x if view == "sagittal" else x.transpose(-1, -2)
    padded = F.pad(across, (NEIGHBOURS // 2, NEIGHBOURS // 2, 0, 0, 0, 0), mode="replicate")
    planes = rearrange(padded.unfold(-1, NEIGHBOURS, 1), "b 1 d extent p c -> (b p) d extent c").contiguous()
    return planes.permute(0, 3, 1, 2)


def from_planes(planes: torch.Tensor, view: View, batch: int) -> torch.Tensor:
    """Volumes of planes, the inverse of `to_planes`: (planes, thin, extent) to (batch, 1, thin, height, width)."""
    volume = rearrange(planes, "(b p) t extent -> b 1 t extent p", b=batch)
    return volume if view == "sagittal" else volume.transpose(-1, -2)


def in_chunks(network: Callable[[torch.Tensor], torch.Tensor], planes: torch.Tensor) -> torch.Tensor:
    """`network(planes)`, some planes at a time; planes: (planes, channels, height, width), treated independently."""
    pixels = planes.shape[-2] * planes.shape[-1]
    count = max(1, (CPU_CHUNK if planes.device.type == "cpu" else ACCELERATOR_CHUNK) // max(1, pixels))
    if len(planes) <= count:
        return network(planes)
    return torch.cat([network(some) for some in torch.split(planes, count)])
