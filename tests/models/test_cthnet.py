"""CTHNet: its counts, its 3D attention beside a plain reference, where thick slices go, and odd planes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models import catalog
from thinslice.models.along_z import z_matrix
from thinslice.models.blocks.cube_attention import CubeAttention
from thinslice.models.cthnet import CTHNet, CTHNetConfig
from thinslice.profile import SliceProfile


def build(**config: object) -> CTHNet:
    torch.manual_seed(0)
    model = catalog.build("cthnet", **{"depth": 3, "factor": 4, **config})
    assert isinstance(model, CTHNet)
    return model.eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_stage_by_stage() -> None:
    with torch.device("meta"):
        model = CTHNet(CTHNetConfig())
    assert {name: parameters(stage) for name, stage in model.named_children()} == {
        "stem": 4_736,
        "encoder": 79_552,
        "after_encoder": 27_680,
        "narrow": 6_920,
        "through_plane": 238_688,
        "in_plane": 9_501_696,
        "after_decoder": 746_784,
        "head": 161,
    }
    assert parameters(model) == 10_606_217  # published: 10.6M


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize("factor", [2, 3, 5, 8])
def test_each_thin_slice_starts_as_the_thick_one_that_is_nearest(depth: int, factor: int) -> None:
    source = build(depth=depth, factor=factor, decoder_groups=1).nearest_thick
    distance = (torch.arange((depth - 1) * factor + 1)[:, None] - factor * torch.arange(depth)).abs()
    assert torch.equal(distance.gather(1, source[:, None])[:, 0], distance.amin(dim=1))
    assert torch.equal(source[::factor], torch.arange(depth))
    # Halfway between two, the upper one, as the baseline `nearest` copies it.
    copied = z_matrix("nearest", depth, SliceProfile.mean(factor), factor)
    assert source.tolist() == copied.argmax(axis=1).tolist()


def plain_attention(layer: CubeAttention, x: torch.Tensor) -> torch.Tensor:
    """Attention over all pairs of voxels of one volume, those in different windows excluded; voxel by voxel."""
    _, slices, height, width, channels = x.shape
    places = torch.cartesian_prod(torch.arange(slices), torch.arange(height), torch.arange(width))
    window = torch.stack(
        [
            (places[:, axis] + (layer.side - layer.shift if extent > layer.side else 0) % layer.side) // layer.side
            for axis, extent in enumerate((slices, height, width))
        ],
        dim=1,
    )
    together = (window[:, None] == window[None]).all(dim=2)
    offset = (places[:, None] - places[None]).clamp(1 - layer.side, layer.side - 1) + layer.side - 1
    rows = 2 * layer.side - 1
    bias = layer.position_bias[(offset[..., 0] * rows + offset[..., 1]) * rows + offset[..., 2]]
    query, key, value = layer.qkv(x.reshape(-1, channels)).chunk(3, dim=1)
    per_head = channels // layer.heads
    outputs = []
    for head in range(layer.heads):
        part = slice(head * per_head, (head + 1) * per_head)
        scores = query[:, part] @ key[:, part].T / per_head**0.5 + bias[..., head]
        outputs.append(scores.masked_fill(~together, -torch.inf).softmax(dim=1) @ value[:, part])
    projected: torch.Tensor = layer.projection(torch.cat(outputs, dim=1))
    return projected.reshape(x.shape)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("shape", [(4, 6, 4), (3, 5, 2), (1, 1, 7), (2, 3, 3)])
@pytest.mark.parametrize("side", [2, 3])
def test_attention_in_cubes_is_plain_attention_inside_windows(
    shape: tuple[int, int, int], side: int, shifted: bool
) -> None:
    torch.manual_seed(0)
    layer = CubeAttention(8, 2, side, shifted=shifted)
    nn.init.normal_(layer.position_bias)
    x = torch.randn(1, *shape, 8)
    torch.testing.assert_close(layer(x), plain_attention(layer, x), atol=1e-5, rtol=1e-5)


def test_many_windows_attend_in_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = CubeAttention(8, 2, 2, shifted=True)
    x = torch.randn(2, 4, 6, 6, 8)
    at_once = layer(x)
    monkeypatch.setattr("thinslice.models.blocks.cube_attention.MOST_WINDOWS", 5)
    torch.testing.assert_close(layer(x), at_once, atol=1e-6, rtol=1e-6)


def test_the_encoder_does_not_reach_around_the_volume() -> None:
    model = build(depth=12)
    x = torch.rand(1, 1, 12, 32, 32)
    changed = x.clone()
    changed[:, :, 0, 0, 0] += 1.0
    with torch.inference_mode():
        different = (model.encode(x) != model.encode(changed)).any(dim=-1)[0]  # height, width, slice
    assert different[0, 0, 0]
    assert not different[-8:].any() and not different[:, -8:].any() and not different[..., -1].any()


@pytest.mark.parametrize("plane", [(1, 1), (1, 17), (9, 20)])
def test_any_plane_is_the_mirrored_one_cropped(plane: tuple[int, int]) -> None:
    model = build()
    x = torch.rand(1, 1, 3, *plane)
    ends = tuple((0, -extent % 8) for extent in plane)
    mirrored = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (0, 0), *ends), mode="reflect"))
    with torch.inference_mode():
        torch.testing.assert_close(model(x), model(mirrored)[..., : plane[0], : plane[1]])


@pytest.mark.parametrize(("depth", "factor"), [(2, 2), (2, 8), (5, 3), (8, 5)])
def test_any_depth_and_factor(depth: int, factor: int) -> None:
    model = build(depth=depth, factor=factor)
    with torch.inference_mode():
        thin = model(torch.rand(1, 1, depth, 9, 8))
    assert thin.shape == (1, 1, (depth - 1) * factor + 1, 9, 8) and thin.isfinite().all()


def test_both_views_are_treated_alike() -> None:
    model = build()
    tokens = torch.rand(1, 16, 16, model.config.thin_depth, 8)
    with torch.inference_mode():
        there = model.attend_through_plane(tokens)
        back = model.attend_through_plane(tokens.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(there, back, atol=1e-5, rtol=1e-5)


def test_stochastic_depth_acts_in_training_only() -> None:
    model = build(drop_rate=0.5)
    x = torch.rand(1, 1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        model.train()
        assert not torch.equal(model(x), model(x))


def test_learns_to_copy() -> None:
    torch.manual_seed(0)
    model = build(depth=2, factor=2, drop_rate=0.0).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.rand(2, 1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    target = torch.cat([x[:, :, :1], x.mean(dim=2, keepdim=True), x[:, :, 1:]], dim=2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = (model(x) - target).abs().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_empty_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="empty"):
        build()(torch.rand(0, 1, 3, 8, 8))


@pytest.mark.parametrize(
    "config",
    [{"heads": 5}, {"encoder_features": 20}, {"features": 7}, {"depth": 1}, {"through_plane_window": (0, 4)}],
)
def test_sizes_that_do_not_fit_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CTHNetConfig(**config)
