"""Whether a run may go on under a changed recipe: the values that differ from those it began with.

A run may be lengthened (`optimiser.steps` raised), and values that change no weight may change: the names in
`HARMLESS`. The content of data and initial weights is compared elsewhere, so their paths are harmless too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from thinslice.recipes.training import TrainRecipe
from thinslice.recipes.training_data import DatasetRecipe

HARMLESS = frozenset(
    {
        "card",
        "data",
        "dataset.root",
        "log_every",
        "optimiser.steps",
        "save_every_s",
        "stages",
        "start",
        "validation.patience",
        "validation.pictures",
    }
)
"""Values that may differ. Steps are compared by `thinslice.training.state`, which knows how many are done."""

_OF_SCORES = ("dataset.validation", "validation.cases", "validation.plane")
"""Values by which the scores of one run are comparable, where it has any."""

_PRIVATE = "dataset.without"
"""Names of patients, of which a message gives the number alone."""

MOST_NAMED = 5
"""Most values that a message names."""

_LONGEST_VALUE = 60


def values_of(recipe: TrainRecipe) -> dict[str, Any]:
    """Dotted name -> JSON value, as `overridden` takes them.

    >>> recipe = TrainRecipe(name="x", network={"name": "thinnet"}, data=("a",))
    >>> values_of(recipe)["optimiser.steps"], values_of(recipe)["data"]
    (10000, ['a'])
    """
    return flattened(recipe.model_dump(mode="json", exclude={"card"}))


def flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a recipe as a card holds them, by dotted name.

    >>> flattened({"seed": 0, "crops": {"depth": 4, "flips": ["width"]}})
    {'seed': 0, 'crops.depth': 4, 'crops.flips': ['width']}
    """
    return dict(_flat(values))


def differences(
    before: Mapping[str, Any], now: TrainRecipe, *, passes_count: bool = True, steps_count: bool = False
) -> dict[str, tuple[Any, Any]]:
    """The values that make a recipe another run than the one that a folder holds.

    Args:
        before: values (`values_of`) under which the run was last trained; values that later versions have added may be
            missing, and then have their defaults.
        now: recipe of this call.
        passes_count: whether `optimiser.micro_batch` changes the weights: where the network draws random numbers in a
            pass, or voxels have weights.
        steps_count: whether another number of steps makes another run: for weights at its end it does.

    Returns:
        Dotted name -> (value before, value now).

    >>> recipe = TrainRecipe(name="x", network={"name": "thinnet"}, data=("a",))
    >>> before = values_of(recipe)
    >>> differences(before, recipe.model_copy(update={"seed": 3, "log_every": 7}))
    {'seed': (0, 3)}
    """
    after = values_of(now)
    # Older values have defaults where the recipe now has keys of its own.
    old = {**_DEFAULTS, **(_OF_PAIRS if now.dataset is not None else {}), **before}
    ignored = set(HARMLESS) - ({"optimiser.steps", "stages"} if steps_count else set())
    if not (old.get("dataset.validation") and after.get("dataset.validation")):
        ignored.update(_OF_SCORES)
    if now.optimiser.schedule != "plateau":
        ignored.add("validation.every")
    if not _learns_deviation(old) and not _learns_deviation(after):
        ignored.add("loss.deviation")
    if not passes_count or (old["optimiser.micro_batch"] or old["optimiser.batch"]) == (
        after["optimiser.micro_batch"] or after["optimiser.batch"]
    ):
        ignored.add("optimiser.micro_batch")
    names = [name for name in {**after, **before} if name not in ignored]
    return {name: (old.get(name), after.get(name)) for name in names if old.get(name) != after.get(name)}


def as_text(found: Mapping[str, tuple[Any, Any]]) -> str:
    """The differences for a message: the value before, then the value of this call.

    >>> as_text({"seed": (0, 3), "optimiser.schedule": ("cosine", "constant")})
    'seed 0 there and 3 now, optimiser.schedule "cosine" there and "constant" now'
    """
    named = [f"{name} {_shown(name, old)} there and {_shown(name, new)} now" for name, (old, new) in found.items()]
    more = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")


def _learns_deviation(values: Mapping[str, Any]) -> bool:
    return bool(values.get("objective") == "deviation")


def _shown(name: str, value: Any) -> str:
    if name == _PRIVATE:
        return f"({len(value or ())} patients)"
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and name != "profiles":
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


_DEFAULTS = values_of(TrainRecipe(name="x", network={"name": "x"}, data=("x",)))
_OF_PAIRS = dict(_flat(DatasetRecipe(root="x").model_dump(mode="json"), "dataset."))
