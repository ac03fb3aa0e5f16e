"""The queue's table in SQLite: submit, claim, renew, finish, fail, cancel; each is one transaction.

Laws, which `tests/queue` checks:

- A job has one holder at most. A claim writes a fresh token into the row, and only the holder of that token may change
  the row; a worker that was too slow to renew its lease finds that out when it next writes.
- A job that was queued is not lost: queueing and outcomes are on the disk before the call returns.
- A key is queued once. The result belongs under a name made from the key, so that an attempt that was killed after it
  had finished its output, but before it could note that, costs nothing but a look.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thinslice.errors import OutputError, UsageError
from thinslice.queue.database import Database
from thinslice.queue.job import Job, NewJob, RetryPolicy, State

LOST = "Its worker ended without an outcome"
CRASHED = "Its worker crashed"

_FREE = "token = NULL, lease_until_s = NULL, phase = '', left_s = NULL"
"""Assignments that take a job from its holder."""

_ANEW = (
    f"{_FREE}, state = 'queued', share = 0, failures = 0, losses = 0, due_at_s = 0, cancelling = 0, reason = NULL, "
    "exit_code = NULL, result = NULL, ended_at_s = NULL"
)
"""Assignments that begin a job again."""


class Queue:
    """Jobs in one SQLite file, for any number of threads and processes of one machine.

    Args:
        path: the file; it is made if absent, its folder must exist and lie on a local disk.
        policy: how often a job is tried again.
        clock: the time in seconds since 1970.

    Raises:
        OutputError: the file cannot be opened, lies on a network file system, or is no queue of this version; name
            another place.
    """

    def __init__(
        self, path: str | Path, *, policy: RetryPolicy | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = Path(path)
        self.policy = policy or RetryPolicy()
        self.clock = clock
        self._database = Database(self.path)

    def close(self) -> None:
        """Close the file; the queue cannot be used afterwards."""
        self._database.close()

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    # Queueing

    def submit(self, new: NewJob) -> Job:
        """Queue a job, unless its key is queued, running or done; one that failed or was cancelled begins again.

        Returns:
            The job of that key; on the disk.
        """
        self.submit_all([new])
        found = self.find(new.key)
        if found is None:
            raise OutputError("The job was removed while it was being queued; queue it again.")
        return found

    def submit_all(self, jobs: Iterable[NewJob]) -> None:
        """Queue many jobs in one transaction, in their order, each as `submit` does."""
        with self._database.writing() as connection:
            now = self.clock()
            for new in jobs:
                connection.execute(
                    "INSERT INTO job(key, kind, spec, priority, made_at_s, revision) VALUES(?, ?, ?, ?, ?, ?) "
                    f"ON CONFLICT(key) DO UPDATE SET {_ANEW}, spec = excluded.spec, "
                    "priority = excluded.priority, revision = excluded.revision "
                    "WHERE state IN ('failed', 'cancelled')",
                    (new.key, new.kind, _json(new.spec), new.priority, now, self._next_revision(connection)),
                )

    def retain(self, kind: str, keys: Iterable[str]) -> int:
        """Cancel the queued jobs of a kind that are not among these keys; returns their number."""
        with self._database.writing() as connection:
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted(key TEXT PRIMARY KEY) WITHOUT ROWID")
            connection.execute("DELETE FROM wanted")
            connection.executemany("INSERT OR IGNORE INTO wanted VALUES(?)", ((key,) for key in keys))
            ended = connection.execute(
                "UPDATE job SET state = 'cancelled', ended_at_s = ?, revision = ? "
                "WHERE state = 'queued' AND kind = ? AND key NOT IN (SELECT key FROM wanted)",
                (self.clock(), self._next_revision(connection), kind),
            )
            return ended.rowcount

    def cancel(self, job_id: int) -> Job | None:
        """Take a job out of the queue; an attempt that is running is asked to end.

        Returns:
            The job afterwards; None where there is none of this number.
        """
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE job SET state = 'cancelled', ended_at_s = ?, revision = ? WHERE id = ? AND state = 'queued'",
                (self.clock(), self._next_revision(connection), job_id),
            )
            connection.execute(
                "UPDATE job SET cancelling = 1, revision = ? WHERE id = ? AND state = 'running'",
                (self._next_revision(connection), job_id),
            )
        return self.get(job_id)

    def remove(self, job_id: int) -> bool:
        """Forget a job in a final state; its result is the caller's to remove, before this call.

        Returns:
            Whether it was there and final.
        """
        with self._database.writing() as connection:
            # Watchers of changes learn of it by the revision alone.
            self._next_revision(connection)
            removed = connection.execute(
                "DELETE FROM job WHERE id = ? AND state IN ('done', 'failed', 'cancelled')", (job_id,)
            )
            return removed.rowcount == 1

    # Working

    def claim(self, worker: str, kinds: Sequence[str], *, lease_s: float, untried: bool = False) -> Job | None:
        """Take the first job that is due: the highest priority, then the earliest queued.

        Args:
            worker: name of the worker's place, which its successor after a crash has too.
            kinds: kinds of jobs that the worker does.
            lease_s: time after which another worker may take the job, unless the lease is renewed.
            untried: take only a job of which no attempt has ended yet.

        Returns:
            The job, whose `token` is that of this attempt; None where nothing is due.
        """
        marks = ", ".join("?" * len(kinds))
        with self._database.writing(durable=False) as connection:
            now = self.clock()
            for row in connection.execute(
                "SELECT * FROM job WHERE state = 'running' AND lease_until_s < ?", (now,)
            ).fetchall():
                self._lose(connection, _job(row))
            # One query a kind, so that each walks an index.
            ready = [
                row
                for kind in kinds
                for row in connection.execute(
                    "SELECT id, priority FROM job WHERE state = 'queued' AND kind = ? AND due_at_s <= ? "
                    f"{'AND failures = 0 AND losses = 0 ' if untried else ''}ORDER BY priority DESC, id LIMIT 1",
                    (kind, now),
                )
            ]
            if not ready or not marks:
                return None
            chosen = min(ready, key=lambda row: (-row["priority"], row["id"]))["id"]
            taken = connection.execute(
                "UPDATE job SET state = 'running', worker = ?, token = ?, lease_until_s = ?, begun_at_s = ?, "
                "phase = '', share = 0, left_s = NULL, revision = ? WHERE id = ? RETURNING *",
                (worker, uuid.uuid4().hex, now + lease_s, now, self._next_revision(connection), chosen),
            ).fetchone()
            return _job(taken)

    def renew(
        self, job: Job, *, lease_s: float, phase: str | None = None, share: float = 0.0, left_s: float | None = None
    ) -> Job | None:
        """Renew the lease of an attempt, and note its progress.

        Args:
            job: as it was claimed.
            lease_s: as for `claim`.
            phase: what the attempt is doing; None leaves the progress as it is.
            share: share of the phase that is done, 0 to 1.
            left_s: seconds that are left; None where unknown.

        Returns:
            The job, whose `cancelling` states whether the attempt should end; None where the attempt has lost the job.
        """
        with self._database.writing(durable=False) as connection:
            until = self.clock() + lease_s
            if phase is None:
                row = connection.execute(
                    "UPDATE job SET lease_until_s = ? WHERE id = ? AND token = ? RETURNING *",
                    (until, job.id, job.token),
                ).fetchone()
            else:
                row = connection.execute(
                    "UPDATE job SET lease_until_s = ?, phase = ?, share = ?, left_s = ?, revision = ? "
                    "WHERE id = ? AND token = ? RETURNING *",
                    (until, phase, share, left_s, self._next_revision(connection), job.id, job.token),
                ).fetchone()
            return None if row is None else _job(row)

    def finish(self, job: Job, result: Mapping[str, Any]) -> bool:
        """Note that an attempt is done; its output is under its final name already.

        Returns:
            Whether the attempt still held the job. Otherwise nothing is changed, and nothing needs to be.
        """
        return self._end(job, State.DONE, result=result)

    def fail(self, job: Job, reason: str, *, exit_code: int, retry: bool) -> bool:
        """Note that an attempt failed: the job is tried again later, or set aside with its reason.

        Args:
            job: as it was claimed.
            reason: one sentence that identifies nobody.
            exit_code: of the error, as on the command line.
            retry: whether the same attempt may succeed later.

        Returns:
            Whether the attempt still held the job; otherwise nothing is changed.
        """
        with self._database.writing() as connection:
            row = connection.execute("SELECT * FROM job WHERE id = ? AND token = ?", (job.id, job.token)).fetchone()
            if row is None:
                return False
            failures = row["failures"] + 1
            again = retry and failures < self.policy.failures and not row["cancelling"]
            now = self.clock()
            connection.execute(
                f"UPDATE job SET {_FREE}, state = ?, share = 0, failures = ?, due_at_s = ?, reason = ?, exit_code = ?, "
                "ended_at_s = ?, revision = ? WHERE id = ?",
                (
                    State.QUEUED if again else State.CANCELLED if row["cancelling"] else State.FAILED,
                    failures,
                    now + self.policy.wait_s(failures) if again else 0.0,
                    reason,
                    exit_code,
                    None if again else now,
                    self._next_revision(connection),
                    job.id,
                ),
            )
            return True

    def end_cancelled(self, job: Job) -> bool:
        """Note that an attempt ended because it was asked to; returns whether it still held the job."""
        return self._end(job, State.CANCELLED)

    def release(self, job: Job) -> bool:
        """Give a job back untouched, for a worker that stops in an orderly way; returns whether it still held it."""
        with self._database.writing() as connection:
            released = connection.execute(
                f"UPDATE job SET {_FREE}, state = 'queued', share = 0, revision = ? WHERE id = ? AND token = ?",
                (self._next_revision(connection), job.id, job.token),
            )
            return released.rowcount == 1

    def recover(self, worker: str, *, crashed: bool = False) -> int:
        """Take back what the predecessor of a worker held when it died, without waiting for its lease to end.

        The caller must be the only process in the place of that worker: a lock that dies with the process shows it
        (`thinslice.system.atomic.sole_run`), or the caller has waited for its end.

        Args:
            worker: name of the place.
            crashed: whether the worker died alone, while all around it went on. That is likely to be the job's fault:
                it counts as a failure, and other jobs come first for a while.

        Returns:
            Number of jobs.
        """
        with self._database.writing() as connection:
            rows = connection.execute("SELECT * FROM job WHERE state = 'running' AND worker = ?", (worker,)).fetchall()
            for row in rows:
                self._lose(connection, _job(row), crashed=crashed)
            return len(rows)

    # Looking

    def get(self, job_id: int) -> Job | None:
        """The job of a number; None where there is none."""
        return self._one("SELECT * FROM job WHERE id = ?", job_id)

    def find(self, key: str) -> Job | None:
        """The job of a key; None where there is none."""
        return self._one("SELECT * FROM job WHERE key = ?", key)

    def held(self, worker: str) -> list[Job]:
        """Jobs that a worker has in hand."""
        return self._many("SELECT * FROM job WHERE state = 'running' AND worker = ?", worker)

    def running(self, kind: str) -> list[Job]:
        """Jobs of a kind that some worker has in hand."""
        return self._many("SELECT * FROM job WHERE state = 'running' AND kind = ?", kind)

    def finished(self, kind: str, *, most: int = 1000) -> list[Job]:
        """Jobs that are done, the latest first."""
        return self._many("SELECT * FROM job WHERE state = 'done' AND kind = ? ORDER BY id DESC LIMIT ?", kind, most)

    def failed(self, kind: str, *, most: int = 1000) -> list[Job]:
        """Jobs that were set aside, oldest first."""
        return self._many("SELECT * FROM job WHERE state = 'failed' AND kind = ? ORDER BY id LIMIT ?", kind, most)

    def next_due_s(self, kind: str) -> float | None:
        """Earliest time at which a queued job of a kind may be taken, seconds since 1970; None where none is queued."""
        rows = self._database.rows("SELECT MIN(due_at_s) FROM job WHERE state = 'queued' AND kind = ?", kind)
        return None if rows[0][0] is None else float(rows[0][0])

    def jobs(self, *, after: int = 0, most: int = 1000, kind: str | None = None) -> list[Job]:
        """Jobs in the order of queueing.

        Args:
            after: only those with a higher number.
            most: as many as this.
            kind: only those of this kind; None for every kind.
        """
        return self._many(
            "SELECT * FROM job WHERE id > ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY id LIMIT ?3", after, kind, most
        )

    def changed(self, since: int, *, most: int = 1000) -> list[Job]:
        """Jobs that changed after a revision, in the order of their last changes, as they are now."""
        return self._many("SELECT * FROM job WHERE revision > ? ORDER BY revision LIMIT ?", since, most)

    def revision(self) -> int:
        """Number of the last change of any job."""
        return int(self._database.rows("SELECT revision FROM change")[0][0])

    def ahead(self, job: Job) -> int:
        """Number of queued jobs of the same kind that come before a queued one."""
        rows = self._database.rows(
            "SELECT COUNT(*) FROM job "
            "WHERE state = 'queued' AND kind = ? AND (priority > ? OR (priority = ? AND id < ?))",
            job.kind,
            job.priority,
            job.priority,
            job.id,
        )
        return int(rows[0][0])

    def counts(self, kind: str | None = None) -> dict[State, int]:
        """Number of jobs in each state."""
        rows = self._database.rows(
            "SELECT state, COUNT(*) FROM job WHERE (?1 IS NULL OR kind = ?1) GROUP BY state", kind
        )
        found = {State(state): number for state, number in rows}
        return {state: found.get(state, 0) for state in State}

    # Inside

    def _next_revision(self, connection: sqlite3.Connection) -> int:
        row = connection.execute("UPDATE change SET revision = revision + 1 RETURNING revision").fetchone()
        return int(row[0])

    def _lose(self, connection: sqlite3.Connection, job: Job, *, crashed: bool = False) -> None:
        """Take a job back from an attempt that ended without an outcome."""
        losses, failures, now = job.losses + 1, job.failures + crashed, self.clock()
        state, reason, due_at_s = State.QUEUED, job.reason, 0.0
        if job.cancelling:
            state = State.CANCELLED
        elif crashed and failures >= self.policy.failures:
            state, reason = State.FAILED, f"{CRASHED}, {failures} times; the input may be damaged, or memory is short."
        elif losses >= self.policy.losses:
            state, reason = State.FAILED, f"{LOST}, {losses} times."
        elif crashed:
            reason, due_at_s = f"{CRASHED}.", now + self.policy.wait_s(failures)
        connection.execute(
            f"UPDATE job SET {_FREE}, state = ?, share = 0, losses = ?, failures = ?, due_at_s = ?, reason = ?, "
            "ended_at_s = ?, revision = ? WHERE id = ?",
            (
                *(state, losses, failures, due_at_s, reason),
                now if state.is_final else None,
                self._next_revision(connection),
                job.id,
            ),
        )

    def _end(self, job: Job, state: State, *, result: Mapping[str, Any] | None = None) -> bool:
        with self._database.writing() as connection:
            ended = connection.execute(
                f"UPDATE job SET {_FREE}, state = ?, result = ?, reason = NULL, exit_code = NULL, cancelling = 0, "
                "ended_at_s = ?, share = 1, revision = ? WHERE id = ? AND token = ?",
                (
                    state,
                    None if result is None else _json(result),
                    self.clock(),
                    self._next_revision(connection),
                    job.id,
                    job.token,
                ),
            )
            return ended.rowcount == 1

    def _one(self, query: str, value: Any) -> Job | None:
        found = self._many(query, value)
        return found[0] if found else None

    def _many(self, query: str, *values: Any) -> list[Job]:
        return [_job(row) for row in self._database.rows(query, *values)]


def _json(values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(values, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"A job carries JSON values only ({error}).") from error


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    values["spec"] = json.loads(values["spec"])
    values["result"] = None if values["result"] is None else json.loads(values["result"])
    values["state"] = State(values["state"])
    values["cancelling"] = bool(values["cancelling"])
    return Job(**values)
