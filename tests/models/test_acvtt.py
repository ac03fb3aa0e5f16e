"""ACVTT: its counts, the texture transfer beside a plain reference, and where the axial slices come from."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models import catalog
from thinslice.models.acvtt import ACVTT, ACVTTConfig, TextureTransfer, spread


def build(**config: object) -> ACVTT:
    torch.manual_seed(0)
    model = catalog.build("acvtt", **{"features": 4, **config})
    assert isinstance(model, ACVTT)
    return model.eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_the_stages() -> None:
    with torch.device("meta"):
        model = ACVTT(ACVTTConfig())
    assert parameters(model.transfer) == 9_246_401  # published: 9.25M
    assert parameters(model.fusion) == 7_819_777
    assert parameters(model) == 17_066_178


def patch(x: torch.Tensor, row: int, column: int, block: int) -> torch.Tensor:
    """One block of a plane (channel, height, width), flattened."""
    return x[:, row * block : (row + 1) * block, column * block : (column + 1) * block].flatten()


def test_transfer_is_the_published_attention_block_by_block() -> None:
    torch.manual_seed(0)
    block, channels = 2, 3
    layer = TextureTransfer(channels, block)
    plane, axial = torch.randn(1, channels, 4, 6), torch.randn(2, channels, 4, 4)
    query, key, value = layer.query(plane), layer.key(axial), layer.value(axial)
    expected = torch.zeros_like(plane)
    for row in range(2):
        for column in range(3):
            asked = layer.query_norm(patch(query[0], row, column, block))
            found, match = [], []
            for reference in range(2):
                places = [(i, j) for i in range(2) for j in range(2)]
                keys = torch.stack([layer.key_norm(patch(key[reference], i, j, block)) for i, j in places])
                values = torch.stack([patch(value[reference], i, j, block) for i, j in places])
                similarity = keys @ asked / len(asked) ** 0.5
                attention = similarity.softmax(0)
                found.append(attention @ values)
                match.append((attention * similarity).sum())
            taken = (torch.stack(match).softmax(0)[:, None] * torch.stack(found)).sum(0)
            rows, columns = slice(row * block, (row + 1) * block), slice(column * block, (column + 1) * block)
            expected[0, :, rows, columns] = taken.reshape(channels, block, block)
    torch.testing.assert_close(layer(plane, layer.remember(axial)), plane + layer.projection(expected))


@pytest.mark.parametrize("depth", [2, 3, 4, 9, 30])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_axial_slices_are_spread_inside_the_volume(depth: int, count: int) -> None:
    slices = spread(depth, count)
    assert len(slices) == count and slices == sorted(slices) and slices[0] >= 0 and slices[-1] < depth
    if depth > 2 * (count + 1):
        assert slices[0] > 0 and slices[-1] < depth - 1 and len(set(slices)) == count


def test_texture_comes_from_distant_blocks() -> None:
    model = build()
    x = torch.rand(1, 1, 4, 64, 64)
    changed = x.clone()
    changed[:, :, 1, :8, :8] = 0.5
    with torch.inference_mode():
        corner = (model(x) != model(changed))[0, 0, :, -8:, -8:]
    assert corner.any(), "attention reaches the whole axial slice"


def test_untrained_parts_add_to_linear_interpolation() -> None:
    model = build()
    for network in (model.transfer, model.fusion):
        nn.init.zeros_(network.last.weight)
        nn.init.zeros_(network.last.bias)
    x = torch.rand(2, 1, 3, 9, 10)
    with torch.inference_mode():
        linear = catalog.build("linear")(x, factor=4)
        torch.testing.assert_close(model(x, factor=4), linear, atol=1e-6, rtol=0)
        for view in model.views(x, factor=4):
            torch.testing.assert_close(view, linear, atol=1e-6, rtol=0)


def test_views_reach_along_their_own_planes() -> None:
    model = build()
    for transfer in model.transfer.transfers:
        assert isinstance(transfer, TextureTransfer)
        nn.init.zeros_(transfer.projection.weight)
    x = torch.rand(1, 1, 4, 6, 9)
    changed = x.clone()
    changed[..., 2, 5] += 1.0
    with torch.inference_mode():
        sagittal, coronal = ((a != b)[0, 0].any(0) for a, b in zip(model.views(x), model.views(changed), strict=True))
    assert sagittal[:, 5].all() and not sagittal[:, :5].any() and not sagittal[:, 6:].any()
    assert coronal[2].all() and not coronal[:2].any() and not coronal[3:].any()


@pytest.mark.parametrize(("depth", "factor", "plane"), [(2, 2, (1, 17)), (3, 7, (9, 8)), (5, 5, (16, 1))])
def test_any_depth_factor_and_plane_without_rebuilding(depth: int, factor: int, plane: tuple[int, int]) -> None:
    model = build()
    with torch.inference_mode():
        thin = model(torch.rand(2, 1, depth, *plane), factor=factor)
    assert thin.shape == (2, 1, (depth - 1) * factor + 1, *plane) and thin.isfinite().all()


def test_empty_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="empty"):
        build()(torch.rand(1, 1, 3, 8, 0))


@pytest.mark.parametrize("config", [{"levels": 0}, {"references": 0}, {"factor": 9}])
def test_sizes_that_do_not_fit_are_refused(config: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ACVTTConfig(**config)
