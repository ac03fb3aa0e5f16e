"""The contract of every network here.

    model(x, *, factor=None, profile=None) -> y

x is (batch, 1, D, H, W), D consecutive thick slices, nominally in [0, 1]; y is (batch, 1, (D - 1) * factor + 1, H, W);
thick slice k and thin slice factor * k share their position, not their values. Networks never clamp and never
crop: inference and scoring do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

import torch
from torch import nn

from thinslice.errors import ModelError, ShapeError
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile


class ThroughPlaneModel(nn.Module, ABC):
    """Base class of a network, with the factors, depths and windows that it supports.

    Attributes:
        factors: through-plane factors that the network supports.
        default_factor: factor that factor=None means.
        window: size and margins of the windows it is meant for (`thinslice.planning.ModelWindow`).
        consistent: whether the output averages back to the thick slices by construction; inference preserves that when
            it clamps.
        any_plane: whether a graph recorded on a small plane is valid for any plane, because extents enter through
            shapes alone; false where the network loops over windows or chunks of the plane.
        has_deviation: whether `with_deviation` gives a standard deviation.
    """

    factors: Collection[int]
    default_factor: int
    window: ModelWindow
    consistent: bool = False
    any_plane: bool = False
    has_deviation: bool = False

    @abstractmethod
    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Upscale thick slices.

        Args:
            x: (batch, 1, D, H, W), nominally in [0, 1].
            factor: thin slices per thick interval; None for the model's own.
            profile: how thick slices weigh thin ones; None for contiguous slices (a box one spacing wide). Networks
                without an input for the profile ignore it.

        Returns:
            (batch, 1, (D - 1) * factor + 1, H, W), not clamped.

        Raises:
            ShapeError: for a depth, plane or factor that this network does not support; the message lists those that
                it does.
        """

    def with_deviation(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The estimate of `forward`, and the standard deviation of its error.

        Returns:
            Two tensors (batch, 1, (D - 1) * factor + 1, H, W) in unit intensity: the estimate, and its standard
            deviation as the network was trained, before calibration (`thinslice.models.deviation.Calibration`).

        Raises:
            ModelError: for a network without a deviation head (`has_deviation`); use one that has it.
            ShapeError: as `forward`.
        """
        raise ModelError(
            f"{type(self).__name__} does not estimate its standard deviation; use a network with a deviation head."
        )

    def checked_factor(self, x: torch.Tensor, factor: int | None) -> int:
        """The factor to use, after a check of it and of the shape of `x`.

        Raises:
            ShapeError: for a shape or factor that the network does not support; the message lists those that it does.
        """
        name = type(self).__name__
        if x.ndim != 5 or x.shape[1] != 1:
            raise ShapeError(f"{name} takes (batch, 1, depth, height, width), not {tuple(x.shape)}.")
        if 0 in x.shape:
            raise ShapeError(f"{name} cannot upscale an empty tensor of shape {tuple(x.shape)}; give it voxels.")
        depth = x.shape[2]
        if self.window.depth is not None and depth != self.window.depth:
            raise ShapeError(f"{name} was built for {self.window.depth} thick slices, not {depth}.")
        if depth < self.window.min_depth:
            raise ShapeError(f"{name} needs at least {self.window.min_depth} thick slices, not {depth}.")
        chosen = self.default_factor if factor is None else int(factor)
        if chosen not in self.factors:
            able = ", ".join(str(f) for f in sorted(self.factors))
            raise ShapeError(f"{name} cannot do factor {chosen}; it can do {able}.")
        return chosen
