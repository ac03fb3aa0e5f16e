"""NIfTI that is damaged, hostile or odd: corrected with a warning, or refused before memory is taken."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinslice.errors import GeometryError, InputError, ResourceError, UnreadableError
from thinslice.io import gzip_stream, hu_collector
from thinslice.io.files import write
from thinslice.io.nifti import read_nifti

AFFINE = np.diag([-0.7, -0.7, 5.0, 1.0])


def test_qform_against_sform_is_read_by_the_sform_with_a_warning(save, counting):
    def shift(header):
        header["qoffset_x"] += 12.5

    volume = read_nifti(save(counting(), edit=shift))
    assert any("12.5 mm" in warning and "sform" in warning for warning in volume.provenance.warnings)
    assert volume.geometry.origin_mm == (0.0, 0.0, 0.0)


def test_nan_and_infinity_become_air_with_a_count(save, counting):
    data = counting(dtype=np.float32)
    data[1, 2, 3], data[0, 0, 0], data[5, 4, 3] = np.nan, np.inf, -np.inf
    volume = read_nifti(save(data))
    assert volume.hu.dtype == np.int16
    assert volume.hu[3, 2, 1] == volume.hu[0, 0, 0] == volume.hu[3, 4, 5] == -1024
    assert any(warning.startswith("3 voxels") for warning in volume.provenance.warnings)


def test_signed_values_stored_as_unsigned_get_their_sign_back(save, counting):
    data = counting()
    volume = read_nifti(save(data.astype(np.uint16)))
    np.testing.assert_array_equal(volume.hu, data.transpose(2, 1, 0))
    assert any("sign" in warning for warning in volume.provenance.warnings)


def test_values_beyond_16_bits_are_kept_as_floats_with_a_warning(save, counting):
    data = counting(dtype=np.uint16) % 1000
    data[0, 0, 0] = 40000
    data[0, 0, 1] = 64000
    volume = read_nifti(save(data))
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, data.transpose(2, 1, 0))
    assert any("16 bits" in warning for warning in volume.provenance.warnings)


def test_unit_intensity_is_left_alone_and_named(save):
    data = np.linspace(0, 1, 120, dtype=np.float32).reshape(6, 5, 4)
    volume = read_nifti(save(data, np.eye(4)), axis=2)
    np.testing.assert_array_equal(volume.hu, data.transpose(2, 1, 0))
    assert volume.provenance.details["unit_range"] is True
    assert any("intensity=" in warning for warning in volume.provenance.warnings)


@pytest.mark.parametrize(
    ("column", "row", "step", "words"),
    [
        (2, 1, 1.0, "on_tilt='resample'"),  # slices of a tilted gantry
        (1, 0, 0.3, "no gantry tilt"),  # rows and columns that are not at right angles
        (2, 1, 6.0, "no gantry tilt"),  # more than any gantry tilts
    ],
)
def test_shear_is_refused(save, counting, column, row, step, words):
    sheared = AFFINE.copy()
    sheared[row, column] = step
    with pytest.raises(GeometryError, match=words):
        read_nifti(save(counting(), sheared, qform=0), axis=2)


def test_four_axes_are_squeezed_or_refused(save, counting):
    data = counting()
    np.testing.assert_array_equal(read_nifti(save(data[..., None])).hu, data.transpose(2, 1, 0))
    with pytest.raises(UnreadableError, match="4 axes"):
        read_nifti(save(np.stack([data, data], axis=-1)))


def colour(header):
    header["datatype"], header["bitpix"] = 128, 24


def complex_numbers(header):
    header["datatype"], header["bitpix"] = 32, 64


def huge(header):
    header["dim"][1:4] = 32767


def large(header):
    header["dim"][1:4] = 1500


def negative(header):
    header["dim"][2] = -5


def no_axes(header):
    header["dim"][0] = 0


def far_offset(header):
    header["vox_offset"] = 1e12


def nan_offset(header):
    header["vox_offset"] = np.nan


def infinite_slope(header):
    header["scl_slope"] = np.inf


@pytest.mark.parametrize(
    "edit",
    [
        colour,
        complex_numbers,
        huge,
        large,
        negative,
        no_axes,
        far_offset,
        nan_offset,
        infinite_slope,
    ],
)
@pytest.mark.parametrize("name", ["case.nii", "case.nii.gz"])
def test_impossible_headers_are_refused_before_memory_is_taken(save, edit, name, monkeypatch, counting):
    def never(*_args, **_kwargs):
        raise AssertionError("memory was taken")

    path = save(counting(), edit=edit, name=name)
    monkeypatch.setattr(hu_collector.np, "empty", never)
    with pytest.raises(UnreadableError, match="case"):
        read_nifti(path)


def nan_sform(header):
    header["srow_x"][0] = np.nan


def zero_sform(header):
    header["srow_z"] = 0


def absurd_sform(header):
    header["srow_z"][2] = 1e9


@pytest.mark.parametrize("edit", [nan_sform, zero_sform, absurd_sform])
def test_orientations_that_are_no_grid_are_refused(save, edit, counting):
    with pytest.raises(GeometryError):
        read_nifti(save(counting(), edit=edit, qform=0))


@pytest.mark.parametrize("edit", [nan_sform, zero_sform])
@pytest.mark.parametrize("name", ["case.nii", "case.nii.gz"])
def test_a_useless_sform_beside_a_good_qform_is_passed_over_as_simpleitk_does(save, edit, name, counting, tmp_path):
    affine = AFFINE.copy()
    affine[:3, 3] = 10.0, -20.0, 30.0
    path = save(counting(), affine, edit=edit, name=name)
    volume = read_nifti(path)
    assert any("its qform was used" in warning for warning in volume.provenance.warnings)
    assert volume.geometry.origin_mm == pytest.approx((-10.0, 20.0, 30.0))
    assert volume.geometry.spacing_mm == pytest.approx((5.0, 0.7, 0.7))
    itk = pytest.importorskip("SimpleITK")
    if edit is zero_sform:
        image = itk.ReadImage(str(path))
        assert image.GetOrigin() == pytest.approx(volume.geometry.origin_mm)
        assert image.GetSpacing() == pytest.approx(volume.geometry.spacing_mm[::-1])
    write(volume, tmp_path / "thin.nii")
    header = nibabel.load(tmp_path / "thin.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 1)
    np.testing.assert_allclose(header.get_best_affine(), affine, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_spacing_that_is_zero_or_not_finite_is_refused(save, value, counting):
    def spoil(header):
        header["pixdim"][3] = value

    with pytest.raises(GeometryError, match="spacing"):
        read_nifti(save(counting(), edit=spoil, sform=0))
    # With a sound sform the spacing beside it does not matter.
    assert read_nifti(save(counting(), edit=spoil)).geometry.spacing_mm[0] == pytest.approx(5.0)


def test_a_negative_spacing_is_taken_as_positive_with_a_warning(save, counting):
    def flip(header):
        header["pixdim"][3] = -5.0

    volume = read_nifti(save(counting(), edit=flip, sform=0, qform=0))
    assert volume.geometry.spacing_mm[0] == 5.0
    assert any("negative" in warning for warning in volume.provenance.warnings)


def test_a_quaternion_that_is_no_rotation_is_refused_or_passed_over(save, counting):
    def spoil(header):
        header["quatern_b"] = 3.0

    with pytest.raises(GeometryError, match="qform"):
        read_nifti(save(counting(), edit=spoil, sform=0))
    volume = read_nifti(save(counting(), edit=spoil))
    assert any("qform" in warning for warning in volume.provenance.warnings)


def test_metres_are_converted(save, counting):
    affine = np.diag([0.7e-3, 0.7e-3, 5e-3, 1.0])
    volume = read_nifti(save(counting(), affine, edit=lambda header: header.set_xyzt_units("meter")))
    assert volume.geometry.spacing_mm == pytest.approx((5.0, 0.7, 0.7))
    assert volume.provenance.warnings


@pytest.mark.parametrize("name", ["case.nii", "case.nii.gz"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(save, name, keep):
    numbers = np.random.default_rng(0)
    path = save(numbers.integers(-1000, 1000, (40, 30, 20), dtype=np.int16), name=name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(UnreadableError, match=r"cut short|damaged|not NIfTI"):
        read_nifti(path)


def test_sound_gzip_that_holds_less_than_its_header_declares_is_refused(save, counting):
    path = save(counting(), name="case.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-10]))
    with pytest.raises(UnreadableError, match="cut short"):
        read_nifti(path)


def test_a_flipped_bit_in_gzip_is_noticed(save):
    numbers = np.random.default_rng(0)
    path = save(numbers.integers(-1000, 1000, (40, 30, 20), dtype=np.int16), name="case.nii.gz")
    content = bytearray(path.read_bytes())
    content[-3000] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match="damaged"):
        read_nifti(path)


@pytest.mark.parametrize("tail", [b"\n", b"garbage", bytes(512), b"x" * 100_000])
def test_bytes_after_a_gzip_stream_are_ignored_as_gzip_does_and_its_checksum_is_verified(save, counting, tail):
    path = save(counting(), name="case.nii.gz")
    content = path.read_bytes()
    path.write_bytes(content + tail)
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.hu, counting().transpose(2, 1, 0))
    # Zeros are padding of tapes, and no data.
    assert any("follow the voxels" in warning for warning in volume.provenance.warnings) == (tail.strip(b"\0") != b"")
    broken = bytearray(content)
    broken[-6] ^= 1  # in the checksum
    path.write_bytes(bytes(broken) + tail)
    with pytest.raises(UnreadableError, match="damaged"):
        read_nifti(path)


def test_voxels_in_several_gzip_members_are_read(save, counting):
    path = save(counting(), name="case.nii.gz")
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]))
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.hu, counting().transpose(2, 1, 0))
    assert volume.provenance.warnings == ()


def test_a_plain_file_that_goes_on_is_read_with_a_warning(save, counting):
    path = save(counting())
    path.write_bytes(path.read_bytes() + bytes(40))
    assert any(warning.startswith("40 bytes follow") for warning in read_nifti(path).provenance.warnings)


def test_a_gzip_bomb_is_refused_without_being_followed(save, tmp_path, monkeypatch, counting):
    plain = save(counting()).read_bytes()
    bomb = tmp_path / "bomb.nii.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(plain)
        for _ in range(200):
            file.write(bytes(1 << 20))
    monkeypatch.setattr(gzip_stream, "MAX_TRAILING_BYTES", 4 << 20)
    seen = []
    follow = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: seen.append(size) or follow(self, size))
    with pytest.raises(UnreadableError, match="far beyond"):
        read_nifti(bomb)
    assert sum(seen) < 8 << 20


def test_a_bomb_that_keeps_to_its_header_is_refused_by_its_ratio(save, tmp_path, counting):
    def huge(header):
        header["dim"][1:4] = 1024, 1024, 1024

    head = save(counting(), edit=huge).read_bytes()[:352]
    bomb = tmp_path / "bomb.nii.gz"
    zeros = gzip.compress(bytes(64 << 20), 9)
    # 2 GiB in 2 MiB, as 32 members of 64 MiB each.
    bomb.write_bytes(gzip.compress(head) + zeros * 32)
    with pytest.raises(UnreadableError, match="hostile"):
        read_nifti(bomb)


def test_a_volume_that_memory_does_not_hold_is_refused_before_it_is_read(save, monkeypatch):
    from thinslice.system import resources

    path = save(np.zeros((64, 64, 64), np.int16))
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 1 << 10)
    with pytest.raises(ResourceError, match="GiB"):
        read_nifti(path)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_damage_to_a_header_brings_anything_but_a_refusal(data, tmp_path_factory, counting):
    folder = tmp_path_factory.getbasetemp()
    good = folder / "fuzz-good.nii"
    if not good.exists():
        nibabel.save(nibabel.Nifti1Image(counting(), AFFINE), good)
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, 351))] = data.draw(st.integers(0, 255))
    bad = folder / "fuzz-bad.nii"
    bad.write_bytes(content)
    try:
        volume = read_nifti(bad)
    except (InputError, ResourceError):
        return
    assert volume.hu.shape == volume.geometry.shape
