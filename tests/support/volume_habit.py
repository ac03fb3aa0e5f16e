"""What a NIfTI, MetaImage or NRRD file, as programs write it, must be read as, and voxels for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SHAPE = (10, 9, 6)
"""Voxels along the file's axes: the slices lie along the last one."""

AFFINE = np.array([[-0.7, 0, 0, 30.0], [0, -0.8, 0, 40.0], [0, 0, 5.0, -50.0], [0, 0, 0, 1.0]])
"""File indices to RAS mm."""


@dataclass(frozen=True)
class VolumeHabit:
    """One way in which a volume is written.

    Attributes:
        write: writes into a folder and returns the file to be read.
        refused: what the refusal must hold; "" for a file that is read.
        warns: what a warning must hold; "" for a reading without any, None for any.
        axis: as `thinslice.read` takes it.
        as_made: the voxels are those of `hu`.
        simpleitk, nibabel: why this reader has another volume; "" where it must agree.
    """

    write: Callable[[Path], Path]
    refused: str = ""
    warns: str | None = ""
    axis: int | None = None
    as_made: bool = False
    simpleitk: str = ""
    nibabel: str = ""


def hu(dtype: npt.DTypeLike = np.int16) -> npt.NDArray[Any]:
    """Values that differ everywhere and look like HU: (10, 9, 6) along the file's axes."""
    x, y, z = np.indices(SHAPE)
    return (-1000 + 37 * x + 101 * y + 11 * z).astype(dtype)


RAW = (hu() + 1024).astype("u2")
"""The same as a scanner stores it: HU + 1024, unsigned."""
