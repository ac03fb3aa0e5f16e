"""ResVox: its count, its two scales, and the symmetry of its layout along z."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models import catalog
from thinslice.models.resvox import MultiScaleBlock, ResVox


def build(**config: object) -> ResVox:
    torch.manual_seed(0)
    model = catalog.build("resvox", **config)
    assert isinstance(model, ResVox)
    return model.eval()


def test_parameters_layer_by_layer() -> None:
    model = build()
    convolution, merge = 27 * 64 * 64 + 64, 128 * 64 + 64
    assert sum(p.numel() for p in model.stem.parameters()) == 27 * 64 + 64
    assert [sum(p.numel() for p in block.parameters()) for block in model.blocks] == [3 * convolution + merge] * 8
    assert sum(p.numel() for p in model.parameters()) == 2_732_229


def test_a_block_reaches_one_voxel_on_one_path_and_two_on_the_other() -> None:
    block = MultiScaleBlock(4).eval()
    x = torch.zeros(1, 4, 9, 9, 9)
    spot = x.clone()
    spot[..., 4, 4, 4] = 1.0
    with torch.inference_mode():
        for path, reach in ((block.near, 1), (block.far, 2), (block, 2)):
            changed = (path(spot) - path(x)).abs().amax((0, 1)) > 0
            assert changed.nonzero().sub(4).abs().max() == reach


@pytest.mark.parametrize("factor", [3, 4, 5])
def test_mirrored_weights_mirror_the_thin_slices(factor: int) -> None:
    model, mirrored = build(features=4, blocks=2, factor=factor), build(features=4, blocks=2, factor=factor)
    for layer in mirrored.modules():
        if isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.data.flip(2)
    mirrored.head.weight.data = mirrored.head.weight.data.flip(0)
    mirrored.head.bias.data = mirrored.head.bias.data.flip(0)  # type: ignore[union-attr]
    x = torch.rand(1, 1, 5, 6, 7)
    with torch.inference_mode():
        torch.testing.assert_close(mirrored(x.flip(2)), model(x).flip(2), atol=1e-6, rtol=1e-5)


def test_moving_the_input_by_a_thick_slice_moves_the_output_by_the_factor() -> None:
    model = build(features=4, blocks=1)
    x = torch.rand(1, 1, 13, 4, 4)
    with torch.inference_mode():
        whole, moved = model(x), model(x[:, :, 1:])
    inner = slice(5 * 5, 5 * 7 + 1)  # four slices from either end, which zero padding reaches
    torch.testing.assert_close(moved[:, :, inner], whole[:, :, 30:41], atol=1e-6, rtol=1e-5)


def test_another_factor_and_an_empty_tensor_are_refused() -> None:
    model = build(features=4, blocks=1)
    with pytest.raises(ShapeError, match="it can do 5"):
        model(torch.rand(1, 1, 3, 4, 4), factor=4)
    with pytest.raises(ShapeError, match="empty"):
        model(torch.rand(1, 1, 3, 0, 4))


def test_learns_to_interpolate() -> None:
    torch.manual_seed(0)
    model = build(features=8, blocks=1).train()
    linear = catalog.build("linear")
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        x = torch.nn.functional.interpolate(torch.rand(2, 1, 3, 2, 2), size=(3, 6, 6), mode="trilinear")
        loss = (model(x) - linear(x, factor=5)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
