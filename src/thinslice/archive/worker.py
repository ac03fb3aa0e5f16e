"""A worker of a plan: reads the next series while the network is at work on this one; any number of them may join.

As a program, `python -m thinslice.archive.worker INDEX NAME THREADS KEPT_FREE_MIB`, it is one process of a pool: its
standard input is a pipe that the driver holds, and the pipe's end is its end too.
"""

from __future__ import annotations

import gc
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.archive.catalogue import Catalogue
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan import sample_of, source_of
from thinslice.archive.plan_file import KIND, PlanFile, out_folder, read_plan, settings_of
from thinslice.archive.rates import MIB
from thinslice.commands.batch_records import SeriesRow, fingerprint
from thinslice.commands.batch_sources import Source
from thinslice.commands.one_of_many import HowToUpscale, load_once, make_folder, upscale_one
from thinslice.errors import ResourceError, ThinsliceError, UnreadableError
from thinslice.queue import Job, Lease, Queue, RetryPolicy, attempt
from thinslice.queue.lease import LEASE_S
from thinslice.system.atomic import sole_run
from thinslice.system.child_process import end_overdue, end_with_parent, exit_code_of
from thinslice.system.faults import machine_fault

if TYPE_CHECKING:
    from thinslice.commands.run_report import RunReport
    from thinslice.commands.upscale import Read
    from thinslice.volume import Volume

POLL_S = 0.25
"""Time between two looks at a queue in which nothing is due yet."""

LIMIT_S = 6 * 3600.0
"""Longest time of one series; a process that hangs is ended then."""

KEPT_FREE_MIB = 1024.0
"""Space that stays free on the disk of the outputs."""


class DiskShortError(BaseException):
    """The disk has no room for the next series: the work stops, and the job goes back to the queue."""


@dataclass
class InHand:
    """A job that was claimed, and what was read for it.

    Attributes:
        job: as claimed.
        source: its files.
        volume: what was read, and the seconds that this took; None where it was not read yet.
        error: of reading, to be raised in its turn.
        reading: begin and end of reading, seconds since 1970.
    """

    job: Job
    source: Source | None = None
    volume: tuple[Volume, float] | None = None
    error: Exception | None = None
    reading: tuple[float, float] | None = None


class ArchiveWorker:
    """Works on the plan of an index.

    Args:
        place: the index.
        name: the worker's place in the queue; the caller makes sure that one process at a time has it.
        threads: CPU threads of a run; None for all cores.
        ahead: whether the next series is read while the network is at work on this one.
        kept_free_mib: space that stays free on the disk of the outputs.
    """

    def __init__(
        self,
        place: ArchivePlace,
        name: str,
        *,
        threads: int | None = None,
        ahead: bool = True,
        kept_free_mib: float = KEPT_FREE_MIB,
    ) -> None:
        self.plan: PlanFile = read_plan(place)
        self.name = name
        self._place, self._threads, self._ahead, self._kept_free_mib = place, threads, ahead, kept_free_mib
        self._how: dict[str, HowToUpscale] = {}
        self._loading = threading.Lock()
        self.done = 0

    def run(self, stop: threading.Event) -> None:
        """Work until nothing is queued, or `stop` is set.

        Raises:
            DiskShortError: the disk of the outputs is nearly full; what was in hand went back to the queue.
            KeyboardInterrupt: after the jobs in hand were given back.
        """
        policy = RetryPolicy(first_wait_s=self.plan.retry_first_s)
        with Queue(self._place.queue, policy=policy) as queue:
            queue.recover(self.name)
            following: _Ahead | None = None
            try:
                while not stop.is_set():
                    hand = None if following is None else following.take()
                    following = None
                    hand = hand or self.claim(queue)
                    if hand is None:
                        if queue.next_due_s(KIND) is None:
                            break
                        stop.wait(POLL_S)
                        continue
                    # A job that has failed before may end this process: nothing else is in hand then.
                    if self._ahead and not hand.job.failures and not hand.job.losses:
                        following = _Ahead(self, queue)
                    self._do(queue, hand)
            finally:
                if following is not None:
                    following.give_back()

    def claim(self, queue: Queue, *, untried: bool = False) -> InHand | None:
        """Take a job; None where nothing is due."""
        job = queue.claim(self.name, (KIND,), lease_s=LEASE_S, untried=untried)
        return None if job is None else InHand(job)

    def read(self, hand: InHand) -> None:
        """Read the series of a job, unless it was made already; an error is kept for its turn."""
        from thinslice.io.files import read_as

        begun, clock = time.time(), time.perf_counter()
        try:
            source = self._source(hand)
            how = self._how_of(hand.job)
            if (how.out / source.output).exists():
                return  # an earlier attempt may have made it: the record decides
            paths = source.paths if len(source.paths) > 1 else source.paths[0]
            volume = read_as(paths, source.reading(how.reading))
            hand.volume = (volume, time.perf_counter() - clock)
        except Exception as error:
            hand.error = error
        hand.reading = (begun, time.time())

    def _do(self, queue: Queue, hand: InHand) -> None:
        lease = Lease(queue, hand.job, lease_s=LEASE_S, limit_s=LIMIT_S, overdue=end_overdue)
        try:
            attempt(queue, hand.job, lambda job, held: self._result(hand, held), lease)
        finally:
            hand.volume = None
            gc.collect()
        self.done += 1

    def _result(self, hand: InHand, lease: Lease) -> Mapping[str, Any]:
        """Upscale the series of a job; returns what its row in reports needs."""
        job, times = hand.job, dict[str, float]()
        how = self._how_of(job)
        source = self._source(hand)
        self._require_disk(how.out, job)
        reports: list[RunReport] = []

        def phase(name: str, share: float) -> None:
            times.setdefault(name, time.time())
            lease.phase(name, share)

        row = SeriesRow(series_uid=source.series, kind="CT", status="skipped", seconds=0.0, exit_code=0)
        row = row.model_copy(update={"output": source.output.as_posix()})
        try:
            if hand.error is not None:
                raise hand.error
            begun = time.time()
            done = upscale_one(
                source,
                row,
                how,
                phase=phase,
                read=None if hand.volume is None else _given(hand.volume[0]),
                read_before_s=0.0 if hand.volume is None else hand.volume[1],
                reported=reports.append,
            )
        except Exception as error:
            self._raise_neutral(source, how.out, job, error)
        values: dict[str, Any] = {
            **done.model_dump(mode="json"),
            "times": {"begun": begun, "ended": time.time(), **times},
        }
        if hand.reading is not None:
            values["times"]["reading_begun"], values["times"]["reading_ended"] = hand.reading
        if reports:
            values["sample"] = sample_of(job.spec, reports[0]).model_dump(mode="json")
        return values

    def _raise_neutral(self, source: Source, out: Path, job: Job, error: Exception) -> None:
        """Raise an error again without the names of files; stop the work where the disk is full."""
        known = error if isinstance(error, ThinsliceError) else machine_fault(error)
        if isinstance(known, ResourceError) and self._is_disk_short(out, job):
            raise DiskShortError from error
        if known is None:
            raise error
        raise type(known)(source.without_names(str(known))) from error

    def _source(self, hand: InHand) -> Source:
        """The files of a job, with their sizes and times as they are now.

        Raises:
            UnreadableError: they have changed since the scan.
        """
        if hand.source is None:
            with Catalogue(self._place.catalogue) as catalogue:
                found = source_of(catalogue, hand.job.spec)
            if not found.paths:
                raise UnreadableError("The series is no longer in the catalogue; plan again.")
            hand.source = found
        for path, (_, size, changed_ns) in zip(hand.source.paths, hand.source.stamps, strict=True):
            try:
                status = path.stat()
            except OSError:
                raise UnreadableError("A file of the series is gone or closed to you; scan and plan again.") from None
            if (status.st_size, status.st_mtime_ns) != (size, changed_ns):
                raise UnreadableError("A file of the series has changed since the scan; scan and plan again.")
        return hand.source

    def _how_of(self, job: Job) -> HowToUpscale:
        """Settings and network of the job's rule; a network is loaded once."""
        with self._loading:
            return self._how_by(job.spec["rule"])

    def _how_by(self, name: str) -> HowToUpscale:
        if name not in self._how:
            plan, rule = self.plan, self.plan.rule(name)
            settings, reading = settings_of(rule.run, device=plan.device, backend=plan.backend, threads=self._threads)
            same = [how for how in self._how.values() if how.settings.model == settings.model]
            model = same[0].model if same else load_once(settings)
            settings_print = fingerprint(settings, reading, rule.run.format, model)
            if rule.run.deidentify:
                settings_print["deidentify"] = True
            out = out_folder(plan)
            make_folder(out / ".thinslice")
            self._how[name] = HowToUpscale(
                out, settings, reading, settings_print, model, plan.overwrite, rule.run.deidentify
            )
        return self._how[name]

    def _require_disk(self, out: Path, job: Job) -> None:
        if self._is_disk_short(out, job):
            raise DiskShortError

    def _is_disk_short(self, out: Path, job: Job) -> bool:
        try:
            free = shutil.disk_usage(out).free
        except OSError:
            return False
        return free / MIB < float(job.spec["disk_mib"]) + self._kept_free_mib


class _Ahead:
    """The next job, claimed and read by a thread while another one is worked on."""

    def __init__(self, worker: ArchiveWorker, queue: Queue) -> None:
        self._worker, self._queue = worker, queue
        self._hand: InHand | None = None
        self._lease: Lease | None = None
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def take(self) -> InHand | None:
        """The job; waits until it is read."""
        self._thread.join()
        self._end_lease()
        return self._hand

    def give_back(self) -> None:
        """Give the job back to the queue."""
        self._thread.join()
        self._end_lease()
        if self._hand is not None:
            with suppress(ThinsliceError):
                self._queue.release(self._hand.job)

    def _end_lease(self) -> None:
        if self._lease is not None:
            self._lease.__exit__(None, None, None)
            self._lease = None

    def _run(self) -> None:
        with suppress(ThinsliceError):
            self._hand = self._worker.claim(self._queue, untried=True)
        if self._hand is not None:
            self._lease = Lease(self._queue, self._hand.job, lease_s=LEASE_S).__enter__()
            self._worker.read(self._hand)


def main(arguments: list[str]) -> int:
    """Work on a plan until nothing is queued or the driver ends; returns the exit code."""
    root, name, threads, kept_free_mib = arguments
    end_with_parent()
    place = ArchivePlace(Path(root))

    def serve() -> None:
        with sole_run(place.places / name):
            worker = ArchiveWorker(
                place, name, threads=int(threads) if threads else None, kept_free_mib=float(kept_free_mib)
            )
            worker.run(threading.Event())

    try:
        return exit_code_of(serve)
    except DiskShortError:
        return ResourceError.exit_code


def _given(volume: Volume) -> Read:
    return lambda settings: volume


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
