"""TVSRN: both presets, their counts, the golden vectors, and every size the released code cannot do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models import catalog
from thinslice.models.blocks.swin import StochasticDepth
from thinslice.models.released import tvsrn_checkpoint
from thinslice.models.tvsrn import TVSRN, TVSRNConfig, position_code, reflect_to_multiple

GOLDEN_TOLERANCE = 2e-4
"""Largest difference asked for, float32; the outputs have standard deviation about 2."""


def build(name: str = "tvsrn", **config: object) -> TVSRN:
    torch.manual_seed(0)
    model = catalog.build(name, **config)
    assert isinstance(model, TVSRN)
    return model.eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def golden_difference(shared: Path, size: int) -> float:
    golden = shared / "golden"
    model = tvsrn_checkpoint.build_released(
        tvsrn_checkpoint.read_released(golden / "tvsrn_released_weights.safetensors")
    )
    vectors = np.load(golden / f"tvsrn_released_io_{size}.npz")
    with torch.inference_mode():
        thin = model(torch.from_numpy(vectors["input"]))
    assert thin.shape == (1, 1, 16, size, size)
    return float((thin[:, :, 3:13] - torch.from_numpy(vectors["output"])).abs().max())


def test_golden_vectors_64(shared: Path) -> None:
    assert golden_difference(shared, 64) <= GOLDEN_TOLERANCE


@pytest.mark.heavy
def test_golden_vectors_256(shared: Path) -> None:
    assert golden_difference(shared, 256) <= GOLDEN_TOLERANCE


def test_parameters_of_the_released_network_stage_by_stage() -> None:
    model = build("tvsrn-released")
    stages = (model.embedding, model.encoder, model.through_plane, model.in_plane, model.head)
    assert [parameters(stage) for stage in stages] == [526_336, 58_144, 201_760, 1_601_088, 161]
    assert parameters(model) == 2_387_489


def test_parameters_of_the_papers_network() -> None:
    assert parameters(build()) == 1_862_905
    assert parameters(build(through_plane_blocks=0)) == 1_659_353


@pytest.mark.parametrize("name", ["tvsrn", "tvsrn-released"])
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
@pytest.mark.parametrize("factor", [2, 3, 5, 8])
def test_any_depth_and_factor(name: str, depth: int, factor: int) -> None:
    model = build(name, depth=depth, factor=factor)
    with torch.inference_mode():
        thin = model(torch.rand(1, 1, depth, 8, 16), factor=factor)
    assert thin.shape == (1, 1, (depth - 1) * factor + 1, 8, 16)
    assert thin.isfinite().all()


@pytest.mark.parametrize("name", ["tvsrn", "tvsrn-released"])
@pytest.mark.parametrize("plane", [(1, 1), (1, 5), (3, 9), (17, 20)])
def test_any_plane_is_the_mirrored_one_cropped(name: str, plane: tuple[int, int]) -> None:
    model = build(name)
    x = torch.rand(1, 1, 4, *plane)
    # numpy's reflection is the independent reference.
    pads = [(0, 0)] * 3 + [(0, -extent % 8) for extent in plane]
    mirrored = torch.from_numpy(np.pad(x.numpy(), pads, mode="reflect"))
    with torch.inference_mode():
        expected = model(mirrored)[..., : plane[0], : plane[1]]
        torch.testing.assert_close(model(x), expected, atol=1e-6, rtol=1e-5)


def test_reflection_leaves_whole_planes_alone() -> None:
    x = torch.rand(1, 1, 2, 8, 16)
    assert reflect_to_multiple(x, 8) is x


def test_thick_tokens_stand_on_multiples_of_the_factor() -> None:
    model = build(depth=3, factor=4)
    tokens = model.insert_mask_tokens(torch.full((1, 8, 8, 3, 8), 9.0) * torch.arange(1, 4)[:, None])
    assert tokens.shape == (1, 8, 8, 9, 8)
    for k in range(3):
        assert (tokens[..., 4 * k, :] == 9.0 * (k + 1)).all()
    missing = [slice_index for slice_index in range(9) if slice_index % 4]
    assert torch.equal(tokens[0, 5, 2, missing], model.mask_tokens)


def test_position_code_is_the_sinusoidal_one() -> None:
    code = position_code(16, 8)
    for z in (0, 1, 15):
        for i in range(4):
            angle = z / 10000 ** (2 * i / 8)
            assert code[z, 2 * i].item() == pytest.approx(np.sin(angle), abs=1e-6)
            assert code[z, 2 * i + 1].item() == pytest.approx(np.cos(angle), abs=1e-6)


def test_presets_differ_where_the_paper_and_the_code_do() -> None:
    paper, published = build(), build("tvsrn-released")
    assert "mask_tokens" in dict(paper.named_parameters())
    assert "mask_tokens" not in published.state_dict() and not published.mask_tokens.any()
    assert paper.config.through_plane_window == (4, 8) and published.config.through_plane_window == (4, 4)
    assert (paper.window.plan, published.window.plan) == ("paper", "released")
    assert paper.window.depth == published.window.min_depth == 4


def test_heads_read_the_channels_in_their_own_order() -> None:
    tokens = torch.zeros(1, 1, 1, 16, 8)
    tokens[..., 3, 2] = 1.0  # channel 8 * 3 + 2 = 26
    changed = {}
    for name in ("tvsrn", "tvsrn-released"):
        head = build(name).head
        with torch.inference_mode():
            difference = (head(tokens) - head(torch.zeros_like(tokens))).flatten()
        changed[name] = difference.nonzero().flatten().tolist()
    assert changed == {"tvsrn": [3], "tvsrn-released": [26 % 16]}


def test_every_tensor_is_a_parameter_or_a_buffer_and_derived_ones_are_not_saved() -> None:
    model = build()
    for module in model.modules():
        loose = [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]
        assert not loose
    derived = {name for name, _ in model.named_buffers()}
    assert derived and not derived & model.state_dict().keys()


def test_nothing_is_kept_per_plane_size() -> None:
    model = build()

    def held() -> int:
        return sum(tensor.numel() for tensor in [*model.parameters(), *model.buffers()])

    before = held(), {name: len(vars(module)) for name, module in model.named_modules()}
    with torch.inference_mode():
        for side in (8, 16, 24, 40):
            model(torch.rand(1, 1, 4, 8, side))
    assert before == (held(), {name: len(vars(module)) for name, module in model.named_modules()})


def test_drops_branches_in_training_only() -> None:
    model = build(drop_rate=0.5)
    x = torch.rand(1, 1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        model.train()
        assert not torch.equal(model(x), model(x))
    rates = [module.rate for module in model.in_plane.modules() if isinstance(module, StochasticDepth)]
    assert rates[0] == 0.0 and rates[-1] == 0.5


def test_other_depths_and_factors_are_refused() -> None:
    model = build()
    with pytest.raises(ShapeError, match="4 thick slices, not 3"):
        model(torch.rand(1, 1, 3, 8, 8))
    with pytest.raises(ShapeError, match="factor 4"):
        model(torch.rand(1, 1, 4, 8, 8), factor=4)
    with pytest.raises(ShapeError, match="empty"):
        model(torch.rand(1, 1, 4, 0, 8))


@pytest.mark.parametrize(
    "wrong",
    [{"depth": 1}, {"factor": 1}, {"heads": 3}, {"features": 7}, {"head": "cubic"}, {"colour": "red"}],
)
def test_config_refuses_what_cannot_be_built(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TVSRNConfig(**wrong)  # type: ignore[arg-type]


def test_linear_layers_start_small_and_pointwise_ones_at_the_default() -> None:
    model = build()
    weight = model.in_plane.groups[0].blocks[0].attention.qkv.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not model.in_plane.groups[0].blocks[0].attention.qkv.bias.any()
    assert model.head.weight.abs().max() > 0.1
