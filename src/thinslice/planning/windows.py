"""Decisions taken before anything runs, free of torch and of voxels.

Which windows of thick slices go through the network, which thin voxels each of them owns, and what that will cost.
A plan is a frozen value: the stitcher only carries it out.

Source: `released` and `paper` follow the published code and section 3 of the paper; `overlap` is ours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelWindow:
    """What a network wants to be fed.

    Attributes:
        depth: the number of thick slices it takes, or None for any from `min_depth` up.
        min_depth: the fewest thick slices it takes.
        tile: preferred in-plane extent (height, width) of a window in pixels.
        halo: reach of the network's receptive field along (depth in thick slices, height, width in pixels): voxels
            farther away do not change an output voxel. Zeros where windows are used whole, as published.
        plan: name of the plan it is meant to run under.
        working_bytes: bytes of working memory per thick input voxel and forward pass, for the estimate said before
            the start; does not count the output.
    """

    depth: int | None = None
    min_depth: int = 2
    tile: tuple[int, int] = (256, 256)
    halo: tuple[int, int, int] = (0, 0, 0)
    plan: str = "overlap"
    working_bytes: float = 400.0
