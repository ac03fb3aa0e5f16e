"""The options of an upscaling run as one frozen value, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from thinslice.arguments import check_bool, check_path, check_text, check_whole, refuse
from thinslice.errors import UsageError
from thinslice.inference.backends.choice import check_backend_name, check_device_name
from thinslice.inference.threads import check_threads
from thinslice.options import option
from thinslice.planning import check_plan_name, check_target

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.stored import Stored
    from thinslice.recipes.slice_profile import MeasuredProfile

UncertaintySource = Literal["learned", "ensemble"]
"""Origin of a standard deviation: the network's own head, or the spread of its estimates over mirrored inputs."""

Intensity = Literal["auto", "hu", "unit"]
"""Unit of the voxels: HU, checked for plausibility; HU as stated by the user; [-1024, 2048] HU scaled to [0, 1]."""

USUAL_SPACING_MM = 1.0
"""Distance of thin slices that is aimed at where the user states none."""

MOST_SEEDS = 1 << 32
"""Seeds of the texture."""

INTENSITIES: tuple[Intensity, ...] = get_args(Intensity)

UNCERTAINTY_SOURCES: tuple[UncertaintySource, ...] = get_args(UncertaintySource)


@dataclass(frozen=True)
class UpscaleSettings:
    """Options of an upscaling run, from the command line or from a call.

    Attributes:
        model: a name of the catalog, a weights file, or a network that meets `thinslice.models.base`.
        factor: thin slices per thick interval, 2 to 8; not beside `spacing_mm`.
        spacing_mm: distance of thin slices, met exactly from half the thick distance to an eighth of it; None for the
            whole factor that comes nearest to 1 mm.
        plan: window plan, one of `thinslice.planning.PLANS`; None for the network's own.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". Only "auto" may fall back to the CPU.
        backend: one of `thinslice.inference.backends.choice.BACKENDS`; "auto" takes the fastest one that agrees with
            torch.
        threads: CPU threads; None for the cores this process may use, and no more than torch already has.
        uncertainty: source of standard deviations, "learned" or "ensemble"; None for a run without them.
        force: run although memory looks short.
        intensity: unit of the voxels. "auto" refuses values that are certainly no HU; "hu" takes them as HU with a
            warning; "unit" converts [0, 1] to [-1024, 2048] HU first.
        profile: a measured slice profile, or its file (`thinslice dataset profile`); None for a box of the slice
            thickness in the header.
        texture: add synthetic noise of the size and spectrum that the scan's own noise lets expect of thin slices.
        texture_seed: of that noise, 0 or more; the same seed gives the same noise.

    Raises:
        ArgumentTypeError: for a value of another type; the message describes what is taken.
        UsageError: for an unknown name or a number out of range; the message lists the valid ones. Also for a factor
            beside a spacing; give one of them.

    >>> UpscaleSettings(factor=5, device="cpu").backend
    'auto'
    >>> UpscaleSettings(device="gpu")
    Traceback (most recent call last):
    ...
    thinslice.errors.UsageError: There is no device named 'gpu'; choose auto, cpu, cuda, cuda:N or mps.
    """

    model: str | Path | ThroughPlaneModel | Stored = "default"
    factor: int | None = None
    spacing_mm: float | None = None
    plan: str | None = None
    device: str = "auto"
    backend: str = "auto"
    threads: int | None = None
    uncertainty: UncertaintySource | None = None
    force: bool = False
    intensity: str = "auto"
    profile: Path | MeasuredProfile | None = None
    texture: bool = False
    texture_seed: int = 0

    def __post_init__(self) -> None:
        self._check_types()
        if self.factor is not None and self.spacing_mm is not None:
            raise UsageError(
                f"{option('factor')} and {option('spacing_mm')} both set the distance of thin slices; give one of them."
            )
        check_target(self.factor, self.target_mm)
        if self.plan is not None:
            check_plan_name(self.plan)
        check_backend_name(self.backend)
        check_device_name(self.device)
        check_threads(self.threads)
        if self.intensity not in INTENSITIES:
            raise UsageError(f"There is no intensity {self.intensity!r}; choose {', '.join(INTENSITIES)}.")
        if self.uncertainty is not None and self.uncertainty not in UNCERTAINTY_SOURCES:
            raise UsageError(
                f"There is no standard deviation by {self.uncertainty!r}; choose {' or '.join(UNCERTAINTY_SOURCES)}."
            )

        if not 0 <= self.texture_seed < MOST_SEEDS:
            raise UsageError(f"The seed of the texture is a whole number from 0 to {MOST_SEEDS - 1}.")
        if self.texture_seed and not self.texture:
            raise UsageError(f"A seed goes with texture: add {option('texture', True)}, or leave the seed out.")
        if self.texture and self.uncertainty == "ensemble":
            raise UsageError(
                "Texture takes its size from the network's own uncertainty, not from the spread over mirrored inputs; "
                f"leave {option('uncertainty_by', 'ensemble')} out."
            )

    def _check_types(self) -> None:
        if not isinstance(self.model, (str, Path)) and not all(
            hasattr(self.model, name) for name in ("factors", "window", "parameters")
        ):
            refuse("model", self.model, "a name, a weights file, or a network that meets thinslice.models.base")
        if self.threads is not None:
            check_whole("threads", self.threads, "a whole number from 1 on, or None")
        for name, value in (("plan", self.plan), ("uncertainty", self.uncertainty)):
            if value is not None:
                check_text(name, value, "a name, or None")
        for name, value in (("device", self.device), ("backend", self.backend), ("intensity", self.intensity)):
            check_text(name, value, "a name")
        check_bool("force", self.force)
        check_bool("texture", self.texture)
        check_whole("texture_seed", self.texture_seed)
        check_bool("texture", self.texture)
        check_whole("texture_seed", self.texture_seed, "a whole number from 0 on")
        if self.profile is not None and not hasattr(self.profile, "on_grid"):
            check_path("profile", self.profile, "a file of 'thinslice dataset profile', its content, or None")

    @property
    def target_mm(self) -> float:
        """Distance that the whole factor aims at, where none is given."""
        return USUAL_SPACING_MM if self.spacing_mm is None else self.spacing_mm

    @property
    def channels(self) -> int:
        """Volumes that the network makes: 1, or 2 with standard deviations, which texture needs too."""
        return 1 if self.uncertainty is None and not self.texture else 2

    @property
    def may_fall_back(self) -> bool:
        """Whether the CPU may take over from another device."""
        return self.device == "auto"


def uncertainty_source(wanted: bool | str | None) -> UncertaintySource | None:
    """The source of standard deviations that a call asks for; True means the network's own head.

    Args:
        wanted: True, False, None, or one of `UNCERTAINTY_SOURCES`; `UpscaleSettings` refuses other names.

    >>> uncertainty_source(True), uncertainty_source(False), uncertainty_source("ensemble")
    ('learned', None, 'ensemble')
    """
    if wanted is None or isinstance(wanted, bool):
        return "learned" if wanted else None
    check_text("uncertainty", wanted, f"True, False, {' or '.join(UNCERTAINTY_SOURCES)}")
    return wanted  # type: ignore[return-value]
