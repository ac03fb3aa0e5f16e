"""Values of recipes that cannot work are usage errors that name their key, before any data is read."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from thinslice.errors import UsageError
from thinslice.recipes import TrainRecipe, overridden

RECIPE = TrainRecipe(name="x", network={"name": "thinnet"}, data=("a",))
PAIRS = TrainRecipe(name="x", network={"name": "thinnet"}, dataset={"root": "a"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("simulation.factors", []),
        ("simulation.factors", [100]),
        ("simulation.factors", [1]),
        ("simulation.factors", [2.5]),
        ("simulation.profiles", {}),
        ("simulation.profiles", {"mean": 0.0}),
        ("simulation.profiles", {"mean": -1.0}),
        ("simulation.profiles", {"cubic": 1.0}),
        ("simulation.box_width", [2.0, 0.5]),
        ("simulation.box_width", [0.0, 0.5]),
        ("simulation.width_error", [0.5, 1e9]),
        ("simulation.noise_hu", float("inf")),
        ("simulation.noise_hu", float("nan")),
        ("simulation.low_dose_hu", [40.0, 12.0]),
        ("simulation.blur_pixels", 1e9),
        ("simulation.depth", 10**9),
        ("simulation.plane", 10**9),
        ("simulation.floor_hu", 1e30),
        ("simulation.least_body", 1.5),
        ("loss.knee_hu", 0.0),
        ("loss.trim", -1),
        ("optimiser.steps", 0),
        ("optimiser.batch", 10**9),
        ("optimiser.learning_rate", float("inf")),
        ("optimiser.learning_rate", 0.0),
        ("optimiser.weight_decay", float("nan")),
        ("seed", -1),
        ("seed", 2**32),
        ("log_every", 0),
        ("save_every_s", -1.0),
        ("save_every_s", float("nan")),
        ("card", {"made": date(2026, 1, 1)}),
        ("card", {"name": "a\x1b[2J"}),
    ],
)
def test_an_impossible_value_names_its_key(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"does not fit, {key.replace('.', '[.]')}"):
        overridden(RECIPE, {key: value})


@pytest.mark.parametrize("key", ["crops.depth", "crops.plane", "validation.every", "validation.plane"])
def test_crops_and_validation_too(key: str) -> None:
    for value in (-1, 0, "x"):
        with pytest.raises(UsageError, match=key):
            overridden(PAIRS, {key: value})


def test_trimming_a_whole_crop_leaves_nothing_to_train_on() -> None:
    changes = {"simulation.factors": [2, 5], "simulation.depth": 3}
    assert overridden(RECIPE, {**changes, "loss.trim": 2}).loss.trim == 2
    with pytest.raises(UsageError, match="leaves no slice of a crop of 5 thin slices"):
        overridden(RECIPE, {**changes, "loss.trim": 3})


@pytest.mark.parametrize(
    "name", ["nothing", "optimiser.nothing", "stages.7.steps", "stages.².steps", "seed.x", "", "."]
)
def test_keys_that_do_not_exist(name: str) -> None:
    with pytest.raises(UsageError):
        overridden(RECIPE, {name: 1})
