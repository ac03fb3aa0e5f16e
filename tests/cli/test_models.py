"""thinslice models and thinslice convert."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import Run
from thinslice.models import catalog, checkpoint
from thinslice.system.files import sha256_of


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights file of an untrained network, with a card."""
    path = tmp_path / "mine.safetensors"
    card = {"name": "mine", "version": "3", "limits": ["chest only", "no contrast"], "scores": {"psnr": 38.5}}
    checkpoint.save(catalog.build("thinnet"), path, architecture="thinnet", card=card)
    return path


def test_list_names_every_model(run: Run) -> None:
    outcome = run("models", "list")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()] == catalog.names()
    rows = json.loads(run("models", "list", "--json").out)
    assert [row["name"] for row in rows] == catalog.names()
    assert {row["name"]: row["ready"] for row in rows}["cubic"] is True
    assert {row["name"]: row["ready"] for row in rows}["tvsrn"] is False


def test_show_prints_the_card(weights: Path, run: Run) -> None:
    outcome = run("models", "show", weights)
    assert outcome.code == 0, outcome.err
    assert "version: 3" in outcome.out and "chest only, no contrast" in outcome.out and "psnr: 38.5" in outcome.out
    shown = json.loads(run("models", "show", weights, "--json").out)
    assert shown["architecture"] == "thinnet" and shown["card"]["name"] == "mine"
    assert shown["sha256"] == sha256_of(weights)


def test_show_of_a_model_without_weights(run: Run) -> None:
    assert "spline" in run("models", "show", "cubic").out


def test_show_refuses_what_is_no_model(tmp_path: Path, run: Run) -> None:
    assert run("models", "show", "nonsense").code == 2
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 64)
    assert run("models", "show", tmp_path / "bad.safetensors").code == 4


def test_a_weights_file_is_a_model(weights: Path, thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    report = tmp_path / "report.json"
    outcome = run("upscale", thick_nifti, tmp_path / "thin.nii", "--model", weights, "--report", report)
    assert outcome.code == 0, outcome.err
    model = json.loads(report.read_text())["model"]
    assert (model["name"], model["version"], model["sha256"]) == ("mine", "3", sha256_of(weights))


def test_convert_asks_for_a_safetensors_name(tmp_path: Path, run: Run) -> None:
    outcome = run("convert", tmp_path / "a.pkl", tmp_path / "b.pkl")
    assert outcome.code == 2 and ".safetensors" in outcome.err
