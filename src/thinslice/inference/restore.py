"""Values outside the network's window, and padding: removed before the network, restored after it.

The network's input is HU clamped to [-1024, 2048], with padding as air. In the thin volume

- a value outside that window is the clamped result plus the linearly interpolated excess of the source, so metal keeps
  its value. A thin voxel gets excess only if its nearest thick voxel is outside the window, halfway between two if both
  are: a thick voxel inside the window, next to metal, must stay the average of its thin ones;
- a voxel whose nearest thick voxel (`geometry.nearest_thick`) is padding is padding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from thinslice.geometry import nearest_thick
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU, to_unit
from thinslice.system.pages import own_pages
from thinslice.typing import Floats

POSITION_TOLERANCE = 1e-6
"""Thin slices: rounding errors of the positions of thin slices at a distance of their own."""


def network_input(hu: npt.NDArray[np.generic], padding_hu: float | None) -> Floats:
    """The network's input in unit intensity.

    Args:
        hu: any shape, HU.
        padding_hu: HU that marks padding, or None.

    Returns:
        float32 in [0, 1], a copy; padding is 0, as air of -1024 HU.

    >>> network_input(np.array([-2000, -1024, 512, 3000]), -2000.0).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    unit = to_unit(hu)
    if padding_hu is not None and padding_hu > WINDOW_MIN_HU:
        unit[np.asarray(hu == padding_hu)] = 0.0
    return np.clip(unit, 0.0, 1.0, out=unit)


class Restorer:
    """Restores excess and padding in slabs of thin slices, in order.

    Args:
        thick: (depth, height, width) HU.
        factor: thin slices per thick interval; no whole number for thin slices at a distance of their own.
        padding_hu: HU that marks padding, or None.
        dtype: type of the finished slabs; int16 is rounded to the nearest integer.

    Attributes:
        voxels_outside_window: thin voxels so far to which the source's excess was added.
    """

    def __init__(
        self,
        thick: npt.NDArray[np.generic],
        factor: float,
        padding_hu: float | None,
        dtype: npt.DTypeLike,
    ) -> None:
        self._thick = thick
        self._factor = factor
        self._padding_hu = padding_hu
        self._dtype = np.dtype(dtype)
        self.voxels_outside_window = 0
        # A cache of two thick slices is enough, as thin slices come in order.
        self._excess = lru_cache(maxsize=2)(self._excess_of)
        self._padding = lru_cache(maxsize=2)(self._padding_of)

    def finish(self, start: int, hu: Floats) -> npt.NDArray[np.generic]:
        """A finished slab.

        Args:
            start: thin index of its first slice.
            hu: (slices, height, width) HU of the network's output, inside its window; changed in place.

        Returns:
            (slices, height, width) HU in the output's type; `hu` itself for float32.
        """
        finished = hu if self._dtype == np.float32 else own_pages(hu.shape, self._dtype)
        for offset, thin in enumerate(hu):
            index = start + offset
            self._add_excess(index, thin)
            if self._dtype != np.float32:
                np.rint(thin, out=thin)
            padding = self.padding_at(index)
            if padding is not None:
                thin[padding] = self._padding_hu
            if finished is not hu:
                finished[offset] = thin
        return finished

    def padding_at(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Padding of a thin slice, (height, width), True in padding; None where the slice has none."""
        return self._padding(nearest_thick(index, self._factor))

    def _add_excess(self, index: int, thin: Floats) -> None:
        """Add the interpolated excess of the source to a thin slice, in place.

        At factor 4, thin slice 5 = 4 * 1 + 1 has `below` 1 and `step` 1: it gets 3/4 of the excess of thick slice 1 and
        1/4 of that of thick slice 2, where thick slice 1, the nearest, has any. Thin slice 6 is halfway: half of each,
        where both have any.
        """
        below = min(int((index + POSITION_TOLERANCE) // self._factor), len(self._thick) - 1)
        step = index - below * self._factor
        share = step / self._factor
        nearest = nearest_thick(index, self._factor)
        halfway = 2 * step == self._factor
        owners = [self._excess(k) for k in ([nearest - 1, nearest] if halfway else [nearest])]
        outside = [owner for owner in owners if owner is not None]
        if len(outside) < len(owners):
            return
        parts = [(self._excess(below), 1.0 - share)]
        if step > POSITION_TOLERANCE:
            parts.append((self._excess(below + 1), share))
        terms = [excess * np.float32(weight) for excess, weight in parts if excess is not None]
        if terms:
            total = terms[0] if len(terms) == 1 else terms[0] + terms[1]
            for owner in outside:
                total *= owner != 0
            self.voxels_outside_window += int(np.count_nonzero(total))
            thin += total

    def _excess_of(self, index: int) -> Floats | None:
        thick = self._thick[index]
        if thick.min() >= WINDOW_MIN_HU and thick.max() <= WINDOW_MAX_HU:
            return None
        excess = thick.astype(np.float32)
        excess -= np.clip(excess, WINDOW_MIN_HU, WINDOW_MAX_HU)
        if self._padding_hu is not None:
            excess[np.asarray(thick == self._padding_hu)] = 0.0
        return excess if excess.any() else None

    def _padding_of(self, index: int) -> npt.NDArray[np.bool_] | None:
        if self._padding_hu is None:
            return None
        padding = np.asarray(self._thick[index] == self._padding_hu)
        return padding if padding.any() else None
