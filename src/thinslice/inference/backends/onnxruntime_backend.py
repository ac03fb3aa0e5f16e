"""A ThinNet run by onnxruntime on the CPU, in float32.

The graphs of the embedded networks come with the package (`thinslice.models.graphs.shipped`), so nothing is recorded or
converted when a run starts. One graph serves every factor, profile and shape of window.
"""

from __future__ import annotations

import importlib
import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from thinslice.errors import ModelError, ResourceError, UsageError
from thinslice.inference.backends.base import Choice
from thinslice.inference.backends.output import checked_output
from thinslice.inference.backends.torch_backend import mentions_shortage
from thinslice.inference.threads import threads_to_use
from thinslice.models.graphs.shipped import graph_path, graph_weights, stored_of
from thinslice.models.stored import Stored, StoredNetwork
from thinslice.models.thinnet_config import description
from thinslice.options import option
from thinslice.system import packages
from thinslice.typing import Floats

if TYPE_CHECKING:
    from torch import nn

    from thinslice.profile import SliceProfile


def is_installed() -> bool:
    """Whether onnxruntime is installed; it is not loaded."""
    return packages.is_installed("onnxruntime")


def version() -> str:
    """Version of the installed onnxruntime."""
    return packages.version_of("onnxruntime")


TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"
"""Variable of the environment that onnxruntime reads when its library is loaded: set, it collects and sends nothing."""


@cache
def load_onnxruntime() -> Any:
    """The module `onnxruntime` with its telemetry off, which then logs errors alone.

    By itself it keeps a device number and events in the user's cache folder, and sends them from longer runs.

    Raises:
        UsageError: when it is not installed, or cannot be loaded.
    """
    if not is_installed():
        raise UsageError(
            "The backend 'onnxruntime' needs onnxruntime, which is not installed: pip install \".[onnx]\" in a clone "
            f"of the repository, or use {option('backend', 'torch')}."
        )
    os.environ[TELEMETRY_OFF] = "1"
    try:
        loaded = importlib.import_module("onnxruntime")
    # A missing or incompatible library raises errors of many types.
    except Exception as error:
        raise UsageError(
            f"onnxruntime {version()} is installed, but cannot be loaded ({type(error).__name__}); install it again, "
            f"or use {option('backend', 'torch')}."
        ) from error
    # Where the process had loaded it before, the variable came too late.
    loaded.disable_telemetry_events()
    loaded.set_default_logger_severity(3)
    return loaded


class OnnxRuntimeBackend:
    """A network on the CPU through onnxruntime.

    Args:
        model: a ThinNet of the sizes of an embedded one, as data or as a network of torch, with or without its
            standard deviation (`thinslice.models.deviation.Learned`). Its weights are shared, not copied.
        factor: thin slices per thick interval.
        profile: weights of thin slices in a thick one.
        name: the model's name, for messages.
        channels: output channels of the network: the estimate, and where there are two, its standard deviation.
        threads: CPU threads; None for the cores this process may use.

    Attributes:
        choice: onnxruntime on the CPU in float32.
        batch: 1: windows go one by one, as one occupies all cores.
        seconds: time spent in the network, loading included.
        warnings: empty.

    Raises:
        UsageError: when onnxruntime is not installed.
        ModelError: for a network whose graph is not in the package; use torch.
    """

    def __init__(
        self,
        model: nn.Module | Stored,
        *,
        factor: int,
        profile: SliceProfile,
        name: str = "the network",
        channels: int = 1,
        threads: int | None = None,
    ) -> None:
        start = time.perf_counter()
        self._factor = factor
        self._model_name = name
        self._channels = channels
        self._inputs = description(factor, profile)._asdict()
        network = runnable(model, name, with_deviation=channels == 2)
        self._session = _session(network, name, threads_to_use(threads))
        self._scale = network.deviation_scale
        self.choice = Choice("onnxruntime", "cpu", version=version())
        self.batch = 1
        self.seconds = time.perf_counter() - start
        self.warnings: list[str] = []

    def __call__(self, windows: Floats) -> Floats:
        """Upscale windows.

        Args:
            windows: (batch, 1, D, H, W), unit intensity.

        Returns:
            (batch, channels, (D - 1) * factor + 1, H, W), unit intensity, not clamped.

        Raises:
            ModelError: when onnxruntime fails, or gives values that are not finite, or a wrong shape; use torch.
            ResourceError: when memory is short.
        """
        start = time.perf_counter()
        try:
            thin = np.concatenate([self._run(window) for window in windows])
        finally:
            self.seconds += time.perf_counter() - start
        return checked_output(thin, windows, self._factor, channels=self._channels, name=self._model_name)

    def _run(self, window: Floats) -> Floats:
        try:
            outputs = self._session.run(None, {"thick": np.ascontiguousarray(window[None]), **self._inputs})
        # The runtime raises errors of its own types, which have no common base.
        except Exception as error:
            if isinstance(error, MemoryError) or mentions_shortage(error):
                raise ResourceError(
                    f"A window of {window.shape[1:]} voxels does not fit into main memory; close other programs."
                ) from error
            raise ModelError(f"onnxruntime cannot run {self._model_name}; use {option('backend', 'torch')}.") from error
        if self._channels == 2:
            outputs[1] *= np.float32(self._scale or 1.0)
            return np.concatenate(outputs, axis=1)
        thin: Floats = outputs[0]
        return thin


def runnable(model: nn.Module | Stored, name: str, *, with_deviation: bool) -> StoredNetwork:
    """The network as data, if the package holds its graph; nothing is loaded.

    Args:
        model: any network.
        name: its name, for messages.
        with_deviation: whether its standard deviations are wanted.

    Raises:
        ModelError: when it does not; use torch.
    """
    network = model if isinstance(model, Stored) else stored_of(model)
    if (
        isinstance(network, StoredNetwork)
        and (network.deviation_scale is not None) == with_deviation
        and graph_path(network.config, deviation=with_deviation).is_file()
    ):
        return network
    raise ModelError(
        f"The backend 'onnxruntime' runs the embedded networks and others of their sizes, not {name} as asked; use "
        f"{option('backend', 'torch')}."
    )


def _session(network: StoredNetwork, name: str, threads: int) -> Any:
    """The graph of a network with its weights."""
    onnxruntime = load_onnxruntime()
    with_deviation = network.deviation_scale is not None
    weights = graph_weights(network, deviation=with_deviation)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # Threads that wait by spinning would take the cores from the writer, and from other runs.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_external_initializers(
        list(weights), [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
    )
    graph = graph_path(network.config, deviation=with_deviation).read_bytes()
    try:
        return onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"onnxruntime cannot load {name}; use {option('backend', 'torch')}.") from error
