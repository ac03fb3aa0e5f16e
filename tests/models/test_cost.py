"""Costs equal those counted by hand, layer by layer."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models import catalog
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.cost import operations, operations_of_pass, parameters, weight_bytes
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile


class HandCounted(ThroughPlaneModel):
    """A convolution, attention over pixels, a linear layer and an einsum along z."""

    factors = range(2, 9)
    default_factor = 5

    def __init__(self, *, meta: bool = True) -> None:
        super().__init__()
        self.window = ModelWindow()
        self.meta = meta
        self.stem = nn.Conv3d(1, 6, 3, padding=1)
        self.mix = nn.Linear(6, 6)
        self.register_buffer("table", torch.zeros(3), persistent=False)

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        factor = self.checked_factor(x, factor)
        if not self.meta and x.device.type == "meta":
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        _, _, depth, height, width = x.shape
        tokens = self.stem(x).flatten(3).permute(0, 2, 3, 1)
        attended = F.scaled_dot_product_attention(tokens, tokens, tokens)
        mixed = self.mix(attended).mean(-1).reshape(1, depth, height, width)
        matrix = torch.zeros((depth - 1) * factor + 1, depth, device=x.device)
        return torch.einsum("zk,bkhw->bzhw", matrix, mixed)[:, None]


def by_hand(depth: int, height: int, width: int, factor: int) -> int:
    pixels = height * width
    convolution = 2 * 27 * 1 * 6 * depth * pixels
    attention = 2 * depth * pixels * pixels * 6 * 2
    linear = 2 * depth * pixels * 6 * 6
    along_z = 2 * ((depth - 1) * factor + 1) * depth * pixels
    return convolution + attention + linear + along_z


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize(("shape", "factor"), [((4, 8, 8), 5), ((3, 5, 7), 2)])
def test_operations_equal_a_count_by_hand(meta: bool, shape: tuple[int, int, int], factor: int) -> None:
    assert operations(HandCounted(meta=meta), shape, factor) == by_hand(*shape, factor)


def test_no_factor_means_the_models_own_and_an_unsupported_one_is_refused() -> None:
    model = HandCounted()
    assert operations(model, (4, 8, 8)) == by_hand(4, 8, 8, 5)
    with pytest.raises(ShapeError):
        operations(model, (4, 8, 8), 9)


@pytest.mark.parametrize("name", ["thinnet", "tvsrn", "cubic-consistent"])
def test_counting_leaves_the_network_as_it_was_and_agrees_with_a_real_pass(name: str) -> None:
    model = catalog.build(name).train()
    counted = operations(model, (4, 32, 32), 5)
    assert model.training and all(p.device.type == "cpu" for p in model.parameters())
    assert counted == operations_of_pass(model.eval(), torch.zeros(1, 1, 4, 32, 32), 5, None) > 0


def test_our_own_network_is_counted_without_computing() -> None:
    model = catalog.build("thinnet", features=8, blocks=1).eval()
    on_meta = operations_of_pass(copy.deepcopy(model).to("meta"), torch.zeros(1, 1, 4, 32, 32, device="meta"), 5, None)
    assert (
        on_meta
        == operations(model, (4, 32, 32), 5)
        == operations_of_pass(model, torch.zeros(1, 1, 4, 32, 32), 5, None)
        > 0
    )


@pytest.mark.heavy
@pytest.mark.parametrize("name", [name for name, entry in catalog.CATALOG.items() if entry.learned])
def test_every_network_is_counted_without_computing_and_as_in_a_real_pass(name: str) -> None:
    model = catalog.build(name).eval()
    shape = (model.window.depth or 4, 64, 64)
    on_meta = operations_of_pass(copy.deepcopy(model).to("meta"), torch.zeros(1, 1, *shape, device="meta"), 5, None)
    assert on_meta == operations(model, shape, 5) == operations_of_pass(model, torch.zeros(1, 1, *shape), 5, None) > 0


def test_operations_grow_with_the_plane() -> None:
    model = catalog.build("thinnet")
    small, large = (operations(model, (4, side, side), 5) for side in (32, 64))
    # The layers that read the factor and the profile do not grow.
    assert 3.9 * small < large < 4 * small


def test_parameters_and_bytes_by_hand() -> None:
    model = HandCounted()
    assert parameters(model) == 27 * 6 + 6 + 36 + 6
    assert weight_bytes(model) == 4 * parameters(model)
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert parameters(tied) == 9 + 3 + 3
    assert parameters(catalog.build("cubic")) == 0
