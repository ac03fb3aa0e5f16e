"""The loop of a worker: claim a job, do it under a lease, note the outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from thinslice.errors import OutputError, ResourceError, ThinsliceError, UnreachableError
from thinslice.queue.job import Job
from thinslice.queue.lease import LEASE_S, JobCancelledError, Lease, LeaseLostError
from thinslice.queue.store import Queue
from thinslice.system.faults import machine_fault

POLL_S = 0.25
"""Time between two looks at an empty queue."""

EXIT_INTERNAL = 1

Handler = Callable[[Job, Lease], Mapping[str, Any]]
"""Does a job and returns JSON values; it calls `Lease.phase` or `Lease.check` often, and lets their errors pass."""


def work(
    queue: Queue,
    worker: str,
    handlers: Mapping[str, Handler],
    *,
    stop: threading.Event,
    lease_s: float = LEASE_S,
    limit_s: float | None = None,
    overdue: Callable[[], None] | None = None,
    until_empty: bool = False,
) -> int:
    """Do jobs until `stop` is set.

    An input that is refused, or options that contradict each other, will be so again: such a job is set aside at once.
    A full disk or a fault of the program may pass: the job is tried again, as the queue's policy permits.

    Args:
        queue: the jobs.
        worker: name of the worker's place; the caller makes sure that one process at a time has it.
        handlers: kind of job -> the function that does it.
        stop: ends the loop after the job in hand.
        lease_s: length of a lease.
        limit_s: longest time of an attempt.
        overdue: as in `Lease`.
        until_empty: return when nothing is due, in place of waiting.

    Returns:
        Number of jobs that were taken.

    Raises:
        KeyboardInterrupt: after the job in hand was given back.
    """
    queue.recover(worker)
    kinds, taken = tuple(handlers), 0
    while not stop.is_set():
        job = queue.claim(worker, kinds, lease_s=lease_s)
        if job is None:
            if until_empty:
                break
            stop.wait(POLL_S)
            continue
        taken += 1
        attempt(queue, job, handlers[job.kind], Lease(queue, job, lease_s=lease_s, limit_s=limit_s, overdue=overdue))
    return taken


def attempt(queue: Queue, job: Job, handler: Handler, lease: Lease) -> None:
    """Do one job under its lease, and note the outcome.

    Raises:
        BaseException: what is no Exception, such as KeyboardInterrupt, after the job was given back.
    """
    try:
        with lease:
            result = handler(job, lease)
    except LeaseLostError:
        return
    except JobCancelledError:
        queue.end_cancelled(job)
    except Exception as error:
        reason, code, retry = outcome_of(error)
        queue.fail(job, reason, exit_code=code, retry=retry)
    except BaseException:
        queue.release(job)
        raise
    else:
        queue.finish(job, result)


def outcome_of(error: Exception) -> tuple[str, int, bool]:
    """The reason of a failure, its exit code, and whether another attempt may succeed."""
    known = error if isinstance(error, ThinsliceError) else machine_fault(error)
    if known is None:
        # The text of other errors may quote the input.
        return f"internal error ({type(error).__name__}); please report it.", EXIT_INTERNAL, True
    return str(known), known.exit_code, isinstance(known, OutputError | ResourceError | UnreachableError)
