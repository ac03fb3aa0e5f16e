"""Interpolation along z as a matrix: the definitions of the methods, in NumPy alone.

Corner-aligned: thin slice j lies at thick index j / factor. Every method is linear in the thick slices, so it is one
matrix along z.

Source: the definitions of the baselines `nearest`, `linear`, `cubic` (not-a-knot spline) and `cubic-consistent` (cubic,
then the smallest change after which the result averages back to the thick slices, y + A^T (A A^T)^-1 (x - A y)).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy.interpolate import CubicSpline

from thinslice.geometry import nearest_thick
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile

Method = Literal["nearest", "linear", "linear-consistent", "cubic", "cubic-consistent"]

FACTORS = range(1, 65)
"""Factors of every method."""

DEFAULT_FACTOR = 5

# A knot's influence on a cubic spline falls by 2 - sqrt(3) = 0.27 per knot: after 16 it is below 1e-9.
_CUBIC_HALO = 16


class InterpolateConfig(BaseModel):
    """Config of an interpolation.

    Attributes:
        method: which interpolation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "cubic"

    @property
    def consistent(self) -> bool:
        """Whether thin slices average back to the thick ones."""
        return self.method.endswith("-consistent")

    @property
    def window(self) -> ModelWindow:
        """Size and margins of the windows of this method."""
        halo = _CUBIC_HALO if self.method.startswith("cubic") else 1
        return ModelWindow(min_depth=1, tile=(512, 512), halo=(halo, 0, 0), working_bytes=4.0)


@lru_cache(maxsize=256)
def z_matrix(method: Method, depth: int, profile: SliceProfile, factor: int) -> npt.NDArray[np.float64]:
    """The interpolation as a matrix along z.

    Args:
        method: which interpolation.
        depth: number of thick slices, >= 1.
        profile: of the thick slices; only the consistent methods need it.
        factor: thin slices per thick interval.

    Returns:
        ((depth - 1) * factor + 1, depth), read-only; its rows sum to 1.

    >>> z_matrix("linear", 2, SliceProfile.mean(2), 2).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    at = np.arange((depth - 1) * factor + 1) / factor
    knots = np.arange(depth)
    matrix: npt.NDArray[np.float64]
    if depth == 1:
        matrix = np.ones((1, 1))
    elif method == "nearest":
        matrix = np.eye(depth)[[nearest_thick(thin_index, factor) for thin_index in range(len(at))]]
    elif method.startswith("linear"):
        matrix = np.clip(1.0 - np.abs(at[:, None] - knots), 0.0, 1.0)
    else:
        matrix = CubicSpline(knots, np.eye(depth), bc_type="not-a-knot")(at)
    if method.endswith("-consistent"):
        wanted = np.eye(depth)[list(profile.supported(depth))]
        matrix = matrix + profile.correction(depth) @ (wanted - profile.matrix(depth) @ matrix)
    matrix.setflags(write=False)
    return matrix
