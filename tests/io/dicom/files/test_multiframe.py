"""Enhanced multi-frame CT: the same volume as from single-frame slices, whatever the order and form of its frames."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread

import thinslice
from support.dicom_factory import write_series
from support.enhanced_factory import enhanced
from support.skips import shared_folder
from thinslice.errors import InputError, SeriesChoiceError, UnreadableError
from thinslice.io.dicom.read import read_dicom, scan

SHAPE = (5, 32, 32)
ENCODINGS = ["explicit", "implicit", "big_endian", "deflated", "rle", "jpeg_ls", "jpeg_2000"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


@pytest.fixture
def made(tmp_path: Path) -> SimpleNamespace:
    return write_series(tmp_path / "single", shape=SHAPE, orientation="oblique", bits_stored=12)


def assert_same(volume: thinslice.Volume, made: SimpleNamespace) -> None:
    np.testing.assert_array_equal(volume.hu, made.hu)
    single = read_dicom(made.files)
    assert volume.geometry == single.geometry
    np.testing.assert_allclose(volume.geometry.origin_mm, made.positions_mm[0], atol=1e-6)
    assert volume.provenance.warnings == single.provenance.warnings == ()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 0, 4, 1, 2]])
def test_frames_are_slices(made: SimpleNamespace, tmp_path: Path, encoding: str, order: list[int]) -> None:
    path = tmp_path / "enhanced" / "one.dcm"
    enhanced([made.files[k] for k in order], path, transfer_syntax=encoding)
    assert_same(thinslice.read(path), made)


@pytest.mark.parametrize("encoding", ["explicit", "deflated", "jpeg_ls"])
def test_enhanced_objects_in_archives_are_read(made: SimpleNamespace, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "enhanced" / "one.dcm"
    enhanced(made.files, path, transfer_syntax=encoding)
    packed = tmp_path / "one.dcm.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert_same(thinslice.read(packed), made)
    with zipfile.ZipFile(tmp_path / "one.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "one")
    assert_same(thinslice.read(tmp_path / "one.zip"), made)


def test_every_frame_has_its_own_rescale(tmp_path: Path) -> None:
    made = write_series(tmp_path / "single", shape=SHAPE, slope=[1, 2, 0.5, 1, 3], intercept=[-1024, -1000, 0, 5, -7])
    enhanced(made.files, tmp_path / "e.dcm")
    np.testing.assert_array_equal(thinslice.read(tmp_path / "e.dcm").hu, made.hu)


def test_an_image_sequence_without_offset_table_or_delimiter_is_read(made: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "e.dcm"
    enhanced(made.files, path, transfer_syntax="jpeg_2000")
    data = path.read_bytes()
    table = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xe0\x7f\x10\x00OB"))
    first = data.index(b"\xfe\xff\x00\xe0", table + 4)
    path.write_bytes(data[:table] + data[first : data.rindex(b"\xfe\xff\xdd\xe0")])
    assert_same(thinslice.read(path), made)


def test_frames_of_several_fragments_are_put_together(made: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "e.dcm"
    enhanced(made.files, path, transfer_syntax="jpeg_2000")
    data = path.read_bytes()
    start = data.index(b"\xe0\x7f\x10\x00OB") + 12
    items, at = [], start
    while data[at : at + 4] == b"\xfe\xff\x00\xe0":
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        items.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    cut = [b""] + [piece for item in items[1:] for piece in (item[:100], item[100:])]
    joined = b"".join(b"\xfe\xff\x00\xe0" + len(piece).to_bytes(4, "little") + piece for piece in cut)
    path.write_bytes(data[:start] + joined + data[at:])
    assert_same(thinslice.read(path), made)


def test_a_concatenation_is_one_series_and_a_missing_part_is_said(made: SimpleNamespace, tmp_path: Path) -> None:
    folder = tmp_path / "concatenation"
    enhanced(made.files[3:], folder / "b.dcm", part=(2, 2, 3))
    enhanced(made.files[:3], folder / "a.dcm", part=(1, 2, 0))
    assert_same(read_dicom(folder), made)
    half = read_dicom(folder / "a.dcm")
    np.testing.assert_array_equal(half.hu, made.hu[:3])
    assert any("concatenation of 2 files has 1 here" in text for text in half.provenance.warnings)


def test_times_of_one_object_are_parts(tmp_path: Path) -> None:
    first = write_series(tmp_path / "1", shape=SHAPE, seed=1)
    second = write_series(tmp_path / "2", shape=SHAPE, seed=2)
    files = [file for pair in zip(first.files, second.files, strict=True) for file in pair]
    path = tmp_path / "e.dcm"
    enhanced(files, path, times=[1, 2] * 5)
    with pytest.raises(SeriesChoiceError):
        read_dicom(path)
    reports = scan(path)
    assert len(reports) == 2
    volumes = [read_dicom(path, series_uid=report.series_uid) for report in reports]
    for made in (first, second):
        assert any(np.array_equal(volume.hu, made.hu) for volume in volumes)


def test_stacks_of_one_object_are_parts(tmp_path: Path) -> None:
    first = write_series(tmp_path / "1", shape=SHAPE, seed=1)
    second = write_series(tmp_path / "2", shape=SHAPE, seed=2, orientation="sagittal")
    path = tmp_path / "e.dcm"
    whole = enhanced([*first.files, *second.files], path, stacks=[1] * 5 + [2] * 5)
    del whole.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for item, file in zip(whole.PerFrameFunctionalGroupsSequence, [*first.files, *second.files], strict=True):
        group = type(item)()
        group.ImageOrientationPatient = dcmread(file).ImageOrientationPatient
        item.PlaneOrientationSequence = [group]
    whole.save_as(path)
    assert len(scan(path)) == 2
    volumes = [read_dicom(path, series_uid=report.series_uid) for report in scan(path)]
    for made in (first, second):
        assert any(np.array_equal(volume.hu, made.hu) for volume in volumes)


def test_thin_slices_name_the_frames_that_they_come_from(made: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "e.dcm"
    whole = enhanced(made.files[::-1], path)
    thin = thinslice.upscale(thinslice.read(path), model="linear", factor=5)
    thinslice.write(thin, tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    second = dcmread(files[6])
    (reference,) = second.SourceImageSequence
    assert reference.ReferencedSOPClassUID == whole.SOPClassUID
    assert reference.ReferencedSOPInstanceUID == whole.SOPInstanceUID
    assert sorted(reference.ReferencedFrameNumber) in ([3, 4], [2, 3])
    on_thick = [dcmread(file) for file in files[::5]]
    for one, position in zip(
        sorted(on_thick, key=lambda one: float(one.SliceLocation)), made.positions_mm, strict=True
    ):
        np.testing.assert_allclose([float(x) for x in one.ImagePositionPatient], position, atol=1e-3)
    assert "PerFrameFunctionalGroupsSequence" not in second
    assert "ReferencedFrameNumber" not in second


@pytest.mark.parametrize("fault", ["frames", "groups", "pixels", "fragments"])
def test_an_object_that_contradicts_itself_is_refused(made: SimpleNamespace, tmp_path: Path, fault: str) -> None:
    path = tmp_path / "e.dcm"
    whole = enhanced(made.files, path, transfer_syntax="rle" if fault == "fragments" else "explicit")
    if fault in ("frames", "fragments"):
        whole.NumberOfFrames = 6
    if fault == "fragments":
        whole.PerFrameFunctionalGroupsSequence.append(whole.PerFrameFunctionalGroupsSequence[0])
    if fault == "groups":
        del whole.PerFrameFunctionalGroupsSequence
    if fault == "pixels":
        whole.PixelData = whole.PixelData[: 32 * 32 * 9]
    whole.save_as(path)
    if fault == "pixels":  # the frames that are whole are kept, and the loss is said
        volume = thinslice.read(path)
        np.testing.assert_array_equal(volume.hu, made.hu[:4])
        assert volume.provenance.warnings
    else:
        with pytest.raises(UnreadableError, match="number of frames"):
            thinslice.read(path)


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_never_escapes_as_another_error(made: SimpleNamespace, tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    path = tmp_path / "e.dcm"
    enhanced(made.files, path, transfer_syntax=["explicit", "implicit", "jpeg_ls", "rle"][seed])
    whole = path.read_bytes()
    end = whole.index(b"\xe0\x7f\x10\x00")
    for _ in range(40):
        spoiled = bytearray(whole)
        for at in random.integers(132, min(end + 200, len(whole)), 4):
            spoiled[at] = random.integers(256)
        path.write_bytes(spoiled)
        try:
            thinslice.read(path)
        except InputError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("encoding", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"])
def test_legacy_converted_objects_equal_their_slices(made: SimpleNamespace, tmp_path: Path, encoding: str) -> None:
    hd = pytest.importorskip("highdicom")
    legacy = pytest.importorskip("highdicom.legacy")
    slices = [dcmread(file) for file in made.files][::-1]
    converted = legacy.LegacyConvertedEnhancedCTImage(slices, hd.UID(), 99, hd.UID(), 1, transfer_syntax_uid=encoding)
    converted.save_as(tmp_path / "legacy.dcm")
    volume = thinslice.read(tmp_path / "legacy.dcm")
    assert_same(volume, made)
    assert volume.provenance.details["kernel"] == "B30f"


def test_a_real_series_as_one_object_is_where_its_slices_are(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    archives = sorted((shared_folder() / "ct" / "dicom").glob("lung_dx*.tar.xz"))
    if not archives:
        pytest.skip("shared data absent")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(tmp_path / "single", filter="data")
    files = [file for file in (tmp_path / "single").rglob("*") if file.is_file()]
    # SimpleITK takes the order of the frames for the order of the slices.
    files = sorted(files, key=lambda file: float(dcmread(file, stop_before_pixels=True).ImagePositionPatient[2]))[:24]
    single = read_dicom(files)
    path = tmp_path / "one.dcm"
    enhanced(files, path)
    volume = thinslice.read(path)
    np.testing.assert_array_equal(volume.hu, single.hu)
    assert volume.geometry == single.geometry
    picture = sitk.ReadImage(str(path))
    voxels = sitk.GetArrayFromImage(picture)
    for k, plane in enumerate(volume.hu):
        index = picture.TransformPhysicalPointToContinuousIndex(volume.geometry.position_mm((k, 0, 0)))
        np.testing.assert_allclose(index, (0, 0, k), atol=1e-3)
        np.testing.assert_array_equal(voxels[k], plane)
