"""thinslice evaluate prints and writes scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import Run, smooth_volume
from thinslice.volume import Volume


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """An estimate 30.72 HU (0.01 of the window) too bright everywhere but rounded, and its truth."""
    truth = smooth_volume(depth=12, spacing_mm=1.0)
    estimate = Volume(truth.hu + np.int16(31), truth.geometry)
    paths = tmp_path / "estimate.nii", tmp_path / "truth.nii"
    thinslice.write(estimate, paths[0])
    thinslice.write(truth, paths[1])
    return paths


def test_scores_are_printed_and_written(pair: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    outcome = run("evaluate", *pair, "--json", tmp_path / "scores.json")
    assert outcome.code == 0, outcome.err
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores.keys() >= {"protocol", "psnr", "ssim", "ssim_per_slice", "slices_scored"}
    assert scores["psnr"] == pytest.approx(20 * np.log10(3072 / 31), abs=1e-3)
    assert scores["slices_scored"] == len(scores["ssim_per_slice"]) == 2
    assert f"{scores['psnr']:.4f}" in outcome.out and "rplhr" in outcome.out


def test_identical_volumes_are_null_in_json(pair: tuple[Path, Path], run: Run) -> None:
    outcome = run("evaluate", pair[1], pair[1], "--json", "-")
    scores = json.loads(outcome.out)
    assert (scores["psnr"], scores["identical"], scores["ssim"]) == (None, True, 1.0)


def test_the_clinical_protocol_takes_the_thick_source(tmp_path: Path, run: Run) -> None:
    thick = smooth_volume(depth=5)
    thinslice.write(thick, tmp_path / "thick.nii")
    thinslice.write(thinslice.upscale(thick, model="linear"), tmp_path / "estimate.nii")
    thinslice.write(thinslice.upscale(thick, model="cubic"), tmp_path / "truth.nii")
    arguments = ["evaluate", tmp_path / "estimate.nii", tmp_path / "truth.nii", "--protocol", "clinical"]
    outcome = run(*arguments, "--thick", tmp_path / "thick.nii", "--json", tmp_path / "scores.json")
    assert outcome.code == 0, outcome.err
    measured = json.loads((tmp_path / "scores.json").read_text())["clinical"]
    assert measured, "the clinical measures are in the JSON"
    assert "clinical:" in outcome.out
    assert all(f"  {name}:" in outcome.out for name in measured)
    # Spectra and single features are for programs.
    assert "per_mm" not in outcome.out and "concordance:" not in outcome.out and "percent" in outcome.out


def test_several_protocols_at_once(pair: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    """No slices are left out under `volume`, and the error is the same in all of them."""
    arguments = ["evaluate", *pair, "--protocol", "rplhr", "--protocol", "volume"]
    outcome = run(*arguments, "--json", tmp_path / "scores.json")
    assert outcome.code == 0, outcome.err
    scores = json.loads((tmp_path / "scores.json").read_text())["protocols"]
    assert list(scores) == ["rplhr", "volume"]
    assert [each["slices_scored"] for each in scores.values()] == [2, 12]
    assert scores["volume"]["psnr"] == pytest.approx(20 * np.log10(3072 / 31), abs=1e-3)
    assert set(scores["volume"]["planes"]) == {"axial", "coronal", "sagittal"}
    assert "protocol: rplhr" in outcome.out and "protocol: volume" in outcome.out


def test_json_is_not_overwritten_unasked(pair: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    kept = tmp_path / "scores.json"
    kept.write_text("mine")
    assert run("evaluate", *pair, "--json", kept).code == 5
    assert kept.read_text() == "mine"
    assert run("evaluate", *pair, "--json", kept, "--overwrite").code == 0


def test_volumes_elsewhere_in_the_patient_are_refused(pair: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    elsewhere = smooth_volume(depth=13, spacing_mm=1.0)
    thinslice.write(elsewhere, tmp_path / "other.nii")
    assert run("evaluate", pair[0], tmp_path / "other.nii", "--align", "index").code == 3
    assert run("evaluate", pair[0], tmp_path / "absent.nii").code == 3
    assert run("evaluate", *pair, "--protocol", "nonsense").code == 2


def test_the_report_names_no_file_and_is_not_replaced_unasked(tmp_path: Path, run: Run) -> None:
    thick = smooth_volume(depth=5)
    thinslice.write(thick, tmp_path / "Mueller_thick.nii")
    thinslice.write(thinslice.upscale(thick, model="linear"), tmp_path / "Mueller_estimate.nii")
    thinslice.write(thinslice.upscale(thick, model="cubic"), tmp_path / "Mueller_truth.nii")
    arguments = ["evaluate", tmp_path / "Mueller_estimate.nii", tmp_path / "Mueller_truth.nii"]
    arguments += ["--thick", tmp_path / "Mueller_thick.nii", "--report", tmp_path / "score.html"]
    outcome = run(*arguments)
    assert outcome.code == 0, outcome.err
    page = (tmp_path / "score.html").read_text()
    assert "Mueller" not in page and page.count("data:image/png") == 2 and "not a medical device" in page
    refused = run(*arguments)
    assert refused.code == 5 and "--overwrite" in refused.err and "psnr" not in refused.out
    assert run(*arguments, "--overwrite").code == 0
