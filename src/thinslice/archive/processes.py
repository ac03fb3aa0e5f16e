"""A pool of processes that outlives its members: a task that ends its process is tried once more alone, then named."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class CrashError(Exception):
    """A task ended the process that did it, twice."""


class Processes(Generic[Task, Result]):
    """Calls a function of the top level of a module for many tasks, in processes, as a context manager.

    Args:
        function: takes a task, returns a result; what it raises is given back with the task.
        count: number of processes; 0 calls the function in this process.
    """

    def __init__(self, function: Callable[[Task], Result], count: int) -> None:
        self._function, self._count = function, count
        self._waiting: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._running: dict[Future[Result], Task] = {}
        self._executor: ProcessPoolExecutor | None = None
        self._alive: tuple[int, int] | None = None

    def __enter__(self) -> Processes[Task, Result]:
        if self._count:
            self._alive = os.pipe()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=raised[0] is None, cancel_futures=True)
        if self._alive is not None:
            for end in self._alive:
                os.close(end)

    def submit(self, task: Task) -> None:
        """Add a task."""
        self._waiting.append(task)

    @property
    def pending(self) -> int:
        """Tasks without a result."""
        return len(self._waiting) + len(self._suspects) + len(self._running)

    def results(self, *, timeout_s: float | None = None) -> list[tuple[Task, Result | Exception]]:
        """The tasks that are done since the last call, each with its result or its error; waits for the first one."""
        if not self._count:
            return [self._here(self._waiting.popleft())] if self._waiting else []
        self._fill()
        if not self._running:
            return []
        done, _ = wait(self._running, timeout=timeout_s, return_when=FIRST_COMPLETED)
        found: list[tuple[Task, Result | Exception]] = []
        is_broken = False
        for future in done:
            try:
                found.append((self._running[future], future.result()))
            except BrokenProcessPool:
                is_broken = True
                continue
            except Exception as error:
                found.append((self._running[future], error))
            del self._running[future]
        if is_broken:
            found += self._mend()
        return found

    def _here(self, task: Task) -> tuple[Task, Result | Exception]:
        try:
            return task, self._function(task)
        except Exception as error:
            return task, error

    def _fill(self) -> None:
        """Hand tasks to the processes: a few more than there are processes; a suspect alone."""
        if self._suspects and not self._running:
            self._start(self._suspects.popleft())
            return
        while self._waiting and not self._suspects and len(self._running) < 3 * self._count:
            self._start(self._waiting.popleft())

    def _start(self, task: Task) -> None:
        if self._executor is None:
            kind = "fork" if sys.platform == "linux" else "spawn"
            alive = self._alive if kind == "fork" else None
            self._executor = ProcessPoolExecutor(
                self._count, multiprocessing.get_context(kind), initializer=_begin, initargs=(alive,)
            )
        try:
            self._running[self._executor.submit(self._function, task)] = task
        except BrokenProcessPool:
            self._waiting.appendleft(task)
            raise

    def _mend(self) -> list[tuple[Task, Result | Exception]]:
        """Start anew after a process has died: what was in hand is done one by one, to find the one that kills."""
        in_hand = list(self._running.values())
        self._running.clear()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor = None
        if len(in_hand) == 1:
            return [(in_hand[0], CrashError())]
        self._suspects.extend(in_hand)
        return []


def _begin(alive: tuple[int, int] | None) -> None:
    """Begin a process: its parent treats signals, and its end is the end of this process too."""
    # Headers are many small objects without circles: the collector would walk them again and again.
    gc.set_threshold(200_000, 20, 50)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if alive is None:
        return
    with suppress(OSError):
        os.close(alive[1])

    def wait_for_end() -> None:
        with suppress(OSError):
            while os.read(alive[0], 1):
                pass
        os._exit(0)

    threading.Thread(target=wait_for_end, daemon=True).start()
