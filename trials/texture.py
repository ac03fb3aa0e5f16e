"""Texture measured against thin scans: noise, lung density, accuracy, with and without.

    python trials/texture.py FOLDER_OR_FILE ... [--factor 5 ...] [--width 1 ...] [--model default] [--threads N]

Every thin scan of a folder is averaged to thick slices (`--width` times as thick as they are apart), upscaled back
without and with texture, and compared with the thin slices: noise of even soft tissue over the truth's on and between
thick slices, LAA-950, LAA-910 and Perc15 less the truth's, mean HU of the lung less that without texture, PSNR less
that of a cubic spline, consistency.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice import Volume, read, upscale_slabs
from thinslice.evaluation.clinical.lung_density import find_lung
from thinslice.evaluation.clinical.noise import patch_noise
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU, WINDOW_WIDTH_HU
from thinslice.profile import SliceProfile

MOST_SLICES, MOST_ROWS, MOST_COLUMNS = 120, 320, 384
"""Extent of what is cut out of a scan, from its middle."""

LUNG_VOXELS = 20_000
"""Voxels of lung below which its densities are not given."""

HEADER = (
    "| scan | factor | width | | noise (% of truth) on / between | LAA-950 | LAA-910 | Perc15 (HU) | lung mean (HU) "
    "| PSNR - cubic (dB) | consistency (HU RMS) |\n|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|"
)


def main() -> None:
    """Print two rows for each scan, factor and width: without texture and with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("thin", type=Path, nargs="+")
    parser.add_argument("--factor", type=int, nargs="+", default=[5])
    parser.add_argument("--width", type=float, nargs="+", default=[1.0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    print(HEADER)
    for path in files(options.thin):
        for factor in options.factor:
            for width in options.width:
                for row in compare(path, factor, width, options.model, options.seed, options.threads):
                    print(row, flush=True)


def files(paths: Iterable[Path]) -> list[Path]:
    """The scans: files as they are, and all NIfTI files of folders."""
    return [each for path in paths for each in (sorted(path.glob("*.nii*")) if path.is_dir() else [path])]


def compare(path: Path, factor: int, width: float, model: str, seed: int, threads: int | None) -> list[str]:
    """The rows of a scan."""
    thin = read(path)
    cut = tuple(
        slice(max(0, (n - most) // 2), max(0, (n - most) // 2) + most)
        for n, most in zip(thin.hu.shape, (MOST_SLICES, MOST_ROWS, MOST_COLUMNS), strict=True)
    )
    profile = SliceProfile.mean(factor, width=width)
    hu = thin.hu[cut]
    thick_hu = np.rint(profile.apply(hu.astype(np.float32))).astype(np.int16)
    centres = profile.centres(len(hu))
    truth = hu[centres[0] : centres[-1] + 1]
    thin_mm, row_mm, column_mm = (1.0 if step is None else step for step in thin.geometry.spacing_mm)
    thick = Volume.from_array(
        thick_hu, spacing_mm=(thin_mm * factor, row_mm, column_mm), thickness_mm=thin_mm * factor * width
    )
    lung = find_lung(truth, thin_mm * row_mm * column_mm)
    inner = slice(factor, -factor)
    cubic = psnr(collected(upscale_slabs(thick, model="cubic", factor=factor))[inner], truth[inner])
    rows, plain_mean = [], 0.0
    for texture in (False, True):
        stream = upscale_slabs(
            thick, model=model, factor=factor, threads=threads, texture=texture, texture_seed=seed if texture else 0
        )
        made = collected(stream)
        noise = [patch_noise(each, truth, thick_hu, factor)["by_offset_hu"] for each in (made, truth)]
        share = "" if noise[1] is None else " ".join(f"{100 * a / b:.0f}" for a, b in zip(*noise, strict=True))
        densities = [""] * 4
        if np.count_nonzero(lung[inner]) >= LUNG_VOXELS:
            ours, theirs = densities_of(made[inner][lung[inner]]), densities_of(truth[inner][lung[inner]])
            plain_mean = plain_mean if texture else ours[3]
            theirs = (*theirs[:3], plain_mean)
            densities = [f"{a - b:+.2f}" for a, b in zip(ours, theirs, strict=True)]
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        rows.append(
            f"| {name} | {factor} | {width:g} | {'texture' if texture else 'plain'} | {share} | "
            f"{' | '.join(densities)} | {psnr(made[inner], truth[inner]) - cubic:+.2f} | "
            f"{stream.result.consistency_rms_hu:.3f} |"
        )
    return rows


def collected(stream: Any) -> npt.NDArray[Any]:
    """All slices of a stream."""
    return np.concatenate([slab.hu for slab in stream])


def densities_of(lung_hu: npt.NDArray[Any]) -> tuple[float, float, float, float]:
    """LAA-950 and LAA-910 in percent, Perc15 and mean in HU."""
    below = [100.0 * float(np.mean(lung_hu < level)) for level in (-950, -910)]
    return below[0], below[1], float(np.percentile(lung_hu, 15)), float(lung_hu.mean())


def psnr(estimate: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """PSNR in dB for a range of [-1024, 2048] HU."""
    clipped = [np.clip(values, WINDOW_MIN_HU, WINDOW_MAX_HU).astype(np.float64) for values in (estimate, truth)]
    return float(-10 * np.log10(np.mean((clipped[0] - clipped[1]) ** 2) / WINDOW_WIDTH_HU**2))


if __name__ == "__main__":
    main()
