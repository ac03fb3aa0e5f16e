"""A writer in a thread of its own: a slab is written while the next one is made."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from thinslice.io.slabs import SlabWriter
from thinslice.planning.memory import WAITING_BYTES


class WriteBehind:
    """Writes slabs in a thread of its own, while the next ones are made.

    Errors of the writer are raised by a later `write` or at the end of the block; no output is left then, nor after an
    interruption.

    Args:
        writer: not yet entered.
        most_bytes: of slabs that may wait; `write` blocks when more would wait.
        before_end: called when all slabs are written, just before the output takes its final name.

    Attributes:
        seconds: time spent in the writer, its completion included.
    """

    def __init__(
        self, writer: SlabWriter, *, most_bytes: int = WAITING_BYTES, before_end: Callable[[], None] | None = None
    ) -> None:
        self._writer = writer
        self._most_bytes = most_bytes
        self._before_end = before_end
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self.seconds = 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the writer; complete after the block."""
        return self._writer.warnings

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def write(self, hu: npt.NDArray[Any]) -> None:
        """Queue the next slices; they must not be changed afterwards.

        Args:
            hu: (n, height, width), HU.

        Raises:
            As the writer, also for slices queued before.
        """
        while self._waiting and sum(size for _, size in self._waiting) + hu.nbytes > self._most_bytes:
            self._waiting.popleft()[0].result()
        self._waiting.append((self._pool.submit(self._write, hu), hu.nbytes))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            while error is None and self._waiting:
                self._waiting.popleft()[0].result()
            if error is None and self._before_end is not None:
                self._before_end()
        except BaseException as failure:
            error = failure
            raise
        finally:
            try:
                self._pool.shutdown(cancel_futures=True)
            finally:
                begun = time.perf_counter()
                self._writer.__exit__(None if error is None else type(error), error, trace)
                self.seconds += time.perf_counter() - begun
        return None

    def _write(self, hu: npt.NDArray[Any]) -> None:
        begun = time.perf_counter()
        self._writer.write(hu)
        self.seconds += time.perf_counter() - begun
