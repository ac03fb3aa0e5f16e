"""Sub-pixel up-sampling along z, symmetric about the thick slices.

Each thick slice gives as many sub-slices as fit between the thick slices to either side of it, itself in the middle:
offsets -(factor // 2) to factor // 2 on the thin grid. For an odd factor these tile the grid. For an even one the thin
slice half-way between two thick slices is given by both and is their mean, so that the result never depends on which
end the slices are counted from.

Source: sub-pixel convolution, Shi et al., CVPR 2016, here along one axis. Ours: the alignment, and the mean for even
factors.
"""

from __future__ import annotations

import torch
from einops import rearrange

from thinslice.errors import ShapeError


def sub_slices(factor: int) -> int:
    """How many sub-slices a thick slice must give; odd.

    >>> sub_slices(5), sub_slices(4)
    (5, 5)
    """
    return 2 * (factor // 2) + 1


def interleave(sub: torch.Tensor, factor: int) -> torch.Tensor:
    """Put the sub-slices of all thick slices onto the thin grid.

    Args:
        sub: (batch, sub_slices(factor), depth, height, width); entry i of thick slice k belongs to thin slice
            factor * k + i - factor // 2. What lies outside the first and the last thick slice is dropped.
        factor: thin slices per thick interval.

    Returns:
        (batch, 1, (depth - 1) * factor + 1, height, width).

    Raises:
        ShapeError: when `sub` holds another number of sub-slices; give `sub_slices(factor)` of them.

    >>> sub = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 2.0, 3.0]]).T.reshape(1, 3, 2, 1, 1)
    >>> interleave(sub, 2).flatten().tolist()
    [0.0, 1.0, 2.0]
    """
    if sub.shape[1] != sub_slices(factor):
        raise ShapeError(f"Factor {factor} needs {sub_slices(factor)} sub-slices per thick slice, not {sub.shape[1]}.")
    depth = sub.shape[2]
    if factor % 2 == 0:
        shared = (sub[:, -1:, :-1] + sub[:, :1, 1:]) / 2
        # The last thick slice has no neighbour to share with; what stands there is dropped below.
        sub = torch.cat([sub[:, 1:-1], torch.cat([shared, sub[:, -1:, -1:]], dim=2)], dim=1)
    thin = rearrange(sub, "b thin d h w -> b 1 (d thin) h w")
    first = (factor - 1) // 2
    return thin[:, :, first : first + (depth - 1) * factor + 1]
