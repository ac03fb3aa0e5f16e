"""Interpolation along z, the baselines of every table, as a network of torch. No weights.

The methods and their matrices are defined in `thinslice.models.along_z`.
"""

from __future__ import annotations

import torch
from einops import einsum

from thinslice.models.along_z import DEFAULT_FACTOR, FACTORS, InterpolateConfig, z_matrix
from thinslice.models.base import ThroughPlaneModel
from thinslice.profile import SliceProfile


class Interpolate(ThroughPlaneModel):
    """A matrix along z, at any depth >= 1 and factor >= 1."""

    factors = FACTORS
    default_factor = DEFAULT_FACTOR

    def __init__(self, config: InterpolateConfig) -> None:
        super().__init__()
        self.config = config
        self.consistent = config.consistent
        self.window = config.window

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Interpolate; see `ThroughPlaneModel.forward`. Only the consistent methods use the profile."""
        factor = self.checked_factor(x, factor)
        rows = z_matrix(self.config.method, x.shape[2], profile or SliceProfile.mean(factor), factor)
        return einsum(torch.tensor(rows, dtype=x.dtype, device=x.device), x, "thin d, b c d h w -> b c thin h w")
