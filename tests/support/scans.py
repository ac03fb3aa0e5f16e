"""A thick scan made on the spot: lungs, muscle, fat and air with a kernel's noise, in contiguous slices."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from thinslice.geometry import Geometry
from thinslice.profile import SliceProfile
from thinslice.volume import Volume


def thin_scan(depth: int = 126, plane: int = 160, *, noise_hu: float = 30.0, seed: int = 0) -> Volume:
    """Thin slices 1 mm apart: a trunk of fat and muscle with two lungs whose boundaries lean and rise and fall.

    Args:
        depth: slices.
        plane: height and width.
        noise_hu: standard deviation of the noise, smooth in plane as behind a kernel, independent from slice to slice.
        seed: of the noise.
    """
    z, y, x = np.mgrid[:depth, :plane, :plane].astype(np.float32)
    middle = plane / 2.0
    # The trunk tapers, so that all neighbouring slices differ about alike.
    away = np.hypot((y - middle) / 0.8, x - middle) * (1.0 + 0.003 * (z - depth / 2))
    hu = np.full((depth, plane, plane), -1000.0, np.float32)
    hu[away < 0.48 * plane] = -105.0
    hu[away < 0.40 * plane] = 45.0
    for side in (-1, 1):
        centre = middle + side * 0.19 * plane
        # Domes: lung lies above a surface that rises and falls along the patient. There is too little for a chest,
        # since a trunk like this one runs along the patient, as no chest does.
        surface = 0.55 * depth + 9.0 * side + 11.0 * np.sin(0.06 * (x - centre) + side) * np.cos(0.05 * (y - middle))
        lung = (np.hypot((y - middle) / 1.4, x - centre) < 0.11 * plane) & (z > surface)
        hu[lung] = -860.0
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=hu.shape).astype(np.float32), (0, 0.8, 0.8))
    hu = gaussian_filter(hu, (0, 1.0, 1.0)) + noise_hu / noise.std() * noise
    hu = np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
    return Volume(hu, Geometry(hu.shape, (1.0, 0.8, 0.8)))


def thick_scan(thin: Volume, factor: int = 5, *, width: float = 1.0, stated: float = 1.0) -> Volume:
    """Thick slices of a thin scan.

    Args:
        thin: slices 1 mm apart.
        factor: their distance in mm.
        width: slice thickness over slice distance; below 0.3 one thin slice stands for a thick one.
        stated: the same by the header.
    """
    profile = SliceProfile.mean(factor, width=width) if width >= 0.3 else SliceProfile.subsample(factor)
    hu = np.rint(profile.apply(thin.hu)).astype(np.int16)
    _, height, across = thin.geometry.spacing_mm
    return Volume(hu, Geometry(hu.shape, (float(factor), height, across), thickness_mm=stated * factor))
