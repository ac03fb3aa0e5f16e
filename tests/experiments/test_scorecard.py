"""Scores for a model card: rows beside interpolation, kept in the weights file without touching its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import thinslice
from thinslice import Geometry, SliceProfile, Volume
from thinslice.data.simulate import simulate_thick
from thinslice.evaluation.protocol import evaluate
from thinslice.experiments.scorecard import BASELINES, score_pair, score_simulated, table, write_into_card
from thinslice.models import catalog, checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    model = catalog.build("thinnet", features=4, blocks=1, condition=8)
    checkpoint.save(model, path, architecture="thinnet", card={"name": "small", "version": "9"})
    return path


@pytest.fixture(scope="module")
def thin() -> Volume:
    z, y, x = np.mgrid[:60, :20, :24]
    hu = (400 * np.sin(z / 3.0 + x / 4.0) + 300 * np.cos(y / 3.0)).astype(np.int16)
    return Volume(hu, Geometry(hu.shape, (1.0, 0.8, 0.8)))


def test_rows_are_what_upscale_and_evaluate_give(weights: Path, thin: Volume) -> None:
    rows = list(score_simulated(weights, thin, case="waves", factors=(5,)))
    assert [row.model for row in rows] == [*BASELINES, "small"]
    thick, reference = simulate_thick(thin, SliceProfile.mean(5), whole_hu=True)
    for row, model in zip(rows, (*BASELINES, weights), strict=True):
        scores = evaluate(thinslice.upscale(thick, model=model, factor=5), reference)
        assert row.psnr == pytest.approx(scores.psnr, abs=1e-9)
        assert row.ssim == pytest.approx(scores.ssim, abs=1e-9)
        assert row.slices_scored == scores.slices_scored
    assert rows[1].consistency_rms_hu < 1 < rows[0].consistency_rms_hu


def test_a_pair_is_scored_by_position(weights: Path, thin: Volume) -> None:
    thick, _ = simulate_thick(thin, SliceProfile.mean(4), whole_hu=True)
    rows = list(score_pair(weights, thick, thin, case="pair"))
    assert {row.factor for row in rows} == {4}
    again = list(score_simulated(weights, thin, case="pair", factors=(4,)))
    assert [row.psnr for row in rows] == pytest.approx([row.psnr for row in again])


def test_factors_that_leave_too_few_slices_are_skipped(weights: Path, thin: Volume) -> None:
    short = thin.crop((0, 0, 0), (20, 20, 24))
    assert list(score_simulated(weights, short, case="short", factors=(8,))) == []


def test_scores_go_into_the_card_and_the_weights_stay(weights: Path, thin: Volume) -> None:
    before = checkpoint.load(weights).state_dict()
    rows = list(score_simulated(weights, thin, case="waves", factors=(5,)))
    write_into_card(weights, rows, note="a test")
    card = checkpoint.inspect(weights).card
    assert card["name"] == "small"
    assert [row["psnr"] for row in card["scores"]["rows"]] == [round(row.psnr, 4) for row in rows]
    after = checkpoint.load(weights).state_dict()
    for name in before:
        torch.testing.assert_close(before[name], after[name], atol=0, rtol=0)
    assert len(table(rows)) == 1 + len(rows)
