"""Sizes of networks: every number of every config is bounded, so that no config takes for ever or all memory."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from pydantic import BaseModel, ValidationError

from thinslice.errors import UsageError
from thinslice.models import catalog
from thinslice.models.catalog import CATALOG

CONFIGS = sorted({entry.config for entry in CATALOG.values()})


def config_class(target: str) -> type[BaseModel]:
    module, _, name = target.partition(":")
    found: type[BaseModel] = getattr(importlib.import_module(module), name)
    return found


def absurd(value: Any) -> list[Any]:
    """Values of the same form as a default, each with one number far out of range."""
    if isinstance(value, bool):
        return []
    if isinstance(value, int):
        return [10**9, -1, 10**400]
    if isinstance(value, float):
        return [1e30, float("inf"), float("nan"), -1.0]
    if isinstance(value, tuple):
        longer = [(*value, *value[-1:] * 10**6)]
        return longer + [(*value[:i], 10**9, *value[i + 1 :]) for i in range(len(value))]
    return []


@pytest.mark.parametrize("target", CONFIGS)
def test_every_number_of_a_config_is_bounded(target: str) -> None:
    kind = config_class(target)
    for name, field in kind.model_fields.items():
        for value in absurd(field.get_default()):
            with pytest.raises(ValidationError):
                kind(**{name: value})


@pytest.mark.parametrize("name", sorted(name for name, entry in CATALOG.items() if entry.learned))
def test_a_wrong_value_names_its_key(name: str) -> None:
    key = next(iter(config_class(CATALOG[name].config).model_fields))
    with pytest.raises(UsageError, match=rf"config of the network '{name}' does not fit, {key}: "):
        catalog.build(name, **{key: 10**9})
    with pytest.raises(UsageError, match="does not fit, colour: "):
        catalog.build(name, colour="red")


def test_sizes_that_are_each_allowed_but_too_large_together() -> None:
    with pytest.raises(UsageError, match="parameters, more than 500000000; lower its sizes .blocks, features"):
        catalog.build("thinnet", features=512, blocks=128)


def test_a_config_within_bounds_is_built_as_it_is() -> None:
    torch.manual_seed(0)
    first = catalog.build("thinnet", features=8, blocks=1)
    torch.manual_seed(0)
    second = catalog.build("thinnet", features=8, blocks=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
