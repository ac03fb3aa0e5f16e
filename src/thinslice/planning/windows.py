"""Windows of thick slices that go through the network, and the thin voxels that each of them gives.

A plan is the product of spans along depth, height and width. A span holds the range that is read, its padding, the
range that the window gives, and the place of that range in the network's output. Slices that are dropped, averaged or
overwritten are decided here.

Along depth the grids are tied by thick slice k = thin slice factor * k, so that n thick slices give
(n - 1) * factor + 1 thin ones.

Source: `released` follows the published code, `paper` section 3 of the paper; `overlap` is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from thinslice.errors import ShapeError, UsageError
from thinslice.planning.overlap import BUDGET_BYTES, overlap_cut
from thinslice.planning.spans import ModelWindow, Span

if TYPE_CHECKING:
    from thinslice.profile import SliceProfile

PLANS = ("overlap", "released", "paper")
"""Names of the window plans."""

PUBLISHED_DEPTH = 4
"""Thick slices per window in the published plans, for networks that take any number."""

PROFILE_TOLERANCE = 1e-3
"""Influence of a thick slice through the slice profile, as a share of its peak, below which it is neglected."""


@dataclass(frozen=True)
class Window:
    """One pass through the network: a span of thick slices, rows and columns."""

    depth: Span
    height: Span
    width: Span

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent of the network's input, padding included, as (depth, height, width)."""
        return self.depth.extent, self.height.extent, self.width.extent


@dataclass(frozen=True)
class WindowPlan:
    """Cut of a thick volume into windows, and assembly of the thin one.

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
        """Number of spans that give each thin slice, row and column; a voxel's number of windows is their product."""
        axes = zip((self.depths, self.heights, self.widths), self.thin_shape, strict=True)
        return tuple(_coverage(spans, extent) for spans, extent in axes)  # type: ignore[return-value]


def check_plan_name(name: str) -> None:
    """Refuse a name that is not one of `PLANS`.

    Raises:
        UsageError: the message lists the plans.
    """
    if name not in PLANS:
        raise UsageError(f"There is no window plan named {name!r}; choose one of {', '.join(PLANS)}.")


def plan_windows(
    shape: tuple[int, int, int],
    factor: int,
    window: ModelWindow,
    plan: str | None = None,
    *,
    profile: SliceProfile | None = None,
    budget: int = BUDGET_BYTES,
    channels: int = 1,
) -> WindowPlan:
    """Cut a thick volume into windows.

    - `released`: windows of 4 thick slices every 2, and tiles side by side. The outputs nearest to either end of a
      window are dropped ((factor + 1) // 2 of them, 3 at factor 5), except at the volume's own ends. The last window is
      flush with the end, and later windows overwrite earlier ones.
    - `paper`: windows of 4 thick slices every 3, and tiles side by side, the last ones flush with the end; nothing is
      dropped, and voxels given several times are averaged.
    - `overlap`: each voxel is given by one window, whose input reaches beyond it by the network's receptive field, so
      that the result is that of the whole volume in one piece. The size of a window follows from the budget.

    Args:
        shape: of the thick volume (depth, height, width), each at least 1.
        factor: thin slices per thick interval.
        window: input that the network takes.
        plan: one of `PLANS`; None for the network's own.
        profile: weights of thin slices in a thick one. Thick slices that overlap couple thin slices over a distance
            (`profile_reach`) that may exceed the network's own reach: `overlap` then reads that much more.
        budget: target in bytes for one pass and the thin slices that wait; `overlap` only. A window is never smaller
            than its halo, so the target may be missed.
        channels: 2 where standard deviations are made beside the thin slices.

    Raises:
        UsageError: for an unknown plan.
        ShapeError: when the network takes a single thick slice, between which nothing can be interpolated.
    """
    name = window.plan if plan is None else plan
    check_plan_name(name)
    if window.depth is not None and window.depth < 2:
        raise ShapeError("A network that takes a single thick slice cannot be run in windows; it needs two or more.")
    depth, height, width = shape
    if name == "overlap":
        window = _reaching(window, profile)
        return WindowPlan(
            name, factor, shape, "replace", *overlap_cut(shape, factor, window, budget, channels=channels)
        )
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
    """Reach, in thick slices, of one thick slice on thin slices that must average back to all thick slices.

    The correction that makes an estimate consistent (`SliceProfile.correction`) decays from slice to slice: at once for
    contiguous ones, slowly for overlapping ones. The reach ends where it falls to `PROFILE_TOLERANCE` of its peak.

    A width of 2 and a factor of 5 give a reach of 18: thin slices of thick slice 40 depend on thick slices 22 to 58.

    >>> from thinslice.profile import SliceProfile
    >>> profile_reach(SliceProfile.mean(5)), profile_reach(SliceProfile.mean(5, width=2.0))
    (1, 18)
    """
    from thinslice.profile import DEEP  # here, as it imports scipy, which planning itself does not need

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


Kept = list[tuple[int, int, int]]
"""Per window along depth: the first thick slice, and the thin slices [start, stop) that the window gives."""


def _published_depth(depth: int, factor: int, fed: int, cut: Callable[[int, int, int], Kept]) -> tuple[Span, ...]:
    if depth <= fed:
        # 2 thick slices for a network of 4: both are read, 2 replicas are appended, thin slices [0, 6) are kept.
        return (Span(0, depth, fed - depth, 0, (depth - 1) * factor + 1, 0),)
    return tuple(
        Span(start, start + fed, 0, out_start, out_stop, out_start - start * factor)
        for start, out_start, out_stop in cut(depth, factor, fed)
    )


def _released_depth(depth: int, factor: int, fed: int) -> Kept:
    """Windows of the plan `released`.

    7 thick slices, 4 in a window, factor 5: a window has 16 thin slices, and 3 are dropped at either end. Windows start
    at 0, 2 and 3. The one at 2 begins with thin slice 2 * 5 + 3 = 13, the one at 3 with 3 * 5 + 3 = 18.

    >>> _released_depth(7, 5, 4)
    [(0, 0, 13), (2, 13, 18), (3, 18, 31)]
    """
    stride = max(1, fed - 2)
    # The kept middle of a window is at least one stride long, so that windows leave no hole.
    trim = ((fed - 1 - stride) * factor + 1) // 2
    starts = [*range(0, depth - fed, stride), depth - fed]
    firsts = [0, *(start * factor + trim for start in starts[1:])]
    # Later windows overwrite earlier ones: each gives the slices before the next one's first.
    lasts = [*firsts[1:], (depth - 1) * factor + 1]
    return list(zip(starts, firsts, lasts, strict=True))


def _paper_depth(depth: int, factor: int, fed: int) -> Kept:
    """Windows of the plan `paper`.

    9 thick slices, 4 in a window, factor 5: windows start at 0, 3 and 5, and each gives all of its 16 thin slices.

    >>> _paper_depth(9, 5, 4)
    [(0, 0, 16), (3, 15, 31), (5, 25, 41)]
    """
    starts = [*range(0, depth - fed, fed - 1), depth - fed]
    return [(start, start * factor, (start + fed - 1) * factor + 1) for start in starts]


def _published_plane(extent: int, tile: int, *, overwrite: bool) -> tuple[Span, ...]:
    """Tiles along an axis of the plane, side by side, the last one flush with the end.

    600 pixels in tiles of 256: [0, 256), [256, 512) and [344, 600). The last one overwrites [344, 512) of the second.

    >>> [(span.start, span.stop, span.out_stop) for span in _published_plane(600, 256, overwrite=True)]
    [(0, 256, 256), (256, 512, 344), (344, 600, 600)]
    """
    if extent <= tile:
        return (Span(0, extent, tile - extent, 0, extent, 0),)
    starts = [*range(0, extent - tile, tile), extent - tile]
    stops = [*starts[1:], extent] if overwrite else [start + tile for start in starts]
    return tuple(Span(start, start + tile, 0, start, stop, 0) for start, stop in zip(starts, stops, strict=True))
