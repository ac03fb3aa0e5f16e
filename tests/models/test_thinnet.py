"""ThinNet: consistent by construction, local, one set of weights for every factor."""

from __future__ import annotations

import pytest
import torch

from thinslice.errors import ShapeError
from thinslice.models import catalog
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.blocks import pieces
from thinslice.profile import SliceProfile


@pytest.fixture
def network() -> ThroughPlaneModel:
    """A small network with weights large enough that its residual matters."""
    torch.manual_seed(0)
    model = catalog.build("thinnet", features=8, blocks=2).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("factor", range(2, 9))
@pytest.mark.parametrize("width", [0.5, 1.0, 1.4])
def test_the_output_averages_back_to_the_thick_slices(network: ThroughPlaneModel, factor: int, width: float) -> None:
    profile = SliceProfile.mean(factor, width=width)
    x = torch.rand(2, 1, 7, 10, 12)
    y = network(x, factor=factor, profile=profile)
    assert y.shape == (2, 1, 6 * factor + 1, 10, 12)
    averages = torch.tensor(profile.matrix(7), dtype=torch.float32)
    again = torch.einsum("kz,bczhw->bckhw", averages, y)
    assert profile.exact(7)
    torch.testing.assert_close(again, x[:, :, list(profile.supported(7))], atol=2e-5, rtol=0)


def test_the_residual_is_not_zero(network: ThroughPlaneModel) -> None:
    x = torch.rand(1, 1, 6, 8, 8)
    consistent = catalog.build("cubic-consistent")(x, factor=5)
    assert (network(x, factor=5) - consistent).abs().mean() > 1e-2


def test_the_halo_covers_the_receptive_field_and_little_more(network: ThroughPlaneModel) -> None:
    depth_halo, rows_halo, _ = network.window.halo
    x = torch.rand(1, 1, 2 * depth_halo + 3, 2 * rows_halo + 6, 8)
    changed = x.clone()
    changed[:, :, -1] += 0.5
    changed_rows = x.clone()
    changed_rows[..., -1, :] += 0.5
    with torch.inference_mode():
        y, deep, wide = (network(v, factor=5) for v in (x, changed, changed_rows))
    still = 5 * (x.shape[2] - 1 - depth_halo)
    torch.testing.assert_close(deep[:, :, : still + 1], y[:, :, : still + 1], atol=1e-6, rtol=0)
    assert (deep - y)[:, :, still + 1 + 15 :].abs().max() > 1e-4
    rows = x.shape[3] - 1 - rows_halo
    torch.testing.assert_close(wide[..., :rows, :], y[..., :rows, :], atol=1e-6, rtol=0)


def test_the_factor_and_the_profile_reach_the_body(network: ThroughPlaneModel) -> None:
    x = torch.rand(1, 1, 6, 8, 8)
    body = [network(x, factor=4, profile=SliceProfile.mean(4, width=w)) for w in (1.0, 0.5)]
    assert (body[0] - body[1]).abs().max() > 1e-3


def test_odd_planes_and_wrong_factors(network: ThroughPlaneModel) -> None:
    assert network(torch.rand(1, 1, 2, 7, 9), factor=3).shape == (1, 1, 4, 7, 9)
    with pytest.raises(ShapeError, match="2, 3, 4, 5, 6, 7, 8"):
        network(torch.rand(1, 1, 4, 8, 8), factor=9)
    with pytest.raises(ShapeError, match="at least 2"):
        network(torch.rand(1, 1, 1, 8, 8), factor=5)


@pytest.mark.parametrize("deviation", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 9, 11, 14), (2, 1, 4, 8, 8)])
def test_pieces_and_the_whole_give_the_same(
    deviation: bool, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = catalog.build("thinnet", features=8, blocks=2, deviation=deviation).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    x = torch.rand(shape)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4 * 8 * 2 * 6 * 7)  # two slices
    run = network.with_deviation if deviation else lambda x, factor: (network(x, factor=factor),)
    given = x.clone()
    with torch.inference_mode():
        in_pieces = run(given, factor=4)
    assert torch.equal(given, x)
    for piece, whole in zip(in_pieces, run(x, factor=4), strict=True):  # with gradients nothing is done in pieces
        assert whole.requires_grad
        torch.testing.assert_close(piece, whole.detach(), atol=2e-6, rtol=0)


def test_half_precision_stays_consistent(network: ThroughPlaneModel) -> None:
    x = torch.rand(1, 1, 7, 10, 12)
    profile = SliceProfile.mean(5)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        y = network(x, factor=5, profile=profile)
    assert y.dtype == torch.float32
    again = torch.tensor(profile.matrix(7), dtype=torch.float32) @ y[0, 0].flatten(1)
    wanted = x[0, 0, list(profile.supported(7))].flatten(1)
    torch.testing.assert_close(again, wanted, atol=2e-5, rtol=0)  # 0.06 HU; in eight bits it was up to 16
