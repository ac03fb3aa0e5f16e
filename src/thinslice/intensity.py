"""HU to the networks' unit range and back: the one definition of the intensity window.

Source: the paper, section 3 (Implementation Details): [-1024, 2048] HU is mapped to [0, 1].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

WINDOW_MIN_HU = -1024.0
"""HU that becomes 0."""

WINDOW_MAX_HU = 2048.0
"""HU that becomes 1."""

WINDOW_WIDTH_HU = WINDOW_MAX_HU - WINDOW_MIN_HU
"""HU per unit: 3072."""

BODY_ABOVE_HU = -950.0
"""A voxel above it is part of the body, lung included; below lies the air around the patient."""

DENSER_THAN_LUNG_HU = -300.0
"""A voxel above it is fat, muscle or bone; lung and air lie below."""

AIR_UP_TO_HU = -900.0
"""A window of the volume in which no voxel is above it holds no patient."""


def to_unit(hu: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Map HU to unit intensity, without clamping.

    Args:
        hu: any shape, HU.

    Returns:
        float32 of the same shape; [-1024, 2048] HU lies in [0, 1].

    >>> to_unit([-1024, 512, 2048]).tolist()
    [0.0, 0.5, 1.0]
    """
    return (np.asarray(hu, dtype=np.float32) - np.float32(WINDOW_MIN_HU)) / np.float32(WINDOW_WIDTH_HU)


def to_hu(unit: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Map unit intensity back to HU; the inverse of `to_unit`.

    Args:
        unit: any shape, unit intensity.

    Returns:
        float32 HU of the same shape.

    >>> to_hu([0.0, 0.5, 1.0]).tolist()
    [-1024.0, 512.0, 2048.0]
    """
    return np.asarray(unit, dtype=np.float32) * np.float32(WINDOW_WIDTH_HU) + np.float32(WINDOW_MIN_HU)
