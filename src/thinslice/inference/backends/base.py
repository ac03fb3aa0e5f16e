"""The choice of what runs a network, and the interface of a network ready to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from thinslice.typing import Floats


@dataclass(frozen=True)
class Choice:
    """Backend, device and precision of a network's run.

    Attributes:
        backend: "torch", "torch-compile", "openvino" or "onnxruntime".
        device: a torch device from `choose_device`, or "cpu" where that device did not agree.
        precision: "float32", "float16" or "bfloat16".
        version: version of the backend's library, where that is not torch alone.
        warnings: sentences about requests that could not be met.
        firm: whether the user named this backend, so that no other may take its place.
        seconds_per_voxel: time for a thick voxel on the golden case, where it was measured; for progress alone.
    """

    backend: str
    device: str
    precision: str = "float32"
    version: str = ""
    warnings: tuple[str, ...] = ()
    firm: bool = False
    seconds_per_voxel: float | None = field(default=None, compare=False)


class Backend(Protocol):
    """A network ready to run.

    Attributes:
        choice: backend, device and precision in use now; a fall-back replaces the value.
        batch: windows per pass that memory has allowed so far.
        seconds: time spent in the network.
        warnings: sentences about changes on the way.
    """

    choice: Choice
    batch: int
    seconds: float
    warnings: list[str]

    def __call__(self, windows: Floats) -> Floats:
        """Upscale windows; see `TorchBackend.__call__`."""
        ...
