"""What becomes of one series of a plan: fetched, read, upscaled, put where results are; no queue and no catalogue.

A worker of this machine (`worker.py`) and one of a cluster (`cluster/`) both work so.
"""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.archive.plan import sample_of
from thinslice.archive.plan_file import PlanFile, settings_of
from thinslice.archive.rates import MIB
from thinslice.archive.storage.results import FolderResults, StoreResults, results_of
from thinslice.archive.storage.scratch import Scratch, fetch
from thinslice.archive.storage.store import ObjectStore
from thinslice.archive.storage.task import SeriesTask
from thinslice.commands.batch_records import SeriesRow, fingerprint
from thinslice.commands.batch_sources import Source
from thinslice.commands.one_of_many import HowToUpscale, load_once, upscale_one
from thinslice.errors import ResourceError, ThinsliceError, UnreadableError
from thinslice.system.faults import machine_fault

if TYPE_CHECKING:
    from thinslice.commands.run_report import RunReport
    from thinslice.commands.upscale import Read
    from thinslice.typing import PhaseProgress
    from thinslice.volume import Volume

KEPT_FREE_MIB = 1024.0
"""Space that stays free on the disk of the outputs."""


class DiskShortError(BaseException):
    """The disk has no room for the next series: the work stops, and the job goes back to the queue."""


@dataclass
class InHand:
    """A series that is being worked on, and what was read for it.

    Attributes:
        task: the series.
        source: its files on this machine.
        volume: what was read, and the seconds that this took; None where it was not read yet.
        error: of reading, to be raised in its turn.
        reading: begin and end of reading, seconds since 1970.
        scratch: folder for its files and for its result; None where none is needed.
    """

    task: SeriesTask
    source: Source | None = None
    volume: tuple[Volume, float] | None = None
    error: Exception | None = None
    reading: tuple[float, float] | None = None
    scratch: Path | None = None
    _held: ExitStack = field(default_factory=ExitStack)

    def give_up(self) -> None:
        """Free memory and scratch."""
        self.volume = None
        self._held.close()


class SeriesWork:
    """Upscales series of a plan, one after the other, and reads the next one meanwhile where it is asked to.

    Args:
        plan: settings and places.
        scratch: for files of stores.
        device: where networks run; as the plan has it unless set.
        threads: CPU threads of a run; None for all cores.
        kept_free_mib: space that stays free on the disk of the outputs.
    """

    def __init__(
        self,
        plan: PlanFile,
        scratch: Scratch,
        *,
        device: str | None = None,
        threads: int | None = None,
        kept_free_mib: float = KEPT_FREE_MIB,
    ) -> None:
        self.plan = plan
        self.results: FolderResults | StoreResults = results_of(plan)
        self._scratch, self._device, self._threads = scratch, device or plan.device, threads
        self._kept_free_mib = kept_free_mib
        self._how: dict[str, HowToUpscale] = {}
        self._stores: dict[str, ObjectStore] = {}
        self._loading = threading.Lock()

    def read(self, hand: InHand) -> None:
        """Read a series, unless it was made already; an error is kept for its turn."""
        from thinslice.io.files import read_as

        begun, clock = time.time(), time.perf_counter()
        try:
            source = self._source(hand)
            how = self._how_of(hand.task)
            if self.results.is_there(source):
                return  # an earlier attempt may have made it: the record decides
            paths = source.paths if len(source.paths) > 1 else source.paths[0]
            volume = read_as(paths, source.reading(how.reading))
            hand.volume = (volume, time.perf_counter() - clock)
        except Exception as error:
            hand.error = error
        hand.reading = (begun, time.time())

    def result(self, hand: InHand, progress: PhaseProgress) -> dict[str, Any]:
        """Upscale a series; returns what its row in reports needs.

        Args:
            hand: the series.
            progress: called often; what it raises ends the work.

        Raises:
            DiskShortError: there is no room for it.
            ThinsliceError: it cannot be made; the message names no file.
        """
        task, times = hand.task, dict[str, float]()
        reports: list[RunReport] = []

        def phase(name: str, share: float) -> None:
            times.setdefault(name, time.time())
            progress(name, share)

        begun = time.time()
        try:
            self.results.prepare()
            if self._is_disk_short(task):
                raise DiskShortError
            if hand.error is not None:
                raise hand.error
            how = self._how_of(task)
            source = self._source(hand)
            row = SeriesRow(series_uid=source.series, kind="CT", status="skipped", seconds=0.0, exit_code=0)
            row = row.model_copy(update={"output": source.output.as_posix()})

            def upscale(how: HowToUpscale) -> SeriesRow:
                made = upscale_one(
                    source,
                    row,
                    how,
                    phase=phase,
                    read=None if hand.volume is None else _given(hand.volume[0]),
                    read_before_s=0.0 if hand.volume is None else hand.volume[1],
                    reported=reports.append,
                )
                times["made"] = time.time()
                return made

            done = self.results.make(source, how, hand.scratch, upscale)
        except Exception as error:
            self._raise_neutral(hand, error)
        values: dict[str, Any] = {
            **done.model_dump(mode="json"),
            "times": {"begun": begun, "ended": time.time(), **times},
        }
        if hand.reading is not None:
            values["times"]["reading_begun"], values["times"]["reading_ended"] = hand.reading
        if reports:
            values["sample"] = sample_of(task.spec, reports[0]).model_dump(mode="json")
        return values

    def _raise_neutral(self, hand: InHand, error: Exception) -> None:
        """Raise an error again without the names of files; stop the work where the disk is full."""
        known = error if isinstance(error, ThinsliceError) else machine_fault(error)
        if isinstance(known, ResourceError) and self._is_disk_short(hand.task):
            raise DiskShortError from error
        if known is None:
            raise error
        text = str(known)
        for source in (hand.source, hand.task.source()):
            text = text if source is None else source.without_names(text)
        raise type(known)(text) from error

    def _source(self, hand: InHand) -> Source:
        """The files of a series on this machine.

        Raises:
            UnreadableError: they have changed since the scan.
        """
        task = hand.task
        if not task.stamps:
            raise UnreadableError("The series is no longer in the catalogue; plan again.")
        if hand.source is None:
            if task.is_stored or not self.results.is_local:
                needed_mib = (task.read_bytes / MIB if task.is_stored else 0.0) + float(task.spec["disk_mib"])
                hand.scratch = hand._held.enter_context(self._scratch.folder(needed_mib))
            paths: list[Path] | None = None
            if task.is_stored and hand.scratch is not None:
                (hand.scratch / "in").mkdir()
                paths = fetch(self._store_of(task.root), task, hand.scratch / "in")
            hand.source = task.source(paths)
        if not task.is_stored:
            _require_unchanged(hand.source)
        return hand.source

    def _store_of(self, url: str) -> ObjectStore:
        if url not in self._stores:
            self._stores[url] = ObjectStore(url)
        return self._stores[url]

    def _how_of(self, task: SeriesTask) -> HowToUpscale:
        """Settings and network of the task's rule; a network is loaded once."""
        with self._loading:
            return self._how_by(task.spec["rule"])

    def _how_by(self, name: str) -> HowToUpscale:
        if name not in self._how:
            plan, rule = self.plan, self.plan.rule(name)
            settings, reading = settings_of(rule.run, device=self._device, backend=plan.backend, threads=self._threads)
            same = [how for how in self._how.values() if how.settings.model == settings.model]
            model = same[0].model if same else load_once(settings)
            settings_print = fingerprint(settings, reading, rule.run.format, model)
            if rule.run.deidentify:
                settings_print["deidentify"] = True
            self._how[name] = HowToUpscale(
                Path(), settings, reading, settings_print, model, plan.overwrite, rule.run.deidentify
            )
        return self._how[name]

    def _is_disk_short(self, task: SeriesTask) -> bool:
        """Whether the disk lacks room for a result: that of the outputs, or of the scratch where they are sent."""
        out = self.results.out if isinstance(self.results, FolderResults) else self._scratch.root
        try:
            free = shutil.disk_usage(out).free
        except OSError:
            return False
        return free / MIB < float(task.spec["disk_mib"]) + self._kept_free_mib


def _require_unchanged(source: Source) -> None:
    for path, (_, size, changed_ns) in zip(source.paths, source.stamps, strict=True):
        try:
            status = path.stat()
        except OSError:
            raise UnreadableError("A file of the series is gone or closed to you; scan and plan again.") from None
        if (status.st_size, status.st_mtime_ns) != (size, changed_ns):
            raise UnreadableError("A file of the series has changed since the scan; scan and plan again.")


def _given(volume: Volume) -> Read:
    return lambda settings: volume
