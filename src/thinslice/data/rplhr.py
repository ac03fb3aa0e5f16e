"""RPLHR-CT as released: its files, the meaning of their values, reading and writing.

    <split>/1mm/CT00000000.nii.gz      <split>/5mm/CT00000000.nii.gz      split: train, val, test

Thin slices lie in `1mm`, thick ones in `5mm`, under the same name. Voxels are float32 in [0, 1], not HU. Headers hold
no geometry: spacing 1 along every axis, origin 0. This module adds the known geometry: slices 1 mm and 5 mm apart,
thick slice k centred on thin slice 5 k, unknown in-plane spacing.

Source: paper, section 2.1 (Dataset Description); the release itself for values, headers and names. The published code
reads the files with the last axis of the header as depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import GeometryError, InputError
from thinslice.geometry import Geometry
from thinslice.intensity import to_hu, to_unit
from thinslice.volume import Provenance, Volume

FACTOR = 5
"""Thin slices per thick interval."""

THIN_MM, THICK_MM = 1.0, 5.0
"""Slice distance and thickness, which the headers lack."""

THICK_FOLDER, THIN_FOLDER = "5mm", "1mm"
"""Folders of a split."""

HD_PREFIX = "HD_"
"""Prefix of the folders in the layout without splits: HD_5mm and HD_1mm."""

SPLITS = {"train": range(100), "val": range(100, 150), "test": range(150, 250)}
"""Case numbers of the full release."""

TINY_CASES = {"train": 20, "val": 10, "test": 20}
"""Number of cases in the authors' small set; their case numbers are not documented."""

SUFFIX = ".nii.gz"

UNIT_SLACK = 1e-3
"""Largest distance of a value from [0, 1] that counts as inside."""

CANNOT_BE_UNIT = (-0.5, 1.5)
"""Range outside which values are not unit intensities: HU, most likely."""

_WHOLE_HU = 2e-3
"""Largest rounding error of whole HU that were stored as float32 unit values."""


def case_name(number: int) -> str:
    """The name of a case by its number.

    >>> case_name(149)
    'CT00000149'
    """
    return f"CT{number:08d}"


def depth_axis(thick: Sequence[int], thin: Sequence[int]) -> int:
    """The files' through-plane axis: the only one along which the two files differ.

    Args:
        thick, thin: voxels along the axes 0, 1, 2 of the two files.

    Raises:
        GeometryError: planes of different size, or slice counts that do not match; check the two files.

    >>> depth_axis((512, 512, 40), (512, 512, 196)), depth_axis((40, 512, 512), (196, 512, 512))
    (2, 0)
    """
    differing = [axis for axis in range(3) if thick[axis] != thin[axis]]
    sizes = [" x ".join(map(str, shape)) for shape in (thick, thin)]
    if len(differing) != 1:
        raise GeometryError(
            f"Thick {sizes[0]} and thin {sizes[1]} voxels are no pair: they must differ along exactly one axis, "
            "the through-plane axis."
        )
    axis = differing[0]
    wanted = FACTOR * (thick[axis] - 1) + 1
    if thin[axis] != wanted:
        raise GeometryError(
            f"Thick {sizes[0]} and thin {sizes[1]} voxels are no pair: {thick[axis]} thick slices go with {wanted} "
            f"thin ones, not {thin[axis]}."
        )
    return axis


def file_shape(path: Path) -> tuple[int, int, int]:
    """Voxels along the axes 0, 1, 2 of a NIfTI file, from its header.

    Raises:
        UnreadableError, GeometryError: as `thinslice.io.nifti.scan_nifti`.
    """
    from thinslice.io.nifti import scan_nifti

    geometry, provenance = scan_nifti(path)
    shape = [0, 0, 0]
    for axis, count in zip(provenance.file_axes, geometry.shape, strict=True):
        shape[axis] = count
    return shape[0], shape[1], shape[2]


def read_released(thick_path: Path, thin_path: Path) -> tuple[Volume, Volume]:
    """Read a pair of the release.

    Returns:
        (thick, thin): HU (depth, height, width) of D and 5 (D - 1) + 1 slices on the geometry of the release; int16 for
        whole HU.

    Raises:
        UnreadableError: a file is missing or damaged; download it again.
        GeometryError: the shapes are not those of a pair; check the two files.
        InputError: values that are not finite or cannot be unit intensities.
    """
    axis = depth_axis(file_shape(thick_path), file_shape(thin_path))
    thick = unit_to_hu(read_unit(thick_path, axis))
    thin = unit_to_hu(read_unit(thin_path, axis))
    return (
        Volume(thick.hu, _grid(thick.hu.shape, THICK_MM), thick.provenance),
        Volume(thin.hu, _grid(thin.hu.shape, THIN_MM), thin.provenance),
    )


def read_released_thin(thin_path: Path, thick_path: Path | None = None) -> Volume:
    """Read only the thin slices; without a thick file, the last axis of the file is depth.

    Raises:
        UnreadableError, GeometryError, InputError: as `read_released`.
    """
    axis = 2 if thick_path is None else depth_axis(file_shape(thick_path), file_shape(thin_path))
    thin = unit_to_hu(read_unit(thin_path, axis))
    return Volume(thin.hu, _grid(thin.hu.shape, THIN_MM), thin.provenance)


def read_unit(path: Path, axis: int) -> Volume:
    """Read one file unchanged: unit intensities (depth, height, width), with the file's `axis` as depth.

    `provenance.details["not_finite"]` counts values that are not finite (read as -1024), if there are any.

    Raises:
        UnreadableError, GeometryError, ResourceError: as `thinslice.io.nifti.read_nifti`.
    """
    from thinslice.io.nifti import read_nifti

    return read_nifti(path, axis=axis)


def unit_to_hu(volume: Volume) -> Volume:
    """HU of a volume of unit intensities; int16 where they are whole numbers.

    Raises:
        InputError: values that are not finite or cannot be unit intensities.
    """
    bad = volume.provenance.details.get("not_finite", 0)
    if bad:
        raise InputError(f"{bad} voxels are not finite numbers; download the file again.")
    low, high = float(volume.hu.min()), float(volume.hu.max())
    if low < CANNOT_BE_UNIT[0] or high > CANNOT_BE_UNIT[1]:
        raise InputError(
            f"Values from {low:g} to {high:g} are no unit intensities, as in the released files; "
            "list volumes in HU in a manifest.csv."
        )
    provenance = Provenance(format=volume.provenance.format, file_axes=volume.provenance.file_axes)
    return Volume(_whole(to_hu(volume.hu)), volume.geometry, provenance)


def write_released(volume: Volume, path: Path) -> None:
    """Write HU in the format of the release: unit float32, clamped to [0, 1], a header without geometry.

    Raises:
        OutputExistsError, OutputError, ResourceError: as `thinslice.io.files.write`.
    """
    from thinslice.io.files import write

    unit = np.clip(to_unit(volume.hu), 0.0, 1.0)
    # The grid whose matrix, written for the axes x, y, z of a file, is the identity.
    nothing = Geometry(
        (unit.shape[0], unit.shape[1], unit.shape[2]),
        (1.0, 1.0, 1.0),
        direction=((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
    )
    write(Volume(unit, nothing, Provenance(file_axes=(2, 1, 0))), path)


def _grid(shape: Sequence[int], step_mm: float) -> Geometry:
    depth, height, width = shape
    return Geometry((depth, height, width), (step_mm, None, None), thickness_mm=step_mm)


def _whole(hu: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """int16 where all values are whole numbers up to rounding, else the array itself."""
    whole = np.empty(hu.shape, dtype=np.int16)
    for index, plane in enumerate(hu):
        nearest = np.rint(plane)
        if np.abs(plane - nearest).max() > _WHOLE_HU:
            return hu
        whole[index] = nearest
    return whole
