"""The run of a plan: a pool of worker processes, kept alive, watched and ended together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from thinslice.archive.catalogue import Catalogue
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan_file import KIND, PlanFile, read_plan
from thinslice.archive.rates import Rates, RatesFile, Sample, rates_key, rates_of
from thinslice.archive.series_work import DiskShortError
from thinslice.archive.storage.results import StoreResults, results_of
from thinslice.archive.storage.store import ObjectStore, is_store
from thinslice.archive.worker import ArchiveWorker, WorkerOptions
from thinslice.errors import OutputBusyError, ResourceError, ThinsliceError
from thinslice.queue import Queue, RetryPolicy, State
from thinslice.system.atomic import sole_run
from thinslice.system.cores import sensible_threads

POLL_S = 0.5
"""Time between two looks at the workers and the queue."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 10.0
"""Time before a worker that died is started again; it doubles as long as workers die at once."""

GRACE_S = 20.0
"""Time that a worker has to give its jobs back."""

MOST_SAMPLES = 2000
"""Series whose times enter the rates."""

LOCAL, ALONE = WorkerOptions(), WorkerOptions(threads=None)
"""Options of a process of a pool, and of a worker that has the machine for itself."""

POOL = "pool-"
"""Beginning of the names of a pool's workers."""


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        queued, running, done, failed: jobs in each state.
        left_s: seconds that are left; None where unknown.
        workers: processes at work.
        disk_short: whether the disk of the outputs is nearly full, so that the work stops.
        seconds: since the run began.
        made: jobs that ended in this run.
    """

    queued: int
    running: int
    done: int
    failed: int
    left_s: float | None = None
    workers: int = 0
    disk_short: bool = False
    seconds: float = 0.0
    made: int = 0

    @property
    def total(self) -> int:
        """All jobs of the plan."""
        return self.queued + self.running + self.done + self.failed

    @property
    def left(self) -> int:
        """Jobs that are not in a final state."""
        return self.queued + self.running


def state_of(queue: Queue) -> RunState:
    """The jobs of a plan by state."""
    counts = queue.counts(KIND)
    return RunState(counts[State.QUEUED], counts[State.RUNNING], counts[State.DONE], counts[State.FAILED])


def run_plan_locally(
    place: ArchivePlace,
    *,
    processes: int | None = None,
    options: WorkerOptions = LOCAL,
    watch: Callable[[RunState], None] | None = None,
) -> RunState:
    """Work on a plan with a pool of processes until every job is done or set aside.

    A worker that dies is started again. A job that ends its worker is tried again alone, and set aside in the end. The
    run may be killed at any time; the next one continues it, and every result appears once.

    Args:
        place: the index, with a plan.
        processes: of the pool; one for each core unless set.
        options: of each process.
        watch: called with the state about twice a second.

    Returns:
        The state at the end.

    Raises:
        UsageError: no plan.
        OutputBusyError: another run works on this plan.
        ResourceError: the disk of the outputs is nearly full; free some space, then run again.
        UnreadableError, OutputError, UnreachableError: a store of objects cannot be used.
        KeyboardInterrupt: after the workers have given their jobs back.
    """
    place.require()
    plan = read_plan(place)
    require_stores(place, plan)
    threads = options.threads or sensible_threads()
    count = processes or max(1, sensible_threads() // threads)
    try:
        policy = RetryPolicy(first_wait_s=plan.retry_first_s)
        with sole_run(place.root / "run"), Queue(place.queue, policy=policy) as queue:
            recover_all(queue, place)
            with _Pool(place, queue, count, options) as pool:
                last = pool.watch(watch or (lambda state: None))
            keep_rates(place, queue, plan, threads)
    except OutputBusyError:
        raise OutputBusyError(
            "Another run works on this plan; wait for it to end, or join it by 'thinslice archive work'."
        ) from None
    if last.disk_short:
        raise ResourceError(
            f"The disk of the outputs has no room for the next series and {options.kept_free_mib:.0f} MiB beside it; "
            f"free some space, then run again. {last.done} of {last.total} series are done, {last.left} are left."
        )
    return last


def join_plan(
    place: ArchivePlace,
    *,
    options: WorkerOptions = ALONE,
    name: str | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Work on a plan in this process, beside other workers, until nothing is queued; returns the jobs taken.

    Args:
        place: the index, with a plan.
        options: of the worker.
        name: of the worker; the first free one unless set.
        stop: ends the work after the job in hand.

    Raises:
        UsageError: no plan.
        OutputBusyError: a worker of this name is at work.
        ResourceError: the disk of the outputs is nearly full.
    """
    place.require()
    chosen = name or f"work-{socket.gethostname().split('.')[0]}-{os.getpid()}"
    with sole_run(place.places / chosen):
        require_stores(place, read_plan(place))
        worker = ArchiveWorker(
            place,
            chosen,
            threads=options.threads,
            kept_free_mib=options.kept_free_mib,
            scratch=options.scratch,
            scratch_mib=options.scratch_mib,
        )
        try:
            worker.run(stop or threading.Event())
        except DiskShortError:
            raise ResourceError(
                "The disk of the outputs has no room for the next series; free some space, then work again."
            ) from None
        return worker.done


def require_stores(place: ArchivePlace, plan: PlanFile) -> None:
    """Refuse stores of objects that cannot be used, before any work.

    Raises:
        UnreadableError, OutputError: no credentials, no right, or no such bucket.
        UnreachableError: a store does not answer.
    """
    with Catalogue(place.catalogue) as catalogue:
        root = catalogue.root
    if is_store(root):
        ObjectStore(root).require("read")
    results = results_of(plan)
    if isinstance(results, StoreResults):
        results.store.require("write")


def recover_all(queue: Queue, place: ArchivePlace) -> None:
    """Take back what dead workers hold: whoever gets the lock of a worker's place knows that it is dead."""
    held = {job.worker for job in queue.running(KIND)}
    for name in sorted(name for name in held if name):
        with suppress(ThinsliceError), sole_run(place.places / name):
            queue.recover(name)


class _Pool:
    """Worker processes, as a context manager."""

    def __init__(self, place: ArchivePlace, queue: Queue, count: int, options: WorkerOptions) -> None:
        self._place, self._queue, self._options = place, queue, options
        self._names = [f"{POOL}{k}" for k in range(1, count + 1)]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._waits: dict[str, tuple[float, float]] = {}
        self._begun_s = time.monotonic()
        self._disk_short = False

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *raised: object) -> None:
        for process in self._running.values():
            process.terminate()
        for name, process in self._running.items():
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
            with suppress(ThinsliceError):
                self._queue.recover(name)

    def watch(self, notify: Callable[[RunState], None]) -> RunState:
        """Keep the workers alive until nothing is left to do; returns the state."""
        first = state_of(self._queue)
        ended_before = first.done + first.failed
        while True:
            for name in self._names:
                self._tend(name)
            counts = state_of(self._queue)
            elapsed_s = time.monotonic() - self._begun_s
            made = counts.done + counts.failed - ended_before
            state = RunState(
                counts.queued,
                counts.running,
                counts.done,
                counts.failed,
                left_s=elapsed_s / made * counts.left if made > 0 else None,
                workers=len(self._running),
                disk_short=self._disk_short,
                seconds=elapsed_s,
                made=made,
            )
            notify(state)
            if state.left == 0 or (self._disk_short and not self._running):
                return state
            self._wait()

    def _wait(self) -> None:
        """Wait for a moment, or for the end of a worker."""
        for process in list(self._running.values())[:1]:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
            return
        threading.Event().wait(POLL_S)

    def _tend(self, name: str) -> None:
        """Start a worker, or start it again after its end."""
        now = time.monotonic()
        process = self._running.get(name)
        if process is None:
            due_s, _ = self._waits.get(name, (0.0, FIRST_WAIT_S))
            is_needed = not self._disk_short and self._queue.next_due_s(KIND) is not None
            if is_needed and now >= due_s:
                self._running[name] = self._start(name)
            return
        if process.poll() is None:
            return
        del self._running[name]
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode == ResourceError.exit_code:
            self._disk_short = True
        elif process.returncode not in (0, OutputBusyError.exit_code):
            # It died alone. With one job in hand that is likely to be the job's fault; with two it is not known whose.
            with suppress(ThinsliceError):
                self._queue.recover(name, crashed=len(self._queue.held(name)) == 1)
        _, wait_s = self._waits.get(name, (0.0, FIRST_WAIT_S))
        self._waits[name] = (now + wait_s, min(2 * wait_s, LONGEST_WAIT_S))

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        # What libraries print quotes values, which may be the patient's.
        silent = None if os.environ.get("THINSLICE_DEBUG") == "1" else subprocess.DEVNULL
        command = [sys.executable, "-m", "thinslice.archive.worker", str(self._place.root.resolve()), name]
        return subprocess.Popen(
            [*command, *self._options.arguments()],
            stdin=subprocess.PIPE,
            stdout=silent,
            stderr=silent,
            env={**os.environ, "OMP_NUM_THREADS": str(self._options.threads or sensible_threads())},
        )


def keep_rates(place: ArchivePlace, queue: Queue, plan: PlanFile, threads: int) -> Rates | None:
    """Keep the rates of what was done, for the next plan; returns those of the network that made most."""
    by_model: dict[str, list[Sample]] = {}
    models = {rule.name: rule.run.model for rule in plan.rules}
    for job in queue.finished(KIND, most=MOST_SAMPLES):
        sample = (job.result or {}).get("sample")
        if sample is not None and job.spec["rule"] in models:
            by_model.setdefault(models[job.spec["rule"]], []).append(Sample.model_validate(sample))
    best: Rates | None = None
    for model, samples in by_model.items():
        rates = rates_of(samples, origin="earlier run")
        if rates is not None:
            RatesFile(place.rates).put(rates_key(model, plan.device, threads), rates)
            best = rates if best is None or rates.series > best.series else best
    return best
