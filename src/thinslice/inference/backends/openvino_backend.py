"""A network run by OpenVINO on the CPU, in float32.

A network is recorded by torch and converted in memory; nothing is written. Factor and profile are Python values that
networks turn into weights and matrices, so a graph belongs to one factor and one profile. Every shape of window has
a compiled network of its own: with dynamic shapes OpenVINO took more memory and no less time.

OpenVINO sends telemetry about every import and conversion by default. `load_openvino` switches that off.
"""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from thinslice.errors import ModelError, ResourceError, UsageError
from thinslice.inference.backends.base import Choice
from thinslice.inference.backends.output import checked_output
from thinslice.inference.backends.recordings import recordings_forgotten
from thinslice.inference.backends.torch_backend import TorchBackend, is_out_of_memory
from thinslice.options import option
from thinslice.system import packages
from thinslice.system.allocator import return_freed_memory
from thinslice.typing import Floats

if TYPE_CHECKING:
    from torch import nn

    from thinslice.profile import SliceProfile


TELEMETRY = "openvino_telemetry"
"""The package that sends telemetry; OpenVINO works without it."""

MAX_COMPILED = 4
"""Shapes of windows kept compiled: a plan has few, and they recur."""

RECORDED_SIDE = 32
"""Side in pixels of the plane on which a network is recorded, where the graph serves any plane."""

_STUB = "openvino.tools.ovc.telemetry_stub"
_SENDERS = (
    "openvino.tools.ovc.telemetry_utils",
    "openvino.tools.ovc.utils",
    "openvino.tools.ovc.convert_impl",
)
"""Modules of OpenVINO that import the telemetry package, the last of them only when a network is converted."""


def is_installed() -> bool:
    """Whether OpenVINO is installed; it is not loaded."""
    return packages.is_installed("openvino")


def version() -> str:
    """Version of the installed OpenVINO."""
    return packages.version_of("openvino")


@cache
def load_openvino() -> Any:
    """OpenVINO with its telemetry off: nothing is sent, now or later, and no file of the user is read or changed.

    While its modules are imported, the telemetry package cannot be found, so they take the stub that OpenVINO ships for
    that case. Where OpenVINO had been imported before, the stub replaces the package.

    Returns:
        The module `openvino`.

    Raises:
        UsageError: when it is not installed, or cannot be loaded.
    """
    if not is_installed():
        raise UsageError(
            "The backend 'openvino' needs OpenVINO, which is not installed: pip install \".[openvino]\" in a clone "
            f"of the repository, or use {option('backend', 'torch')}."
        )
    try:
        return _loaded()
    # A missing or incompatible library raises errors of many types.
    except Exception as error:
        raise UsageError(
            f"OpenVINO {version()} is installed, but cannot be loaded ({type(error).__name__}); install it again, or "
            f"use {option('backend', 'torch')}."
        ) from error


def _loaded() -> Any:
    absent: Any = None
    present = sys.modules.pop(TELEMETRY, absent)
    sys.modules[TELEMETRY] = absent  # an import now fails as if it were not installed
    try:
        openvino = importlib.import_module("openvino")
        for name in _SENDERS:
            importlib.import_module(name)
    finally:
        del sys.modules[TELEMETRY]
        if present is not None:
            sys.modules[TELEMETRY] = present
    stub = importlib.import_module(_STUB)
    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.") and getattr(getattr(module, "tm", None), "__name__", "") == TELEMETRY:
            module.tm = stub  # type: ignore[attr-defined]
    tools = sys.modules["openvino.tools.ovc"]
    if type(getattr(tools, "telemetry", None)).__module__.startswith(TELEMETRY):
        tools.telemetry = stub.Telemetry()  # type: ignore[attr-defined]
    return openvino


@cache
def _core() -> Any:
    return load_openvino().Core()


class OpenVINOBackend:
    """A network on the CPU through OpenVINO.

    Args:
        model: the network; it is moved to the CPU and set to eval mode. Its weights are shared, not copied.
        device: "cpu".
        factor: thin slices per thick interval.
        profile: weights of thin slices in a thick one.
        batch: not used: windows go one by one, as one occupies all cores.
        may_fall_back: whether torch may take over for windows of a shape that OpenVINO cannot do.
        name: the model's name, for messages.
        channels: output channels of the network: the estimate, and where there are two, its standard deviation.

    Attributes:
        choice: OpenVINO on the CPU in float32.
        batch: 1.
        seconds: time spent in the network, conversion included.
        warnings: sentences about shapes of windows that torch took over.

    Raises:
        UsageError: when OpenVINO is not installed, or for another device.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str = "cpu",
        *,
        factor: int,
        profile: SliceProfile,
        batch: int = 1,
        may_fall_back: bool = False,
        name: str = "the network",
        channels: int = 1,
    ) -> None:
        from thinslice.models.checkpoint import place

        load_openvino()
        if device != "cpu":
            raise UsageError(
                f"The backend 'openvino' runs on the CPU, not on {device!r}; use {option('backend', 'torch')}."
            )
        self._model = place(model, "cpu")  # type: ignore[arg-type]  # any module with the contract's forward
        self._factor = factor
        self._profile = profile
        self._model_name = name
        self._channels = channels
        self._may_fall_back = may_fall_back
        self._fallback: TorchBackend | None = None
        self._graphs: dict[int, Any] = {}
        self._requests: OrderedDict[tuple[int, ...], tuple[Any, Any]] = OrderedDict()
        self.choice = Choice("openvino", "cpu", version=version())
        self.batch = 1
        self.seconds = 0.0
        self.warnings: list[str] = []

    def __call__(self, windows: Floats) -> Floats:
        """Upscale windows.

        Args:
            windows: (batch, 1, D, H, W), unit intensity.

        Returns:
            (batch, channels, (D - 1) * factor + 1, H, W), unit intensity, not clamped.

        Raises:
            ModelError: when the network cannot be converted, or gives values that are not finite, or a wrong shape;
                use --backend torch.
            ResourceError: when memory is short.
        """
        start = time.perf_counter()
        try:
            thin = self._run(windows)
        except MemoryError as error:
            raise self._shortage(tuple(windows.shape[2:])) from error
        finally:
            self.seconds += time.perf_counter() - start
        return checked_output(thin, windows, self._factor, channels=self._channels, name=self._model_name)

    def _run(self, windows: Floats) -> Floats:
        try:
            request = self._request(tuple(windows.shape[2:]))
            return np.concatenate([self._infer(request, window[None]) for window in windows])
        except ModelError:
            if not self._may_fall_back:
                raise
        if self._fallback is None:
            self.warnings.append(f"OpenVINO could not do every window of {self._model_name}: torch took over for some.")
            self._fallback = TorchBackend(
                self._model,
                "cpu",
                factor=self._factor,
                profile=self._profile,
                name=self._model_name,
                channels=self._channels,
            )
        return self._fallback(windows)

    def _infer(self, request: Any, window: Floats) -> Floats:
        try:
            output = request.infer({0: np.ascontiguousarray(window)}, share_inputs=True, share_outputs=True)[0]
        except RuntimeError as error:
            raise self._failure(error, "run", tuple(window.shape[1:])) from error
        result: Floats = np.array(output, dtype=np.float32)  # a copy, as the next window overwrites the shared array
        return result

    def _request(self, shape: tuple[int, ...]) -> Any:
        """The compiled network for windows of (depth, height, width)."""
        last = next(reversed(self._requests), None)
        if shape not in self._requests:
            try:
                compiled = self._compiled(shape)
                self._requests[shape] = compiled, compiled.create_infer_request()
            except MemoryError:
                raise
            # Recording runs the network's own code, and the converter raises errors of many types.
            except Exception as error:
                raise self._failure(error, "convert", shape) from error
            if len(self._requests) > MAX_COMPILED:
                self._requests.popitem(last=False)
            return_freed_memory()  # that of the conversion
        if last is not None and last != shape:
            # Buffers of another shape of window need no memory until it recurs.
            self._release(last)
        self._requests.move_to_end(shape)
        return self._requests[shape][1]

    def _release(self, shape: tuple[int, ...]) -> None:
        if shape in self._requests:
            self._requests[shape][0].release_memory()

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        import torch

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # its default is bfloat16 where the processor has it
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
            # With pinning, the threads of two runs on one machine would share the first cores.
            "ENABLE_CPU_PINNING": "NO",
        }
        graph = self._graph(shape)
        graph.reshape([1, 1, *shape])
        try:
            # Fused element-wise code computes erf and exp by short polynomials: 1 HU in TVSRN.
            return _core().compile_model(graph, "CPU", {**settings, "SNIPPETS_MODE": "DISABLE"})
        except RuntimeError as error:
            if "SNIPPETS_MODE" not in str(error):
                raise
            return _core().compile_model(graph, "CPU", settings)

    def _graph(self, shape: tuple[int, ...]) -> Any:
        """The network as a graph of OpenVINO, to be reshaped to `shape`."""
        depth, *plane = shape
        if not getattr(self._model, "any_plane", False):
            return self._convert((depth, *plane))
        if depth not in self._graphs:
            self._graphs[depth] = self._convert((depth, RECORDED_SIDE, RECORDED_SIDE))
        return self._graphs[depth].clone()

    def _convert(self, shape: tuple[int, ...]) -> Any:
        import torch

        x = torch.zeros((1, 1, *shape))
        with torch.no_grad(), warnings.catch_warnings(), recordings_forgotten():
            # Torch warns that sizes and conditions become constants, which is intended here.
            warnings.simplefilter("ignore")
            recorded = torch.jit.trace(  # type: ignore[no-untyped-call]
                _bound(self._model, self._factor, self._profile), x, check_trace=False
            )
            return load_openvino().convert_model(recorded, example_input=x)

    def _failure(self, error: Exception, what: str, shape: tuple[int, ...]) -> ModelError | ResourceError:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            return self._shortage(shape)
        return ModelError(f"OpenVINO cannot {what} {self._model_name}; use {option('backend', 'torch')}.")

    def _shortage(self, shape: tuple[int, ...]) -> ResourceError:
        return ResourceError(f"A window of {shape} voxels does not fit into main memory; close other programs.")


def _bound(model: nn.Module, factor: int, profile: SliceProfile) -> nn.Module:
    """A module of one argument, the windows."""
    from torch import nn

    class Bound(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            return self.model(x, factor=factor, profile=profile)

    return Bound().eval()
