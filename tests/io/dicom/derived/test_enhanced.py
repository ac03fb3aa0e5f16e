"""A thin series as one enhanced multi-frame file: valid, exact, the same again, and whole or not there."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest

import thinslice
from support.dicom_factory import write_series
from support.enhanced_factory import enhanced
from support.skips import shared_folder
from thinslice.errors import OutputError, UsageError
from thinslice.geometry import Geometry
from thinslice.io.dicom.derived.enhanced import EnhancedSlabWriter
from thinslice.volume import Volume

FACTOR = 5
PADDED = {"signed": True, "intercept": 0.0, "padding_raw": -2000}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")


@pytest.fixture(params=["axial", "feet_first", "sagittal", "oblique"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> SimpleNamespace:
    return write_series(tmp_path / "thick", shape=(4, 16, 20), orientation=request.param, **PADDED)


def upscaled(path: Path) -> Volume:
    return thinslice.upscale(thinslice.read(path), model="linear", factor=FACTOR)


def written(thin: Volume, path: Path) -> Path:
    thinslice.write(thin, path, format="dicom-enhanced")
    return path


def test_voxels_and_places_are_exact(made: SimpleNamespace, tmp_path: Path) -> None:
    thin = upscaled(tmp_path / "thick")
    path = written(thin, tmp_path / "thin.dcm")
    again = thinslice.read(path)
    np.testing.assert_array_equal(again.hu, thin.hu)
    assert again.geometry.shape == thin.geometry.shape
    dataset = pydicom.dcmread(path)
    frames = dataset.PerFrameFunctionalGroupsSequence
    assert dataset.NumberOfFrames == len(frames) == 3 * FACTOR + 1
    for k, frame in enumerate(frames):
        position = [float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient]
        np.testing.assert_allclose(position, thin.geometry.position_mm((k, 0, 0)), atol=1e-3)
        assert frame.FrameContentSequence[0].InStackPositionNumber == k + 1
    shared = dataset.SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].SliceThickness == thin.geometry.thickness_mm
    cosines = [float(x) for x in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    np.testing.assert_allclose(cosines, made.cosines, atol=1e-6)


def test_other_readers_find_every_voxel_at_its_place(made: SimpleNamespace, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    thin = upscaled(tmp_path / "thick")
    picture = sitk.ReadImage(str(written(thin, tmp_path / "thin.dcm")))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(picture), thin.hu)
    for index in ((0, 0, 0), (15, 0, 0), (7, 15, 19)):
        found = picture.TransformPhysicalPointToContinuousIndex(thin.geometry.position_mm(index))
        np.testing.assert_allclose(found[::-1], index, atol=2e-3)
    highdicom = pytest.importorskip("highdicom")
    volume = highdicom.imread(tmp_path / "thin.dcm").get_volume()
    for index in ((0, 0, 0), (3, 5, 7)):
        place = volume.map_indices_to_reference(np.array([index]))[0]
        back = picture.TransformPhysicalPointToContinuousIndex([float(x) for x in place])
        k, row, column = (round(x) for x in back[::-1])
        assert volume.array[index] == thin.hu[k, row, column]


def test_derivation_and_identity_are_stated(made: SimpleNamespace, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(upscaled(tmp_path / "thick"), tmp_path / "thin.dcm"))
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert dataset.SOPClassUID.name == "Enhanced CT Image Storage"
    assert dataset.StudyInstanceUID == made.study_uid
    assert dataset.SeriesInstanceUID != made.uid
    assert list(dataset.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    assert dataset.ContentQualification == "RESEARCH"
    assert "not for diagnosis" in dataset.SeriesDescription
    (equipment,) = (item for item in dataset.ContributingEquipmentSequence if item.Manufacturer == "thinslice")
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    evidence = dataset.SourceImageEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.SeriesInstanceUID == made.uid
    known = {item.ReferencedSOPInstanceUID for item in evidence.ReferencedSOPSequence}
    assert len(known) == 4
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        (derivation,) = frame.DerivationImageSequence
        assert derivation.DerivationCodeSequence[0].CodeValue == "113085"
        assert {item.ReferencedSOPInstanceUID for item in derivation.SourceImageSequence} <= known
    assert dataset.PixelPaddingValue == -2000


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    write_series(tmp_path / "thick", shape=(3, 16, 16))
    thin = upscaled(tmp_path / "thick")
    first = written(thin, tmp_path / "a.dcm").read_bytes()
    assert written(thin, tmp_path / "b.dcm").read_bytes() == first
    thinslice.write(thin, tmp_path / "folder")
    single = pydicom.dcmread(next((tmp_path / "folder").iterdir()))
    assert single.SeriesInstanceUID != pydicom.dcmread(tmp_path / "a.dcm").SeriesInstanceUID


def test_what_differs_between_slices_is_not_stated_for_all(tmp_path: Path) -> None:
    def vary(dataset: pydicom.Dataset, k: int) -> None:
        dataset.TableHeight, dataset.WindowCenter, dataset.WindowWidth = 100 + k, 40, 400

    write_series(tmp_path / "thick", shape=(3, 16, 16), edit=vary)
    dataset = pydicom.dcmread(written(upscaled(tmp_path / "thick"), tmp_path / "thin.dcm"))
    assert "TableHeight" not in dataset
    window = dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert (window.WindowCenter, window.WindowWidth) == (40, 400)


def test_a_thin_object_from_a_thick_object(tmp_path: Path) -> None:
    made = write_series(tmp_path / "single", shape=(4, 16, 20))
    enhanced(made.files, tmp_path / "thick.dcm")
    thin = upscaled(tmp_path / "thick.dcm")
    path = written(thin, tmp_path / "thin.dcm")
    np.testing.assert_array_equal(thinslice.read(path).hu, upscaled(tmp_path / "single").hu)
    frame = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence[6]
    (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
    assert list(reference.ReferencedFrameNumber) == [2, 3]


def test_an_interrupted_file_leaves_nothing(tmp_path: Path) -> None:
    write_series(tmp_path / "thick", shape=(3, 16, 16))
    thin = upscaled(tmp_path / "thick")
    path = tmp_path / "out" / "thin.dcm"
    path.parent.mkdir()
    writer = EnhancedSlabWriter(path, thin.geometry, thin.provenance, hu_range=(-1024, 3071))
    with pytest.raises(OutputError, match="Only 2 of"), writer:
        writer.write(thin.hu[:2])
    assert list(path.parent.iterdir()) == []


def test_more_than_one_file_holds_is_refused_before_the_work(tmp_path: Path) -> None:
    write_series(tmp_path / "thick", shape=(3, 16, 16))
    thin = upscaled(tmp_path / "thick")
    huge = Geometry((9000, 512, 512), (1.0, 0.7, 0.7), (0.0, 0.0, 0.0), thin.geometry.direction)
    with pytest.raises(OutputError, match="4 GiB"):
        EnhancedSlabWriter(tmp_path / "huge.dcm", huge, thin.provenance, hu_range=(-1024, 3071))


@pytest.mark.parametrize("name", ["thin", "thin.nii.gz", "thin.nrrd"])
def test_a_name_that_is_no_dicom_file_is_refused(tmp_path: Path, name: str) -> None:
    write_series(tmp_path / "thick", shape=(3, 16, 16))
    with pytest.raises(UsageError, match=r"\.dcm"):
        written(upscaled(tmp_path / "thick"), tmp_path / name)


def errors(path: Path) -> set[str]:
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False, errors="replace")
    lines = (run.stdout + run.stderr).splitlines()
    assert lines, "dciodvfy printed nothing at all, so it did not run"
    return {line for line in lines if line.startswith("Error")}


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian dicom3tools) is not installed")
@pytest.mark.parametrize("name", ["lung_dx_A0001_5mm", "siemens_j2k_3mm_at_2mm", "ge_jpeg_lossless_1.25mm"])
def test_dciodvfy_finds_no_new_error(tmp_path: Path, name: str) -> None:
    archive = shared_folder() / "ct" / "dicom" / f"{name}.tar.xz"
    if not archive.is_file():
        pytest.skip("shared data absent")
    shutil.unpack_archive(archive, tmp_path / "thick", filter="data")
    thick = thinslice.read(archive)
    known = {error for file in (tmp_path / "thick").rglob("*") if file.is_file() for error in errors(file)}
    thin = thinslice.upscale(thick, model="linear", factor=2)
    assert errors(written(thin, tmp_path / "thin.dcm")) <= known


def test_frames_ascend_along_the_normal(made: SimpleNamespace, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written(upscaled(tmp_path / "thick"), tmp_path / "thin.dcm"))
    positions = [
        np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
    normal = np.cross(made.cosines[:3], made.cosines[3:])
    for lower, upper in pairwise(positions):
        assert (upper - lower) @ normal == pytest.approx(1.0, abs=1e-3)
