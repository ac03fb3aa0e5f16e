"""Execution of a window plan: thick slices in, slabs of thin slices out, in order.

Memory holds one window and the thin slices of one row of windows, where a row is all windows of the same thick slices.
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
from thinslice.intensity import AIR_UP_TO_HU, WINDOW_WIDTH_HU, to_hu
from thinslice.models.along_z import z_matrix
from thinslice.planning import Window, WindowPlan
from thinslice.planning.memory import SLAB_BYTES
from thinslice.profile import SliceProfile
from thinslice.system.pages import own_pages
from thinslice.typing import Floats

DEVIATION_STEP_HU = 1 / 16
"""Standard deviations are rounded to multiples of this, at least one: finer digits are noise and do not compress."""


@dataclass
class StitchCounts:
    """Numbers of windows.

    Attributes:
        total: windows of the plan.
        done: windows finished so far.
        skipped: of these, windows of air, interpolated instead of inferred.
    """

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
    """Finished slabs of a plan, in order.

    Args:
        thick: (depth, height, width) HU.
        plan: the windows, made for that shape.
        infer: maps (batch, 1, D, H, W) unit intensity to (batch, channels, (D - 1) * factor + 1, H, W).
        profile: weights of thin slices in a thick one, for the interpolation of windows of air.
        padding_hu: HU that marks padding, or None.
        batch: returns the number of windows of one shape that `infer` may get at once; called before each pass.
        skip_air: whether windows of air (no voxel above `AIR_UP_TO_HU`) are interpolated instead of inferred.
        consistent: whether the network's output averages back to the thick slices, so that clamping must keep that.
        channels: 1, or 2 where `infer` gives standard deviations beside estimates. The estimates are the same either
            way; windows of air then go through the network for their standard deviations alone.
        counts: updated as windows are done.
        progress: called after every pass with the windows done and their total.

    Yields:
        (start, slab): the thin index of the slab's first slice, and (channels, slices, height, width) float32 HU.
        Channel 0 is the estimate, clamped to the networks' window; channel 1 are standard deviations in multiples of
        `DEVIATION_STEP_HU`.

    Examples:
        Factor 5, rows that give thin slices [0, 13), [13, 23) and [23, 36). The buffer holds 13 slices. Row 2 has
        `base` 13: its windows are written to buffer slices [0, 10), and its slabs start at thin slice 13.

        Rows that overlap, [0, 16) and [15, 31), as in the plan `paper`: of row 1 `finished` = 15 - 0 = 15 slices are
        yielded; slice 15, unfinished, moves to the buffer's start, where row 2 (`base` 15) adds to it.
    """
    counts = StitchCounts() if counts is None else counts
    counts.total = len(plan.windows)
    rows = [list(row) for _, row in groupby(plan.windows, key=lambda window: window.depth)]
    weights = _weights(plan)
    # One buffer for all rows; what a row leaves unfinished moves to its start, where the next row begins.
    held = max(row[0].depth.out_stop - row[0].depth.out_start for row in rows)
    buffer: Floats = own_pages((channels, held, *plan.thin_shape[1:]), np.float32)
    unfinished = 0
    # Slices of a slab: at 512 x 512 pixels 8 MiB / 1 MiB = 8.
    step = max(1, SLAB_BYTES // (4 * plan.shape[1] * plan.shape[2]))

    def run_windows(windows: list[Window], base: int) -> None:
        tiles = np.stack([_tile(thick, window, padding_hu) for window in windows])[:, None]
        is_air = skip_air and _is_air(thick, windows[0], padding_hu)
        thin = infer(tiles) if channels > 1 or not is_air else np.empty(0)
        if is_air:
            plain = np.einsum("zd,bcdhw->bczhw", _interpolation(profile, tiles.shape[2]), tiles, optimize=True)
            thin = np.ascontiguousarray(np.concatenate([plain, thin[:, 1:]], axis=1) if channels > 1 else plain)
            counts.skipped += len(windows)
        for window, tile, output in zip(windows, tiles[:, 0], thin, strict=True):
            if consistent:
                clamp_consistently(output[0], tile, profile)
            # At base 13, a window that gives thin slices [13, 23) is written to buffer slices [0, 10).
            place = slice(window.depth.out_start - base, window.depth.out_stop - base)
            target = buffer[:, place, window.height.out, window.width.out]
            kept = output[:, window.depth.kept, window.height.kept, window.width.kept]
            if plan.blend == "replace":
                target[...] = kept
            else:
                target += kept
        counts.done += len(windows)

    for position, row in enumerate(rows):
        depth = row[0].depth
        base, count = depth.out_start, depth.out_stop - depth.out_start
        if plan.blend == "average":
            buffer[:, unfinished:count] = 0.0
        for windows in _passes(row, batch, lambda window: skip_air and _is_air(thick, window, padding_hu)):
            run_windows(windows, base)
            if progress is not None:
                progress(counts.done, counts.total)
        # Slices before the next row's first one get nothing more: of [0, 16) before [15, 31), 15 are finished.
        finished = rows[position + 1][0].depth.out_start - base if position + 1 < len(rows) else count
        for start in range(0, finished, step):
            stop = min(start + step, finished)
            yield base + start, _finished(buffer[:, start:stop], base + start, weights)
        unfinished = count - finished
        buffer[:, :unfinished] = buffer[:, finished:count]


def _finished(unit: Floats, start: int, weights: tuple[Floats, Floats] | None) -> Floats:
    """A copy, averaged, clamped and in HU; slice by slice, as memory for temporaries costs time."""
    hu: Floats = own_pages(unit.shape, np.float32)
    for number, (channel, channel_hu) in enumerate(zip(unit, hu, strict=True)):
        for index, (thin, out) in enumerate(zip(channel, channel_hu, strict=True), start=start):
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
    """Windows in order, grouped with neighbours of equal shape and kind, as many as a pass may hold."""
    for _, alike in groupby(row, key=lambda window: (window.shape, is_air(window))):
        windows = list(alike)
        while windows:
            count = max(1, batch())
            yield windows[:count]
            windows = windows[count:]


def _interpolation(profile: SliceProfile, depth: int) -> Floats:
    """The matrix that replaces the network in air: linear, then made consistent with the thick slices."""
    return z_matrix("linear-consistent", depth, profile, profile.factor).astype(np.float32)


def _read(thick: npt.NDArray[Any], window: Window) -> npt.NDArray[Any]:
    return thick[
        window.depth.start : window.depth.stop,
        window.height.start : window.height.stop,
        window.width.start : window.width.stop,
    ]


def _is_air(thick: npt.NDArray[np.generic], window: Window, padding_hu: float | None) -> bool:
    read = _read(thick, window)
    if padding_hu is None or padding_hu <= AIR_UP_TO_HU:
        return bool(read.max() <= AIR_UP_TO_HU)
    return bool(np.all((read <= AIR_UP_TO_HU) | np.asarray(read == padding_hu)))


def _tile(thick: npt.NDArray[np.generic], window: Window, padding_hu: float | None) -> Floats:
    tile = network_input(_read(thick, window), padding_hu)
    if any(span.pad for span in (window.depth, window.height, window.width)):
        tile = np.pad(tile, ((0, window.depth.pad), (0, 0), (0, 0)), mode="edge")
        tile = np.pad(tile, ((0, 0), (0, window.height.pad), (0, window.width.pad)), mode="reflect")
    return tile


def _weights(plan: WindowPlan) -> tuple[Floats, Floats] | None:
    """Number of windows that give each thin slice, and each pixel of a plane; None where each is given once."""
    if plan.blend == "replace":
        return None
    depth, height, width = (counts.astype(np.float32) for counts in plan.coverage())
    return depth, height[:, None] * width
