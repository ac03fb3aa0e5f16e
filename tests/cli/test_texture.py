"""thinslice upscale --texture: the noise is stated wherever the result is described; --all and the seed count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import thinslice
from support.command_line import Run
from support.noisy_phantom import phantom
from thinslice.io.dicom.derived.synthetic import write_dicom_source
from thinslice.models import catalog, checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with an untrained head."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "sure.safetensors"
    model = catalog.build("thinnet", features=4, blocks=1, condition=8, deviation=True)
    checkpoint.save(model, path, architecture="thinnet", card={"name": "sure", "version": "2"})
    return path


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "thick"
    write_dicom_source(phantom(3, depth=7, side=80).thick, folder)
    return folder


def test_every_place_that_describes_the_result_states_it(series: Path, weights: Path, tmp_path: Path, run: Run) -> None:
    texts = {}
    for name, options in {"with": ["--texture"], "other": ["--texture", "--texture-seed", "5"], "without": []}.items():
        report = tmp_path / f"{name}.json"
        asked = ["--model", weights, "--factor", "3", "--report", report, *options]
        outcome = run("upscale", series, tmp_path / name, *asked)
        assert outcome.code == 0, outcome.err
        thin = thinslice.read(tmp_path / name)
        header = thin.provenance.headers[0]
        texts[name] = thin, header, json.loads(report.read_text()), outcome
    thin, header, stated, outcome = texts["with"]
    assert header.SeriesDescription.endswith("1mm AI+synthetic noise, not for diagnosis")
    assert "Synthetic noise was added at random: never read small structures" in header.DerivationDescription
    assert "ynthetic noise" in header.ContributingEquipmentSequence[0].ContributionDescription
    assert any("never read small structures" in sentence for sentence in stated["warnings"])
    assert stated["settings"]["texture"] == "synthetic noise" and stated["texture"]["seed"] == 0
    assert stated["texture"]["thin_noise_hu"] == pytest.approx(30.0, rel=0.12)
    assert "synthetic noise" in outcome.out and "never read small structures" in outcome.err
    assert stated["consistency_rms_hu"] < 1.0
    plain_thin, plain_header, plain_stated, plain_outcome = texts["without"]
    assert "synthetic" not in plain_header.SeriesDescription + plain_header.DerivationDescription + plain_outcome.out
    assert plain_stated["texture"] is None and "texture" not in plain_stated["settings"]
    assert np.std(thin.hu) > np.std(plain_thin.hu)
    uids = {texts[name][1].SeriesInstanceUID for name in texts}
    assert len(uids) == 3, "other pixels, other UIDs"


def test_the_page_states_it(series: Path, weights: Path, tmp_path: Path, run: Run) -> None:
    page = tmp_path / "report.html"
    options = ["--model", weights, "--factor", "3", "--texture", "--report", page]
    assert run("upscale", series, tmp_path / "thin.nii", *options).code == 0
    assert "synthetic noise (texture)" in page.read_text() and "never read small structures" in page.read_text()


def test_all_makes_outputs_anew_when_texture_is_asked_for(
    series: Path, weights: Path, tmp_path: Path, run: Run
) -> None:
    options = ["--all", "--format", "nifti", "--model", weights, "--factor", "3"]
    assert run("upscale", series.parent, tmp_path, *options).code == 0
    again = run("upscale", series.parent, tmp_path, *options, "--texture")
    assert again.code != 0 and "other settings" in again.out + again.err
    outcome = run("upscale", series.parent, tmp_path, *options, "--texture", "--overwrite")
    assert outcome.code == 0, outcome.err


def test_a_network_without_a_map_is_refused_with_exit_code_4(series: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("upscale", series, tmp_path / "thin.nii", "--model", "cubic", "--texture")
    assert outcome.code == 4 and "--model default" in outcome.err and not (tmp_path / "thin.nii").exists()


def test_a_scan_without_soft_tissue_is_refused_with_exit_code_3(
    weights: Path, thick_nifti: Path, tmp_path: Path, run: Run
) -> None:
    outcome = run("upscale", thick_nifti, tmp_path / "thin.nii", "--model", weights, "--texture")
    assert outcome.code == 3 and "go without --texture" in outcome.err
