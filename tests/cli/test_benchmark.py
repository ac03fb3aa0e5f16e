"""thinslice benchmark and leaderboard: output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from support.command_line import Run
from support.tiny_suite import copied, write_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    write_data(tmp_path / "data")
    copied(tmp_path / "data", tmp_path / "bench")
    return tmp_path / "bench"


def test_a_suite_prints_its_table_and_a_leaderboard_shows_its_rows(run: Run, folder: Path) -> None:
    out, board = folder / "out", folder / "board.json"
    suite = folder / "suite.toml"
    arguments = ("--out", out, "--device", "cpu", "--limit", 2, "--leaderboard", board)
    done = run("benchmark", suite, *arguments)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split()[:2] == ["method", "cases"] and [line.split()[0] for line in lines[1:]] == [
        "nearest", "cubic", "small",
    ]  # fmt: skip
    assert all(line.split()[1] == "2" for line in lines[1:])
    assert "100 % (6 of 6)" in done.err and "report" in done.err and "no stars" in done.text
    assert (out / "report.html").is_file()

    shown = run("leaderboard", board)
    assert shown.code == 0 and shown.out.count("| current |") == 3
    (folder / "small.safetensors").unlink()
    rows = json.loads(run("leaderboard", board, "--json").out)["rows"]
    assert {row["label"]: row["state"] for row in rows} == {
        "nearest": "current", "cubic": "current", "small": "unchecked",
    }  # fmt: skip

    quiet = run("benchmark", suite, *arguments, "--quiet")
    assert quiet.code == 8 and quiet.err.startswith("error: ") and "small.safetensors" in quiet.err
    assert len(quiet.err.splitlines()) == 1 and "nearest" in quiet.out


@pytest.mark.parametrize(
    ("change", "code", "expected"),
    [
        (("factor = 5", "factor = 50"), 2, "factor"),
        (('"pairs"', '"elsewhere"'), 3, "elsewhere"),
        (('model = "cubic"', 'model = "cubism"'), 8, "cubism"),
    ],
)
def test_errors_have_their_exit_codes(
    run: Run, folder: Path, change: tuple[str, str], code: int, expected: str
) -> None:
    suite = folder / "suite.toml"
    suite.write_text(suite.read_text().replace(*change))
    done = run("benchmark", suite, "--out", folder / "out", "--device", "cpu", "--limit", 1)
    assert done.code == code and expected in done.err, done.err
    assert "Traceback" not in done.err


def test_missing_files_are_named(run: Run, folder: Path) -> None:
    assert run("benchmark", folder / "none.toml").code == 2
    assert run("leaderboard", folder / "none.json").code == 3
    device = run("benchmark", folder / "suite.toml", "--device", "tpu")
    assert device.code == 2 and "tpu" in device.err


def test_help_describes_the_command(run: Run) -> None:
    text = run("benchmark", "--help").text
    assert "continues" in text and "thinslice benchmark suites/" in text and "manifest.csv" in text
    assert "STALE" in run("leaderboard", "--help").text
