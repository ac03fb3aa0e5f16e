"""The readers of untrusted files, each beside an independent reader of the same format."""

from __future__ import annotations

import contextlib
import math
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import seeds
from mutations import TEXT, Mutation, edit_element, edit_weights_header

import thinslice
from thinslice.continuity import continuity_warnings
from thinslice.errors import InputError
from thinslice.file_grid import affine_in_file_order
from thinslice.plausibility import examine
from thinslice.volume import Volume


@dataclass(frozen=True)
class Reading:
    """What a reader made of its input.

    Attributes:
        values: voxels in the file's axis order, the output of a network on a fixed input, or the content as text.
        grid: numbers that place the voxels: the corners of the grid in mm.
        warnings: what the reader remarked on.
    """

    values: Any
    grid: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()

    def equals(self, other: Reading, tolerance: float = 1e-3) -> bool:
        """Whether both hold the same content, up to `tolerance` in value (HU) and place (mm)."""
        if isinstance(self.values, str) or isinstance(other.values, str):
            return bool(self.values == other.values)
        return (
            self.values.shape == other.values.shape
            and np.allclose(self.values, other.values, rtol=0, atol=tolerance, equal_nan=True)
            and len(self.grid) == len(other.grid)
            and np.allclose(self.grid, other.grid, rtol=1e-6, atol=1e-3)
        )


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        seeds: its valid inputs.
        read: the reader of the package.
        oracle: an independent reader, or a plain one of the same library; raises what it likes. Where it agrees with
            a changed content, the input is a valid file of another content, which no reader can know.
        kinds: damage that suits the format, beside that of any file, and how often it is done.
    """

    seeds: Callable[[], list[seeds.Seed]]
    read: Callable[[Path], Reading]
    oracle: Callable[[Path], Reading]
    kinds: Mapping[Mutation, float] = field(default_factory=dict)


def _corners(affine: npt.NDArray[np.float64], shape: tuple[int, ...]) -> tuple[float, ...]:
    """LPS positions of the first voxel and of the last one along each axis."""
    ends = [np.zeros(3), *(np.eye(3)[axis] * (shape[axis] - 1) for axis in range(3))]
    return tuple(float(v) for end in ends for v in affine[:3, :3] @ end + affine[:3, 3])


def _in_file_order(volume: Volume) -> Reading:
    axes = volume.provenance.file_axes
    affine, shape = affine_in_file_order(volume.geometry, axes, world="LPS")
    values = volume.hu.transpose(np.argsort(axes)).astype(np.float64)
    return Reading(values, _corners(affine, shape), volume.provenance.warnings)


def read_volume(path: Path) -> Reading:
    """The package's reader for volumes, DICOM too, with the remarks on the voxels that every run makes.

    `inspect` looks at the same input first.
    """
    from thinslice.commands.inspect import survey

    with contextlib.suppress(InputError):
        survey(path)
    volume = thinslice.read(path)
    voxels = examine(volume.hu, padding=volume.provenance.padding_hu)
    if voxels.is_refused:
        raise InputError(voxels.sentence() or "")
    remarks = [*filter(None, [voxels.sentence()]), *continuity_warnings(volume.hu)]
    found = _in_file_order(volume)
    if volume.provenance.format == "dicom":
        corners = _corners(volume.geometry.affine_lps, volume.geometry.shape)
        found = Reading(volume.hu.astype(np.float64), corners, volume.provenance.warnings)
    return replace(found, warnings=(*found.warnings, *remarks))


def dicom_oracle(path: Path) -> Reading:
    """Every file by pydicom alone, sorted along the normal; no choice, no check."""
    import pydicom

    if path.is_dir():
        datasets = [pydicom.dcmread(each) for each in sorted(path.iterdir())]
    else:
        datasets = _unpacked(path)
    first = datasets[0]
    if "PerFrameFunctionalGroupsSequence" in first:
        return _enhanced_oracle(first)
    cosines = np.array(first.ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    datasets.sort(key=lambda each: float(np.dot(normal, np.array(each.ImagePositionPatient, float))))
    hu = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in datasets])
    places = np.array([d.ImagePositionPatient for d in datasets], float)
    spacing = [float(v) for v in first.PixelSpacing]
    return Reading(hu, _placed(hu, places, cosines, spacing))


def _placed(
    hu: npt.NDArray[np.float64], places: npt.NDArray[np.float64], cosines: npt.NDArray[np.float64], spacing: list[float]
) -> tuple[float, ...]:
    affine = np.eye(4)
    affine[:3, 0] = (places[-1] - places[0]) / max(1, len(places) - 1)
    affine[:3, 1], affine[:3, 2] = cosines[3:] * spacing[0], cosines[:3] * spacing[1]
    affine[:3, 3] = places[0]
    return _corners(affine, hu.shape)


def _enhanced_oracle(dataset: Any) -> Reading:
    shared, frames = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence
    transform = shared.PixelValueTransformationSequence[0]
    hu = dataset.pixel_array * float(transform.RescaleSlope) + float(transform.RescaleIntercept)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    places = np.array([f.PlanePositionSequence[0].ImagePositionPatient for f in frames], float)
    order = np.argsort(places @ np.cross(cosines[:3], cosines[3:]))
    spacing = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    return Reading(hu[order], _placed(hu, places[order], cosines, spacing))


def _unpacked(path: Path) -> list[Any]:
    import io
    import tarfile

    import pydicom

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as store:
            return [pydicom.dcmread(io.BytesIO(store.read(each))) for each in store.infolist()]
    with tarfile.open(path) as tape:
        return [pydicom.dcmread(tape.extractfile(each)) for each in tape.getmembers()]


def nifti_oracle(path: Path) -> Reading:
    """Voxels and matrix by nibabel."""
    import nibabel

    loaded = nibabel.load(path)
    values = loaded.get_fdata(dtype=np.float64)
    values = values.reshape(values.shape[:3] + (1,) * (3 - values.ndim))
    values[~np.isfinite(values)] = -1024
    return Reading(values, _corners(np.diag([-1.0, -1.0, 1.0, 1.0]) @ loaded.affine, values.shape))


def itk_oracle(path: Path) -> Reading:
    """Voxels and matrix by SimpleITK; its checks are all that it has."""
    import SimpleITK

    loaded = SimpleITK.ReadImage(str(path))
    if loaded.GetDimension() == 4:
        loaded = loaded[:, :, :, 0]
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(loaded.GetDirection(), (3, 3)) * np.asarray(loaded.GetSpacing())
    affine[:3, 3] = loaded.GetOrigin()
    values = SimpleITK.GetArrayFromImage(loaded).astype(np.float64).T
    values[~np.isfinite(values)] = -1024
    return Reading(values, _corners(affine, values.shape))


def read_weights(path: Path) -> Reading:
    """The output of the network on a fixed input: it depends on every weight and on the config."""
    import torch

    network = thinslice.load_model(str(path))
    with torch.inference_mode():
        made = network(torch.linspace(0, 1, 2 * 8 * 8).reshape(1, 1, 2, 8, 8))
    return Reading(made.numpy().astype(np.float64))


def weights_oracle(path: Path) -> Reading:
    """None: nobody else builds the network."""
    raise NotImplementedError(path)


def read_recipe(path: Path) -> Reading:
    """A recipe with the network that it describes, or a suite."""
    from thinslice.recipes import read_train_recipe
    from thinslice.recipes.gap import read_any_suite

    if b"[[methods]]" in path.read_bytes() or b"[[method]]" in path.read_bytes():
        return Reading(read_any_suite(path).model_dump_json())
    return Reading(read_train_recipe(path).model_dump_json())


def recipe_oracle(path: Path) -> Reading:
    """The same reading again: text has no voxels, and whatever fits its schema is another recipe."""
    tomllib.loads(path.read_text(encoding="utf-8"))
    return read_recipe(path)


def read_card(path: Path) -> Reading:
    """A slice profile, else a leaderboard."""
    from thinslice.experiments.benchmark.leaderboard import read_leaderboard
    from thinslice.recipes.slice_profile import read_slice_profile

    if b"offsets_mm" in path.read_bytes():
        profile = read_slice_profile(path)
        if not math.isfinite(profile.width_mm):
            raise ArithmeticError("the width of a profile is not finite")
        return Reading(profile.model_dump_json())
    return Reading(read_leaderboard(path).model_dump_json())


READERS: dict[str, Reader] = {
    "dicom": Reader(seeds.dicom, read_volume, dicom_oracle, {edit_element: 9.0}),
    "archive": Reader(seeds.archive, read_volume, dicom_oracle),
    "nifti": Reader(seeds.nifti, read_volume, nifti_oracle),
    "nifti-gz": Reader(seeds.nifti_gz, read_volume, nifti_oracle),
    "nrrd": Reader(seeds.nrrd, read_volume, itk_oracle),
    "metaimage": Reader(seeds.metaimage, read_volume, itk_oracle),
    "weights": Reader(seeds.weights, read_weights, weights_oracle, {edit_weights_header: 9.0}),
    "recipes": Reader(seeds.recipes, read_recipe, recipe_oracle, TEXT),
    "cards": Reader(seeds.cards, read_card, read_card, TEXT),
}
"""Readers by the name that the scripts take."""
