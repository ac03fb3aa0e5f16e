"""Thin volumes from thick ones, as whole volumes or as finished slabs in order.

    prepare (decides everything) -> stitch -> restore -> measure consistency

The stream only carries out what `thinslice.inference.prepare` decided.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinslice.arguments import check_callback, check_path
from thinslice.errors import ResourceError, ThinsliceError, UsageError, warn
from thinslice.inference.consistency import ConsistencyMeter
from thinslice.inference.deviation import without_padding
from thinslice.inference.prepare import Prepared, prepare
from thinslice.inference.respace import respaced
from thinslice.inference.restore import Restorer
from thinslice.inference.scan_deviation import ScanScale, measure_ratios, nearest_factors, scaled
from thinslice.inference.settings import UpscaleSettings, uncertainty_source
from thinslice.inference.share import WorkShare
from thinslice.inference.stitch import StitchCounts, stitch
from thinslice.inference.texture.size import NoiseSize, measure_size
from thinslice.inference.texture.stream import textured
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.io.settings import ReadSettings
from thinslice.options import option
from thinslice.typing import Floats, Progress
from thinslice.volume import Volume, check_volume

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.recipes.slice_profile import MeasuredProfile


@dataclass(frozen=True)
class Slab:
    """Finished thin slices.

    Attributes:
        start: thin index of the first slice.
        hu: (slices, height, width) HU, int16 or float32.
        deviation_hu: standard deviations of the errors in HU, float32 of the same shape, 0 in padding; None in a run
            without them.
    """

    start: int
    hu: npt.NDArray[Any]
    deviation_hu: Floats | None = None


USUAL_CONSISTENCY_HU = 5.0
"""Root mean square distance from the thick slices that is usual for a consistent network: 0.1 to 0.3 HU for contiguous
slices, up to 3 where slices are twice as thick as they are apart; 20 and more where two acquisitions interleave."""


@dataclass(frozen=True)
class RunResult:
    """Facts about a run that are known only afterwards.

    Attributes:
        device, precision: where and how the network ran in the end, after a fall-back perhaps.
        consistency_rms_hu: RMS difference in HU between the thick slices and those made again from the thin ones; None
            where no thick slice has its whole profile on the thin grid.
        network_s, total_s: seconds in the network, and in the whole iteration without the consumer's share.
        windows_skipped: windows of air, interpolated instead.
        noise_size: how the uncertainty map became the size of the texture; None without texture.
        scan_scale: factors of the uncertainty map for this scan's noise; None without them.
        warnings: sentences for the report, those known before the run included.
    """

    device: str
    precision: str
    consistency_rms_hu: float | None = None
    network_s: float = 0.0
    total_s: float = 0.0
    windows_skipped: int = 0
    noise_size: NoiseSize | None = None
    scan_scale: ScanScale | None = None
    warnings: tuple[str, ...] = ()


def upscale(
    volume: Volume | str | Path | Sequence[str | Path],
    *,
    model: str | Path | ThroughPlaneModel = "default",
    factor: int | None = None,
    spacing_mm: float | None = None,
    plan: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    deviation: bool | str = False,
    intensity: str = "auto",
    profile: str | Path | MeasuredProfile | None = None,
    texture: bool = False,
    texture_seed: int = 0,
) -> Volume:
    """The thin volume of a thick one.

    Args:
        volume: the thick volume, or the path that `thinslice.read` reads it from.
        model: a name of the catalog, a weights file, or a network that meets `thinslice.models.base`.
        factor: thin slices per thick interval, 2 to 8; not beside `spacing_mm`.
        spacing_mm: distance of thin slices, met exactly from half the thick distance to an eighth of it; None for the
            whole factor that comes nearest to 1 mm.
        plan: window plan; None for the network's own.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". Only "auto" may fall back to the CPU.
        backend: one of `thinslice.inference.backends.choice.BACKENDS`; "auto" takes the fastest one that agrees with
            torch.
        threads: CPU threads; None for the cores this process may use, and no more than torch already has.
        progress: called with the windows done and their total.
        intensity: "auto" refuses values that are certainly no HU, "hu" takes them as HU, "unit" converts [0, 1] to
            [-1024, 2048] HU; the result is in HU.
        profile: a measured slice profile (`thinslice dataset profile`) or its file; None for a box of the slice
            thickness in the header.
        texture: add synthetic noise, so that the thin slices are as noisy as a thin reconstruction of the scan: for
            measures that depend on noise, never for reading small structures. Needs a network with a head for standard
            deviations.
        texture_seed: of that noise; the same seed gives the same noise.
        deviation: deprecated; True, "learned" or "ensemble" returns the result of `upscale_with_uncertainty` instead.

    Returns:
        The thin volume: ((D - 1) * factor + 1, H, W), thick slice k at thin slice factor * k; int16 when the source
        is, else float32. Its provenance keeps the source's headers and holds the derivation.

    Warns:
        ThinsliceWarning: for each sentence that the run adds to `provenance.warnings`.

    Raises:
        NotEligibleError: already thin, a factor outside 2 to 8, or an unclear through-plane axis; the message names
            an option that works.
        InputError: voxels that are not finite; read the file with `thinslice.read`, which replaces them. With texture
            also a scan without even soft tissue.
        ModelError: a network that cannot do this factor, or whose output is not finite; use another one.
        ResourceError: memory is short; use `upscale_slabs`, or free some.
        DeviceError: a device that is not on this machine.
        ArgumentTypeError: an argument of another type; the message describes what is taken.
        UsageError: an unknown name among the arguments, or `factor` beside `spacing_mm`; give one of them.
    """
    settings = UpscaleSettings(
        model,
        factor,
        spacing_mm,
        plan,
        device,
        backend,
        threads,
        intensity=intensity,
        profile=_file_or_value(profile),
        texture=texture,
        texture_seed=texture_seed,
    )
    check_callback("progress", progress)
    source = uncertainty_source(deviation)
    thick = _thick(volume)
    if source is not None:
        warnings.warn(
            "upscale(deviation=...) is deprecated: call thinslice.upscale_with_uncertainty.",
            DeprecationWarning,
            stacklevel=2,
        )
        settings = replace(settings, uncertainty=source)
        return collect_with_uncertainty(_collected_stream(thick, settings, progress))  # type: ignore[return-value]
    thin = collect(_collected_stream(thick, settings, progress))
    warn(thin.provenance.warnings[len(thick.provenance.warnings) :])
    return thin


def upscale_with_uncertainty(
    volume: Volume | str | Path | Sequence[str | Path],
    *,
    uncertainty: str = "learned",
    model: str | Path | ThroughPlaneModel = "default",
    factor: int | None = None,
    spacing_mm: float | None = None,
    plan: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    intensity: str = "auto",
    profile: str | Path | MeasuredProfile | None = None,
    texture: bool = False,
    texture_seed: int = 0,
) -> tuple[Volume, Volume]:
    """The thin volume of a thick one, and the standard deviations of its errors.

    Args:
        volume: the thick volume, or the path that `thinslice.read` reads it from.
        uncertainty: "learned" takes standard deviations from the network's own head, "ensemble" from the spread of any
            network's estimates over mirrored inputs (8 times the cost, not calibrated).
        model, factor, spacing_mm, plan, device, backend, threads, progress, intensity, profile: as for `upscale`.
        texture, texture_seed: as for `upscale`.

    Returns:
        The thin volume of `upscale`, and a second volume on its grid, float32, with standard deviations in HU, 0 in
        padding.

    Raises:
        ModelError: also for "learned" with a network without such a head; the message names networks that have one.
        ThinsliceError: as for `upscale`.
    """
    source = uncertainty_source(uncertainty)
    if source is None:
        raise UsageError("Without standard deviations there is one volume: call upscale.")
    settings = UpscaleSettings(
        model,
        factor,
        spacing_mm,
        plan,
        device,
        backend,
        threads,
        source,
        intensity=intensity,
        profile=_file_or_value(profile),
        texture=texture,
        texture_seed=texture_seed,
    )
    check_callback("progress", progress)
    thick = _thick(volume)
    thin, deviation = collect_with_uncertainty(_collected_stream(thick, settings, progress))
    warn(thin.provenance.warnings[len(thick.provenance.warnings) :])
    return thin, deviation


def upscale_slabs(
    volume: Volume | str | Path | Sequence[str | Path],
    *,
    model: str | Path | ThroughPlaneModel = "default",
    factor: int | None = None,
    spacing_mm: float | None = None,
    plan: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    uncertainty: bool | str = False,
    force: bool = False,
    deviation: bool | str = False,
    intensity: str = "auto",
    profile: str | Path | MeasuredProfile | None = None,
    texture: bool = False,
    texture_seed: int = 0,
) -> SlabStream:
    """The thin volume of a thick one as finished slabs in order, in memory that does not grow with depth.

    Args:
        volume: the thick volume, or the path that `thinslice.read` reads it from.
        model, factor, spacing_mm, plan, device, backend, threads, progress, intensity, profile: as for `upscale`.
        texture, texture_seed: as for `upscale`.
        uncertainty: True or "learned", or "ensemble", for standard deviations beside the slices
            (`Slab.deviation_hu`); see `upscale_with_uncertainty`.
        force: run although memory looks short.
        deviation: older name of `uncertainty`.

    Returns:
        The stream. Each iteration runs again.

    Raises:
        ThinsliceError: as for `upscale`, before the first slab; a network whose output is not finite and memory that
            runs out are found on the way.
    """
    source = uncertainty_source(deviation if uncertainty is False else uncertainty)
    settings = UpscaleSettings(
        model,
        factor,
        spacing_mm,
        plan,
        device,
        backend,
        threads,
        source,
        force,
        intensity,
        _file_or_value(profile),
        texture,
        texture_seed,
    )
    check_callback("progress", progress)
    thick = _thick(volume)
    with _naming_read():
        prepared = prepare(thick, settings)
    warn(prepared.warnings)
    return SlabStream(prepared, progress=progress)


class SlabStream:
    """Finished slabs of a thin volume, in order; each iteration runs again.

    Every attribute of `prepared` and of `result` can be read from the stream itself, as in `stream.geometry` and
    `stream.consistency_rms_hu`; where both have one (`device`, `precision`, `warnings`), it is the result's.

    Attributes:
        prepared: decisions taken before the run.
        result: facts about the last iteration; before its end those known beforehand.

    Args:
        prepared: the run to carry out, from `thinslice.inference.prepare.prepare`.
        progress: called with the windows done and their total.
        share: called with the share of the work that is done, 0 to 1, within a window too.
    """

    prepared: Prepared
    result: RunResult

    def __init__(
        self, prepared: Prepared, *, progress: Progress | None = None, share: Callable[[float], None] | None = None
    ) -> None:
        self.prepared = prepared
        self.result = _before(prepared)
        self._progress = progress
        self._share = share

    def __getattr__(self, name: str) -> Any:
        if name == "deviation":  # older name
            name = "uncertainty"
        if not name.startswith("_") and "prepared" in self.__dict__:
            for value in (self.result, self.prepared):
                if hasattr(value, name):
                    return getattr(value, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __iter__(self) -> Iterator[Slab]:
        self.result = _before(self.prepared)
        run = self.prepared
        thick, padding_hu = run.volume.hu, run.volume.provenance.padding_hu
        network = run.start_network()
        work = WorkShare(
            run.window_plan,
            run.model,
            network,
            self._share,
            progress=self._progress,
            seconds_per_voxel=run.choice.seconds_per_voxel,
        )
        exact = run.exact_spacing
        ratio = run.factor if exact is None else exact.ratio
        restorer = Restorer(thick, ratio, padding_hu, run.dtype)
        rows = run.profile.rows(len(thick)) if exact is None else exact.rows()
        meter = ConsistencyMeter(rows, thick, padding_hu=padding_hu)
        counts = StitchCounts()
        stitched = stitch(
            thick,
            run.window_plan,
            work.infer,
            profile=run.profile,
            padding_hu=padding_hu,
            batch=lambda: network.batch,
            skip_air=run.skip_air,
            consistent=getattr(run.model, "consistent", False),
            channels=run.settings.channels,
            counts=counts,
            progress=work.windows_done,
        )
        if exact is not None:
            stitched = respaced(stitched, exact, thick, padding_hu)
        total_s, size, scale = 0.0, None, None
        try:
            clock = time.perf_counter()
            about_network: dict[str, Any] = {
                "window": run.model.window.run_by(run.choice.backend, run.choice.device),
                "profile": run.profile,
                "padding_hu": padding_hu,
                "consistent": getattr(run.model, "consistent", False),
            }
            if run.deviation_noise is not None and run.calibration is not None:
                noise, left = run.deviation_noise
                calibrated = run.calibration.scale
                ratios = measure_ratios(thick, noise, left, network, calibrated=calibrated, **about_network)
                scale = None if ratios is None else ratios.scale()
            if run.texture is not None:
                size = measure_size(thick, run.texture.noise, run.texture.left, network, **about_network)
                rescale = None if scale is None else nearest_factors(scale, thick, ratio)
                stitched = textured(stitched, run.texture, size, thick, padding_hu, rescale)
            elif scale is not None:
                stitched = scaled(stitched, scale, thick, ratio)
            for start, channels in stitched:
                finished = restorer.finish(start, channels[0])
                deviation_hu = None
                if run.uncertainty is not None:
                    deviation_hu = without_padding(start, channels[1], restorer.padding_at)
                meter.add(finished)
                total_s += time.perf_counter() - clock
                yield Slab(start, finished, deviation_hu)
                clock = time.perf_counter()
        except MemoryError as error:
            raise ResourceError("Memory ran out while stitching; close other programs.") from error
        self.result = RunResult(
            device=network.choice.device,
            precision=network.choice.precision,
            consistency_rms_hu=meter.rms_hu,
            network_s=network.seconds,
            total_s=total_s,
            windows_skipped=counts.skipped,
            noise_size=size,
            scan_scale=scale,
            warnings=(
                *run.warnings,
                *network.warnings,
                *_outside_warnings(run, restorer),
                *_consistency_warnings(run, meter.rms_hu),
            ),
        )


def collect(stream: SlabStream) -> Volume:
    """The whole thin volume of a stream; its warnings are those of source and run.

    A stream to be collected is best prepared with `collect=True`, so that the estimate of memory counts the volume.
    """
    hu = np.empty(stream.prepared.geometry.shape, dtype=stream.prepared.dtype)
    for slab in stream:
        hu[slab.start : slab.start + len(slab.hu)] = slab.hu
    return _volume(stream, hu)


def collect_with_uncertainty(stream: SlabStream) -> tuple[Volume, Volume]:
    """The whole thin volume of a stream, and its standard deviations in HU, float32.

    Raises:
        UsageError: for a stream without standard deviations; ask for them in the settings.
    """
    if stream.prepared.uncertainty is None:
        raise UsageError("This stream makes no standard deviations; set uncertainty in its settings.")
    deviation_hu = np.empty(stream.prepared.geometry.shape, dtype=np.float32)
    hu = np.empty(deviation_hu.shape, dtype=stream.prepared.dtype)
    for slab in stream:
        place = slice(slab.start, slab.start + len(slab.hu))
        hu[place], deviation_hu[place] = slab.hu, slab.deviation_hu
    thin = _volume(stream, hu)
    return thin, Volume(deviation_hu, thin.geometry, replace(thin.provenance, padding_hu=None))


def _collected_stream(volume: Volume, settings: UpscaleSettings, progress: Progress | None) -> SlabStream:
    with _naming_read():
        return SlabStream(prepare(volume, settings, collect=True), progress=progress)


@contextmanager
def _naming_read() -> Iterator[None]:
    """Add to an error whose remedy is an argument of reading that it is none of upscaling."""
    try:
        yield
    except ThinsliceError as error:
        if not any(option(each.name) in str(error) for each in fields(ReadSettings)):
            raise
        raise type(error)(f"{error} That is an argument of thinslice.read, whose result upscale takes.") from error


def _thick(volume: Volume | str | Path | Sequence[str | Path]) -> Volume:
    """The thick volume, read where its path is given.

    Raises:
        ArgumentTypeError: neither a volume nor a path; the message names what makes a volume of it.
        ThinsliceError: as `thinslice.read`, whose arguments the message may name.
    """
    if isinstance(volume, Volume) or not (
        isinstance(volume, str | PathLike)
        or (isinstance(volume, Sequence) and len(volume) and all(isinstance(each, str | PathLike) for each in volume))
    ):
        return check_volume("volume", volume, "a thinslice.Volume or a path")
    from thinslice.io.files import read_as

    with _naming_read():
        thick = read_as(volume, ReadSettings())
    warn(thick.provenance.warnings, above=2)
    return thick


def _file_or_value(profile: str | Path | MeasuredProfile | None) -> Path | MeasuredProfile | None:
    return check_path("profile", profile) if isinstance(profile, str | PathLike) else profile


def _before(prepared: Prepared) -> RunResult:
    return RunResult(prepared.choice.device, prepared.choice.precision, warnings=prepared.warnings)


def _outside_warnings(prepared: Prepared, restorer: Restorer) -> list[str]:
    if not restorer.voxels_outside_window:
        return []
    whose = "the network's window" if prepared.has_weights else "the working range"
    return [
        f"{restorer.voxels_outside_window} thin voxels lie where the source is outside {whose} "
        f"({WINDOW_MIN_HU:.0f} to {WINDOW_MAX_HU:.0f} HU); there the interpolated source was blended back."
        + ("" if prepared.uncertainty is None else " Standard deviations do not include this.")
    ]


def _consistency_warnings(prepared: Prepared, consistency_rms_hu: float | None) -> list[str]:
    # The published plans join windows in ways of their own, which no consistent network makes up for.
    is_consistent = getattr(prepared.model, "consistent", False) and prepared.plan_name == "overlap"
    if not is_consistent or (consistency_rms_hu or 0.0) <= USUAL_CONSISTENCY_HU:
        return []
    return [
        f"The thin slices, averaged back, differ from the thick ones by {consistency_rms_hu:.1f} HU root mean square, "
        f"where up to {USUAL_CONSISTENCY_HU:g} HU are usual: the slices may not belong to one acquisition, or their "
        "thickness may be stated wrong. Do not trust the result before the source is checked."
    ]


def _volume(stream: SlabStream, hu: npt.NDArray[Any]) -> Volume:
    """The collected voxels with geometry, provenance and warnings of the run."""
    provenance = stream.prepared.provenance
    provenance = replace(provenance, warnings=(*provenance.warnings, *stream.result.warnings))
    return Volume(hu, stream.prepared.geometry, provenance)
