"""Which thick slices go through the network at a time, and which thin voxels each window owns.

A plan is the product of spans along depth, height and width. A span says what is read, how far it is padded, what it
gives, and where that lies in the network's output; whatever is dropped, overlapped or overwritten is settled here.

Along depth the grids are tied by thick slice k = thin slice factor * k, so that n thick slices give
(n - 1) * factor + 1 thin ones.

Source: `released` follows the published code, `paper` section 3 of the paper; `overlap` is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from thinslice.errors import ShapeError, UsageError

if TYPE_CHECKING:
    from thinslice.profile import SliceProfile

PLANS = ("overlap", "released", "paper")
"""Names that `plan_windows` knows."""

PUBLISHED_DEPTH = 4
"""Thick slices per window in the published plans, for networks that take any number."""

ALIGNMENT = 8
"""In `overlap`, windows start at multiples of this many pixels, so that networks that work on blocks of pixels
(patches, strides) cut the plane into the same blocks whichever window they see."""

TILE_SLACK = 1.25
"""A window in `overlap` may be this much larger than the preferred tile if that saves tiles."""

TILE_HALVINGS = 2
"""How often `overlap` may halve the preferred tile to fit more slices into a window."""

WORKING_BUDGET_BYTES = 1 << 30
"""Aim for the network's working memory in one window of `overlap`."""

BUFFER_BUDGET_BYTES = 384 << 20
"""Aim for the float32 buffer of thin slices that one row of windows in `overlap` fills."""


PROFILE_TOLERANCE = 1e-3
"""Share of its peak below which a thick slice's influence through the slice profile does not count."""


@dataclass(frozen=True)
class ModelWindow:
    """What a network wants to be fed.

    Attributes:
        depth: the number of thick slices it takes, or None for any from `min_depth` up.
        min_depth: the fewest thick slices it takes.
        max_depth: how many a window in `overlap` holds where the volume has them, or None for as many as fit. A
            network that pads with zeros does worse in windows deeper than the crops it was trained on. Without effect
            where `depth` is set.
        tile: preferred in-plane extent (height, width) of a window in pixels.
        halo: reach of the network's receptive field along (depth in thick slices, height, width in pixels): voxels
            farther away do not change an output voxel. Zeros where windows are used whole, as published.
        plan: name of the plan it is meant to run under.
        working_bytes: bytes of working memory per thick input voxel and forward pass, for the estimate said before
            the start; does not count the output.
    """

    depth: int | None = None
    min_depth: int = 2
    max_depth: int | None = None
    tile: tuple[int, int] = (256, 256)
    halo: tuple[int, int, int] = (0, 0, 0)
    plan: str = "overlap"
    working_bytes: float = 400.0


@dataclass(frozen=True)
class Span:
    """One axis of a window.

    Attributes:
        start, stop: what is read of the thick volume, half-open, inside the volume.
        pad: how many slices (replicas of the last) or pixels (by reflection) are added behind it for the network.
        out_start, out_stop: what the window gives of the thin volume, half-open.
        trim: where that begins in the network's output.
    """

    start: int
    stop: int
    pad: int
    out_start: int
    out_stop: int
    trim: int

    @property
    def extent(self) -> int:
        """What the network is fed, padding included."""
        return self.stop - self.start + self.pad

    @property
    def out(self) -> slice:
        """Where the result lies in the thin volume."""
        return slice(self.out_start, self.out_stop)

    @property
    def kept(self) -> slice:
        """Where it lies in the network's output."""
        return slice(self.trim, self.trim + self.out_stop - self.out_start)


@dataclass(frozen=True)
class Window:
    """One pass through the network: a span of thick slices, rows and columns."""

    depth: Span
    height: Span
    width: Span

    @property
    def shape(self) -> tuple[int, int, int]:
        """What the network is fed, padding included, as (depth, height, width)."""
        return self.depth.extent, self.height.extent, self.width.extent


@dataclass(frozen=True)
class WindowPlan:
    """How a thick volume is cut into windows and the thin one put together.

    Attributes:
        name: of the plan.
        factor: thin slices per thick interval.
        shape: of the thick volume (depth, height, width).
        blend: "replace" when every thin voxel is given by one window, "average" when several may.
        depths, heights, widths: the spans along each axis, in order; a window is one of each.

    >>> plan = plan_windows((7, 256, 300), 5, ModelWindow(depth=4), "released")
    >>> len(plan.windows), plan.thin_shape
    (6, (31, 256, 300))
    >>> [(span.start, span.stop, span.out_start, span.out_stop) for span in plan.depths]
    [(0, 4, 0, 13), (2, 6, 13, 18), (3, 7, 18, 31)]
    """

    name: str
    factor: int
    shape: tuple[int, int, int]
    blend: Literal["replace", "average"]
    depths: tuple[Span, ...]
    heights: tuple[Span, ...]
    widths: tuple[Span, ...]

    @property
    def thin_shape(self) -> tuple[int, int, int]:
        """Of the thin volume, (depth, height, width)."""
        depth, height, width = self.shape
        return (depth - 1) * self.factor + 1, height, width

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """All windows; those of the same thick slices follow each other, from the first slice to the last."""
        return tuple(Window(*spans) for spans in product(self.depths, self.heights, self.widths))

    @property
    def largest(self) -> tuple[int, int, int]:
        """The largest extent fed to the network along (depth, height, width)."""
        return tuple(max(s.extent for s in axis) for axis in (self.depths, self.heights, self.widths))  # type: ignore[return-value]

    def coverage(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """How many spans give each thin slice, row and column; a voxel's number of windows is their product."""
        axes = zip((self.depths, self.heights, self.widths), self.thin_shape, strict=True)
        return tuple(_coverage(spans, extent) for spans, extent in axes)  # type: ignore[return-value]


def plan_windows(
    shape: tuple[int, int, int],
    factor: int,
    window: ModelWindow,
    plan: str | None = None,
    *,
    profile: SliceProfile | None = None,
    working_budget: int = WORKING_BUDGET_BYTES,
    buffer_budget: int = BUFFER_BUDGET_BYTES,
) -> WindowPlan:
    """Cut a thick volume into windows.

    - `released`: windows of 4 thick slices every 2, and tiles side by side. The outputs nearest to either end of a
      window are dropped ((factor + 1) // 2 of them, 3 at factor 5), except at the volume's own ends. The last window is
      flush with the end, and later windows overwrite earlier ones.
    - `paper`: windows of 4 thick slices every 3, and tiles side by side, the last ones flush with the end; nothing is
      dropped, and voxels given several times are averaged.
    - `overlap`: each voxel is given by one window, whose input reaches beyond it by the network's receptive field, so
      that the result is that of the whole volume in one piece. How much a window holds follows from the budgets.

    Args:
        shape: of the thick volume (depth, height, width), each at least 1.
        factor: thin slices per thick interval.
        window: what the network takes.
        plan: one of `PLANS`; None for the network's own.
        profile: how thick slices weigh thin ones. Slices that overlap each other tie the thin slices together over a
            distance (`profile_reach`) that may exceed the network's own reach: `overlap` then reads that much more.
        working_budget: bytes that one pass should stay within; `overlap` only.
        buffer_budget: bytes that the buffer of thin slices should stay within; `overlap` only. Both are aims: a
            window is never smaller than its halo.

    Raises:
        UsageError: for an unknown plan.
        ShapeError: when the network takes a single thick slice, between which nothing can be interpolated.
    """
    name = window.plan if plan is None else plan
    if name not in PLANS:
        raise UsageError(f"There is no window plan named {name!r}; choose one of {', '.join(PLANS)}.")
    if window.depth is not None and window.depth < 2:
        raise ShapeError("A network that takes a single thick slice cannot be run in windows; it needs two or more.")
    depth, height, width = shape
    if name == "overlap":
        window = _reaching(window, profile)
        cuts = _overlap_cuts(shape, factor, window, working_budget, buffer_budget)
        return WindowPlan(name, factor, shape, "replace", *min(cuts, key=_fed_voxels))
    fed = max(PUBLISHED_DEPTH, window.min_depth) if window.depth is None else window.depth
    cut = _released_depth if name == "released" else _paper_depth
    overwrite = name == "released"
    return WindowPlan(
        name,
        factor,
        shape,
        "replace" if overwrite else "average",
        _published_depth(depth, factor, fed, cut),
        _published_plane(height, window.tile[0], overwrite=overwrite),
        _published_plane(width, window.tile[1], overwrite=overwrite),
    )


def profile_reach(profile: SliceProfile) -> int:
    """How far, in thick slices, one thick slice matters to thin ones that must average back to all thick slices.

    What makes an estimate consistent (`SliceProfile.correction`) decays from slice to slice: at once for contiguous
    ones, slowly for overlapping ones. Counted is what exceeds `PROFILE_TOLERANCE` of its peak.

    >>> from thinslice.profile import SliceProfile
    >>> profile_reach(SliceProfile.mean(5)), profile_reach(SliceProfile.mean(5, width=2.0))
    (1, 18)
    """
    from thinslice.profile import DEEP  # it needs scipy, planning itself does not

    first = profile.supported(0).start
    depth, row = DEEP + 2 * first, DEEP // 2
    middle = first + row
    weight = np.abs(profile.correction(depth)[:, row])
    distance = np.abs(np.arange(len(weight)) / profile.factor - middle)
    return math.ceil(float(distance[weight > PROFILE_TOLERANCE * weight.max()].max()))


def _reaching(window: ModelWindow, profile: SliceProfile | None) -> ModelWindow:
    if profile is None or window.depth is not None or window.max_depth is not None:
        return window  # a network of fixed or limited depth reads what it reads
    return replace(window, halo=(max(window.halo[0], profile_reach(profile)), *window.halo[1:]))


def _coverage(spans: tuple[Span, ...], extent: int) -> npt.NDArray[np.intp]:
    counts = np.zeros(extent, dtype=np.intp)
    for span in spans:
        counts[span.out] += 1
    return counts


Cut = tuple[tuple[Span, ...], tuple[Span, ...], tuple[Span, ...]]
"""The spans along depth, height and width."""

Kept = list[tuple[int, int, int]]
"""Per window along depth: the first thick slice, and the thin slices [start, stop) it gives."""


def _published_depth(depth: int, factor: int, fed: int, cut: Callable[[int, int, int], Kept]) -> tuple[Span, ...]:
    if depth <= fed:
        return (Span(0, depth, fed - depth, 0, (depth - 1) * factor + 1, 0),)
    return tuple(
        Span(start, start + fed, 0, out_start, out_stop, out_start - start * factor)
        for start, out_start, out_stop in cut(depth, factor, fed)
    )


def _released_depth(depth: int, factor: int, fed: int) -> Kept:
    stride = max(1, fed - 2)
    # What is kept in the middle of a window is at least one stride long, so that windows leave no hole.
    trim = ((fed - 1 - stride) * factor + 1) // 2
    starts = [*range(0, depth - fed, stride), depth - fed]
    firsts = [0, *(start * factor + trim for start in starts[1:])]
    # Later windows overwrite: each gives what lies before the next one's first.
    lasts = [*firsts[1:], (depth - 1) * factor + 1]
    return list(zip(starts, firsts, lasts, strict=True))


def _paper_depth(depth: int, factor: int, fed: int) -> Kept:
    starts = [*range(0, depth - fed, fed - 1), depth - fed]
    return [(start, start * factor, (start + fed - 1) * factor + 1) for start in starts]


def _published_plane(extent: int, tile: int, *, overwrite: bool) -> tuple[Span, ...]:
    if extent <= tile:
        return (Span(0, extent, tile - extent, 0, extent, 0),)
    starts = [*range(0, extent - tile, tile), extent - tile]
    stops = [*starts[1:], extent] if overwrite else [start + tile for start in starts]
    return tuple(Span(start, start + tile, 0, start, stop, 0) for start, stop in zip(starts, stops, strict=True))


def _overlap_cuts(
    shape: tuple[int, int, int], factor: int, window: ModelWindow, working_budget: int, buffer_budget: int
) -> Iterator[Cut]:
    """Ways to cut within the budgets: large tiles with few slices each, or smaller tiles with more.

    Which one reads the least twice depends on the halo and the volume.
    """
    depth, height, width = shape
    longest = buffer_budget // (4 * factor * height * width)
    for halving in range(TILE_HALVINGS + 1):
        heights = _overlap_plane(height, window.tile[0] >> halving, window.halo[1])
        widths = _overlap_plane(width, window.tile[1] >> halving, window.halo[2])
        pixels = max(span.extent for span in heights) * max(span.extent for span in widths)
        fed = int(working_budget / max(1.0, window.working_bytes * pixels))
        core = min(fed - 2 * window.halo[0], longest)
        if window.max_depth is not None:
            core = min(core, window.max_depth - window.halo[0] - max(window.halo[0], 1))
        yield _overlap_depth(depth, factor, window, core), heights, widths


def _fed_voxels(cut: Cut) -> int:
    return math.prod(sum(span.extent for span in axis) for axis in cut)


def _overlap_depth(depth: int, factor: int, window: ModelWindow, core: int) -> tuple[Span, ...]:
    """Cores are counted in intervals between thick slices; `core` is how many one window should give."""
    halo = window.halo[0]
    fewest = window.min_depth if window.depth is None else window.depth
    if window.depth is None:
        if window.max_depth is not None:
            fewest = max(fewest, min(depth, window.max_depth))
        core = max(1, halo, core)
    else:
        core = max(1, window.depth - max(1, 2 * halo))
    count = max(1, math.ceil((depth - 1) / core))
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


def _overlap_plane(extent: int, tile: int, halo: int) -> tuple[Span, ...]:
    largest = int(tile * TILE_SLACK)
    if extent <= largest:
        return (Span(0, extent, 0, 0, extent, 0),)
    count, core = 1, extent
    while core > max(ALIGNMENT, halo):
        count += 1
        core = ALIGNMENT * math.ceil(extent / count / ALIGNMENT)
        if core + halo * (1 if count == 2 else 2) <= largest:
            break
    spans = []
    for first in range(0, extent, core):
        last = min(first + core, extent)
        start = max(0, (first - halo) // ALIGNMENT * ALIGNMENT)
        spans.append(Span(start, min(extent, last + halo), 0, first, last, first - start))
    return tuple(spans)
