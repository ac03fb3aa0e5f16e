"""The ablations of TVSRN: their counts, layer by layer, and the reach of their attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from thinslice.errors import UsageError
from thinslice.models import catalog
from thinslice.models.tvsrn import TVSRN
from thinslice.models.tvsrn_ablations import TVSRNEncoder, TVSRNViTEncoder

TINY_VIT = {"features": 16, "heads": 2, "layers": 2, "patch": 4}


def build(name: str, **config: object) -> nn.Module:
    torch.manual_seed(0)
    return catalog.build(name, **config).eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def vit(**config: object) -> TVSRNViTEncoder:
    model = build("tvsrn-vit-encoder", **{**TINY_VIT, **config})
    assert isinstance(model, TVSRNViTEncoder)
    return model


def test_parameters_of_the_encoder() -> None:
    model = build("tvsrn-encoder")
    assert isinstance(model, TVSRNEncoder)
    block = 12 * 128**2 + 9 * 128 + 4 * 128 + 15**2 * 8  # weights, biases, two norms, position bias
    assert [parameters(part) for part in (model.embedding, model.encoder, model.head)] == [64, 8 * block + 512, 165]
    assert parameters(model) == 1_601_317


def test_parameters_of_the_vit_encoder() -> None:
    model = build("tvsrn-vit-encoder")
    assert isinstance(model, TVSRNViTEncoder)
    layer = 12 * 512**2 + 9 * 512 + 4 * 512  # weights, biases, two norms
    assert [parameters(each) for each in model.layers] == [layer] * 8
    assert parameters(model.embedding) == 256 * 512 + 512 and parameters(model.head) == 512 * 1280 + 1280
    assert model.position.shape == (4, 16, 16, 512)
    assert parameters(model) == 26_532_608


def test_no_tab_is_tvsrn_without_through_plane_attention() -> None:
    model, full = build("tvsrn-no-tab"), build("tvsrn")
    assert isinstance(model, TVSRN) and isinstance(full, TVSRN) and full.through_plane is not None
    assert model.through_plane is None
    assert parameters(full) - parameters(model) == parameters(full.through_plane)
    assert parameters(model) == 1_659_353


@pytest.mark.parametrize(("name", "multiple"), [("tvsrn-encoder", 8), ("tvsrn-vit-encoder", 4)])
@pytest.mark.parametrize("plane", [(1, 1), (1, 5), (3, 9), (17, 20)])
def test_any_plane_is_the_mirrored_one_cropped(name: str, multiple: int, plane: tuple[int, int]) -> None:
    model = vit() if name == "tvsrn-vit-encoder" else build(name, features=8, blocks=2)
    x = torch.rand(1, 1, 4, *plane)
    pads = [(0, 0)] * 3 + [(0, -extent % multiple) for extent in plane]
    mirrored = torch.from_numpy(np.pad(x.numpy(), pads, mode="reflect"))
    with torch.inference_mode():
        expected = model(mirrored)[..., : plane[0], : plane[1]]
        torch.testing.assert_close(model(x), expected, atol=1e-6, rtol=1e-5)


def influence(model: nn.Module, x: torch.Tensor, at: tuple[int, int, int]) -> torch.Tensor:
    """Thin voxels, as (thin, height, width), that change with the thick voxel at `at`."""
    touched = x.clone()
    touched[(0, 0, *at)] += 5.0
    with torch.inference_mode():
        return (model(touched) - model(x)).abs()[0, 0] > 0


def test_every_token_attends_to_every_other_across_slices() -> None:
    changed = influence(vit(), torch.rand(1, 1, 4, 16, 24), (0, 0, 0))
    patches = changed.unfold(1, 4, 4).unfold(2, 4, 4).any(-1).any(-1)
    assert patches.all()


def test_without_positions_the_order_of_patches_does_not_matter() -> None:
    model = vit()
    x = torch.rand(1, 1, 4, 8, 8)
    swapped = x.roll(4, dims=-1)  # two columns of patches change places
    with torch.inference_mode():
        assert not torch.allclose(model(swapped), model(x).roll(4, dims=-1), atol=1e-5)
        model.position.zero_()
        torch.testing.assert_close(model(swapped), model(x).roll(4, dims=-1), atol=1e-5, rtol=1e-5)


def test_positions_are_the_learned_ones_at_their_own_size_and_interpolated_at_others() -> None:
    model = vit()
    assert model.positions(64, 64) is model.position
    with torch.no_grad():
        model.position.copy_(torch.arange(4.0)[:, None, None, None].expand_as(model.position))
        resized = model.positions(2, 5)
    assert resized.shape == (4, 2, 5, 16)
    torch.testing.assert_close(resized, torch.arange(4.0)[:, None, None, None].expand(4, 2, 5, 16))


def test_the_encoder_reaches_all_slices_and_neighbouring_windows_only() -> None:
    model = build("tvsrn-encoder", features=8, blocks=2)
    changed = influence(model, torch.rand(1, 1, 4, 40, 40), (3, 18, 18))
    rows = changed.any(0).any(1).nonzero().flatten()
    assert changed[0].any(), "slices are channels: the last one reaches the first"
    # The window of rows 16 to 23, then the shifted ones of rows 12 to 27 that overlap it.
    assert (rows.min(), rows.max()) == (12, 27)


@pytest.mark.parametrize(("name", "config"), [("tvsrn-encoder", {"features": 3}), ("tvsrn-vit-encoder", {"heads": 3})])
def test_heads_must_divide_the_channels(name: str, config: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must divide"):
        build(name, **config)


@pytest.mark.parametrize("name", ["tvsrn-encoder", "tvsrn-vit-encoder"])
def test_learns_to_interpolate(name: str) -> None:
    model = (vit() if name == "tvsrn-vit-encoder" else build(name, features=8, blocks=2)).train()
    linear = catalog.build("linear")
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    smooth = torch.nn.functional.interpolate
    losses = []
    for _ in range(60):
        x = smooth(torch.rand(4, 1, 4, 2, 2), size=(4, 8, 8), mode="trilinear")
        loss = (model(x) - linear(x, factor=5)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
