"""Cost of upscaling one volume with one method: seconds, memory, windows, operations."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from thinslice.inference.adapt import adapt
from thinslice.inference.backends.choice import choose_device
from thinslice.inference.prepare import Prepared, prepare
from thinslice.inference.settings import UpscaleSettings
from thinslice.inference.upscale import SlabStream, collect
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.checkpoint import place
from thinslice.models.cost import operations
from thinslice.planning import choose_factor
from thinslice.system.resources import PeakMemory
from thinslice.volume import Volume


@dataclass(frozen=True)
class Cost:
    """Cost of one volume.

    Attributes:
        seconds: wall clock from the thick volume in memory to the thin one, adaptation included; loading the network is
            not counted, nor is a first small window that loads the kernels.
        network_s: of these, in the network.
        memory_mib: highest resident memory of the process during the run, less its memory before (the interpreter, the
            networks, the thick volume and the truth); the collected thin volume is included. None where the system
            does not report it.
        resident_mib: that highest resident memory itself; None likewise.
        device_memory_mib: most that tensors took on an accelerator; None on the CPU.
        operations: floating-point operations of all windows of the plan, those skipped as air included.
        windows: of the plan.
        windows_skipped: windows of nothing but air, interpolated instead.
    """

    seconds: float
    network_s: float
    memory_mib: float | None
    resident_mib: float | None
    device_memory_mib: float | None
    operations: int
    windows: int
    windows_skipped: int


@dataclass(frozen=True)
class UpscaledCase:
    """A thin volume with its cost and settings.

    Attributes:
        thin: the estimate, rounded to integer HU where the thick volume is, as `upscale` returns it.
        cost: of the volume.
        plan: name of the window plan that ran.
        device: of the network at the end; a fall-back may have changed it.
        consistency_rms_hu: the estimate averaged over the slice profile against the thick slices, RMS HU.
        warnings: sentences.
    """

    thin: Volume
    cost: Cost
    plan: str
    device: str
    consistency_rms_hu: float | None
    warnings: tuple[str, ...] = ()


def wake(model: ThroughPlaneModel, device: str) -> None:
    """Run a small window through a network, so that loading kernels is not counted for the first volume."""
    import torch

    depth = max(model.window.depth or 2, model.window.min_depth)
    with torch.inference_mode():
        model.to(device)(torch.zeros(1, 1, depth, 16, 16, device=device))


def upscale_measured(
    model: ThroughPlaneModel,
    thick: Volume,
    settings: UpscaleSettings,
    *,
    adapt_steps: int = 0,
    counted: dict[tuple[int, int, int, int], int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UpscaledCase:
    """Upscale one volume as `upscale` does and measure its cost.

    Args:
        model: a network in eval mode.
        thick: the source.
        settings: options; their model is replaced by `model`, and their backend by torch, so that all methods run in
            one arithmetic, whatever is installed.
        adapt_steps: steps of test-time adaptation; the network itself is not changed.
        counted: operations by (depth, height, width, factor) of a window, kept between volumes of one network.
        progress: called with windows done and in all.

    Raises:
        ModelError: the network cannot do this, or cannot adapt; and what `thinslice.upscale_slabs` raises.
    """
    with PeakMemory() as memory:
        _reset_device_peak(settings.device)
        start = time.perf_counter()
        ready = model
        if adapt_steps:
            factor = choose_factor(thick.geometry, factor=settings.factor, spacing_mm=settings.target_mm)
            ready = adapt(place(model, choose_device(settings.device)), thick, factor=factor, steps=adapt_steps)
        prepared = prepare(thick, replace(settings, model=ready, backend="torch"))
        stream = SlabStream(prepared, progress=progress)
        thin = collect(stream)
        seconds = time.perf_counter() - start
    result = stream.result
    return UpscaledCase(
        thin=thin,
        cost=Cost(
            seconds=seconds,
            network_s=result.network_s,
            memory_mib=memory.added_mib,
            resident_mib=memory.peak_mib,
            device_memory_mib=_device_peak_mib(result.device),
            operations=_operations(model, prepared, {} if counted is None else counted),
            windows=prepared.windows_total,
            windows_skipped=result.windows_skipped,
        ),
        plan=prepared.plan_name,
        device=result.device,
        consistency_rms_hu=result.consistency_rms_hu,
        warnings=result.warnings,
    )


def _operations(model: ThroughPlaneModel, run: Prepared, counted: dict[tuple[int, int, int, int], int]) -> int:
    total = 0
    for window in run.window_plan.windows:
        key = (*window.shape, run.factor)
        if key not in counted:
            counted[key] = operations(model, window.shape, run.factor, profile=run.profile)
        total += counted[key]
    return total


def _reset_device_peak(device: str) -> None:
    import torch

    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _device_peak_mib(device: str) -> float | None:
    torch = sys.modules["torch"]
    return torch.cuda.max_memory_allocated() / 2**20 if device.startswith("cuda") else None
