"""Standard deviations through the whole line: the estimate stays, windows leave no seam, networks without a head are
refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thinslice.errors import ModelError, UsageError
from thinslice.geometry import Geometry
from thinslice.inference.deviation import DeviationSummary
from thinslice.inference.upscale import upscale, upscale_slabs, upscale_with_uncertainty
from thinslice.models import catalog, checkpoint, load
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.load import load_model, with_deviation
from thinslice.planning import ModelWindow, estimate_memory, plan_windows
from thinslice.profile import SliceProfile
from thinslice.volume import Provenance, Volume


def volume(hu: Any, **provenance: Any) -> Volume:
    return Volume(hu, Geometry(hu.shape, (5.0, 0.7, 0.7)), Provenance(**provenance))


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(2).integers(-900, 1500, shape).astype(np.int16)


@pytest.fixture
def network() -> ThroughPlaneModel:
    torch.manual_seed(0)
    model = catalog.build("thinnet", features=8, blocks=1, condition=8, deviation=True).eval()
    with torch.no_grad():
        for parameter in model.deviation.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def slabs_of(thick: Volume, model: Any, **rest: Any) -> tuple[np.ndarray, np.ndarray]:
    slabs = list(upscale_slabs(thick, model=model, device="cpu", backend="torch", **rest))
    return np.concatenate([s.hu for s in slabs]), np.concatenate([s.deviation_hu for s in slabs])


@pytest.mark.parametrize("source", ["learned", "ensemble"])
def test_the_estimate_is_the_same_with_and_without(network: ThroughPlaneModel, source: str) -> None:
    hu = noise((7, 40, 41))
    hu[:, :20] = -1000  # windows of air are interpolated either way
    network.window = ModelWindow(halo=network.window.halo, tile=(16, 16), working_bytes=60.0)
    thick = volume(hu)
    plain = upscale(thick, model=network, device="cpu", backend="torch")
    thin, deviation = upscale_with_uncertainty(thick, model=network, device="cpu", backend="torch", uncertainty=source)
    np.testing.assert_array_equal(thin.hu, plain.hu)
    assert deviation.geometry == thin.geometry and deviation.hu.dtype == np.float32
    assert deviation.hu.min() >= 1 / 16 and np.array_equal(deviation.hu * 16, np.rint(deviation.hu * 16))


@pytest.mark.parametrize("wanted", [True, "learned", "ensemble"])
def test_the_older_keyword_returns_the_same_two_volumes(network: ThroughPlaneModel, wanted: Any) -> None:
    thick, source = volume(noise((4, 16, 17))), "ensemble" if wanted == "ensemble" else "learned"
    expected = upscale_with_uncertainty(thick, model=network, device="cpu", backend="torch", uncertainty=source)
    with pytest.warns(DeprecationWarning, match="upscale_with_uncertainty"):
        pair: Any = upscale(thick, model=network, device="cpu", backend="torch", deviation=wanted)
    for volume_now, volume_before in zip(expected, pair, strict=True):
        np.testing.assert_array_equal(volume_now.hu, volume_before.hu)
        assert volume_now.geometry == volume_before.geometry and volume_now.provenance == volume_before.provenance


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_windows_leave_no_seam_and_the_calibration_scales(network: ThroughPlaneModel, scale: float) -> None:
    thick = volume(noise((9, 50, 48)))
    card = {"deviation": {"calibration": {"scale": scale, "multipliers": {"90": 1.5}}}}
    network.card = card  # type: ignore[assignment]
    unit = torch.from_numpy((thick.hu.astype(np.float32) + 1024) / 3072)[None, None]
    with torch.inference_mode():
        _, whole = network.with_deviation(unit, factor=5, profile=SliceProfile.mean(5))
    network.window = ModelWindow(halo=network.window.halo, tile=(16, 16), working_bytes=60.0)
    stream = upscale_slabs(thick, model=network, device="cpu", backend="torch", uncertainty=True)
    assert stream.windows_total > 1
    assert stream.calibration is not None and stream.calibration.multipliers == {90: 1.5}
    deviation = np.concatenate([s.deviation_hu for s in stream])
    np.testing.assert_allclose(deviation, scale * 3072 * whole[0, 0].numpy(), atol=0.04 + 1e-3)
    assert not any("calibrated" in warning for warning in stream.warnings)


@pytest.mark.parametrize("plan", ["released", "paper"])
def test_published_plans_give_them_too(network: ThroughPlaneModel, plan: str) -> None:
    thin, deviation = slabs_of(volume(noise((7, 20, 24))), network, plan=plan, uncertainty=True)
    assert deviation.shape == thin.shape and 1.0 < deviation.mean() < 500.0


def test_without_asking_there_are_none_and_the_head_is_not_run(
    network: ThroughPlaneModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the head was run")

    monkeypatch.setattr(network.deviation, "forward", fail)
    stream = upscale_slabs(volume(noise((4, 16, 16))), model=network, device="cpu", backend="torch")
    assert all(slab.deviation_hu is None for slab in stream)
    assert stream.deviation is None and stream.calibration is None


def test_padding_has_none(network: ThroughPlaneModel) -> None:
    hu = noise((5, 16, 18))
    hu[:, 0] = -2000
    thin, deviation = slabs_of(volume(hu, padding_hu=-2000.0), network, uncertainty=True)
    np.testing.assert_array_equal(deviation == 0.0, thin == -2000)


def test_metal_is_reported(network: ThroughPlaneModel) -> None:
    hu = noise((5, 16, 18))
    hu[:, 5:8, 5:8] = 3071
    stream = upscale_slabs(volume(hu), model=network, device="cpu", backend="torch", uncertainty=True)
    list(stream)
    assert any("Standard deviations do not include this" in warning for warning in stream.warnings)


def test_a_network_without_a_head_names_networks_with_one(
    network: ThroughPlaneModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thick = volume(noise((4, 16, 16)))
    monkeypatch.setattr(load, "with_deviation", lambda: ["default"])
    with pytest.raises(ModelError, match="cubic was not trained to estimate its uncertainty; use model='default'"):
        upscale_slabs(thick, model="cubic", uncertainty=True)
    monkeypatch.setattr(load, "with_deviation", list)
    with pytest.raises(ModelError, match="default-deviation.toml"):
        upscale_slabs(thick, model="cubic", uncertainty="learned")
    with pytest.raises(UsageError, match="learned or ensemble"):
        upscale_slabs(thick, model="cubic", uncertainty="guess")
    path = tmp_path / "sure.safetensors"
    checkpoint.save(network, path, architecture="thinnet", card={"name": "sure"})
    stream = upscale_slabs(thick, model=path, device="cpu", backend="torch", uncertainty=True)
    assert any("sure have not been calibrated" in warning for warning in stream.warnings)
    ensemble = upscale_slabs(thick, model="linear", uncertainty="ensemble")
    assert any("not calibrated" in warning for warning in ensemble.warnings)


def test_names_with_a_head_come_from_the_embedded_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = with_deviation()
    for name in found:
        assert load_model(name).has_deviation
    torch.manual_seed(0)
    for deviation in (False, True):
        path = tmp_path / f"{deviation}.safetensors"
        model = catalog.build("thinnet", features=4, blocks=1, condition=8, deviation=deviation)
        checkpoint.save(model, path, architecture="thinnet", card={})
        monkeypatch.setattr(catalog, "weights_path", lambda name, path=path: path)
        assert ("default" in with_deviation()) is deviation


def test_the_estimate_of_memory_counts_them() -> None:
    plan = plan_windows((40, 512, 512), 5, ModelWindow(halo=(3, 9, 9)), None)
    for collect in (False, True):
        plain, both = (estimate_memory(plan, 90.0, channels=n, collect=collect) for n in (1, 2))
        held = max(span.out_stop - span.out_start for span in plan.depths) * 512 * 512 * 4
        least = held + (plan.thin_shape[0] * 512 * 512 * 4 if collect else 0)
        assert least < both.total_bytes - plain.total_bytes < 8 * least


def test_the_summary_is_that_of_all_slabs_at_once() -> None:
    numbers = np.random.default_rng(0)
    deviation = np.rint(numbers.gamma(2.0, 10.0, (6, 20, 20)) * 16 + 1).astype(np.float32) / 16
    hu = numbers.integers(-1024, 500, deviation.shape).astype(np.int16)
    summary = DeviationSummary()
    assert summary.mean_hu is None and summary.percentile_hu(50) is None
    for start in range(0, 6, 2):
        summary.add(deviation[start : start + 2], hu[start : start + 2])
    inside = deviation[hu > -950]
    assert summary.mean_hu == pytest.approx(inside.mean(), rel=1e-5)
    for percent in (50, 95):
        assert summary.percentile_hu(percent) == np.quantile(inside, percent / 100, method="inverted_cdf")
