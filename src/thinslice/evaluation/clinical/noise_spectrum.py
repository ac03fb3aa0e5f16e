"""Noise power spectra: how much noise a method keeps at each frequency, in plane and along z.

The standard deviation alone does not show whether noise is as fine as in a thin reconstruction, or whether it varies
from slice to slice. In scans the spectra are those of patches of even soft tissue, from which a smooth surface is taken
away slice by slice; in a phantom, of which two scans differ by noise alone, those of their difference.

Source: ICRU report 87 (2012); Siewerdsen et al., Med Phys 29 (2002): pixel area / pixels * <|DFT(patch - trend)|^2>,
the trend a polynomial of second order, averaged over patches and over rings of equal frequency. Along z the same in one
dimension, with a periodic Hann taper. Deviation: patches are chosen in the patient, not in a water phantom, so anatomy
adds to the lowest frequencies, of the truth and of every method alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.even_tissue import Chosen, is_even, is_within, patches_of, without_trend
from thinslice.evaluation.clinical.tissues import SPECTRUM_PATCH
from thinslice.typing import Doubles

BLOCK = 32
"""Height and width in pixels of the blocks of a phantom whose power is averaged."""

LEAST_INTERVALS, LEAST_SLICES = 4, 12
"""Thick intervals and thin slices that a stretch along z has at least."""


@dataclass(frozen=True)
class Spectrum:
    """Power by frequency.

    Attributes:
        per_mm: frequencies, 1/mm, rising.
        power: HU2 mm2 in plane, HU2 mm along z.
    """

    per_mm: tuple[float, ...]
    power: tuple[float, ...]

    def within(self, low: float, high: float) -> float:
        """Sum of the power at frequencies (low, high] per mm."""
        return sum(p for f, p in zip(self.per_mm, self.power, strict=True) if low < f <= high + 1e-9)


@dataclass(frozen=True)
class NoiseSpectra:
    """Noise power of a thin volume in patches of even soft tissue.

    Attributes:
        patches: patches of thin slices in the mean in plane.
        in_plane: rings of the two-dimensional spectrum; None without patches.
        stretches: patches, over several thick intervals each, in the mean along z.
        along_z: None without stretches.
    """

    patches: int
    in_plane: Spectrum | None
    stretches: int
    along_z: Spectrum | None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def patch_spectra(
    thin: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    thick: npt.NDArray[Any],
    factor: int,
    spacing_mm: Sequence[float | None],
) -> NoiseSpectra:
    """Noise power of patches that the thick slices and the truth show as even soft tissue.

    A stretch along z covers whole thick intervals and its taper weighs all places within an interval alike, so noise
    that differs between slices on and between thick ones counts as it is.

    Args:
        thin: ((depth - 1) * factor + 1, height, width) HU.
        truth: thin truth of the same shape.
        thick: (depth, height, width) HU.
        factor: thin slices per thick interval.
        spacing_mm: of the thin grid along (depth, height, width); an unknown one counts as 1 mm.
    """
    intervals = max(LEAST_INTERVALS, math.ceil(LEAST_SLICES / factor))
    slices = intervals * factor
    step_mm, row_mm, column_mm = (1.0 if step is None else step for step in spacing_mm)
    even = [is_even(plane, SPECTRUM_PATCH) for plane in thick]
    within = _Within(truth)
    rings = np.zeros((SPECTRUM_PATCH, SPECTRUM_PATCH))
    power = np.zeros(slices // 2 + 1)
    patches = stretches = 0
    # The cells of the first and the last thick slice are not whole.
    for first in range(1, thick.shape[0] - 1 - intervals):
        chosen = np.logical_and.reduce(even[first : first + intervals + 1])
        begin = first * factor
        for index in range(begin, begin + slices):
            if chosen.any():
                chosen = chosen & within(index)
        if not chosen.any():
            continue
        planes = thin[begin : begin + slices]
        noise = np.stack([without_trend(patches_of(plane, SPECTRUM_PATCH)[chosen]) for plane in planes])
        count = int(chosen.sum())
        squares = noise.reshape(slices * count, SPECTRUM_PATCH, SPECTRUM_PATCH)
        rings += (np.abs(np.fft.fft2(squares)) ** 2).sum(axis=0)
        power += (np.abs(_tapered(noise)) ** 2).sum(axis=(1, 2))
        patches += slices * count
        stretches += count
    if not stretches:
        return NoiseSpectra(0, None, 0, None)
    in_plane = rings * row_mm * column_mm / (patches * SPECTRUM_PATCH**2)
    columns = stretches * SPECTRUM_PATCH**2
    along_z = power * step_mm / (columns * float(np.sum(_taper(slices) ** 2)))
    frequencies = np.fft.rfftfreq(slices, step_mm)
    return NoiseSpectra(
        patches,
        _rings(in_plane, row_mm, column_mm),
        stretches,
        Spectrum(tuple(frequencies[1:].tolist()), tuple(along_z[1:].tolist())),
    )


def percent_of_truth(own: NoiseSpectra, truth: NoiseSpectra, thick_mm: float) -> dict[str, Any] | None:
    """Power of a method as a share of the truth's, in bands.

    Args:
        own, truth: spectra of the same patches.
        thick_mm: distance of thick slices.

    Returns:
        `in_plane`: percent in the lower, middle and upper third of the frequencies in plane; `along_z`: percent at
        the frequencies that the distance of the thick slices can carry (up to 1 / (2 thick_mm)), and beyond them; None
        where nothing was measured. 100 in every band is the truth's texture.

    >>> flat = Spectrum((0.05, 0.25, 0.45), (4.0, 4.0, 4.0))
    >>> low = Spectrum((0.05, 0.25, 0.45), (4.0, 1.0, 1.0))
    >>> percent_of_truth(NoiseSpectra(9, low, 9, low), NoiseSpectra(9, flat, 9, flat), 5.0)
    {'in_plane': [100.0, 25.0, 25.0], 'along_z': [100.0, 25.0]}
    """
    if own.in_plane is None or truth.in_plane is None or own.along_z is None or truth.along_z is None:
        return None
    highest = truth.in_plane.per_mm[-1]
    thirds = [(n * highest / 3, (n + 1) * highest / 3) for n in range(3)]
    carried = 0.5 / thick_mm
    return {
        "in_plane": [_percent(own.in_plane, truth.in_plane, band) for band in thirds],
        "along_z": [_percent(own.along_z, truth.along_z, band) for band in ((0.0, carried), (carried, math.inf))],
    }


def _percent(own: Spectrum, truth: Spectrum, band: tuple[float, float]) -> float | None:
    whole = truth.within(*band)
    return 100.0 * (own.within(*band) / whole) if whole else None


class _Within:
    """`is_within` of the truth's slices, each measured once."""

    def __init__(self, truth: npt.NDArray[Any]) -> None:
        self._truth = truth
        self._found: dict[int, Chosen] = {}

    def __call__(self, index: int) -> Chosen:
        if index not in self._found:
            self._found[index] = is_within(self._truth[index], SPECTRUM_PATCH)
        return self._found[index]


def _taper(slices: int) -> Doubles:
    """A periodic Hann window: over four whole intervals or more, all places within an interval weigh alike."""
    return np.asarray(0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(slices) / slices))


def _tapered(noise: Doubles) -> npt.NDArray[np.complex128]:
    """Transform of tapered columns along the first axis, without the part at frequency 0."""
    taper = _taper(noise.shape[0])[:, None, None]
    level = (noise * taper).sum(axis=0) / taper.sum()
    return np.asarray(np.fft.rfft((noise - level) * taper, axis=0))


def _rings(power: Doubles, row_mm: float, column_mm: float) -> Spectrum:
    """Means over rings of equal frequency, up to the lower of the two highest frequencies.

    Example: 16 x 16 pixels of 0.7 mm give 8 rings, 1 / (16 * 0.7 mm) apart, up to 0.71 per mm.
    """
    ring_per_mm = 1.0 / (SPECTRUM_PATCH * max(row_mm, column_mm))
    rows, columns = (np.fft.fftfreq(SPECTRUM_PATCH, pixel_mm) for pixel_mm in (row_mm, column_mm))
    ring = np.round(np.hypot(rows[:, None], columns) / ring_per_mm).astype(int)
    numbers = range(1, SPECTRUM_PATCH // 2 + 1)
    return Spectrum(tuple(n * ring_per_mm for n in numbers), tuple(float(power[ring == n].mean()) for n in numbers))


def noise_power(noise: npt.NDArray[Any], lung: npt.NDArray[np.bool_], steps_mm: tuple[float, float, float]) -> Any:
    """Power of a noise field by frequency, in plane and across slices: for phantoms, of which two scans give the field.

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
