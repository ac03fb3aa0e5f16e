"""The lease of one attempt: a thread renews it, and carries progress out and the wish to cancel in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from thinslice.errors import ThinsliceError
from thinslice.queue.job import Job
from thinslice.queue.store import Queue

LEASE_S = 60.0
"""Time after which a job of a worker that sends no sign of life is given to another."""

RENEWED_EVERY_S = 1.0
"""Time between two renewals, which also note the progress."""


class JobCancelledError(ThinsliceError):
    """The attempt was asked to end."""

    exit_code = 130


class LeaseLostError(ThinsliceError):
    """Another worker has the job: this attempt was not able to renew its lease in time, and must not go on."""

    exit_code = 130


class Lease:
    """Holds a claimed job as long as a `with` block lasts.

    Args:
        queue: where the job was claimed.
        job: as it was claimed.
        lease_s: length of the lease.
        every_s: time between two renewals.
        limit_s: longest time of an attempt; afterwards the job is set aside, and `overdue` is called.
        overdue: ends the process of an attempt that hangs; it is called in the thread of the lease.
    """

    def __init__(
        self,
        queue: Queue,
        job: Job,
        *,
        lease_s: float = LEASE_S,
        every_s: float = RENEWED_EVERY_S,
        limit_s: float | None = None,
        overdue: Callable[[], None] | None = None,
    ) -> None:
        self.job = job
        self._queue = queue
        self._lease_s, self._every_s = lease_s, every_s
        self._limit_s, self._overdue = limit_s, overdue
        self._ended = threading.Event()
        self._cancelled = threading.Event()
        self._lost = threading.Event()
        self._progress: tuple[str, float, float | None] | None = None
        self._phase, self._phase_begun_s = "", 0.0
        self._thread = threading.Thread(target=self._run, name=f"lease-{job.id}", daemon=True)

    def __enter__(self) -> Self:
        self._begun_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def phase(self, name: str, share: float) -> None:
        """Note progress, as `thinslice.typing.PhaseProgress`.

        Args:
            name: of the phase.
            share: of it that is done, 0 to 1.

        Raises:
            JobCancelledError: the attempt was asked to end.
            LeaseLostError: another worker has the job.
        """
        self.check()
        now = time.monotonic()
        if name != self._phase:
            self._phase, self._phase_begun_s = name, now
        left_s = (now - self._phase_begun_s) / share * (1.0 - share) if share > 0.0 else None
        self._progress = (name, share, left_s)

    def check(self) -> None:
        """Raise where the attempt must not go on; as `phase`."""
        if self._lost.is_set():
            raise LeaseLostError("The lease of the job has ended; another worker does it.")
        if self._cancelled.is_set():
            raise JobCancelledError("The job was cancelled.")

    def renew(self) -> None:
        """Renew the lease and note the progress once; the thread does so regularly."""
        progress, self._progress = self._progress, None
        name, share, left_s = progress or (None, 0.0, None)
        job = self._queue.renew(self.job, lease_s=self._lease_s, phase=name, share=share, left_s=left_s)
        if job is None:
            self._lost.set()
        elif job.cancelling:
            self._cancelled.set()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            if self._limit_s is not None and time.monotonic() - self._begun_s > self._limit_s:
                reason = f"It took longer than {self._limit_s:.0f} s, and was ended."
                with suppress(ThinsliceError):
                    self._queue.fail(self.job, reason, exit_code=1, retry=False)
                if self._overdue is not None:
                    self._overdue()
                return
            try:
                self.renew()
            except ThinsliceError:
                # A disk that is full for a moment; the lease itself bounds how long this may last.
                continue
            if self._lost.is_set():
                return
