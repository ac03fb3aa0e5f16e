"""Consistency: thin slices average back to the thick ones. Kept while clamping, measured slab by slab."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.profile import SliceProfile
from thinslice.typing import Floats

_ROUNDS = 6
"""Most corrections of a column."""

_SETTLED = 1e-5
"""Unit intensity, 0.03 HU: less than the error of rounding to whole HU."""

_COLUMNS = 1 << 9
"""Columns that are corrected at a time: their temporaries fit in the cache, and columns that settle soon wait for few
others."""


def clamp_consistently(thin: Floats, thick: Floats, profile: SliceProfile) -> None:
    """Clamp to [0, 1] in place, and move the clamped amount to voxels that have room.

    In air, noise reaches below the networks' window. Clamping alone would raise the average of the thin slices above
    their thick slice.

    Args:
        thin: (thin slices, height, width), unit intensity; consistent with `thick` before clamping.
        thick: (depth, height, width), unit intensity, in [0, 1]. At 1, metal, thin voxels are only clamped.
        profile: weights of thin slices in a thick one. Where thick slices overlap so much that consistency is
            approximate (`SliceProfile.exact`), thin voxels are only clamped.

    Raises:
        ValueError: thin slices that are not contiguous in memory; pass a copy.

    >>> thin = np.array([0.5, -0.3, 0.1, 0.1, 0.1, 0.5, 0.5], dtype=np.float32).reshape(7, 1, 1)
    >>> thick = np.array([0.5, 1 / 30, 0.5], dtype=np.float32).reshape(3, 1, 1)
    >>> clamp_consistently(thin, thick, SliceProfile("box", 3, (1 / 3, 1 / 3, 1 / 3)))
    >>> bool(thin.min() >= 0), round(float(thin[2:5].mean()), 4)
    (True, 0.0333)
    """
    columns = thin.reshape(thin.shape[0], -1)
    beyond = np.flatnonzero((columns.min(axis=0) < 0.0) | (columns.max(axis=0) > 1.0))
    depth = thick.shape[0]
    averages = csr_array(profile.matrix(depth).astype(np.float32))  # a thick slice averages few thin ones
    if not np.shares_memory(columns, thin):
        raise ValueError("clamp_consistently works in place: give it contiguous thin slices.")
    if averages.shape[0] == 0 or not profile.exact(depth):
        np.clip(columns, 0.0, 1.0, out=columns)
        return
    supported = profile.supported(depth)
    wanted = thick.reshape(depth, -1)[supported.start : supported.stop]
    for start in range(0, len(beyond), _COLUMNS):
        chosen = beyond[start : start + _COLUMNS]
        columns[:, chosen] = _settle(np.clip(columns[:, chosen], 0.0, 1.0), wanted[:, chosen], averages)


def _settle(thin: Floats, wanted: Floats, averages: csr_array) -> Floats:
    """Move voxels inside [0, 1] until their averages are as wanted, or no voxel has room.

    Args:
        thin: (thin slices, columns), in [0, 1].
        wanted: (thick slices, columns).
        averages: (thick slices, thin slices), sparse.
    """
    squares, spread = averages.power(2), averages.T.tocsr()
    # A thick voxel of metal was clamped to 1 itself: to average 1, all its thin ones would have to be 1, a block.
    metal = wanted >= 1.0
    for _ in range(_ROUNDS):
        missing = wanted - averages @ thin
        missing[metal] = 0.0
        if np.abs(missing).max(initial=0.0) < _SETTLED:
            break
        for part, room in ((np.maximum(missing, 0.0), thin < 1.0), (np.minimum(missing, 0.0), thin > 0.0)):
            free = room.astype(np.float32)
            thin = thin + free * (spread @ (part / np.maximum(squares @ free, np.float32(1e-6))))
        np.clip(thin, 0.0, 1.0, out=thin)
    return thin


class ConsistencyMeter:
    """RMS difference in HU between the thick slices and averages of the thin ones by the slice profile.

    It covers thick slices whose whole profile lies on the thin grid, and of them voxels strictly inside the networks'
    window: at its ends and in padding the true value is not known.

    Args:
        rows: the thick slices that are covered, in order: (thick slice, first thin slice, weights of thin slices from
            that one on), as `SliceProfile.rows` gives them.
        thick: (depth, height, width) HU.
        padding_hu: HU that marks padding, or None.

    >>> thick = np.full((3, 2, 2), 40, dtype=np.int16)
    >>> meter = ConsistencyMeter(SliceProfile.mean(5).rows(3), thick)
    >>> meter.add(np.full((11, 2, 2), 43, dtype=np.int16))
    >>> meter.rms_hu
    3.0
    """

    def __init__(
        self,
        rows: Sequence[tuple[int, int, tuple[float, ...]]],
        thick: npt.NDArray[np.generic],
        *,
        padding_hu: float | None = None,
    ) -> None:
        self._rows = rows
        self._thick = thick
        self._padding_hu = padding_hu
        self._under_way: dict[int, Floats] = {}
        self._first_open = 0
        self._next = 0
        self._squares = 0.0
        self._voxels = 0

    def add(self, hu: npt.NDArray[np.generic]) -> None:
        """Add the next finished thin slices.

        Args:
            hu: (slices, height, width) HU, the slices after those added before.

        Examples:
            Factor 5, slices twice as thick as their distance: thick slice 2 has weights for thin slices 5 to 15, and
            thick slice 3 for 10 to 20. Thin slice 12 counts for both; thin slice 15 completes slice 2.
        """
        for thin in hu:
            # Rows are in order, and so are the ends of their weights.
            for position in range(self._first_open, len(self._rows)):
                k, first, weights = self._rows[position]
                offset = self._next - first
                if offset < 0:
                    break
                weighted = np.float32(weights[offset]) * thin.astype(np.float32)
                if k in self._under_way:
                    self._under_way[k] += weighted
                else:
                    self._under_way[k] = weighted
                if offset == len(weights) - 1:
                    self._compare(k, self._under_way.pop(k))
                    self._first_open = position + 1
            self._next += 1

    @property
    def rms_hu(self) -> float | None:
        """RMS difference so far in HU; None when no voxel could be compared."""
        return math.sqrt(self._squares / self._voxels) if self._voxels else None

    def _compare(self, k: int, made: Floats) -> None:
        thick = self._thick[k]
        inside = np.asarray((thick > WINDOW_MIN_HU) & (thick < WINDOW_MAX_HU))
        if self._padding_hu is not None:
            inside &= np.asarray(thick != self._padding_hu)
        difference = made - thick.astype(np.float32)
        difference *= inside
        self._squares += float(np.square(difference, dtype=np.float64).sum())
        self._voxels += int(np.count_nonzero(inside))
