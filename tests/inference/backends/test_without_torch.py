"""Networks as data: what onnxruntime and NumPy run without torch is what torch runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from thinslice.errors import CheckpointError, DeviceError, ModelError, UsageError
from thinslice.inference.backends import choice, golden, recorded
from thinslice.inference.backends.numpy_backend import NumpyBackend
from thinslice.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from thinslice.inference.backends.torch_backend import TorchBackend
from thinslice.inference.networks import load_network
from thinslice.models import catalog, checkpoint
from thinslice.models.along_z import InterpolateConfig, Method
from thinslice.models.deviation import Learned
from thinslice.models.interpolate import Interpolate
from thinslice.models.load import load_model
from thinslice.models.stored import StoredInterpolation, StoredNetwork, load_stored
from thinslice.models.thinnet import ThinNet
from thinslice.models.thinnet_config import ThinNetConfig, weight_shapes
from thinslice.profile import SliceProfile
from thinslice.typing import Floats

HU = 3072
EMBEDDED = [name for name, entry in catalog.CATALOG.items() if entry.weights is not None]
METHODS: tuple[Method, ...] = ("nearest", "linear", "linear-consistent", "cubic", "cubic-consistent")
OTHER = ThinNetConfig(features=8, blocks=2, basis=3, unshuffle=3, condition=5, deviation=True)


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which torch is not installed, as far as the choice of a backend asks."""
    monkeypatch.setattr(choice, "is_installed", lambda name: name != "torch")


# Interpolations


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("factor", "width"), [(2, 1.0), (5, 1.0), (7, 1.8)])
def test_numpy_interpolates_as_torch(method: Method, factor: int, width: float) -> None:
    config, profile = InterpolateConfig(method=method), SliceProfile.mean(factor, width=width)
    by_torch = TorchBackend(Interpolate(config), "cpu", factor=factor, profile=profile)
    by_numpy = NumpyBackend(StoredInterpolation(config), factor=factor, profile=profile)
    rng = np.random.default_rng(3)
    for shape in ((1, 1, 1, 4, 5), (2, 1, 2, 3, 3), (1, 1, 9, 12, 11)):
        windows = rng.random(shape, np.float32)
        thin = by_numpy(windows)
        assert thin.dtype == np.float32
        assert np.abs(thin - by_torch(windows)).max() * HU <= 0.001


def test_numpy_runs_interpolations_alone() -> None:
    with pytest.raises(ModelError, match="'numpy' runs interpolations, not mine"):
        NumpyBackend(load_stored("fast"), factor=5, profile=SliceProfile.mean(5), name="mine")
    with pytest.raises(ModelError, match="use backend='auto'"):
        choice.settle(load_stored("fast"), "cpu", "numpy")
    with pytest.raises(ModelError, match="is an interpolation; use backend='numpy' or auto"):
        choice.settle(load_stored("cubic"), "cpu", "onnxruntime")


# Weights files


@pytest.mark.parametrize("config", [ThinNetConfig(), OTHER])
def test_shapes_of_weights_are_those_of_torchs_layers(config: ThinNetConfig) -> None:
    network = ThinNet(config)
    assert weight_shapes(config) == {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_network_as_data_is_the_network_of_torch(name: str) -> None:
    stored, network = load_stored(name), load_model(name)
    assert isinstance(stored, StoredNetwork)
    for fact in ("window", "default_factor", "consistent", "has_deviation", "card", "sha256", "config"):
        assert getattr(stored, fact) == getattr(network, fact), fact
    assert list(stored.factors) == list(network.factors)
    for key, value in network.state_dict().items():
        np.testing.assert_array_equal(stored.weights[key], value.numpy())


@pytest.mark.parametrize("name", ["cubic", "cubic-consistent", "linear", "nearest"])
def test_an_interpolation_as_data_is_that_of_torch(name: str) -> None:
    stored, network = load_stored(name), load_model(name)
    assert isinstance(stored, StoredInterpolation) and not list(stored.parameters())
    for fact in ("window", "default_factor", "consistent", "has_deviation", "config", "factors"):
        assert getattr(stored, fact) == getattr(network, fact), fact


def saved(path: Path, network: ThinNet, architecture: str = "thinnet") -> Path:
    checkpoint.save(network, path, architecture=architecture, card={"name": "mine"})
    return path


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", ThinNet(OTHER))
    assert load_stored(path).card == {"name": "mine"}
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="do not match the digest"):
        load_stored(path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    network = ThinNet(OTHER)
    network.config = OTHER.model_copy(update={"features": 16})
    with pytest.raises(CheckpointError, match=r"does not fit ThinNet: .* of another shape"):
        load_stored(saved(tmp_path / "w.safetensors", network))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = ThinNet(OTHER)
    with torch.no_grad():
        network.stem.weight[0] = torch.nan
    with pytest.raises(CheckpointError, match=r"NaN or infinity in stem\.weight"):
        load_stored(saved(tmp_path / "w.safetensors", network))


def test_other_networks_need_torch(tmp_path: Path) -> None:
    network = catalog.build("resvox")
    path = tmp_path / "w.safetensors"
    checkpoint.save(network, path, architecture="resvox", card={"name": "mine"})
    with pytest.raises(ModelError, match="'resvox', runs with PyTorch alone: use backend='torch'"):
        load_stored(path)


# The record of torch's results


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_record_is_what_torch_gives_for_the_embedded_weights(name: str) -> None:
    """After a change of weights: python tools/write_graphs.py --record."""
    values, digests = recorded.recorded()
    network = load_model(name)
    assert digests[name] == network.sha256
    for channels in (1, 2) if network.has_deviation else (1,):
        model = network if channels == 1 else Learned(network)
        factor, profile = golden.golden_cases(network)[-1]
        thin = TorchBackend(model, "cpu", factor=factor, profile=profile, channels=channels)(
            golden.golden_windows(network)
        )
        kept = values[recorded.key_of(name, channels, factor)]
        assert np.abs(recorded.sample(thin) - kept).max() * HU < 0.01
        assert {recorded.key_of(name, channels, each) for each, _ in golden.golden_cases(network)} <= values.keys()


@pytest.mark.parametrize(("off_hu", "agrees"), [(0.3, True), (0.8, False), (np.nan, False)])
def test_a_backend_is_taken_only_if_it_gives_what_torch_was_recorded_to_give(off_hu: float, agrees: bool) -> None:
    values, _ = recorded.recorded()

    def prepare(network: StoredNetwork, factor: int, profile: SliceProfile) -> golden.RunWindows:
        def run(windows: Floats) -> Floats:
            depth, height, width = windows.shape[2:]
            thin = np.zeros((1, 1, (depth - 1) * factor + 1, height, width), np.float32)
            chosen = np.random.default_rng(0).integers(thin.size, size=recorded.VOXELS)
            thin.reshape(-1)[chosen] = values[recorded.key_of("fast", 1, factor)][0] + np.float32(off_hu / HU)
            return thin

        return run

    network = load_stored("fast")
    assert isinstance(network, StoredNetwork)
    verdict = recorded.examine_recorded(network, prepare, backend=f"off by {off_hu}", version="1", threads=1)
    assert verdict.agrees == agrees
    if agrees:
        assert verdict.difference_hu == pytest.approx(off_hu, abs=0.01)


# Choices


def test_names_and_devices_without_torch(without_torch: None) -> None:
    assert choice.choose_backend("auto") == "auto" and choice.choose_device("auto") == "cpu"
    assert "torch" not in choice.available_backends()
    for backend in ("torch", "openvino"):
        with pytest.raises(UsageError, match=r"needs PyTorch.*pip install .\.\[torch\]"):
            choice.choose_backend(backend)
    with pytest.raises(DeviceError, match=r"'cuda' needs PyTorch.*use device='cpu'"):
        choice.choose_device("cuda")


def test_auto_without_torch_is_numpy_for_an_interpolation(without_torch: None) -> None:
    network = load_network("cubic", backend="auto")
    assert choice.settle(network, "cpu").backend == "numpy"


def test_with_nothing_that_runs_a_network_the_next_step_is_named(
    without_torch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice.onnxruntime_backend, "is_installed", lambda: False)
    with pytest.raises(ModelError, match=r"neither can be imported: .*\[onnx\].*\[torch\]") as caught:
        choice.settle(load_network("fast", backend="auto"), "cpu", name="fast")
    assert caught.value.exit_code == 4 and "model='cubic-consistent'" in str(caught.value)


def test_the_spread_over_mirrored_inputs_needs_torch() -> None:
    from thinslice.inference.deviation import with_uncertainty

    with pytest.raises(ModelError, match="by PyTorch alone: use backend='torch', or uncertainty='learned'"):
        with_uncertainty(load_stored("default"), "ensemble", name="default")


# onnxruntime


@pytest.mark.parametrize(("name", "channels"), [("fast", 1), ("default", 2)])
def test_onnxruntime_agrees_with_the_record(name: str, channels: int) -> None:
    pytest.importorskip("onnxruntime")
    network, calibration = load_stored(name), None
    assert isinstance(network, StoredNetwork)
    if channels == 2:
        from thinslice.inference.deviation import with_uncertainty

        network, calibration = with_uncertainty(network, "learned", name=name)
        assert calibration.calibrated
    taken = choice.settle(network, "cpu", "onnxruntime", channels=channels)
    assert taken.backend == "onnxruntime" and taken.firm


def test_trained_weights_of_the_same_sizes_run(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(1)
    network = ThinNet(ThinNetConfig(features=32, blocks=4))
    stored = load_stored(saved(tmp_path / "w.safetensors", network))
    assert choice.settle(stored, "cpu", "onnxruntime").backend == "onnxruntime"
    windows, profile = golden.golden_windows(stored)[:, :, :4, :30, :30], SliceProfile.mean(5)
    thin = OnnxRuntimeBackend(stored, factor=5, profile=profile)(windows)
    assert np.abs(thin - TorchBackend(network, "cpu", factor=5, profile=profile)(windows)).max() * HU <= 0.01


def test_sizes_without_a_graph_are_refused_before_anything_runs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    stored = load_stored(saved(tmp_path / "w.safetensors", ThinNet(OTHER)))
    with pytest.raises(ModelError, match="runs the embedded networks and others of their sizes, not mine"):
        choice.settle(stored, "cpu", "onnxruntime", name="mine")
