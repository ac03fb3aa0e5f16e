"""A thick volume in, finished slabs of the thin volume out.

    decide (planning) -> load and place the network -> check memory -> stitch -> restore -> measure consistency

Everything that can be refused is refused when the stream is made, before the first slab.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from thinslice.about import __version__
from thinslice.errors import InputError, ResourceError, ShapeError
from thinslice.geometry import Geometry
from thinslice.inference.backends.choice import Choice, batch_size, choose_backend, choose_device, make, settle
from thinslice.inference.consistency import ConsistencyMeter
from thinslice.inference.deviation import chosen_kind, remark, telling, without_padding
from thinslice.inference.restore import Restorer
from thinslice.inference.stitch import StitchCounts, stitch
from thinslice.inference.threads import set_threads
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.planning import (
    MemoryEstimate,
    ModelWindow,
    WindowPlan,
    choose_factor,
    estimate_memory,
    plan_windows,
    profile_warning,
    relative_thickness,
    slice_profile,
)
from thinslice.profile import SliceProfile
from thinslice.system.resources import available_memory_bytes
from thinslice.typing import Progress
from thinslice.volume import Derivation, Provenance, Volume

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.deviation import Calibration


@dataclass(frozen=True)
class Slab:
    """Finished thin slices.

    Attributes:
        start: thin index of the first one.
        hu: (slices, height, width) HU, int16 or float32.
        deviation_hu: standard deviations of its errors in HU, float32 of the same shape, 0 in padding; None unless
            they were asked for.
    """

    start: int
    hu: npt.NDArray[Any]
    deviation_hu: npt.NDArray[np.float32] | None = None


@overload
def upscale(
    volume: Volume,
    *,
    model: str | Path | ThroughPlaneModel = "default",
    factor: int | None = None,
    spacing_mm: float = 1.0,
    plan: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    deviation: Literal[False] = False,
) -> Volume: ...


@overload
def upscale(
    volume: Volume,
    *,
    model: str | Path | ThroughPlaneModel = "default",
    factor: int | None = None,
    spacing_mm: float = 1.0,
    plan: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    deviation: Literal[True, "learned", "ensemble"],
) -> tuple[Volume, Volume]: ...


def upscale(
    volume: Volume,
    *,
    model: str | Path | ThroughPlaneModel = "default",
    factor: int | None = None,
    spacing_mm: float = 1.0,
    plan: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    deviation: bool | str = False,
) -> Volume | tuple[Volume, Volume]:
    """Make thin slices from thick ones.

    Args:
        volume: the thick volume, one slice or more.
        model: a name of the catalog, a weights file, or a network that meets `thinslice.models.base`.
        factor: thin slices per thick interval, 2 to 8; wins over `spacing_mm`.
        spacing_mm: wanted distance of thin slices; the factor is the thick distance over it, rounded half up.
        plan: window plan; None for the one the network is meant to run under.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". Only "auto" may fall back to the CPU.
        backend: one of `thinslice.inference.backends.choice.BACKENDS`; "auto" takes the fastest one that agrees with
            torch.
        threads: CPU threads; None for the cores this process may use, and no more than torch was given before.
        progress: called with the windows done and their total.
        deviation: whether standard deviations of the errors are wanted too: True or "learned" from the network's own
            head, "ensemble" from the spread of any network's estimates over mirrored inputs (8 times the cost, not
            calibrated). See docs/doubt.md for what they are.

    Returns:
        The thin volume: ((D - 1) * factor + 1, H, W), thick slice k at thin slice factor * k; int16 when the source
        is, else float32. Its provenance keeps the source's headers and says how it was derived. With `deviation`, the
        same thin volume and a second one on its grid, float32, that holds the standard deviations in HU.

    Raises:
        NotEligibleError: already thin, a factor outside 2 to 8, or an axis that is not clear; the message says what
            works.
        InputError: voxels that are not finite; read the file with `thinslice.read`, which mends them.
        ModelError: a network that cannot do this factor, gives nonsense, or has no head for standard deviations.
        ResourceError: memory is short; use `upscale_slabs`, or free some.
        DeviceError: a device that is not there.
        UsageError: an unknown name among the arguments.
    """
    stream = SlabStream(
        volume,
        model=model,
        factor=factor,
        spacing_mm=spacing_mm,
        plan=plan,
        device=device,
        backend=backend,
        threads=threads,
        progress=progress,
        deviation=deviation,
        collect=True,
    )
    thin = np.empty(stream.geometry.shape, dtype=stream.dtype)
    doubt = None if stream.deviation is None else np.empty(stream.geometry.shape, dtype=np.float32)
    for slab in stream:
        thin[slab.start : slab.start + len(slab.hu)] = slab.hu
        if doubt is not None:
            doubt[slab.start : slab.start + len(slab.hu)] = slab.deviation_hu
    provenance = replace(stream.provenance, warnings=(*volume.provenance.warnings, *stream.warnings))
    result = Volume(thin, stream.geometry, provenance)
    return result if doubt is None else (result, Volume(doubt, stream.geometry, replace(provenance, padding_hu=None)))


def upscale_slabs(
    volume: Volume,
    *,
    model: str | Path | ThroughPlaneModel = "default",
    factor: int | None = None,
    spacing_mm: float = 1.0,
    plan: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    deviation: bool | str = False,
    force: bool = False,
) -> SlabStream:
    """The same as `upscale`, but yielding finished slabs in order, so that memory does not grow with depth.

    Arguments and errors as for `upscale`; all but InputError from hostile arrays, ModelError and ResourceError are
    raised here, before the first slab. With `force` the run goes on although memory looks short.
    """
    return SlabStream(
        volume,
        model=model,
        factor=factor,
        spacing_mm=spacing_mm,
        plan=plan,
        device=device,
        backend=backend,
        threads=threads,
        progress=progress,
        deviation=deviation,
        force=force,
    )


class SlabStream:
    """Finished slabs of a thin volume, in order; made by `upscale_slabs`. Iterating again runs again.

    Attributes:
        geometry: of the thin volume.
        provenance: the source's, with the derivation added.
        factor, profile, plan_name, device, precision, backend, dtype: what was decided; `device` and `precision` follow
            a fall-back. What slabs say of their making (`provenance`) is what was decided at the start.
        hu_range: (lowest, highest) HU that the thin volume may hold.
        model_name, model_version, weights_sha256: of the network.
        memory_estimate: bytes, said before the start.
        warnings: sentences for the report; complete after iteration.
        consistency_rms_hu: how well the thin slices give the thick ones back, RMS HU; None before iteration, and
            when no thick slice has its whole profile on the thin grid.
        network_s, total_s: seconds in the network, and in all of the iteration but what the consumer takes.
        deviation: "learned", "ensemble" or None: where the slabs' standard deviations come from.
        calibration: what is known about them (`thinslice.models.deviation.Calibration`); None without them.
        window_plan: which thick slices go through the network at a time.
        windows_total, windows_skipped: windows of the plan, and those of air that were interpolated instead.
    """

    warnings: list[str]
    consistency_rms_hu: float | None
    network_s: float
    total_s: float
    windows_total: int
    windows_skipped: int

    def __init__(
        self,
        volume: Volume,
        *,
        model: str | Path | ThroughPlaneModel = "default",
        factor: int | None = None,
        spacing_mm: float = 1.0,
        plan: str | None = None,
        device: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
        progress: Progress | None = None,
        deviation: bool | str = False,
        collect: bool = False,
        force: bool = False,
    ) -> None:
        self.factor = choose_factor(
            volume.geometry,
            factor=factor,
            spacing_mm=spacing_mm,
            axis_ambiguous=bool(volume.provenance.details.get("axis_ambiguous")),
        )
        asked, self.device = choose_backend(backend), choose_device(device)
        set_threads(threads)
        _refuse_non_finite(volume.hu)
        self._volume = volume
        self.profile: SliceProfile = slice_profile(volume.geometry, self.factor)
        self._progress = progress
        self._may_fall_back = device == "auto"
        self.deviation = chosen_kind(deviation)
        self.calibration: Calibration | None = None
        self._model = _loaded(model, self.device)
        self.model_name, self.model_version, self.weights_sha256 = _identity(self._model, model)
        if self.deviation is not None:
            self._model, self.calibration = telling(self._model, self.deviation, name=self.model_name)
        self._channels = 1 if self.deviation is None else 2
        # What pays depends on the windows, and they on what runs them: at first, what runs where nothing else pays.
        window = self._model.window.run_by("torch" if asked == "auto" else asked, self.device)
        self.window_plan = self._planned(plan, window)
        self.plan_name = self.window_plan.name
        self._choice: Choice = settle(
            self._model,
            self.device,
            asked,
            work_voxels=_fed_voxels(self.window_plan),
            may_fall_back=self._may_fall_back,
            name=self.model_name,
            channels=self._channels,
        )
        self.backend, self.device, self.precision = self._choice.backend, self._choice.device, self._choice.precision
        settled = self._model.window.run_by(self.backend, self.device)
        if settled != window:
            self.window_plan = self._planned(plan, settled)
        self._batch = _batch(self.window_plan, settled, self.device)

        source = volume.provenance
        self.dtype = _output_dtype(volume)
        self.hu_range = _hu_range(volume)
        self.geometry: Geometry = volume.geometry.thin_grid(self.factor)
        self.provenance: Provenance = replace(source, derivation=self._derivation())
        self.memory_estimate: MemoryEstimate = estimate_memory(
            self.window_plan,
            settled.working_bytes,
            thin_bytes=settled.thin_bytes,
            voxel_bytes=self.dtype.itemsize,
            batch=self._batch,
            collect=collect,
            channels=self._channels,
            backend=self.backend,
            learned=self._is_learned(),
        )
        if not force:
            self._refuse_short_memory()
        self._reset()

    def __iter__(self) -> Iterator[Slab]:
        self._reset()
        thick, padding_hu = self._volume.hu, self._volume.provenance.padding_hu
        network = make(
            self._choice,
            self._model,
            factor=self.factor,
            profile=self.profile,
            batch=self._batch,
            may_fall_back=self._may_fall_back,
            name=self.model_name,
            channels=self._channels,
        )
        restorer = Restorer(thick, self.factor, padding_hu, self.dtype)
        meter = ConsistencyMeter(self.profile, thick, padding_hu=padding_hu)
        counts = StitchCounts()
        slabs = stitch(
            thick,
            self.window_plan,
            network,
            profile=self.profile,
            padding_hu=padding_hu,
            batch=lambda: network.batch,
            skip_air=self._skips_air(),
            consistent=getattr(self._model, "consistent", False),
            channels=self._channels,
            counts=counts,
            progress=self._progress,
        )
        try:
            clock = time.perf_counter()
            for start, given in slabs:
                hu, doubt = (given, None) if self.deviation is None else given
                finished = restorer.finish(start, hu)
                if doubt is not None:
                    doubt = without_padding(start, doubt, restorer.padding_at)
                meter.add(finished)
                self.network_s, self.device, self.precision = network.seconds, network.device, network.precision
                self.windows_skipped = counts.skipped
                self.consistency_rms_hu = meter.rms_hu
                self.total_s += time.perf_counter() - clock
                yield Slab(start, finished, doubt)
                clock = time.perf_counter()
        except MemoryError as error:
            raise ResourceError("Memory ran out while stitching; close other programs.") from error
        self.warnings += network.warnings
        if restorer.voxels_outside_window:
            self.warnings.append(
                f"{restorer.voxels_outside_window} thin voxels lie where the source is outside the network's window "
                f"({WINDOW_MIN_HU:.0f} to {WINDOW_MAX_HU:.0f} HU); there the interpolated source was blended back."
                + ("" if self.deviation is None else " Standard deviations know nothing of it.")
            )

    def _reset(self) -> None:
        self.warnings = list(self._choice.warnings)
        warning = profile_warning(self._volume.geometry)
        if warning:
            self.warnings.append(warning)
        if self._volume.geometry.shape[0] == 1:
            self.warnings.append(
                "There is one thick slice: only the thin slice at its middle can be made, out of that slice alone."
            )
        if self.deviation is not None and self.calibration is not None:
            said = remark(self.deviation, self.calibration, name=self.model_name)
            self.warnings += [said] if said else []
        self.consistency_rms_hu = None
        self.network_s = 0.0
        self.total_s = 0.0
        self.windows_total = len(self.window_plan.windows)
        self.windows_skipped = 0

    def _planned(self, name: str | None, window: ModelWindow) -> WindowPlan:
        if self.factor not in self._model.factors:
            able = ", ".join(str(f) for f in sorted(self._model.factors))
            thick_mm = self._volume.geometry.spacing_mm[0]
            works = min(self._model.factors, key=lambda f: abs(f - self.factor))
            raise ShapeError(
                f"{self.model_name} cannot do factor {self.factor}, only {able}; try --factor {works} "
                f"(--spacing {thick_mm / works:.4g})."
            )
        shape = self._volume.geometry.shape
        return plan_windows(shape, self.factor, window, name, profile=self.profile, channels=self._channels)

    def _skips_air(self) -> bool:
        """Published plans exist to compare with published numbers, so there the network sees everything; and to
        replace an interpolation by another one would save nothing.
        """
        return self.plan_name == "overlap" and self._is_learned()

    def _is_learned(self) -> bool:
        return any(True for _ in self._model.parameters())

    def _derivation(self) -> Derivation:
        return Derivation(
            model=self.model_name,
            model_version=self.model_version,
            weights_sha256=self.weights_sha256,
            factor=self.factor,
            settings={
                "plan": self.plan_name,
                "spacing_mm": round(self.geometry.spacing_mm[0], 6),
                "profile": self.profile.name,
                "profile_width": round(relative_thickness(self._volume.geometry), 4),
                "backend": f"{self.backend} {self._choice.version}".strip(),
                # Sums are ordered otherwise there, so a voxel in a few thousand may round to the other side.
                "device": self.device.partition(":")[0],
                "precision": self._choice.precision,
            },
        )

    def _refuse_short_memory(self) -> None:
        available = available_memory_bytes()
        estimate = self.memory_estimate
        needed = estimate.additional_bytes - (estimate.working_bytes if self.device != "cpu" else 0)
        if available is not None and needed > available:
            instead = "stream it (upscale_slabs)" if estimate.thin_bytes else "go on all the same with --force"
            raise ResourceError(
                f"This run needs about {needed / 2**30:.1f} GiB of memory more than now, and {available / 2**30:.1f} "
                f"GiB are available; close other programs, crop the volume, or {instead}."
            )


def _loaded(model: str | Path | ThroughPlaneModel, device: str) -> ThroughPlaneModel:
    if isinstance(model, (str, Path)):
        from thinslice.models.load import load_model

        return load_model(model, device=device)
    return model


def _identity(model: ThroughPlaneModel, asked: str | Path | ThroughPlaneModel) -> tuple[str, str, str | None]:
    """Name, version and hash: what the weights' card says, else how the network was asked for."""
    card: dict[str, Any] = getattr(model, "card", None) or {}
    name = card.get("name") or (Path(asked).stem if isinstance(asked, (str, Path)) else type(model).__name__)
    sha256 = getattr(model, "sha256", None)
    return str(name), str(card.get("version") or __version__), sha256


def _batch(plan: WindowPlan, window: ModelWindow, device: str) -> int:
    depth, height, width = plan.largest
    # Beside what the network works with, the window and its thin slices, twice, in float32.
    each = window.working_bytes + 4 + (8 + window.thin_bytes) * plan.factor
    return batch_size(device, each * depth * height * width)


def _fed_voxels(plan: WindowPlan) -> int:
    """Thick voxels that go through the network; windows of air, which do not, are not known yet."""
    return sum(window.depth.extent * window.height.extent * window.width.extent for window in plan.windows)


def _refuse_non_finite(hu: npt.NDArray[Any]) -> None:
    if hu.dtype == np.int16:
        return
    for index, plane in enumerate(hu):
        if not np.isfinite(plane).all():
            raise InputError(
                f"Slice {index} (counted from 0) holds values that are not finite numbers; replace them by air (-1024) "
                "first."
            )


def _output_dtype(volume: Volume) -> np.dtype[Any]:
    padding = volume.provenance.padding_hu
    bounds = np.iinfo(np.int16)
    fits = padding is None or (bounds.min <= padding <= bounds.max and padding == int(padding))
    return np.dtype(np.int16 if volume.hu.dtype == np.int16 and fits else np.float32)


def _hu_range(volume: Volume) -> tuple[float, float]:
    values = [WINDOW_MIN_HU, WINDOW_MAX_HU, float(volume.hu.min()), float(volume.hu.max())]
    if volume.provenance.padding_hu is not None:
        values.append(volume.provenance.padding_hu)
    return min(values), max(values)
