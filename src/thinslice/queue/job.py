"""A job as a frozen value, its states, its key, and how often it is tried again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """State of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether no worker will take the job any more."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class NewJob:
    """A job to be queued.

    Attributes:
        kind: name of the work, which chooses the function that does it.
        key: of the result (`job_key`); a queue holds one job of a key.
        spec: JSON values that the function takes.
        priority: a higher one is taken first.
    """

    kind: str
    key: str
    spec: Mapping[str, Any]
    priority: int = 0


@dataclass(frozen=True)
class Job:
    """One row of the queue as it was when it was read.

    Attributes:
        id: number in the order of queueing, from 1.
        key: as in `NewJob`.
        kind: as in `NewJob`.
        spec: as in `NewJob`.
        state: state.
        priority: as in `NewJob`.
        failures: attempts that ended with an error.
        losses: attempts whose worker ended without an outcome.
        worker: place of the worker that has the job, or had it last.
        token: of the attempt that has the job; only its holder may change the job.
        lease_until_s: end of the lease, seconds since 1970.
        due_at_s: earliest time of the next attempt, seconds since 1970.
        phase: name of what the attempt is doing.
        share: share of the phase that is done, 0 to 1.
        left_s: seconds that are left; None where unknown.
        cancelling: whether the attempt was asked to end.
        reason: why the job failed, or why its last attempt did.
        exit_code: of the last error, as on the command line.
        result: JSON values that the function returned.
        made_at_s: time of queueing, seconds since 1970.
        begun_at_s: begin of the last attempt.
        ended_at_s: time of the final state.
        revision: number of the last change in the whole queue.
    """

    id: int
    key: str
    kind: str
    spec: dict[str, Any]
    state: State
    priority: int = 0
    failures: int = 0
    losses: int = 0
    worker: str | None = None
    token: str | None = None
    lease_until_s: float | None = None
    due_at_s: float = 0.0
    phase: str = ""
    share: float = 0.0
    left_s: float | None = None
    cancelling: bool = False
    reason: str | None = None
    exit_code: int | None = None
    result: dict[str, Any] | None = None
    made_at_s: float = 0.0
    begun_at_s: float | None = None
    ended_at_s: float | None = None
    revision: int = 0


@dataclass(frozen=True)
class RetryPolicy:
    """How often a job is tried again before it is set aside as failed.

    A failure is an error that may pass, such as a full disk. A loss is a worker that was killed. That is seldom the
    job's fault, so more losses are permitted; but a job that ends its worker each time must not do so for ever.

    Attributes:
        failures: failed attempts after which a job is set aside.
        losses: lost attempts after which a job is set aside.
        first_wait_s: time before the second attempt; it doubles with each failure.
        longest_wait_s: longest time between two attempts.
    """

    failures: int = 4
    losses: int = 30
    first_wait_s: float = 5.0
    longest_wait_s: float = 900.0

    def wait_s(self, failures: int) -> float:
        """Time to the next attempt after so many failed ones.

        >>> [RetryPolicy().wait_s(failures) for failures in (1, 2, 3, 20)]
        [5.0, 10.0, 20.0, 900.0]
        """
        return float(min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 30)))


def job_key(**parts: Any) -> str:
    """Key of a result: SHA-256 of everything that decides it, as hexadecimal digits.

    Args:
        parts: JSON values: digest of what is read, the network, the settings. Their order does not matter.

    >>> job_key(read="a", factor=5) == job_key(factor=5, read="a"), job_key(read="a", factor=4)[:8]
    (True, '16df82e3')
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
