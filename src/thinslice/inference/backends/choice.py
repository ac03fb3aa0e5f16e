"""Choice of the backend, device and precision that run a network.

    check_backend_name, check_device_name    names are valid
    choose_device, choose_backend            they are available on this machine
    settle                                   the choice for one network on this machine
    make                                     the network, ready to run by that choice

torch is loaded where it is installed and a run may need it; onnxruntime and NumPy run networks as data
(`thinslice.models.stored`) without it. Every backend maps windows to thin slices (`TorchBackend.__call__`). Any choice
but torch in float32 on the CPU has to agree with that on the golden case first, `thinslice.inference.backends.golden`,
as recorded where torch is not loaded, `thinslice.inference.backends.recorded`.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from thinslice.errors import DeviceError, ModelError, UsageError
from thinslice.inference.backends import onnxruntime_backend, openvino_backend
from thinslice.inference.backends.base import Backend, Choice
from thinslice.inference.backends.golden import TOLERANCE_HU, Verdict, examine, voxels
from thinslice.inference.backends.numpy_backend import NumpyBackend
from thinslice.inference.backends.onnxruntime_backend import OnnxRuntimeBackend, runnable
from thinslice.inference.backends.openvino_backend import OpenVINOBackend
from thinslice.inference.backends.recorded import examine_recorded
from thinslice.inference.backends.torch_backend import MAX_BATCH, TorchBackend, batch_size
from thinslice.inference.threads import threads_to_use
from thinslice.models.stored import Stored, StoredInterpolation, StoredNetwork
from thinslice.options import option
from thinslice.system.allocator import keep_freed_memory, return_freed_memory
from thinslice.system.packages import TORCH_LINE, is_installed

if TYPE_CHECKING:
    from torch import nn

    from thinslice.models.base import ThroughPlaneModel
    from thinslice.profile import SliceProfile

__all__ = [
    "BACKENDS",
    "MAX_BATCH",
    "Backend",
    "Choice",
    "OnnxRuntimeBackend",
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


BACKENDS = ("auto", "torch", "torch-compile", "openvino", "onnxruntime", "numpy")

WITHOUT_TORCH = ("onnxruntime", "numpy")
"""Backends that load no torch."""

WORTH_A_CHECK = 10
"""Work in golden cases from which `auto` examines other backends; below, the check alone could take longer."""

HALF_PRECISIONS = ("float16", "bfloat16")
"""Precisions tried on CUDA before float32. float16 first: it is as fast, and has three more bits of mantissa."""


def available_backends() -> tuple[str, ...]:
    """Names of the backends that can run here.

    >>> "numpy" in available_backends()
    True
    """
    names = ["numpy"]
    if onnxruntime_backend.is_installed():
        names.append("onnxruntime")
    if not is_installed("torch"):
        return tuple(names)
    import torch

    names.append("torch")
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is not None:
        names.append("torch-compile")
    if openvino_backend.is_installed():
        names.append("openvino")
    return tuple(names)


def loads_torch(name: str) -> bool:
    """Whether a run by a backend loads torch: not by `WITHOUT_TORCH`, and not where torch is not installed.

    >>> loads_torch("onnxruntime")
    False
    """
    return name not in WITHOUT_TORCH and is_installed("torch")


def check_backend_name(name: str) -> None:
    """Refuse a name that is not one of `BACKENDS`, whether or not it can run here.

    Raises:
        UsageError: the message lists the names.
    """
    if name not in BACKENDS:
        raise UsageError(f"There is no backend named {name!r}; choose one of {', '.join(BACKENDS)}.")


def check_device_name(name: str) -> None:
    """Refuse a name that is not auto, cpu, cuda, cuda:N or mps, whether or not the device is on this machine.

    Raises:
        UsageError: the message lists the names.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (":" in name and (kind != "cuda" or not index.isdecimal())):
        raise UsageError(f"There is no device named {name!r}; choose auto, cpu, cuda, cuda:N or mps.")


def choose_backend(name: str) -> str:
    """The name of a backend that can run here; "auto" stays "auto", and `settle` resolves it for a network.

    Raises:
        UsageError: for an unknown name, and for a backend that is not installed or cannot run on this machine.
    """
    check_backend_name(name)
    if name not in ("auto", *WITHOUT_TORCH) and not is_installed("torch"):
        raise UsageError(
            f"The backend {name!r} needs PyTorch, which is not installed: {TORCH_LINE}; or use "
            f"{option('backend', 'auto')}, which takes onnxruntime."
        )
    if name == "openvino":
        openvino_backend.load_openvino()
    elif name == "onnxruntime":
        onnxruntime_backend.load_onnxruntime()
    elif name == "torch-compile" and name not in available_backends():
        raise UsageError(
            f"The backend 'torch-compile' needs a CUDA device and Triton; use {option('backend', 'torch')}."
        )
    return name


def choose_device(name: str, backend: str = "auto") -> str:
    """The torch device for a name: for "auto" CUDA where there is one, else the CPU, and "mps" only by that name, as
    its kernels for volumes are incomplete.

    Args:
        name: auto, cpu, cuda, cuda:N or mps.
        backend: what will run the network; "auto" is the CPU for those that load no torch.

    Raises:
        UsageError: when `name` is none of these.
        DeviceError: when that device is not on this machine, or torch is not installed, which runs it.

    >>> choose_device("auto", "onnxruntime")
    'cpu'
    """
    check_device_name(name)
    if name == "cpu" or (name == "auto" and not loads_torch(backend)):
        return "cpu"
    if not is_installed("torch"):
        raise DeviceError(
            f"The device {name!r} needs PyTorch, which is not installed: {TORCH_LINE}; or use "
            f"{option('device', 'cpu')}."
        )
    import torch

    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        return "cuda" if count else "cpu"
    if kind == "cuda" and int(index or 0) >= count:
        raise DeviceError(
            f"The device {name!r} is not available: torch finds {count} CUDA devices here; "
            f"use {option('device', 'cpu')} or auto."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"The device 'mps' is not available on this machine; use {option('device', 'cpu')} or auto.")
    return name


def settle(
    model: ThroughPlaneModel | Stored,
    device: str,
    asked: str = "auto",
    *,
    work_voxels: float = float("inf"),
    may_fall_back: bool = False,
    name: str = "the network",
    channels: int = 1,
    threads: int | None = None,
) -> Choice:
    """The choice for one network on this machine; the golden case runs first where it has not been run before.

    "torch" is torch in float32, on the CPU the reference for everything else. "auto" is OpenVINO on a CPU, where it is
    installed, agrees, and saves a quarter of the time or more; else it is torch, on CUDA in half precision where that
    agrees. It is onnxruntime only where torch is not installed, because that took longer than torch wherever it was
    measured (docs/reference/backends.md).

    Args:
        model: the network, as data where torch is not loaded.
        device: a torch device from `choose_device`.
        asked: a name from `choose_backend`.
        work_voxels: thick voxels that will go through the network.
        may_fall_back: whether the CPU may take over from a device that does not agree.
        name: the model's name, for messages.
        channels: output channels of the network.
        threads: CPU threads, as the settings state them.

    Raises:
        ModelError: when a backend or device named by the user cannot run this network, or does not agree with torch's
            float32 on the CPU; the message names one that works. Also where nothing that could run it is installed.
        UsageError: for OpenVINO, onnxruntime or NumPy on another device than the CPU.
    """
    if asked == "torch":
        return Choice("torch", device)
    if device != "cpu":
        if asked in ("openvino", *WITHOUT_TORCH):
            raise UsageError(
                f"The backend {asked!r} runs on the CPU, not on {device!r}; use {option('backend', 'torch')}."
            )
        assert not isinstance(model, Stored)
        return _on_accelerator(model, device, asked, may_fall_back=may_fall_back, name=name, channels=channels)
    if asked == "numpy" or isinstance(model, StoredInterpolation):
        return _by_numpy(model, asked, name)
    if isinstance(model, StoredNetwork):
        return _by_onnxruntime_alone(model, name, channels, threads)
    if asked == "torch-compile":
        raise UsageError(
            f"The backend 'torch-compile' is for CUDA; on the CPU use {option('backend', 'torch')} or openvino."
        )
    if asked == "onnxruntime":
        return _by_onnxruntime(model, name, channels)
    if asked == "auto" and not _is_openvino_worth_a_check(model, work_voxels):
        return Choice("torch", "cpu")
    verdict = _examine_openvino(model, name, channels)
    if verdict.agrees:
        if asked == "openvino" or verdict.pays(work_voxels / voxels(model)):
            return Choice(
                "openvino",
                "cpu",
                version=openvino_backend.version(),
                firm=asked == "openvino",
                seconds_per_voxel=verdict.seconds / voxels(model) or None,
            )
        return Choice("torch", "cpu")
    sentence = _disagreement(f"OpenVINO and torch on {name}", verdict)
    if asked == "openvino":
        raise ModelError(f"{sentence}; use {option('backend', 'torch')}.")
    return Choice("torch", "cpu", warnings=(f"{sentence}: torch ran it.",))


def make(
    choice: Choice,
    model: nn.Module | Stored,
    *,
    factor: int,
    profile: SliceProfile,
    batch: int = 1,
    may_fall_back: bool = False,
    name: str = "the network",
    channels: int = 1,
    threads: int | None = None,
) -> Backend:
    """A network ready to run by a choice; arguments as for `TorchBackend`, and the threads of onnxruntime.

    `may_fall_back` concerns the device. Torch may take over from OpenVINO unless the choice is firm.

    Raises:
        UsageError: when OpenVINO or onnxruntime is not installed.
        DeviceError: when the device is missing.
    """
    if choice.backend == "onnxruntime":
        return OnnxRuntimeBackend(model, factor=factor, profile=profile, name=name, channels=channels, threads=threads)
    if choice.backend == "numpy":
        return NumpyBackend(model, factor=factor, profile=profile, name=name)
    assert not isinstance(model, Stored)
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


def _is_openvino_worth_a_check(model: ThroughPlaneModel, work_voxels: float) -> bool:
    return (
        any(True for _ in model.parameters())  # an interpolation is one product of matrices
        and openvino_backend.is_installed()
        and work_voxels >= WORTH_A_CHECK * voxels(model)
    )


def _examine_openvino(model: ThroughPlaneModel, name: str, channels: int) -> Verdict:
    def prepare(factor: int, profile: SliceProfile) -> Backend:
        return OpenVINOBackend(model, factor=factor, profile=profile, name=name, channels=channels)

    return examine(model, prepare, backend="openvino", version=openvino_backend.version(), channels=channels)


def _by_numpy(model: ThroughPlaneModel | Stored, asked: str, name: str) -> Choice:
    if asked == "onnxruntime":
        raise ModelError(
            f"The backend 'onnxruntime' runs networks, and {name} is an interpolation; use "
            f"{option('backend', 'numpy')} or auto."
        )
    if not isinstance(model, StoredInterpolation):
        raise ModelError(
            f"The backend 'numpy' runs interpolations by name, not {name}; use {option('backend', 'auto')}."
        )
    return Choice("numpy", "cpu", firm=asked == "numpy")


def _by_onnxruntime_alone(network: StoredNetwork, name: str, channels: int, threads: int | None) -> Choice:
    """onnxruntime for a network as data, compared with what torch was recorded to give."""
    if not onnxruntime_backend.is_installed():
        raise ModelError(
            f"{name} is run by onnxruntime or PyTorch, and neither can be imported: in a clone of the repository, pip "
            'install ".[onnx]" (small), or ".[torch]" (every network, training and GPUs). '
            f"{option('model', 'cubic-consistent')}, an interpolation, needs neither."
        )
    count = threads_to_use(threads)

    def prepare(stored: StoredNetwork, factor: int, profile: SliceProfile) -> Backend:
        return OnnxRuntimeBackend(stored, factor=factor, profile=profile, name=name, channels=channels, threads=count)

    runnable(network, name, with_deviation=channels == 2)
    version = onnxruntime_backend.version()
    verdict = examine_recorded(network, prepare, backend="onnxruntime", version=version, threads=count)
    return _agreed(verdict, network, f"onnxruntime and torch's recorded results on {name}")


def _by_onnxruntime(model: ThroughPlaneModel, name: str, channels: int) -> Choice:
    def prepare(factor: int, profile: SliceProfile) -> Backend:
        return OnnxRuntimeBackend(model, factor=factor, profile=profile, name=name, channels=channels)

    version = onnxruntime_backend.version()
    verdict = examine(model, prepare, backend="onnxruntime", version=version, channels=channels)
    return _agreed(verdict, model, f"onnxruntime and torch on {name}")


def _agreed(verdict: Verdict, network: ThroughPlaneModel | StoredNetwork, compared: str) -> Choice:
    """onnxruntime, where the comparison found agreement."""
    if not verdict.agrees:
        raise ModelError(f"{_disagreement(compared, verdict)}; use {option('backend', 'torch')}.")
    seconds_per_voxel = verdict.seconds / voxels(network) or None
    version = onnxruntime_backend.version()
    return Choice("onnxruntime", "cpu", version=version, firm=True, seconds_per_voxel=seconds_per_voxel)


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
        raise ModelError(f"{sentence}; use {option('device', 'cpu')}.")
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
