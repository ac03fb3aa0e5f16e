"""Does the thin volume, made thick again, give the thick slices back? Measured while slabs pass."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.profile import SliceProfile

Floats = npt.NDArray[np.float32]


class ConsistencyMeter:
    """RMS difference in HU between the thick slices and those that the slice profile makes of the thin ones.

    Counted are thick slices whose whole profile lies on the thin grid, and of them voxels strictly inside the
    networks' window (at its ends, and in padding, the source tells too little).

    Args:
        profile: how thick slices weigh thin ones.
        thick: (depth, height, width) HU.
        padding_hu: HU that marks padding, or None.

    >>> thick = np.full((3, 2, 2), 40, dtype=np.int16)
    >>> meter = ConsistencyMeter(SliceProfile.mean(5), thick)
    >>> meter.add(np.full((11, 2, 2), 43, dtype=np.int16))
    >>> meter.rms_hu
    3.0
    """

    def __init__(
        self,
        profile: SliceProfile,
        thick: npt.NDArray[np.generic],
        *,
        padding_hu: float | None = None,
    ) -> None:
        self._profile = profile
        self._thick = thick
        self._padding_hu = padding_hu
        self._supported = profile.supported(thick.shape[0])
        self._under_way: dict[int, Floats] = {}
        self._next = 0
        self._squares = 0.0
        self._voxels = 0

    def add(self, hu: npt.NDArray[np.generic]) -> None:
        """Take the next finished thin slices.

        Args:
            hu: (slices, height, width) HU, following those added before.
        """
        reach, factor = self._profile.reach, self._profile.factor
        for thin in hu:
            # Thick slices whose profile covers this thin slice.
            first = max(self._supported.start, -(-(self._next - reach) // factor))
            last = min(self._supported.stop - 1, (self._next + reach) // factor)
            for k in range(first, last + 1):
                offset = self._next - k * factor + reach
                weighted = np.float32(self._profile.weights[offset]) * thin.astype(np.float32)
                if k in self._under_way:
                    self._under_way[k] += weighted
                else:
                    self._under_way[k] = weighted
                if offset == 2 * reach:
                    self._compare(k, self._under_way.pop(k))
            self._next += 1

    @property
    def rms_hu(self) -> float | None:
        """The measure so far; None when no voxel could be compared."""
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
