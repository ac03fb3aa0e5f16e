"""A leaderboard grows, replaces what is the same, and tells which rows no longer hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from support.pair_factory import write_pair
from support.tiny_suite import Finished, write_network
from thinslice.errors import UnreadableError, UsageError
from thinslice.experiments.benchmark.leaderboard import (
    CURRENT,
    STALE,
    UNCHECKED,
    Leaderboard,
    add_to_leaderboard,
    read_leaderboard,
    rendering_warning,
    standing,
    to_markdown,
)
from thinslice.experiments.benchmark.run import measure_suite
from thinslice.recipes import read_suite


@pytest.fixture
def board(finished: Finished, tmp_path: Path) -> Path:
    """A leaderboard of the finished run, beside a copy of its inputs that may be changed."""
    shutil.copytree(finished.folder, tmp_path / "bench")
    path = tmp_path / "bench" / "board.json"
    result = replace(
        finished.result,
        methods=tuple(
            replace(m, weights=m.weights and tmp_path / "bench" / m.weights.name) for m in finished.result.methods
        ),
    )
    add_to_leaderboard(path, result, data_root=tmp_path / "bench")
    return path


def states(path: Path) -> dict[str, str]:
    return {entry.label: standing(entry, path.parent).status for entry in read_leaderboard(path).rows}


def test_rows_carry_everything_they_were_made_from(board: Path, finished: Finished) -> None:
    rows = {row.label: row for row in read_leaderboard(board).rows}
    assert list(rows) == ["nearest", "cubic", "small"]
    row, result = rows["small"], finished.result
    assert row.weights_sha256 == result.methods[2].weights_sha256 and row.data_sha256 == result.data_sha256
    assert (row.commit, row.seed, row.device, row.protocol, row.date) == (
        result.commit, result.suite.seed, "cpu", "rplhr", result.made,
    )  # fmt: skip
    assert (row.place.weights, row.place.data) == ("small.safetensors", "pairs")
    assert str(board.parent) not in board.read_text(), "places are relative, so that the folder can be moved"
    assert set(states(board).values()) == {CURRENT}


def test_it_grows_by_new_rows_and_replaces_the_same(board: Path, finished: Finished) -> None:
    again = add_to_leaderboard(board, replace(finished.result, made="2030-01-01T00:00:00Z"))
    assert [row.date[:4] for row in again.rows] == ["2030"] * 3
    grown = add_to_leaderboard(board, replace(finished.result, data_sha256="0" * 64))
    assert len(grown.rows) == 6 and grown.rows[:3] == again.rows
    assert grown == read_leaderboard(board)


def test_a_rendering_of_other_rows_is_warned_of(board: Path, finished: Finished) -> None:
    assert rendering_warning(board) is None
    before = board.with_suffix(".md").read_bytes()
    add_to_leaderboard(board, replace(finished.result, made="2030-01-01T00:00:00Z"))
    assert rendering_warning(board) is None
    board.with_suffix(".md").write_bytes(before)  # as a kill between the two leaves them
    assert "was not made from 'board.json'" in str(rendering_warning(board))
    board.with_suffix(".md").unlink()
    assert rendering_warning(board) is None, "whoever removed it wants none"


def test_changed_weights_make_a_row_stale(board: Path) -> None:
    write_network(board.parent / "small.safetensors", seed=5)
    assert states(board) == {"nearest": CURRENT, "cubic": CURRENT, "small": STALE}
    text = to_markdown(read_leaderboard(board), board.parent)
    assert "STALE: weights changed" in text and text.count("STALE") == 1


def test_changed_data_make_every_row_stale(board: Path) -> None:
    write_pair(board.parent / "pairs", "test", 152, seed=99)
    assert set(states(board).values()) == {STALE}
    why = standing(read_leaderboard(board).rows[0], board.parent).why
    assert len(why) == 1 and why[0].startswith("data changed")


def test_a_case_more_is_other_data_unless_the_suite_left_it_out(board: Path) -> None:
    write_pair(board.parent / "pairs", "train", 1)
    assert set(states(board).values()) == {CURRENT}
    write_pair(board.parent / "pairs", "test", 160)
    assert set(states(board).values()) == {STALE}


def test_a_changed_recipe_makes_a_row_stale(board: Path) -> None:
    from thinslice.recipes import read_train_recipe

    recipe = board.parent / "recipe.toml"
    recipe.write_text('name = "x"\ndata = ["a"]\n[network]\nname = "thinnet"\n')
    digest = read_train_recipe(recipe).digest
    held = read_leaderboard(board).rows[2]
    entry = held.model_copy(
        update={"recipe_sha256": digest, "place": held.place.model_copy(update={"recipe": "recipe.toml"})}
    )
    assert standing(entry, board.parent).status == CURRENT
    recipe.write_text(recipe.read_text() + "\n# messages otherwise\n")
    assert standing(entry, board.parent).status == CURRENT
    recipe.write_text('name = "x"\nseed = 3\ndata = ["a"]\n[network]\nname = "thinnet"\n')
    now = standing(entry, board.parent)
    assert now.status == STALE and now.why[0].startswith("recipe changed")


def test_changed_training_data_make_the_row_of_their_network_stale(tmp_path: Path) -> None:
    for split, number in (("train", 1), ("train", 2), ("val", 100), ("test", 150)):
        write_pair(tmp_path / "pairs", split, number)
    (tmp_path / "recipe.toml").write_text(
        'name = "own"\ndataset = {root = "pairs"}\nnetwork = {name = "thinnet", config = {features = 4, blocks = 1}}\n'
        "crops = {depth = 4, plane = 8}\noptimiser = {steps = 1, warmup = 0}\n"
    )
    (tmp_path / "suite.toml").write_text(
        'name = "s"\nfactor = 5\ndataset = {root = "pairs"}\nmethods = [{label = "linear", model = "linear"}, '
        '{label = "own", recipe = "recipe.toml"}]\n'
    )
    result = measure_suite(read_suite(tmp_path / "suite.toml"), tmp_path / "out", device="cpu", threads=1)
    path = tmp_path / "board.json"
    add_to_leaderboard(path, result)
    assert states(path) == {"linear": CURRENT, "own": CURRENT}
    write_pair(tmp_path / "pairs", "train", 2, seed=99)
    assert states(path) == {"linear": CURRENT, "own": STALE}
    why = standing(read_leaderboard(path).rows[1], tmp_path).why
    assert len(why) == 1 and why[0].startswith("training data changed: ")
    assert "STALE: training data changed" in to_markdown(read_leaderboard(path), tmp_path)
    write_pair(tmp_path / "pairs", "train", 2)
    write_pair(tmp_path / "pairs", "train", 3)
    assert states(path)["own"] == STALE, "a case more is other training data"
    shutil.rmtree(tmp_path / "pairs" / "train")
    assert states(path)["own"] == UNCHECKED


def test_what_is_gone_cannot_be_checked(board: Path) -> None:
    (board.parent / "small.safetensors").unlink()
    assert states(board)["small"] == UNCHECKED
    shutil.rmtree(board.parent / "pairs")
    assert set(states(board).values()) == {UNCHECKED}
    assert "data not found where the row says" in to_markdown(read_leaderboard(board), board.parent)


def test_the_markdown_beside_it_ranks_by_psnr(board: Path) -> None:
    text = board.with_suffix(".md").read_text()
    rows = {entry.label: entry.psnr for entry in read_leaderboard(board).rows}
    order = sorted(rows, key=lambda label: -rows[label])
    places = [text.index(f"| {label} (4 cases)") for label in order]
    assert places == sorted(places)
    assert "protocol rplhr" in text and "4 cases, factor 5" in text


def test_what_is_no_leaderboard_is_refused_and_left_alone(tmp_path: Path, finished: Finished) -> None:
    with pytest.raises(UnreadableError, match="no leaderboard"):
        read_leaderboard(tmp_path / "none.json")
    for content in ("{", '{"rows": [{}]}', "[]", '{"schema": "thinslice-leaderboard/1", "other": 1}'):
        path = tmp_path / "board.json"
        path.write_text(content)
        with pytest.raises(UnreadableError, match=r"board\.json"):
            add_to_leaderboard(path, finished.result)
        assert path.read_text() == content
    with pytest.raises(UsageError, match=r"\.json"):
        add_to_leaderboard(tmp_path / "board.md", finished.result)


def test_a_board_of_another_version_is_refused(board: Path) -> None:
    measured = json.loads(board.read_text())
    measured["schema"] = "thinslice-leaderboard/2"
    board.write_text(json.dumps(measured))
    with pytest.raises(UnreadableError, match="version"):
        read_leaderboard(board)


def test_an_empty_board_has_no_tables() -> None:
    assert "|" not in to_markdown(Leaderboard(), Path())
