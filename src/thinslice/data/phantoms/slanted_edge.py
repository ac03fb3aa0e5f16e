"""A slanted edge: two materials that meet in a known plane, which is almost parallel to the slices.

The plane leans slightly, so it crosses the slices at all positions between two slices, and voxels lie at all distances
from it, as the slanted-edge method of measuring resolution requires.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinslice.data.phantoms.noise import grain
from thinslice.geometry import AXIAL_DIRECTION, Geometry
from thinslice.volume import Volume

MATERIALS_HU = {"lung to soft": (-860.0, 45.0), "fat to soft": (-100.0, 50.0), "soft to bone": (50.0, 700.0)}
"""HU below and above the plane."""

LEAN = 0.12
"""Rise of the plane along x: 8 mm over 67 mm, more than a thick slice."""

THIN_MM, PIXEL_MM = 1.0, 0.7


@dataclass(frozen=True)
class SlantedEdge:
    """A simulated scan of the edge.

    Attributes:
        volume: thin slices, each an average over its extent, whole HU.
        low_hu, high_hu: HU below and above the plane.
    """

    volume: Volume
    low_hu: float
    high_hu: float


def slanted_edge(
    materials: str = "lung to soft", *, slices: int = 89, pixels: int = 96, noise_hu: float = 20.0, seed: int = 0
) -> SlantedEdge:
    """A simulated scan of a slanted edge.

    Args:
        materials: key of `MATERIALS_HU`.
        slices, pixels: extent of the volume.
        noise_hu: standard deviation of the noise.
        seed: seed of the noise.
    """
    low, high = MATERIALS_HU[materials]
    grid = Geometry((slices, pixels, pixels), (THIN_MM, PIXEL_MM, PIXEL_MM), direction=AXIAL_DIRECTION,
                    thickness_mm=THIN_MM)  # fmt: skip
    share = np.clip(0.5 + distance_mm(grid, slices) / THIN_MM, 0.0, 1.0)
    hu = low + (high - low) * share
    if noise_hu > 0.0:
        for index in range(slices):
            hu[index] += noise_hu * grain((pixels, pixels), np.random.default_rng([seed, 4, index]))
    return SlantedEdge(Volume(np.clip(np.round(hu), -1024, 3071).astype(np.int16), grid), low, high)


def distance_mm(grid: Geometry, slices: int = 89) -> npt.NDArray[np.float64]:
    """Distance along z of each voxel's centre from the plane, positive above it.

    Args:
        grid: thin or thick grid, derived from that of the edge.
        slices: number of thin slices; the plane passes through the middle of the thin volume.

    >>> far = distance_mm(Geometry((89, 9, 9), (1.0, 0.7, 0.7)))
    >>> far.shape, round(float(far[44, 0, 4]), 6)
    ((89, 9, 9), 0.0)
    """
    depth, height, width = grid.shape
    z = grid.origin_mm[2] + np.arange(depth)[:, None, None] * grid.spacing_mm[0]
    x = np.arange(width) * (grid.spacing_mm[2] or 1.0)
    plane = 0.5 * (slices - 1) * THIN_MM + LEAN * (x - 0.5 * x[-1])
    return np.broadcast_to(z - plane, (depth, height, width)).copy()
