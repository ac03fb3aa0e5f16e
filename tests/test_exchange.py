"""Volumes go to other packages' image objects and back, with every voxel at its place."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

import thinslice
from thinslice.errors import GeometryError, UsageError
from thinslice.geometry import Geometry
from thinslice.volume import Provenance, Volume

SHAPE = (4, 6, 5)


def volume(axes: tuple[int, int, int] = (2, 1, 0)) -> Volume:
    """Oblique, with a spacing of its own along every axis."""
    turn = np.linalg.qr(np.array([[0.1, 0.2, 0.95], [0.05, 0.97, -0.1], [0.99, -0.1, 0.2]]))[0]
    hu = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    direction = tuple(tuple(float(value) for value in row) for row in turn)
    grid = Geometry(SHAPE, (5.0, 0.8, 0.7), (-12.5, 30.25, 99.0), direction, 5.0)  # type: ignore[arg-type]
    return Volume(hu, grid, Provenance(file_axes=axes))


def packages() -> list[str]:
    return ["nibabel", "sitk", "torchio", "monai"]


def exchanged(thick: Volume, package: str) -> tuple[Any, Volume]:
    if package == "torchio":
        pytest.importorskip("torchio")
    if package == "monai":
        pytest.importorskip("monai")
    foreign = getattr(thick, f"to_{package}")()
    return foreign, getattr(Volume, f"from_{package}")(foreign, thickness_mm=5.0)


@pytest.mark.parametrize("package", packages())
@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_there_and_back_changes_nothing(package: str, axes: tuple[int, int, int]) -> None:
    thick = volume(axes)
    _, back = exchanged(thick, package)
    np.testing.assert_array_equal(back.hu, reordered(thick, back))
    corners = [(0, 0, 0), (3, 0, 0), (0, 5, 0), (0, 0, 4)]
    for corner in corners:
        place = thick.geometry.position_mm(corner)
        at = tuple(round(value) for value in back.geometry.index_at(place))
        np.testing.assert_allclose(back.geometry.position_mm(at), place, atol=1e-4)
        assert back.hu[at] == thick.hu[corner]
    assert back.geometry.spacing_mm[0] == pytest.approx(5.0) and back.geometry.thickness_mm == 5.0


def reordered(thick: Volume, back: Volume) -> np.ndarray:
    """The thick voxels on the axes of `back`, whose height and width may be swapped."""
    return thick.hu if thick.hu.shape == back.hu.shape else thick.hu.transpose(0, 2, 1)


def test_nibabel_and_sitk_place_voxels_where_we_do() -> None:
    thick = volume()
    image, itk = thick.to_nibabel(), thick.to_sitk()
    for index in [(0, 0, 0), (2, 3, 1), (3, 5, 4)]:
        k, j, i = index
        lps = np.array(thick.geometry.position_mm(index))
        np.testing.assert_allclose(image.affine @ [i, j, k, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-9)
        np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint((i, j, k)), lps, atol=1e-9)
        assert np.asanyarray(image.dataobj)[i, j, k] == thick.hu[index] == itk.GetPixel(i, j, k)
    assert image.get_data_dtype() == np.int16


def test_foreign_images_are_upscaled() -> None:
    values = np.zeros((5, 6, 4), np.float32)
    values[..., 2] = 100.5
    image = nibabel.Nifti1Image(values, np.diag([-0.7, -0.7, 5.0, 1.0]))
    thick = Volume.from_nibabel(image)
    assert thick.hu.dtype == np.float32 and thick.shape == (4, 6, 5) and thick.hu[2].max() == 100.5
    thin = thinslice.upscale(thick, model="linear", factor=5)
    assert thin.to_nibabel().shape == (5, 6, 16)
    np.testing.assert_allclose(thin.to_nibabel().affine[:3, 3], image.affine[:3, 3], atol=1e-6)


def test_files_and_objects_agree(tmp_path: Any) -> None:
    thick = volume()
    nibabel.save(thick.to_nibabel(), tmp_path / "thick.nii.gz")
    SimpleITK.WriteImage(thick.to_sitk(), str(tmp_path / "itk.nii.gz"))
    for name in ("thick.nii.gz", "itk.nii.gz"):
        read = thinslice.read(tmp_path / name)
        np.testing.assert_array_equal(read.hu, thick.hu)
        np.testing.assert_allclose(read.geometry.affine_lps, thick.geometry.affine_lps, atol=1e-4)


def test_the_axis_across_the_slices_can_be_named() -> None:
    cube = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4))
    with_guess = Volume.from_nibabel(cube)
    assert with_guess.provenance.warnings and with_guess.shape == (5, 4, 3)
    assert Volume.from_nibabel(cube, axis=0).shape == (3, 5, 4)


def test_what_is_no_volume_is_refused() -> None:
    with pytest.raises(GeometryError, match="one 3D volume"):
        Volume.from_nibabel(nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), np.eye(4)))
    with pytest.raises(GeometryError, match="give one 3D"):
        Volume.from_sitk(SimpleITK.Image([4, 4], SimpleITK.sitkInt16))
    with pytest.raises(UsageError, match=r"Volume\.from_array"):
        Volume.from_nibabel(np.zeros((3, 4, 5)))
    sheared = np.diag([1.0, 1.0, 5.0, 1.0])
    sheared[0, 2] = 0.8
    with pytest.raises(GeometryError, match="right angles .*read that with on_tilt='resample'"):
        Volume.from_nibabel(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), sheared))


@pytest.mark.parametrize(
    ("made", "maker"),
    [
        (np.zeros((3, 4, 5)), "from_array"),
        (nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), "from_nibabel"),
        (SimpleITK.Image([4, 4, 4], SimpleITK.sitkInt16), "from_sitk"),
        (7, "from_array"),
    ],
)
def test_upscale_names_what_makes_a_volume(made: object, maker: str) -> None:
    with pytest.raises(UsageError, match=maker):
        thinslice.upscale(made)  # type: ignore[arg-type]


def test_a_napari_layer_lies_where_the_voxels_lie() -> None:
    """By napari itself where it is installed: its world is (-z, y, x)."""
    thick = volume()
    hu, settings, kind = thick.to_napari("thick")
    assert kind == "image" and hu is thick.hu and settings["name"] == "thick"
    for index in [(0, 0, 0), (3, 5, 4), (2, 0, 1)]:
        x, y, z = thick.geometry.position_mm(index)
        np.testing.assert_allclose((settings["affine"] @ (*index, 1.0))[:3], (-z, y, x), atol=1e-9)
    layers = pytest.importorskip("napari.layers")
    layer = layers.Layer.create(hu, settings, kind)
    x, y, z = thick.geometry.position_mm((3, 5, 4))
    np.testing.assert_allclose(layer.data_to_world((3, 5, 4)), (-z, y, x), atol=1e-6)
