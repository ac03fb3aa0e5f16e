"""thinslice upscale --uncertainty, and thinslice models calibrate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import thinslice
from support.command_line import Run
from thinslice import Geometry, Volume
from thinslice.models import catalog, checkpoint


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small network with an untrained head."""
    torch.manual_seed(0)
    path = tmp_path / "sure.safetensors"
    model = catalog.build("thinnet", features=4, blocks=1, condition=8, deviation=True)
    checkpoint.save(model, path, architecture="thinnet", card={"name": "sure", "version": "2"})
    return path


@pytest.fixture
def thin_nifti(tmp_path: Path) -> Path:
    z, y, x = np.mgrid[:40, :48, :48]
    hu = 400 * np.sin(z / 3.0 + x / 4.0) + 300 * np.cos(y / 3.0)
    path = tmp_path / "patient.nii.gz"
    thinslice.write(Volume(hu.astype(np.int16), Geometry(hu.shape, (1.0, 0.8, 0.8))), path)
    return path


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_they_are_written_beside_the_result_and_reported(
    thick_nifti: Path, weights: Path, tmp_path: Path, run: Run, suffix: str
) -> None:
    output, errors, report = tmp_path / "thin.nii", tmp_path / f"errors{suffix}", tmp_path / "report.json"
    options = ["--model", weights, "--uncertainty", errors, "--report", report, "--preview", tmp_path / "look.png"]
    outcome = run("upscale", thick_nifti, output, *options)
    assert outcome.code == 0, outcome.err
    assert "not been calibrated" in outcome.err and "uncertainty  median" in outcome.out
    thin, deviation = thinslice.read(output), thinslice.read(errors)
    assert deviation.geometry == thin.geometry and deviation.hu.dtype == np.float32
    summary = json.loads(report.read_text())["deviation"]
    assert (summary["source"], summary["format"], summary["calibrated"]) == ("learned", "nifti", False)
    inside = deviation.hu[thin.hu > -950]
    assert summary["mean_hu"] == pytest.approx(inside.mean(), abs=1e-3)
    assert summary["median_hu"] == pytest.approx(np.median(inside), abs=0.1)
    assert summary["p95_hu"] == pytest.approx(np.percentile(inside, 95), abs=0.2)
    assert "errors" not in report.read_text(), "people name files after patients"
    plain = tmp_path / "plain.nii"
    assert run("upscale", thick_nifti, plain, "--model", weights).code == 0
    np.testing.assert_array_equal(thinslice.read(plain).hu, thin.hu)


def test_the_card_calibrates_what_is_written(thick_nifti: Path, weights: Path, tmp_path: Path, run: Run) -> None:
    model = checkpoint.load(weights)
    made = {}
    for scale in (1.0, 3.0):
        card = {"name": "sure", "deviation": {"calibration": {"scale": scale, "multipliers": {"90": 1.5}}}}
        path = tmp_path / f"scaled-{scale:g}.safetensors"
        checkpoint.save(model, path, architecture="thinnet", card=card)
        page, errors = tmp_path / f"{scale:g}.html", tmp_path / f"{scale:g}.nii"
        outcome = run("upscale", thick_nifti, tmp_path / f"thin{scale:g}.nii", "--model", path,
                      "--uncertainty", errors, "--report", page)  # fmt: skip
        assert outcome.code == 0 and "calibrated" not in outcome.err
        assert "(learned, calibrated)" in page.read_text() and "90 %: 1.50" in page.read_text()
        made[scale] = thinslice.read(errors).hu
    np.testing.assert_allclose(made[3.0], 3.0 * made[1.0], atol=0.15)


def test_any_network_gives_an_ensemble(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    errors = tmp_path / "errors.nii"
    outcome = run("upscale", thick_nifti, tmp_path / "a.nii", "--model", "linear", "--uncertainty", errors)
    assert outcome.code == 4 and "ensemble" in outcome.err and not errors.exists() and not (tmp_path / "a.nii").exists()
    outcome = run("upscale", thick_nifti, tmp_path / "a.nii", "--model", "linear", "--uncertainty", errors,
                  "--uncertainty-by", "ensemble")  # fmt: skip
    assert outcome.code == 0 and "not calibrated" in outcome.err
    assert errors.exists()


def test_the_older_option_names_are_accepted(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    made = []
    for name in ("uncertainty", "deviation"):
        errors = tmp_path / f"{name}.nii"
        options = [f"--{name}", errors, f"--{name}-by", "ensemble"]
        outcome = run("upscale", thick_nifti, tmp_path / f"thin-{name}.nii", "--model", "linear", *options)
        assert outcome.code == 0, outcome.err
        made.append(errors.read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("name", "code", "word"), [("folder", 2, "no CT picture"), ("thin.nii", 2, "one name"), ("a.jpg", 2, ".jpg")]
)
def test_what_cannot_hold_them_is_refused(
    thick_nifti: Path, weights: Path, tmp_path: Path, run: Run, name: str, code: int, word: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    outcome = run("upscale", thick_nifti, out / "thin.nii", "--model", weights, "--uncertainty", out / name)
    assert outcome.code == code and word in outcome.err
    assert list(out.iterdir()) == []


def test_by_ensemble_needs_a_file(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("upscale", thick_nifti, tmp_path / "thin.nii", "--model", "cubic", "--uncertainty-by", "ensemble")
    assert outcome.code == 2 and "--uncertainty is missing" in outcome.err


@pytest.mark.parametrize("command", ["calibrate", "score"])
@pytest.mark.parametrize("name", ["default", "cubic", "absent.safetensors"])
def test_cards_of_this_installation_are_not_written(command: str, name: str, thin_nifti: Path, run: Run) -> None:
    outcome = run("models", command, name, "--thin", f"a={thin_nifti}", "--write-card")
    assert outcome.code == 2 and ("your own" in outcome.err or "neither" in outcome.err)


def test_a_folder_that_is_missing_is_refused_before_measuring(weights: Path, thin_nifti: Path, run: Run) -> None:
    outcome = run("models", "calibrate", weights, "--thin", f"a={thin_nifti}", "--json", "absent/values.json")
    assert outcome.code == 5 and not outcome.out


def test_an_existing_file_is_kept_unless_asked(thick_nifti: Path, weights: Path, tmp_path: Path, run: Run) -> None:
    errors = tmp_path / "errors.nii"
    errors.write_text("mine")
    arguments = ["upscale", thick_nifti, tmp_path / "thin.nii", "--model", weights, "--uncertainty", errors]
    assert run(*arguments).code == 5 and errors.read_text() == "mine"
    assert run(*arguments, "--overwrite").code == 0
    assert thinslice.read(errors).geometry.shape[0] == 21


def test_calibrate_measures_writes_and_then_tests_the_card(
    weights: Path, thin_nifti: Path, tmp_path: Path, run: Run
) -> None:
    values_file, figure = tmp_path / "values.json", tmp_path / "figure.png"
    options = ["--thin", f"chest={thin_nifti}", "--factors", "3", "--backend", "torch", "--crop", "40"]
    outcome = run("models", "calibrate", weights, *options, "--json", values_file, "--figure", figure)
    assert outcome.code == 0, outcome.err
    assert "calibration from these same patients" in outcome.out and "all voxels" in outcome.out
    values = json.loads(values_file.read_text())
    assert values["tested"]["from"] == "these patients" and values["patients"][0]["case"] == "chest"
    assert sum(values["patients"][0]["counts"]) == values["rows"][0]["voxels"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "calibration" not in json.dumps(checkpoint.inspect(weights).card)
    assert run("models", "calibrate", weights, *options, "--json", values_file).code == 5

    outcome = run("models", "calibrate", weights, "--from", values_file, "--write-card")
    assert outcome.code == 0, outcome.err
    kept = checkpoint.inspect(weights).card["deviation"]["calibration"]
    assert kept["scale"] == pytest.approx(values["fitted"]["scale"], rel=1e-3)
    assert kept["multipliers"] == pytest.approx(values["fitted"]["multipliers"], rel=1e-3)
    outcome = run("models", "calibrate", weights, *options)
    assert "calibration from its card" in outcome.out and "kept" in outcome.out
    assert run("models", "calibrate", weights, *options, "--from", values_file).code == 2, (
        "tested on what it was found on"
    )
    other = ["--thin", f"another={thin_nifti}", *options[2:]]
    outcome = run("models", "calibrate", weights, *other, "--from", values_file)
    assert "calibration from other patients" in outcome.out
    outcome = run("models", "calibrate", weights, *other, "--from", values_file, "--ensemble")
    assert outcome.code == 2 and "'learned', not 'ensemble'" in outcome.err
    shown = run("models", "show", weights)
    assert shown.code == 0 and "multipliers" in shown.out


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--thin", "nolabel"],
        ["--pair", "a=one"],
        ["--from", "absent.json"],
        ["--thin", "a={thin}", "--factors", "x"],
        ["--thin", "a={thin}", "--ensemble", "--write-card"],
        ["--thin", "a={thin}", "--figure", "figure.txt"],
        ["--thin", "a={thin}", "--from", "absent.json"],
    ],
)
def test_calibrate_refuses_what_makes_no_sense(weights: Path, thin_nifti: Path, run: Run, options: list[str]) -> None:
    filled = [option.format(thin=thin_nifti) for option in options]
    assert run("models", "calibrate", weights, *filled).code == 2
