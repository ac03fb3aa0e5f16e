"""Carries out a window plan: thick slices in, slabs of thin slices out, in order.

Memory is bounded by one window, and the thin slices that one row of windows gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.inference.consistency import clamp_consistently
from thinslice.inference.restore import network_input
from thinslice.intensity import WINDOW_WIDTH_HU, to_hu
from thinslice.models.interpolate import z_matrix
from thinslice.planning import Window, WindowPlan
from thinslice.planning.memory import SLAB_BYTES
from thinslice.profile import SliceProfile
from thinslice.system.pages import own_pages
from thinslice.typing import Floats

AIR_HU = -900.0
"""A window that holds nothing denser holds no patient: it is interpolated, which spares the network's time."""


DEVIATION_STEP_HU = 1 / 16
"""Standard deviations are rounded to multiples of this, at least one: finer is noise, which would not compress."""


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
    channels: int = 1,
    counts: StitchCounts | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Floats]]:
    """Run a plan.

    Args:
        thick: (depth, height, width) HU.
        plan: made for its shape.
        infer: (batch, 1, D, H, W) unit intensity -> (batch, channels, (D - 1) * factor + 1, H, W).
        profile: how thick slices weigh thin ones, for the interpolation of windows of air.
        padding_hu: HU that marks padding, or None.
        batch: gives the number of windows of one shape that `infer` may get at once; asked each time.
        skip_air: whether windows of nothing but air (`AIR_HU`) are interpolated instead of inferred.
        consistent: whether the network's output averages back to the thick slices, so that clamping must keep that.
        channels: 1, or 2 where `infer` gives standard deviations beside estimates. The estimates are the same either
            way; windows of air then go through the network for their standard deviations alone.
        counts: filled in as windows are done.
        progress: called after every pass with the windows done and their total.

    Yields:
        (start, hu): the thin index of the slab's first slice and its (slices, height, width) HU, float32, clamped to
        the networks' window. With two channels (2, slices, height, width): the second are standard deviations in HU,
        in steps of `DEVIATION_STEP_HU`.
    """
    counts = StitchCounts() if counts is None else counts
    counts.total = len(plan.windows)
    rows = [list(row) for _, row in groupby(plan.windows, key=lambda window: window.depth)]
    weights = _weights(plan)
    # One buffer for all rows; what a row leaves unfinished moves to its start, where the next row begins.
    held = max(row[0].depth.out_stop - row[0].depth.out_start for row in rows)
    buffer: Floats = own_pages((channels, held, *plan.thin_shape[1:]), np.float32)
    unfinished = 0

    def run_windows(windows: list[Window], base: int) -> None:
        tiles = np.stack([_tile(thick, window, padding_hu) for window in windows])[:, None]
        is_air = skip_air and _is_air(thick, windows[0], padding_hu)
        thin = infer(tiles) if channels > 1 or not is_air else np.empty(0)
        if is_air:
            plain = np.einsum("zd,bcdhw->bczhw", _interpolation(profile, tiles.shape[2]), tiles, optimize=True)
            thin = np.ascontiguousarray(np.concatenate([plain, thin[:, 1:]], axis=1) if channels > 1 else plain)
            counts.skipped += len(windows)
        for window, tile, given in zip(windows, tiles[:, 0], thin, strict=True):
            if consistent:
                clamp_consistently(given[0], tile, profile)
            target = buffer[
                :, window.depth.out_start - base : window.depth.out_stop - base, window.height.out, window.width.out
            ]
            kept = given[:, window.depth.kept, window.height.kept, window.width.kept]
            if plan.blend == "replace":
                target[...] = kept
            else:
                target += kept
        counts.done += len(windows)

    for position, row in enumerate(rows):
        depth = row[0].depth
        base, given = depth.out_start, depth.out_stop - depth.out_start
        if plan.blend == "average":
            buffer[:, unfinished:given] = 0.0
        for windows in _passes(row, batch, lambda window: skip_air and _is_air(thick, window, padding_hu)):
            run_windows(windows, base)
            if progress is not None:
                progress(counts.done, counts.total)
        finished = rows[position + 1][0].depth.out_start - base if position + 1 < len(rows) else given
        for start, stop in _pieces(finished, plan.thin_shape[1:]):
            hu = _finished(buffer[:, start:stop], base + start, weights)
            yield base + start, hu if channels > 1 else hu[0]
        unfinished = given - finished
        buffer[:, :unfinished] = buffer[:, finished:given]


def _pieces(count: int, plane: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Slices [start, stop) of a finished row that are given at a time."""
    step = max(1, SLAB_BYTES // (4 * plane[0] * plane[1]))
    for start in range(0, count, step):
        yield start, min(start + step, count)


def _finished(unit: Floats, start: int, weights: tuple[Floats, Floats] | None) -> Floats:
    """Averaged, clamped and in HU, as a copy; slice by slice, as memory for temporaries costs time."""
    hu: Floats = own_pages(unit.shape, np.float32)
    for number, (channel, given) in enumerate(zip(unit, hu, strict=True)):
        for index, (thin, out) in enumerate(zip(channel, given, strict=True), start=start):
            if weights is not None:
                thin /= weights[0][index] * weights[1]
            if number == 0:
                out[...] = to_hu(np.clip(thin, 0.0, 1.0, out=out))
            else:
                np.rint(thin * np.float32(WINDOW_WIDTH_HU / DEVIATION_STEP_HU), out=out)
                np.maximum(out, 1.0, out=out)
                out *= np.float32(DEVIATION_STEP_HU)
    return hu


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


def _read(thick: npt.NDArray[Any], window: Window) -> npt.NDArray[Any]:
    return thick[
        window.depth.start : window.depth.stop,
        window.height.start : window.height.stop,
        window.width.start : window.width.stop,
    ]


def _is_air(thick: npt.NDArray[np.generic], window: Window, padding_hu: float | None) -> bool:
    read = _read(thick, window)
    if padding_hu is None or padding_hu <= AIR_HU:
        return bool(read.max() <= AIR_HU)
    return bool(np.all((read <= AIR_HU) | np.asarray(read == padding_hu)))


def _tile(thick: npt.NDArray[np.generic], window: Window, padding_hu: float | None) -> Floats:
    tile = network_input(_read(thick, window), padding_hu)
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
