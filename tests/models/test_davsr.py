"""DA-VSR: one extractor for both views, a head for each, and the parameters that may adapt."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from thinslice.errors import ShapeError
from thinslice.models import catalog
from thinslice.models.davsr import DAVSR, DAVSRConfig

SMALL = {"features": 8, "blocks": 2, "layers": 2, "growth": 8, "meta_hidden": (8, 8), "fusion_features": 8}
SMALL_FUSION = {"fusion_blocks": 1, "fusion_layers": 2, "fusion_growth": 4}


def build(**config: object) -> DAVSR:
    torch.manual_seed(0)
    model = catalog.build("davsr", **{**SMALL, **SMALL_FUSION, **config})
    assert isinstance(model, DAVSR)
    return model.eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_stage_by_stage() -> None:
    model = DAVSR(DAVSRConfig())
    assert parameters(model.extractor) == 2_658_112
    assert [parameters(head) for head in model.heads.values()] == [166_528, 166_528]
    assert parameters(model.fusion) == 371_105
    assert parameters(model) == 3_362_273


def test_only_the_extractor_may_adapt() -> None:
    model = build()
    adaptable = {id(parameter) for parameter in model.adaptable_parameters()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in adaptable}
    assert names == {name for name, _ in model.named_parameters() if name.startswith("extractor.")}
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"extractor", "heads", "fusion"}


def test_each_view_has_its_own_head_and_they_share_the_extractor() -> None:
    model = build()
    sagittal, coronal = model.views(torch.rand(1, 1, 3, 6, 5), factor=4)
    assert sagittal.shape == coronal.shape == (1, 1, 9, 6, 5)
    sagittal.sum().backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert all(name.startswith(("extractor.", "heads.sagittal.")) for name in reached)
    assert any(name.startswith("extractor.") for name in reached)


def test_forward_fuses_the_two_views() -> None:
    model = build()
    x = torch.rand(2, 1, 3, 6, 5)
    with torch.inference_mode():
        assert torch.equal(model(x, factor=3), model.fusion(*model.views(x, factor=3)))


def test_a_single_plane_is_its_own_neighbour() -> None:
    model = build()
    x = torch.rand(2, 1, 4, 6, 1)
    with torch.inference_mode():
        lone = model.restore(x, "sagittal", factor=5)
        among_equals = model.restore(x.expand(-1, -1, -1, -1, 3), "sagittal", factor=5)
    assert lone.shape == (2, 1, 16, 6, 1)
    torch.testing.assert_close(lone, among_equals[..., 1:2], atol=1e-6, rtol=0)


def test_coronal_planes_have_columns_beside_depth() -> None:
    model = build()
    model.heads["coronal"].load_state_dict(model.heads["sagittal"].state_dict())
    x = torch.rand(1, 1, 3, 6, 5)
    with torch.inference_mode():
        turned = model.restore(x.transpose(-1, -2), "sagittal")
        torch.testing.assert_close(model.restore(x, "coronal"), turned.transpose(-1, -2), atol=1e-6, rtol=0)


def test_fits_a_single_pair() -> None:
    model = build().train()
    thin = nn.functional.avg_pool3d(torch.rand(1, 1, 7, 12, 12), 3, 1, 1, count_include_pad=False)
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


def test_wrong_shapes_are_refused() -> None:
    model = build()
    with pytest.raises(ShapeError, match="at least 2"):
        model.restore(torch.rand(1, 1, 1, 6, 5), "sagittal")
    with pytest.raises(ShapeError, match="factor 9"):
        model.views(torch.rand(1, 1, 3, 6, 5), factor=9)
    with pytest.raises(ShapeError, match="empty"):
        model(torch.rand(1, 1, 3, 0, 5))


@pytest.mark.parametrize("wrong", [{"features": 0}, {"factor": 1}, {"thin_spacing_mm": -1.0}, {"colour": "red"}])
def test_config_refuses_what_cannot_be_built(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DAVSRConfig(**wrong)  # type: ignore[arg-type]
