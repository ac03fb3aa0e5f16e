"""Recipes are checked when read, and every shipped one builds its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from thinslice.errors import UsageError
from thinslice.models import catalog
from thinslice.profile import SliceProfile
from thinslice.recipes import SimulationRecipe, TrainRecipe, overridden, read_train_recipe
from thinslice.training.objective import Conditions, ObjectiveModule
from thinslice.training.optimiser import make_optimiser

SHIPPED = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_recipe_builds_its_network(path: Path) -> None:
    recipe = read_train_recipe(path)
    # The name is that of the weights: a hospital's own are not called after the recipe.
    assert recipe.name == {"finetune": "mine"}.get(path.stem, path.stem)
    catalog.build(recipe.network.name, **recipe.network.config)


SMALLER: dict[str, dict[str, Any]] = {"i3net": {"network.config.plane": 16}}
"""Where a network's own size would make a step long."""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_recipe_takes_a_step_that_lowers_its_loss(path: Path) -> None:
    recipe = overridden(read_train_recipe(path), SMALLER.get(path.stem, {}))
    parts = [recipe.at_stage(i) for i in range(len(recipe.stages))] or [recipe]
    torch.manual_seed(0)
    network = catalog.build(recipe.network.name, **recipe.network.config).train()
    factor = network.default_factor
    thick = torch.rand(1, 1, network.window.depth or 3, 16, 16)
    thin = torch.rand(1, 1, (thick.shape[2] - 1) * factor + 1, 16, 16)
    for part, trains in zip(parts, [s.trainable for s in recipe.stages] or [("",)], strict=True):
        objective = ObjectiveModule(network, part.objective, part.loss)
        moving = [p for name, p in network.named_parameters() if name.startswith(trains)]
        optimiser = make_optimiser(moving, part.optimiser)
        optimiser.param_groups[0]["lr"] = 2e-6
        losses = []
        for _ in range(2):
            torch.manual_seed(1)
            loss = objective(thick, thin, torch.ones_like(thin), Conditions(factor, SliceProfile.mean(factor)))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[1] < losses[0]


def test_there_are_recipes() -> None:
    assert len(SHIPPED) >= 12


def test_values_are_changed_by_dotted_names_and_checked_again() -> None:
    recipe = read_train_recipe(next(path for path in SHIPPED if path.stem == "saint"))
    changed = overridden(recipe, {"stages.1.steps": 7, "crops.plane": 64, "network.config.features": 8})
    assert (changed.stages[1].steps, changed.crops.plane) == (7, 64)
    assert changed.network.config == {"features": 8} and recipe.crops.plane == 256
    for name, value in {"stages.9.steps": 1, "nothing.here": 1, "crops.plane": 1, "crops.plan": 64}.items():
        with pytest.raises(UsageError):
            overridden(recipe, {name: value})


def test_the_digest_follows_what_changes_weights_and_nothing_else() -> None:
    recipe = TrainRecipe(name="x", network={"name": "thinnet"}, data=("a",))
    assert recipe.digest != recipe.model_copy(update={"seed": 1}).digest
    assert recipe.digest == recipe.model_copy(update={"card": {"licence": "?"}, "log_every": 7}).digest


def test_every_value_of_the_simulation_changes_the_digest() -> None:
    recipe = TrainRecipe(name="x", network={"name": "thinnet"}, data=("a",))
    for name, field in SimulationRecipe.model_fields.items():
        default = field.get_default(call_default_factory=True)
        other: object = {"profiles": {"mean": 1.0}, "box_width_law": "logarithmic"}.get(name)
        if other is None:
            other = (3, 4) if isinstance(default, tuple) else (default or 0) + (1 if isinstance(default, int) else 0.5)
        changed = recipe.model_copy(update={"simulation": recipe.simulation.model_copy(update={name: other})})
        assert changed.digest != recipe.digest, name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name = ", "not a TOML file"),
        ('name = "x"', "network"),
        ('name = "x"\ndata = ["a"]\nnetwork = { name = "thinnet" }\nstpes = 3', "stpes"),
        ('name = "x"\ndata = ["a"]\nnetwork = { name = "thinnet" }\noptimiser = { batch = 0 }', "optimiser.batch"),
    ],
)
def test_a_wrong_recipe_is_refused_naming_the_place(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=expected):
        read_train_recipe(path)


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        read_train_recipe(tmp_path / "none.toml")
