"""Distance of slices, read from the anatomy of a chest.

A chest has no preferred axis at the scale of millimetres: it differs between neighbouring slices about as much as
between places one slice distance apart in the plane, once the plane is averaged over the slice thickness too. Where the
header states a wrong distance, the two disagree. Heads and limbs run along the patient, so only chests are measured.

Source: our own definition.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter, uniform_filter1d

from thinslice.volume import Volume

BODY_HU = -500.0
"""Voxels above are body; the central part lies about their centre."""

LUNG_HU, LEAST_LUNG = (-950.0, -500.0), 0.2
"""HU of lung, and its least share of the central part of a chest."""

PLANE, DEPTH = 224, 64
"""Largest height and width in pixels, and largest number of slices, that are compared: the inside of the body."""

CLIPPED_HU = (-1000.0, 300.0)
"""Values are clipped to it: metal and bright contrast would decide."""

SMOOTHED_PIXELS = 5
"""Width of the average in plane that takes noise out."""

MOST_NOISE_HU = 40.0
"""Noise above which it would decide all the same."""

FARTHEST, LAGS = 3.0, 14
"""Largest distance in plane, over the stated distance of slices, and the number of distances tried up to it."""


def central_part(scan: Volume, *, depth: int, plane: int) -> Volume:
    """The part of a scan about the body's centre of mass in plane and about the middle slice, a view.

    Args:
        scan: (depth, height, width) HU.
        depth: largest number of slices.
        plane: largest height and width in pixels.

    >>> hu = np.full((4, 9, 9), -1000.0); hu[:, 6:, 6:] = 40.0
    >>> central_part(Volume.from_array(hu, spacing_mm=(5.0, 0.7, 0.7)), depth=2, plane=3).hu.min()
    np.int16(40)
    """
    slices, height, width = scan.shape
    body = scan.hu[:: max(1, slices // 16)] > BODY_HU
    corners = []
    for extent, axes in ((height, (0, 2)), (width, (0, 1))):
        mass = body.sum(axis=axes).astype(np.float64)
        middle = float(mass @ (np.arange(extent) + 0.5) / mass.sum()) if mass.any() else extent / 2.0
        corners.append(int(np.clip(round(middle - plane / 2.0), 0, max(0, extent - plane))))
    first = max(0, (slices - depth) // 2)
    stop = (min(slices, first + depth), min(height, corners[0] + plane), min(width, corners[1] + plane))
    return scan.crop((first, corners[0], corners[1]), stop)


def apparent_distance(scan: Volume, pixel_mm: float, thickness: float) -> float | None:
    """Distance of slices by the anatomy over that of the header; None for other parts of the body than the chest.

    Args:
        scan: (depth, height, width) HU.
        pixel_mm: distance of pixels.
        thickness: slice thickness over slice distance.
    """
    hu = central_part(scan, depth=DEPTH, plane=PLANE).hu
    if len(hu) < 2 or np.mean((hu > LUNG_HU[0]) & (hu < LUNG_HU[1])) < LEAST_LUNG:
        return None
    distance_mm = scan.geometry.spacing_mm[0]
    smooth = np.stack([uniform_filter(np.clip(plane, *CLIPPED_HU).astype(np.float32), SMOOTHED_PIXELS) for plane in hu])
    across = float(np.mean([np.mean(np.square(after - before)) for before, after in pairwise(smooth)]))
    averaged = max(1, round(thickness * distance_mm / pixel_mm))
    found = [_lag(smooth, axis, averaged, across, FARTHEST * distance_mm / pixel_mm) for axis in (1, 2)]
    known = [lag for lag in found if lag is not None]
    return float(np.mean(known)) * pixel_mm / distance_mm if known else None


def _lag(smooth: npt.NDArray[Any], axis: int, averaged: int, wanted: float, farthest: float) -> float | None:
    """Pixels along an axis of the plane after which the scan differs as much as wanted, in the mean square."""
    values = np.moveaxis(uniform_filter1d(smooth, averaged, axis=axis), axis, 0)[averaged : -averaged or None]
    lags = np.unique(np.round(np.geomspace(1.0, max(4.0, farthest), LAGS)).astype(int))
    lags = lags[lags < len(values) // 2]
    if len(lags) < 2:
        return None
    apart = [float(np.mean(np.square(values[lag:] - values[:-lag]))) for lag in lags]
    return float(np.interp(wanted, apart, lags))
