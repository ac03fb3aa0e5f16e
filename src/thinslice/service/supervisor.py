"""Worker processes of the server: started, started again when they die, ended with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from thinslice.errors import OutputBusyError, ThinsliceError
from thinslice.queue import Queue
from thinslice.service.folder import DataFolder
from thinslice.service.jobs import UPSCALE
from thinslice.service.settings import ServeSettings
from thinslice.service.sources import INSPECT

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 10.0
"""Time before a worker that died is started again; it doubles as long as workers die at once."""

GRACE_S = 10.0
"""Time that a worker has to give its job back."""

LASTED_S = 30.0
"""A worker that lived so long did not die at once."""


@dataclass(frozen=True)
class Place:
    """One worker's place.

    Attributes:
        name: of the place.
        command: arguments of Python that start its worker.
    """

    name: str
    command: tuple[str, ...]


def places(folder: DataFolder, settings: ServeSettings) -> list[Place]:
    """Places of a server: one that inspects, so that no long run holds up an inspection, and those that upscale."""
    threads = "" if settings.threads is None else str(settings.threads)
    start = ("-m", "thinslice.service.worker", str(folder.root))
    return [
        Place("inspect-1", (*start, "inspect-1", INSPECT, threads, str(settings.inspect_limit_s))),
        *(
            Place(f"upscale-{k}", (*start, f"upscale-{k}", UPSCALE, threads, ""))
            for k in range(1, settings.workers + 1)
        ),
    ]


class Supervisor:
    """Keeps one process running in each place, as a context manager.

    Args:
        places: where workers run.
        queue_of: the queue of a place, with the policy of its jobs.
    """

    def __init__(self, places: Sequence[Place], queue_of: Callable[[Place], Queue]) -> None:
        self._queue_of = queue_of
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._threads = [threading.Thread(target=self._keep, args=(place,), name=place.name) for place in places]

    def __enter__(self) -> Supervisor:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        with self._lock:
            running = list(self._running.values())
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        for thread in self._threads:
            thread.join()

    def processes(self) -> list[int]:
        """Process numbers of the workers that run."""
        with self._lock:
            return [process.pid for process in self._running.values()]

    def _keep(self, place: Place) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stop.is_set():
            process = self._start(place)
            try:
                process.wait(LASTED_S)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            except subprocess.TimeoutExpired:
                wait_s = FIRST_WAIT_S
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
            if process.returncode not in (0, OutputBusyError.exit_code) and not self._stop.is_set():
                # It died alone, and did not merely find its place taken: what it held is tried again later, and set
                # aside if that goes on.
                with suppress(ThinsliceError):
                    self._queue_of(place).recover(place.name, crashed=True)
            self._stop.wait(wait_s)

    def _start(self, place: Place) -> subprocess.Popen[bytes]:
        # What libraries print quotes values, which may be the patient's.
        silent = None if os.environ.get("THINSLICE_DEBUG") == "1" else subprocess.DEVNULL
        process = subprocess.Popen(
            [sys.executable, *place.command], stdin=subprocess.PIPE, stdout=silent, stderr=silent
        )
        with self._lock:
            self._running[place.name] = process
            if self._stop.is_set():
                process.terminate()
        return process
