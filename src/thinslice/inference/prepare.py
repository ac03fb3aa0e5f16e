"""Everything that is decided before the first slab, as one frozen value.

    factor and profile -> network -> windows -> backend and device -> memory

`prepare` refuses whatever can be refused; `thinslice.inference.upscale.SlabStream` only carries out its result.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinslice.about import __version__
from thinslice.continuity import continuity_warnings
from thinslice.errors import InputError, NotEligibleError, ResourceError, ShapeError
from thinslice.geometry import Geometry
from thinslice.inference.backends.choice import Backend, Choice, batch_size, choose_backend, choose_device, make, settle
from thinslice.inference.deviation import calibration_warning, with_uncertainty
from thinslice.inference.known_profile import measured_profile
from thinslice.inference.networks import load_network
from thinslice.inference.settings import UncertaintySource, UpscaleSettings
from thinslice.inference.texture.law import Averages, OpenNoise, open_noise
from thinslice.inference.texture.scan_noise import ScanNoise, measure_noise
from thinslice.inference.texture.stream import Texture
from thinslice.inference.threads import set_threads
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU, to_hu
from thinslice.models.stored import Stored
from thinslice.options import option
from thinslice.pictures.viewer.page import held_bytes
from thinslice.planning import (
    MemoryEstimate,
    ModelWindow,
    WindowPlan,
    choose_factor,
    estimate_memory,
    plan_windows,
    relative_thickness,
    slice_profile,
)
from thinslice.planning.eligibility import WIDTH_TOLERANCE
from thinslice.planning.exact_spacing import ExactSpacing, exact_ratio
from thinslice.plausibility import UNIT_REACH, examine
from thinslice.profile import ProfileDensity, SliceProfile
from thinslice.recipes.card import shown_name
from thinslice.recipes.slice_profile import MeasuredProfile
from thinslice.system.resources import available_memory_bytes
from thinslice.volume import Derivation, Provenance, Volume

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.calibration import Calibration


WIDEST_TRAINED = 2.0
"""Slice thickness over slice distance up to which a network was trained whose card does not state it."""

TEXTURE_NOTICE = (
    "The thin slices hold synthetic noise (texture), drawn at random: never read small structures in them. Compare "
    "with the thick slices, or with a run without texture."
)
"""Sentence for the report of a run with texture."""

SPACING_TOLERANCE = 0.02
"""Share by which thin slices may miss the wanted spacing without a warning."""


@dataclass(frozen=True)
class Prepared:
    """A run that has been decided and not started.

    Attributes:
        volume: the thick volume, in HU.
        settings: the options.
        model: the network, with a second output channel where standard deviations are wanted.
        model_name, model_version, weights_sha256: identity of the network; no hash where it has no weights file.
        factor: thin slices per thick interval that the network makes.
        exact_spacing: the thin slices' own distance, where no whole factor gives it; else None.
        profile: weights of thin slices in a thick one.
        window_plan: thick slices that go through the network at a time.
        choice: backend, device and precision.
        batch: windows per pass at first.
        calibration: calibration of the standard deviations; None without them.
        deviation_noise: noise of the thick slices and what they leave open, to which standard deviations are scaled;
            None without them, or where it cannot be measured.
        texture: synthetic noise to add, by what the thick slices show; None without it.
        geometry: grid of the thin volume.
        provenance: the source's, with the derivation added.
        dtype: type of the thin volume, int16 or float32.
        hu_range: (lowest, highest) HU that the thin volume may hold.
        memory_estimate: memory that the run needs, in bytes.
        warnings: sentences for the report that are known before the run.
    """

    volume: Volume
    settings: UpscaleSettings
    model: ThroughPlaneModel | Stored
    model_name: str
    model_version: str
    weights_sha256: str | None
    factor: int
    exact_spacing: ExactSpacing | None
    profile: SliceProfile
    window_plan: WindowPlan
    choice: Choice
    batch: int
    calibration: Calibration | None
    deviation_noise: tuple[ScanNoise, OpenNoise] | None
    texture: Texture | None
    geometry: Geometry
    provenance: Provenance
    dtype: np.dtype[Any]
    hu_range: tuple[float, float]
    memory_estimate: MemoryEstimate
    warnings: tuple[str, ...]

    @property
    def plan_name(self) -> str:
        """Name of the window plan."""
        return self.window_plan.name

    @property
    def ratio(self) -> float:
        """Thin slices per thick interval, which is `factor` unless they lie at a distance of their own."""
        return self.factor if self.exact_spacing is None else round(self.exact_spacing.ratio, 6)

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return self.choice.backend

    @property
    def windows_total(self) -> int:
        """Windows of the plan."""
        return len(self.window_plan.windows)

    @property
    def uncertainty(self) -> UncertaintySource | None:
        """Source of the standard deviations; None without them."""
        return self.settings.uncertainty

    @property
    def skip_air(self) -> bool:
        """Whether windows of air are interpolated instead of going through the network.

        Not under the published plans: these exist to compare with published numbers. Not for an interpolation: another
        one in its place would save nothing.
        """
        return self.plan_name == "overlap" and self.has_weights

    @property
    def has_weights(self) -> bool:
        """Whether the model is a trained network, no interpolation."""
        return _has_weights(self.model)

    def start_network(self) -> Backend:
        """The network, ready to run; each call starts a new one."""
        return make(
            self.choice,
            self.model,
            factor=self.factor,
            profile=self.profile,
            batch=self.batch,
            may_fall_back=self.settings.may_fall_back,
            name=self.model_name,
            channels=self.settings.channels,
            threads=self.settings.threads,
        )


def prepare(
    volume: Volume,
    settings: UpscaleSettings,
    *,
    collect: bool = False,
    packs_page: bool = False,
    loaded: ThroughPlaneModel | Stored | None = None,
) -> Prepared:
    """Decide a run: load the network, choose what runs it, cut the windows, estimate the memory.

    Args:
        volume: the thick volume.
        settings: the options.
        collect: whether the whole thin volume will be held in memory; the estimate counts it.
        packs_page: whether a page with the viewer is packed while slabs come; the estimate counts it.
        loaded: the network of the settings, where an earlier run loaded it.

    Raises:
        NotEligibleError: already thin, a factor outside 2 to 8, or an unclear through-plane axis; the message names
            an option that works.
        InputError: voxels that are not finite, or that are certainly no HU; the message names what to do.
        ModelError: a network that cannot do this factor, does not agree on the golden case, or has no head for
            standard deviations.
        ResourceError: memory is short; stream the slabs, free some, or set `force`.
        DeviceError: a device that is not on this machine.
        UsageError: an unknown model, or a backend that is not installed.
    """
    _refuse_non_finite(volume.hu)
    volume, notes = _in_hu(volume, settings.intensity)
    notes += continuity_warnings(volume.hu)
    thick = volume.geometry
    factor = choose_factor(
        thick,
        factor=settings.factor,
        spacing_mm=settings.target_mm,
        axis_ambiguous=bool(volume.provenance.details.get("axis_ambiguous")),
    )
    asked = choose_backend(settings.backend)
    device = choose_device(settings.device, asked)
    model = load_network(settings.model if loaded is None else loaded, backend=asked, device=device)
    if not isinstance(model, Stored):
        set_threads(settings.threads)
    name, version, sha256 = _identity(model, settings.model)
    measured, about_profile = measured_profile(settings.profile, model, name, volume)
    profile = slice_profile(thick, factor) if measured is None else measured.on_grid(factor, thick.spacing_mm[0])
    calibration = None
    if settings.uncertainty is not None or settings.texture:
        model, calibration = with_uncertainty(
            model, settings.uncertainty or "learned", name=name, wanted_for_texture=settings.uncertainty is None
        )

    def planned(window: ModelWindow) -> WindowPlan:
        return plan_windows(thick.shape, factor, window, settings.plan, profile=profile, channels=settings.channels)

    _refuse_factor(model, name, factor, thick)
    _refuse_overlap(model, name, thick, profile)
    # The backend depends on the size of the windows, and that on the backend: plan first for torch, then again for the
    # backend that was chosen.
    window = model.window.run_by("torch" if asked == "auto" else asked, device)
    plan = planned(window)
    choice = settle(
        model,
        device,
        asked,
        work_voxels=sum(part.depth.extent * part.height.extent * part.width.extent for part in plan.windows),
        may_fall_back=settings.may_fall_back,
        name=name,
        channels=settings.channels,
        threads=settings.threads,
    )
    settled = model.window.run_by(choice.backend, choice.device)
    if settled != window:
        plan = planned(settled)
    batch, dtype = _batch(plan, settled, choice.device), _output_dtype(volume)
    exact = _exact_spacing(settings, thick, factor, measured)
    geometry = thick.thin_grid(factor) if exact is None else exact.geometry(thick)
    texture, deviation_noise = None, None
    if settings.texture:
        noise, left = _noise(volume, profile, exact)
        texture = Texture(settings.texture_seed, noise, left, profile if exact is None else None)
    if settings.uncertainty == "learned":
        # Without even soft tissue the map keeps the level of the card.
        with suppress(InputError):
            deviation_noise = _noise(volume, profile, exact) if texture is None else (texture.noise, texture.left)
    prepared = Prepared(
        volume=volume,
        settings=settings,
        model=model,
        model_name=name,
        model_version=version,
        weights_sha256=sha256,
        factor=factor,
        exact_spacing=exact,
        profile=profile,
        window_plan=plan,
        choice=choice,
        batch=batch,
        calibration=calibration,
        deviation_noise=deviation_noise,
        texture=texture,
        geometry=geometry,
        provenance=replace(
            volume.provenance,
            derivation=Derivation(
                model=name,
                model_version=version,
                weights_sha256=sha256,
                factor=factor if exact is None else round(exact.ratio, 6),
                settings={
                    "plan": plan.name,
                    "spacing_mm": round(geometry.spacing_mm[0], 6),
                    "profile": profile.name,
                    "profile_width": round(profile_width(profile, thick), 4),
                    **({} if measured is None else {"profile_sha256": measured.sha256}),
                    **({} if texture is None else {"texture": "synthetic noise", "texture_seed": texture.seed}),
                    "backend": f"{choice.backend} {choice.version}".strip(),
                    # Another device adds in another order, so a voxel in a few thousand may round to the other side.
                    "device": choice.device.partition(":")[0],
                    "precision": choice.precision,
                },
            ),
        ),
        dtype=dtype,
        hu_range=_hu_range(volume),
        memory_estimate=estimate_memory(
            plan,
            settled.working_bytes,
            thin_bytes=settled.thin_bytes,
            voxel_bytes=dtype.itemsize,
            batch=batch,
            collect=collect,
            channels=settings.channels,
            backend=choice.backend,
            learned=_has_weights(model),
            header_elements=[len(header) for header in volume.provenance.headers],
        ),
        warnings=(
            *notes,
            *filter(None, [_untrained_warning(settings.model)]),
            *about_profile,
            *_warnings(volume, choice, settings, calibration, name),
            *_target_warning(settings, geometry),
        ),
    )
    if exact is not None:
        held = exact.held_slices * 4 * settings.channels * thick.shape[1] * thick.shape[2]
        estimate = prepared.memory_estimate
        prepared = replace(prepared, memory_estimate=replace(estimate, slab_bytes=estimate.slab_bytes + held))
    if texture is not None:
        estimate = prepared.memory_estimate
        held = texture.held_slices * 4 * thick.shape[1] * thick.shape[2]
        # Without a file for them, standard deviations are not kept.
        kept = estimate.thin_bytes if settings.uncertainty else _thin_bytes(geometry, dtype) * collect
        prepared = replace(
            prepared, memory_estimate=replace(estimate, slab_bytes=estimate.slab_bytes + held, thin_bytes=kept)
        )
    if packs_page:
        held = held_bytes(thick, geometry, deviation=settings.uncertainty is not None)
        estimate = prepared.memory_estimate
        prepared = replace(prepared, memory_estimate=replace(estimate, slab_bytes=estimate.slab_bytes + held))
    if not settings.force:
        _refuse_short_memory(prepared)
    return prepared


def _untrained_warning(asked: str | Path | ThroughPlaneModel | Stored) -> str | None:
    from thinslice.models.load import has_random_weights

    if not isinstance(asked, str) or not has_random_weights(asked):
        return None
    return f"The plug-in network {shown_name(asked)!r} has random weights: its output is no image. Train it first."


def _identity(
    model: ThroughPlaneModel | Stored, asked: str | Path | ThroughPlaneModel | Stored
) -> tuple[str, str, str | None]:
    """Name, version and hash: from the weights' card, else from the name that the user gave."""
    card: dict[str, Any] = getattr(model, "card", None) or {}
    name = card.get("name") or (Path(asked).stem if isinstance(asked, (str, Path)) else type(model).__name__)
    sha256 = getattr(model, "sha256", None)
    return shown_name(str(name)), shown_name(str(card.get("version") or __version__)), sha256


def _has_weights(model: ThroughPlaneModel | Stored) -> bool:
    return any(True for _ in model.parameters())


def _refuse_factor(model: ThroughPlaneModel | Stored, name: str, factor: int, thick: Geometry) -> None:
    if factor in model.factors:
        return
    able = ", ".join(str(f) for f in sorted(model.factors))
    works = min(model.factors, key=lambda f: abs(f - factor))
    raise ShapeError(
        f"{name} cannot do factor {factor}, only {able}; try {option('factor', works)} "
        f"({option('spacing_mm', thick.spacing_mm[0] / works)})."
    )


def _refuse_non_finite(hu: npt.NDArray[Any]) -> None:
    if hu.dtype == np.int16:
        return
    for index, plane in enumerate(hu):
        if not np.isfinite(plane).all():
            raise InputError(
                f"Slice {index} (counted from 0) holds values that are not finite numbers; replace them by air (-1024) "
                "first."
            )


def _in_hu(volume: Volume, intensity: str) -> tuple[Volume, list[str]]:
    """The volume in HU, and what a user should know about its values.

    Raises:
        InputError: values that are certainly no HU, or that are not in [0, 1] although stated so.
    """
    found = examine(volume.hu, padding=volume.provenance.padding_hu)
    if intensity == "unit":
        if not 1.0 - UNIT_REACH <= found.low <= found.high <= UNIT_REACH:
            raise InputError(
                f"The intensity is stated as unit, but values reach from {found.low:g} to {found.high:g}, outside "
                "[0, 1]; leave the statement out for HU, or scale the values to [0, 1] first."
            )
        converted = Volume(to_hu(volume.hu), volume.geometry, replace(volume.provenance, padding_hu=None))
        return converted, ["Values in [0, 1] were converted to [-1024, 2048] HU, as stated; the result is in HU."]
    sentence = found.sentence()
    if sentence is None:
        return volume, []
    if found.is_refused and intensity == "auto":
        raise InputError(sentence)
    return volume, [sentence]


def _exact_spacing(
    settings: UpscaleSettings, thick: Geometry, factor: int, measured: MeasuredProfile | None
) -> ExactSpacing | None:
    if settings.factor is not None or settings.spacing_mm is None or thick.shape[0] < 2:
        return None
    ratio = exact_ratio(thick.spacing_mm[0], settings.spacing_mm)
    if ratio is None:
        return None
    density = (
        ProfileDensity.box(relative_thickness(thick)) if measured is None else measured.density(thick.spacing_mm[0])
    )
    return ExactSpacing(ratio, factor, density, thick.shape[0])


def profile_width(profile: SliceProfile, thick: Geometry) -> float:
    """Slice thickness over slice distance: of a measured profile its own, else as in the header."""
    return profile.width if profile.name == "measured" else relative_thickness(thick)


def _noise(volume: Volume, profile: SliceProfile, exact: ExactSpacing | None) -> tuple[ScanNoise, OpenNoise]:
    """Noise of the thick slices, and what they leave open of it.

    Raises:
        InputError: it cannot be measured: too little even soft tissue; leave texture out.
    """
    depth = volume.geometry.shape[0]
    averages = Averages.of_profile(profile, depth) if exact is None else Averages.of_spacing(exact)
    noise = measure_noise(volume.hu, averages)
    return noise, open_noise(averages, noise.blur)


def _thin_bytes(geometry: Geometry, dtype: np.dtype[Any]) -> int:
    return int(np.prod(geometry.shape)) * dtype.itemsize


def _refuse_overlap(model: ThroughPlaneModel | Stored, name: str, thick: Geometry, profile: SliceProfile) -> None:
    """Refuse slices that overlap more than any that the network was trained on: its output would be no CT."""
    card: dict[str, Any] = getattr(model, "card", None) or {}
    widest = float(card.get("widest_slice", WIDEST_TRAINED))
    width = profile_width(profile, thick)
    if _has_weights(model) and width > widest + WIDTH_TOLERANCE:
        source = "the profile's file" if profile.name == "measured" else "the header"
        raise NotEligibleError(
            f"Slices are {width:.3g} times as thick as they are apart ({width * thick.spacing_mm[0]:.4g} mm at "
            f"{thick.spacing_mm[0]:.4g} mm), and {name} was trained up to {widest:g} times. Check the slice thickness "
            f"in {source}, or take {option('model', 'cubic-consistent')}."
        )


def _target_warning(settings: UpscaleSettings, thin: Geometry) -> list[str]:
    """A sentence when the wanted spacing is missed."""
    reached, wanted = thin.spacing_mm[0], settings.spacing_mm
    if settings.factor is not None or wanted is None or abs(reached - wanted) <= SPACING_TOLERANCE * wanted:
        return []
    return [
        f"Thin slices lie {reached:.4g} mm apart, not {wanted:.4g} mm: distances from half the thick one to an eighth "
        "of it can be met exactly."
    ]


def _refuse_short_memory(prepared: Prepared) -> None:
    available = available_memory_bytes()
    estimate = prepared.memory_estimate
    # On an accelerator the network works in the device's own memory.
    needed = estimate.additional_bytes - (estimate.working_bytes if prepared.choice.device != "cpu" else 0)
    if available is not None and needed > available:
        instead = (
            "stream it (upscale_slabs)" if estimate.thin_bytes else f"go on all the same with {option('force', True)}"
        )
        raise ResourceError(
            f"This run needs about {needed / 2**30:.1f} GiB of memory more than now, and {available / 2**30:.1f} "
            f"GiB are available; close other programs, crop the volume, or {instead}."
        )


def _batch(plan: WindowPlan, window: ModelWindow, device: str) -> int:
    depth, height, width = plan.largest
    # Beside the working memory: the window and its thin slices, twice, in float32.
    each = window.working_bytes + 4 + (8 + window.thin_bytes) * plan.factor
    return batch_size(device, each * depth * height * width)


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


def _warnings(
    volume: Volume,
    choice: Choice,
    settings: UpscaleSettings,
    calibration: Calibration | None,
    name: str,
) -> tuple[str, ...]:
    sentences: list[str | None] = [*choice.warnings]
    if settings.texture:
        sentences.append(TEXTURE_NOTICE)
    if settings.uncertainty is not None and calibration is not None:
        sentences.append(calibration_warning(settings.uncertainty, calibration, name=name))
    return tuple(sentence for sentence in sentences if sentence)
