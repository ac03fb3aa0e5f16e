"""What can run a network here, and what shall.

    choose_device, choose_backend      what was asked for: known, and there?
    settle                             what it comes to for this network on this machine
    make                               that, ready to run

Every backend is called with windows and gives thin slices (`TorchBackend.__call__`). What is not torch's float32 on the
CPU has to agree with it on the golden case first (`thinslice.inference.backends.golden`).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from thinslice.errors import DeviceError, ModelError, UsageError
from thinslice.inference.backends import openvino_backend
from thinslice.inference.backends.golden import TOLERANCE_HU, Verdict, examine, voxels
from thinslice.inference.backends.openvino_backend import OpenVINOBackend
from thinslice.inference.backends.torch_backend import MAX_BATCH, TorchBackend, batch_size
from thinslice.system.allocator import keep_freed_memory, return_freed_memory
from thinslice.typing import Floats

if TYPE_CHECKING:
    from torch import nn

    from thinslice.models.base import ThroughPlaneModel
    from thinslice.profile import SliceProfile

__all__ = [
    "BACKENDS",
    "MAX_BATCH",
    "Backend",
    "Choice",
    "OpenVINOBackend",
    "TorchBackend",
    "available_backends",
    "batch_size",
    "choose_backend",
    "choose_device",
    "keep_freed_memory",
    "make",
    "return_freed_memory",
    "settle",
]


BACKENDS = ("auto", "torch", "torch-compile", "openvino")

WORTH_A_CHECK = 10
"""Work in golden cases from which `auto` looks at other backends; below, the check alone could take longer."""

HALF_PRECISIONS = ("float16", "bfloat16")
"""What is tried on CUDA before float32. float16 first: it is as fast, and has three more bits of mantissa."""


class Backend(Protocol):
    """A network ready to run.

    Attributes:
        name: of the backend.
        device: where the network is now.
        precision: of its products and convolutions.
        batch: windows per pass that memory has allowed so far.
        seconds: spent in the network.
        warnings: sentences about what was changed on the way.
    """

    name: str
    device: str
    precision: str
    batch: int
    seconds: float
    warnings: list[str]

    def __call__(self, windows: Floats) -> Floats:
        """Upscale windows; see `TorchBackend.__call__`."""
        ...


@dataclass(frozen=True)
class Choice:
    """What runs a network, and where.

    Attributes:
        backend: "torch", "torch-compile" or "openvino".
        device: from `choose_device`, or "cpu" where the device did not agree.
        precision: "float32", "float16" or "bfloat16".
        version: of what runs it, where that is not torch alone.
        warnings: sentences about what was asked for and not taken.
        firm: whether this backend was asked for by name, so that nothing may take its place.
    """

    backend: str
    device: str
    precision: str = "float32"
    version: str = ""
    warnings: tuple[str, ...] = ()
    firm: bool = False


def available_backends() -> tuple[str, ...]:
    """Names of the backends that can run here.

    >>> "torch" in available_backends()
    True
    """
    import torch

    names = ["torch"]
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is not None:
        names.append("torch-compile")
    if openvino_backend.is_installed():
        names.append("openvino")
    return tuple(names)


def choose_backend(name: str) -> str:
    """`name`, if it can run here; "auto" stays "auto", and `settle` says what it means for a network.

    Raises:
        UsageError: for an unknown name, and for a backend that is not installed or cannot run on this machine.
    """
    if name not in BACKENDS:
        raise UsageError(f"There is no backend named {name!r}; choose one of {', '.join(BACKENDS)}.")
    if name == "openvino":
        openvino_backend.load_openvino()
    elif name == "torch-compile" and name not in available_backends():
        raise UsageError("The backend 'torch-compile' needs a CUDA device and Triton; use --backend torch.")
    return name


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


def settle(
    model: ThroughPlaneModel,
    device: str,
    asked: str = "auto",
    *,
    work_voxels: float = float("inf"),
    may_fall_back: bool = False,
    name: str = "the network",
    channels: int = 1,
) -> Choice:
    """What runs a network, after the golden case where it has not been run before.

    "torch" is torch in float32, on the CPU what all else is compared with. "auto" is OpenVINO on a CPU, where it is
    installed, agrees, and saves a quarter of the time or more; else it is torch, on CUDA in half precision where that
    agrees.

    Args:
        model: the network.
        device: from `choose_device`.
        asked: from `choose_backend`.
        work_voxels: thick voxels that will go through the network.
        may_fall_back: whether the CPU may take over from a device that does not agree.
        name: of the model, for messages.
        channels: that the network gives.

    Raises:
        ModelError: when a backend or device that was asked for cannot run this network, or does not agree with torch's
            float32 on the CPU.
        UsageError: for OpenVINO on another device than the CPU.
    """
    if asked == "torch":
        return Choice("torch", device)
    if device != "cpu":
        if asked == "openvino":
            raise UsageError(f"The backend 'openvino' runs on the CPU, not on {device!r}; use --backend torch.")
        return _on_accelerator(model, device, asked, may_fall_back=may_fall_back, name=name, channels=channels)
    if asked == "torch-compile":
        raise UsageError("The backend 'torch-compile' is for CUDA; on the CPU use --backend torch or openvino.")
    if asked == "auto" and not _is_openvino_worth_a_look(model, work_voxels):
        return Choice("torch", "cpu")
    verdict = _examine_openvino(model, name, channels)
    if verdict.agrees:
        if asked == "openvino" or verdict.pays(work_voxels / voxels(model)):
            return Choice("openvino", "cpu", version=openvino_backend.version(), firm=asked == "openvino")
        return Choice("torch", "cpu")
    sentence = _disagreement(f"OpenVINO and torch on {name}", verdict)
    if asked == "openvino":
        raise ModelError(f"{sentence}; use --backend torch.")
    return Choice("torch", "cpu", warnings=(f"{sentence}: torch ran it.",))


def make(
    choice: Choice,
    model: nn.Module,
    *,
    factor: int,
    profile: SliceProfile,
    batch: int = 1,
    may_fall_back: bool = False,
    name: str = "the network",
    channels: int = 1,
) -> Backend:
    """A network ready to run; arguments as for `TorchBackend`. `may_fall_back` is about the device: torch may take over
    from OpenVINO where that was not asked for by name.

    Raises:
        UsageError: when OpenVINO is not installed.
        DeviceError: when the device is missing.
    """
    if choice.backend == "openvino":
        return OpenVINOBackend(
            model, factor=factor, profile=profile, may_fall_back=not choice.firm, name=name, channels=channels
        )
    return TorchBackend(
        model,
        choice.device,
        factor=factor,
        profile=profile,
        batch=batch,
        may_fall_back=may_fall_back,
        name=name,
        channels=channels,
        precision=choice.precision,
        compiled=choice.backend == "torch-compile",
    )


def _is_openvino_worth_a_look(model: ThroughPlaneModel, work_voxels: float) -> bool:
    return (
        any(True for _ in model.parameters())  # an interpolation is one product of matrices
        and openvino_backend.is_installed()
        and work_voxels >= WORTH_A_CHECK * voxels(model)
    )


def _examine_openvino(model: ThroughPlaneModel, name: str, channels: int) -> Verdict:
    def prepare(factor: int, profile: SliceProfile) -> Backend:
        return OpenVINOBackend(model, factor=factor, profile=profile, name=name, channels=channels)

    return examine(model, prepare, backend="openvino", version=openvino_backend.version(), channels=channels)


def _on_accelerator(
    model: ThroughPlaneModel, device: str, asked: str, *, may_fall_back: bool, name: str, channels: int
) -> Choice:
    backend = "torch" if asked == "auto" else asked

    def examined(precision: str) -> Verdict:
        def prepare(factor: int, profile: SliceProfile) -> Backend:
            choice = Choice(backend, device, precision)
            return make(choice, model, factor=factor, profile=profile, name=name, channels=channels)

        return examine(model, prepare, backend=f"{backend} {precision}", device=device, channels=channels)

    exact = examined("float32")
    if not exact.agrees:
        sentence = _disagreement(f"{name} on {device} and on the CPU", exact)
        if may_fall_back:
            return Choice("torch", "cpu", warnings=(f"{sentence}: the CPU ran it.",))
        raise ModelError(f"{sentence}; use --device cpu.")
    if device.startswith("cuda") and any(True for _ in model.parameters()):
        for precision in HALF_PRECISIONS:
            half = examined(precision)
            if half.agrees and half.seconds <= exact.seconds:
                return Choice(backend, device, precision)
    return Choice(backend, device)


def _disagreement(between: str, verdict: Verdict) -> str:
    if verdict.difference_hu is None:
        return f"{between} could not be compared on the golden case ({verdict.reason.rstrip('.')})"
    return f"{between} differ by {verdict.difference_hu:.2g} HU on the golden case, more than {TOLERANCE_HU}"
