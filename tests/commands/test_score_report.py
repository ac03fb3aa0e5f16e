"""The report of `evaluate`: scores of an estimate beside those of interpolation, with pictures and without names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import smooth_volume
from thinslice.commands.score_report import score_pair, to_document, write_report
from thinslice.evaluation.protocol import evaluate, evaluate_all
from thinslice.geometry import Geometry
from thinslice.volume import Volume


@pytest.fixture
def volumes() -> dict[str, Volume]:
    """A thick volume, and two thin ones of it: the linear one is under test, cubic plus noise is the truth."""
    thick = smooth_volume(depth=6)
    truth = thinslice.upscale(thick, model="cubic")
    noise = np.random.default_rng(1).normal(0, 20, truth.hu.shape)
    return {
        "thick": thick,
        "estimate": thinslice.upscale(thick, model="linear"),
        "truth": Volume(np.rint(truth.hu + noise).astype(np.int16), truth.geometry),
        "cubic": truth,
    }


def test_interpolation_is_scored_as_the_estimate_is(volumes: dict[str, Volume]) -> None:
    estimate, truth, thick = volumes["estimate"], volumes["truth"], volumes["thick"]
    scores = evaluate_all(estimate, truth, ("rplhr", "volume"))
    pair = score_pair(estimate, truth, scores, thick=thick)
    assert pair.baseline is not None and np.array_equal(pair.baseline.hu, volumes["cubic"].hu)
    written = pair.to_json()
    for protocol in ("rplhr", "volume"):
        assert written["cubic"][protocol]["psnr"] == evaluate(volumes["cubic"], truth, protocol=protocol).psnr
        assert written["protocols"][protocol]["psnr"] == scores[protocol].psnr
    assert written["cubic"]["rplhr"]["psnr"] > written["protocols"]["rplhr"]["psnr"]
    section = next(part for part in to_document(pair).parts if getattr(part, "title", "") == "Scores")
    lines = [line[:2] for line in section.tables[0].lines]
    assert lines == [["rplhr", "estimate"], ["rplhr", "cubic"], ["volume", "estimate"], ["volume", "cubic"]]


def test_without_thick_slices_the_estimate_stands_alone(volumes: dict[str, Volume]) -> None:
    scores = evaluate_all(volumes["estimate"], volumes["truth"], ("rplhr",))
    pair = score_pair(volumes["estimate"], volumes["truth"], scores)
    assert pair.to_json()["cubic"] == {}
    assert any("thick slices" in sentence for sentence in pair.sentences)


def test_thick_slices_of_another_place_leave_interpolation_out(volumes: dict[str, Volume]) -> None:
    thick = volumes["thick"]
    grid = Geometry(thick.geometry.shape, thick.geometry.spacing_mm, origin_mm=(0.0, 0.0, 2.4))
    scores = evaluate_all(volumes["estimate"], volumes["truth"], ("rplhr",))
    pair = score_pair(volumes["estimate"], volumes["truth"], scores, thick=Volume(thick.hu, grid))
    assert pair.baseline is None
    assert "mm off the thin grid" in pair.warnings[0]


def test_by_index_positions_are_those_of_the_reference(volumes: dict[str, Volume]) -> None:
    """Files in [0, 1] with unit spacing, as the benchmark's: the same scores as by position in HU."""

    def released(volume: Volume) -> Volume:
        unit = (np.clip(volume.hu, -1024, 2048).astype(np.float32) + 1024) / 3072
        return Volume(unit, Geometry(volume.geometry.shape, (1.0, 1.0, 1.0)))

    estimate, truth, thick = (released(volumes[name]) for name in ("estimate", "truth", "thick"))
    scores = evaluate_all(estimate, truth, ("rplhr",), align="index")
    pair = score_pair(estimate, truth, scores, thick=thick, align="index")
    assert pair.baseline is not None
    known = evaluate(volumes["cubic"], volumes["truth"]).psnr
    assert pair.to_json()["cubic"]["rplhr"]["psnr"] == pytest.approx(known, abs=0.02)


def test_a_folder_holds_page_numbers_table_and_figures(volumes: dict[str, Volume], tmp_path: Path) -> None:
    scores = evaluate_all(volumes["estimate"], volumes["truth"], ("rplhr",))
    pair = score_pair(volumes["estimate"], volumes["truth"], scores, thick=volumes["thick"])
    write_report(pair, tmp_path / "score")
    assert {path.name for path in (tmp_path / "score").iterdir()} == {
        "report.html",
        "scores.json",
        "table.md",
        "figures",
    }
    assert {path.name for path in (tmp_path / "score/figures").iterdir()} == {"comparison.png", "slices.png"}
    assert json.loads((tmp_path / "score/scores.json").read_text())["schema"] == "thinslice-scores/1"
