"""thinslice models and thinslice convert."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from support.command_line import Run
from thinslice.models import catalog, checkpoint
from thinslice.models.verify import verify
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


def test_the_embedded_weights_are_those_of_the_release(run: Run) -> None:
    outcome = run("models", "verify", "--json")
    assert outcome.code == 0, outcome.err
    files = json.loads(outcome.out)
    assert {file["name"] for file in files} >= {"best.safetensors", "default.safetensors", "fast.safetensors"}
    assert {file["state"] for file in files} == {"intact"}
    assert all(file["sha256"] in run("models", "verify").out for file in files)


def test_weights_that_are_not_those_of_the_release_are_named(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("d", b"4")):
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    digest = hashlib.sha256(b"1").hexdigest()
    lines = (f"{digest}  {name}.safetensors" for name in "abc")
    (tmp_path / "SHA256SUMS").write_text("\n".join(lines), encoding="ascii")
    assert {each.name[0]: each.state for each in verify(tmp_path)} == {
        "a": "intact", "b": "changed", "c": "missing", "d": "not listed"
    }  # fmt: skip
    monkeypatch.setattr(verify, "__defaults__", (tmp_path,))
    outcome = run("models", "verify")
    assert outcome.code == 4 and "b.safetensors, c.safetensors, d.safetensors" in outcome.err
