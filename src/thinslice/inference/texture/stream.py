"""Texture on the way: synthetic noise added to finished slices, slab by slab.

    size from the map -> noise of that size -> less what the thick slices can see -> clamped

A slice is finished when the noise of every thick slice that counts for it is known, so slabs come a few thick slices
later than they went in. What comes out depends on the slices alone, never on how they were cut into slabs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.geometry import nearest_thick
from thinslice.inference.consistency import clamp_consistently
from thinslice.inference.restore import network_input
from thinslice.inference.stitch import DEVIATION_STEP_HU
from thinslice.inference.texture.field import NoiseField
from thinslice.inference.texture.law import OpenNoise
from thinslice.inference.texture.scan_noise import ScanNoise
from thinslice.inference.texture.size import NoiseSize
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU, to_hu, to_unit
from thinslice.profile import SliceProfile
from thinslice.typing import Floats

BLOCK = 2
"""Thick intervals that are clamped at a time."""


@dataclass(frozen=True)
class Texture:
    """The texture of a run, as far as it is known before the network starts.

    Attributes:
        seed: of the noise.
        noise: of the scan.
        left: what the thick slices leave open of it.
        profile: of the thick slices at the network's whole factor; None for thin slices at a distance of their own,
            which are clamped without regard to the average.
    """

    seed: int
    noise: ScanNoise = field(repr=False)
    left: OpenNoise = field(repr=False)
    profile: SliceProfile | None

    @property
    def held_slices(self) -> int:
        """Slices in memory: estimate, map and noise of those that wait, sums of thick slices, and white noise."""
        ratio = self.left.averages.ratio
        reach = ceil(max(len(weights) for _, weights in self.left.averages.rows) / 2)
        waiting = ceil((self.left.halo + 1) * ratio) + reach
        blocks = 0 if self.profile is None else (BLOCK + 2 * _margin(self.profile) + 1) * self.profile.factor
        return 3 * waiting + 2 * (self.left.halo + 2) + 2 * blocks + 16


def textured(
    slabs: Iterator[tuple[int, Floats]],
    texture: Texture,
    size: NoiseSize,
    thick: npt.NDArray[Any],
    padding_hu: float | None,
    rescale: Callable[[int], Floats] | None = None,
) -> Iterator[tuple[int, Floats]]:
    """Slabs with texture.

    Args:
        slabs: (start, (2, slices, height, width) float32 HU), in order: estimates inside the networks' window, and
            standard deviations.
        texture: what to add.
        size: of the noise, by the map.
        thick: (depth, height, width) HU.
        padding_hu: HU that marks padding, or None.
        rescale: maps a thin index to factors of its standard deviations, (height, width); the size of the noise is by
            the map without them.

    Yields:
        (start, (2, slices, height, width) float32 HU) in order; standard deviations include the noise that was added.
    """
    slices = _with_noise(slabs, texture, size, thick, rescale)
    if texture.profile is None:
        for index, plane in slices:
            np.clip(plane[0], WINDOW_MIN_HU, WINDOW_MAX_HU, out=plane[0])
            yield index, plane[:, None]
        return
    yield from _clamped(slices, texture.profile, thick, padding_hu)


def _with_noise(
    slabs: Iterator[tuple[int, Floats]],
    texture: Texture,
    size: NoiseSize,
    thick: npt.NDArray[Any],
    rescale: Callable[[int], Floats] | None,
) -> Iterator[tuple[int, Floats]]:
    """(index, (2, height, width)) of every thin slice, not clamped."""
    left, averages = texture.left, texture.left.averages
    field_of_noise = NoiseField(
        (thick.shape[1], thick.shape[2]), texture.noise.spectrum, texture.noise.blur, seed=texture.seed
    )
    waiting: dict[int, tuple[Floats, Floats]] = {}  # the two channels, and the noise
    sums: dict[int, Floats] = {}  # A n, by thick slice
    ends = [first + len(weights) for first, weights in averages.rows]
    needed: list[list[int]] = [np.flatnonzero(row).tolist() for row in left.back]
    next_out = 0

    @lru_cache(maxsize=1)
    def factors(k: int) -> Floats:
        return size.factors(thick[k])

    def draw(index: int, amplitude: Floats) -> Floats:
        noise = field_of_noise.plane(index)
        noise *= amplitude
        for k, (first, weights) in enumerate(averages.rows):
            if first <= index < first + len(weights):
                weighted = np.float32(weights[index - first]) * noise
                sums[k] = sums[k] + weighted if k in sums else weighted
        return noise

    for start, slab in slabs:
        for offset in range(slab.shape[1]):
            index, planes = start + offset, slab[:, offset].copy()
            missing = size.missing_hu(planes[1], factors(nearest_thick(index, _ratio(averages.ratio))))
            amplitude = missing / np.float32(max(left.sd[index], 1e-3))
            for before in range(averages.first if index == 0 else 0, 0):
                draw(before, amplitude)
            noise = draw(index, amplitude)
            planes[1] = _with(planes[1] if rescale is None else planes[1] * rescale(index), missing)
            waiting[index] = planes, noise
            if index == averages.slices - 1:
                for after in range(averages.slices, averages.stop):
                    draw(after, amplitude)
            known = averages.stop if index == averages.slices - 1 else index + 1
            while next_out in waiting and all(ends[k] <= known for k in needed[next_out]):
                planes, noise = waiting.pop(next_out)
                planes[0] += noise
                for k in needed[next_out]:
                    planes[0] -= np.float32(left.back[next_out, k]) * sums[k]
                yield next_out, planes
                next_out += 1
                for k in [k for k in sums if next_out < averages.slices and k < min(needed[next_out], default=k)]:
                    del sums[k]


def _clamped(
    slices: Iterator[tuple[int, Floats]], profile: SliceProfile, thick: npt.NDArray[Any], padding_hu: float | None
) -> Iterator[tuple[int, Floats]]:
    """Slices inside the networks' window, `BLOCK` thick intervals at a time, with their averages kept."""
    depth, factor, margin = len(thick), profile.factor, _margin(profile)
    held: dict[int, Floats] = {}
    block = 0
    last = (depth - 1) * factor
    for index, planes in slices:
        held[index] = planes
        while block <= depth - 1:
            # From thick slice 4 at factor 5 and margin 1: thick slices 3 to 7, thin slices 15 to 35, of which 20 to
            # 29 go.
            top = min(block + BLOCK, depth - 1)
            low, high = max(0, block - margin), min(depth - 1, top + margin)
            if index < high * factor:
                break
            first, stop = block * factor, (last + 1 if top == depth - 1 else top * factor)
            around = np.stack([held[each][0] for each in range(low * factor, high * factor + 1)])
            if around.min() < WINDOW_MIN_HU or around.max() > WINDOW_MAX_HU:
                unit = to_unit(around)
                clamp_consistently(unit, network_input(thick[low : high + 1], padding_hu), profile)
                around = to_hu(np.clip(unit, 0.0, 1.0, out=unit))
            made = np.stack([held[each] for each in range(first, stop)], axis=1)
            made[0] = around[first - low * factor : stop - low * factor]
            yield first, made
            block = depth if top == depth - 1 else top
            kept_from = max(0, block - margin) * factor
            for each in [each for each in held if each < kept_from]:
                del held[each]


def _margin(profile: SliceProfile) -> int:
    """Thick slices beside a block without which its outermost ones would not be supported."""
    return -(-profile.reach // profile.factor)


def _ratio(ratio: float) -> float:
    """A whole ratio as an integer, for which `nearest_thick` rounds as everywhere else."""
    return int(ratio) if ratio == int(ratio) else ratio


def _with(deviation_hu: Floats, added_hu: Floats) -> Floats:
    """Standard deviations of the errors after independent noise was added, in multiples of `DEVIATION_STEP_HU`."""
    total = np.hypot(deviation_hu, added_hu)
    return np.asarray(np.rint(total / DEVIATION_STEP_HU) * DEVIATION_STEP_HU, dtype=np.float32)
