"""Networks by name: whether a plug-in's weights are random."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from thinslice.models import catalog
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.load import has_random_weights


def plugin(build: Callable[[], ThroughPlaneModel]) -> SimpleNamespace:
    return SimpleNamespace(load=lambda: build, value="package:build")


def test_a_plugin_of_random_weights_is_known_from_one_that_loads_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fresh() -> ThroughPlaneModel:
        return catalog.build("resvox", features=4, blocks=1)

    def trained() -> ThroughPlaneModel:
        network = fresh()
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, 0.1)
        return network

    points = {"fresh": plugin(fresh), "trained": plugin(trained)}
    monkeypatch.setattr(catalog, "_plugins", lambda: points)
    before = torch.random.get_rng_state()
    assert (has_random_weights("fresh"), has_random_weights("trained")) == (True, False)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not has_random_weights("default") and not has_random_weights("no such network")
