"""SAINT: its published counts, physical distances, factors that are not whole, and its two stages."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models import catalog
from thinslice.models.saint import SAINT, SAINTConfig

SMALL = {"features": 8, "blocks": 2, "layers": 2, "growth": 8, "meta_hidden": (8, 8), "fusion_features": 8}
SMALL_FUSION = {"fusion_blocks": 1, "fusion_layers": 2, "fusion_growth": 4}


def build(**config: object) -> SAINT:
    torch.manual_seed(0)
    model = catalog.build("saint", **{**SMALL, **SMALL_FUSION, **config})
    assert isinstance(model, SAINT)
    return model.eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_the_published_ones() -> None:
    model = SAINT(SAINTConfig())
    assert parameters(model.through_plane) == 2_787_712, "published: 2.79M"
    assert parameters(model.through_plane.upsampler) == 129_600, "published: 0.13M"
    assert parameters(model.fusion) == 371_105, "published: 0.37M"
    assert parameters(model) == 3_158_817


def test_stages_are_selected_by_prefix() -> None:
    model = build()
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"through_plane", "fusion"}
    sagittal, coronal = model.views(torch.rand(1, 1, 3, 6, 5), factor=4)
    assert sagittal.shape == coronal.shape == (1, 1, 9, 6, 5)
    (sagittal + coronal).sum().backward()
    assert all(parameter.grad is None for parameter in model.fusion.parameters())
    assert all(parameter.grad is not None for parameter in model.through_plane.parameters())


def test_the_second_stage_trains_the_fusion_alone() -> None:
    model = build()
    model.through_plane.requires_grad_(False)
    model(torch.rand(1, 1, 3, 6, 5)).sum().backward()
    assert all(parameter.grad is None for parameter in model.through_plane.parameters())
    assert all(parameter.grad is not None for parameter in model.fusion.parameters())


def test_both_views_share_their_weights() -> None:
    model = build()
    x = torch.rand(1, 1, 3, 6, 5)
    with torch.inference_mode():
        sagittal, coronal = model.views(x)
        turned_sagittal, turned_coronal = model.views(x.transpose(-1, -2))
    torch.testing.assert_close(turned_coronal, sagittal.transpose(-1, -2), atol=1e-6, rtol=0)
    torch.testing.assert_close(turned_sagittal, coronal.transpose(-1, -2), atol=1e-6, rtol=0)
    assert (sagittal - coronal).abs().max() > 1e-4


@pytest.mark.parametrize("factor", [2, 5, 8])
def test_a_whole_factor_is_a_case_of_positions(factor: int) -> None:
    model = build()
    x = torch.rand(2, 1, 4, 5, 6)
    with torch.inference_mode():
        thin = model(x, factor=factor)
        placed = model.at_positions(x, torch.arange(3 * factor + 1) / factor, thick_spacing_mm=factor * 1.0)
    torch.testing.assert_close(placed, thin, atol=1e-6, rtol=0)


def test_any_factor_also_one_that_is_not_whole() -> None:
    model = build()
    x = torch.rand(1, 1, 5, 5, 6)
    # 3 mm slices from 5 mm ones, then positions without any order.
    positions = torch.arange(7) * (3.0 / 5.0)
    with torch.inference_mode():
        thin = model.at_positions(x, positions, thick_spacing_mm=5.0)
        shuffled = model.at_positions(x, positions[[4, 0, 6]], thick_spacing_mm=5.0)
        irregular = model.at_positions(x, torch.tensor([0.0, 0.6, 1.2345, 3.0]), thick_spacing_mm=5.0)
    assert thin.shape == (1, 1, 7, 5, 6) and thin.isfinite().all()
    torch.testing.assert_close(shuffled, thin[:, :, [4, 0, 6]], atol=1e-6, rtol=0)
    torch.testing.assert_close(irregular[:, :, [0, 1, 3]], thin[:, :, [0, 1, 5]], atol=1e-6, rtol=0)


def test_physical_spacing_matters() -> None:
    model = build()
    x, positions = torch.rand(1, 1, 3, 5, 6), torch.tensor([0.0, 0.5, 1.25])
    with torch.inference_mode():
        base = model.at_positions(x, positions, thick_spacing_mm=5.0, in_plane_spacing_mm=0.7)
        thicker = model.at_positions(x, positions, thick_spacing_mm=8.0, in_plane_spacing_mm=0.7)
        coarser = model.at_positions(x, positions, thick_spacing_mm=5.0, in_plane_spacing_mm=2.0)
        implied = model.at_positions(x, positions, thick_spacing_mm=5.0)
    assert (thicker - base).abs().max() > 1e-4 and (coarser - base).abs().max() > 1e-4
    assert torch.equal(implied, base), "0.7 mm is the config's"


def test_forward_takes_the_configs_spacings() -> None:
    x = torch.rand(1, 1, 3, 5, 6)
    with torch.inference_mode():
        coarse = build(thin_spacing_mm=2.0, in_plane_spacing_mm=0.5)(x, factor=3)
        placed = build().at_positions(x, torch.arange(7) / 3, thick_spacing_mm=6.0, in_plane_spacing_mm=0.5)
    torch.testing.assert_close(coarse, placed, atol=1e-6, rtol=0)


def test_wrong_shapes_and_positions_are_refused() -> None:
    model = build()
    with pytest.raises(ShapeError, match="at least 2"):
        model.at_positions(torch.rand(1, 1, 1, 5, 6), torch.tensor([0.0]), thick_spacing_mm=5.0)
    with pytest.raises(ShapeError, match="from 0 to 2"):
        model.at_positions(torch.rand(1, 1, 3, 5, 6), torch.tensor([2.5]), thick_spacing_mm=5.0)
    with pytest.raises(ShapeError, match="empty"):
        model(torch.rand(1, 1, 3, 5, 0))
    with pytest.raises(ShapeError, match="factor 9"):
        model.views(torch.rand(1, 1, 3, 5, 6), factor=9)


def test_fits_a_single_pair() -> None:
    model = build().train()
    thin = torch.rand(1, 1, 7, 12, 12)
    thin = nn.functional.avg_pool3d(thin, 3, 1, 1, count_include_pad=False)
    x = thin[:, :, ::3]
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        sagittal, coronal = model.views(x, factor=3)
        loss = sum((part - thin).abs().mean() for part in (sagittal, coronal, model.fusion(sagittal, coronal)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.parametrize(
    "wrong", [{"features": 0}, {"factor": 9}, {"in_plane_spacing_mm": 0.0}, {"blocks": 0}, {"colour": "red"}]
)
def test_config_refuses_what_cannot_be_built(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SAINTConfig(**wrong)  # type: ignore[arg-type]
