"""thinslice models export: the file gives the network's values, and holds what a program needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thinslice.about import NOTICE
from thinslice.commands.export import TOLERANCE_HU, ExportJob, compare, run_export
from thinslice.errors import ModelError
from thinslice.models import catalog, checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.graphs.onnx_export import Recording
from thinslice.models.load import load_model
from thinslice.models.thinnet import ThinNet
from thinslice.models.thinnet_config import ThinNetConfig, description
from thinslice.profile import SliceProfile

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

HU = 3072
SMALL = ThinNetConfig(features=4, blocks=1, basis=3, condition=4, deviation=True)
CALIBRATION = {"scale": 1.25, "multipliers": {"90": 1.5}}


def small_network(seed: int = 0) -> ThinNet:
    """A ThinNet whose weights are all different from zero."""
    torch.manual_seed(seed)
    network = ThinNet(SMALL).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    card = {"name": "mine", "deviation": {"calibration": CALIBRATION}, "limits": ["a phantom alone"]}
    checkpoint.save(small_network(), path, architecture="thinnet", card=card)
    return path


@pytest.fixture(scope="module")
def exported(weights: Path) -> Path:
    """The network's file with both outputs, for factor 3 where nothing else is given."""
    target = weights.with_name("mine.onnx")
    run_export(ExportJob(str(weights), target, factor=3, uncertainty=True))
    return target


def session_of(path: Path) -> Any:
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def thick_slices(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.1, 0.5, (1, 1, *shape)).astype(np.float32)


def by_torch(network: ThroughPlaneModel, thick: np.ndarray, profile: SliceProfile) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(thick), factor=profile.factor, profile=profile).numpy()


def difference_hu(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one - other).max()) * HU


def test_thick_slices_alone_mean_contiguous_ones_at_the_chosen_factor(weights: Path, exported: Path) -> None:
    session, network = session_of(exported), load_model(weights)
    for shape in ((2, 9, 7), (6, 16, 18)):
        thick = thick_slices(*shape)
        thin = session.run(["thin"], {"thick": thick})[0]
        assert difference_hu(thin, by_torch(network, thick, SliceProfile.mean(3))) <= TOLERANCE_HU


@pytest.mark.parametrize("factor", [2, 4, 5, 8])
def test_the_metadata_hold_the_inputs_of_every_factor(weights: Path, exported: Path, factor: int) -> None:
    session, thick = session_of(exported), thick_slices(5, 12, 11)
    values = json.loads(session.get_modelmeta().custom_metadata_map["thinslice"])
    types = {"condition": np.float32, "positions": np.float32, "profile": np.float64, "damping": np.float64}
    inputs = {name: np.asarray(value, types[name]) for name, value in values["inputs_by_factor"][str(factor)].items()}
    thin = session.run(["thin"], {"thick": thick, **inputs})[0]
    assert difference_hu(thin, by_torch(load_model(weights), thick, SliceProfile.mean(factor))) <= TOLERANCE_HU


@pytest.mark.parametrize("width", [0.6, 1.4, 2.0])
def test_any_slice_profile_can_be_described(weights: Path, exported: Path, width: float) -> None:
    profile, thick = SliceProfile.mean(4, width=width), thick_slices(9, 8, 10)
    inputs = {"thick": thick, **description(4, profile)._asdict()}
    thin = session_of(exported).run(["thin"], inputs)[0]
    assert difference_hu(thin, by_torch(load_model(weights), thick, profile)) <= TOLERANCE_HU


def test_the_second_output_is_the_calibrated_standard_deviation(weights: Path, exported: Path) -> None:
    thick, network = thick_slices(4, 10, 10), load_model(weights)
    deviation = session_of(exported).run(["deviation"], {"thick": thick})[0]
    with torch.inference_mode():
        raw = network.with_deviation(torch.from_numpy(thick), factor=3)[1].numpy()
    assert difference_hu(deviation, CALIBRATION["scale"] * raw) <= TOLERANCE_HU


def test_the_metadata_say_what_the_file_is(weights: Path, exported: Path) -> None:
    values = json.loads(session_of(exported).get_modelmeta().custom_metadata_map["thinslice"])
    network = load_model(weights)
    assert values["name"] == "mine" and values["architecture"] == "thinnet"
    assert values["weights_sha256"] == checkpoint.inspect(weights).sha256
    assert values["window_hu"] == [-1024.0, 2048.0] and values["halo"] == list(network.window.halo)
    assert values["factors"] == list(range(2, 9)) and values["default_factor"] == 3 and values["any_depth_and_plane"]
    assert values["deviation"] == CALIBRATION and values["limits"] == ["a phantom alone"]
    assert values["notice"] == NOTICE and 0 <= values["agreement_hu"] <= TOLERANCE_HU


def test_the_file_holds_no_path_and_no_line_of_its_source(exported: Path) -> None:
    content = exported.read_bytes()
    assert b".py" not in content and str(Path(__file__).parents[2]).encode() not in content
    onnx.checker.check_model(str(exported), full_check=True)


def test_another_network_is_fixed_to_one_window(tmp_path: Path) -> None:
    target = tmp_path / "cubic.onnx"
    values = run_export(ExportJob("cubic-consistent", target, factor=4, depth=6, plane=20))
    thick = thick_slices(6, 20, 20)
    thin = session_of(target).run(None, {"thick": thick})[0]
    assert difference_hu(thin, by_torch(load_model("cubic-consistent"), thick, SliceProfile.mean(4))) <= TOLERANCE_HU
    assert values["factors"] == [4] and values["window_shape"] == [6, 20, 20] and values["weights_sha256"] is None


def test_a_graph_that_differs_from_torch_is_refused(weights: Path, exported: Path) -> None:
    recording = Recording(3, None, scale=CALIBRATION["scale"])
    assert compare(exported.read_bytes(), load_model(weights), recording, "mine") <= TOLERANCE_HU
    with pytest.raises(ModelError, match=r"differs from torch by .* HU, more than 0\.01; it is not written"):
        compare(exported.read_bytes(), small_network(seed=1), recording, "another")


EMBEDDED = [name for name, entry in catalog.CATALOG.items() if entry.weights is not None]


@pytest.mark.heavy
@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_networks_agree_and_ask_for_every_input_if_wanted(name: str, tmp_path: Path) -> None:
    # The command itself compares every factor, three depths and three profiles.
    target = tmp_path / f"{name}.onnx"
    assert run_export(ExportJob(name, target, all_inputs=True))["agreement_hu"] <= TOLERANCE_HU
    session, thick = session_of(target), thick_slices(4, 33, 30)
    assert {each.name: each.shape for each in session.get_inputs()} == {
        "thick": [1, 1, "depth", "height", "width"],
        "condition": [4],
        "positions": ["factor", 6],
        "profile": ["taps"],
        "damping": [],
    }
    assert [each.shape for each in session.get_outputs()] == [[1, 1, "thin_depth", "height", "width"]]
    thin = session.run(None, {"thick": thick, **description(5)._asdict()})[0]
    assert difference_hu(thin, by_torch(load_model(name), thick, SliceProfile.mean(5))) <= TOLERANCE_HU
