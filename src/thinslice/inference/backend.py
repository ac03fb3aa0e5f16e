"""Runs a network with torch: which device, how many windows at a time, and what happens when memory is short."""

from __future__ import annotations

import ctypes
import platform
import time
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thinslice.errors import DeviceError, ModelError, ResourceError, UsageError

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.profile import SliceProfile

Floats = npt.NDArray[np.float32]

BACKENDS = ("auto", "torch", "openvino")

MAX_BATCH = 8
"""Windows per pass on an accelerator at most; more gain nothing measurable."""


def choose_backend(name: str) -> str:
    """The backend that `name` means.

    Raises:
        UsageError: for an unknown one, and for one this version does not have.
    """
    if name not in BACKENDS:
        raise UsageError(f"There is no backend named {name!r}; choose one of {', '.join(BACKENDS)}.")
    if name == "openvino":
        raise UsageError("The backend 'openvino' is not available in this version; use --backend torch.")
    return "torch"


def choose_device(name: str) -> str:
    """The torch device that `name` means: "auto" is CUDA where there is one, else the CPU; "mps" is taken only when
    asked for, as its kernels for volumes are incomplete.

    Raises:
        UsageError: when `name` is not auto, cpu, cuda, cuda:N or mps.
        DeviceError: when that device is not on this machine.
    """
    import torch

    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (":" in name and (kind != "cuda" or not index.isdecimal())):
        raise UsageError(f"There is no device named {name!r}; choose auto, cpu, cuda, cuda:N or mps.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return "cuda" if count else "cpu"
    if kind == "cuda" and int(index or 0) >= count:
        raise DeviceError(
            f"The device {name!r} is not available: torch finds {count} CUDA devices here; use --device cpu or auto."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("The device 'mps' is not available on this machine; use --device cpu or auto.")
    return name


class TorchBackend:
    """A network on a device, in inference mode.

    Args:
        model: the network; it is moved to the device and set to eval mode.
        device: from `choose_device`.
        factor: thin slices per thick interval.
        profile: how thick slices weigh thin ones.
        batch: windows per pass at first.
        may_fall_back: whether the CPU may take over when the device's memory is short.
        name: of the model, for messages.
        channels: what the network gives: the estimate, and where there are two, its standard deviation.

    Attributes:
        name: "torch".
        device: where the network is now.
        batch: windows per pass that memory has allowed so far.
        seconds: spent in the network.
        warnings: sentences about what was changed for want of memory.
    """

    name = "torch"

    def __init__(
        self,
        model: ThroughPlaneModel,
        device: str,
        *,
        factor: int,
        profile: SliceProfile,
        batch: int = 1,
        may_fall_back: bool = False,
        name: str = "the network",
        channels: int = 1,
    ) -> None:
        from thinslice.models.checkpoint import place

        keep_freed_memory()
        self._model = place(model, device)
        self._factor = factor
        self._profile = profile
        self._may_fall_back = may_fall_back
        self._model_name = name
        self._channels = channels
        self.device = device
        self.batch = batch
        self.seconds = 0.0
        self.warnings: list[str] = []

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
            thin = self._run(windows)
            if self.device == "cpu":
                return_freed_memory()
        finally:
            self.seconds += time.perf_counter() - start
        batch, _, depth, height, width = windows.shape
        expected = (batch, self._channels, (depth - 1) * self._factor + 1, height, width)
        if thin.shape != expected:
            raise ModelError(
                f"{self._model_name} gave {thin.shape} for windows {windows.shape} at factor {self._factor}, not "
                f"{expected}; it does not meet the contract of thinslice.models.base."
            )
        # NaN passes through both extremes, and they take no memory.
        if not (np.isfinite(thin.min()) and np.isfinite(thin.max())):
            raise ModelError(
                f"{self._model_name} gave values that are not finite numbers; its weights are damaged or its training "
                "diverged. Use other weights, or --model cubic-consistent, which needs none."
            )
        return thin

    def _run(self, windows: Floats) -> Floats:
        try:
            return self._forward(windows)
        except MemoryError as error:
            shortage: Exception = error
        except RuntimeError as error:
            if not _is_out_of_memory(error):
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
            self.device = "cpu"
            self._model.to("cpu")
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
        with torch.inference_mode(), exact:
            x = torch.from_numpy(np.ascontiguousarray(windows)).to(self.device)
            thin = self._model(x, factor=self._factor, profile=self._profile)
            result: Floats = thin.to("cpu", torch.float32).contiguous().numpy()
        return result

    def _free(self) -> None:
        import gc

        import torch

        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


def _is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next window instead of giving it back and asking anew, page by page,
    which costs a network of many short-lived tensors much of its time. Once per process; elsewhere nothing happens.

    Returns:
        Whether the allocator took it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    taken = bool(mallopt(m_trim_threshold, 2**31 - 1))
    # Older versions refuse more than 32 MiB.
    return taken and bool(mallopt(m_mmap_threshold, 1 << 30) or mallopt(m_mmap_threshold, 32 << 20))


def return_freed_memory() -> None:
    """Give the system back what `keep_freed_memory` kept: once a window, where it costs little, and not once a layer.
    Without it, windows of different sizes leave holes that add up.
    """
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)
