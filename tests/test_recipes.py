"""Recipes are checked when read, and every shipped one builds its network."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinslice.errors import UsageError
from thinslice.models import catalog
from thinslice.recipes import TrainRecipe, read_train_recipe

SHIPPED = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_recipe_builds_its_network(path: Path) -> None:
    recipe = read_train_recipe(path)
    assert recipe.name == path.stem
    catalog.build(recipe.network.name, **recipe.network.config)


def test_there_are_recipes() -> None:
    assert SHIPPED


def test_the_digest_follows_what_changes_weights_and_nothing_else() -> None:
    recipe = TrainRecipe(name="x", network={"name": "thinnet"}, data=("a",))
    assert recipe.digest != recipe.model_copy(update={"seed": 1}).digest
    assert recipe.digest == recipe.model_copy(update={"card": {"licence": "?"}, "log_every": 7}).digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not a TOML file"),
        ('name = "x"', "network"),
        ('name = "x"\ndata = ["a"]\nnetwork = { name = "thinnet" }\nstpes = 3', "stpes"),
        ('name = "x"\ndata = ["a"]\nnetwork = { name = "thinnet" }\noptimiser = { batch = 0 }', "optimiser.batch"),
    ],
)
def test_a_wrong_recipe_is_refused_naming_the_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_train_recipe(path)


def test_a_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe"):
        read_train_recipe(tmp_path / "none.toml")
