"""What a batch keeps on the disk: a record beside the outputs for each series, and a summary of all."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from thinslice.about import NOTICE, __version__
from thinslice.errors import OutputExistsError

if TYPE_CHECKING:
    from thinslice.commands.batch_sources import Source
    from thinslice.inference.settings import UpscaleSettings
    from thinslice.io.settings import ReadSettings
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.stored import Stored

RECORDS = ".thinslice"
"""Folder of the records, in the output folder."""

SUMMARY_SCHEMA = "thinslice-batch/1"
RECORD_SCHEMA = "thinslice-batch-record/1"

Status = Literal["done", "skipped", "refused", "failed"]
State = Literal["absent", "done", "begun", "changed", "foreign"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class SeriesRow(_Frozen):
    """One series, or one part of a series, in the summary; nothing in it identifies a patient.

    Attributes:
        series_uid: UID of a DICOM series, as in `thinslice inspect`; None for other formats.
        source: place of a file below the input folder, with stand-ins for names that may be a patient's, as `thinslice
            inspect` lists it; None for a DICOM series.
        kind: "CT", "CT localizer", "NIfTI" and so on.
        slices: thick slices; None where the series was not read.
        status: "done"; "skipped" where there was nothing to do; "refused" where the input cannot be upscaled; "failed"
            for every other reason.
        reason: a sentence, for every status but "done".
        output: path of the output in the output folder; None without one.
        seconds: time spent.
        exit_code: of `thinslice upscale` for this series alone.
        factor, spacing_mm_in, spacing_mm_out, consistency_rms_hu, device, backend: as in the report of one run.
        warnings: sentences of the run.
    """

    series_uid: str | None = None
    source: str | None = None
    kind: str
    slices: int | None = None
    status: Status
    reason: str | None = None
    output: str | None = None
    seconds: float = Field(ge=0)
    exit_code: int
    factor: int | float | None = None
    spacing_mm_in: float | None = None
    spacing_mm_out: float | None = None
    consistency_rms_hu: float | None = None
    device: str | None = None
    backend: str | None = None
    warnings: tuple[str, ...] = ()

    def line(self) -> str:
        """The row as one line for the terminal."""
        if self.status != "done":
            return f"{self.status}: {self.reason}"
        consistency = "" if self.consistency_rms_hu is None else f", consistency {self.consistency_rms_hu:.2f} HU"
        warned = f"; warning: {' '.join(self.warnings)}" if self.warnings else ""
        return (
            f"done in {self.seconds:.1f} s, {self.spacing_mm_in:.4g} mm -> {self.spacing_mm_out:.4g} mm{consistency}, "
            f"{self.output}{warned}"
        )


class BatchSummary(_Frozen):
    """Summary of a batch, as `summary.json`.

    Attributes:
        schema_name: `schema` in JSON.
        thinslice_version: version of the software.
        notice: uses that are excluded.
        settings: options of the run.
        counts: number of series by status.
        seconds: of the whole run.
        unreadable: DICOM files that are damaged or may not be read, so that their series is not known.
        interrupted: whether the run ended early, so that further series are missing here.
        exit_code: 0 done; 8 something was refused or failed; 3 nothing could be done.
        series: the rows.
    """

    schema_name: str = Field(default=SUMMARY_SCHEMA, alias="schema")
    thinslice_version: str = __version__
    notice: str = NOTICE
    settings: dict[str, JsonValue]
    counts: dict[Status, int]
    seconds: float = Field(ge=0)
    unreadable: int = 0
    interrupted: bool = False
    exit_code: int
    series: tuple[SeriesRow, ...]

    @classmethod
    def of(
        cls,
        rows: Iterable[SeriesRow],
        settings: dict[str, JsonValue],
        *,
        seconds: float,
        unreadable: int = 0,
        interrupted: bool = False,
    ) -> BatchSummary:
        """The summary of rows."""
        rows = tuple(rows)
        found = Counter(row.status for row in rows)
        counts: dict[Status, int] = {
            "done": found["done"],
            "skipped": found["skipped"],
            "refused": found["refused"],
            "failed": found["failed"],
        }
        complete = any(row.output is not None for row in rows if row.status in ("done", "skipped"))
        bad = counts["refused"] + counts["failed"] + unreadable > 0
        return cls(
            settings=settings,
            counts=counts,
            seconds=round(seconds, 3),
            unreadable=unreadable,
            interrupted=interrupted,
            exit_code=3 if not complete else 8 if bad else 0,
            series=rows,
        )

    def line(self) -> str:
        """The counts in words."""
        return ", ".join(f"{count} {status}" for status, count in self.counts.items())


def write_summary(summary: BatchSummary, out: Path) -> None:
    """Write `summary.json` and `summary.csv`, replacing those of an earlier batch.

    The JSON is the truth: the table of the run before is taken away before it, so a kill never leaves a table beside
    the JSON of another run.

    Raises:
        OutputExistsError: files of these names that no batch made; move them away.
        OutputError, ResourceError: as `thinslice.system.atomic.atomic_file`.
    """
    from thinslice.system.atomic import atomic_file

    refuse_foreign_summary(out)
    table = out / "summary.csv"
    with atomic_file(table, overwrite=True) as partial_table:
        with partial_table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(SeriesRow.model_fields))
            writer.writeheader()
            for row in summary.series:
                values = row.model_dump(mode="json")
                writer.writerow({**values, "warnings": " ".join(row.warnings)})
        with atomic_file(out / "summary.json", overwrite=True) as partial:
            values = summary.model_dump(mode="json", by_alias=True)
            partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            table.unlink(missing_ok=True)


def refuse_foreign_summary(out: Path) -> None:
    """Refuse to replace a summary that no batch made.

    Raises:
        OutputExistsError: move the file away, or choose another output folder.
    """
    for name in ("summary.json", "summary.csv"):
        place = out / name
        if place.exists() and not (out / RECORDS).is_dir():
            raise OutputExistsError(f"{name!r} is there, and no batch made it; choose another output folder.")


class _RecordFile(_Frozen):
    schema_name: str = Field(default=RECORD_SCHEMA, alias="schema")
    state: Literal["begun", "done"]
    settings: dict[str, JsonValue]
    source: str
    output: str | None = None
    row: SeriesRow | None = None


class Record:
    """What is known of one output from earlier runs.

    Args:
        place: the record's file; it need not exist.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._known: _RecordFile | None = None
        try:
            self._known = _RecordFile.model_validate_json(place.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError):
            self._known = None

    @classmethod
    def of(cls, out: Path, source: Source) -> Record:
        """The record of a source's output."""
        key = hashlib.sha256(source.output.as_posix().encode()).hexdigest()[:20]
        return cls(out / RECORDS / f"{key}.json")

    def state(self, output: Path, settings: dict[str, JsonValue], source: str) -> State:
        """What the disk holds of an output.

        Args:
            output: the file or folder.
            settings: of this run, as `fingerprint`.
            source: digest of the source's files.

        Returns:
            "absent": nothing, or an output that was removed; "done": whole, and with these settings from these files;
            "begun": a run that was killed has left it, or it was changed since; "changed": whole, with other settings
            or from other files; "foreign": no batch made it.
        """
        if not output.exists() or (output.is_dir() and not any(output.iterdir())):
            return "absent"
        known = self._known
        if known is None:
            return "foreign"
        if known.state == "begun" or known.output != content_digest(output):
            return "begun"
        return "done" if (known.settings, known.source) == (settings, source) else "changed"

    def begin(self, settings: dict[str, JsonValue], source: str) -> None:
        """Note that this output is being made, so that one without an end is known as ours."""
        self._write(_RecordFile(state="begun", settings=settings, source=source))

    def finish(self, output: Path, row: SeriesRow) -> None:
        """Note that the output is whole."""
        known = self._known
        if known is not None:
            update = {"state": "done", "output": content_digest(output), "row": row}
            self._write(known.model_copy(update=update))

    def row_again(self, row: SeriesRow) -> SeriesRow:
        """The row of the run that made the output, as skipped."""
        earlier = row if self._known is None or self._known.row is None else self._known.row
        return earlier.model_copy(update={"status": "skipped", "reason": "done by an earlier run", "seconds": 0.0})

    def _write(self, content: _RecordFile) -> None:
        from thinslice.system.atomic import atomic_file

        with atomic_file(self._place, overwrite=True) as partial:
            partial.write_text(content.model_dump_json(by_alias=True) + "\n", encoding="utf-8")
        self._known = content


def content_digest(output: Path) -> str:
    """Digest of the names and sizes of an output's files: it differs from that of an output that was cut or damaged."""
    files = sorted(output.rglob("*")) if output.is_dir() else [output]
    entries = [[file.relative_to(output.parent).as_posix(), file.stat().st_size] for file in files if file.is_file()]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def fingerprint(
    settings: UpscaleSettings, reading: ReadSettings, output_format: str | None, model: ThroughPlaneModel | Stored
) -> dict[str, JsonValue]:
    """Settings that change the voxels or the files; two runs with equal ones make the same outputs.

    Device, backend and threads are not among them: they agree within rounding, and a batch may continue elsewhere.
    """
    from thinslice.system.files import sha256_of

    profile: Any = settings.profile
    return {
        "thinslice_version": __version__,
        "model": Path(settings.model).name if isinstance(settings.model, (str, Path)) else type(model).__name__,
        "weights_sha256": getattr(model, "sha256", None),
        "factor": settings.factor,
        "spacing_mm": settings.spacing_mm,
        "plan": settings.plan,
        "intensity": settings.intensity,
        "profile": sha256_of(profile) if isinstance(profile, Path) else None if profile is None else repr(profile),
        **({"texture_seed": settings.texture_seed} if settings.texture else {}),
        "axis": reading.axis,
        "on_tilt": reading.on_tilt,
        "on_spacing": reading.on_spacing,
        "format": output_format,
    }
