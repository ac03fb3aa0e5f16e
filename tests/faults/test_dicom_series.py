"""Rows 1 to 8: files that belong to a series or do not, and where its slices lie."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from support.command_line import Run
from support.dicom_factory import ORIENTATIONS, assert_no_canary, write_series
from support.fault_checks import refuse_upscale, smooth_body, upscale, warnings_of

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]

SPOILED = {
    "empty": lambda content: b"",
    "text": lambda content: b"notes about Kanarienvogel\n" * 40,
    "cut in the header": lambda content: content[:300],
    "cut in the pixels": lambda content: content[: int(0.7 * len(content))],
}


def read_back(path: Path) -> np.ndarray:
    """(depth, height, width) values of a NIfTI, by nibabel."""
    return np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)


def assert_thick_slices_lie_in_place(series, path: Path, factor: int = 5) -> None:
    """Thick slice k of the factory lies at its LPS position in the NIfTI, to 0.001 mm, with its own HU."""
    loaded = nibabel.load(path)
    values = np.asarray(loaded.dataobj)
    row, column = np.array(series.cosines[:3]), np.array(series.cosines[3:])
    height, width = series.hu.shape[1:]
    inverse = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ loaded.affine)
    for k, origin in enumerate(series.positions_mm):
        for r, c in ((0, 0), (height - 1, 0), (0, width - 1), (height // 2, width // 3)):
            place = origin + 0.7 * r * column + 0.7 * c * row
            index = inverse[:3, :3] @ place + inverse[:3, 3]
            nearest = np.rint(index).astype(int)
            spacing = np.linalg.norm(loaded.affine[:3, :3], axis=0)
            assert np.abs((index - nearest) * spacing).max() < 1e-3
            assert values[tuple(nearest)] == series.hu[k, r, c]
    assert sorted(values.shape) == sorted((factor * (len(series.hu) - 1) + 1, height, width))


@pytest.mark.parametrize("encoding", ["explicit", "jpeg_ls"])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_row_01_a_bad_file_at_the_end_is_skipped_and_listed(
    spoiled: str, encoding: str, tmp_path: Path, run: Run
) -> None:
    made = write_series(tmp_path / "in", shape=(6, 24, 24), transfer_syntax=encoding)
    made.files[5].write_bytes(SPOILED[spoiled](made.files[5].read_bytes()))
    outcome, report = upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    text = warnings_of(outcome, report)
    assert "skipped" in text and ("slice0005" in outcome.err or "1 file" in text)
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "thin.nii")[::5], made.hu[:5])


@pytest.mark.parametrize("encoding", ["explicit", "jpeg_ls"])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_row_01_a_bad_file_that_leaves_a_gap_is_refused(spoiled: str, encoding: str, tmp_path: Path, run: Run) -> None:
    made = write_series(tmp_path / "in", shape=(6, 24, 24), transfer_syntax=encoding)
    made.files[2].write_bytes(SPOILED[spoiled](made.files[2].read_bytes()))
    refuse_upscale(run, tmp_path / "in", words=("10.00 mm", "slice0002"))


def test_row_01_nothing_but_bad_files_is_refused(tmp_path: Path, run: Run) -> None:
    made = write_series(tmp_path / "in", shape=(3, 24, 24))
    for file, spoil in zip(made.files, SPOILED.values(), strict=False):
        file.write_bytes(spoil(file.read_bytes()))
    refuse_upscale(run, tmp_path / "in", words=("no dicom",))


@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_row_02_a_missing_middle_slice_is_refused_with_the_gap_in_mm(
    orientation: str, tmp_path: Path, run: Run
) -> None:
    write_series(tmp_path / "in", shape=(8, 16, 16), missing=[3], orientation=orientation)
    refuse_upscale(run, tmp_path / "in", words=("gap of 10.00 mm", "5.00 mm", "instance 3", "instance 5"))


@pytest.mark.parametrize("missing", [[0], [0, 1]])
def test_row_02_missing_end_slices_are_warned_of_by_instance_number(
    missing: list[int], tmp_path: Path, run: Run
) -> None:
    made = write_series(tmp_path / "in", shape=(8, 16, 16), missing=missing)
    outcome, report = upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    assert f"InstanceNumber starts at {len(missing) + 1}" in warnings_of(outcome, report)
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "thin.nii")[::5], made.hu)


def test_row_03_identical_copies_of_a_slice_are_kept_once(tmp_path: Path, run: Run) -> None:
    made = write_series(tmp_path / "in", duplicates=[2, 5])
    outcome, report = upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    assert "2 position(s)" in warnings_of(outcome, report)
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "thin.nii")[::5], made.hu)


@pytest.mark.parametrize("duplicates", [[2], [0, 1, 2, 3, 4, 5]])
def test_row_03_two_images_at_one_position_are_refused_with_the_likely_cause(
    duplicates: list[int], tmp_path: Path, run: Run
) -> None:
    write_series(tmp_path / "in", duplicates=duplicates, duplicate_pixels="other")
    refuse_upscale(run, tmp_path / "in", words=("phases",))


def mixed_folder(folder: Path, *, second: bool):
    """A CT series with a localizer and a secondary capture beside it, one slice of another matrix and, where asked
    for, a second series.
    """

    def localizer(dataset, k: int) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    def capture(dataset, k: int) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"

    made = write_series(folder / "a", shape=(4, 20, 20), uid="1.2.3.1", study_uid="1.2.3")
    write_series(folder / "b", shape=(1, 40, 30), uid="1.2.3.2", study_uid="1.2.3", edit=localizer)
    write_series(folder / "c", shape=(1, 16, 16), uid="1.2.3.3", study_uid="1.2.3", edit=capture)
    if second:
        write_series(folder / "e", shape=(5, 24, 24), uid="1.2.3.5", study_uid="1.2.3", seed=5)
    return made


def test_row_04_stray_objects_are_listed_and_left_out(tmp_path: Path, run: Run) -> None:
    made = mixed_folder(tmp_path / "in", second=False)
    listed = run("inspect", tmp_path / "in", "--json")
    assert listed.code == 0, listed.err
    assert_no_canary(listed.text)
    kinds = {row["kind"]: row["eligible"] for row in json.loads(listed.out)}
    assert kinds == {"CT": True, "CT localizer": False, "secondary capture": False}
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "thin.nii")[::5], made.hu)


def test_row_04_of_several_series_one_is_asked_for_and_taken(tmp_path: Path, run: Run) -> None:
    made = mixed_folder(tmp_path / "in", second=True)
    outcome = refuse_upscale(run, tmp_path / "in", words=("--series", "1.2.3.1", "1.2.3.5"))
    assert "1.2.3.2" not in outcome.err, "a localizer is no choice"
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii", "--series-uid", "1.2.3.1")
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "thin.nii")[::5], made.hu)


def test_row_04_a_slice_of_another_matrix_in_the_series_is_never_dropped_in_silence(tmp_path: Path, run: Run) -> None:
    made = write_series(tmp_path / "in", shape=(6, 20, 20), uid="1.2.3.1", study_uid="1.2.3")
    write_series(tmp_path / "other", shape=(6, 10, 10), uid="1.2.3.1", study_uid="1.2.3")
    made.files[2].write_bytes((tmp_path / "other" / "slice0002.dcm").read_bytes())
    outcome = refuse_upscale(run, tmp_path / "in", words=("matrix",))
    assert "10 x 10" in outcome.err


@pytest.mark.parametrize("tilt", [18.5, -12.0, 3.0])
def test_row_05_a_gantry_tilt_is_refused_with_its_angle_and_the_way_out(tilt: float, tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in", tilt_degrees=tilt)
    refuse_upscale(run, tmp_path / "in", words=("gantry tilt", f"{abs(tilt):.1f} degrees", "--on-tilt resample"))


def test_row_05_jitter_of_positions_is_accepted(tmp_path: Path, run: Run) -> None:
    made = write_series(tmp_path / "in", jitter_mm=1e-4)
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    np.testing.assert_array_equal(read_back(tmp_path / "out" / "thin.nii")[::5], made.hu)


def test_row_05_large_jitter_is_never_called_a_tilt(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in", jitter_mm=0.05)
    outcome = run("upscale", tmp_path / "in", tmp_path / "thin.nii", "--model", "linear")
    assert outcome.code in (0, 3) and "tilt" not in outcome.text


@pytest.mark.parametrize("tilt", [12.0, -7.0])
def test_row_05_a_tilt_is_sheared_upright_with_anatomy_in_place(tilt: float, tmp_path: Path, run: Run) -> None:
    shape, spacing = (9, 40, 40), (5.0, 1.0, 1.0)
    grid = write_series(tmp_path / "grid", shape=shape, spacing_mm=spacing, tilt_degrees=tilt)
    hu = body_at(grid, shape, spacing)
    write_series(tmp_path / "in", shape=shape, spacing_mm=spacing, tilt_degrees=tilt, hu=hu)
    output = tmp_path / "out" / "thin.nii.gz"
    outcome, report = upscale(run, tmp_path / "in", output, "--on-tilt", "resample", "--model", "cubic")
    assert "tilt" in warnings_of(outcome, report)
    assert shift_mm(output, grid, spacing) < 0.5


def test_row_06_a_change_of_thickness_is_refused_where_it_is(tmp_path: Path, run: Run) -> None:
    def thicken(dataset, k: int) -> None:
        dataset.SliceThickness = 5 if k < 3 else 7

    write_series(tmp_path / "in", edit=thicken)
    refuse_upscale(run, tmp_path / "in", words=("thickness changes", "instance 4"))


def spread_from(start: int, extra_mm: float):
    def spread(dataset, k: int) -> None:
        if k > start:
            x, y, z = (float(v) for v in dataset.ImagePositionPatient)
            dataset.ImagePositionPatient = [x, y, z + extra_mm * (k - start)]

    return spread


def test_row_06_a_change_of_spacing_is_refused_where_it_is(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in", shape=(9, 16, 16), edit=spread_from(4, 2.5))
    refuse_upscale(
        run, tmp_path / "in", words=("spacing changes", "5.000", "7.500 mm", "instance 5", "--on-spacing resample")
    )


def test_row_06_a_change_of_spacing_is_resampled_with_anatomy_in_place(tmp_path: Path, run: Run) -> None:
    shape, spacing = (9, 40, 40), (5.0, 1.0, 1.0)
    spread = spread_from(4, 2.5)
    grid = write_series(tmp_path / "grid", shape=shape, spacing_mm=spacing, edit=spread)
    places = [pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient for file in grid.files]
    grid.positions_mm = np.array(places, float)
    write_series(tmp_path / "in", shape=shape, spacing_mm=spacing, edit=spread, hu=body_at(grid, shape, spacing))
    output = tmp_path / "out" / "thin.nii.gz"
    outcome, report = upscale(run, tmp_path / "in", output, "--on-spacing", "resample", "--model", "cubic")
    assert "5 to 7.5 mm apart were resampled" in warnings_of(outcome, report)
    assert shift_mm(output, grid, spacing) < 0.5


def body_at(grid, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """`smooth_body` at every voxel of a series of the factory, whole HU."""
    row, column = np.array(grid.cosines[:3]), np.array(grid.cosines[3:])
    r, c = np.mgrid[: shape[1], : shape[2]]
    in_plane = r[..., None] * spacing_mm[1] * column + c[..., None] * spacing_mm[2] * row
    return np.rint(smooth_body(grid.positions_mm[:, None, None, :] + in_plane))


def shift_mm(path: Path, grid, spacing_mm: tuple[float, float, float]) -> float:
    """How far the body of a NIfTI lies from `smooth_body`: the shift that explains its error best, in mm.

    Only voxels well inside the source count; outside there is padding, and beside it a blend of both.
    """
    loaded = nibabel.load(path)
    values = np.asarray(loaded.dataobj, np.float64)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ loaded.affine
    index = np.moveaxis(np.indices(values.shape), 0, -1).reshape(-1, 3)
    places, values = index @ affine[:3, :3].T + affine[:3, 3], values.ravel()
    first, last = grid.positions_mm[0], grid.positions_mm[-1]
    column, row = np.array(grid.cosines[3:]) * spacing_mm[1], np.array(grid.cosines[:3]) * spacing_mm[2]
    # Position in the source: 0 to 1 from its first slice to its last, then pixels down and right.
    along = np.linalg.solve(np.stack([last - first, column, row], axis=1), (places - first).T).T
    height, width = grid.hu.shape[1:]
    share = 1.5 / (len(grid.hu) - 1)
    inside = (along[:, 0] > share) & (along[:, 0] < 1 - share)
    for pixels, size in ((along[:, 1], height), (along[:, 2], width)):
        inside &= (pixels > 4) & (pixels < size - 5)
    places, values = places[inside], values[inside]
    assert len(values) > 1000
    step = 0.01 * np.eye(3)
    slopes = np.stack([(smooth_body(places + e) - smooth_body(places - e)) / 0.02 for e in step], axis=1)
    shift, *_ = np.linalg.lstsq(slopes, smooth_body(places) - values, rcond=None)
    return float(np.linalg.norm(shift))


@pytest.mark.parametrize("orientation", list(ORIENTATIONS))
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_row_07_world_coordinates_are_exact(orientation: str, order: str, tmp_path: Path, run: Run) -> None:
    made = write_series(
        tmp_path / "in", shape=(4, 15, 18), orientation=orientation, file_order=order, instance_order="descending"
    )
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    assert_thick_slices_lie_in_place(made, tmp_path / "out" / "thin.nii")


@pytest.mark.parametrize("orientation", ["feet_first", "sagittal", "oblique"])
def test_row_07_a_dicom_output_lies_on_the_line_of_its_source(orientation: str, tmp_path: Path, run: Run) -> None:
    made = write_series(tmp_path / "in", shape=(4, 15, 18), orientation=orientation, file_order="shuffled")
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin")
    slices = [pydicom.dcmread(path) for path in (tmp_path / "out" / "thin").iterdir()]
    normal = np.cross(made.cosines[:3], made.cosines[3:])
    slices.sort(key=lambda each: float(np.dot(normal, np.array(each.ImagePositionPatient, float))))
    places = np.array([each.ImagePositionPatient for each in slices], float)
    assert np.abs(places[::5] - made.positions_mm).max() < 1e-3
    for k, thick in enumerate(made.hu):
        thin = slices[5 * k]
        hu = thin.pixel_array * float(thin.RescaleSlope) + float(thin.RescaleIntercept)
        np.testing.assert_array_equal(hu, thick)


@pytest.mark.parametrize("lost", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_row_08_slice_location_alone_is_refused(lost: str, tmp_path: Path, run: Run) -> None:
    def forget(dataset, k: int) -> None:
        delattr(dataset, lost)

    write_series(tmp_path / "in", edit=forget)
    refuse_upscale(run, tmp_path / "in", words=(lost if lost == "ImageOrientationPatient" else "SliceLocation",))
