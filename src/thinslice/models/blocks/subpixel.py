"""Sub-pixel up-sampling along z, symmetric about the thick slices.

Each thick slice has the sub-slices at offsets -(factor // 2) to factor // 2 on the thin grid, itself in the middle. For
an odd factor these tile the grid. For an even one both neighbours have a sub-slice half-way between them; the thin
slice there is their mean, so that the result does not depend on the end from which slices are counted. At factor 4,
thick slice 1 lies at thin slice 4 and has sub-slices for thin slices 2 to 6; 2 and 6 are shared.

Source: sub-pixel convolution, Shi et al., CVPR 2016, here along one axis. Ours: the alignment, and the mean for even
factors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange

from thinslice.errors import ShapeError
from thinslice.models.blocks.onednn import convolution
from thinslice.models.blocks.pieces import Padding, map_across_slices


def sub_slices(factor: int) -> int:
    """Number of sub-slices of a thick slice; odd.

    >>> sub_slices(5), sub_slices(4)
    (5, 5)
    """
    return 2 * (factor // 2) + 1


def interleave(sub: torch.Tensor, factor: int) -> torch.Tensor:
    """The sub-slices of all thick slices on the thin grid.

    Args:
        sub: (batch, sub_slices(factor), depth, height, width); entry i of thick slice k belongs to thin slice
            factor * k + i - factor // 2. Slices before the first and after the last thick slice are dropped.
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
        # The last thick slice has no neighbour to share with; its last sub-slice is dropped below.
        sub = torch.cat([sub[:, 1:-1], torch.cat([shared, sub[:, -1:, -1:]], dim=2)], dim=1)
    thin = rearrange(sub, "b thin d h w -> b 1 (d thin) h w")
    first = (factor - 1) // 2
    return thin[:, :, first : first + (depth - 1) * factor + 1]


def thin_slices(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    factor: int,
    side: int,
    before: Callable[[torch.Tensor], torch.Tensor] = lambda piece: piece,
    after: Callable[[torch.Tensor], torch.Tensor] = lambda piece: piece,
) -> torch.Tensor:
    """Thin slices from a 3x3x3 convolution, whose output channels are the thin slices and pixels of each thick voxel.

    A few slices at a time on a CPU (`pieces.map_across_slices`), so that little is held beside the result.

    Args:
        x: (batch, channels, depth, height, width) features of thick slices.
        weight: (outputs, channels, 3, 3, 3); outputs are (thin slice, row, column), and may continue after the last.
        bias: (outputs,).
        factor: thin slices per thick one.
        side: pixels of a thin slice per pixel of `x`, along height and along width.
        before: applied to `x`; acts on each voxel by itself.
        after: applied to the result; acts on each voxel by itself.

    Returns:
        (batch, depth * factor, height * side, width * side).

    >>> weight, bias = torch.zeros(12, 1, 3, 3, 3), torch.arange(12.0)
    >>> thin_slices(torch.zeros(1, 1, 2, 1, 1), weight, bias, factor=3, side=2)[0, :, 0].tolist()
    [[0.0, 1.0], [4.0, 5.0], [8.0, 9.0], [0.0, 1.0], [4.0, 5.0], [8.0, 9.0]]
    """

    def shuffled(slices: torch.Tensor, padding: Padding) -> torch.Tensor:
        channels = convolution(slices, weight, bias, padding=padding)[:, : factor * side**2]
        return after(rearrange(channels, "b (thin p q) d h w -> b (d thin) (h p) (w q)", thin=factor, p=side, q=side))

    return map_across_slices(x, shuffled, per_slice=factor, before=before)
