"""Choice of a backend: names are resolved, and only backends that agree are taken."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from thinslice.errors import ModelError, UsageError
from thinslice.geometry import Geometry
from thinslice.inference.backends import choice, golden, openvino_backend
from thinslice.inference.backends.choice import Choice, settle
from thinslice.inference.backends.golden import Verdict
from thinslice.inference.upscale import upscale_slabs
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.catalog import build
from thinslice.volume import Volume

FASTER = Verdict(True, 0.01, seconds=1.0, reference_seconds=2.0, preparation_s=4.0)
OFF = Verdict(False, 0.7)
UNABLE = Verdict(False, reason="OpenVINO cannot convert it")


@pytest.fixture
def network() -> ThroughPlaneModel:
    return build("thinnet", features=4, blocks=1)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Verdict]:
    """OpenVINO is installed; verdicts of `examine` by backend, to be filled in."""
    by_backend: dict[str, Verdict] = {}
    monkeypatch.setattr(openvino_backend, "is_installed", lambda: True)
    monkeypatch.setattr(openvino_backend, "version", lambda: "1.2")

    def examine(model: ThroughPlaneModel, prepare: Any, *, backend: str, **rest: Any) -> Verdict:
        return by_backend[backend]

    monkeypatch.setattr(choice, "examine", examine)
    return by_backend


def cases(network: ThroughPlaneModel, count: float) -> float:
    return count * golden.voxels(network)


# On the CPU


def test_auto_takes_openvino_where_it_pays(network: ThroughPlaneModel, verdicts: dict[str, Verdict]) -> None:
    verdicts["openvino"] = FASTER
    pays = settle(network, "cpu", work_voxels=cases(network, 10))
    assert pays == Choice("openvino", "cpu", version="1.2")
    # One second saved in each of ten golden cases does not pay nine of preparation.
    verdicts["openvino"] = replace(FASTER, preparation_s=9.0)
    assert settle(network, "cpu", work_voxels=cases(network, 10)) == Choice("torch", "cpu")
    verdicts["openvino"] = replace(FASTER, seconds=2.1)
    assert settle(network, "cpu", work_voxels=cases(network, 1e6)) == Choice("torch", "cpu")


def test_auto_does_not_check_for_little_work(network: ThroughPlaneModel, verdicts: dict[str, Verdict]) -> None:
    assert settle(network, "cpu", work_voxels=cases(network, 9.9)) == Choice("torch", "cpu")
    assert settle(build("linear"), "cpu") == Choice("torch", "cpu")


def test_auto_without_openvino_is_torch(network: ThroughPlaneModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_backend, "is_installed", lambda: False)
    assert settle(network, "cpu") == Choice("torch", "cpu")
    assert "openvino" not in choice.available_backends()
    with pytest.raises(UsageError, match=r"pip install .\.\[openvino\]"):
        openvino_backend.load_openvino.__wrapped__()


@pytest.mark.parametrize(
    ("verdict", "why"), [(OFF, "differ by 0.7 HU on the golden case, more than 0.5"), (UNABLE, "cannot convert")]
)
def test_what_does_not_agree_is_not_taken(
    network: ThroughPlaneModel, verdicts: dict[str, Verdict], verdict: Verdict, why: str
) -> None:
    verdicts["openvino"] = verdict
    choice = settle(network, "cpu", name="mine")
    assert choice.backend == "torch"
    assert why in choice.warnings[0] and "torch ran it" in choice.warnings[0]
    with pytest.raises(ModelError, match="use backend='torch'") as caught:
        settle(network, "cpu", "openvino", name="mine")
    assert why in str(caught.value)


def test_asked_for_it_is_taken_though_slower(network: ThroughPlaneModel, verdicts: dict[str, Verdict]) -> None:
    verdicts["openvino"] = replace(FASTER, seconds=9.0)
    assert settle(network, "cpu", "openvino", work_voxels=1) == Choice("openvino", "cpu", version="1.2", firm=True)
    assert settle(network, "cpu", "torch") == Choice("torch", "cpu")


def test_a_run_says_what_was_taken_and_why(verdicts: dict[str, Verdict]) -> None:
    verdicts["openvino"] = OFF
    hu = np.random.default_rng(0).normal(0, 50, (60, 256, 256)).astype(np.int16)
    volume = Volume(hu, Geometry(hu.shape, (5.0, 0.7, 0.7)))
    stream = upscale_slabs(volume, model=build("thinnet", features=4, blocks=1))
    assert stream.backend == "torch"
    assert any("differ by 0.7 HU" in sentence for sentence in stream.warnings)
    derivation = stream.provenance.derivation
    assert derivation is not None
    assert (derivation.settings["backend"], derivation.settings["precision"]) == ("torch", "float32")


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choice.choose_backend("auto") == "auto"
    assert choice.choose_backend("torch") == "torch"
    with pytest.raises(UsageError, match="choose one of"):
        choice.choose_backend("tensorrt")
    with pytest.raises(UsageError, match="needs a CUDA device and Triton"):
        choice.choose_backend("torch-compile")


# On an accelerator; a substitute, as verdicts are set by the tests


@pytest.mark.parametrize("asked", ["auto", "torch-compile"])
def test_cuda_takes_half_precision_where_it_agrees(
    network: ThroughPlaneModel, verdicts: dict[str, Verdict], asked: str
) -> None:
    name = "torch" if asked == "auto" else asked
    exact = Verdict(True, 0.02, seconds=2.0, reference_seconds=50.0)
    half = Verdict(True, 0.3, seconds=1.0, reference_seconds=50.0)
    verdicts.update({f"{name} float32": exact, f"{name} float16": half, f"{name} bfloat16": half})
    assert settle(network, "cuda", asked) == Choice(name, "cuda", "float16")
    verdicts[f"{name} float16"] = replace(OFF, difference_hu=float("nan"))
    assert settle(network, "cuda", asked) == Choice(name, "cuda", "bfloat16")
    verdicts[f"{name} bfloat16"] = replace(half, seconds=2.5)
    assert settle(network, "cuda", asked) == Choice(name, "cuda", "float32")
    verdicts[f"{name} bfloat16"] = OFF
    assert settle(network, "cuda", asked) == Choice(name, "cuda", "float32")


def test_torch_asked_for_stays_in_float32(network: ThroughPlaneModel, verdicts: dict[str, Verdict]) -> None:
    assert settle(network, "cuda", "torch") == Choice("torch", "cuda", "float32")


def test_mps_stays_in_float32(network: ThroughPlaneModel, verdicts: dict[str, Verdict]) -> None:
    verdicts["torch float32"] = Verdict(True, 0.02, seconds=2.0, reference_seconds=50.0)
    assert settle(network, "mps") == Choice("torch", "mps")


def test_a_device_that_does_not_agree_is_left(network: ThroughPlaneModel, verdicts: dict[str, Verdict]) -> None:
    verdicts["torch float32"] = OFF
    choice = settle(network, "cuda", may_fall_back=True, name="mine")
    assert (choice.backend, choice.device) == ("torch", "cpu")
    assert "mine on cuda and on the CPU differ by 0.7 HU" in choice.warnings[0]
    with pytest.raises(ModelError, match="use device='cpu'"):
        settle(network, "cuda", name="mine")


def test_backends_that_do_not_suit_the_device(network: ThroughPlaneModel, verdicts: dict[str, Verdict]) -> None:
    with pytest.raises(UsageError, match="runs on the CPU"):
        settle(network, "cuda", "openvino")
    with pytest.raises(UsageError, match="for CUDA"):
        settle(network, "cpu", "torch-compile")


def test_cuda_needs_triton_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = importlib.util.find_spec
    for there in (True, False):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, there=there: (there or None) if name == "triton" else found(name)
        )
        assert ("torch-compile" in choice.available_backends()) == there
