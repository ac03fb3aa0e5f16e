"""The deviation head: it leaves the estimate unchanged, stays within the halo, and reads its card strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from thinslice.errors import ModelError
from thinslice.models import catalog, checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.calibration import Calibration
from thinslice.models.deviation import FLOOR_HU, START_HU, Ensemble, Learned
from thinslice.profile import SliceProfile


def small(**config: Any) -> ThroughPlaneModel:
    return catalog.build("thinnet", features=8, blocks=2, **config).eval()


@pytest.fixture
def network() -> ThroughPlaneModel:
    """A network with weights large enough that the results of both heads vary."""
    torch.manual_seed(0)
    model = small(deviation=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("factor", range(2, 9))
def test_the_estimate_is_that_of_forward_and_the_deviation_lies_on_its_grid(
    network: ThroughPlaneModel, factor: int
) -> None:
    x = torch.rand(2, 1, 3, 7, 10)
    with torch.inference_mode():
        thin, deviation = network.with_deviation(x, factor=factor)
        torch.testing.assert_close(thin, network(x, factor=factor), atol=0, rtol=0)
    assert deviation.shape == thin.shape == (2, 1, 2 * factor + 1, 7, 10)
    assert deviation.min() * 3072 >= FLOOR_HU - 1e-3 and deviation.std() > 0


def test_the_network_starts_the_same_with_a_head_and_without() -> None:
    models = []
    for deviation in (False, True):
        torch.manual_seed(3)
        models.append(small(deviation=deviation))
    with_head = models[1].state_dict()
    for name, tensor in models[0].state_dict().items():
        torch.testing.assert_close(tensor, with_head[name], atol=0, rtol=0)
    assert all(name.startswith("deviation.") for name in with_head.keys() - models[0].state_dict().keys())
    x = torch.rand(1, 1, 4, 8, 8)
    _, deviation = models[1].with_deviation(x, factor=5)
    assert 0.5 * START_HU < deviation.mean() * 3072 < 2 * START_HU


def test_the_head_reaches_no_further_than_the_halo(network: ThroughPlaneModel) -> None:
    depth_halo, rows_halo, _ = network.window.halo
    x = torch.rand(1, 1, 2 * depth_halo + 3, 2 * rows_halo + 6, 8)
    deep, wide = x.clone(), x.clone()
    deep[:, :, -1] += 0.5
    wide[..., -1, :] += 0.5
    with torch.inference_mode():
        plain, further, below = (network.with_deviation(v, factor=5)[1] for v in (x, deep, wide))
    still = 5 * (x.shape[2] - 1 - depth_halo)
    torch.testing.assert_close(further[:, :, : still + 1], plain[:, :, : still + 1], atol=1e-7, rtol=0)
    assert (further - plain).abs().max() > 1e-5
    rows = x.shape[3] - 1 - rows_halo
    torch.testing.assert_close(below[..., :rows, :], plain[..., :rows, :], atol=1e-7, rtol=0)


def test_the_deviation_depends_on_profile_and_position(network: ThroughPlaneModel) -> None:
    x = torch.rand(1, 1, 4, 8, 8)
    narrow, wide = (network.with_deviation(x, factor=4, profile=SliceProfile.mean(4, width=w))[1] for w in (0.5, 1.0))
    assert (narrow - wide).abs().max() > 1e-5
    per_slice = wide.mean(dim=(0, 1, 3, 4))
    assert per_slice.std() > 1e-6


def test_a_network_without_a_head_refuses() -> None:
    plain = small()
    assert not plain.has_deviation and not catalog.build("cubic").has_deviation
    for model in (plain, catalog.build("cubic")):
        with pytest.raises(ModelError, match="does not estimate its standard deviation"):
            model.with_deviation(torch.rand(1, 1, 4, 8, 8))


def test_weights_make_a_strict_round_trip(network: ThroughPlaneModel, tmp_path: Path) -> None:
    path = tmp_path / "with-head.safetensors"
    checkpoint.save(network, path, architecture="thinnet", card={"name": "with-head"})
    again = checkpoint.load(path)
    x = torch.rand(1, 1, 4, 8, 8)
    assert again.has_deviation
    torch.testing.assert_close(again.with_deviation(x)[1], network.with_deviation(x)[1], atol=0, rtol=0)
    old = tmp_path / "old.safetensors"
    checkpoint.save(small(), old, architecture="thinnet", card={})
    assert not checkpoint.load(old).has_deviation


def test_the_scale_of_the_calibration_is_applied(network: ThroughPlaneModel) -> None:
    x = torch.rand(1, 1, 4, 8, 8)
    thin, deviation = network.with_deviation(x, factor=3)
    both = Learned(network, scale=1.5)(x, factor=3)
    torch.testing.assert_close(both[:, :1], thin)
    torch.testing.assert_close(both[:, 1:], 1.5 * deviation)


def test_the_ensemble_is_the_spread_over_mirrored_inputs(network: ThroughPlaneModel) -> None:
    x = torch.rand(1, 1, 4, 8, 10)
    with torch.inference_mode():
        both = Ensemble(network)(x, factor=4)
        members = [network(x, factor=4)]
        members += [network(x.flip(axes), factor=4).flip(axes) for axes in Ensemble.MIRRORED]
    torch.testing.assert_close(both[:, :1], members[0], atol=0, rtol=0)
    spread = torch.stack(members).std(dim=0).clamp(min=FLOOR_HU / 3072)
    torch.testing.assert_close(both[:, 1:], spread, atol=1e-6, rtol=1e-3)
    assert spread.max() > 2 * FLOOR_HU / 3072
    symmetric = Ensemble(catalog.build("linear"))(x, factor=4)
    assert symmetric[:, 1:].max() * 3072 == pytest.approx(FLOOR_HU), "interpolation gives the same on mirrored inputs"


@pytest.mark.parametrize(
    "calibration",
    [
        {"scale": 0.0},
        {"scale": float("nan")},
        {"scale": "x"},
        {"multipliers": {"90": -1.0}},
        {"multipliers": {"ninety": 1.0}},
        {"multipliers": [1.0]},
        "text",
    ],
)
def test_a_damaged_calibration_is_refused(calibration: Any) -> None:
    with pytest.raises(ModelError, match="calibrat"):
        Calibration.from_card({"deviation": {"calibration": calibration}})


def test_a_calibration_makes_a_round_trip_through_the_card() -> None:
    found = Calibration(1.25, {50: 0.6, 90: 1.5}, ("a", "b"))
    assert Calibration.from_card({"deviation": {"calibration": found.to_card()}}) == found
    assert Calibration.from_card(None) == Calibration(1.0, {})
