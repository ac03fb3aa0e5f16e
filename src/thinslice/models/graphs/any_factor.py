"""ThinNet as one graph for every factor, slice profile, depth and plane, to be recorded for other runtimes.

`ThinNet` takes the factor and the profile as Python values and makes matrices of them. Recorded as it is, those would
be constants, and a graph would belong to one factor, one profile and one depth. Here the factor, the profile and the
distances of the thin slices are tensors, and the matrices are computed from them inside the graph:

    thick ─────────────────────────────────── ThinNet's own layers ── thin
    condition, positions (`condition_features`, `thin_positions`) ─┤
    profile, damping ── averages A, base, A^T (A A^T + e I)^-1 ────┘

Runtimes have no operator that solves equations. A A^T is inverted by the Newton-Schulz iteration, in double precision:
its condition number is at most `MAX_CONDITION`, which bounds the number of steps.

Source: the iteration, Schulz, ZAMM 1933; with X0 = I / |G|, the error is (1 - 1 / condition)^(2^steps).
"""

from __future__ import annotations

import torch
from torch import nn

from thinslice.models.thinnet import ThinNet, on_grid

STEPS = 11
"""Steps of the iteration: with a condition number of 30 an error of 1e-30 remains, and of 60, 1e-15."""


class ThinNetGraph(nn.Module):
    """A ThinNet whose factor and profile are tensors.

    Args:
        network: gives all weights and layers.
        scale: factor of the standard deviation, from its calibration; None for a graph of the estimate alone.
    """

    def __init__(self, network: ThinNet, scale: float | None = None) -> None:
        super().__init__()
        self.network = network
        self.scale = scale

    def forward(
        self,
        thick: torch.Tensor,
        condition: torch.Tensor,
        positions: torch.Tensor,
        profile: torch.Tensor,
        damping: torch.Tensor,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Upscale.

        Args:
            thick: (1, 1, D, H, W), unit intensity, D >= 2.
            condition, positions, profile, damping: see `thinslice.models.thinnet_config.Description`.

        Returns:
            (1, 1, (D - 1) * factor + 1, H, W), unit intensity, not clamped; with `scale` also the calibrated standard
            deviation, of the same shape.
        """
        network, factor = self.network, positions.shape[0]
        features, described = network.encode(thick, condition)
        residual = on_grid(network.head(features, positions), thick, factor)
        base, averages = _matrices(thick.shape[2], factor, profile, damping)
        thin = network.make_consistent(thick[:, 0], residual, base.float(), averages.float())[:, None]
        if self.scale is None:
            return thin
        deviation = network.deviation(features, described, positions)
        return thin, self.scale * on_grid(deviation, thick, factor)[:, None]


def _matrices(
    depth: int, factor: int, weights: torch.Tensor, damped: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`thinslice.models.thinnet.consistency_matrices` in operators that a graph holds, double precision.

    Every thick slice has a row. In the row of one that is not supported A is zero, so that it changes nothing; on the
    diagonal of A A^T stands what others have there, which keeps it invertible and as well conditioned.
    """
    thin, reach = (depth - 1) * factor + 1, weights.shape[0] // 2
    at, centres = torch.arange(thin), torch.arange(depth) * factor
    linear = (1.0 - (at[:, None] - centres).abs().double() / factor).clamp(min=0.0)
    supported = ((centres >= reach) & (centres + reach < thin)).double()
    # Of factor 5 and reach 2: thick slice 1, centred on thin slice 5, has its weights 0 to 4 on thin slices 3 to 7.
    index = at - centres[:, None] + reach
    inside = ((index >= 0) & (index < weights.shape[0])).double()
    averages = weights[index.clamp(min=0).minimum(torch.tensor(weights.shape[0] - 1))] * inside * supported[:, None]
    identity = torch.eye(depth, dtype=torch.float64)
    gram = averages @ averages.T + torch.diag(damped + (1.0 - supported) * weights.square().sum())
    inverse = identity / gram.abs().sum(dim=1).max()
    for _ in range(STEPS):
        inverse = inverse @ (2.0 * identity - gram @ inverse)
    correction = averages.T @ inverse
    base = linear + correction @ (torch.diag(supported) - averages @ linear)
    return torch.cat([base, -correction], dim=1), averages
