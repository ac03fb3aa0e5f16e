"""The contract of every network here.

    model(x, *, factor=None, profile=None) -> y

x is (batch, 1, D, H, W), D consecutive thick slices, nominally in [0, 1]; y is (batch, 1, (D - 1) * factor + 1, H, W);
thick slice k sits at thin slice factor * k, exactly. Networks never clamp and never crop: inference and scoring do.
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
    """Base class that states what a network can do.

    Attributes:
        factors: the through-plane factors it can do.
        default_factor: the one that factor=None means.
        window: which input it takes best (`thinslice.planning.ModelWindow`).
        consistent: whether the output averages back to the thick slices by construction; inference keeps that when
            it clamps.
        any_plane: whether what a pass does depends on the plane's extents through shapes alone, so that a graph
            recorded on a small plane serves any; not so where windows or chunks of the plane are counted out.
        has_deviation: whether `with_deviation` says how sure the network is.
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
                that do not know about profiles ignore it.

        Returns:
            (batch, 1, (D - 1) * factor + 1, H, W), not clamped.

        Raises:
            ShapeError: for a depth, plane or factor that this network cannot do.
        """

    def with_deviation(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The estimate of `forward`, and the standard deviation of its error.

        Returns:
            Two tensors (batch, 1, (D - 1) * factor + 1, H, W) in unit intensity: the estimate, and its standard
            deviation as the network was trained, before calibration (`thinslice.models.deviation.Calibration`).

        Raises:
            ModelError: for a network that cannot tell; see `has_deviation`.
            ShapeError: as `forward`.
        """
        raise ModelError(
            f"{type(self).__name__} was not made to say how sure it is; use a network with a deviation head."
        )

    def checked_factor(self, x: torch.Tensor, factor: int | None) -> int:
        """The factor to use, after checking it and the shape of `x`.

        Raises:
            ShapeError: naming what the network can do.
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
