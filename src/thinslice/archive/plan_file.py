"""The plan of an archive on the disk: rules, places and the estimate, as frozen, checked values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from thinslice.about import NOTICE, __version__
from thinslice.archive.place import ArchivePlace, private_file
from thinslice.archive.rates import Rates
from thinslice.errors import OutputError, UsageError
from thinslice.recipes.checked import Checked
from thinslice.recipes.series_rules import RunOptions, SeriesRule
from thinslice.system.atomic import atomic_file

if TYPE_CHECKING:
    from thinslice.inference.settings import UpscaleSettings
    from thinslice.io.settings import ReadSettings

SCHEMA = "thinslice-archive-plan/1"

KIND = "archive"
"""Kind of the jobs of a plan in the queue."""


class Estimate(Checked):
    """What a plan will take.

    Attributes:
        series: series to be made.
        read_mib: bytes of their files, in MiB.
        thin_mvoxels: voxels of the thin series, in millions.
        disk_mib: of the thin series, uncompressed.
        rates: what times and memory come from; None where nothing was measured.
        seconds: of all series in one process; None without rates.
        memory_mib: highest memory of one process; None without rates.
        largest_thick_mvoxels: voxels of the largest thick series, in millions.
    """

    series: int = Field(ge=0)
    read_mib: float = Field(ge=0)
    thin_mvoxels: float = Field(ge=0)
    disk_mib: float = Field(ge=0)
    rates: Rates | None = None
    seconds: float | None = None
    memory_mib: float | None = None
    largest_thick_mvoxels: float = 0.0


class PlanFile(Checked):
    """A plan.

    Attributes:
        schema_name: kind and version of this file.
        thinslice_version: of the software that made it.
        notice: uses that are excluded.
        out: folder or URL of the outputs.
        rules: as given, in their order.
        overwrite: replace outputs that an earlier run made otherwise.
        device: where networks run.
        backend: library that runs them.
        chosen: series by rule.
        left_out: series by reason why the plan leaves them out.
        estimate: what it will take.
        retry_first_s: time before the second attempt of a job that failed.
    """

    schema_name: str = SCHEMA
    thinslice_version: str = __version__
    notice: str = NOTICE
    out: str
    rules: tuple[SeriesRule, ...]
    overwrite: bool = False
    device: str = "auto"
    backend: str = "auto"
    chosen: dict[str, int] = Field(default_factory=dict)
    left_out: dict[str, int] = Field(default_factory=dict)
    estimate: Estimate | None = None
    retry_first_s: float = Field(default=5.0, ge=0)

    def rule(self, name: str) -> SeriesRule:
        """The rule of a name.

        Raises:
            UsageError: there is none; plan again.
        """
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise UsageError("The plan was changed while it was worked on; run 'thinslice archive plan' again.")


def write_plan(place: ArchivePlace, plan: PlanFile) -> None:
    """Write the plan, readable by its owner alone."""
    with atomic_file(place.plan, overwrite=True) as partial:
        private_file(partial)
        values = plan.model_dump(mode="json", by_alias=True)
        partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_plan(place: ArchivePlace) -> PlanFile:
    """The plan of an index.

    Raises:
        UsageError: there is none; make one.
        OutputError: it is damaged, or of another version; make it again.
    """
    try:
        return PlanFile.model_validate_json(place.plan.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError("There is no plan yet; run 'thinslice archive plan OUT' first.") from None
    except ValidationError:
        raise OutputError("The plan is damaged, or of another version; run 'thinslice archive plan' again.") from None


def settings_of(
    options: RunOptions, *, device: str = "auto", backend: str = "auto", threads: int | None = None
) -> tuple[UpscaleSettings, ReadSettings]:
    """Settings of a run for the options of a rule.

    Raises:
        UsageError: an unknown name, or options that contradict each other.
    """
    from thinslice.inference.settings import UpscaleSettings
    from thinslice.io.settings import ReadSettings

    settings = UpscaleSettings(
        model=options.model,
        factor=options.factor,
        spacing_mm=options.spacing_mm,
        plan=options.plan,
        device=device,
        backend=backend,
        threads=threads,
        intensity=options.intensity,
        texture=options.texture,
        texture_seed=options.texture_seed,
    )
    return settings, ReadSettings(on_tilt=options.on_tilt, on_spacing=options.on_spacing)


def plan_values(plan: PlanFile) -> dict[str, Any]:
    """The plan as JSON values, without places, which may name people."""
    return plan.model_dump(mode="json", by_alias=True, exclude={"out"})
