"""torch on a device: precision, copies beside computing, batches by free memory. Devices are substitutes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from thinslice.inference.backends import torch_backend
from thinslice.inference.backends.base import Choice
from thinslice.inference.backends.torch_backend import MAX_BATCH, TorchBackend, batch_size
from thinslice.inference.backends.transfer import Overlapped
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.catalog import build
from thinslice.profile import SliceProfile
from thinslice.system import allocator


@pytest.fixture(scope="module")
def network() -> ThroughPlaneModel:
    torch.manual_seed(0)
    return build("thinnet", features=8, blocks=2).eval()


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    return np.random.default_rng(0).random((5, 1, 4, 12, 10), np.float32)


def run(network: ThroughPlaneModel, **rest: Any) -> TorchBackend:
    return TorchBackend(network, "cpu", factor=5, profile=SliceProfile.mean(5), **rest)


# Precision


def test_half_precision_rounds_products_and_gives_float32(network: ThroughPlaneModel, windows: np.ndarray) -> None:
    exact, half = run(network), run(network, precision="bfloat16")
    assert (exact.choice.precision, half.choice.precision) == ("float32", "bfloat16")
    output = half(windows)
    assert output.dtype == np.float32
    difference = np.abs(output - exact(windows)).max()
    assert 0 < difference < 0.1


def test_gradients_are_not_recorded(network: ThroughPlaneModel, windows: np.ndarray) -> None:
    seen: list[bool] = []
    handle = network.register_forward_hook(lambda *_: seen.append(torch.is_inference_mode_enabled()))
    try:
        run(network)(windows)
    finally:
        handle.remove()
    assert seen == [True]
    assert not network.training


def test_filters_lie_with_channels_last(windows: np.ndarray) -> None:
    network = build("thinnet", features=8, blocks=1).eval()
    before = run(network)(windows)
    torch_backend._channels_last(network)
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv3d)]
    assert convolutions
    assert all(module.weight.is_contiguous(memory_format=torch.channels_last_3d) for module in convolutions)
    np.testing.assert_allclose(run(network)(windows), before, atol=1e-5)


def test_a_compiled_network_gives_the_same(
    network: ThroughPlaneModel, windows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def compile_(model: Any, **rest: Any) -> Any:
        asked.append(rest)
        return model

    monkeypatch.setattr(torch, "compile", compile_)
    compiled = run(network, compiled=True)
    assert compiled.choice.backend == "torch-compile"
    assert asked == [{"dynamic": False, "mode": "default"}]
    np.testing.assert_array_equal(compiled(windows), run(network)(windows))


# Copies beside computing


class Stream:
    """Notes what is asked of it; everything is done at once, as it is on a CPU."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def wait_event(self, event: Event) -> None:
        assert event.recorded, "waits for what nobody promised"
        self.log.append(f"{self.name} waits for {event.by}")

    def synchronize(self) -> None:
        self.log.append(f"{self.name} done")


class Event:
    def __init__(self) -> None:
        self.recorded, self.by = False, ""

    def record(self, stream: Stream) -> None:
        self.recorded, self.by = True, stream.name


class Cuda:
    """torch.cuda as `Overlapped` uses it."""

    Event = Event

    def __init__(self) -> None:
        self.log: list[str] = []
        self._names = iter(("in", "out"))

    def Stream(self, device: str) -> Stream:  # noqa: N802 - torch's name
        return Stream(self.log, next(self._names))

    def current_stream(self, device: str) -> Stream:
        return Stream(self.log, "compute")

    def stream(self, stream: Stream) -> Any:
        import contextlib

        return contextlib.nullcontext()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    monkeypatch.setattr(Overlapped, "_pinned", lambda self, shape: torch.full(shape, torch.nan))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    return Cuda()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_halves_come_back_whole_and_in_order(cuda: Cuda, windows: np.ndarray, count: int) -> None:
    sizes: list[int] = []

    def infer(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x * 2 + 1

    output = Overlapped("cpu", cuda).run(windows[:count], infer)
    np.testing.assert_array_equal(output, windows[:count] * 2 + 1)
    assert sum(sizes) == count
    assert len(sizes) == min(2, count)


def test_the_second_half_leaves_while_the_first_is_computed(cuda: Cuda, windows: np.ndarray) -> None:
    transfer = Overlapped("cpu", cuda)
    upload = transfer._upload

    def noted(half: np.ndarray) -> Any:
        cuda.log.append("upload")
        return upload(half)

    transfer._upload = noted  # type: ignore[method-assign]

    def infer(x: torch.Tensor) -> torch.Tensor:
        cuda.log.append("infer")
        return x

    transfer.run(windows, infer)
    half = ["compute waits for in", "infer", "out waits for compute"]
    assert cuda.log == ["upload", *half, "upload", *half, "out done"]


# Memory


@pytest.mark.parametrize(
    ("free_gib", "window_gib", "expected"),
    [(10.0, 1.0, 7), (10.0, 0.1, MAX_BATCH), (10.0, 20.0, 1), (0.0, 1.0, 1)],
)
def test_windows_are_as_many_as_free_memory_holds(
    monkeypatch: pytest.MonkeyPatch, free_gib: float, window_gib: float, expected: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free_gib * 2**30), 80 << 30))
    assert batch_size("cuda:1", window_gib * 2**30 * 0.999) == expected


def test_a_device_that_does_not_tell_gets_a_fixed_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(device: str) -> None:
        raise RuntimeError("not there")

    monkeypatch.setattr(torch.cuda, "mem_get_info", unknown)
    assert batch_size("cuda", 2 << 30) == batch_size("mps", 2 << 30) == 2
    assert batch_size("cpu", 1.0) == 1


def test_what_was_agreed_for_a_device_does_not_hold_on_the_cpu(
    windows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled_for = []

    class Short(ThroughPlaneModel):
        factors, default_factor = (5,), 5
        on_cpu = False

        def to(self, *target: Any, **rest: Any) -> Any:
            self.on_cpu = target == ("cpu",)
            return self

        def forward(self, x: torch.Tensor, **rest: Any) -> torch.Tensor:
            if not self.on_cpu:
                raise torch.OutOfMemoryError("out of memory")
            assert not torch.is_autocast_enabled("cpu")
            return torch.zeros(len(x), 1, 4 * 5 - 4, *x.shape[3:])

    monkeypatch.setattr(torch, "compile", lambda model, **rest: compiled_for.append(model) or model)
    network = TorchBackend(
        Short(), "meta", factor=5, profile=SliceProfile.mean(5), precision="float32", may_fall_back=True, compiled=True
    )
    network.choice = replace(network.choice, precision="bfloat16")
    network._autocast = lambda: __import__("contextlib").nullcontext()  # type: ignore[method-assign]
    network(windows[:1])
    assert network.choice == Choice("torch", "cpu", "float32")
    assert len(compiled_for) == 1, "for the device alone"


def test_freed_memory_is_given_back_once_a_window(
    network: ThroughPlaneModel, windows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(torch_backend, "return_freed_memory", lambda: given_back.append(1))
    backend = run(network)
    backend(windows[:1])
    backend(windows[:1])
    assert len(given_back) == 2


def test_elsewhere_than_on_glibc_the_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    allocator.keep_freed_memory.cache_clear()
    try:
        assert not allocator.keep_freed_memory()
        allocator.return_freed_memory()
    finally:
        allocator.keep_freed_memory.cache_clear()
