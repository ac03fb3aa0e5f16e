"""Runs a network with torch: precision, copies to and from a device, and what happens when memory is short.

What concerns CUDA here was tested on a CPU with stand-ins and has not been measured on a device.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from thinslice.errors import ResourceError
from thinslice.inference.backends.output import checked_output
from thinslice.inference.backends.transfer import Overlapped, Plain
from thinslice.planning.spans import pass_bytes
from thinslice.system.allocator import expect, keep_freed_memory, return_freed_memory
from thinslice.typing import Floats

if TYPE_CHECKING:
    from torch import nn

    from thinslice.profile import SliceProfile


MAX_BATCH = 8
"""Windows per pass on an accelerator at most; more gain nothing measurable."""

SHARE_OF_FREE_MEMORY = 0.7
"""Of a CUDA device's free memory that one pass aims at; kernels ask for workspace that no estimate knows."""

UNKNOWN_MEMORY_BYTES = 4 << 30
"""Working memory that one pass aims at on an accelerator that does not tell what is free."""


def batch_size(device: str, window_bytes: float) -> int:
    """Windows per pass.

    Args:
        device: from `thinslice.inference.backends.choice.choose_device`.
        window_bytes: working memory of one window, its output included.

    >>> batch_size("cpu", 1e6)
    1
    """
    if device == "cpu":
        return 1  # the cores are busy with one window; more only cost memory
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
        device: from `thinslice.inference.backends.choice.choose_device`.
        factor: thin slices per thick interval.
        profile: how thick slices weigh thin ones.
        batch: windows per pass at first.
        may_fall_back: whether the CPU may take over when the device's memory is short.
        name: of the model, for messages.
        channels: what the network gives: the estimate, and where there are two, its standard deviation.
        precision: "float32", or "bfloat16" or "float16" for products and convolutions (autocast). Only what agreed with
            float32 on the golden case should be asked for (`thinslice.inference.backends.choice.settle`).
        compiled: whether torch.compile makes kernels for this network; the first window of each shape takes a minute.

    Attributes:
        name: "torch", or "torch-compile".
        device: where the network is now.
        batch: windows per pass that memory has allowed so far.
        precision: in use now.
        seconds: spent in the network.
        warnings: sentences about what was changed for want of memory.
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
        self.name = "torch-compile" if compiled else "torch"
        self._model = place(model, device)  # type: ignore[arg-type]  # any module with the contract's forward
        self._factor = factor
        self._profile = profile
        self._may_fall_back = may_fall_back
        self._model_name = name
        self._channels = channels
        self._compiled = compiled
        self.precision = precision
        self.batch = batch
        self.seconds = 0.0
        self.warnings: list[str] = []
        self._settle_on(device)

    def __call__(self, windows: Floats) -> Floats:
        """Upscale windows.

        Args:
            windows: (batch, 1, D, H, W), unit intensity.

        Returns:
            (batch, channels, (D - 1) * factor + 1, H, W), unit intensity, not clamped.

        Raises:
            ModelError: when the network gives values that are not finite, or a wrong shape.
            ResourceError: when memory is short and nothing is left to try.
        """
        start = time.perf_counter()
        try:
            if self.device == "cpu":
                expect(self._pass_bytes(windows))
            thin = self._run(windows)
            if self.device == "cpu":
                return_freed_memory()
        finally:
            self.seconds += time.perf_counter() - start
        return checked_output(thin, windows, self._factor, channels=self._channels, name=self._model_name)

    def _pass_bytes(self, windows: Floats) -> int:
        """What a pass will take, of networks that hold few large arrays; 0 for others, which large pages gain nothing:
        TVSRN, which takes and frees many blocks, lost 4 % (measured).
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

    def _settle_on(self, device: str) -> None:
        """What depends on the device; the network is there already."""
        self.device = device
        on_cuda = device.startswith("cuda")
        self._transfer = Overlapped(device) if on_cuda else Plain(device)
        self._network: Any = self._model
        if on_cuda and self.precision != "float32":
            # Tensor cores take convolutions with channels last; elsewhere torch would turn them around each time.
            _channels_last(self._model)
        if self._compiled:
            import torch

            # "reduce-overhead" replays CUDA graphs, which spares a small network the launches.
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
        if self._may_fall_back and self.device != "cpu":
            self._free()
            self.warnings.append(f"Memory of {self.device} was short: the CPU took over.")
            self._model.to("cpu")
            # What was agreed on for the device says nothing about the CPU.
            self.precision = "float32"
            self.name, self._compiled = "torch", False
            self._settle_on("cpu")
            return self._run(windows)
        on_cpu = self.device == "cpu"
        raise ResourceError(
            f"A window of {windows.shape[2:]} voxels does not fit into "
            + ("main memory; close other programs." if on_cpu else f"the memory of {self.device}; use --device cpu.")
        ) from shortage

    def _forward(self, windows: Floats) -> Floats:
        import torch

        # TF32 would round to 10 bits of mantissa, 3 HU of the window; autotuning would choose kernels by chance.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact, self._autocast():
            return self._transfer.run(np.ascontiguousarray(windows), self._infer)

    def _infer(self, x: Any) -> Any:
        """One pass on tensors that lie on the device."""
        if self._compiled and self.device.startswith("cuda"):
            import torch

            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            # The next replay of the graph writes over its result.
            return self._network(x, factor=self._factor, profile=self._profile).float().clone()
        return self._network(x, factor=self._factor, profile=self._profile).float()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        import torch

        return torch.autocast(self.device.partition(":")[0], dtype=getattr(torch, self.precision))

    def _free(self) -> None:
        import gc

        import torch

        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


_SHORTAGES = (
    "out of memory",
    "can't allocate memory",
    "could not allocate memory",
    "failed to allocate",
    "bad_alloc",
    "alloc_failed",  # cuBLAS and cuDNN
    "could not create a primitive",  # all that oneDNN says when it gets no memory
)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch or OpenVINO says that memory was short; they, and what they call, have several ways to."""
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(said in text for said in _SHORTAGES)


def _channels_last(model: nn.Module) -> None:
    """Lay the filters of 3D and 2D convolutions out with channels last, in place."""
    import torch

    layouts = {torch.nn.Conv2d: torch.channels_last, torch.nn.Conv3d: torch.channels_last_3d}
    for module in model.modules():
        for kind, layout in layouts.items():
            if isinstance(module, kind):
                module.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs know 4D alone
