"""Size of the windows in the plan `overlap`: the fewest voxels read twice within a budget of memory.

A window reads a halo beyond its output, so large windows read fewer voxels twice, but need more memory for the pass and
for thin slices that wait until a row of windows is done. The choice depends on the arguments alone: the same volume is
cut alike on every machine.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise

from thinslice.planning.spans import ModelWindow, Span, pass_bytes

ALIGNMENT = 8
"""Windows start at multiples of this many pixels, so that a network with blocks of pixels (patches, strides) cuts the
plane into the same blocks in every window."""

TILE_SLACK = 1.25
"""A window may be this much larger than the preferred tile if that saves tiles."""

TILE_SHRINK = 4
"""A window is divided no further than to this fraction of the preferred tile."""

BUDGET_BYTES = 7 << 28
"""Target for the memory of a pass and of the waiting thin slices together: 1.75 GiB."""

Cut = tuple[tuple[Span, ...], tuple[Span, ...], tuple[Span, ...]]
"""The spans along depth, height and width."""


def overlap_cut(
    shape: tuple[int, int, int], factor: int, window: ModelWindow, budget: int, *, channels: int = 1
) -> Cut:
    """The cut that feeds the network the fewest voxels within the budget; the smallest one where none is within it.

    Args:
        shape: of the thick volume (depth, height, width).
        factor: thin slices per thick interval.
        window: input that the network takes.
        budget: bytes.
        channels: 2 where standard deviations are made beside the thin slices.
    """
    depth, height, width = shape
    counts = _counts(depth, window)
    cuts = []
    for heights in _planes(height, window.tile[0], window.halo[1]):
        for widths in _planes(width, window.tile[1], window.halo[2]):

            def cut(count: int) -> Cut:
                return _depths(depth, factor, window, count), heights, widths  # noqa: B023 - called here

            def excess(count: int) -> int:
                return max(0, _taken_bytes(cut(count), factor, window, channels) - budget)

            # Shorter windows read more voxels twice: take the fewest along depth that stay within the budget.
            first = bisect_left(counts, True, hi=len(counts) - 1, key=lambda count: excess(count) == 0)
            cuts.append((excess(counts[first]), cut(counts[first])))
    return min(cuts, key=lambda choice: (choice[0], _fed_voxels(choice[1]), math.prod(map(len, choice[1]))))[1]


def _fed_voxels(cut: Cut) -> int:
    return math.prod(sum(span.extent for span in axis) for axis in cut)


def _taken_bytes(cut: Cut, factor: int, window: ModelWindow, channels: int) -> int:
    extent = tuple(max(span.extent for span in axis) for axis in cut)
    plane = cut[1][-1].out_stop * cut[2][-1].out_stop
    waiting = 4 * channels * plane * max(span.out_stop - span.out_start for span in cut[0])
    taken = pass_bytes(
        extent,  # type: ignore[arg-type]  # of three axes
        factor,
        window.working_bytes,
        thin_bytes=window.thin_bytes,
        channels=channels,
    )
    return taken + waiting


def _planes(extent: int, tile: int, halo: int) -> list[tuple[Span, ...]]:
    """Cuts of one axis of the plane, the largest windows first.

    Of 512 pixels at tile 512 and halo 21: one window of 512, two of 280, three of 208.

    >>> [(len(cut), cut[0].extent) for cut in _planes(512, 512, 21)]
    [(1, 512), (2, 280), (3, 208)]
    """
    largest, smallest = int(tile * TILE_SLACK), max(ALIGNMENT, halo, tile // TILE_SHRINK)
    cuts: list[tuple[Span, ...]] = []
    size, count = extent, 1
    while True:
        fits, last = size <= largest, size - 2 * halo < 2 * ALIGNMENT
        if cuts and count > 1 and (size - 2 * halo < smallest or last):
            return cuts
        if fits or last:
            cuts.append(_equal(extent, size, count))
        if last:
            return cuts
        count += 1
        size = _window_size(extent, count, halo)


def _window_size(extent: int, count: int, halo: int) -> int:
    """Extent of each of `count` windows that meet their neighbours with a halo on either side.

    It differs from the axis' extent by a multiple of `ALIGNMENT`, so that the last window is flush and starts on a
    block.

    Two windows over 512 pixels at halo 21 need (512 + 2 * 21) / 2 = 277 pixels; 280 is the next extent whose last
    window starts on a block, at 512 - 280 = 232 = 29 * 8.

    >>> _window_size(512, 2, 21)
    280
    """
    size = math.ceil((extent + 2 * halo * (count - 1)) / count)
    size += (extent - size) % ALIGNMENT
    while (count - 1) * ((size - 2 * halo) // ALIGNMENT * ALIGNMENT) < extent - size:
        size += ALIGNMENT
    return min(size, extent)


def _equal(extent: int, size: int, count: int) -> tuple[Span, ...]:
    """Windows of one extent, so that a network is compiled for few shapes; each meets the next in the middle.

    The windows [0, 280) and [232, 512) share [232, 280) and meet at (232 + 280) / 2 = 256. The second one gives
    [256, 512), which begins at 256 - 232 = 24 of its output.

    >>> [(span.start, span.stop, span.out_start, span.out_stop, span.trim) for span in _equal(512, 280, 2)]
    [(0, 280, 0, 256, 0), (232, 512, 256, 512, 24)]
    """
    if count == 1 or size >= extent:
        return (Span(0, extent, 0, 0, extent, 0),)
    starts = [i * (extent - size) // (count - 1) // ALIGNMENT * ALIGNMENT for i in range(count)]
    meets = [0, *((start + before + size) // 2 for before, start in pairwise(starts)), extent]
    return tuple(
        Span(start, start + size, 0, first, last, first - start)
        for start, (first, last) in zip(starts, pairwise(meets), strict=True)
    )


def _counts(depth: int, window: ModelWindow) -> range:
    """Numbers of windows to try along depth; one only where the network's depth fixes it.

    9 thick slices have 8 intervals. A network of 4 slices without a halo has 3 in a window, so that ceil(8 / 3) = 3
    windows are needed. A network of any depth may have 12 slices in 1 to 3 windows at halo 2: more would read each
    slice more than three times.

    >>> _counts(9, ModelWindow(depth=4)), _counts(12, ModelWindow(halo=(2, 0, 0)))
    (range(3, 4), range(1, 4))
    """
    halo, intervals = window.halo[0], depth - 1
    if window.depth is None and window.max_depth is None:
        # With a core shorter than its halo, each slice would be read more than three times.
        core = max(1, halo)
        return range(1, max(1, 2 if intervals >= 2 * core else 1, (intervals - 2 * halo) // core) + 1)
    shortest = longest = max(1, halo)
    if window.depth is not None:
        shortest = longest = max(1, window.depth - max(1, 2 * halo))
    elif window.max_depth is not None:
        longest = max(shortest, window.max_depth - halo - max(halo, 1))
    fewest, most = (max(1, math.ceil(intervals / core)) for core in (longest, shortest))
    return range(fewest, most + 1)


def _depths(depth: int, factor: int, window: ModelWindow, count: int) -> tuple[Span, ...]:
    """Spans along depth; their outputs are divided by intervals between thick slices.

    12 thick slices have 11 intervals; three windows get those of [0, 3), [3, 7) and [7, 11). At halo 2 the second one
    reads thick slices [3 - 2, 7 + 2) = [1, 9). At factor 5 it gives thin slices [15, 35), which begin at
    (3 - 1) * 5 = 10 of its output. The last window gives the volume's last slice too: [35, 56).

    >>> spans = _depths(12, 5, ModelWindow(halo=(2, 0, 0)), 3)
    >>> [(span.start, span.stop, span.out_start, span.out_stop, span.trim) for span in spans]
    [(0, 5, 0, 15, 0), (1, 9, 15, 35, 10), (5, 12, 35, 56, 10)]
    """
    halo = window.halo[0]
    fewest = window.min_depth if window.depth is None else window.depth
    if window.depth is None and window.max_depth is not None:
        fewest = max(fewest, min(depth, window.max_depth))
    bounds = [i * (depth - 1) // count for i in range(count + 1)]
    spans = []
    for first, last in pairwise(bounds):
        # One more thick slice than the core even without a halo: the core's last interval needs both its ends.
        start, stop = max(0, first - halo), min(depth, last + max(halo, 1))
        if window.depth is not None and stop - start > fewest:
            start = first - (fewest - (last - first + 1)) // 2
            start = min(max(0, start), depth - fewest)
            stop = start + fewest
        if stop - start < fewest:
            stop = min(depth, start + fewest)
            start = max(0, stop - fewest)
        out_stop = (depth - 1) * factor + 1 if last == depth - 1 else last * factor
        pad = max(0, fewest - (stop - start))
        spans.append(Span(start, stop, pad, first * factor, out_stop, (first - start) * factor))
    return tuple(spans)
