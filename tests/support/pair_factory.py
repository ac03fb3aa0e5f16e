"""Pairs in the released layout, made of clouds."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter


def smooth_hu(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Clouds between -1000 and 1000 HU."""
    noise = np.random.default_rng(seed).normal(0, 4000, shape)
    return np.clip(gaussian_filter(noise, 2.0), -1000, 1000)


def write_pair(root: Path, split: str, number: int, *, thick_slices: int = 6, seed: int | None = None) -> None:
    """A pair as the released data set holds it: unit floats, identity headers, thick k the mean around thin 5k."""
    thin_slices = 5 * (thick_slices - 1) + 1
    hu = smooth_hu(number if seed is None else seed, (thin_slices + 4, 32, 36))
    unit = ((hu + 1024) / 3072).astype(np.float32)
    thick = np.stack([unit[5 * k : 5 * k + 5].mean(axis=0) for k in range(thick_slices)])
    for folder, array in (("1mm", unit[2:-2]), ("5mm", thick)):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(array.transpose(2, 1, 0), np.eye(4))
        nib.save(image, root / split / folder / f"CT{number:08d}.nii.gz")


def small_recipe(*, steps: int, every: int, top: str = "") -> str:
    """A recipe of a tiny TVSRN on `write_pair`'s data in the folder "pairs".

    Args:
        steps: of the optimiser.
        every: steps between validations.
        top: further keys of the recipe itself, each on a line.
    """
    return f"""
name = "small"
{top}
[network]
name = "tvsrn"
[network.config]
depth = 3
features = 2
heads = 2
encoder_blocks = 1
through_plane_blocks = 1
decoder_groups = 1
[dataset]
root = "pairs"
[crops]
depth = 3
plane = 16
[loss]
kind = "l1"
[optimiser]
steps = {steps}
batch = 2
micro_batch = 1
warmup = 0
learning_rate = 1e-3
[validation]
every = {every}
cases = 1
pictures = false
"""
