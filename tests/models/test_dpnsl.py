"""DP-NSL: its splines against scipy's, its projection, its router, and a short training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.interpolate import BSpline

from thinslice.models import catalog
from thinslice.models.along_z import InterpolateConfig
from thinslice.models.dpnsl import DPNSL, DPNSLConfig, MixtureOfSplines, b_spline, spline_matrix
from thinslice.models.interpolate import Interpolate
from thinslice.profile import SliceProfile


def build(**config: object) -> DPNSL:
    torch.manual_seed(0)
    model = catalog.build("dpnsl", **{"features": 8, "blocks": 1, "expert_features": 4, **config})
    assert isinstance(model, DPNSL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def test_parameters_layer_by_layer() -> None:
    with torch.device("meta"):
        model = DPNSL(DPNSLConfig())
    encoder = 27 * 64 + 64 + 8 * 2 * (27 * 64 * 64 + 64)
    mixture = 4 * (64 * 32 + 32) + 64 * 4 + 4
    decoder = 27 * 32 * 32 + 32 + 27 * 32 + 1
    assert sum(p.numel() for p in model.parameters()) == encoder + mixture + decoder


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_splines_are_scipys(order: int) -> None:
    x = np.linspace(-3.2, 3.2, 641)
    knots = np.arange(order + 2) - 0.5 * (order + 1)
    expected = np.nan_to_num(BSpline.basis_element(knots, extrapolate=False)(x))
    np.testing.assert_allclose(b_spline(order, x), expected, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 4, 5])
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_splines_keep_constants_and_run_alike_from_either_end(order: int, factor: int) -> None:
    matrix = spline_matrix(order, 5, factor)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)


@pytest.mark.parametrize("profile", [SliceProfile.mean(5), SliceProfile.trapezoid(5), SliceProfile.mean(5, width=1.5)])
def test_the_output_averages_back_to_the_thick_slices(profile: SliceProfile) -> None:
    x = torch.rand(1, 1, 7, 6, 5)
    with torch.inference_mode():
        thin = build()(x, factor=5, profile=profile)[0, 0].numpy()
    seen = np.tensordot(profile.matrix(7), thin, 1)
    np.testing.assert_allclose(seen, x[0, 0, list(profile.supported(7))].numpy(), atol=2e-6)


def test_as_samples_thick_slices_are_copied_and_the_rest_is_not_linear() -> None:
    x = torch.rand(1, 1, 4, 6, 5)
    with torch.inference_mode():
        thin = build(measurement="sample")(x, factor=3)
        linear = catalog.build("linear")(x, factor=3)
    torch.testing.assert_close(thin[:, :, ::3], x)
    assert (thin - linear).abs()[:, :, 1::3].mean() > 1e-3


def test_untrained_it_is_the_anchor() -> None:
    x = torch.rand(1, 1, 5, 4, 4)
    untrained = catalog.build("dpnsl", features=8, blocks=1).eval()
    with torch.inference_mode():
        torch.testing.assert_close(untrained(x), Interpolate(InterpolateConfig(method="linear-consistent"))(x))


@pytest.mark.parametrize("selected", [1, 2, 4])
def test_as_many_experts_as_are_selected_share_each_voxel(selected: int) -> None:
    torch.manual_seed(0)
    mixture = MixtureOfSplines(DPNSLConfig(features=6, expert_features=3, selected=selected))
    shares = mixture.shares(torch.randn(2, 6, 4, 5, 5), 5)
    assert shares.shape == (2, 4, 16, 5, 5)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2, 16, 5, 5))
    assert ((shares > 0).sum(dim=1) == selected).all()
    assert (shares > 0).any(dim=(0, 2, 3, 4)).all(), "every expert is chosen somewhere"


def test_the_mixture_of_equal_experts_is_that_expert() -> None:
    torch.manual_seed(0)
    mixture = MixtureOfSplines(DPNSLConfig(features=6, expert_features=3, orders=(2, 2, 2), selected=2))
    for expert in mixture.experts[1:]:
        expert.load_state_dict(mixture.experts[0].state_dict())
    x = torch.randn(1, 6, 4, 3, 3)
    alone = torch.einsum("td,bcdhw->bcthw", torch.tensor(spline_matrix(2, 4, 5)).float(), mixture.experts[0](x))
    torch.testing.assert_close(mixture(x, 5), alone)


def test_learns_what_linear_interpolation_lacks() -> None:
    torch.manual_seed(0)
    model = catalog.build("dpnsl", features=8, blocks=1, expert_features=8).train()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    profile = SliceProfile.mean(4)
    losses = []
    for _ in range(60):
        phase = 6.0 * torch.rand(4, 1, 1, 1, 1)
        z = torch.arange(-2, 19)[None, None, :, None, None]
        wave = (0.5 + 0.4 * torch.sin(0.7 * z + phase)).expand(-1, -1, -1, 4, 4)
        weights = torch.tensor(profile.weights, dtype=torch.float32)
        thick = torch.stack([(wave[:, :, k : k + 5] * weights[:, None, None]).sum(2) for k in range(0, 17, 4)], dim=2)
        loss = (model(thick, factor=4, profile=profile) - wave[:, :, 2:19]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@pytest.mark.parametrize("config", [{"selected": 5}, {"orders": ()}, {"orders": (0, 9)}, {"measurement": "mean"}])
def test_values_that_do_not_fit_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DPNSLConfig(**config)  # type: ignore[arg-type]
