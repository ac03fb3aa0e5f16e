"""The value outside the reconstruction of a scanner, where a file does not declare it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.intensity import WINDOW_MIN_HU

PADDING_SHARE = 0.01
"""Smallest share of voxels that padding fills; the corners outside a circle are 21 %."""

APART_HU = 50.0
"""Padding lies at least so far below all other values: noise in air has every value down to its lowest."""

FAR_APART_HU, FEW_VOXELS = 400.0, 16
"""A value so far below all others is no noise, whatever its share; fewer voxels may be defects of a detector."""


def padding_below_window(hu: npt.NDArray[Any]) -> float | None:
    """The HU that marks voxels outside the reconstruction, found from the values alone; None where there is none.

    Below the networks' window there is no tissue, so a single value there that is frequent, or far below all others, is
    padding (-2000 and -3024 are usual).

    Args:
        hu: (depth, height, width), finite.

    >>> padding_below_window(np.array([[[-3024, -1500, -1000, 40]]]))
    -3024.0
    >>> padding_below_window(np.array([[[-1030, -1028, -1000, 40]]])) is None
    True
    """
    lowest = float(hu.min())
    if lowest >= WINDOW_MIN_HU:
        return None
    count, above = 0, np.inf
    for plane in hu:
        others = plane[plane > lowest]
        count += plane.size - others.size
        if others.size:
            above = min(above, float(others.min()))
    apart = above - lowest
    if (apart >= FAR_APART_HU and count >= FEW_VOXELS) or (apart >= APART_HU and count >= PADDING_SHARE * hu.size):
        return lowest
    return None
