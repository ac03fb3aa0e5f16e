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
from thinslice.errors import NotEligibleError, OutputError, OutputExistsError, UsageError
from thinslice.inference.settings import UpscaleSettings
from thinslice.io.settings import ReadSettings


@pytest.fixture(autouse=True)
def small_phantom(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = thorax.phantom_grid((41, 48, 48), (1.0, 7.5, 7.5))
    monkeypatch.setattr(thorax, "phantom_grid", lambda: grid)


def test_the_phantom_goes_from_thick_dicom_to_scores(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    lines = demo.run_demo(None, out, settings=UpscaleSettings(model="cubic")).lines
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
    demo.run_demo(tmp_path / "scan", tmp_path / "out", settings=UpscaleSettings(model="linear"))
    made = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert made == {"thin", "thin.nii.gz", "preview.png", "report.html", "report.json"}


def test_a_nifti_of_ones_own(tmp_path: Path) -> None:
    thinslice.write(smooth_volume(), tmp_path / "scan.nii")
    demo.run_demo(tmp_path / "scan.nii", tmp_path / "out", settings=UpscaleSettings(model="linear"))
    made = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert made == {"thin.nii.gz", "preview.png", "report.html", "report.json"}


def test_a_refused_scan_leaves_no_folder(tmp_path: Path) -> None:
    thinslice.write(smooth_volume(spacing_mm=1.0), tmp_path / "scan.nii")
    with pytest.raises(NotEligibleError):
        demo.run_demo(tmp_path / "scan.nii", tmp_path / "out", settings=UpscaleSettings(model="linear"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.nii"]


def test_only_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    thinslice.write(smooth_volume(), tmp_path / "scan.nii")
    demo.run_demo(tmp_path / "scan.nii", out, settings=UpscaleSettings(model="linear"))
    with pytest.raises(OutputExistsError):
        demo.run_demo(tmp_path / "scan.nii", out, settings=UpscaleSettings(model="linear"))
    demo.run_demo(tmp_path / "scan.nii", out, settings=UpscaleSettings(model="nearest"), overwrite=True)
    assert json.loads((out / "report.json").read_text())["model"]["name"] == "nearest"
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError):
        demo.run_demo(tmp_path / "scan.nii", out, settings=UpscaleSettings(model="linear"), overwrite=True)
    assert (out / "thesis.txt").read_text() == "mine"


def test_a_scan_is_read_and_upscaled_with_the_options_of_upscale(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "a", shape=(3, 16, 16), uid="1.2.3.1")
    write_series(tmp_path / "in" / "b", shape=(4, 16, 16), uid="1.2.3.2")
    result = demo.run_demo(
        tmp_path / "in",
        tmp_path / "out",
        settings=UpscaleSettings(model="linear", spacing_mm=2.0),
        reading=ReadSettings(series="1.2.3.2"),
    )
    assert thinslice.read(tmp_path / "out" / "thin.nii.gz").geometry.shape == (8, 16, 16)
    assert result.report.spacing_mm_out[0] == 2.0 and "8 slices 2 mm apart" in result.lines[0]


def test_options_of_the_input_need_an_input(tmp_path: Path) -> None:
    for options in (
        {"reading": ReadSettings(series="1")},
        {"settings": UpscaleSettings(spacing_mm=2.0)},
        {"settings": UpscaleSettings(texture=True)},
    ):
        with pytest.raises(UsageError, match="need an INPUT"):
            demo.run_demo(None, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_source_is_not_inside_the_folder_of_the_results(tmp_path: Path) -> None:
    write_series(tmp_path / "out" / "scan", shape=(3, 16, 16))
    with pytest.raises(UsageError, match="would replace the input"):
        demo.run_demo(tmp_path / "out" / "scan", tmp_path / "out", overwrite=True)
