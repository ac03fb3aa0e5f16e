"""thinslice benchmark with a domain-gap experiment: output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from support.command_line import Run
from support.tiny_gap import edited, write_gap

pytest.importorskip("lightning_fabric")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny experiment with one network, trained for a step."""
    torch.set_num_threads(1)
    edited(
        write_gap(tmp_path),
        ('    {label = "B", recipe = "recipe.toml", override = {name = "b", "optimiser.steps" = 2}},\n', ""),
        ('{"crops.plane" = 24}', '{"crops.plane" = 16, "optimiser.steps" = 1, "optimiser.batch" = 1}'),
    )
    return tmp_path


def test_a_table_for_each_set_and_rows_for_the_leaderboard(run: Run, folder: Path) -> None:
    board = folder / "board.json"
    arguments = ("--out", folder / "out", "--device", "cpu", "--limit", 1)
    done = run("benchmark", folder / "gap.toml", *arguments, "--leaderboard", board)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line for line in lines if line.startswith(("pairs", "phantom"))] == ["pairs, test", "phantom, external"]
    assert lines[1].split()[:4] == ["network", "trained", "on", "cases"]
    assert [line.split()[:3] for line in lines[4:7]] == [["A", way, "1"] for way in ("paired", "mean", "subsample")]
    assert "training a-mean" in done.err and "trained once each way" in done.text and "report" in done.err
    rows = json.loads(board.read_text())["rows"]
    assert len(rows) == 10 and {row["dataset"] for row in rows} == {"pairs", "phantom"}
    shown = json.loads(run("leaderboard", board, "--json").out)["rows"]
    assert {row["state"] for row in shown} == {"current"}, shown

    # A set that has gone is named, the rest is shown again without any work.
    for file in (folder / "phantom").iterdir():
        file.unlink()
    again = run("benchmark", folder / "gap.toml", *arguments, "--quiet")
    assert again.code == 8 and "all of phantom" in again.err and len(again.err.splitlines()) == 1
    assert again.out.splitlines() == lines[1 : 6 + 1]


def test_a_suite_that_contradicts_itself_is_refused(run: Run, folder: Path) -> None:
    edited(folder, ('label = "subsample"', 'label = "paired"'))
    done = run("benchmark", folder / "gap.toml")
    assert done.code == 2 and "paired" in done.err
