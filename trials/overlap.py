"""Quality where thick slices overlap or leave gaps: PSNR over interpolation, by thickness over distance.

    python trials/overlap.py THIN.nii.gz ... [--width 1 2 3 3.5 4] [--factor 2 5 8] [--model default] [--threads N]

Thick slices `width` times as thick as they are apart are averaged from the thin ones, rounded to whole HU, upscaled
back with the network, cubic and cubic-consistent, and compared with the thin slices over all values in [-1024, 2048]
HU, one and a half thick slices at either end left out. Only networks whose card allows the width run (`widest_slice`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from thinslice import Volume, read, upscale_slabs
from thinslice.data.simulate import simulate_thick
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU, WINDOW_WIDTH_HU
from thinslice.profile import SliceProfile
from thinslice.typing import Floats

MOST_ROWS, MOST_COLUMNS = 320, 384
"""Extent in plane of what is cut out of a scan, from its middle."""

BASELINES = ("cubic", "cubic-consistent")


def main() -> None:
    """Print one row for each scan, factor and width."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("thin", type=Path, nargs="+")
    parser.add_argument("--width", type=float, nargs="+", default=[1.0, 2.0, 3.0, 3.5, 4.0])
    parser.add_argument("--factor", type=int, nargs="+", default=[2, 5, 8])
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    print(
        f"| scan | factor | thickness over distance | {' | '.join(BASELINES)} | {options.model} | over cubic | HU RMS |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for path in options.thin:
        thin = middle_of(read(path))
        for factor in options.factor:
            for width in options.width:
                thick, truth = simulate_thick(thin, SliceProfile.mean(factor, width=width), whole_hu=True)
                margin = int(np.ceil(1.5 * factor))
                inner = slice(margin, len(truth.hu) - margin)
                values = []
                for model in (*BASELINES, options.model):
                    stream = upscale_slabs(thick, model=model, factor=factor, threads=options.threads)
                    made = np.concatenate([slab.hu for slab in stream])
                    values.append(psnr(made[inner], truth.hu[inner]))
                cells = " | ".join(f"{value:.2f}" for value in values)
                name = path.name.removesuffix(".gz").removesuffix(".nii")
                print(
                    f"| {name} | {factor} | {width:g} | {cells} | {values[-1] - values[0]:+.2f} | "
                    f"{stream.result.consistency_rms_hu:.2f} |",
                    flush=True,
                )


def middle_of(thin: Volume) -> Volume:
    """The middle of the plane, all slices."""
    depth, height, width = thin.hu.shape
    top, left = max(0, (height - MOST_ROWS) // 2), max(0, (width - MOST_COLUMNS) // 2)
    return thin.crop((0, top, left), (depth, min(height, top + MOST_ROWS), min(width, left + MOST_COLUMNS)))


def psnr(estimate: Floats, truth: Floats) -> float:
    """PSNR in dB for a range of [-1024, 2048] HU."""
    clipped = [np.clip(values, WINDOW_MIN_HU, WINDOW_MAX_HU).astype(np.float64) for values in (estimate, truth)]
    return float(-10 * np.log10(np.mean((clipped[0] - clipped[1]) ** 2) / WINDOW_WIDTH_HU**2))


if __name__ == "__main__":
    main()
