"""Worker processes of the server: started, started again when they die, ended with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
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
    """One worker's place: its name, and the kind of jobs it does."""

    name: str
    kind: str


def places(settings: ServeSettings) -> list[Place]:
    """Places of a server: one that inspects, so that no long run holds up an inspection, and those that upscale."""
    return [Place("inspect-1", INSPECT), *(Place(f"upscale-{k}", UPSCALE) for k in range(1, settings.workers + 1))]


class Supervisor:
    """Keeps one process running in each place, as a context manager."""

    def __init__(self, folder: DataFolder, queue: Queue, settings: ServeSettings) -> None:
        self._folder = folder
        self._queue = queue
        self._settings = settings
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._threads = [
            threading.Thread(target=self._keep, args=(place,), name=place.name) for place in places(settings)
        ]

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
                    self._queue.recover(place.name, crashed=True)
            self._stop.wait(wait_s)

    def _start(self, place: Place) -> subprocess.Popen[bytes]:
        settings, is_inspector = self._settings, place.kind == INSPECT
        threads = "" if settings.threads is None else str(settings.threads)
        limit = str(settings.inspect_limit_s) if is_inspector else ""
        # What libraries print quotes values, which may be the patient's.
        silent = None if os.environ.get("THINSLICE_DEBUG") == "1" else subprocess.DEVNULL
        command = [sys.executable, "-m", "thinslice.service.worker"]
        process = subprocess.Popen(
            [*command, str(self._folder.root), place.name, place.kind, threads, limit],
            stdin=subprocess.PIPE,
            stdout=silent,
            stderr=silent,
        )
        with self._lock:
            self._running[place.name] = process
            if self._stop.is_set():
                process.terminate()
        return process
