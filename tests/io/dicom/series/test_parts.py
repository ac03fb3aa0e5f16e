"""Slices of one SeriesInstanceUID: refused where of two patients or frames, parts where of two scans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import thinslice
from support.dicom_factory import assert_no_canary, write_series
from thinslice.errors import GeometryError, InputError, SeriesChoiceError
from thinslice.io.dicom.read import read_dicom, scan

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

Edit = Callable[..., None]
SHAPE = (6, 16, 16)


def two_in_one(folder: Path, second: dict[str, object], *, start_mm: float) -> tuple[SimpleNamespace, SimpleNamespace]:
    """Two scans of one series: the second begins `start_mm` above the first, and differs in `second`."""

    def alter(dataset, k: int) -> None:
        for keyword, value in second.items():
            setattr(dataset, keyword, value)

    one = write_series(folder / "a", shape=SHAPE, origin_mm=(0, 0, 0), seed=1)
    two = write_series(
        folder / "b",
        shape=SHAPE,
        origin_mm=(0, 0, start_mm),
        seed=2,
        uid=one.uid,
        study_uid=one.study_uid,
        first_instance=7,
        edit=alter,
    )
    return one, two


@pytest.mark.parametrize("start_mm", [2.5, 30.0])
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "OTHER"),
        ("PatientName", "Other^Person"),
        ("PatientBirthDate", "19500101"),
        ("PatientSex", "F"),
        ("StudyInstanceUID", "1.2.3.77"),
        ("FrameOfReferenceUID", "1.2.3.78"),
        ("PatientPosition", "FFS"),
        ("DeviceSerialNumber", "77"),
    ],
)
def test_two_patients_or_frames_are_refused_by_attribute(
    tmp_path: Path, keyword: str, value: str, start_mm: float
) -> None:
    two_in_one(tmp_path, {keyword: value}, start_mm=start_mm)
    with pytest.raises(InputError, match=f"belong together: {keyword} differs") as caught:
        read_dicom(tmp_path)
    assert_no_canary(caught.value)
    assert value not in str(caught.value)


@pytest.mark.parametrize("start_mm", [2.5, 30.0])
@pytest.mark.parametrize(
    ("keyword", "value"),
    [("ConvolutionKernel", "B70f"), ("KVP", "80"), ("TemporalPositionIdentifier", 2)],
)
def test_two_kernels_energies_or_phases_are_parts(tmp_path: Path, keyword: str, value: object, start_mm: float) -> None:
    def first_phase(dataset, k: int) -> None:
        dataset.TemporalPositionIdentifier = 1

    one, two = two_in_one(tmp_path, {keyword: value}, start_mm=start_mm)
    if keyword == "TemporalPositionIdentifier":
        write_series(tmp_path / "a", shape=SHAPE, origin_mm=(0, 0, 0), seed=1, uid=one.uid, edit=first_phase)
    with pytest.raises(SeriesChoiceError, match=keyword):
        read_dicom(tmp_path)
    for part, made in enumerate((one, two), start=1):
        np.testing.assert_array_equal(read_dicom(tmp_path, series=f"{one.uid}#{part}").hu, made.hu)
    assert [report.part.split()[0] for report in scan(tmp_path)] == [keyword, keyword]


@pytest.mark.parametrize(
    "second",
    [
        {"AcquisitionNumber": 2},
        {"AcquisitionTime": "235959"},
        {"SeriesDescription": "Mono 190 keV"},
        {"ImageComments": "190 keV"},
        {"ContrastBolusAgent": "agent"},
        {},
    ],
)
def test_two_scans_between_one_another_are_parts(tmp_path: Path, second: dict[str, object]) -> None:
    one, two = two_in_one(tmp_path, second, start_mm=2.5)
    with pytest.raises(SeriesChoiceError, match="between one another"):
        read_dicom(tmp_path)
    np.testing.assert_array_equal(read_dicom(tmp_path, series=f"{one.uid}#2").hu, two.hu)


@pytest.mark.parametrize("start_mm", [0.0, 2.5])
def test_cardiac_phases_whose_trigger_times_vary_are_parts(tmp_path: Path, start_mm: float) -> None:
    def phase(trigger_ms: float) -> Edit:
        def heartbeat(dataset, k: int) -> None:
            dataset.TriggerTime = f"{trigger_ms + 3.7 * (k * k % 5):.1f}"

        return heartbeat

    one = write_series(tmp_path / "a", shape=SHAPE, origin_mm=(0, 0, 0), seed=1, edit=phase(300))
    two = write_series(
        tmp_path / "b",
        shape=SHAPE,
        origin_mm=(0, 0, start_mm),
        seed=2,
        uid=one.uid,
        study_uid=one.study_uid,
        edit=phase(700),
    )
    with pytest.raises(SeriesChoiceError, match="TriggerTime"):
        read_dicom(tmp_path)
    for part, made in enumerate((one, two), start=1):
        np.testing.assert_array_equal(read_dicom(tmp_path, series=f"{one.uid}#{part}").hu, made.hu)


def test_contrast_agent_in_a_part_of_the_slices_is_warned_of(tmp_path: Path) -> None:
    one, two = two_in_one(tmp_path, {"ContrastBolusAgent": "agent"}, start_mm=30.0)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, np.concatenate([one.hu, two.hu]))
    assert any("no ContrastBolusAgent" in warning for warning in volume.provenance.warnings)


def test_two_passes_on_grids_that_do_not_continue_are_parts(tmp_path: Path) -> None:
    one, two = two_in_one(tmp_path, {"AcquisitionNumber": 2}, start_mm=28.0)
    with pytest.raises(SeriesChoiceError, match="AcquisitionNumber"):
        read_dicom(tmp_path)
    np.testing.assert_array_equal(read_dicom(tmp_path, series=f"{one.uid}#2").hu, two.hu)


def test_acquisitions_that_continue_one_grid_are_one_volume(tmp_path: Path) -> None:
    one, two = two_in_one(tmp_path, {"AcquisitionNumber": 2, "AcquisitionTime": "101630"}, start_mm=30.0)
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, np.concatenate([one.hu, two.hu]))


def test_what_changes_slice_by_slice_divides_nothing(tmp_path: Path) -> None:
    def progress(dataset, k: int) -> None:
        dataset.AcquisitionNumber = k // 4
        dataset.AcquisitionTime = f"1015{k // 4 * 3:02d}.{k % 4}"
        dataset.ContentTime = f"1016{k:02d}"
        dataset.XRayTubeCurrent = 200 + 7 * (k % 3)
        dataset.ExposureTime = 500 + k % 2
        dataset.ReconstructionTargetCenterPatient = [0, 0, k]

    made = write_series(tmp_path, shape=(16, 8, 8), edit=progress)
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)


def test_a_gap_among_rotations_is_still_a_missing_slice(tmp_path: Path) -> None:
    def rotation(dataset, k: int) -> None:
        dataset.AcquisitionNumber = k // 4

    write_series(tmp_path, shape=(16, 8, 8), missing=[8], edit=rotation)
    with pytest.raises(GeometryError, match="gap of 10.00 mm"):
        read_dicom(tmp_path)


def test_pixel_spacing_within_its_rounding_is_one(tmp_path: Path) -> None:
    def round_one(dataset, k: int) -> None:
        dataset.PixelSpacing = ["0.7813", "0.7813"] if k == 5 else ["0.78125", "0.78125"]

    write_series(tmp_path, edit=round_one)
    volume = read_dicom(tmp_path)
    assert volume.geometry.shape[0] == 6
    assert volume.geometry.spacing_mm[1:] == (0.78125, 0.78125)
    assert any("PixelSpacing differs" in warning for warning in volume.provenance.warnings)


def test_an_end_slice_without_position_is_named(tmp_path: Path) -> None:
    def forget(dataset, k: int) -> None:
        if k == 5:
            dataset.ImagePositionPatient = None

    write_series(tmp_path, edit=forget)
    warnings = " ".join(read_dicom(tmp_path).provenance.warnings)
    assert "1 slice(s) of this series do not fit" in warnings and "slice0005.dcm" in warnings


def test_a_slice_of_another_matrix_inside_is_not_called_missing(tmp_path: Path) -> None:
    made = write_series(tmp_path / "a", shape=(6, 16, 16), missing=[2])
    write_series(
        tmp_path / "b", shape=(6, 8, 8), missing=[0, 1, 3, 4, 5], uid=made.uid, study_uid=made.study_uid, prefix="odd"
    )
    with pytest.raises(GeometryError, match="another matrix .8 x 8 beside 16 x 16.") as caught:
        read_dicom(tmp_path)
    assert "missing" not in str(caught.value)


def test_one_position_for_all_slices_is_said(tmp_path: Path) -> None:
    def repeat(dataset, k: int) -> None:
        dataset.ImagePositionPatient = [0, 0, 0]

    write_series(tmp_path, edit=repeat)
    (report,) = scan(tmp_path)
    assert "one and the same ImagePositionPatient" in report.reasons[0]


def test_a_series_uid_for_each_slice_is_said(tmp_path: Path) -> None:
    def own(dataset, k: int) -> None:
        dataset.SeriesInstanceUID = f"1.2.3.{k + 1}"

    write_series(tmp_path, edit=own)
    with pytest.raises(SeriesChoiceError, match="Each of 6 slices has a SeriesInstanceUID of its own"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("spacing", [(1e-30, 1e30), (1e6, 1e6), (1e-4, 0.7)])
def test_a_pixel_spacing_that_no_ct_has_is_refused(tmp_path: Path, spacing: tuple[float, float]) -> None:
    def absurd(dataset, k: int) -> None:
        dataset.PixelSpacing = [f"{mm:g}" for mm in spacing]

    write_series(tmp_path, edit=absurd)
    with pytest.raises(InputError, match="PixelSpacing is"):
        read_dicom(tmp_path)


@pytest.mark.parametrize(("step_mm", "digits"), [(3.27, 1), (3.75, 1), (1.6667, 1), (3.2693, 2), (6.25, 1)])
def test_positions_rounded_to_a_tenth_are_even(tmp_path: Path, step_mm: float, digits: int) -> None:
    def rounded(dataset, k: int) -> None:
        dataset.ImagePositionPatient = ["-100.5", "-80.25", f"{-200 + step_mm * k:.{digits}f}"]

    write_series(tmp_path, shape=(12, 8, 8), edit=rounded)
    volume = read_dicom(tmp_path)
    assert volume.geometry.spacing_mm[0] == pytest.approx(step_mm, abs=0.1 / 11)
    assert any("rounded in the source" in warning for warning in volume.provenance.warnings)


@pytest.mark.parametrize("change_mm", [0.3, 1.0])
def test_a_real_change_of_spacing_written_to_a_tenth_is_refused(tmp_path: Path, change_mm: float) -> None:
    def changed(dataset, k: int) -> None:
        dataset.ImagePositionPatient = ["0", "0", f"{5 * k + change_mm * max(0, k - 5):.1f}"]

    write_series(tmp_path, shape=(12, 8, 8), edit=changed)
    with pytest.raises(GeometryError, match="spacing changes"):
        read_dicom(tmp_path)


def test_jitter_is_no_tilt_and_a_small_tilt_is_one(tmp_path: Path) -> None:
    write_series(tmp_path / "jitter", jitter_mm=0.02)
    assert read_dicom(tmp_path / "jitter").geometry.spacing_mm[0] == pytest.approx(5.0, abs=0.02)
    write_series(tmp_path / "tilt", shape=(30, 8, 8), tilt_degrees=0.3)
    with pytest.raises(GeometryError, match="0.3 degrees"):
        read_dicom(tmp_path / "tilt")


@pytest.mark.parametrize("decimals", [3, 4])
def test_rounded_cosines_are_no_tilt(tmp_path: Path, decimals: int) -> None:
    angle = np.radians(12.3)
    exact = np.array([1, 0, 0, 0, np.cos(angle), np.sin(angle)])

    def rounded(dataset, k: int) -> None:
        dataset.ImageOrientationPatient = [f"{value:.{decimals}f}" for value in exact]

    made = write_series(tmp_path, shape=(12, 8, 8), orientation=exact, edit=rounded)
    volume = read_dicom(tmp_path)
    for k in range(12):
        np.testing.assert_allclose(volume.geometry.position_mm((k, 0, 0)), made.positions_mm[k], atol=0.01)


def test_a_slope_of_its_own_for_every_other_slice_divides_nothing(tmp_path: Path) -> None:
    made = write_series(tmp_path, slope=[1, 2, 1, 2, 1, 2], intercept=[-1024, -1000] * 3)
    np.testing.assert_array_equal(thinslice.read(tmp_path).hu, made.hu)


def test_parts_of_two_orientations_or_matrices_are_labelled(tmp_path: Path) -> None:
    one = write_series(tmp_path / "a", shape=SHAPE, seed=1)
    for name, options in (("b", {"orientation": "coronal"}), ("c", {"shape": (6, 12, 12)})):
        write_series(tmp_path / name, **{"shape": SHAPE, "seed": 2, **options}, uid=one.uid, study_uid=one.study_uid)
    labels = [report.part for report in scan(tmp_path)]
    assert [label.split()[1] for label in labels] == ["16", "16", "12"]
    assert ["axial (1, 0, 0, 0, 1, 0)" in label for label in labels] == [True, False, True]
    assert "coronal (1, 0, 0, 0, 0, -1)" in labels[1]
    with pytest.raises(SeriesChoiceError, match="its slices differ in matrix and orientation"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("keyword", ["ContentTime", "ContentDate"])
def test_a_time_of_writing_that_alternates_divides_no_even_grid(tmp_path: Path, keyword: str) -> None:
    def two_writers(dataset, k: int) -> None:
        setattr(dataset, keyword, ("101500", "101741")[k % 2] if keyword == "ContentTime" else f"2020010{1 + k % 2}")

    made = write_series(tmp_path, shape=(8, 16, 16), edit=two_writers)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert any(text.startswith(f"{keyword} alternates") for text in volume.provenance.warnings)


@pytest.mark.parametrize("keyword", ["AcquisitionTime", "AcquisitionDateTime", "TriggerTime"])
def test_phases_numbered_position_by_position_are_parts_by_their_turn(tmp_path: Path, keyword: str) -> None:
    """A table that waits at each position for three phases, then moves on: all times differ."""

    def timed(phase: int) -> Edit:
        def edit(dataset, k: int) -> None:
            dataset.InstanceNumber = 3 * k + phase + 1
            second = 7 * k + 2 * phase
            written = {"TriggerTime": f"{second * 1000 + 0.5}", "AcquisitionTime": f"1015{second:02d}.25"}
            setattr(dataset, keyword, written.get(keyword, f"202001021015{second:02d}"))

        return edit

    first = write_series(tmp_path / "0", shape=SHAPE, seed=1, edit=timed(0))
    made = [first] + [
        write_series(
            tmp_path / str(phase), shape=SHAPE, seed=1 + phase, uid=first.uid, study_uid=first.study_uid,
            edit=timed(phase),
        )
        for phase in (1, 2)
    ]  # fmt: skip
    with pytest.raises(SeriesChoiceError, match=keyword):
        read_dicom(tmp_path)
    for number, each in enumerate(made, start=1):
        np.testing.assert_array_equal(read_dicom(tmp_path, series=f"{first.uid}#{number}").hu, each.hu)


def test_copies_written_at_another_time_are_copies(tmp_path: Path) -> None:
    def written(time: str) -> Edit:
        def edit(dataset, k: int) -> None:
            dataset.AcquisitionTime, dataset.InstanceCreationTime = f"1015{k:02d}", time

        return edit

    one = write_series(tmp_path / "a", shape=SHAPE, seed=1, edit=written("11"))
    write_series(tmp_path / "b", shape=SHAPE, seed=1, uid=one.uid, study_uid=one.study_uid, edit=written("12"))
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, one.hu)


def test_one_slice_of_another_rescaling_is_said(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=SHAPE, intercept=[-1024, -1024, -1017, -1024, -1024, -1024])
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, made.hu)
    assert any("RescaleIntercept of 1 slice(s)" in text for text in volume.provenance.warnings)


def test_a_negative_slope_is_said(tmp_path: Path) -> None:
    write_series(tmp_path, shape=SHAPE, slope=-1.0, intercept=1024.0)
    assert any("RescaleSlope is negative" in text for text in read_dicom(tmp_path).provenance.warnings)
