"""Series that must be refused, or read with a warning: one clear message each, and never a patient's value in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.dicom_factory import CANARY, assert_no_canary, write_enhanced, write_series
from thinslice.errors import GeometryError, InputError, SeriesChoiceError, ThinsliceError, UnreadableError
from thinslice.io.dicom.read import read_dicom, scan

# pydicom warns while the tests write files with values that no file should hold.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def refusal(folder: Path, kind: type[ThinsliceError], **options: str) -> str:
    """The message of a refusal, after checking what every message must hold to."""
    with pytest.raises(kind) as caught:
        read_dicom(folder, **options)
    message = str(caught.value)
    assert_no_canary(message)
    assert str(folder) not in message
    assert "\n" not in message
    assert message.endswith(".")
    for report in scan(folder):
        assert_no_canary(report)
    return message


@pytest.mark.parametrize("tilt", [18.5, -12.0, 3.0])
def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path, tilt: float) -> None:
    write_series(tmp_path, tilt_degrees=tilt)
    message = refusal(tmp_path, GeometryError)
    assert "gantry tilt" in message
    assert f"{abs(tilt):.1f} degrees" in message
    (report,) = scan(tmp_path)
    assert report.geometry is None
    assert len(report.reasons) == 1


@pytest.mark.parametrize("instance_order", ["ascending", "descending"])
def test_missing_middle_slice_is_refused_with_its_gap(tmp_path: Path, instance_order: str) -> None:
    write_series(tmp_path, shape=(8, 8, 8), missing=[3], instance_order=instance_order, orientation="oblique")
    message = refusal(tmp_path, GeometryError)
    assert "gap of 10.00 mm where 5.00 mm is usual" in message
    low, high = (3, 5) if instance_order == "ascending" else (6, 4)
    assert f"(instance {low})" in message
    assert f"(instance {high})" in message


def test_missing_slice_of_renumbered_files_is_still_seen(tmp_path: Path) -> None:
    def renumber(dataset, k: int) -> None:
        dataset.InstanceNumber = k if k > 3 else k + 1

    write_series(tmp_path, shape=(8, 8, 8), missing=[3], edit=renumber)
    assert "gap of 10.00 mm" in refusal(tmp_path, GeometryError)


def test_every_second_slice_missing_is_seen_by_number_and_thickness(tmp_path: Path) -> None:
    write_series(tmp_path, shape=(7, 8, 8), missing=[1, 3, 5])
    assert "steps of 2" in refusal(tmp_path, GeometryError)


@pytest.mark.parametrize("instance_order", ["ascending", "descending"])
def test_missing_first_slices_are_warned_of(tmp_path: Path, instance_order: str) -> None:
    gone = [0, 1] if instance_order == "ascending" else [6, 7]
    made = write_series(tmp_path, shape=(8, 8, 8), missing=gone, instance_order=instance_order)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    (warning,) = volume.provenance.warnings
    assert "InstanceNumber starts at 3" in warning
    assert "2 slice(s)" in warning


def test_missing_last_slices_are_warned_of_when_the_source_counts_them(tmp_path: Path) -> None:
    def count(dataset, k: int) -> None:
        dataset.ImagesInAcquisition = 8

    write_series(tmp_path, shape=(8, 8, 8), missing=[6, 7], edit=count)
    (warning,) = read_dicom(tmp_path).provenance.warnings
    assert "is 8, but 6 images are here" in warning


def test_a_localizer_numbered_first_is_no_missing_slice(tmp_path: Path) -> None:
    def localizer(dataset, k: int) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    made = write_series(tmp_path / "a", first_instance=2)
    write_series(tmp_path / "b", shape=(1, 9, 9), uid=made.uid, edit=localizer)
    assert not any("InstanceNumber" in warning for warning in read_dicom(tmp_path).provenance.warnings)


def test_spacing_that_changes_is_refused_where_it_does(tmp_path: Path) -> None:
    def spread(dataset, k: int) -> None:
        if k > 4:
            x, y, z = (float(v) for v in dataset.ImagePositionPatient)
            dataset.ImagePositionPatient = [x, y, z + 2.3 * (k - 4)]

    write_series(tmp_path, shape=(9, 8, 8), edit=spread)
    message = refusal(tmp_path, GeometryError)
    assert "spacing changes" in message
    assert "from 5.000 to 7.300 mm" in message
    assert "(instance 5)" in message


def test_thickness_that_changes_is_refused_where_it_does(tmp_path: Path) -> None:
    def thicken(dataset, k: int) -> None:
        dataset.SliceThickness = 5 if k < 3 else 7

    write_series(tmp_path, edit=thicken)
    message = refusal(tmp_path, GeometryError)
    assert "thickness changes" in message
    assert "(instance 4)" in message


def test_a_slice_out_of_line_is_refused(tmp_path: Path) -> None:
    def shift(dataset, k: int) -> None:
        if k == 2:
            x, y, z = (float(v) for v in dataset.ImagePositionPatient)
            dataset.ImagePositionPatient = [x + 4, y, z]

    write_series(tmp_path, edit=shift)
    message = refusal(tmp_path, GeometryError)
    assert "out of line" in message
    assert "(instance 3)" in message


def test_identical_duplicates_are_kept_once(tmp_path: Path) -> None:
    made = write_series(tmp_path, duplicates=[2, 5])
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    (warning,) = volume.provenance.warnings
    assert "2 position(s)" in warning


def test_different_duplicates_are_refused_with_the_likely_cause(tmp_path: Path) -> None:
    write_series(tmp_path, duplicates=[2], duplicate_pixels="other")
    assert "two phases" in refusal(tmp_path, GeometryError)


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier"])
def test_phases_of_one_series_can_be_chosen(tmp_path: Path, keyword: str) -> None:
    made = []
    for phase in (1, 2, 3):

        def label(dataset, k: int, phase: int = phase) -> None:
            setattr(dataset, keyword, phase)

        made.append(
            write_series(
                tmp_path / str(phase), seed=phase, uid=made[0].uid if made else None, edit=label, study_uid="1.2.3"
            )
        )
    message = refusal(tmp_path, SeriesChoiceError)
    assert "4D" in message
    assert keyword in message
    for phase in (1, 2, 3):
        volume = read_dicom(tmp_path, series_uid=f"{made[0].uid}#{phase}")
        np.testing.assert_array_equal(volume.hu, made[phase - 1].hu)


def test_slice_location_alone_is_refused(tmp_path: Path) -> None:
    def forget(dataset, k: int) -> None:
        del dataset.ImagePositionPatient

    write_series(tmp_path, edit=forget)
    assert "SliceLocation" in refusal(tmp_path, GeometryError)


def test_orientation_that_is_no_orientation_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, orientation=(1, 0, 0, 0.5, 0.5, 0))
    assert "ImageOrientationPatient" in refusal(tmp_path, GeometryError)


NOT_CT = {
    "MONOCHROME1": ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
    "RGB": ({"PhotometricInterpretation": "RGB"}, "colour"),
    "MR": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR"}, "MR"),
    "PET": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "Modality": "PT"}, "PET"),
    "SEG": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}, "segmentation"),
    "capture": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
    "localizer": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
    "private": ({"SOPClassUID": "1.2.3.4.5"}, "another kind"),
    "modality": ({"Modality": "MR"}, "Modality"),
    "density": ({"RescaleType": "MGML"}, "not HU"),
    "frames": ({"NumberOfFrames": 4}, "several frames"),
    "no intercept": ({"RescaleIntercept": None}, "RescaleIntercept"),
    "neither": ({"RescaleIntercept": None, "RescaleSlope": None}, "RescaleSlope"),
    "absurd slope": ({"RescaleSlope": "1e30"}, "absurd"),
    "no rows": ({"Rows": 0}, "Rows"),
    "huge rows": ({"Rows": 65535, "Columns": 65535}, "Rows"),
    "bits": ({"BitsAllocated": 12}, "BitsAllocated"),
    "no sign": ({"PixelRepresentation": None, "RescaleIntercept": 0}, "PixelRepresentation"),
}


@pytest.mark.parametrize("case", sorted(NOT_CT))
def test_what_is_not_hu_of_a_ct_is_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    values, expected = NOT_CT[case]

    def alter(dataset, k: int) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        if "SOPClassUID" in values:
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID

    write_series(tmp_path, edit=alter)
    assert expected in refusal(tmp_path, InputError)
    (report,) = scan(tmp_path)
    assert report.geometry is None
    assert len(report.reasons) == 1


def test_enhanced_multi_frame_of_several_times_is_refused(tmp_path: Path) -> None:
    made = write_enhanced(tmp_path / "one" / "enhanced.dcm")
    np.testing.assert_array_equal(read_dicom(tmp_path / "one").hu, made.hu)
    write_enhanced(tmp_path / "three" / "enhanced.dcm", temporal=3)
    assert "choose one" in refusal(tmp_path / "three", SeriesChoiceError)


@pytest.mark.parametrize("encoding", ["explicit", "rle", "jpeg_ls", "jpeg_2000", "deflated"])
@pytest.mark.parametrize("keep", [0, 60, 500, 0.7])
def test_a_damaged_file_is_skipped_and_its_gap_refused(tmp_path: Path, encoding: str, keep: float) -> None:
    made = write_series(tmp_path, shape=(6, 40, 40), transfer_syntax=encoding)
    data = made.files[2].read_bytes()
    made.files[2].write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    message = refusal(tmp_path, GeometryError)
    assert "gap of 10.00 mm" in message
    assert made.files[2].name in message


@pytest.mark.parametrize("encoding", ["explicit", "jpeg_ls"])
def test_a_damaged_file_at_the_end_is_skipped_and_listed(tmp_path: Path, encoding: str) -> None:
    made = write_series(tmp_path, shape=(6, 40, 40), transfer_syntax=encoding)
    data = made.files[5].read_bytes()
    made.files[5].write_bytes(data[: int(0.7 * len(data))])
    (tmp_path / "readme.txt").write_text("Kanarienvogel's scan, see the notes " * 20)
    (tmp_path / "empty").touch()
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu[:5])
    assert volume.geometry.shape[0] == len(volume.provenance.headers) == 5
    text = " ".join(volume.provenance.warnings)
    assert "3 file(s) were skipped" in text
    assert "empty: empty file" in text
    assert "readme.txt: not DICOM" in text
    assert "slice0005.dcm" in text
    assert_no_canary(text)


def test_damaged_codestreams_are_found_when_decoding(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(6, 40, 40), transfer_syntax="jpeg_ls")
    for k in (0, 3):
        data = bytearray(made.files[k].read_bytes())
        start = data.index(b"\xff\xd8\xff") + 40
        data[start : start + 200] = b"\xff\x00" * 100
        made.files[k].write_bytes(data)
    message = refusal(tmp_path, GeometryError)
    assert "gap of 10.00 mm" in message
    assert "slice0003.dcm" in message


def test_of_two_slices_around_a_lost_file_none_is_taken_for_a_volume(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(3, 8, 8))
    made.files[1].write_bytes(made.files[1].read_bytes()[:100])
    assert "could not be read" in refusal(tmp_path, GeometryError)


@pytest.mark.parametrize("content", [b"", b"just text", b"DICM" * 100])
def test_no_dicom_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    for read in (read_dicom, scan):
        with pytest.raises(UnreadableError, match="No DICOM image among 1 file"):
            read(tmp_path)


def test_empty_folder_and_missing_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="0 file"):
        read_dicom(tmp_path)
    with pytest.raises(UnreadableError, match="no readable file or folder named 'gone'"):
        read_dicom(tmp_path / "gone")


def test_canary_values_stay_in_the_headers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def spoil(dataset, k: int) -> None:
        dataset.add_new("PatientAge", "AS", "Kanarienvogel")
        dataset.add_new("ContentTime", "TM", CANARY["PatientName"])

    write_series(tmp_path, edit=spoil, duplicates=[1])
    (tmp_path / "x").touch()
    volume = read_dicom(tmp_path)
    assert_no_canary(volume.provenance.details)
    assert_no_canary(volume.provenance.warnings)
    assert_no_canary(repr(volume.provenance))
    assert_no_canary(scan(tmp_path))
    assert capfd.readouterr() == ("", "")
    assert volume.provenance.headers[0].PatientID == CANARY["PatientID"]
