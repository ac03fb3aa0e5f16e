"""thinslice models check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import Run
from thinslice import Geometry, Volume
from thinslice.experiments.clinical_check import phantoms
from thinslice.models import catalog, checkpoint


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    z, y, x = np.mgrid[:31, :70, :72]
    hu = (400 * np.sin(z / 3.0 + x / 4.0) + 300 * np.cos(y / 3.0)).astype(np.int16)
    path = tmp_path_factory.mktemp("ct") / "doe_jane.nii.gz"
    thinslice.write(Volume(hu, Geometry(hu.shape, (1.0, 0.8, 0.8))), path)
    return path


def test_tables_go_to_stdout_and_files_into_the_folder(run: Run, thin: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("models", "check", "linear", "--thin", f"waves={thin}", "--factors", "3", "--no-phantom", "--out", out)
    assert done.code == 0, done.err
    assert "| linear |" in done.out and "waves, factor 3" in done.out and "waves, factor 3" in done.err
    values = json.loads((out / "check.json").read_text())
    assert values["schema"] == "thinslice-clinical-check/1" and values["cases"][0]["thick_mm"] == pytest.approx(3.0)
    # The file ends with the digest of check.json, for programs; the tables are the same.
    assert (out / "check.md").read_text().startswith(done.out.rstrip())
    # A file's name may be a patient's.
    for path in out.glob("check.*"):
        assert "doe_jane" not in path.read_text()
    names = {path.name for path in (out / "figures").iterdir()}
    assert names <= {"bias.png", "edges.png", "noise-scans.png"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["default", "--no-phantom"], "--thin"),
        (["default", "--thin", "nolabel"], "LABEL=PATH"),
        (["default", "--factors", "five"], "--factors"),
        (["nonsense"], "neither a model name"),
        (["default", "--crop", "5"], "64"),
        (["default", "--guard", "--factors", "3"], "factor 5"),
        (["default", "--guard", "--no-phantom"], "--no-phantom"),
        (["default", "--guard", "--crop", "128"], "--crop"),
        (["default", "--write-card"], "belongs to this installation"),
        (["a.safetensors", "b.safetensors", "--write-card"], "name one network"),
    ],
)
def test_impossible_arguments_are_refused(run: Run, arguments: list[str], expected: str) -> None:
    done = run("models", "check", *arguments)
    assert done.code == 2 and expected in done.err


def test_a_network_that_breaks_the_guard_ends_with_exit_code_4(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantoms, "POSITIONS", 1)
    done = run("models", "check", "cubic", "--guard")
    assert done.code == 4 and "not kept by cubic" in done.err
    assert "| cubic |" in done.out.partition("## The guard")[2].partition("##")[0]


def test_the_card_of_a_weights_file_gets_the_numbers(run: Run, thin: Path, tmp_path: Path) -> None:
    weights = tmp_path / "small.safetensors"
    model = catalog.build("thinnet", features=4, blocks=1, condition=8)
    checkpoint.save(model, weights, architecture="thinnet", card={"name": "small"})
    done = run("models", "check", weights, "--write-card", "--thin", f"waves={thin}", "--factors", "3", "--no-phantom")
    assert done.code == 0, done.err
    shown = json.loads(run("models", "show", weights, "--json").out)
    assert shown["card"]["clinical"]["cases"][0]["case"] == "waves"


def test_help_describes_the_command(run: Run) -> None:
    assert "thinslice models check default --thin" in run("models", "check", "--help").out
