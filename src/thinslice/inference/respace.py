"""Thin slices at an exact distance, out of the network's thin slices at a whole factor, block by block."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from thinslice.inference.restore import network_input
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU, to_hu
from thinslice.planning.exact_spacing import Block, ExactSpacing
from thinslice.system.pages import own_pages
from thinslice.typing import Floats


def respaced(
    slabs: Iterator[tuple[int, Floats]],
    spacing: ExactSpacing,
    thick: npt.NDArray[np.generic],
    padding_hu: float | None,
) -> Iterator[tuple[int, Floats]]:
    """Slabs of thin slices at the exact distance.

    Memory holds the network's slices of a block and of `HALO` thick slices on either side.

    Args:
        slabs: (start, (channels, slices, height, width) float32 HU) of the network's slices, in order; channel 1, where
            present, holds standard deviations.
        spacing: the two grids.
        thick: (depth, height, width) HU.
        padding_hu: HU that marks padding, or None.

    Yields:
        (start, (channels, slices, height, width) float32 HU) in order; channel 0 inside the networks' window. Standard
        deviations are averaged as if the errors of neighbouring slices were equal, which is never too low.
    """
    held: dict[int, Floats] = {}
    waiting = deque(spacing.blocks())
    last = (spacing.depth - 1) * spacing.factor + 1
    for start, slab in slabs:
        known = start + slab.shape[1]
        held.update((start + offset, slab[:, offset]) for offset in range(slab.shape[1]))
        while waiting and (known == last or spacing.block(*waiting[0]).fine.stop <= known):
            first, stop = waiting.popleft()
            block = spacing.block(first, stop)
            fine = np.stack([held[index] for index in block.fine], axis=1)
            around = to_hu(network_input(thick[block.thick.start : block.thick.stop], padding_hu))
            yield first, _made(block, fine, around)
            for index in [index for index in held if waiting and index < spacing.block(*waiting[0]).fine.start]:
                del held[index]


def _made(block: Block, fine: Floats, thick: Floats) -> Floats:
    """The thin slices of a block, (channels, slices, height, width), as `respaced` gives them.

    Args:
        block: the matrices.
        fine: (channels, network slices, height, width) HU.
        thick: (thick slices, height, width) HU inside the networks' window.
    """
    channels, _, height, width = fine.shape
    out: Floats = own_pages((channels, len(block.from_fine), height, width), np.float32)
    rows, flat = fine.reshape(channels, len(block.fine), -1), out.reshape(channels, len(block.from_fine), -1)
    np.matmul(block.from_fine.astype(np.float32), rows[0], out=flat[0])
    flat[0] += block.from_thick.astype(np.float32) @ thick.reshape(len(thick), -1)
    np.clip(flat[0], WINDOW_MIN_HU, WINDOW_MAX_HU, out=flat[0])
    for channel in range(1, channels):
        np.matmul(block.averages.astype(np.float32), rows[channel], out=flat[channel])
    return out
