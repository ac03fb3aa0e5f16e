"""What a NIfTI states besides its voxels stays in the thin volume: padding, orientation codes, two orientations."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from thinslice.inference.upscale import upscale
from thinslice.io.files import read, write
from thinslice.io.nifti import read_nifti

AFFINE = np.array([[-0.7, 0, 0, 100.0], [0, -0.7, 0, 80.0], [0, 0, 5.0, -200.0], [0, 0, 0, 1.0]])


def with_circle(padding: float, dtype: str = "<i2") -> np.ndarray:
    """Voxels (x, y, z) between -900 and 100 with padding outside a circle that grows from slice to slice."""
    y, x = np.mgrid[:32, :32]
    data = np.random.default_rng(0).integers(-900, 100, (32, 32, 6)).astype(np.float64)
    for k in range(6):
        data[..., k][(y - 16) ** 2 + (x - 16) ** 2 > (9 + k) ** 2] = padding
    return data.astype(dtype)


@pytest.mark.parametrize(
    ("padding", "dtype"),
    [(-3024, "<i2"), (-2000, "<i2"), (-2048, ">i2"), (-1100, "<i2"), (-32768, "<i2"), (-3024, "<f4"), (-2000.5, "<f8")],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_padding_is_kept_exactly_at_the_nearest_thick_slice(save, tmp_path, padding, dtype, suffix):
    if suffix in (".nrrd", ".mha"):
        pytest.importorskip("SimpleITK")
    source = with_circle(padding, dtype)
    path = save(source, AFFINE)
    if suffix != ".nii":
        write(read(path), tmp_path / f"again{suffix}")
        path = tmp_path / f"again{suffix}"
    thick = read(path)
    assert thick.provenance.padding_hu == padding
    write(upscale(thick, model="linear", factor=5), tmp_path / "thin.nii.gz")
    thin = np.asarray(nibabel.load(tmp_path / "thin.nii.gz").dataobj)
    assert thin.dtype == (np.int16 if float(padding).is_integer() else np.float32)
    for k in range(thin.shape[2]):
        owner = source[..., (2 * k + 5) // 10]
        np.testing.assert_array_equal(thin[..., k] == padding, owner == padding)
        assert thin[..., k][owner != padding].min() >= -1024
    np.testing.assert_array_equal(thin[..., ::5] == padding, source == padding)


def test_padding_that_lost_its_sign_is_found(save):
    volume = read_nifti(save(with_circle(-2000).astype(np.uint16), AFFINE))
    assert volume.provenance.padding_hu == -2000
    assert volume.hu.min() == -2000


def test_low_noise_is_no_padding_and_padding_below_it_is(save):
    data = with_circle(-1000).astype(np.int16)
    noise = np.random.default_rng(1).integers(-1090, -1020, data.shape)
    data = np.where(data == -1000, noise, data).astype(np.int16)
    assert read_nifti(save(data, AFFINE)).provenance.padding_hu is None
    data[:4, :4] = -2000
    assert read_nifti(save(data, AFFINE)).provenance.padding_hu == -2000


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 1), (1, 0), (2, 2), (0, 1), (0, 2), (0, 0), (3, 0)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_codes_of_the_source_stay_and_other_readers_place_both_alike(save, tmp_path, counting, codes, suffix):
    sform, qform = codes
    path = save(counting(), AFFINE, sform=sform, qform=qform)
    thick = read_nifti(path)
    write(upscale(thick, model="linear", factor=5), tmp_path / f"thin{suffix}")
    source, thin = nibabel.load(path), nibabel.load(tmp_path / f"thin{suffix}")
    assert (int(thin.header["sform_code"]), int(thin.header["qform_code"])) == codes
    assert thin.header.get_xyzt_units()[0] == "mm"
    assert thin.header.get_dim_info()[2] == 2
    for k in range(source.shape[2]):
        np.testing.assert_allclose(thin.affine @ [1, 2, 5 * k, 1], source.affine @ [1, 2, k, 1], atol=1e-4)
    itk = pytest.importorskip("SimpleITK")
    first, second = itk.ReadImage(str(path)), itk.ReadImage(str(tmp_path / f"thin{suffix}"))
    for k in range(source.shape[2]):
        assert second.TransformIndexToPhysicalPoint((1, 2, 5 * k)) == pytest.approx(
            first.TransformIndexToPhysicalPoint((1, 2, k)), abs=1e-4
        )


@pytest.mark.parametrize("unit", ["mm", "meter", "micron"])
def test_two_orientations_that_differ_stay_two(save, tmp_path, counting, unit):
    scale = {"mm": 1.0, "meter": 1e-3, "micron": 1e3}[unit]
    turned = np.array([[0, -0.7, 0, 5.0], [0.7, 0, 0, 6.0], [0, 0, 5.0, 7.0], [0, 0, 0, 1.0]])
    size = np.diag([scale, scale, scale, 1.0])

    def second_world(header):
        header.set_sform(size @ AFFINE, code=4)
        header.set_qform(size @ turned, code=1)
        header.set_xyzt_units(unit)

    path = save(counting(), AFFINE, edit=second_world)
    thick = read_nifti(path)
    assert any("the sform was used" in warning for warning in thick.provenance.warnings)
    write(upscale(thick, model="linear", factor=5), tmp_path / "thin.nii")
    header = nibabel.load(tmp_path / "thin.nii").header
    thin_step = np.diag([1, 1, 0.2, 1])
    np.testing.assert_allclose(header.get_sform(coded=True)[0], AFFINE @ thin_step, atol=1e-4)
    np.testing.assert_allclose(header.get_qform(coded=True)[0], turned @ thin_step, atol=1e-4)
    assert (header.get_sform(coded=True)[1], header.get_qform(coded=True)[1]) == (4, 1)


def test_a_volume_moved_after_reading_does_not_lose_its_place(save, tmp_path, counting):
    thick = read_nifti(save(counting(), AFFINE, sform=0, qform=0))
    moved = thick.crop((1, 1, 1), (4, 5, 6))
    write(moved, tmp_path / "moved.nii")
    assert read_nifti(tmp_path / "moved.nii").geometry == moved.geometry


def test_axes_in_another_order_keep_codes_and_padding(save, tmp_path):
    data = with_circle(-3024).transpose(2, 0, 1)
    affine = np.array([[0, -0.7, 0, 10.0], [0, 0, -0.7, 20.0], [5.0, 0, 0, 30.0], [0, 0, 0, 1.0]])
    path = save(data, affine, sform=2, qform=1)
    thick = read_nifti(path)
    assert thick.provenance.file_axes == (0, 2, 1)
    assert thick.provenance.padding_hu == -3024
    write(upscale(thick, model="linear", factor=5), tmp_path / "thin.nii")
    thin = nibabel.load(tmp_path / "thin.nii")
    assert thin.shape == (26, 32, 32)
    assert (int(thin.header["sform_code"]), int(thin.header["qform_code"])) == (2, 1)
    np.testing.assert_array_equal(np.asarray(thin.dataobj)[::5] == -3024, data == -3024)


@pytest.mark.parametrize(("intent", "words"), [(1002, "segmentation"), (5, "statistic"), (0, None)])
def test_an_intent_that_is_no_measurement_is_named(save, counting, intent, words):
    def declare(header):
        header["intent_code"] = intent

    warnings = read_nifti(save(counting(), AFFINE, edit=declare)).provenance.warnings
    assert any(words in warning for warning in warnings) if words else warnings == ()


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_slope_that_means_none_leaves_the_intercept_out_as_nibabel_does_and_says_so(save, counting, slope):
    def scale(header):
        header["scl_slope"], header["scl_inter"] = slope, -1024

    path = save(counting(), AFFINE, edit=scale)
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.hu, np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0))
    assert any("intercept of -1024" in warning for warning in volume.provenance.warnings)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", ">u2", "<i4", "<f4", ">f8", "u1", "i1", "<i8"])
def test_types_and_forms_are_read_as_nibabel_and_simpleitk_read_them(tmp_path: Path, kind, dtype):
    data = (np.arange(120).reshape(6, 5, 4) % 100).astype(dtype)
    header = kind.header_class(endianness=dtype[0] if dtype[0] in "<>" else "<")
    header.set_data_dtype(dtype)
    image = kind(data, AFFINE, header)
    path = tmp_path / ("case.hdr" if kind is nibabel.Nifti1Pair else "case.nii")
    nibabel.save(image, path)
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.hu, np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0))
    np.testing.assert_allclose(volume.geometry.affine_ras[:, [2, 1, 0, 3]], AFFINE, atol=1e-4)
    itk = pytest.importorskip("SimpleITK")
    if kind is not nibabel.Nifti2Image:
        np.testing.assert_array_equal(volume.hu, itk.GetArrayFromImage(itk.ReadImage(str(path))))
