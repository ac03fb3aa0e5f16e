"""Quality at distances that no whole factor gives: PSNR against a thin volume, and consistency.

    python trials/exact_spacing.py THIN.nii.gz [--ratio 2.2 2.5 3.75 4.5] [--model linear default] [--threads N]

Thick slices `ratio` thin spacings apart and as thick are averaged from the thin ones (a thin slice that a thick one
covers in part counts in part), upscaled back to the thin spacing, and compared with the thin slices over all values in
[-1024, 2048] HU, one and a half thick slices at either end left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from thinslice import Volume, read, upscale_slabs
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU, WINDOW_WIDTH_HU
from thinslice.typing import Floats


def main() -> None:
    """Print one row for each ratio and model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("thin", type=Path)
    parser.add_argument("--ratio", type=float, nargs="+", default=[2.2, 2.5, 3.75, 4.5])
    parser.add_argument("--model", nargs="+", default=["linear", "default"])
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    thin = read(options.thin)
    print("| ratio | model | PSNR (dB) | consistency (HU RMS) |\n|---:|---|---:|---:|")
    for ratio in options.ratio:
        thick, first = thick_from(thin, ratio)
        for model in options.model:
            stream = upscale_slabs(thick, model=model, spacing_mm=thin.geometry.spacing_mm[0], threads=options.threads)
            made = np.concatenate([slab.hu for slab in stream])
            margin = int(np.ceil(1.5 * ratio))
            truth = thin.hu[first : first + len(made)]
            value = psnr(made[margin:-margin], truth[margin:-margin])
            print(f"| {ratio:g} | {model} | {value:.2f} | {stream.result.consistency_rms_hu:.3f} |", flush=True)


def thick_from(thin: Volume, ratio: float) -> tuple[Volume, int]:
    """Thick slices of a thin volume, and the thin slice on which the first is centred.

    Args:
        thin: (depth, height, width) HU.
        ratio: thin slices in a thick one; no whole number.
    """
    hu = thin.hu.astype(np.float64)
    # Integral over depth at the borders of the thin slices; between borders it is linear.
    integral = np.concatenate([np.zeros((1, *hu.shape[1:])), np.cumsum(hu, axis=0)])

    def at(border: float) -> Floats:
        below = int(border)
        share = border - below
        return np.asarray(integral[below] * (1 - share) + (integral[below + 1] * share if share else 0.0))

    # Centres in thin slices: the first on a thin slice, the last with its whole extent inside.
    first = int(np.ceil(ratio / 2))
    centres = np.arange(first, len(hu) - ratio / 2 - 0.5, ratio)
    slices = [(at(c + 0.5 + ratio / 2) - at(c + 0.5 - ratio / 2)) / ratio for c in centres]
    distance_mm = ratio * thin.geometry.spacing_mm[0]
    geometry = thin.geometry.respaced(distance_mm, len(slices))
    place = thin.geometry.position_mm((first, 0, 0))
    thick = Volume.from_array(
        np.stack(slices).astype(np.float32),
        spacing_mm=geometry.spacing_mm,
        thickness_mm=distance_mm,
        origin_mm=place,
        direction=geometry.direction,
    )
    return thick, first


def psnr(estimate: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB for a range of [-1024, 2048] HU."""
    clipped = [np.clip(values, WINDOW_MIN_HU, WINDOW_MAX_HU).astype(np.float64) for values in (estimate, truth)]
    return float(-10 * np.log10(np.mean((clipped[0] - clipped[1]) ** 2) / WINDOW_WIDTH_HU**2))


if __name__ == "__main__":
    main()
