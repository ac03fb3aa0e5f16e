"""onnxruntime: the same numbers as torch, from graphs without weights that come with the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import thinslice
from thinslice.errors import ModelError, UsageError
from thinslice.geometry import Geometry
from thinslice.inference.backends import choice, golden, onnxruntime_backend
from thinslice.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from thinslice.inference.backends.torch_backend import TorchBackend
from thinslice.models import catalog
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.catalog import build
from thinslice.models.deviation import Ensemble, Learned
from thinslice.models.graphs.shipped import graph_path
from thinslice.models.load import load_model
from thinslice.models.thinnet import ThinNet
from thinslice.models.thinnet_config import ThinNetConfig
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

pytest.importorskip("onnxruntime")

HU = 3072
TOLERANCE_HU = 0.01
EMBEDDED = [name for name, entry in catalog.CATALOG.items() if entry.weights is not None]


def difference_hu(
    network: ThroughPlaneModel, windows: np.ndarray, factor: int, profile: SliceProfile, channels: int = 1
) -> float:
    expected = TorchBackend(network, "cpu", factor=factor, profile=profile, channels=channels)(windows)
    output = OnnxRuntimeBackend(network, factor=factor, profile=profile, channels=channels)(windows)
    assert output.dtype == np.float32 and output.shape == expected.shape
    return float(np.abs(output - expected).max()) * HU


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize(("factor", "width"), [(2, 0.8), (5, 1.0), (8, 1.3), (3, 2.0)])
def test_embedded_networks_agree(name: str, factor: int, width: float) -> None:
    network, profile = load_model(name), SliceProfile.mean(factor, width=width)
    windows = golden.golden_windows(network)
    assert difference_hu(network, windows[:, :, :6, :41, :38], factor, profile) <= TOLERANCE_HU
    assert difference_hu(network, windows[:, :, :2, :1, :3], factor, profile) <= TOLERANCE_HU


def test_two_windows_of_a_batch_do_not_meet() -> None:
    network = load_model("fast")
    windows = golden.golden_windows(network)
    pair = np.concatenate([windows[:, :, :3, :20, :20], windows[:, :, 3:6, 40:60, 40:60]])
    assert difference_hu(network, pair, 4, SliceProfile.mean(4)) <= TOLERANCE_HU


def test_standard_deviations_agree() -> None:
    network = Learned(load_model("default"), scale=0.9)
    windows = golden.golden_windows(network)[:, :, :4, :40, :40]
    assert difference_hu(network, windows, 5, SliceProfile.mean(5), channels=2) <= TOLERANCE_HU


def test_weights_are_those_of_the_network_and_not_of_the_embedded_one() -> None:
    torch.manual_seed(1)
    network = ThinNet(ThinNetConfig(features=32, blocks=4)).eval()
    assert graph_path(network.config, deviation=False).is_file()
    windows = golden.golden_windows(network)[:, :, :4, :30, :30]
    assert difference_hu(network, windows, 5, SliceProfile.mean(5)) <= TOLERANCE_HU


@pytest.mark.parametrize(
    "network", [build("linear"), ThinNet(ThinNetConfig(features=8, blocks=1))], ids=["linear", "8"]
)
def test_a_network_without_a_graph_is_refused(network: ThroughPlaneModel) -> None:
    with pytest.raises(ModelError, match=r"runs the embedded networks .* not mine as asked; use backend='torch'"):
        OnnxRuntimeBackend(network, factor=5, profile=SliceProfile.mean(5), name="mine")


def test_the_spread_over_mirrored_inputs_is_refused() -> None:
    with pytest.raises(ModelError, match="use backend='torch'"):
        OnnxRuntimeBackend(Ensemble(load_model("fast")), factor=5, profile=SliceProfile.mean(5), channels=2)


def test_without_onnxruntime_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_backend, "is_installed", lambda: False)
    assert "onnxruntime" not in choice.available_backends()
    with pytest.raises(UsageError, match=r"pip install .\.\[onnx\]"):
        onnxruntime_backend.load_onnxruntime.__wrapped__()


def test_it_runs_on_the_cpu_alone() -> None:
    with pytest.raises(UsageError, match="'onnxruntime' runs on the CPU, not on 'cuda'"):
        choice.settle(load_model("fast"), "cuda", "onnxruntime")


def test_a_whole_run_gives_the_voxels_of_torch() -> None:
    rng = np.random.default_rng(2)
    hu = np.rint(rng.normal(0, 200, (5, 24, 26)).clip(-1024, 1500)).astype(np.int16)
    volume = Volume(hu, Geometry(hu.shape, (5.0, 0.7, 0.7)))
    by_torch = thinslice.upscale(volume, model="fast", backend="torch", device="cpu")
    stream = thinslice.upscale_slabs(volume, model="fast", backend="onnxruntime")
    thin = np.concatenate([slab.hu for slab in stream])
    assert stream.prepared.choice.backend == "onnxruntime" and stream.prepared.choice.firm
    difference = np.abs(thin.astype(int) - by_torch.hu)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.001
