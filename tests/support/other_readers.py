"""SimpleITK and dcm2niix as witnesses: the same input read by them, and where they disagree with a volume of ours."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError

from thinslice.geometry import LPS_TO_RAS
from thinslice.volume import Volume

POSITION_MM = 2e-3
"""Largest distance of a voxel in two readers: both round what they print."""

MOST_VOXELS = 100_000
"""Voxels that are compared at most."""

LEAST_SHARED = 0.25
"""Share of our voxels that a reader's volume must hold to be a reading of the same slices."""


@dataclass(frozen=True)
class Reading:
    """A volume as another reader has it.

    Attributes:
        voxels: along its own three axes.
        affine_lps: 4 x 4 from its indices to LPS mm.
    """

    voxels: npt.NDArray[Any]
    affine_lps: npt.NDArray[np.float64]


def of_dcm2niix(source: Path, out: Path) -> list[Reading]:
    """Every volume that dcm2niix makes of a folder, its tilt-corrected and evenly spaced copies left out."""
    import dcm2niix

    out.mkdir(parents=True, exist_ok=True)
    # Merging by series (-m n), intensities as they are (-l o), no file of identity (-b n).
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-m", "n", "-l", "o", "-w", "2", "-f", "%s_%2s", "-o", out, source]
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    return [
        of_nibabel(path) for path in sorted(out.glob("*.nii")) if "_Tilt" not in path.name and "_Eq" not in path.name
    ]


def of_nibabel(path: Path) -> Reading:
    """A NIfTI file as nibabel reads it; its single frame where it has several axes of one."""
    image = nibabel.load(path)
    voxels = np.asanyarray(image.dataobj)
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    return Reading(voxels, LPS_TO_RAS @ np.asarray(image.affine, float))


def of_simpleitk(source: Path | Sequence[Path], image_io: str = "") -> Reading:
    """A file, or the files of one series in order, as SimpleITK reads it."""
    import SimpleITK as itk  # noqa: N813

    itk.ProcessObject.GlobalWarningDisplayOff()
    reader = itk.ImageFileReader() if isinstance(source, Path) else itk.ImageSeriesReader()
    if isinstance(source, Path):
        reader.SetFileName(str(source))
    else:
        reader.SetFileNames([str(path) for path in source])
    if image_io:
        reader.SetImageIO(image_io)
    image = reader.Execute()
    while image.GetDimension() > 3:
        image = image[..., 0]
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Reading(itk.GetArrayFromImage(image).transpose(2, 1, 0), affine)


def slices_of_simpleitk(volume: Volume, folder: Path) -> list[Reading]:
    """The slices of our volume as one series of SimpleITK, in their order; none where it cannot read them."""
    of_instance = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with contextlib.suppress(InvalidDicomError):
            of_instance.setdefault(str(pydicom.dcmread(path, stop_before_pixels=True).get("SOPInstanceUID")), path)
    files = [of_instance[str(header.SOPInstanceUID)] for header in volume.provenance.headers]
    with contextlib.suppress(RuntimeError):
        return [of_simpleitk(files, "GDCMImageIO")]
    return []


def disagreement(volume: Volume, reading: Reading) -> str:
    """What distinguishes another reading of the same slices from ours: "" where nothing does.

    Voxels of ours are looked up at their positions in the other volume.
    """
    if reading.voxels.ndim != 3:
        return f"axes {reading.voxels.shape}"
    to_index = np.linalg.inv(reading.affine_lps) @ volume.geometry.affine_lps
    # Of a large volume every so many voxels: a mistake of a reader is not of single ones.
    step = max(1, volume.hu.size // MOST_VOXELS)
    indices = np.column_stack(np.unravel_index(np.arange(0, volume.hu.size, step), volume.hu.shape))
    found = indices @ to_index[:3, :3].T + to_index[:3, 3]
    nearest = np.rint(found).astype(np.int64)
    inside = np.all((nearest >= 0) & (nearest < reading.voxels.shape), axis=1)
    if inside.mean() < LEAST_SHARED:
        return f"only {inside.mean():.0%} of our voxels lie in it"
    apart_mm = np.linalg.norm((found - nearest)[inside] @ reading.affine_lps[:3, :3].T, axis=1).max()
    if apart_mm > POSITION_MM:
        return f"voxels lie {apart_mm:.4f} mm apart"
    theirs = reading.voxels[tuple(nearest[inside].T)].astype(float)
    ours = volume.hu.reshape(-1)[::step][inside].astype(float)
    difference = np.abs(theirs - ours).max()
    if not difference <= 1e-3 * max(1.0, np.abs(ours).max() / 1000):
        return f"values differ by {difference:g}"
    return "" if inside.all() else f"it has {inside.mean():.0%} of our voxels"


def witnessed(volume: Volume, readings: Sequence[Reading]) -> str:
    """ "" where one of several readings agrees with ours in every voxel, else the mildest disagreement."""
    found = [disagreement(volume, reading) for reading in readings]
    if not found:
        return "it reads nothing"
    return "" if "" in found else "; ".join(sorted(set(found)))
