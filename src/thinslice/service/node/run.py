"""A node as a whole: data folder, receiver, workers, status page and clock, until it is told to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime

from thinslice.errors import OutputBusyError, ThinsliceError
from thinslice.queue import NewJob, Queue, State
from thinslice.service.node.commitment import Commitments
from thinslice.service.node.folder import MOST_JOBS, NodeFolder
from thinslice.service.node.inbox import Inbox
from thinslice.service.node.jobs import EXAMINE, UPSCALE, examinations, is_send, policy_of, send_kind
from thinslice.service.node.receiver import Receiver
from thinslice.service.node.settings import NodeSettings
from thinslice.service.node.status import Status, StatusServer, describe
from thinslice.service.supervisor import Place, Supervisor
from thinslice.system.atomic import sole_run

EXAMINE_LIMIT_S = 1800.0
"""Longest time in which a series is examined."""

TICK_S = 0.5
SWEEP_S = 600.0

Write = Callable[[str], None]


class EventLog:
    """Lines about events: time, name, and values that identify nobody.

    Args:
        write: takes one line.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._lock = threading.Lock()

    def __call__(self, event: str, **values: object) -> None:
        """Write one line."""
        text = " ".join(f"{name}={_plain(value)}" for name, value in values.items())
        with self._lock:
            self._write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {event} {text}".rstrip())


def run_node(settings: NodeSettings, *, write: Write, ready: Callable[[int, int], None]) -> None:
    """Run a node until the process is interrupted.

    Args:
        settings: of the node.
        write: takes the lines of the log.
        ready: called with the port of the node and that of the status page, once both are listened on.

    Raises:
        OutputBusyError: another node uses the data folder.
        OutputError: the data folder cannot be made or written.
        UsageError: a port cannot be listened on, or the certificate cannot be read.
    """
    folder = NodeFolder(settings.data)
    try:
        with ExitStack() as stack:
            stack.enter_context(sole_run(folder.root / "node"))
            folder.keep_settings(settings)
            queue = stack.enter_context(Queue(folder.queue_file))
            outbox = stack.enter_context(Queue(folder.queue_file, policy=policy_of(send_kind(""), settings)))
            inbox = Inbox(folder.incoming, folder.arriving)
            inbox.recover()
            _begin_failed_anew(queue)
            log = EventLog(write)
            receiver = Receiver(settings, inbox, Commitments(folder.commitments), log)
            status = StatusServer(Status(settings, queue, receiver, lambda: inbox.waiting), settings.status_port)
            places = node_places(folder, settings)
            stack.enter_context(Supervisor(places, lambda place: outbox if place.name.startswith("send") else queue))
            stack.enter_context(status)
            stack.enter_context(receiver)
            ready(receiver.port, status.port)
            _Clock(settings, folder, queue, inbox, log).run()
    except OutputBusyError:
        raise OutputBusyError(
            f"Another node uses the data folder {str(settings.data)!r}; end it, or name another folder."
        ) from None


def node_places(folder: NodeFolder, settings: NodeSettings) -> list[Place]:
    """Places of workers: one that examines, those that upscale, and one for each target."""
    kinds = [("examine-1", EXAMINE, str(EXAMINE_LIMIT_S))]
    kinds += [(f"upscale-{number}", UPSCALE, "") for number in range(1, settings.workers + 1)]
    kinds += [(f"send-{target.name}", send_kind(target.name), "") for target in settings.targets]
    start = ("-m", "thinslice.service.node.worker", str(folder.root))
    return [Place(name, (*start, name, kind, limit)) for name, kind, limit in kinds]


class _Clock:
    """What happens by time: complete studies are queued, the log follows the queue, old data goes."""

    def __init__(self, settings: NodeSettings, folder: NodeFolder, queue: Queue, inbox: Inbox, log: EventLog) -> None:
        self._settings = settings
        self._folder = folder
        self._queue = queue
        self._inbox = inbox
        self._log = log
        self._revision = queue.revision()
        self._states: dict[int, tuple[State, int]] = {}
        self._swept_s = 0.0

    def run(self) -> None:
        """Tick until the process is interrupted."""
        pause = threading.Event()
        while True:
            # A full disk or a locked file may pass; the receiver answers for itself.
            with suppress(ThinsliceError, OSError):
                self._tick()
            pause.wait(min(TICK_S, self._settings.stable_s / 4))

    def _tick(self) -> None:
        for study in self._inbox.complete(self._settings.stable_s):
            try:
                jobs = examinations(self._inbox, study)
                self._queue.submit_all(jobs)
            except BaseException:
                self._inbox.touch(study)
                raise
            self._log("study-complete", study=study[:8], series=len(jobs))
        for job in self._queue.changed(self._revision):
            self._revision = job.revision
            if self._states.get(job.id) == (job.state, job.failures):
                continue
            self._states[job.id] = (job.state, job.failures)
            if job.state is State.RUNNING:
                continue
            study = str(job.spec.get("study", ""))[:8]
            self._log(job.kind, job=job.id, study=study, state=job.state.value, result=describe(job), reason=job.reason)
        if time.monotonic() - self._swept_s > SWEEP_S:
            self._swept_s = time.monotonic()
            self._folder.sweep(self._queue, self._inbox, keep_days=self._settings.keep_days)


def _begin_failed_anew(queue: Queue) -> None:
    """Begin sendings anew that were given up: whoever starts a node has mended what stood in their way."""
    queue.submit_all(
        NewJob(job.kind, job.key, job.spec, job.priority)
        for job in queue.jobs(most=MOST_JOBS)
        if is_send(job.kind) and job.state is State.FAILED
    )


def _plain(value: object) -> str:
    """A value as one word, or quoted where it is several.

    >>> _plain("two words"), _plain(None), _plain(7)
    ('"two words"', '-', '7')
    """
    text = "" if value is None else str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text).replace('"', "'")
    if not text:
        return "-"
    return f'"{text}"' if " " in text or "=" in text else text
