"""Domain-gap experiments: errors, and the ordinary suites that they expand to."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinslice.errors import UsageError
from thinslice.recipes import (
    GapSuite,
    Suite,
    expanded,
    overridden,
    read_any_suite,
    read_gap_suite,
    read_train_recipe,
    variants,
)

PROJECT = Path(__file__).parents[2]

GAP = """
name = "gap"
dataset = {root = "pairs"}
networks = [{label = "A", recipe = "a.toml"}, {label = "B", recipe = "b.toml", override = {"optimiser.steps" = 7}}]
degradations = [{label = "Mean", profile = "mean"}, {label = "mean, 8 HU", profile = "mean", noise_hu = 8}]
baselines = ["linear", "cubic"]
training = {"crops.plane" = 16}
"""
RECIPE = 'name = "{name}"\nnetwork = {{name = "thinnet"}}\ndataset = {{root = "pairs"}}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gap.toml").write_text(GAP, encoding="utf-8")
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(RECIPE.format(name=name), encoding="utf-8")
    return tmp_path


def changed(folder: Path, *changes: str) -> Path:
    """The suite with lines put in place of those of the same key."""
    keys = tuple(f"{change.partition(' ')[0]} " for change in changes)
    kept = [line for line in GAP.splitlines() if not line.startswith(keys)]
    (folder / "gap.toml").write_text("\n".join([*kept, *changes]), encoding="utf-8")
    return folder / "gap.toml"


def test_every_network_is_trained_each_way_by_one_recipe_but_for_the_thick_slices(folder: Path) -> None:
    gap = read_gap_suite(folder / "gap.toml")
    suite = expanded(gap)
    assert [method.label for method in suite.methods] == [
        "linear", "cubic", "A · paired", "A · Mean", "A · mean, 8 HU", "B · paired", "B · Mean", "B · mean, 8 HU",
    ]  # fmt: skip
    assert [variant.label for variant in variants(gap)] == [method.label for method in suite.methods[2:]]
    recipes = [
        overridden(read_train_recipe(suite.folder / method.recipe), {**suite.training, **method.override})
        for method in suite.methods[2:]
    ]
    assert [recipe.name for recipe in recipes] == ["a", "a-mean", "a-mean-8-hu", "b", "b-mean", "b-mean-8-hu"]
    assert [recipe.dataset.thick for recipe in recipes] == ["paired", "mean", "mean"] * 2
    assert [recipe.dataset.noise_hu for recipe in recipes] == [0.0, 0.0, 8.0] * 2
    for recipe in recipes:
        same = {"name": "x", "dataset.thick": "paired", "dataset.noise_hu": 0.0}
        first = recipes[0 if recipe.name.startswith("a") else 3]
        assert overridden(recipe, same).digest == overridden(first, same).digest
    assert {recipe.crops.plane for recipe in recipes} == {16}
    assert [recipe.optimiser.steps for recipe in recipes[3:]] == [7, 7, 7]
    # Its run is that of the recipe itself, so that weights trained before serve.
    assert recipes[0].digest == overridden(read_train_recipe(folder / "a.toml"), {"crops.plane": 16}).digest


def test_the_expanded_suite_keeps_the_settings_of_the_experiment(folder: Path) -> None:
    path = changed(folder, 'plan = "paper"', "limit = 3", "seed = 4", 'runs = "r"', 'external = [{root = "other"}]')
    gap = read_gap_suite(path)
    suite = expanded(gap)
    assert (suite.plan, suite.limit, suite.seed, suite.runs, suite.dataset.root) == ("paper", 3, 4, "r", "pairs")
    assert suite.comparisons == () and suite.folder == folder.resolve()
    assert suite.figures.methods == ("cubic", "B · paired", "B · Mean", "B · mean, 8 HU")
    other = expanded(gap, gap.external[0])
    assert other.dataset.root == "other" and other.methods == suite.methods
    assert expanded(read_gap_suite(changed(folder, 'shown = "A"'))).figures.methods[1] == "A · paired"


def test_the_kind_of_a_suite_file_is_recognised(folder: Path) -> None:
    assert isinstance(read_any_suite(folder / "gap.toml"), GapSuite)
    (folder / "suite.toml").write_text(
        'name = "x"\ndataset = {root = "d"}\nmethods = [{label = "cubic", model = "cubic"}]'
    )
    assert isinstance(read_any_suite(folder / "suite.toml"), Suite)
    with pytest.raises(UsageError, match="There is no file"):
        read_any_suite(folder / "none.toml")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("factor = 9", "factor"),
        ("networks = []", "networks"),
        ("degradations = []", "degradations"),
        ('dataset = {root = "a", simulate = {profile = "mean"}}', "real pairs"),
        ('external = [{root = "a", simulate = {profile = "mean"}}]', "real pairs"),
        ('external = [{root = "pairs"}]', "two sets tested on"),
        ('networks = [{label = "A", recipe = "a.toml"}, {label = "A", recipe = "b.toml"}]', "two networks"),
        ('degradations = [{label = "paired", profile = "mean"}]', "two degradations are labelled 'paired'"),
        ('degradations = [{label = "a b", profile = "mean"}, {label = "A-B", profile = "mean"}]', "two degradations"),
        ('degradations = [{label = "--", profile = "mean"}]', "degradations.0.label"),
        ('degradations = [{label = "x", profile = "box"}]', "degradations.0.profile"),
        ('baselines = ["cubic", "cubic"]', "two baselines"),
        ('shown = "C"', "no network's label"),
        ('training = {"dataset.thick" = "mean"}', "leave it out"),
        ('networks = [{label = "A", recipe = "a.toml", override = {"dataset.noise_hu" = 1.0}}]', "leave it out"),
        ('protocols = ["rplhr", "rplhr"]', "twice"),
        ('methods = [{label = "cubic", model = "cubic"}]', "methods"),
    ],
)
def test_what_an_experiment_refuses(folder: Path, change: str, expected: str) -> None:
    with pytest.raises(UsageError, match="gap.toml") as refused:
        read_gap_suite(changed(folder, change))
    assert expected in str(refused.value)


def test_trainings_that_would_share_a_run_and_recipes_without_pairs_are_refused(folder: Path) -> None:
    gap = read_gap_suite(folder / "gap.toml")
    for clash in ("a", "a-mean"):
        (folder / "b.toml").write_text(RECIPE.format(name=clash))
        with pytest.raises(UsageError, match=f"both named '{clash}"):
            expanded(gap)
    (folder / "b.toml").write_text('name = "b"\nnetwork = {name = "thinnet"}\ndata = ["thin"]\n')
    with pytest.raises(UsageError, match="nothing paired"):
        expanded(gap)
    (folder / "b.toml").unlink()
    with pytest.raises(UsageError, match="There is no file"):
        expanded(gap)


@pytest.mark.parametrize("path", sorted((PROJECT / "suites").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_suite_can_be_read(path: Path) -> None:
    suite = read_any_suite(path)
    suite = expanded(suite) if isinstance(suite, GapSuite) else suite
    assert suite.name == path.stem
    for method in suite.methods:
        if method.recipe is not None:
            overridden(read_train_recipe(suite.folder / method.recipe), {**suite.training, **method.override})
