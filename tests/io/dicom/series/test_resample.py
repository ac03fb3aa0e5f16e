"""Tilted and unevenly spaced series, read with resampling: anatomy stays in its place, also in the derived DICOM."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from support.dicom_factory import write_series
from thinslice.errors import GeometryError
from thinslice.io.dicom.derived.single_frame import DicomSlabWriter
from thinslice.io.dicom.read import read_dicom, scan
from thinslice.io.files import read
from thinslice.io.settings import ReadSettings
from thinslice.volume import Derivation, Volume

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

BALLS = {(2.0, 1.0, 42.0): 9.0, (-14.0, 12.0, 52.0): 6.0, (18.0, -12.0, 34.0): 6.0}
"""Centre (LPS mm) and radius of landmarks of soft tissue in air, their edges 2 mm wide."""
SHAPE, SPACING_MM, ORIGIN_MM = (30, 72, 72), (3.0, 1.0, 1.0), (-35.0, -33.0, 0.0)
ODD = tuple(range(9, 30, 2))
"""Slices left out where the spacing is to change from 3 to 6 mm."""
BOTH = ReadSettings(on_tilt="resample", on_spacing="resample")


def truth(points: np.ndarray) -> np.ndarray:
    """HU at LPS points (..., 3)."""
    tissue = [1 / (1 + np.exp(2.0 * (np.linalg.norm(points - c, axis=-1) - r))) for c, r in BALLS.items()]
    return np.asarray(-1000.0 + 1040.0 * np.sum(tissue, axis=0))


def points_of(volume: Volume) -> np.ndarray:
    """(depth, height, width, 3) LPS of every voxel."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.hu.shape), indexing="ij"), axis=-1)
    affine = volume.geometry.affine_lps
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def phantom(folder: Path, **series: object) -> Path:
    """A series of the landmarks; places as in a first series written without them."""
    options = {"shape": SHAPE, "spacing_mm": SPACING_MM, "origin_mm": ORIGIN_MM, **series}
    made = write_series(folder / "places", **options)  # type: ignore[arg-type]
    row, column = made.cosines[:3], made.cosines[3:]
    plane = np.arange(SHAPE[1])[:, None, None] * column + np.arange(SHAPE[2])[None, :, None] * row
    positions = np.array([pydicom.dcmread(path).ImagePositionPatient for path in made.files], float)
    hu = truth(positions[:, None, None, :] + plane)
    shutil.rmtree(folder / "places")
    full = np.zeros(SHAPE)
    kept = [k for k in range(SHAPE[0]) if k not in options.get("missing", ())]  # type: ignore[operator]
    full[kept] = hu
    write_series(folder / "in", hu=full, **options)  # type: ignore[arg-type]
    return folder / "in"


def numbered_anew(dataset: pydicom.Dataset, index: int) -> None:
    """Numbers without a hole, so that wide steps are a change of spacing and not missing slices."""
    dataset.InstanceNumber = index + 1 if index < 8 else 9 + (index - 8) // 2


def assert_in_place(volume: Volume, *, rms_hu: float) -> None:
    points, outside = points_of(volume), volume.hu == -1024
    error = (volume.hu - truth(points))[~outside]
    assert np.sqrt(np.mean(error**2)) < rms_hu
    for centre, radius in BALLS.items():
        near = np.linalg.norm(points - centre, axis=-1) < radius + 4
        weight = np.clip(volume.hu[near] + 1000.0, 0, None)
        found = (points[near] * weight[:, None]).sum(axis=0) / weight.sum()
        np.testing.assert_allclose(found, centre, atol=0.5)


@pytest.mark.parametrize("degrees", [-22.0, -0.3, 8.0, 18.5, 30.0])
@pytest.mark.parametrize("orientation", ["axial", "feet_first"])
def test_a_tilt_is_removed_and_landmarks_stay(tmp_path: Path, degrees: float, orientation: str) -> None:
    if orientation == "feet_first":
        folder = phantom(tmp_path, tilt_degrees=degrees, orientation=orientation, origin_mm=(35.0, -33.0, 87.0))
    else:
        folder = phantom(tmp_path, tilt_degrees=degrees)
    with pytest.raises(GeometryError, match="on_tilt='resample'"):
        read_dicom(folder)
    volume = read(folder, on_tilt="resample")
    assert_in_place(volume, rms_hu=6.0)
    assert any("tilt" in sentence for sentence in volume.provenance.warnings)
    assert len(volume.provenance.headers) == volume.hu.shape[0] == SHAPE[0]
    assert volume.geometry.spacing_mm[0] == pytest.approx(3.0, abs=1e-4)


def test_uneven_spacing_becomes_the_finer_one_and_landmarks_stay(tmp_path: Path) -> None:
    folder = phantom(tmp_path, missing=ODD, edit=numbered_anew)
    with pytest.raises(GeometryError, match="on_spacing='resample'"):
        read_dicom(folder)
    volume = read(folder, on_spacing="resample")
    assert_in_place(volume, rms_hu=60.0)  # what lies between slices 6 mm apart is lost
    assert volume.geometry.spacing_mm[0] == pytest.approx(3.0)
    assert len(volume.provenance.headers) == volume.hu.shape[0] == 29
    note = next(sentence for sentence in volume.provenance.warnings if "resampled" in sentence)
    assert "19 slices 3 to 6 mm apart" in note


def test_one_option_does_not_mend_the_other_fault(tmp_path: Path) -> None:
    folder = phantom(tmp_path, missing=ODD, edit=numbered_anew, tilt_degrees=12.0)
    with pytest.raises(GeometryError, match="on_spacing='resample'"):
        read(folder, on_tilt="resample")
    with pytest.raises(GeometryError, match="on_tilt='resample'"):
        read(folder, on_spacing="resample")
    assert_in_place(read_dicom(folder, settings=BOTH), rms_hu=60.0)


@pytest.mark.parametrize("missing", [(9,), (9, 10)])
def test_missing_slices_are_never_filled_in(tmp_path: Path, missing: tuple[int, ...]) -> None:
    write_series(tmp_path, missing=missing, shape=(20, 8, 8))
    with pytest.raises(GeometryError, match="missing"):
        read_dicom(tmp_path, settings=BOTH)


def test_a_mixed_thickness_is_unknown_after_resampling(tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset, index: int) -> None:
        dataset.SliceThickness = 3.0 if index < 10 else 5.0

    folder = phantom(tmp_path, edit=edit)
    with pytest.raises(GeometryError, match="on_spacing='resample'"):
        read_dicom(folder)
    volume = read_dicom(folder, settings=BOTH)
    assert volume.geometry.thickness_mm is None
    assert any("from 3 to 5 mm thick" in sentence for sentence in volume.provenance.warnings)


def test_a_regular_series_is_read_as_without_the_options(tmp_path: Path) -> None:
    write_series(tmp_path, shape=(5, 8, 8))
    plain, asked = read_dicom(tmp_path), read_dicom(tmp_path, settings=BOTH)
    np.testing.assert_array_equal(plain.hu, asked.hu)
    assert plain.geometry == asked.geometry and plain.provenance.warnings == asked.provenance.warnings


def derive(thick: Volume, folder: Path) -> tuple[np.ndarray, list[pydicom.FileDataset]]:
    """The volume, three times as fine by linear interpolation, as DICOM; its HU and files by depth."""
    grid = thick.geometry.thin_grid(3)
    steps = np.arange(grid.shape[0]) / 3
    lower = np.minimum(steps.astype(int), len(thick.hu) - 2)
    share = (steps - lower)[:, None, None]
    thin = np.rint(thick.hu[lower] * (1 - share) + thick.hu[lower + 1] * share).astype(np.int16)
    provenance = replace(thick.provenance, derivation=Derivation("linear", "1", None, 3))
    with DicomSlabWriter(folder, grid, provenance, hu_range=(-1024, 3071)) as writer:
        writer.write(thin)
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    return thin, sorted(files, key=lambda d: float(np.dot(grid.normal, np.array(d.ImagePositionPatient, float))))


@pytest.mark.parametrize("case", ["tilt", "spacing", "both"])
def test_the_derived_series_lies_where_the_landmarks_are(tmp_path: Path, case: str) -> None:
    itk = pytest.importorskip("SimpleITK")
    uneven = {"missing": ODD, "edit": numbered_anew} if case != "tilt" else {}
    folder = phantom(tmp_path, **uneven, tilt_degrees=0.0 if case == "spacing" else 15.0)
    thick = read_dicom(folder, settings=BOTH)
    thin, files = derive(thick, tmp_path / "out")
    known = {str(header.SOPInstanceUID): header for header in thick.provenance.headers}
    heights = {
        uid: float(np.dot(thick.geometry.normal, np.array(header.ImagePositionPatient, float)))
        for uid, header in known.items()
    }
    grid = thick.geometry.thin_grid(3)
    for index, dataset in enumerate(files):
        np.testing.assert_allclose(dataset.ImagePositionPatient, grid.position_mm((index, 0, 0)), atol=1e-3)
        assert (dataset.Rows, dataset.Columns) == thin.shape[1:]
        assert "GantryDetectorTilt" not in dataset
        at = float(np.dot(grid.normal, np.array(dataset.ImagePositionPatient, float)))
        for item in dataset.SourceImageSequence:
            assert abs(heights[item.ReferencedSOPInstanceUID] - at) <= 6.0 + 1e-3
        assert "resampled" in dataset.DerivationDescription or "tilt" in dataset.DerivationDescription
    reader = itk.ImageSeriesReader()
    (uid,) = reader.GetGDCMSeriesIDs(str(tmp_path / "out"))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "out"), uid))
    image = reader.Execute()
    seen = itk.GetArrayFromImage(image)
    assert seen.shape == thin.shape
    for centre, radius in BALLS.items():
        index = np.argwhere(seen > -480)
        points = np.array([image.TransformIndexToPhysicalPoint([int(i) for i in ijk[::-1]]) for ijk in index])
        near = points[np.linalg.norm(points - centre, axis=1) < radius + 3]
        np.testing.assert_allclose(near.mean(axis=0), centre, atol=0.5)
    assert read_dicom(tmp_path / "out").geometry.shape == thin.shape  # upright and even, so it needs no option


def test_the_real_tilted_uneven_series_is_read(shared_dicom: Callable[[str], Path]) -> None:
    volume = read_dicom(shared_dicom("ge_tilt18.5_nonuniform_4-7mm"), settings=BOTH)
    direction = np.asarray(volume.geometry.direction)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-6)
    # Each source slice is found again, shifted in its plane, where its header places it.
    itk = pytest.importorskip("SimpleITK")
    for path in sorted(shared_dicom("ge_tilt18.5_nonuniform_4-7mm").rglob("*"))[2:20:6]:
        source = itk.ReadImage(str(path)) if path.is_file() else None
        if source is None:
            continue
        plane = itk.GetArrayFromImage(source)[0].astype(float)
        rows, columns = np.meshgrid(np.arange(60, 452, 49), np.arange(60, 452, 49), indexing="ij")
        rows, columns = rows.ravel(), columns.ravel()
        places = [source.TransformIndexToPhysicalPoint((int(c), int(r), 0)) for r, c in zip(rows, columns, strict=True)]
        at = np.array([volume.geometry.index_at(place) for place in places])
        k = int(np.rint(at[0, 0]))
        if abs(at[0, 0] - k) > 1e-3:
            continue
        from scipy.ndimage import map_coordinates

        seen = map_coordinates(volume.hu[k].astype(float), at[:, 1:].T, order=1)
        assert np.median(np.abs(seen - plane[rows, columns])) < 5.0


def test_a_report_of_a_tilt_can_be_copied(tmp_path: Path) -> None:
    write_series(tmp_path, tilt_degrees=12.0)
    (report,) = scan(tmp_path)
    assert "gantry tilt" in report.reasons[0]
    assert copy.deepcopy(report) == report
