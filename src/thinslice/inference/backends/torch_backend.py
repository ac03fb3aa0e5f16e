"""A network run by torch: precision, copies to and from a device, and fall-backs when memory is short.

The code for CUDA was tested on a CPU with substitutes; it has not been measured on a device.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from thinslice.errors import ResourceError
from thinslice.inference.backends.base import Choice
from thinslice.inference.backends.output import checked_output
from thinslice.inference.backends.transfer import Overlapped, Plain
from thinslice.options import option
from thinslice.planning.spans import pass_bytes
from thinslice.system.allocator import expect, keep_freed_memory, return_freed_memory
from thinslice.typing import Floats

if TYPE_CHECKING:
    from torch import nn

    from thinslice.profile import SliceProfile


MAX_BATCH = 8
"""Most windows per pass on an accelerator; more gave no measurable gain."""

SHARE_OF_FREE_MEMORY = 0.7
"""Target for one pass as a share of a CUDA device's free memory; kernels take workspace that no estimate counts."""

UNKNOWN_MEMORY_BYTES = 4 << 30
"""Target for one pass on an accelerator whose free memory is not known."""


def batch_size(device: str, window_bytes: float) -> int:
    """Windows per pass.

    Args:
        device: a torch device from `thinslice.inference.backends.choice.choose_device`.
        window_bytes: working memory of one window, its output included.

    >>> batch_size("cpu", 1e6)
    1
    """
    if device == "cpu":
        return 1  # one window occupies all cores; more would only need memory
    return max(1, min(MAX_BATCH, int(_free_bytes(device) * SHARE_OF_FREE_MEMORY / max(1.0, window_bytes))))


def _free_bytes(device: str) -> float:
    if not device.startswith("cuda"):
        return UNKNOWN_MEMORY_BYTES / SHARE_OF_FREE_MEMORY
    import torch

    try:
        free, _ = torch.cuda.mem_get_info(device)
    except (RuntimeError, AssertionError):
        return UNKNOWN_MEMORY_BYTES / SHARE_OF_FREE_MEMORY
    return float(free)


class TorchBackend:
    """A network on a device, in inference mode.

    Args:
        model: the network; it is moved to the device and set to eval mode.
        device: a torch device from `thinslice.inference.backends.choice.choose_device`.
        factor: thin slices per thick interval.
        profile: weights of thin slices in a thick one.
        batch: windows per pass at first.
        may_fall_back: whether the CPU may take over when the device's memory is short.
        name: the model's name, for messages.
        channels: output channels of the network: the estimate, and where there are two, its standard deviation.
        precision: "float32", or "bfloat16" or "float16" for products and convolutions (autocast). It must have agreed
            with float32 on the golden case (`thinslice.inference.backends.choice.settle`).
        compiled: whether torch.compile makes kernels for this network; the first window of each shape takes a minute.

    Attributes:
        choice: backend, device and precision in use now; a fall-back to the CPU replaces the value.
        batch: windows per pass that memory has allowed so far.
        seconds: time spent in the network.
        warnings: sentences about changes due to short memory.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str,
        *,
        factor: int,
        profile: SliceProfile,
        batch: int = 1,
        may_fall_back: bool = False,
        name: str = "the network",
        channels: int = 1,
        precision: str = "float32",
        compiled: bool = False,
    ) -> None:
        from thinslice.models.checkpoint import place

        keep_freed_memory()
        self.choice = Choice("torch-compile" if compiled else "torch", device, precision)
        self._model = place(model, device)  # type: ignore[arg-type]  # any module with the contract's forward
        self._factor = factor
        self._profile = profile
        self._may_fall_back = may_fall_back
        self._model_name = name
        self._channels = channels
        self.batch = batch
        self.seconds = 0.0
        self.warnings: list[str] = []
        self._start()

    def __call__(self, windows: Floats) -> Floats:
        """Upscale windows.

        Args:
            windows: (batch, 1, D, H, W), unit intensity.

        Returns:
            (batch, channels, (D - 1) * factor + 1, H, W), unit intensity, not clamped.

        Raises:
            ModelError: when the network gives values that are not finite, or a wrong shape.
            ResourceError: when memory is short and no fall-back is left; close other programs, or use the CPU.
        """
        start = time.perf_counter()
        try:
            if self.choice.device == "cpu":
                expect(self._pass_bytes(windows))
            thin = self._run(windows)
            if self.choice.device == "cpu":
                return_freed_memory()
        finally:
            self.seconds += time.perf_counter() - start
        return checked_output(thin, windows, self._factor, channels=self._channels, name=self._model_name)

    def _pass_bytes(self, windows: Floats) -> int:
        """Memory of a pass for networks that hold few large arrays; 0 for others, which gain nothing from large pages:
        TVSRN, which allocates and frees many blocks, lost 4 % (measured).
        """
        window = getattr(self._model, "window", None)
        if window is None or window.in_pieces_bytes is None:
            return 0
        window = window.run_by("torch", "cpu")
        batch, _, depth, height, width = windows.shape
        return pass_bytes(
            (depth, height, width),
            self._factor,
            window.working_bytes,
            thin_bytes=window.thin_bytes,
            batch=batch,
            channels=self._channels,
        )

    def _start(self) -> None:
        """Set up copies, memory layout and compilation for the choice; the network is on its device already."""
        device = self.choice.device
        on_cuda = device.startswith("cuda")
        self._transfer = Overlapped(device) if on_cuda else Plain(device)
        self._network: Any = self._model
        if on_cuda and self.choice.precision != "float32":
            # Tensor cores take convolutions with channels last; with another layout torch would convert each time.
            _channels_last(self._model)
        if self.choice.backend == "torch-compile":
            import torch

            # "reduce-overhead" replays CUDA graphs, which saves a small network the kernel launches.
            mode = "reduce-overhead" if on_cuda else "default"
            self._network = torch.compile(self._model, dynamic=False, mode=mode)

    def _run(self, windows: Floats) -> Floats:
        try:
            return self._forward(windows)
        except MemoryError as error:
            shortage: Exception = error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            shortage = error
        # Outside the handlers: the traceback held there would keep the failed pass's tensors alive.
        count = windows.shape[0]
        if count > 1:
            self._free()
            self.batch = max(1, count // 2)
            parts = [self._run(part) for part in np.split(windows, range(self.batch, count, self.batch))]
            return np.concatenate(parts)
        device = self.choice.device
        if self._may_fall_back and device != "cpu":
            self._free()
            self.warnings.append(f"Memory of {device} was short: the CPU took over.")
            self._model.to("cpu")
            # Agreement was tested on the device alone, so the CPU runs the reference.
            self.choice = replace(self.choice, backend="torch", device="cpu", precision="float32")
            self._start()
            return self._run(windows)
        on_cpu = device == "cpu"
        raise ResourceError(
            f"A window of {windows.shape[2:]} voxels does not fit into "
            + (
                "main memory; close other programs."
                if on_cpu
                else f"the memory of {device}; use {option('device', 'cpu')}."
            )
        ) from shortage

    def _forward(self, windows: Floats) -> Floats:
        import torch

        # TF32 would round to 10 bits of mantissa, 3 HU of the window; autotuning would choose kernels by chance.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact, self._autocast():
            return self._transfer.run(np.ascontiguousarray(windows), self._infer)

    def _infer(self, x: Any) -> Any:
        """One pass on tensors that lie on the device."""
        if self.choice.backend == "torch-compile" and self.choice.device.startswith("cuda"):
            import torch

            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            # The next replay of the graph overwrites its result.
            return self._network(x, factor=self._factor, profile=self._profile).float().clone()
        return self._network(x, factor=self._factor, profile=self._profile).float()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.choice.precision == "float32":
            return contextlib.nullcontext()
        import torch

        return torch.autocast(self.choice.device.partition(":")[0], dtype=getattr(torch, self.choice.precision))

    def _free(self) -> None:
        import gc

        import torch

        gc.collect()
        if self.choice.device.startswith("cuda"):
            torch.cuda.empty_cache()


_SHORTAGES = (
    "out of memory",
    "can't allocate memory",
    "could not allocate memory",
    "failed to allocate",
    "bad_alloc",
    "alloc_failed",  # cuBLAS and cuDNN
    "could not create a primitive",  # oneDNN's only message when memory is short
)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch, OpenVINO or a library below them means that memory was short."""
    torch = sys.modules.get("torch")  # an error of torch comes from a torch that is loaded
    return (torch is not None and isinstance(error, torch.OutOfMemoryError)) or mentions_shortage(error)


def mentions_shortage(error: Exception) -> bool:
    """Whether the message of an error is one of those by which libraries report that memory was short.

    >>> mentions_shortage(RuntimeError("std::bad_alloc"))
    True
    """
    text = str(error).lower()
    return any(phrase in text for phrase in _SHORTAGES)


def _channels_last(model: nn.Module) -> None:
    """Lay the filters of 3D and 2D convolutions out with channels last, in place."""
    import torch

    layouts = {torch.nn.Conv2d: torch.channels_last, torch.nn.Conv3d: torch.channels_last_3d}
    for module in model.modules():
        for kind, layout in layouts.items():
            if isinstance(module, kind):
                module.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs declare 4D only
