"""The demonstration on a small phantom, and on a scan of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import smooth_volume
from support.dicom_factory import write_series
from thinslice.commands import demo
from thinslice.data.phantoms import thorax
from thinslice.errors import NotEligibleError, OutputError, OutputExistsError


@pytest.fixture(autouse=True)
def small_phantom(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = thorax.phantom_grid((41, 48, 48), (1.0, 7.5, 7.5))
    monkeypatch.setattr(thorax, "phantom_grid", lambda: grid)


def test_the_phantom_goes_from_thick_dicom_to_scores(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    lines = demo.run_demo(None, out, model="cubic")
    assert {entry.name for entry in out.iterdir()} == demo.FILES
    thick, truth = thinslice.read(out / "thick"), thinslice.read(out / "truth.nii.gz")
    thin, nifti = thinslice.read(out / "thin"), thinslice.read(out / "thin.nii.gz")
    assert thin.geometry.shape == truth.geometry.shape == ((thick.geometry.shape[0] - 1) * 5 + 1, 48, 48)
    np.testing.assert_allclose(thin.geometry.affine_lps, truth.geometry.affine_lps, atol=1e-3)
    np.testing.assert_array_equal(thin.hu, nifti.hu)
    scores = json.loads((out / "scores.json").read_text())
    assert scores.keys() == {*demo.BASELINES, "cubic"}
    for name, score in scores.items():
        assert any(line.startswith(name) and f"{score['psnr']:.2f}" in line for line in lines)
    assert thinslice.NOTICE in (out / "report.html").read_text()


def test_a_dicom_scan_of_ones_own(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", shape=(4, 20, 22))
    demo.run_demo(tmp_path / "scan", tmp_path / "out", model="linear")
    made = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert made == {"thin", "thin.nii.gz", "preview.png", "report.html", "report.json"}


def test_a_nifti_of_ones_own(tmp_path: Path) -> None:
    thinslice.write(smooth_volume(), tmp_path / "scan.nii")
    demo.run_demo(tmp_path / "scan.nii", tmp_path / "out", model="linear")
    made = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert made == {"thin.nii.gz", "preview.png", "report.html", "report.json"}


def test_a_refused_scan_leaves_no_folder(tmp_path: Path) -> None:
    thinslice.write(smooth_volume(spacing_mm=1.0), tmp_path / "scan.nii")
    with pytest.raises(NotEligibleError):
        demo.run_demo(tmp_path / "scan.nii", tmp_path / "out", model="linear")
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.nii"]


def test_only_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    thinslice.write(smooth_volume(), tmp_path / "scan.nii")
    demo.run_demo(tmp_path / "scan.nii", out, model="linear")
    with pytest.raises(OutputExistsError):
        demo.run_demo(tmp_path / "scan.nii", out, model="linear")
    demo.run_demo(tmp_path / "scan.nii", out, model="nearest", overwrite=True)
    assert json.loads((out / "report.json").read_text())["model"]["name"] == "nearest"
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError):
        demo.run_demo(tmp_path / "scan.nii", out, model="linear", overwrite=True)
    assert (out / "thesis.txt").read_text() == "mine"
