"""Layers through oneDNN: the same numbers as the ordinary layer, which runs where gradients or a graph are recorded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import nn

from thinslice.models import catalog
from thinslice.models.blocks import onednn
from thinslice.models.blocks.onednn import convolution, linear, linear_gelu, operators, pointwise


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


def test_changed_weights_are_used() -> None:
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


def cube(channels: int = 6, depth: int = 5) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(1, channels, depth, 7, 9).contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("padding", [(1, 1, 1), (0, 1, 1)])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_convolution_gives_what_the_ordinary_one_gives(relu: bool, padding: tuple[int, int, int], batch: int) -> None:
    x, layer = cube().expand(batch, -1, -1, -1, -1), nn.Conv3d(6, 10, 3, padding=padding)
    expected = layer(x)
    with torch.inference_mode():
        given = convolution(x, layer.weight, layer.bias, padding=padding, relu=relu)
    torch.testing.assert_close(given, expected.relu() if relu else expected, atol=1e-5, rtol=1e-5)


def test_gradients_pass_a_convolution_and_a_trace_records_the_ordinary_one() -> None:
    layer, x = nn.Conv3d(6, 4, 3, padding=1), cube()

    def run(x: torch.Tensor) -> torch.Tensor:
        return convolution(x, layer.weight, layer.bias, padding=(1, 1, 1), relu=True)

    run(x).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0
    layer.requires_grad_(False)
    with torch.no_grad():
        graph = str(torch.jit.trace(run, x).inlined_graph)
    assert "aten::_conv" in graph and "mkldnn" not in graph


@pytest.fixture
def retried() -> Iterator[None]:
    """The operators are tried anew in this test, and again after it."""
    operators.cache_clear()
    yield
    operators.cache_clear()


@pytest.mark.parametrize("operator", ["_linear_pointwise", "_convolution_pointwise"])
@pytest.mark.parametrize("fault", ["missing", "wrong"])
def test_an_operator_that_is_missing_or_wrong_is_not_used(
    fault: str, operator: str, monkeypatch: pytest.MonkeyPatch, retried: None
) -> None:
    def broken(*arguments: object) -> torch.Tensor:
        if fault == "missing":
            raise AttributeError("no such operator")
        return torch.zeros(48, 32) if operator == "_linear_pointwise" else torch.zeros(1, 2, 3, 4, 5)

    monkeypatch.setattr(torch.ops.mkldnn, operator, broken, raising=False)
    layer, x = nn.Linear(4, 4), torch.ones(3, 4)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, layer), layer(x), atol=0, rtol=0)
        torch.testing.assert_close(linear_gelu(x, layer), F.gelu(layer(x)), atol=0, rtol=0)
        weight, bias = torch.ones(2, 6, 1, 1, 1), torch.zeros(2)
        convolved = convolution(cube(), weight, bias, padding=(0, 0, 0))
        torch.testing.assert_close(convolved, F.conv3d(cube(), weight, bias), atol=0, rtol=0)
        mixed = pointwise(cube(), nn.Linear(6, 2))
        assert mixed.shape == (1, 2, 5, 7, 9)
    assert operators() is None


@pytest.mark.parametrize("name", ["fast", "tvsrn", "tvsrn-released"])
def test_a_network_without_the_operators_gives_the_same_volume(
    name: str, monkeypatch: pytest.MonkeyPatch, retried: None
) -> None:
    torch.manual_seed(0)
    network, x = catalog.build(name).eval(), torch.rand(1, 1, 4, 16, 24)
    with torch.inference_mode():
        fast = network(x)
        monkeypatch.setattr(onednn, "operators", lambda: None)
        plain = network(x)
    torch.testing.assert_close(plain, fast, atol=2e-6, rtol=0)
