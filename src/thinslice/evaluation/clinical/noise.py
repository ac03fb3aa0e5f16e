"""Noise that a method keeps: in scans the standard deviation of soft tissue, in phantoms power spectra.

A volume smoother than a thin reconstruction looks better than it is. In scans, noise is the standard deviation within
small patches of even soft tissue. In a phantom, of which two scans differ by noise alone, it is their difference: at
every voxel, and by frequency, in plane and across slices.

Source: noise power spectra: ICRU report 87 (2012), two realisations subtracted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.tissue_bias import cell_weights, inner_thick
from thinslice.evaluation.clinical.tissues import MAX_UNEVENNESS_HU, NOISE_PATCH, TISSUES_HU
from thinslice.typing import Doubles

BLOCK = 32
"""Height and width in pixels of the blocks whose power is averaged."""


def patch_noise(
    thin: npt.NDArray[Any], truth: npt.NDArray[Any], thick: npt.NDArray[Any], factor: int
) -> dict[str, Any]:
    """Standard deviation in patches of even soft tissue, chosen by the thick slices and the truth alone.

    A patch counts where the thick slice and both its neighbours are even soft tissue, so it is the same for every
    method.

    Args:
        thin: ((depth - 1) * factor + 1, height, width) HU.
        truth: thin truth of the same shape; patches in which it holds bone or fat are left out.
        thick: (depth, height, width) HU.
        factor: thin slices per thick interval.

    Returns:
        `patches`; `sd_hu`, root mean square over patches and slices; `by_offset_hu`, the same by distance from the
        nearest thick slice in thin slices; values are null without patches.
    """
    half = len(cell_weights(factor)) // 2
    squares, counts = np.zeros(half + 1), np.zeros(half + 1)
    weights = cell_weights(factor)
    for k in inner_thick(thick.shape[0]):
        even = _even(thick[k - 1]) & _even(thick[k]) & _even(thick[k + 1])
        if not even.any():
            continue
        planes = range(k * factor - half, k * factor + half + 1)
        for i in planes:
            even &= _within(truth[i])
        for offset, (i, weight) in enumerate(zip(planes, weights, strict=True), start=-half):
            tiles = _tiles(thin[i])[even]
            squares[abs(offset)] += weight * float(np.var(tiles, axis=1, ddof=1).sum())
            counts[abs(offset)] += weight * len(tiles)
    if counts.sum() == 0:
        return {"patches": 0, "sd_hu": None, "by_offset_hu": None}
    return {
        "patches": round(float(counts.sum())),
        "sd_hu": float(np.sqrt(squares.sum() / counts.sum())),
        "by_offset_hu": [float(np.sqrt(s / n)) if n else None for s, n in zip(squares, counts, strict=True)],
    }


def noise_power(noise: npt.NDArray[Any], lung: npt.NDArray[np.bool_], steps_mm: tuple[float, float, float]) -> Any:
    """Power of a noise field by frequency, in plane and across slices.

    Args:
        noise: (depth, height, width) HU, mean 0.
        lung: same shape; blocks and columns that leave it are left out.
        steps_mm: spacing along depth, height and width; pixels are taken as square.

    Returns:
        `in_plane` and `across`: frequencies (1/mm) and power (HU2 mm2, HU2 mm); null where no
        block or too few columns fit.
    """
    depth, height, width = noise.shape
    across_mm, pixel_mm = steps_mm[0], steps_mm[2]
    spectra: list[Doubles] = []
    window = np.outer(np.hanning(BLOCK), np.hanning(BLOCK))
    gain = float(np.mean(window**2))
    for index in range(depth):
        for y in range(0, height - BLOCK + 1, BLOCK):
            for x in range(0, width - BLOCK + 1, BLOCK):
                place = (index, slice(y, y + BLOCK), slice(x, x + BLOCK))
                # A few vessels change the noise of a block little.
                if np.mean(lung[place]) > 0.97:
                    spectra.append(np.abs(np.fft.fft2(noise[place] * window)) ** 2)
    in_plane = None
    if spectra:
        power = np.mean(spectra, axis=0) * pixel_mm**2 / (BLOCK**2 * gain)
        radius = np.hypot(*np.meshgrid(np.fft.fftfreq(BLOCK), np.fft.fftfreq(BLOCK), indexing="ij")) * BLOCK
        ring = np.round(radius).astype(int)
        rings = range(1, BLOCK // 2 + 1)
        in_plane = {
            "per_mm": [n / (BLOCK * pixel_mm) for n in rings],
            "power": [float(power[ring == n].mean()) for n in rings],
        }
    clear = lung.all(axis=0)
    across = None
    if clear.sum() >= BLOCK:
        columns = noise[:, clear].astype(np.float64)
        taper = np.hanning(depth)[:, None]
        power = (np.abs(np.fft.rfft(columns * taper, axis=0)) ** 2).mean(axis=1)
        power *= across_mm / (depth * float(np.mean(taper**2)))
        across = {
            "per_mm": (np.fft.rfftfreq(depth) / across_mm)[1:].tolist(),
            "power": power[1:].tolist(),
        }
    return {"in_plane": in_plane, "across": across}


def _tiles(plane: npt.NDArray[Any]) -> Doubles:
    """(patches, pixels) of a slice; rows and columns left over at its end are cut off."""
    height, width = (n // NOISE_PATCH for n in plane.shape)
    cut = plane[: height * NOISE_PATCH, : width * NOISE_PATCH].astype(np.float64)
    tiles = cut.reshape(height, NOISE_PATCH, width, NOISE_PATCH).transpose(0, 2, 1, 3)
    return tiles.reshape(-1, NOISE_PATCH**2)


def _even(plane: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Patches of a thick slice that are soft tissue throughout and hold no edge."""
    tiles = _tiles(plane)
    low, high = TISSUES_HU["soft"]
    row, column = np.divmod(np.arange(NOISE_PATCH**2), NOISE_PATCH)
    even = (tiles >= low).all(axis=1) & (tiles < high).all(axis=1)
    for place in (row, column):
        first, second = place < NOISE_PATCH // 2, place > NOISE_PATCH // 2
        even &= np.abs(tiles[:, first].mean(axis=1) - tiles[:, second].mean(axis=1)) < MAX_UNEVENNESS_HU
    return np.asarray(even)


def _within(plane: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Patches of the truth that hold soft tissue and its noise alone."""
    tiles = _tiles(plane)
    low, high = TISSUES_HU["soft"]
    return np.asarray((tiles > low - 100.0).all(axis=1) & (tiles < high + 100.0).all(axis=1))
