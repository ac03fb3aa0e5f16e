"""OpenVINO: the same numbers as torch, and not a word to anybody."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from thinslice.errors import ModelError, ResourceError, UsageError
from thinslice.inference.backends import golden, openvino_backend
from thinslice.inference.backends.openvino_backend import MAX_COMPILED, OpenVINOBackend
from thinslice.inference.backends.torch_backend import TorchBackend
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.catalog import build
from thinslice.models.load import load_model
from thinslice.profile import SliceProfile

pytestmark = pytest.mark.skipif(not openvino_backend.is_installed(), reason="OpenVINO is not installed")

HU = 3072


def upscaled(network: ThroughPlaneModel, windows: np.ndarray, factor: int, profile: SliceProfile) -> np.ndarray:
    return OpenVINOBackend(network, factor=factor, profile=profile)(windows)


def difference_hu(network: ThroughPlaneModel, windows: np.ndarray, factor: int, profile: SliceProfile) -> float:
    expected = TorchBackend(network, "cpu", factor=factor, profile=profile)(windows)
    output = upscaled(network, windows, factor, profile)
    assert output.dtype == np.float32
    return float(np.abs(output - expected).max()) * HU


@pytest.mark.parametrize("factor", [2, 5, 8])
@pytest.mark.parametrize("width", [0.8, 1.3])
def test_the_default_agrees_at_every_factor_and_profile(factor: int, width: float) -> None:
    network = load_model("default")
    windows = golden.golden_windows(network)[:, :, :6, :70, :53]
    profile = SliceProfile.mean(factor, width=width)
    assert difference_hu(network, windows, factor, profile) < 0.05
    assert difference_hu(network, windows[:, :, :3, :31, :], factor, profile) < 0.05
    assert difference_hu(network, windows[:, :, :2, :1, :3], factor, profile) < 0.05


def test_tvsrn_agrees() -> None:
    torch.manual_seed(0)
    network = build("tvsrn", encoder_blocks=2, through_plane_blocks=2, decoder_groups=1)
    windows = golden.golden_windows(network)[..., :30, :22]
    assert difference_hu(network, windows, 5, SliceProfile.mean(5)) < 0.05


def test_factor_and_profile_are_those_asked_for() -> None:
    network = load_model("default")
    windows = golden.golden_windows(network)[:, :, :6, :40, :40]
    output = {
        (factor, width): OpenVINOBackend(network, factor=factor, profile=SliceProfile.mean(factor, width=width))(
            windows
        )
        for factor, width in ((5, 1.0), (5, 1.4), (4, 1.0))
    }
    assert output[4, 1.0].shape[2] == 21
    assert np.abs(output[5, 1.0] - output[5, 1.4]).max() * HU > 1.0


def test_windows_of_many_shapes_and_batches() -> None:
    torch.manual_seed(0)
    network = build("thinnet", features=4, blocks=1)
    profile = SliceProfile.mean(5)
    exact = TorchBackend(network, "cpu", factor=5, profile=profile)
    ours = OpenVINOBackend(network, factor=5, profile=profile)
    rng = np.random.default_rng(0)
    shapes = [(1, 4, 16, 16), (3, 4, 16, 16), (1, 5, 9, 12), (1, 2, 8, 8), (2, 5, 9, 12), (1, 3, 8, 30), (1, 4, 7, 7)]
    held = []
    for batch, *shape in [*shapes, *shapes]:
        windows = rng.random((batch, 1, *shape), np.float32)
        held.append((ours(windows), exact(windows)))
        assert len(ours._requests) <= MAX_COMPILED
    # All of them at the end: what a later window wrote must not show in an earlier result.
    for output, expected in held:
        np.testing.assert_allclose(output, expected, atol=1e-5)
    assert ours.seconds > 0


def test_one_graph_serves_every_plane_of_a_network_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("thinnet", features=4, blocks=1)
    ours = OpenVINOBackend(network, factor=5, profile=SliceProfile.mean(5))
    recorded: list[tuple[int, ...]] = []
    convert = OpenVINOBackend._convert
    monkeypatch.setattr(OpenVINOBackend, "_convert", lambda self, shape: recorded.append(shape) or convert(self, shape))
    for plane in ((16, 16), (40, 24), (7, 9)):
        ours(np.zeros((1, 1, 4, *plane), np.float32))
    assert len(recorded) == 1
    network.any_plane = False
    ours = OpenVINOBackend(network, factor=5, profile=SliceProfile.mean(5))
    ours(np.zeros((1, 1, 4, 16, 16), np.float32))
    assert recorded[1:] == [(4, 16, 16)]


def test_two_channels_come_through() -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor, *, factor: int, profile: SliceProfile) -> torch.Tensor:
            thin = x.repeat_interleave(factor, dim=2)[:, :, : (x.shape[2] - 1) * factor + 1]
            return torch.cat([thin, thin * 0.5], dim=1)

    windows = np.random.default_rng(0).random((1, 1, 3, 8, 8), np.float32)
    output = OpenVINOBackend(Two(), factor=5, profile=SliceProfile.mean(5), channels=2)(windows)
    assert output.shape == (1, 2, 11, 8, 8)
    np.testing.assert_allclose(output[:, 1], output[:, 0] / 2, rtol=1e-6)


def test_what_cannot_be_converted_is_reported() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor, **rest: object) -> torch.Tensor:
            raise KeyError("a fault of the network's own")

    ours = OpenVINOBackend(Odd(), factor=5, profile=SliceProfile.mean(5), name="odd")
    with pytest.raises(ModelError, match="cannot convert odd; use backend='torch'"):
        ours(np.zeros((1, 1, 3, 8, 8), np.float32))


def test_short_memory_is_not_taken_for_a_fault_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = OpenVINOBackend(load_model("fast"), factor=5, profile=SliceProfile.mean(5), may_fall_back=True)
    message = "Exception from src/inference/src/cpp/core.cpp:92: Failed to allocate 123 bytes of memory"
    monkeypatch.setattr(ours, "_compiled", _raising(RuntimeError(message)))
    with pytest.raises(ResourceError, match="does not fit into main memory"):
        ours(np.zeros((1, 1, 3, 8, 8), np.float32))
    monkeypatch.undo()
    assert ours(np.zeros((1, 1, 3, 8, 8), np.float32)).shape == (1, 1, 11, 8, 8) and not ours.warnings


BROKEN = """
import pytest
from thinslice.errors import UsageError
from thinslice.inference.backends import choice
from thinslice.models.load import load_model

assert choice.openvino_backend.is_installed()
with pytest.raises(UsageError, match=r"cannot be loaded \\(ImportError\\); install it again"):
    choice.choose_backend("openvino")
taken = choice.settle(load_model("fast"), "cpu", "auto")
assert taken.backend == "torch" and "cannot be loaded" in taken.warnings[0]
"""


def test_a_broken_installation_is_reported_and_auto_takes_torch(tmp_path: Path) -> None:
    package = tmp_path / "broken" / "openvino"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("libtbb.so.12: no such file")\n')
    path = os.pathsep.join([str(package.parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "THINSLICE_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", BROKEN], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_folder_of_that_name_is_not_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    space = importlib.machinery.ModuleSpec("openvino", None, is_package=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: space)
    assert not openvino_backend.is_installed()


def _raising(error: Exception) -> Callable[..., object]:
    def fail(*arguments: object, **more: object) -> object:
        raise error

    return fail


def test_torch_takes_over_for_a_shape_that_cannot_be_done() -> None:
    class Picky(torch.nn.Module):
        def forward(self, x: torch.Tensor, *, factor: int, profile: SliceProfile) -> torch.Tensor:
            if x.shape[2] == 2 and torch.jit.is_tracing():
                raise KeyError("not this depth")
            return x.repeat_interleave(factor, dim=2)[:, :, : (x.shape[2] - 1) * factor + 1]

    windows = np.random.default_rng(0).random((1, 1, 3, 8, 8), np.float32)
    ours = OpenVINOBackend(Picky(), factor=5, profile=SliceProfile.mean(5), may_fall_back=True, name="picky")
    assert ours(windows).shape == (1, 1, 11, 8, 8)
    assert not ours.warnings
    np.testing.assert_array_equal(ours(windows[:, :, :2])[:, :, ::5], windows[:, :, :2])
    np.testing.assert_array_equal(ours(windows[:, :, 1:])[:, :, ::5], windows[:, :, 1:])
    assert ours.warnings == ["OpenVINO could not do every window of picky: torch took over for some."]


def test_nonsense_is_refused() -> None:
    class Wild(torch.nn.Module):
        def forward(self, x: torch.Tensor, *, factor: int, profile: SliceProfile) -> torch.Tensor:
            return x.repeat_interleave(factor, dim=2)[:, :, : (x.shape[2] - 1) * factor + 1] / 0.0

    ours = OpenVINOBackend(Wild(), factor=5, profile=SliceProfile.mean(5))
    with pytest.raises(ModelError, match="not finite"):
        ours(np.ones((1, 1, 3, 8, 8), np.float32))


def test_other_devices_are_refused() -> None:
    with pytest.raises(UsageError, match="runs on the CPU"):
        OpenVINOBackend(build("thinnet", features=4, blocks=1), "cuda", factor=5, profile=SliceProfile.mean(5))


def test_arithmetic_is_float32_and_threads_are_torchs() -> None:
    ours = OpenVINOBackend(build("thinnet", features=4, blocks=1), factor=5, profile=SliceProfile.mean(5))
    ours(np.zeros((1, 1, 4, 16, 16), np.float32))
    compiled = next(iter(ours._requests.values()))[0]
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT")) in ("f32", "<Type: 'float32'>")
    assert int(compiled.get_property("INFERENCE_NUM_THREADS")) == torch.get_num_threads()


WATCHED = """
import sys
from pathlib import Path

calls = []
def watch(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname" or event in ("os.fork", "subprocess.Popen"):
        calls.append((event, arguments))
    if event == "open" and str(arguments[0]).startswith(str(Path.home())):
        calls.append((event, arguments))
sys.addaudithook(watch)
BEFORE
import numpy as np
from thinslice.inference.backends.openvino_backend import OpenVINOBackend, load_openvino
from thinslice.models.catalog import build
from thinslice.profile import SliceProfile

network = build("thinnet", features=4, blocks=1)
OpenVINOBackend(network, factor=5, profile=SliceProfile.mean(5))(np.zeros((1, 1, 3, 8, 8), np.float32))

import openvino.tools.ovc as tools
from openvino.tools.ovc import telemetry_stub
import openvino.tools.ovc.convert_impl, openvino.tools.ovc.telemetry_utils, openvino.tools.ovc.utils
named = [m for n, m in sys.modules.items() if n.startswith("openvino.") and hasattr(m, "tm")]
assert len(named) >= 3, named
assert all(m.tm is telemetry_stub for m in named), named
assert type(tools.telemetry) is telemetry_stub.Telemetry, tools.telemetry
import openvino_telemetry  # still there for others
assert openvino_telemetry.__name__ == "openvino_telemetry"
import time
time.sleep(0.5)
assert not calls, calls
print("quiet")
"""

IMPORTED_BEFORE = """
import openvino_telemetry
import openvino_telemetry.main
class Quiet(openvino_telemetry.main.TelemetrySender):  # what the user's own import sends is not ours to judge
    def send(self, backend, message):
        sent.append(message)
openvino_telemetry.main.TelemetrySender = Quiet
sent = []
import openvino
assert sent, "OpenVINO sends telemetry on import; has that changed?"
sent.clear()
calls.clear()
"""


@pytest.mark.parametrize("before", ["", IMPORTED_BEFORE], ids=["fresh", "OpenVINO imported before"])
def test_telemetry_is_off(tmp_path: Path, before: str) -> None:
    """No socket, no child that could open one, no file of the telemetry's; nothing in OpenVINO holds the sender."""
    # The test itself would be blind in an automated build: there the sender keeps still by itself.
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment.update(HOME=str(tmp_path), USERPROFILE=str(tmp_path))
    after = "\nassert not sent, sent\n" if before else ""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.replace("BEFORE", before) + after],
        env=environment, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "quiet"
    if not before:
        assert not list(tmp_path.rglob("*openvino*"))


REPEATED = """
import gc, sys
from pathlib import Path
import numpy as np
import thinslice
from thinslice.geometry import Geometry
from thinslice.volume import Volume
hu = np.random.default_rng(0).integers(-1000, 400, (6, 40, 40)).astype(np.int16)
volume = Volume(hu, Geometry((6, 40, 40), (5.0, 0.8, 0.8)))
def resident_mib():
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
for run in range(23):
    thinslice.upscale(volume, factor=2 + run % 7, backend="openvino", threads=1, model="fast")
    if run == 2:
        before = resident_mib()
print(resident_mib() - before)
"""


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read as Linux reports it")
def test_twenty_runs_leave_no_memory_behind() -> None:
    done = subprocess.run([sys.executable, "-c", REPEATED], capture_output=True, text=True, check=True)
    # Each recording that torch keeps takes 1 to 4 MiB; without, the allocator's holes vary by a few.
    assert float(done.stdout.splitlines()[-1]) < 12


def test_recordings_of_others_live_on(tmp_path: Path) -> None:
    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    own = torch.jit.trace(Doubled(), torch.ones(2))
    network = load_model("fast")
    upscaled(network, golden.golden_windows(network)[:, :, :3, :16, :16], 2, SliceProfile.mean(2))
    assert own(torch.ones(3)).tolist() == [2, 2, 2]
    own.save(str(tmp_path / "own.pt"))
    assert torch.jit.load(str(tmp_path / "own.pt"))(torch.ones(1)).tolist() == [2]
    assert torch.jit.trace(Doubled(), torch.ones(2))(torch.ones(1)).tolist() == [2]
