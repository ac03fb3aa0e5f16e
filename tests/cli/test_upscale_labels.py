"""thinslice upscale --labels: a segmentation comes along, beside the thin volume, or the run is refused early."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import thinslice
from support.command_line import Run
from support.dicom_factory import write_series
from thinslice.errors import ResourceError
from thinslice.geometry import LPS_TO_RAS
from thinslice.inference import labels as labels_module
from thinslice.volume import Volume


def segmentation(shape: tuple[int, int, int]) -> np.ndarray:
    """Two structures, (depth, height, width)."""
    labels = np.zeros(shape, np.int16)
    labels[1:4, 4:14, 5:12] = 3
    labels[2:, 10:18, 14:20] = 104
    return labels


def save(path: Path, scan: Volume, labels: np.ndarray, dtype: str = "uint8", flip: bool = False) -> Path:
    """The labels as other programs write them: any integer type, axes x, y, z that may run the other way."""
    values = labels.transpose(2, 1, 0)
    affine = LPS_TO_RAS @ scan.geometry.affine_lps @ np.eye(4)[[2, 1, 0, 3]].T
    if flip:
        values = values[::-1, :, ::-1]
        affine = affine @ np.array(
            [[-1, 0, 0, len(values) - 1], [0, 1, 0, 0], [0, 0, -1, values.shape[2] - 1], [0, 0, 0, 1]]
        )
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(values.astype(dtype)), affine, dtype=dtype), path)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "float32"])
def test_labels_of_any_type_come_along(dtype: str, thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    scan = thinslice.read(thick_nifti)
    wanted = segmentation(scan.shape)
    mask = save(tmp_path / "organs.nii.gz", scan, wanted, dtype)
    report = tmp_path / "report.json"
    done = run("upscale", thick_nifti, tmp_path / "thin.nii.gz", "--model", "linear", "--labels", mask,
               "--report", report)  # fmt: skip
    assert done.code == 0, done.err
    assert "labels       2 in thin_labels.nii.gz, volumes changed by 0.00 % at most" in done.out
    found, thin = thinslice.read(tmp_path / "thin_labels.nii.gz"), thinslice.read(tmp_path / "thin.nii.gz")
    assert found.geometry == thin.geometry
    assert np.array_equal(found.hu[::5], wanted) and set(np.unique(found.hu)) == {0, 3, 104}
    assert nibabel.load(tmp_path / "thin_labels.nii.gz").get_data_dtype() == np.int16
    assert found == Volume(thinslice.upscale_labels(thinslice.read(mask), thin).hu, found.geometry)
    values = json.loads(report.read_text())["labels"]
    assert values["format"] == "nifti" and [entry["label"] for entry in values["volumes"]] == [3, 104]
    assert all(entry["thin_ml"] == pytest.approx(entry["thick_ml"], rel=0.002) for entry in values["volumes"])


@pytest.mark.parametrize("flip", [False, True])
def test_beside_a_dicom_series_they_are_nifti(flip: bool, tmp_path: Path, run: Run) -> None:
    series = write_series(tmp_path / "thick", shape=(5, 20, 22))
    wanted = segmentation((5, 20, 22))
    mask = save(tmp_path / "organs.nii.gz", thinslice.read(tmp_path / "thick"), wanted, flip=flip)
    done = run("upscale", tmp_path / "thick", tmp_path / "thin_1.0mm", "--model", "linear", "--labels", mask)
    assert done.code == 0, done.err
    found = thinslice.read(tmp_path / "thin_1.0mm_labels.nii.gz")
    thin = thinslice.read(tmp_path / "thin_1.0mm")
    np.testing.assert_allclose(found.geometry.affine_lps, thin.geometry.affine_lps, atol=1e-3)
    np.testing.assert_allclose(found.geometry.origin_mm, series.positions_mm[0], atol=1e-3)
    assert np.array_equal(found.hu[::5], wanted)


def test_at_a_distance_that_no_factor_gives(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    scan = thinslice.read(thick_nifti)
    mask = save(tmp_path / "organs.nii.gz", scan, segmentation(scan.shape))
    done = run("upscale", thick_nifti, tmp_path / "thin.nii", "--model", "linear", "--labels", mask, "--spacing", 1.4)
    assert done.code == 0, done.err
    found, thin = thinslice.read(tmp_path / "thin_labels.nii"), thinslice.read(tmp_path / "thin.nii")
    assert found.geometry == thin.geometry and found.geometry.spacing_mm[0] == pytest.approx(1.4)
    assert np.sum(found.hu == 3) * 1.4 == pytest.approx(np.sum(segmentation(scan.shape) == 3) * 5.0, rel=0.02)


def test_a_segmentation_of_another_scan_is_refused_before_the_network(
    thick_nifti: Path, tmp_path: Path, run: Run
) -> None:
    scan = thinslice.read(thick_nifti)
    shorter = scan.crop((0, 0, 0), (4, *scan.shape[1:]))
    mask = save(tmp_path / "organs.nii.gz", shorter, segmentation(scan.shape)[:4])
    before = {path.name for path in tmp_path.iterdir()}
    done = run("upscale", thick_nifti, tmp_path / "thin.nii.gz", "--model", "linear", "--labels", mask)
    assert done.code == 3 and "4 x 24 x 24" in done.err and "5 x 24 x 24" in done.err
    assert "network" not in done.err and {path.name for path in tmp_path.iterdir()} == before


def test_what_is_no_label_map_is_refused(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    scan = thinslice.read(thick_nifti)
    mask = save(tmp_path / "p.nii.gz", scan, segmentation(scan.shape) / 200.0, "float32")
    done = run("upscale", thick_nifti, tmp_path / "thin.nii.gz", "--model", "linear", "--labels", mask)
    assert done.code == 3 and "map of probabilities" in done.err and not (tmp_path / "thin.nii.gz").exists()


def test_dicom_segmentations_are_out_of_scope(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "seg", shape=(3, 16, 16))
    for mask in (tmp_path / "seg", next((tmp_path / "seg").iterdir())):
        done = run("upscale", thick_nifti, tmp_path / "thin.nii.gz", "--model", "linear", "--labels", mask)
        assert done.code == 2 and "convert a DICOM segmentation to NIfTI" in done.err


def test_places_are_checked_before_the_run(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    scan = thinslice.read(thick_nifti)
    mask = save(tmp_path / "organs.nii.gz", scan, segmentation(scan.shape))
    arguments = ["upscale", thick_nifti, tmp_path / "thin.nii.gz", "--model", "linear", "--labels"]
    assert run(*arguments, tmp_path / "none.nii.gz").code == 3
    # The name of the labels is taken: by another file, and by the segmentation itself.
    (tmp_path / "thin_labels.nii.gz").write_bytes(b"mine")
    done = run(*arguments, mask)
    assert done.code == 5 and "thin_labels.nii.gz" in done.err and not (tmp_path / "thin.nii.gz").exists()
    assert (tmp_path / "thin_labels.nii.gz").read_bytes() == b"mine"
    save(tmp_path / "thin_labels.nii.gz", scan, segmentation(scan.shape))
    done = run(*arguments, tmp_path / "thin_labels.nii.gz", "--overwrite")
    assert done.code == 2 and "would replace the input" in done.err
    assert run(*arguments, mask, "--overwrite").code == 0


def test_labels_go_with_one_output_on_this_computer(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    done = run("upscale", thick_nifti.parent, tmp_path / "out", "--all", "--labels", thick_nifti)
    assert done.code == 2 and "--labels" in done.err
    scan = thinslice.read(thick_nifti)
    mask = save(tmp_path / "organs.nii.gz", scan, segmentation(scan.shape))
    done = run("upscale", thick_nifti, tmp_path / "thin.nii.gz", "--labels", mask, "--server", "http://127.0.0.1:9")
    assert done.code == 2 and "--labels" in done.err


def test_the_volume_stays_where_the_labels_cannot_be_written(
    thick_nifti: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ResourceError("The disk is full.")

    scan = thinslice.read(thick_nifti)
    mask = save(tmp_path / "organs.nii.gz", scan, segmentation(scan.shape))
    monkeypatch.setattr(labels_module, "thin_labels", full)
    done = run("upscale", thick_nifti, tmp_path / "thin.nii.gz", "--model", "linear", "--labels", mask)
    assert done.code == 6 and "complete and kept" in done.err
    assert (tmp_path / "thin.nii.gz").exists() and not (tmp_path / "thin_labels.nii.gz").exists()
