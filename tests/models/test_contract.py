"""The contract of `ThroughPlaneModel`, for every network of the catalog."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from thinslice.errors import ShapeError
from thinslice.models import catalog, checkpoint
from thinslice.models.base import ThroughPlaneModel

NAMES = list(catalog.CATALOG)
LEARNED = [name for name in NAMES if catalog.CATALOG[name].learned]
FIXED = [name for name in NAMES if not catalog.CATALOG[name].learned]
SMALL: dict[str, dict[str, object]] = {
    "acvtt": {"features": 8},
    "cthnet": {"depth": 4},
    "dpnsl": {"features": 16, "blocks": 2},
    "i3net": {"plane": 16, "blocks": 4},
}
"""Sizes below the defaults for networks whose defaults would make these tests slow."""


def build(name: str, depth: int, factor: int) -> ThroughPlaneModel:
    """A network of that name for that depth and factor, rebuilt for them where it fixes them; weights stirred.

    Layers that start at zero hide the layers before them, so every weight gets a little noise.
    """
    torch.manual_seed(0)
    small = SMALL.get(name, {})
    model = catalog.build(name, **small)
    if model.window.depth not in (None, depth) or factor not in model.factors:
        config = {"factor": factor} if model.window.depth is None else {"depth": depth, "factor": factor}
        model = catalog.build(name, **{**small, **config})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def thick(depth: int, height: int = 8, width: int = 12, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 1, depth, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("depth", "factor", "height", "width"), [(4, 5, 8, 8), (2, 2, 9, 5), (3, 4, 1, 17), (6, 3, 10, 8), (4, 8, 8, 3)]
)
def test_thin_depth_is_intervals_times_factor_plus_one(
    name: str, depth: int, factor: int, height: int, width: int
) -> None:
    model = build(name, depth, factor)
    with torch.inference_mode():
        thin = model(thick(depth, height, width, batch=2), factor=factor)
    assert thin.shape == (2, 1, (depth - 1) * factor + 1, height, width)
    assert thin.dtype == torch.float32 and thin.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_no_factor_means_the_models_own(name: str) -> None:
    model = build(name, 4, 5)
    x = thick(4)
    with torch.inference_mode():
        assert torch.equal(model(x), model(x, factor=model.default_factor))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_two_equals_two_singles(name: str) -> None:
    model = build(name, 4, 5)
    pair = thick(4, batch=2)
    with torch.inference_mode():
        singles = torch.cat([model(pair[:1]), model(pair[1:])])
        torch.testing.assert_close(model(pair), singles, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_input_gives_the_same_bits(name: str) -> None:
    model = build(name, 4, 5)
    x = thick(4)
    before = x.clone()
    with torch.inference_mode():
        assert torch.equal(model(x), model(x))
    assert torch.equal(x, before), "a network must not change its input"


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shapes_are_refused(name: str) -> None:
    model = build(name, 4, 5)
    depth = model.window.depth or 4
    wrong = [thick(model.window.min_depth - 1), thick(depth)[0], thick(depth).expand(-1, 2, -1, -1, -1)]
    if model.window.depth is not None:
        wrong.append(thick(depth + 1))
    for x in wrong:
        with pytest.raises(ShapeError):
            model(x)
    for factor in {1, 0, -5, max(model.factors) + 1} - set(model.factors):
        with pytest.raises(ShapeError):
            model(thick(depth), factor=factor)


@pytest.mark.parametrize("name", NAMES)
def test_factors_and_window_are_consistent(name: str) -> None:
    model = build(name, 4, 5)
    assert model.default_factor in model.factors
    assert model.window.min_depth >= 1 and model.window.working_bytes > 0
    assert model.window.depth is None or model.window.depth >= model.window.min_depth


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = build(name, 4, 5)
    weights = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    (model(thick(4, 16, 16)) * weights).sum().backward()
    still = [path for path, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not still


@pytest.mark.parametrize("name", LEARNED)
def test_weights_survive_a_file(name: str, tmp_path: Path) -> None:
    model = build(name, 4, 5)
    path = tmp_path / "weights.safetensors"
    checkpoint.save(model, path, architecture=name, card={"name": "test"})
    loaded = checkpoint.load(path)
    assert type(loaded) is type(model) and not loaded.training
    x = thick(4)
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("value", [0.0, 0.25, 1.5])
def test_constants_in_constants_out(name: str, value: float) -> None:
    with torch.inference_mode():
        thin = build(name, 5, 4)(torch.full((1, 1, 5, 3, 4), value), factor=4)
    torch.testing.assert_close(thin, torch.full_like(thin, value), atol=1e-5, rtol=0)
