"""Voxels and grid of other packages' image objects, and back: nibabel, SimpleITK, TorchIO, MONAI; layers of napari.

Every function works on (depth, height, width) HU and a `Geometry`; `thinslice.volume.Volume` has the methods that users
call. The packages are imported when one of their objects is made; reading one needs no import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.arguments import refuse
from thinslice.errors import GeometryError, MissingExtraError
from thinslice.file_grid import (
    FileAxes,
    affine_in_file_order,
    ambiguity_warning,
    check_spacing,
    choose_axes,
    geometry_from_affine,
    tilt_degrees,
    zyx_order,
)
from thinslice.geometry import LPS_TO_RAS, Geometry
from thinslice.typing import Doubles

SOFT_TISSUE_HU = (-160.0, 240.0)
"""Limits of the greys of a layer at first: the soft tissue window, 40 / 400."""


@dataclass(frozen=True)
class Exchanged:
    """An image object of another package.

    Attributes:
        values: (depth, height, width), as stored there, scaled.
        geometry: the grid.
        file_axes: the object's axis for depth, height and width.
        warnings: sentences.
        details: facts for the provenance.
    """

    values: npt.NDArray[Any]
    geometry: Geometry
    file_axes: FileAxes
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def from_nibabel(image: Any, axis: int | None = None) -> Exchanged:
    """A nibabel image, any affine in RAS mm; values scaled by its slope and intercept.

    Args:
        image: with `dataobj` and `affine`.
        axis: the image's axis across the slices, where its spacings do not show it.

    Raises:
        GeometryError: not three axes, sheared axes or impossible spacings; resample it first.
        ArgumentTypeError: not a nibabel image; give one.
        UsageError: no such axis; name 0, 1 or 2.
    """
    _require(image, ("dataobj", "affine"), "a nibabel image")
    return _from_xyz(np.asanyarray(image.dataobj), LPS_TO_RAS @ np.asarray(image.affine, dtype=float), axis)


def from_sitk(image: Any, axis: int | None = None) -> Exchanged:
    """A SimpleITK image, whose space is LPS mm; arguments and errors as `from_nibabel`."""
    _require(image, ("GetSpacing", "GetDirection", "GetOrigin"), "a SimpleITK image")
    itk = _package("SimpleITK", "the itk extra")
    dimensions = image.GetDimension()
    if dimensions != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise GeometryError(f"The image has {dimensions} axes and several values a voxel at most; give one 3D volume.")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    # SimpleITK's arrays run z, y, x.
    return _from_xyz(itk.GetArrayFromImage(image).transpose(2, 1, 0), affine, axis)


def from_torchio(image: Any, axis: int | None = None) -> Exchanged:
    """A TorchIO image of one channel, whose affine is RAS mm; arguments and errors as `from_nibabel`."""
    _require(image, ("data", "affine"), "a TorchIO image")
    return _from_xyz(_one_channel(image.data), LPS_TO_RAS @ np.asarray(image.affine, dtype=float), axis)


def from_monai(tensor: Any, axis: int | None = None) -> Exchanged:
    """A MONAI MetaTensor, (x, y, z) or (1, x, y, z); its affine is RAS mm unless its meta data state LPS.

    Arguments and errors as `from_nibabel`.
    """
    _require(tensor, ("affine", "meta"), "a MONAI MetaTensor")
    affine = np.asarray(tensor.affine, dtype=float)
    is_lps = str(tensor.meta.get("space", "RAS")).upper() == "LPS"
    return _from_xyz(_one_channel(tensor), affine if is_lps else LPS_TO_RAS @ affine, axis)


def to_nibabel(hu: npt.NDArray[Any], geometry: Geometry, axes: FileAxes) -> Any:
    """A nibabel Nifti1Image; its sform and qform hold the grid.

    Args:
        hu: (depth, height, width).
        geometry: its grid.
        axes: the image's axis for depth, height and width.
    """
    nibabel = _package("nibabel", "nibabel")
    affine, _ = affine_in_file_order(geometry, axes, world="RAS")
    image = nibabel.Nifti1Image(_to_xyz(hu, axes), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    return image


def to_sitk(hu: npt.NDArray[Any], geometry: Geometry, axes: FileAxes) -> Any:
    """A SimpleITK image; arguments as `to_nibabel`.

    Raises:
        MissingExtraError: SimpleITK is not installed; install the itk extra.
    """
    itk = _package("SimpleITK", "the itk extra")
    affine, _ = affine_in_file_order(geometry, axes, world="LPS")
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    image = itk.GetImageFromArray(np.ascontiguousarray(_to_xyz(hu, axes).transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def to_torchio(hu: npt.NDArray[Any], geometry: Geometry, axes: FileAxes) -> Any:
    """A TorchIO ScalarImage; arguments as `to_nibabel`.

    Raises:
        MissingExtraError: TorchIO is not installed.
    """
    torchio = _package("torchio", "torchio")
    affine, _ = affine_in_file_order(geometry, axes, world="RAS")
    return torchio.ScalarImage(tensor=np.ascontiguousarray(_to_xyz(hu, axes))[None], affine=affine)


def to_monai(hu: npt.NDArray[Any], geometry: Geometry, axes: FileAxes) -> Any:
    """A MONAI MetaTensor (1, x, y, z) in RAS; arguments as `to_nibabel`.

    Raises:
        MissingExtraError: MONAI is not installed.
    """
    data = _package("monai.data", "monai")
    affine, _ = affine_in_file_order(geometry, axes, world="RAS")
    return data.MetaTensor(np.ascontiguousarray(_to_xyz(hu, axes))[None], affine=affine, meta={"space": "RAS"})


def to_napari(hu: npt.NDArray[Any], geometry: Geometry, name: str) -> tuple[npt.NDArray[Any], dict[str, Any], str]:
    """A napari image layer, as `napari.layers.Layer.create` and `Viewer.add_layer` of plug-ins take it.

    Its world is (-z, y, x) in LPS mm, in which napari shows a head upwards in coronal and sagittal planes and layers of
    other spacing at their place. The package itself is not needed.

    Args:
        hu: (depth, height, width).
        geometry: its grid.
        name: of the layer.
    """
    world = np.diag([-1.0, 1.0, 1.0, 1.0]) @ geometry.affine_lps[[2, 1, 0, 3]]
    low, high = SOFT_TISSUE_HU
    settings = {"name": name, "affine": world, "colormap": "gray", "contrast_limits": (low, high), "units": "mm"}
    return hu, settings, "image"


def _from_xyz(values: npt.NDArray[Any], affine_lps: Doubles, axis: int | None) -> Exchanged:
    """Voxels [axis 0, axis 1, axis 2] of an object, with its index-to-LPS matrix."""
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3 or values.dtype.kind not in "iuf":
        raise GeometryError(f"The object holds {values.shape} {values.dtype} values; give one 3D volume of numbers.")
    axes, is_guess = choose_axes(check_spacing(affine_lps, "the object").tolist(), axis=axis)
    tilt_degrees(affine_lps, axes, "the object", remedy="save it as NIfTI and read that with on_tilt='resample'")
    return Exchanged(
        values=values.transpose(axes),
        geometry=geometry_from_affine(affine_lps, values.shape, axes),
        file_axes=axes,
        warnings=(ambiguity_warning(axes),) if is_guess else (),
        details={"axis_ambiguous": True} if is_guess else {},
    )


def _to_xyz(hu: npt.NDArray[Any], axes: FileAxes) -> npt.NDArray[Any]:
    return hu.transpose(zyx_order(axes)).transpose(2, 1, 0)


def _one_channel(values: Any) -> npt.NDArray[Any]:
    """(x, y, z) of a tensor (x, y, z) or (1, x, y, z)."""
    array = np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise GeometryError(f"The tensor has the shape {array.shape}; give one channel, (1, x, y, z).")
    return array


def _require(value: Any, names: Sequence[str], kind: str) -> None:
    if not all(hasattr(value, name) for name in names):
        refuse("tensor" if "Tensor" in kind else "image", value, f"{kind}; thinslice.Volume.from_array takes an array")


def _package(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"{name.partition('.')[0]} is not installed; install {extra}.") from error
