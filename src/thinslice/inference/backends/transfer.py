"""Copies of windows to a device and of results back, on CUDA in parallel with the computing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thinslice.typing import Floats

if TYPE_CHECKING:
    import torch


Infer = Callable[[Any], Any]
"""A pass of the network on tensors on the device."""


class Transfer(Protocol):
    """Copies windows to a network's device and results back."""

    def run(self, windows: Floats, infer: Infer) -> Floats:
        """The network's float32 results for (batch, ...) windows, in main memory."""
        ...


class Plain:
    """Copy, compute, copy in turn: for the CPU, where nothing is copied, and for devices without streams."""

    def __init__(self, device: str) -> None:
        self._device = device

    def run(self, windows: Floats, infer: Infer) -> Floats:
        """See `Transfer.run`."""
        import torch

        result: Floats = infer(torch.from_numpy(windows).to(self._device)).to("cpu", torch.float32).contiguous().numpy()
        return result


class Overlapped:
    """Copies on CUDA: a batch is split into halves, and while one is computed the next is copied to the device and the
    one before it back. Both copies use pinned memory, without which they would wait for the computing.

    Args:
        device: "cuda" or "cuda:N".
        cuda: replaces `torch.cuda` in tests.
    """

    def __init__(self, device: str, cuda: Any = None) -> None:
        import torch

        self._device = device
        self._cuda: Any = torch.cuda if cuda is None else cuda
        self._in, self._out = self._cuda.Stream(device=device), self._cuda.Stream(device=device)

    def run(self, windows: Floats, infer: Infer) -> Floats:
        """See `Transfer.run`."""
        halves = np.array_split(windows, min(2, len(windows)))
        computing = self._cuda.current_stream(self._device)
        arriving = self._upload(halves[0])
        results: list[Floats] = []
        kept: list[Any] = []
        for index in range(len(halves)):
            x, arrived = arriving
            computing.wait_event(arrived)
            x.record_stream(computing)
            thin = infer(x)  # returns when the work is queued, before it is done
            results.append(self._download(thin, computing))
            kept.append(thin)  # alive until it has been copied
            if index + 1 < len(halves):
                arriving = self._upload(halves[index + 1])
        self._out.synchronize()
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _upload(self, half: Floats) -> tuple[torch.Tensor, Any]:
        """Start a copy to the device: the tensor there, and the event of its arrival."""
        import torch

        pinned = self._pinned(half.shape)
        pinned.copy_(torch.from_numpy(half))
        with self._cuda.stream(self._in):
            x = pinned.to(self._device, non_blocking=True)
            arrived = self._cuda.Event()
            arrived.record(self._in)
        return x, arrived

    def _download(self, thin: torch.Tensor, computing: Any) -> Floats:
        """Start a copy from the device; the array is filled once the output stream is idle."""
        done = self._cuda.Event()
        done.record(computing)
        pinned = self._pinned(tuple(thin.shape))
        with self._cuda.stream(self._out):
            self._out.wait_event(done)
            pinned.copy_(thin, non_blocking=True)
        thin.record_stream(self._out)
        result: Floats = pinned.numpy()
        return result

    def _pinned(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Page-locked main memory, which torch keeps and reuses."""
        import torch

        return torch.empty(shape, dtype=torch.float32, pin_memory=True)
