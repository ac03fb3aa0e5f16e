"""Every eligible CT series below a folder, upscaled one after the other, and a summary of all."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thinslice.commands.batch_records import (
    RECORDS,
    BatchSummary,
    SeriesRow,
    Status,
    fingerprint,
    refuse_foreign_summary,
    write_summary,
)
from thinslice.commands.batch_sources import Source, find_sources
from thinslice.commands.one_of_many import HowToUpscale, load_once, make_folder, upscale_one
from thinslice.commands.outputs import check_distinct, check_place, check_sources
from thinslice.commands.upscale import Read
from thinslice.errors import (
    InputError,
    NotEligibleError,
    OutputBusyError,
    ThinsliceError,
    UnreadableError,
    UsageError,
)
from thinslice.io.settings import ReadSettings
from thinslice.options import option
from thinslice.system.faults import machine_fault
from thinslice.typing import Notify, PhaseProgress

if TYPE_CHECKING:
    from thinslice.inference.settings import UpscaleSettings
    from thinslice.volume import Volume

SUMMARY_EVERY_S = 30.0
"""Longest time for which the summary on the disk is behind; it is also written at the end and when interrupted."""

EXIT_INTERNAL = 1

Begins = Callable[[int, int, float | None], None]
"""Called before each series with its number, their total, and the seconds that are left, None where unknown."""


@dataclass(frozen=True)
class BatchJob:
    """A folder of studies, and options for all of them.

    Attributes:
        folder: searched with its subfolders and archives.
        out: folder of the outputs; made if absent, kept from run to run.
        settings: options of every run; the model is loaded once.
        reading: options of reading; it names no series.
        output_format: "dicom", "dicom-enhanced" or "nifti"; None for the format of each source.
        deidentify: as in `UpscaleJob`.
        overwrite: replace outputs that an earlier run made with other settings, or from a source that has changed.
    """

    folder: Path
    out: Path
    settings: UpscaleSettings
    reading: ReadSettings = field(default_factory=ReadSettings)
    output_format: str | None = None
    overwrite: bool = False
    deidentify: bool = False


def run_batch(
    job: BatchJob,
    *,
    notify: Notify | None = None,
    begins: Begins | None = None,
    phase: PhaseProgress | None = None,
    finished: Notify | None = None,
) -> BatchSummary:
    """Upscale every eligible CT series of a folder.

    Series come one after the other in one process, with one model. A failure ends its series alone. A series that an
    earlier run did with the same settings from the same files is skipped. Each output appears whole or not at all,
    and a run that was killed is continued by the next one.

    Args:
        job: folders and options.
        notify: called with plain lines about the work.
        begins: called before each series.
        phase: called within a series as `run_upscale` does.

        finished: called with the status of each series that ends.

    Returns:
        The summary, which is also in `summary.json` and `summary.csv` of the output folder unless nothing was found.
        Its `exit_code` is 0, 8 where something failed, or 3 where nothing could be done.

    Raises:
        UsageError: options that concern one series alone.
        UnreadableError: the folder is missing, or may not be read.
        OutputError: the output folder cannot be written, or another run is at work there.
        ModelError: the network or its weights.
        KeyboardInterrupt: after the summary so far was written.
    """
    from thinslice.system.atomic import sole_run

    _check(job)
    refuse_foreign_summary(job.out)
    is_new = not job.out.exists()
    make_folder(job.out / RECORDS)
    try:
        with sole_run(job.out / RECORDS / "batch"):
            summary = _Batch(job, notify or (lambda line: None), begins, phase, finished).run()
    except OutputBusyError:
        raise OutputBusyError(
            f"Another batch is writing into {str(job.out)!r}; wait for it to end, or choose another output."
        ) from None
    if is_new and not summary.series and not summary.unreadable:
        # Nothing was found, so nothing was written: no folder stays that looks like a result.
        with suppress(OSError):
            (job.out / RECORDS).rmdir()
            job.out.rmdir()
    return summary


class _Batch:
    """One run over a folder: the rows so far, and the model that all series share."""

    def __init__(
        self,
        job: BatchJob,
        notify: Notify,
        begins: Begins | None,
        phase: PhaseProgress | None,
        finished: Notify | None,
    ) -> None:
        self.job = job
        self.notify = notify
        self.begins = begins
        self.phase = phase
        self.finished = finished
        self.rows: list[SeriesRow] = []
        self.unreadable = 0
        self.begun_s = time.perf_counter()
        self.written_s = self.begun_s
        model = load_once(job.settings)
        self.settings = fingerprint(job.settings, job.reading, job.output_format, model)
        if job.deidentify:
            self.settings["deidentify"] = True
        self.how = HowToUpscale(job.out, job.settings, job.reading, self.settings, model, job.overwrite, job.deidentify)

    def run(self) -> BatchSummary:
        """All series, then the summary."""
        self.notify(f"searching {self.job.folder} for CT series")
        found = find_sources(self.job.folder, self.job.out, output_format=self.job.output_format)
        sources, self.unreadable = found.sources, found.unreadable
        total = sum(source.is_candidate for source in sources)
        self.notify(f"{total} series or files that may be CT volumes")
        if not sources and not self.unreadable:
            return self._summary()
        if self.unreadable:
            self.notify(f"warning: {self.unreadable} damaged or closed file(s) belong to no known series")
        work, done_work, done_s, number = sum(source.weight for source in sources), 0, 0.0, 0
        try:
            for source in sources:
                number += source.is_candidate
                left_s = done_s / done_work * (work - done_work) if done_work else None
                if source.is_candidate and self.begins is not None:
                    self.begins(number, total, left_s)
                rows = self._rows_of(source)
                self.rows += rows
                if any(row.status == "done" for row in rows):
                    done_s += sum(row.seconds for row in rows)
                    done_work += source.weight
                else:
                    work -= source.weight
                for row in rows:
                    self.notify(f"{source.shown}: {row.line()}")
                    if self.finished is not None:
                        self.finished(row.status)
                if time.perf_counter() - self.written_s > SUMMARY_EVERY_S:
                    self._write()
                gc.collect()
        except BaseException:
            self._write(interrupted=True)
            raise
        return self._write()

    def _summary(self, *, interrupted: bool = False) -> BatchSummary:
        seconds = time.perf_counter() - self.begun_s
        return BatchSummary.of(
            self.rows, self.settings, seconds=seconds, unreadable=self.unreadable, interrupted=interrupted
        )

    def _write(self, *, interrupted: bool = False) -> BatchSummary:
        summary = self._summary(interrupted=interrupted)
        write_summary(summary, self.job.out)
        self.written_s = time.perf_counter()
        return summary

    def _rows_of(self, source: Source) -> list[SeriesRow]:
        """The rows of one series, one for each part of it that may be a volume of its own."""
        blank = _blank(source)
        if source.left_out:
            return [blank.model_copy(update={"reason": source.left_out})]
        if source.fault:
            return [_failed(blank, source, UnreadableError(source.fault), 0.0)]
        begun = time.perf_counter()
        try:
            parts = _parts(source, self.job)
        except Exception as error:
            return [_failed(blank, source, error, time.perf_counter() - begun)]
        rows = []
        for part, row, read in parts:
            begun = time.perf_counter()
            row = row.model_copy(update={"output": part.output.as_posix()})
            if row.reason is not None:
                rows.append(row.model_copy(update={"output": None}))
                continue
            try:
                rows.append(self._upscaled(part, row, read))
            except KeyboardInterrupt:
                self.rows += rows
                raise
            except Exception as error:
                rows.append(_failed(row, source, error, time.perf_counter() - begun))
        return rows

    def _upscaled(self, part: Source, row: SeriesRow, read: Read | None) -> SeriesRow:
        """The row of a series that is upscaled, or that an earlier run has upscaled."""
        return upscale_one(part, row, self.how, phase=self.phase, read=read)


def _check(job: BatchJob) -> None:
    if job.reading.series is not None:
        raise UsageError(f"{option('series')} names one series and --all takes every one; give one of them.")
    if job.settings.uncertainty is not None:
        raise UsageError(
            f"{option('uncertainty')} writes one file, and --all makes many outputs; upscale such series one by one."
        )
    check_distinct([job.out], [])
    check_sources([job.folder])
    if not job.folder.is_dir():
        raise UsageError(f"--all takes a folder, and {str(job.folder)!r} is a file; leave --all out for one series.")
    if job.out.is_file():
        raise UsageError(f"--all writes many outputs into a folder, and {str(job.out)!r} is a file; name a folder.")
    if job.out.resolve() == job.folder.resolve() or job.out.resolve() in job.folder.resolve().parents:
        raise UsageError(f"{str(job.out)!r} holds the input; choose another output folder.")
    if not job.out.exists():
        check_place(job.out, folder=True)


def _blank(source: Source) -> SeriesRow:
    return SeriesRow(
        series_uid=source.series_uid,
        source=source.place,
        kind=source.kind,
        status="skipped",
        seconds=0.0,
        exit_code=0,
    )


def _parts(source: Source, job: BatchJob) -> list[tuple[Source, SeriesRow, Read | None]]:
    """Volumes that a source holds, each with its row and, for DICOM, what reads it from headers that are in memory.

    The row has a reason where there is nothing to do.
    """
    blank = _blank(source)
    if source.series_uid is None:
        return [(source, blank, None)]
    from thinslice.planning import eligibility

    opened = source.opened(job.folder)

    def read(settings: ReadSettings) -> Volume:
        return opened.read(settings.series, settings)

    reports = [report for report in opened.reports() if report.series_uid.split("#")[0] == source.series_uid]
    found: list[tuple[Source, SeriesRow, Read | None]] = []
    for report in reports:
        part = source.part(report.series_uid)
        row = blank.model_copy(
            update={"series_uid": report.series_uid, "kind": report.kind, "slices": report.slices or None}
        )
        if not report.kind.endswith("CT"):
            row = row.model_copy(update={"reason": f"not a CT volume ({report.kind})"})
        elif report.geometry is not None and not report.reasons:
            verdict = eligibility(report.geometry, factor=job.settings.factor, spacing_mm=job.settings.target_mm)
            if report.slices == 1:
                row = row.model_copy(update={"reason": "one slice, between which there is nothing to fill"})
            elif _is_thin(" ".join(verdict.reasons)):
                row = row.model_copy(update={"reason": " ".join(verdict.reasons)})
        found.append((part, row, read))
    return found


def _failed(row: SeriesRow, source: Source, error: BaseException, seconds: float) -> SeriesRow:
    """The row of a series that could not be upscaled; its reason names no file of the source."""
    status: Status = "refused" if isinstance(error, InputError) else "failed"
    if isinstance(error, ThinsliceError):
        code, reason = error.exit_code, str(error)
    elif (world := machine_fault(error)) is not None:
        code, reason = world.exit_code, str(world)
    else:
        code = EXIT_INTERNAL
        reason = f"internal error ({type(error).__name__}); please report it with the output of thinslice inspect."
    if isinstance(error, NotEligibleError) and _is_thin(reason):
        status, code = "skipped", 0
    return row.model_copy(
        update={
            "status": status,
            "reason": source.without_names(reason),
            "seconds": round(seconds, 3),
            "exit_code": code,
            "output": None,
        }
    )


def _is_thin(reason: str) -> bool:
    return "already thin" in reason
