"""The driver of a plan on a Ray cluster: it alone has the queue; workers are given keys and names of files."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from thinslice.about import __version__
from thinslice.archive.catalogue import Catalogue
from thinslice.archive.cluster.actor import ENVIRONMENT, SeriesActor
from thinslice.archive.cluster.slots import room_of
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan_file import KIND, PlanFile, read_plan
from thinslice.archive.run import RunState, keep_rates, recover_all, require_stores, state_of
from thinslice.archive.storage.task import SeriesTask
from thinslice.archive.worker import LIMIT_S, WorkerOptions
from thinslice.errors import DeviceError, MissingExtraError, OutputBusyError, ResourceError, ThinsliceError, UsageError
from thinslice.queue import Job, Queue, RetryPolicy
from thinslice.system.atomic import sole_run

LEASE_S = 120.0
"""Lease of a job: the driver renews it for its workers."""

RENEWED_EVERY_S = 10.0

NAMES = "cluster-"
"""Beginning of the names of a cluster's workers."""

LOOK_S = 0.2
"""Longest wait for an answer of a worker, before due jobs are looked for again."""

NODES_EVERY_S = 2.0
"""Time between two looks at the nodes, which may come and go."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
"""Time before a worker that died is started again; it doubles as long as workers die at once."""

MOST_STARTS = 5
"""Workers that may fail to start, one after the other, before the run is given up."""


@dataclass
class Held:
    """A job in the hands of a worker.

    Attributes:
        job: as claimed.
        reading, working: answers to come; None where the worker was not asked yet.
        is_read: whether the series is read.
        renewed_s, begun_s: times on the monotonic clock.
    """

    job: Job
    reading: Any = None
    working: Any = None
    is_read: bool = False
    renewed_s: float = field(default_factory=time.monotonic)
    begun_s: float = field(default_factory=time.monotonic)


@dataclass
class Slot:
    """A worker's place in the cluster, which its successor after a death has too.

    Attributes:
        name: of the worker in the queue.
        device: where its networks run.
        actor: handle of the process; None where there is none.
        greeting: its first answer to come; None once it has answered.
        current: the job that it works on.
        following: the job that it reads meanwhile.
        due_s: earliest time of the next start, on the monotonic clock.
        wait_s: time before the start after the next death.
        rests_until_s: time before which it takes no job, since a store did not answer, on the monotonic clock.
        is_full: whether its disk has no room.
    """

    name: str
    device: str
    actor: Any = None
    greeting: Any = None
    current: Held | None = None
    following: Held | None = None
    due_s: float = 0.0
    wait_s: float = FIRST_WAIT_S
    rests_until_s: float = 0.0
    is_full: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether its process takes work."""
        return self.actor is not None and self.greeting is None

    def held(self) -> list[Held]:
        """Its jobs."""
        return [held for held in (self.current, self.following) if held is not None]

    def answers(self) -> list[Any]:
        """Answers that are to come."""
        refs = [self.greeting, *(ref for held in self.held() for ref in (held.reading, held.working))]
        return [ref for ref in refs if ref is not None]


def run_plan_on_cluster(
    place: ArchivePlace,
    address: str,
    *,
    workers: int | None = None,
    options: WorkerOptions | None = None,
    watch: Callable[[RunState], None] | None = None,
) -> RunState:
    """Work on a plan with the workers of a Ray cluster until every job is done or set aside.

    A node may die, and come back or not; so may this process: the next run goes on, and every result appears once.

    Args:
        place: the index, with a plan; on a local disk of this machine.
        address: of the cluster, "HOST:PORT", or "auto" for that of this machine.
        workers: most workers; as many as the cluster has room for unless set.
        options: of each worker.
        watch: called with the state several times a second.

    Returns:
        The state at the end.

    Raises:
        UsageError: no plan, or no cluster at the address.
        MissingExtraError: Ray is not installed.
        OutputBusyError: another run works on this plan.
        DeviceError: the cluster has no worker for the plan; the message states why.
        ResourceError: the disk of the outputs is nearly full.
        KeyboardInterrupt: after the jobs were given back.
    """
    place.require()
    plan, chosen = read_plan(place), options or WorkerOptions()
    require_stores(place, plan)
    policy = RetryPolicy(first_wait_s=plan.retry_first_s)
    try:
        with (
            sole_run(place.root / "run"),
            Queue(place.queue, policy=policy) as queue,
            Catalogue(place.catalogue) as catalogue,
            _connected(address) as ray,
        ):
            recover_all(queue, place)
            driver = _Driver(ray, queue, catalogue, plan, chosen, workers)
            try:
                last = driver.run(watch or (lambda state: None))
            finally:
                driver.give_back()
            keep_rates(place, queue, plan, chosen.threads or 1)
    except OutputBusyError:
        raise OutputBusyError("Another run works on this plan; wait for it to end.") from None
    if last.disk_short:
        raise ResourceError(
            f"The disk of the outputs has no room for the next series; free some space, then run again. {last.done} of "
            f"{last.total} series are done, {last.left} are left."
        )
    return last


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster."""
    try:
        # Before Ray is loaded: it reports its use to its makers otherwise.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
    except ModuleNotFoundError:
        raise MissingExtraError(
            'A cluster needs more packages; in a clone of the repository: pip install ".[ray]".'
        ) from None
    try:
        ray.init(address=address, logging_level="error", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError):
        raise UsageError(
            f"No Ray cluster answers at {address!r}; start one by 'ray start --head', or check the address and that "
            "this machine is a node of it."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


class _Driver:
    """Keeps every worker at work."""

    def __init__(
        self,
        ray: Any,
        queue: Queue,
        catalogue: Catalogue,
        plan: PlanFile,
        options: WorkerOptions,
        most: int | None,
    ) -> None:
        self._ray, self._queue, self._catalogue, self._plan = ray, queue, catalogue, plan
        self._options, self._most = options, most
        self._slots: list[Slot] = []
        self._looked_s = float("-inf")
        self._failed_starts, self._unfit = 0, ""
        self._begun_s = time.monotonic()

    def run(self, notify: Callable[[RunState], None]) -> RunState:
        """Work until nothing is left to do; returns the state."""
        first = state_of(self._queue)
        ended_before = first.done + first.failed
        while True:
            self._look_at_nodes()
            for slot in self._slots:
                self._advance(slot)
            state = self._state(ended_before)
            notify(state)
            if state.left == 0 or (state.disk_short and not any(slot.held() for slot in self._slots)):
                return state
            if self._failed_starts >= MOST_STARTS and not any(slot.is_ready for slot in self._slots):
                raise DeviceError(
                    f"No worker can start on the cluster: {self._unfit or 'its process ends at once'}; thinslice "
                    f"{__version__} and its extras must be installed on every node."
                )
            self._take_answers()

    def give_back(self) -> None:
        """Give back the jobs that are in hand."""
        for slot in self._slots:
            for held in slot.held():
                with suppress(ThinsliceError):
                    self._queue.release(held.job)
            if slot.actor is not None:
                with suppress(Exception):
                    self._ray.kill(slot.actor)

    def _state(self, ended_before: int) -> RunState:
        counts = state_of(self._queue)
        elapsed_s, made = time.monotonic() - self._begun_s, counts.done + counts.failed - ended_before
        return RunState(
            counts.queued,
            counts.running,
            counts.done,
            counts.failed,
            left_s=elapsed_s / made * counts.left if made > 0 else None,
            workers=sum(slot.is_ready for slot in self._slots),
            disk_short=any(slot.is_full for slot in self._slots),
            seconds=elapsed_s,
            made=made,
        )

    def _look_at_nodes(self) -> None:
        """Have a slot for each worker that the cluster has room for; a slot too many is not filled again."""
        now = time.monotonic()
        if now - self._looked_s < NODES_EVERY_S:
            return
        self._looked_s = now
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        threads = self._options.threads or 1
        room = room_of(nodes, device=self._plan.device, threads=threads, most=self._most)
        if not self._slots and not room.cpu + room.gpu:
            raise DeviceError(
                f"The cluster has no worker for this plan: no GPU where the plan asks for one, or no node with "
                f"{threads} CPUs; change --threads or the plan's --device."
            )
        for device, count in (("cpu", room.cpu), ("cuda", room.gpu)):
            there = [slot for slot in self._slots if slot.device == device]
            for slot in there[count:]:
                if slot.actor is None:
                    self._slots.remove(slot)
            taken = {slot.name for slot in self._slots}
            free = (name for k in itertools.count(1) if (name := f"{NAMES}{device}-{k}") not in taken)
            self._slots += [Slot(name, device) for name in itertools.islice(free, max(0, count - len(there)))]

    def _advance(self, slot: Slot) -> None:
        """Give a worker what it can do now."""
        now = time.monotonic()
        if slot.actor is None:
            if not slot.is_full and now >= slot.due_s and self._queue.next_due_s(KIND) is not None:
                self._start(slot)
            return
        if slot.greeting is not None:
            return
        for held in slot.held():
            self._hold(slot, held, now)
        if slot.actor is None or now < slot.rests_until_s:
            return
        if slot.current is None and not slot.is_full:
            slot.current, slot.following = slot.following or self._claim(slot), None
        current = slot.current
        if current is None:
            return
        if current.is_read and current.working is None:
            current.working = slot.actor.work.remote(current.job.key)
            current.begun_s = now
        # A job that has failed before may end its process: nothing else is in hand then.
        untried = not current.job.failures and not current.job.losses
        if current.working is not None and slot.following is None and untried and not slot.is_full:
            slot.following = self._claim(slot, untried=True)

    def _hold(self, slot: Slot, held: Held, now: float) -> None:
        """Renew a lease; end a worker in which a job hangs."""
        if held.working is not None and now - held.begun_s > LIMIT_S:
            self._queue.fail(held.job, f"It took longer than {LIMIT_S:.0f} s, and was ended.", exit_code=1, retry=False)
            self._ray.kill(slot.actor)
            self._end(slot)
        elif now - held.renewed_s > RENEWED_EVERY_S:
            held.renewed_s = now
            with suppress(ThinsliceError):
                self._queue.renew(held.job, lease_s=LEASE_S, phase="working" if held.working else "reading")

    def _claim(self, slot: Slot, *, untried: bool = False) -> Held | None:
        """Take a job for a worker, and let it read the series."""
        job = self._queue.claim(slot.name, (KIND,), lease_s=LEASE_S, untried=untried)
        if job is None:
            return None
        held = Held(job)
        task = SeriesTask.of(self._catalogue, job.spec)
        held.reading = slot.actor.read.remote(job.key, task.values())
        return held

    def _start(self, slot: Slot) -> None:
        options = self._options
        threads = options.threads or 1
        kind = self._ray.remote(SeriesActor).options(
            num_cpus=threads,
            num_gpus=1 if slot.device == "cuda" else 0,
            max_concurrency=2,
            max_restarts=0,
            max_task_retries=0,
        )
        slot.actor = kind.remote(
            self._plan.model_dump(mode="json", by_alias=True),
            self._catalogue.root,
            device=slot.device,
            threads=threads,
            kept_free_mib=options.kept_free_mib,
            scratch=None if options.scratch is None else str(options.scratch),
            scratch_mib=options.scratch_mib,
            environment={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        )
        slot.greeting = slot.actor.hello.remote(__version__)

    def _take_answers(self) -> None:
        """Wait for answers for a moment, and take all that are there."""
        refs = [ref for slot in self._slots for ref in slot.answers()]
        if not refs:
            time.sleep(LOOK_S)
            return
        self._ray.wait(refs, num_returns=1, timeout=LOOK_S)
        ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        there = set(ready)
        for slot in self._slots:
            self._take(slot, there)

    def _take(self, slot: Slot, there: set[Any]) -> None:
        """Take the answers of a worker; an error in place of one means that its process is gone."""
        try:
            if slot.greeting in there:
                self._unfit = self._ray.get(slot.greeting)
                slot.greeting = None
                if self._unfit:
                    self._ray.kill(slot.actor)
                    self._lose(slot)
                    return
            for held in slot.held():
                if held.reading in there:
                    self._ray.get(held.reading)
                    held.reading, held.is_read = None, True
                if held.working in there:
                    outcome = self._ray.get(held.working)
                    held.working = None
                    slot.current = None
                    self._note(slot, held.job, outcome)
        except self._ray.exceptions.RayError:
            self._lose(slot)

    def _note(self, slot: Slot, job: Job, outcome: dict[str, Any]) -> None:
        """Note what became of a job."""
        self._failed_starts, slot.wait_s = 0, FIRST_WAIT_S
        if "result" in outcome:
            self._queue.finish(job, outcome["result"])
        elif "reason" in outcome:
            self._queue.fail(job, outcome["reason"], exit_code=outcome["exit_code"], retry=outcome["retry"])
            if outcome["cuts"]:
                slot.rests_until_s = time.monotonic() + self._queue.policy.wait_s(outcome["cuts"])
        else:
            slot.is_full = True
            self._queue.release(job)
            if slot.following is not None:
                self._queue.release(slot.following.job)
                slot.following = None

    def _lose(self, slot: Slot) -> None:
        """Take back what a worker held that died alone or with its node."""
        if not slot.held():
            self._failed_starts += 1
        # With one job in hand its death is likely to be the job's fault; with two it is not known whose.
        self._queue.recover(slot.name, crashed=len(slot.held()) == 1)
        self._end(slot)

    def _end(self, slot: Slot) -> None:
        self._queue.recover(slot.name)
        slot.actor = slot.greeting = slot.current = slot.following = None
        slot.due_s = time.monotonic() + slot.wait_s
        slot.wait_s = min(2 * slot.wait_s, LONGEST_WAIT_S)
