"""NIfTI: the same world coordinates and HU after writing and reading, and every broken header refused in words."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from thinslice.errors import UnreadableError, UsageError
from thinslice.geometry import LPS_TO_RAS, POSITION_TOLERANCE_MM, Geometry
from thinslice.io import hu_collector
from thinslice.io.files import write
from thinslice.io.nifti import read_nifti, scan_nifti
from thinslice.volume import Provenance, Volume


def corners(geometry: Geometry):
    return [np.array(geometry.position_mm(index)) for index in itertools.product(*[(0, n - 1) for n in geometry.shape])]


@st.composite
def volumes(draw):
    """Any axis order, any flips, any rotation: also left-handed."""
    shape = draw(st.tuples(*[st.integers(1, 5)] * 3))
    flips = np.diag(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))
    order = list(draw(st.permutations(range(3))))
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    if draw(st.booleans()):
        rotation = np.eye(3)
    direction = (rotation @ flips)[:, order]
    in_plane = draw(st.floats(0.2, 1.5))
    geometry = Geometry(
        shape=shape,
        spacing_mm=(draw(st.floats(2.0, 10.0)), in_plane, in_plane),
        origin_mm=draw(st.tuples(*[st.floats(-1000, 1000)] * 3)),
        direction=tuple(map(tuple, direction)),
    )
    axes = draw(st.sampled_from([(2, 1, 0), (1, 2, 0), (0, 2, 1)]))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        hu = numbers.integers(-32768, 32768, shape, dtype=np.int16)
    else:
        hu = numbers.normal(0, 500, shape).astype(np.float32)
    return Volume(hu, geometry, Provenance(file_axes=axes))


@settings(max_examples=60, deadline=None)
@given(volume=volumes(), suffix=st.sampled_from([".nii", ".nii.gz"]))
def test_a_file_written_and_read_again_lies_where_it_lay(volume, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("law") / f"case{suffix}"
    write(volume, path)
    again = read_nifti(path)
    assert scan_nifti(path)[0] == again.geometry

    assert again.hu.dtype == volume.hu.dtype
    np.testing.assert_array_equal(again.hu, volume.hu)
    assert again.provenance.file_axes == volume.provenance.file_axes
    assert not again.provenance.warnings
    for before, after in zip(corners(volume.geometry), corners(again.geometry), strict=True):
        assert np.abs(before - after).max() <= POSITION_TOLERANCE_MM


@settings(max_examples=40, deadline=None)
@given(volume=volumes())
def test_nibabel_and_simpleitk_see_the_same_positions_and_values(volume, tmp_path_factory):
    itk = pytest.importorskip("SimpleITK")
    path = tmp_path_factory.mktemp("others") / "case.nii.gz"
    write(volume, path)
    axes = volume.provenance.file_axes
    ours = nibabel.load(path)
    theirs = itk.ReadImage(str(path))
    ours_zyx = np.asarray(ours.dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(ours_zyx, itk.GetArrayFromImage(theirs))
    for index in itertools.product(*[(0, n - 1) for n in volume.geometry.shape]):
        file_index = [0, 0, 0]
        for value, axis in zip(index, axes, strict=True):
            file_index[axis] = value
        want = np.array(volume.geometry.position_mm(index))
        by_nibabel = (LPS_TO_RAS @ ours.affine @ np.array([*file_index, 1.0]))[:3]
        by_itk = np.array(theirs.TransformIndexToPhysicalPoint(file_index))
        assert np.abs(by_nibabel - want).max() <= POSITION_TOLERANCE_MM
        assert np.abs(by_itk - want).max() <= POSITION_TOLERANCE_MM
        assert ours_zyx[file_index[2], file_index[1], file_index[0]] == volume.hu[index]


@pytest.mark.parametrize("degrees", [0.0, 0.0006, 0.02, 0.06, 0.3, 20.0])
def test_a_qform_that_cannot_say_the_same_as_the_sform_is_left_unset(tmp_path, degrees):
    turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    direction = turn @ np.array(Geometry((1, 1, 1), (1.0, 1.0, 1.0)).direction)
    geometry = Geometry((20, 300, 4), (5.0, 0.7, 0.7), (-180.0, -170.0, 30.0), tuple(map(tuple, direction)))
    write(Volume(np.zeros(geometry.shape, np.int16), geometry), tmp_path / "case.nii")
    header = nibabel.load(tmp_path / "case.nii").header
    assert header["sform_code"] == 1
    if header["qform_code"]:
        last = np.array([3, 299, 19, 1.0])
        apart = (header.get_sform() - header.get_qform()) @ last
        assert np.abs(apart).max() <= POSITION_TOLERANCE_MM
    assert not read_nifti(tmp_path / "case.nii").provenance.warnings


def test_an_upright_scan_carries_both_orientations_and_says_what_made_it(tmp_path):
    geometry = Geometry((4, 6, 8), (5.0, 0.7, 0.8), thickness_mm=5.0)
    write(Volume(np.zeros((4, 6, 8), np.int16), geometry), tmp_path / "case.nii")
    header = nibabel.load(tmp_path / "case.nii").header
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_zooms() == pytest.approx((0.8, 0.7, 5.0))
    assert header["descrip"].item().startswith(b"thinslice ")
    assert b"research only" in header["descrip"].item()


def test_the_same_volume_gives_the_same_bytes(tmp_path, counting):
    volume = Volume(counting((4, 5, 6)), Geometry((4, 5, 6), (5.0, 1.0, 1.0)))
    for name in ("a.nii.gz", "b.nii.gz"):
        write(volume, tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.skipif(shutil.which("gzip") is None, reason="no gzip program")
def test_gzip_itself_accepts_the_file_and_it_is_one_member(tmp_path):
    numbers = np.random.default_rng(0)
    hu = numbers.integers(-1000, 1000, (9, 300, 500), dtype=np.int16)  # several blocks
    write(Volume(hu, Geometry(hu.shape, (5.0, 1.0, 1.0))), tmp_path / "case.nii.gz")
    subprocess.run(["gzip", "-t", str(tmp_path / "case.nii.gz")], check=True)
    import zlib

    one = zlib.decompressobj(31)
    assert len(one.decompress((tmp_path / "case.nii.gz").read_bytes())) == 352 + hu.nbytes
    assert one.eof and not one.unused_data


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "expected"),
    [
        (np.int16, 1.0, 0.0, np.int16),
        (np.uint8, 2.0, -100.0, np.int16),
        (np.uint16, 1.0, -1024.0, np.int16),
        (np.int32, 1.0, 0.0, np.int16),
        (np.float32, 1.0, 0.0, np.int16),
        (np.float64, 1.0, -1024.0, np.int16),
        (np.int16, 0.5, -10.25, np.float32),
        (np.float32, 0.37, 3.5, np.float32),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_scaling_is_exact(save, dtype, slope, intercept, expected, order):
    stored = (np.arange(60).reshape(5, 4, 3) * 3).astype(np.dtype(dtype).newbyteorder(order))

    def scale(header):
        header["scl_slope"], header["scl_inter"] = slope, intercept

    path = save(stored, edit=scale)
    volume = read_nifti(path)
    assert volume.hu.dtype == expected
    exact = stored.transpose(2, 1, 0).astype(np.float64) * float(np.float32(slope)) + intercept
    np.testing.assert_array_equal(volume.hu, exact.astype(expected))


def test_a_volume_of_many_chunks_that_stops_being_whole_numbers_keeps_every_value(save, monkeypatch, counting):
    monkeypatch.setattr(hu_collector, "CHUNK_VOXELS", 50)
    data = counting((6, 5, 20), np.float32)
    data[0, 0, 13] = 0.25
    data[3, 2, 17] = 1e5
    volume = read_nifti(save(data))
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, data.transpose(2, 1, 0))


def test_planes_larger_than_a_chunk_are_read_in_rows(save, monkeypatch, counting):
    monkeypatch.setattr(hu_collector, "CHUNK_VOXELS", 13)
    data = counting((6, 5, 4))
    np.testing.assert_array_equal(read_nifti(save(data)).hu, data.transpose(2, 1, 0))


@pytest.mark.parametrize("order", list(itertools.permutations((0.7, 0.8, 5.0))))
def test_the_depth_axis_is_the_one_with_the_largest_spacing(save, order, counting):
    data = counting((6, 5, 4))
    volume = read_nifti(save(data, np.diag([*order, 1.0])))
    depth = order.index(5.0)
    assert volume.provenance.file_axes[0] == depth
    assert volume.provenance.file_axes[1] > volume.provenance.file_axes[2]
    assert volume.geometry.spacing_mm[0] == pytest.approx(5.0)
    np.testing.assert_array_equal(volume.hu, data.transpose(volume.provenance.file_axes))
    assert "axis_ambiguous" not in volume.provenance.details


def test_an_isotropic_file_is_read_along_its_last_axis_and_says_that_this_is_a_guess(save, counting):
    path = save(counting(), np.eye(4))
    volume = read_nifti(path)
    assert volume.provenance.file_axes == (2, 1, 0)
    assert volume.provenance.details["axis_ambiguous"] is True
    assert any("axis=" in warning for warning in volume.provenance.warnings)

    named = read_nifti(path, axis=0)
    assert named.provenance.file_axes == (0, 2, 1)
    assert "axis_ambiguous" not in named.provenance.details
    with pytest.raises(UsageError, match="axis="):
        read_nifti(path, axis=3)


def test_an_isotropic_file_that_names_its_slice_axis_is_read_along_it(save, counting):
    path = save(counting(), np.eye(4), edit=lambda header: header.set_dim_info(0, 2, 1))
    volume = read_nifti(path)
    assert volume.provenance.file_axes == (1, 2, 0)
    assert volume.provenance.details["axis_ambiguous"] is True


def test_content_decides_over_the_name(save, tmp_path, counting):
    packed = save(counting(), name="case.nii.gz")
    shutil.copy(packed, tmp_path / "other.nii")
    np.testing.assert_array_equal(read_nifti(tmp_path / "other.nii").hu, read_nifti(packed).hu)


def test_nifti_2_and_pairs_are_read(save, counting):
    data = counting()
    want = data.transpose(2, 1, 0)
    np.testing.assert_array_equal(read_nifti(save(data, kind=nibabel.Nifti2Image)).hu, want)
    pair = save(data, name="pair.img", kind=nibabel.Nifti1Pair)
    np.testing.assert_array_equal(read_nifti(pair).hu, want)
    np.testing.assert_array_equal(read_nifti(pair.with_suffix(".hdr")).hu, want)
    pair.unlink()
    with pytest.raises(UnreadableError, match="not beside it"):
        read_nifti(pair.with_suffix(".hdr"))


def test_without_sform_the_qform_and_without_both_the_spacing_places_the_voxels(save, counting):
    affine = LPS_TO_RAS @ Geometry((4, 5, 6), (0.7, 0.7, 5.0), (10.0, 20.0, 30.0)).affine_lps
    by_qform = read_nifti(save(counting(), affine, name="q.nii", sform=0))
    assert by_qform.provenance.details["orientation_from"] == "qform"
    assert not by_qform.provenance.warnings
    by_sform = read_nifti(save(counting(), affine, name="s.nii", qform=0))
    for one, other in zip(corners(by_qform.geometry), corners(by_sform.geometry), strict=True):
        np.testing.assert_allclose(one, other, atol=POSITION_TOLERANCE_MM)
    bare = read_nifti(save(counting(), affine, name="n.nii", sform=0, qform=0))
    assert bare.provenance.details["orientation_from"] == "spacing"
    assert any("orientation" in warning for warning in bare.provenance.warnings)
    assert sorted(bare.geometry.spacing_mm) == pytest.approx([0.7, 0.7, 5.0])


# Real data


@pytest.mark.parametrize("name", ["thick/lung_dx_A0002_B40f_8mm", "pair/phantom_thick_5mm"])
def test_real_scans_keep_their_values_and_place(shared: Path, tmp_path: Path, name: str):
    path = shared / "ct" / f"{name}.nii.gz"
    volume = read_nifti(path)
    reference = nibabel.load(path)
    np.testing.assert_array_equal(volume.hu, np.asarray(reference.dataobj).transpose(2, 1, 0))
    assert volume.hu.dtype == np.int16
    write(volume, tmp_path / "again.nii.gz")
    again = nibabel.load(tmp_path / "again.nii.gz")
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(reference.dataobj))
    np.testing.assert_allclose(again.affine, reference.affine, atol=1e-6)
