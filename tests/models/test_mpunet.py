"""MPU-Net: steps along z that keep thick slices on the grid, side outputs, planes of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thinslice.errors import ShapeError, UsageError
from thinslice.models import catalog
from thinslice.models.mpunet import MPUNet, steps, stretch

SMALL = (4, 4, 4)


def build(**config: object) -> MPUNet:
    torch.manual_seed(0)
    model = catalog.build("mpunet", **config)
    assert isinstance(model, MPUNet)
    return model.eval()


def test_parameters_level_by_level() -> None:
    model = build()
    levels = [*model.encoders, *model.rises, *model.side_outputs]
    counts = [sum(p.numel() for p in level.parameters()) for level in levels]
    assert counts == [28_576, 166_016, 663_808, 2_654_720, 1_458_560, 364_736, 91_232, 6_916, 865]
    assert sum(p.numel() for p in model.parameters()) == sum(counts) == 5_435_429


@pytest.mark.parametrize("factor", range(2, 17))
def test_steps_are_whole_and_end_at_the_factor(factor: int) -> None:
    first, last = steps(factor)
    assert last == factor and 1 <= first < last
    uneven = max(first, last / first)
    assert all(uneven <= max(other, factor / other) + 1e-9 for other in range(1, factor))


@pytest.mark.parametrize("depth", [2, 4, 7])
@pytest.mark.parametrize("wanted", [1, 4, 9, 16])
def test_stretching_is_linear_interpolation_between_the_ends(depth: int, wanted: int) -> None:
    values = np.random.default_rng(0).random(depth)
    x = torch.from_numpy(values)[None, None, :, None, None].expand(1, 2, depth, 3, 2)
    expected = np.interp(np.linspace(0, depth - 1, wanted) if wanted > 1 else [0.0], np.arange(depth), values)
    stretched = stretch(x, wanted)
    assert stretched.shape == (1, 2, wanted, 3, 2)
    np.testing.assert_allclose(stretched[0, 1, :, 2, 1], expected, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 5, 8])
def test_side_outputs_have_full_planes_at_the_depth_of_their_step(factor: int) -> None:
    model = build(factor=factor, features=SMALL)
    x = torch.rand(2, 1, 3, 9, 5)
    with torch.inference_mode():
        outputs = model.stages(x)
        assert [reached for reached, _ in outputs] == list(steps(factor))
        for reached, output in outputs:
            assert output.shape == (2, 1, 2 * int(reached) + 1, 9, 5)
        assert torch.equal(outputs[-1][1], model(x))


def test_the_reference_of_a_step_holds_the_thick_positions() -> None:
    thin = torch.arange(16.0)[None, None, :, None, None]  # four thick slices at factor 5, value = thin index
    first, _ = steps(5)
    reference = stretch(thin, 3 * first + 1)
    assert reference.flatten()[::first].tolist() == [0.0, 5.0, 10.0, 15.0]


def test_a_loss_on_the_first_step_alone_teaches_the_levels_below_it() -> None:
    model = build(features=SMALL)
    (_, side), _ = model.stages(torch.rand(1, 1, 3, 8, 8))
    side.square().sum().backward()
    taught = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("side_outputs.0.") for name in taught)
    assert not any(name.startswith(("rises.1.", "side_outputs.1.")) for name in taught)


@pytest.mark.parametrize("plane", [(1, 1), (1, 5), (3, 9), (17, 20)])
def test_any_plane_is_the_mirrored_one_cropped(plane: tuple[int, int]) -> None:
    model = build(features=(4, 4, 4, 4))
    x = torch.rand(1, 1, 3, *plane)
    pads = [(0, 0)] * 3 + [(0, -extent % 8) for extent in plane]
    mirrored = torch.from_numpy(np.pad(x.numpy(), pads, mode="reflect"))
    with torch.inference_mode():
        expected = model(mirrored)[..., : plane[0], : plane[1]]
        torch.testing.assert_close(model(x), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("factor", [3, 5, 8])
def test_moving_the_input_by_a_thick_slice_moves_the_output_by_the_factor(factor: int) -> None:
    model = build(features=(2, 2, 2), factor=factor)
    x = torch.rand(1, 1, 30, 8, 8)
    with torch.inference_mode():
        whole, moved = model(x), model(x[:, :, 1:])
    # Eleven slices from either end, which zero padding does not reach.
    inner = slice(11 * factor, 17 * factor + 1)
    later = slice(12 * factor, 18 * factor + 1)
    torch.testing.assert_close(moved[:, :, inner], whole[:, :, later], atol=1e-5, rtol=1e-5)


def test_too_few_levels_and_other_factors_are_refused() -> None:
    with pytest.raises(UsageError):
        build(features=(8, 8))
    with pytest.raises(ShapeError, match="it can do 5"):
        build(features=SMALL)(torch.rand(1, 1, 3, 8, 8), factor=2)


def test_learns_with_a_loss_at_each_step() -> None:
    model = build(features=(8, 8, 8)).train()
    linear = catalog.build("linear")
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        x = torch.nn.functional.interpolate(torch.rand(2, 1, 3, 2, 2), size=(3, 8, 8), mode="trilinear")
        thin = linear(x, factor=5)
        errors = [(output - stretch(thin, output.shape[2])).abs().mean() for _, output in model.stages(x)]
        optimiser.zero_grad()
        sum(errors).backward()  # type: ignore[union-attr]
        optimiser.step()
        losses.append(errors[-1].item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
