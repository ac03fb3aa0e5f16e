"""Small data sets for tests, in the layouts that `thinslice.data.manifest` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt

from thinslice.geometry import Geometry
from thinslice.intensity import to_unit
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

Array = npt.NDArray[np.float32]


def thin_hu(depth: int = 36, plane: int = 24, seed: int = 0) -> Array:
    """Blobs between -900 and 900 HU, whole numbers, different in every slice."""
    from scipy.ndimage import gaussian_filter

    grain = gaussian_filter(np.random.default_rng(seed).normal(size=(depth, plane, plane)), 1.5, mode="wrap")
    return np.rint(900.0 * grain / np.abs(grain).max()).astype(np.float32)


def pair_hu(thick_depth: int = 8, plane: int = 24, seed: int = 0) -> tuple[Array, Array]:
    """Thick slices and the thin ones they are averages of: thick k lies on thin 5 k."""
    long = thin_hu(5 * (thick_depth - 1) + 5, plane, seed)
    return np.rint(SliceProfile.mean(5).apply(long)), long[2:-2]


def save_unit(hu: npt.ArrayLike, path: Path, *, axis: int = 2) -> None:
    """Write (depth, height, width) HU as the release does; `axis` of the file holds the depth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_raw(to_unit(hu), path, axis=axis)


def save_raw(values: npt.NDArray[np.float32], path: Path, *, axis: int = 2) -> None:
    """Write (depth, height, width) numbers as they are under an identity header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(values.transpose(0, 2, 1), 0, axis), np.eye(4)), path)


def released_set(root: Path, cases: Mapping[str, int] | None = None, **shape: int) -> Path:
    """A data set in the released layout: cases 0.. in train, 100.. in val, 150.. in test."""
    first = {"train": 0, "val": 100, "test": 150}
    for split, count in (cases or {"train": 2, "val": 1, "test": 1}).items():
        for number in range(first[split], first[split] + count):
            thick, thin = pair_hu(seed=number, **shape)
            save_unit(thick, root / split / "5mm" / f"CT{number:08d}.nii.gz")
            save_unit(thin, root / split / "1mm" / f"CT{number:08d}.nii.gz")
    return root


def true_volumes(offset: int = 2, thick_depth: int = 8) -> tuple[Volume, Volume]:
    """A pair in HU with true geometry whose thick slice k lies on thin slice 5 k + offset."""
    thin = thin_hu(5 * thick_depth + 10, seed=5)
    centres = offset + 5 * np.arange(thick_depth)
    thick = np.rint(np.stack([thin[max(0, c - 2) : c + 3].mean(axis=0) for c in centres]))
    grid = Geometry(thin.shape, (1.0, 0.7, 0.7), origin_mm=(10.0, -20.0, 30.0), thickness_mm=1.0)
    where = Geometry(thick.shape, (5.0, 0.7, 0.7), origin_mm=(10.0, -20.0, 30.0 + offset), thickness_mm=5.0)
    return Volume(thick.astype(np.int16), where), Volume(thin.astype(np.int16), grid)
