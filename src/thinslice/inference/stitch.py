"""Carries out a window plan: thick slices in, slabs of thin slices out, in order.

Memory is bounded by one row of windows: the thick slices they read and the thin slices they give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from thinslice.inference.consistency import clamp_consistently
from thinslice.inference.restore import network_input
from thinslice.intensity import to_hu, to_unit
from thinslice.models.interpolate import z_matrix
from thinslice.planning import Window, WindowPlan
from thinslice.profile import SliceProfile

Floats = npt.NDArray[np.float32]

AIR_HU = -900.0
"""A window that holds nothing denser holds no patient: it is interpolated, which spares the network's time."""


@dataclass
class StitchCounts:
    """What happened to the windows so far."""

    total: int = 0
    done: int = 0
    skipped: int = 0


def stitch(
    thick: npt.NDArray[np.generic],
    plan: WindowPlan,
    infer: Callable[[Floats], Floats],
    *,
    profile: SliceProfile,
    padding_hu: float | None = None,
    batch: Callable[[], int] = lambda: 1,
    skip_air: bool = False,
    consistent: bool = False,
    counts: StitchCounts | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Floats]]:
    """Run a plan.

    Args:
        thick: (depth, height, width) HU.
        plan: made for its shape.
        infer: (batch, 1, D, H, W) unit intensity -> (batch, 1, (D - 1) * factor + 1, H, W).
        profile: how thick slices weigh thin ones, for the interpolation of windows of air.
        padding_hu: HU that marks padding, or None.
        batch: gives the number of windows of one shape that `infer` may get at once; asked each time.
        skip_air: whether windows of nothing but air (`AIR_HU`) are interpolated instead of inferred.
        consistent: whether the network's output averages back to the thick slices, so that clamping must keep that.
        counts: filled in as windows are done.
        progress: called after every pass with the windows done and their total.

    Yields:
        (start, hu): the thin index of the slab's first slice and its (slices, height, width) HU, float32, clamped to
        the networks' window.
    """
    counts = StitchCounts() if counts is None else counts
    counts.total = len(plan.windows)
    rows = [list(row) for _, row in groupby(plan.windows, key=lambda window: window.depth)]
    weights = _weights(plan)
    buffer = np.empty((0, *plan.thin_shape[1:]), dtype=np.float32)
    base = 0
    for position, row in enumerate(rows):
        depth = row[0].depth
        unit = network_input(thick[depth.start : depth.stop], padding_hu)
        # The buffer grows to the end of what this row gives; what earlier rows left unfinished comes first.
        grown = np.empty((depth.out_stop - base, *plan.thin_shape[1:]), dtype=np.float32)
        grown[: len(buffer)] = buffer
        if plan.blend == "average":
            grown[len(buffer) :] = 0.0
        buffer = grown
        for windows in _passes(row, batch, lambda window: skip_air and _is_air(unit, window)):  # noqa: B023
            tiles = np.stack([_tile(unit, window) for window in windows])[:, None]
            if skip_air and _is_air(unit, windows[0]):
                thin = np.einsum("zd,bcdhw->bczhw", _interpolation(profile, tiles.shape[2]), tiles, optimize=True)
                thin = np.ascontiguousarray(thin)
                counts.skipped += len(windows)
            else:
                thin = infer(tiles)
            for window, tile, given in zip(windows, tiles[:, 0], thin[:, 0], strict=True):
                if consistent:
                    clamp_consistently(given, tile, profile)
                target = buffer[
                    window.depth.out_start - base : window.depth.out_stop - base,
                    window.height.out,
                    window.width.out,
                ]
                kept = given[window.depth.kept, window.height.kept, window.width.kept]
                if plan.blend == "replace":
                    target[...] = kept
                else:
                    target += kept
            counts.done += len(windows)
            if progress is not None:
                progress(counts.done, counts.total)
        finished = rows[position + 1][0].depth.out_start if position + 1 < len(rows) else depth.out_stop
        slab, buffer = buffer[: finished - base], buffer[finished - base :].copy()
        for index, thin in enumerate(slab, start=base):  # slice by slice, as memory for temporaries costs time
            if weights is not None:
                thin /= weights[0][index] * weights[1]
            thin[...] = to_hu(np.clip(thin, 0.0, 1.0, out=thin))
        yield base, slab
        base = finished


def _passes(row: list[Window], batch: Callable[[], int], is_air: Callable[[Window], bool]) -> Iterator[list[Window]]:
    """Windows in order, together with their neighbours of equal shape and kind, as many as a pass may hold."""
    for _, alike in groupby(row, key=lambda window: (window.shape, is_air(window))):
        windows = list(alike)
        while windows:
            count = max(1, batch())
            yield windows[:count]
            windows = windows[count:]


def _interpolation(profile: SliceProfile, depth: int) -> Floats:
    """What stands for the network in air: linear, then consistent with the thick slices."""
    return z_matrix("linear-consistent", depth, profile, profile.factor).astype(np.float32)


def _is_air(unit: Floats, window: Window) -> bool:
    read = unit[:, window.height.start : window.height.stop, window.width.start : window.width.stop]
    return bool(read.max() <= to_unit(AIR_HU))


def _tile(unit: Floats, window: Window) -> Floats:
    tile = unit[:, window.height.start : window.height.stop, window.width.start : window.width.stop]
    if any(span.pad for span in (window.depth, window.height, window.width)):
        tile = np.pad(tile, ((0, window.depth.pad), (0, 0), (0, 0)), mode="edge")
        tile = np.pad(tile, ((0, 0), (0, window.height.pad), (0, window.width.pad)), mode="reflect")
    return tile


def _weights(plan: WindowPlan) -> tuple[Floats, Floats] | None:
    """How many windows give each thin slice, and each pixel of a plane; None when all are one."""
    if plan.blend == "replace":
        return None
    depth, height, width = (counts.astype(np.float32) for counts in plan.coverage())
    return depth, height[:, None] * width
