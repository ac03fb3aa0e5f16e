"""A worker of a plan: reads the next series while the network is at work on this one; any number of them may join.

As a program, `python -m thinslice.archive.worker INDEX NAME` and the values of `WorkerOptions`, it is one process of a
pool: its standard input is a pipe that the driver holds, and the pipe's end is its end too.
"""

from __future__ import annotations

import gc
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinslice.archive.catalogue import Catalogue
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan_file import KIND, PlanFile, read_plan
from thinslice.archive.series_work import KEPT_FREE_MIB, DiskShortError, InHand, SeriesWork
from thinslice.archive.storage.scratch import MOST_SCRATCH_MIB, Scratch
from thinslice.archive.storage.task import SeriesTask
from thinslice.errors import OutputError, ResourceError, ThinsliceError
from thinslice.queue import Job, Lease, Queue, RetryPolicy, attempt
from thinslice.queue.lease import LEASE_S
from thinslice.system.atomic import sole_run
from thinslice.system.child_process import end_overdue, end_with_parent, exit_code_of

POLL_S = 0.25
"""Time between two looks at a queue in which nothing is due yet."""

LIMIT_S = 6 * 3600.0
"""Longest time of one series; a process that hangs is ended then."""


@dataclass
class Claimed:
    """A job, and the series that it is about.

    Attributes:
        job: as claimed.
        hand: its series; None where the catalogue could not be asked.
        error: why not.
    """

    job: Job
    hand: InHand | None = None
    error: ThinsliceError | None = None


class ArchiveWorker:
    """Works on the plan of an index.

    Args:
        place: the index.
        name: the worker's place in the queue; the caller makes sure that one process at a time has it.
        threads: CPU threads of a run; None for all cores.
        ahead: whether the next series is read while the network is at work on this one.
        kept_free_mib: space that stays free on the disk of the outputs.
        scratch: folder for files of stores; a temporary one unless set.
        scratch_mib: space that they may take.
    """

    def __init__(
        self,
        place: ArchivePlace,
        name: str,
        *,
        threads: int | None = None,
        ahead: bool = True,
        kept_free_mib: float = KEPT_FREE_MIB,
        scratch: Path | None = None,
        scratch_mib: float = MOST_SCRATCH_MIB,
    ) -> None:
        self.plan: PlanFile = read_plan(place)
        self.name = name
        self._place, self._ahead = place, ahead
        self._scratch = Scratch(scratch, most_mib=scratch_mib)
        self.work = SeriesWork(self.plan, self._scratch, threads=threads, kept_free_mib=kept_free_mib)
        self.done = 0

    def run(self, stop: threading.Event) -> None:
        """Work until nothing is queued, or `stop` is set.

        Raises:
            DiskShortError: the disk of the outputs is nearly full; what was in hand went back to the queue.
            KeyboardInterrupt: after the jobs in hand were given back.
        """
        policy = RetryPolicy(first_wait_s=self.plan.retry_first_s)
        with Queue(self._place.queue, policy=policy) as queue, self._scratch:
            queue.recover(self.name)
            following: _Ahead | None = None
            try:
                while not stop.is_set():
                    claimed = None if following is None else following.take()
                    following = None
                    claimed = claimed or self.claim(queue)
                    if claimed is None:
                        if queue.next_due_s(KIND) is None:
                            break
                        stop.wait(POLL_S)
                        continue
                    # A job that has failed before may end this process: nothing else is in hand then.
                    if self._ahead and not claimed.job.failures and not claimed.job.losses:
                        following = _Ahead(self, queue)
                    self._do(queue, claimed)
            finally:
                if following is not None:
                    following.give_back()

    def claim(self, queue: Queue, *, untried: bool = False) -> Claimed | None:
        """Take a job; None where nothing is due."""
        job = queue.claim(self.name, (KIND,), lease_s=LEASE_S, untried=untried)
        if job is None:
            return None
        try:
            with Catalogue(self._place.catalogue) as catalogue:
                return Claimed(job, InHand(SeriesTask.of(catalogue, job.spec)))
        except ThinsliceError as error:
            return Claimed(job, error=error)

    def _do(self, queue: Queue, claimed: Claimed) -> None:
        lease = Lease(queue, claimed.job, lease_s=LEASE_S, limit_s=LIMIT_S, overdue=end_overdue)
        try:
            attempt(queue, claimed.job, lambda job, held: self._result(claimed, held), lease)
        finally:
            if claimed.hand is not None:
                claimed.hand.give_up()
            gc.collect()
        self.done += 1

    def _result(self, claimed: Claimed, lease: Lease) -> dict[str, Any]:
        if claimed.hand is None:
            raise claimed.error or OutputError("The catalogue cannot be read; scan again.")
        return self.work.result(claimed.hand, lease.phase)


class _Ahead:
    """The next job, claimed and read by a thread while another one is worked on."""

    def __init__(self, worker: ArchiveWorker, queue: Queue) -> None:
        self._worker, self._queue = worker, queue
        self._claimed: Claimed | None = None
        self._lease: Lease | None = None
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def take(self) -> Claimed | None:
        """The job; waits until it is read."""
        self._thread.join()
        self._end_lease()
        return self._claimed

    def give_back(self) -> None:
        """Give the job back to the queue."""
        self._thread.join()
        self._end_lease()
        if self._claimed is not None:
            if self._claimed.hand is not None:
                self._claimed.hand.give_up()
            with suppress(ThinsliceError):
                self._queue.release(self._claimed.job)

    def _end_lease(self) -> None:
        if self._lease is not None:
            self._lease.__exit__(None, None, None)
            self._lease = None

    def _run(self) -> None:
        with suppress(ThinsliceError):
            self._claimed = self._worker.claim(self._queue, untried=True)
        if self._claimed is not None:
            self._lease = Lease(self._queue, self._claimed.job, lease_s=LEASE_S).__enter__()
            if self._claimed.hand is not None:
                self._worker.work.read(self._claimed.hand)


@dataclass(frozen=True)
class WorkerOptions:
    """Options of the processes of a pool; they travel on the command line.

    Attributes:
        threads: CPU threads of a run; None for all cores.
        kept_free_mib: space that stays free on the disk of the outputs.
        scratch: folder for files of stores; a temporary one unless set.
        scratch_mib: space that the scratch files of one process may take.
    """

    threads: int | None = 1
    kept_free_mib: float = KEPT_FREE_MIB
    scratch: Path | None = None
    scratch_mib: float = MOST_SCRATCH_MIB

    def arguments(self) -> list[str]:
        """As arguments of `main`."""
        scratch = "" if self.scratch is None else str(self.scratch.resolve())
        return [str(self.threads or ""), str(self.kept_free_mib), scratch, str(self.scratch_mib)]


def main(arguments: list[str]) -> int:
    """Work on a plan until nothing is queued or the driver ends; returns the exit code."""
    root, name, threads, kept_free_mib, scratch, scratch_mib = arguments
    end_with_parent()
    place = ArchivePlace(Path(root))

    def serve() -> None:
        with sole_run(place.places / name):
            worker = ArchiveWorker(
                place,
                name,
                threads=int(threads) if threads else None,
                kept_free_mib=float(kept_free_mib),
                scratch=Path(scratch) if scratch else None,
                scratch_mib=float(scratch_mib),
            )
            worker.run(threading.Event())

    try:
        return exit_code_of(serve)
    except DiskShortError:
        return ResourceError.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
