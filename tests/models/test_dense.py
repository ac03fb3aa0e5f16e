"""Linear layers through oneDNN: the numbers of the ordinary layer, and the ordinary layer where it must be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import nn

from thinslice.models import dense
from thinslice.models.dense import linear, linear_gelu, runs_in_pieces


@pytest.mark.parametrize("shape", [(1, 32), (7, 3, 32), (2, 5, 4, 32), (0, 32)])
def test_gives_what_the_ordinary_layer_gives(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(32, 48), torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, layer), layer(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(linear_gelu(x, layer), F.gelu(layer(x)), atol=1e-5, rtol=1e-5)


def test_takes_views_that_are_not_contiguous() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(16, 8), torch.randn(16, 5, 6).permute(2, 1, 0)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, layer), layer(x), atol=1e-5, rtol=1e-5)


def test_sees_weights_that_changed() -> None:
    layer, x = nn.Linear(4, 4), torch.ones(3, 4)
    with torch.inference_mode():
        before = linear(x, layer)
    with torch.no_grad():
        layer.weight.mul_(2.0)
        torch.testing.assert_close(linear(x, layer) - layer.bias, 2 * (before - layer.bias), atol=1e-5, rtol=1e-5)


def test_gradients_pass() -> None:
    layer, x = nn.Linear(4, 4), torch.ones(3, 4)
    linear_gelu(x, layer).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0
    assert not runs_in_pieces(x)


def test_a_trace_records_the_ordinary_layer() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return linear(linear_gelu(x, self.layer), self.layer)

    with torch.no_grad():
        graph = str(torch.jit.trace(Both(), torch.ones(3, 4)).inlined_graph)
    assert "aten::linear" in graph and "mkldnn" not in graph


def test_autocast_is_left_to_the_ordinary_layer() -> None:
    layer, x = nn.Linear(4, 4), torch.ones(3, 4)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert linear(x, layer).dtype == torch.bfloat16


@pytest.mark.parametrize("fault", ["missing", "wrong"])
def test_an_operator_that_is_missing_or_wrong_is_not_used(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> torch.Tensor:
        if fault == "missing":
            raise AttributeError("no such operator")
        return torch.zeros(48, 32)

    dense.is_sound.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch.ops.mkldnn, "_linear_pointwise", broken, raising=False)
        layer, x = nn.Linear(4, 4), torch.ones(3, 4)
        with torch.inference_mode():
            torch.testing.assert_close(linear_gelu(x, layer), F.gelu(layer(x)), atol=1e-6, rtol=1e-6)
        assert not dense.is_sound()
    dense.is_sound.cache_clear()
