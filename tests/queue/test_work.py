"""Workers: outcomes of attempts, cancelling, and a worker that is killed at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thinslice.errors import InputError, ResourceError
from thinslice.queue import Job, Lease, LeaseLostError, NewJob, Queue, RetryPolicy, State, work


def run(queue: Queue, handler: Callable[[Job, Lease], dict[str, Any]]) -> Job:
    """Do what is queued, and return the first job."""
    work(queue, "w", {"upscale": handler}, stop=threading.Event(), until_empty=True)
    return queue.jobs()[0]


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    made = Queue(tmp_path / "queue.sqlite", policy=RetryPolicy(failures=2, first_wait_s=0.0))
    made.submit(NewJob("upscale", "a", {"slices": 3}))
    return made


def test_a_result_is_noted(queue: Queue) -> None:
    job = run(queue, lambda job, lease: {"slices": job.spec["slices"] * 5})
    assert (job.state, job.result) == (State.DONE, {"slices": 15})


@pytest.mark.parametrize(
    ("error", "reason", "code", "attempts"),
    [
        (InputError("A slice is missing."), "A slice is missing.", 3, 1),
        (ResourceError("The disk is full."), "The disk is full.", 6, 2),
        (ValueError("Doe^Jane"), "internal error (ValueError); please report it.", 1, 2),
        (MemoryError(), "memory", 6, 2),
    ],
)
def test_a_failure_is_noted_without_what_it_quotes(
    error: Exception, reason: str, code: int, attempts: int, queue: Queue
) -> None:
    tried = []

    def fail(job: Job, lease: Lease) -> dict[str, Any]:
        tried.append(job.id)
        raise error

    job = run(queue, fail)
    assert job.state is State.FAILED and job.exit_code == code and len(tried) == attempts
    assert job.reason is not None and reason in job.reason


def test_a_cancelled_attempt_ends_at_its_next_progress(queue: Queue) -> None:
    def cancelled(job: Job, lease: Lease) -> dict[str, Any]:
        queue.cancel(job.id)
        lease.phase("network", 0.5)
        lease.renew()
        lease.phase("network", 0.6)
        raise AssertionError("an attempt went on after it was cancelled")

    assert run(queue, cancelled).state is State.CANCELLED


def test_an_attempt_that_lost_its_lease_stops_and_changes_nothing(queue: Queue) -> None:
    def overtaken(job: Job, lease: Lease) -> dict[str, Any]:
        queue.recover("w")
        other = queue.claim("other", ["upscale"], lease_s=60.0)
        assert other is not None
        lease.renew()
        with pytest.raises(LeaseLostError):
            lease.check()
        return {"by": "the slow one"}

    job = run(queue, overtaken)
    assert (job.state, job.worker, job.result) == (State.RUNNING, "other", None)


def test_progress_is_noted_with_the_time_left(queue: Queue) -> None:
    def halfway(job: Job, lease: Lease) -> dict[str, Any]:
        lease.phase("network", 0.0)
        lease.phase("network", 0.5)
        lease.renew()
        noted = queue.get(job.id)
        assert noted is not None and (noted.phase, noted.share) == ("network", 0.5)
        assert noted.left_s is not None and noted.left_s >= 0.0
        return {}

    assert run(queue, halfway).state is State.DONE


def test_an_interrupted_worker_gives_its_job_back(queue: Queue) -> None:
    def interrupted(job: Job, lease: Lease) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(queue, interrupted)
    job = queue.jobs()[0]
    assert (job.state, job.losses) == (State.QUEUED, 0)


def test_an_attempt_that_hangs_is_set_aside(queue: Queue) -> None:
    overdue = threading.Event()

    def hang(job: Job, lease: Lease) -> dict[str, Any]:
        assert overdue.wait(60.0)
        return {}

    job = queue.claim("w", ["upscale"], lease_s=60.0)
    assert job is not None
    with Lease(queue, job, every_s=0.01, limit_s=0.0, overdue=overdue.set) as lease:
        hang(job, lease)
    ended = queue.get(job.id)
    assert ended is not None and ended.state is State.FAILED
    assert ended.reason == "It took longer than 0 s, and was ended."


WORKER = """
import os, sys, threading
from pathlib import Path
from thinslice.queue import Queue, work

folder, kills = Path(sys.argv[1]), int(sys.argv[2])

def handler(job, lease):
    result = folder / job.key
    if not result.exists():
        with open(folder / "begun", "a") as log:
            log.write(job.key + chr(10))
        unfinished = folder / f"{job.key}.partial"
        unfinished.write_text(job.key)
        place = len((folder / "begun").read_text().splitlines())
        if place <= kills and place % 2:
            os.kill(os.getpid(), 9)      # before the result has its name
        os.link(unfinished, result)      # fails where a result is there: it appears once
        if place <= kills:
            os.kill(os.getpid(), 9)      # after it, before the queue knows
    return {"key": job.key}

with Queue(folder / "queue.sqlite") as queue:
    work(queue, "w", {"upscale": handler}, stop=threading.Event(), until_empty=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_workers_killed_before_and_after_their_results_do_each_job_once(tmp_path: Path) -> None:
    keys, kills = [f"job{k}" for k in range(6)], 6
    with Queue(tmp_path / "queue.sqlite") as queue:
        queue.submit_all(NewJob("upscale", key, {}) for key in keys)
    codes = []
    for _ in range(kills + 1):
        done = subprocess.run([sys.executable, "-c", WORKER, tmp_path, str(kills)], check=False, timeout=120)
        codes.append(done.returncode)
    assert codes == [-signal.SIGKILL] * kills + [0]
    with Queue(tmp_path / "queue.sqlite") as queue:
        assert queue.counts()[State.DONE] == len(keys)
        assert [job.result for job in queue.jobs()] == [{"key": key} for key in keys]
    assert all((tmp_path / key).read_text() == key for key in keys)
