"""A small real training run: it learns, resumes exactly, and reports faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from thinslice.errors import DeviceError, ModelError, UnreadableError, UsageError
from thinslice.models import checkpoint
from thinslice.recipes import OptimiserRecipe, SimulationRecipe, TrainRecipe
from thinslice.training.fit import export_state, fit

RECIPE = TrainRecipe(
    name="small",
    network={"name": "thinnet", "config": {"features": 8, "blocks": 1}},
    data=("data",),
    simulation=SimulationRecipe(factors=(3, 4), depth=4, plane=16, least_body=0),
    optimiser=OptimiserRecipe(steps=8, batch=2, warmup=2, average=0.9),
    log_every=4,
    card={"licence": "none", "version": "0.0.1"},
)


def test_a_run_cut_short_and_continued_equals_one_that_was_not(tmp_path: Path, data_root: Path) -> None:
    whole = fit(RECIPE, tmp_path / "whole", data_root=data_root, device="cpu")
    assert fit(RECIPE, tmp_path / "cut", data_root=data_root, device="cpu", stop_after_s=0.0) is None
    assert fit(RECIPE, tmp_path / "cut", data_root=data_root, device="cpu", stop_after_s=0.0) is None
    cut = fit(RECIPE, tmp_path / "cut", data_root=data_root, device="cpu")
    assert whole is not None and cut is not None
    assert checkpoint.inspect(whole).card == checkpoint.inspect(cut).card
    a, b = checkpoint.load(whole).state_dict(), checkpoint.load(cut).state_dict()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=0, rtol=0)


def test_the_card_names_recipe_seed_and_steps(tmp_path: Path, data_root: Path) -> None:
    weights = fit(RECIPE, tmp_path, data_root=data_root, device="cpu")
    assert weights is not None
    card = checkpoint.inspect(weights).card
    assert card["recipe_sha256"] == RECIPE.digest
    assert (card["seed"], card["steps"], card["licence"]) == (0, 8, "none")


def test_it_learns(tmp_path: Path, data_root: Path) -> None:
    recipe = RECIPE.model_copy(
        update={"optimiser": OptimiserRecipe(steps=60, batch=2, warmup=5, average=0.9, learning_rate=5e-3)}
    )
    losses: list[float] = []
    fit(recipe, tmp_path, data_root=data_root, device="cpu", report=lambda line: losses.append(line.loss))
    assert np.mean(losses[-4:]) < 0.8 * losses[0]


def test_another_recipes_run_is_not_continued(tmp_path: Path, data_root: Path) -> None:
    fit(RECIPE, tmp_path, data_root=data_root, device="cpu", stop_after_s=0.0)
    with pytest.raises(UsageError, match="another recipe"):
        fit(RECIPE.model_copy(update={"seed": 5}), tmp_path, data_root=data_root, device="cpu")


def test_an_unfinished_run_can_be_looked_at(tmp_path: Path, data_root: Path) -> None:
    with pytest.raises(UsageError, match="no training state"):
        export_state(RECIPE, tmp_path)
    fit(RECIPE, tmp_path, data_root=data_root, device="cpu", stop_after_s=0.0)
    assert checkpoint.inspect(export_state(RECIPE, tmp_path)).card["steps"] == 1


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, data_root: Path) -> None:
    wild = OptimiserRecipe(steps=50, batch=1, warmup=0).model_copy(update={"learning_rate": 1e30})
    with pytest.raises(ModelError, match="learning_rate"):
        fit(RECIPE.model_copy(update={"optimiser": wild}), tmp_path, data_root=data_root, device="cpu")


def test_missing_data_and_devices_are_named(tmp_path: Path, data_root: Path) -> None:
    with pytest.raises(UnreadableError, match="nowhere"):
        fit(RECIPE.model_copy(update={"data": ("nowhere",)}), tmp_path, data_root=data_root, device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError):
            fit(RECIPE, tmp_path, data_root=data_root, device="cuda")
