"""The laws of the queue: one holder, no job lost, each done once, in order, bounded retries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from thinslice.errors import OutputError, UsageError
from thinslice.queue import Job, NewJob, Queue, RetryPolicy, State

POLICY = RetryPolicy(failures=3, losses=4, first_wait_s=5.0, longest_wait_s=15.0)


class Clock:
    """A time that only the test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Iterator[Queue]:
    with Queue(tmp_path / "queue.sqlite", policy=POLICY, clock=clock) as made:
        yield made


def add(queue: Queue, key: str, kind: str = "upscale", **rest: int) -> Job:
    return queue.submit(NewJob(kind, key, {"of": key}, **rest))


def claim(queue: Queue, worker: str = "w", kind: str = "upscale") -> Job | None:
    return queue.claim(worker, [kind], lease_s=60.0)


def claimed(queue: Queue, worker: str = "w") -> Job:
    job = claim(queue, worker)
    assert job is not None
    return job


def test_jobs_come_by_priority_and_then_in_the_order_of_queueing(queue: Queue) -> None:
    for key in "abc":
        add(queue, key)
    add(queue, "urgent", priority=1)
    add(queue, "other", kind="inspect")
    assert [claimed(queue).key for _ in range(4)] == ["urgent", "a", "b", "c"]
    assert claim(queue) is None
    both = queue.claim("w", ["upscale", "inspect"], lease_s=1.0)
    assert both is not None and both.key == "other" and both.spec == {"of": "other"}


def test_a_key_is_queued_once_and_a_job_that_is_done_stays_done(queue: Queue) -> None:
    first = add(queue, "a")
    assert add(queue, "a").id == first.id
    job = claimed(queue)
    assert add(queue, "a").state is State.RUNNING
    assert queue.finish(job, {"slices": 7})
    again = add(queue, "a")
    assert (again.state, again.result) == (State.DONE, {"slices": 7})
    assert claim(queue) is None


def test_workers_in_many_threads_never_hold_one_job(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with Queue(path) as queue:
        queue.submit_all(NewJob("upscale", str(k), {}) for k in range(200))

    def drain(worker: int) -> list[str]:
        taken = []
        with Queue(path) as own:
            while (job := own.claim(str(worker), ["upscale"], lease_s=60.0)) is not None:
                taken.append(job.key)
                assert own.finish(job, {})
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [key for keys in pool.map(drain, range(4)) for key in keys]
    assert sorted(taken, key=int) == [str(k) for k in range(200)]


def test_an_expired_lease_goes_to_another_worker_and_the_first_cannot_write(queue: Queue, clock: Clock) -> None:
    add(queue, "a")
    slow = claimed(queue, "slow")
    clock.now_s += 59.0
    assert claim(queue, "quick") is None
    assert queue.renew(slow, lease_s=60.0) is not None
    clock.now_s += 59.0
    assert claim(queue, "quick") is None
    clock.now_s += 2.0
    quick = claimed(queue, "quick")
    assert quick.id == slow.id and quick.losses == 1
    assert queue.renew(slow, lease_s=60.0) is None
    assert not queue.finish(slow, {"by": "slow"})
    assert not queue.fail(slow, "late", exit_code=1, retry=True)
    assert not queue.release(slow) and not queue.end_cancelled(slow)
    assert queue.finish(quick, {"by": "quick"})
    done = queue.get(quick.id)
    assert done is not None and (done.state, done.result) == (State.DONE, {"by": "quick"})


def test_the_successor_of_a_dead_worker_takes_its_job_back_at_once(queue: Queue) -> None:
    add(queue, "a")
    add(queue, "b")
    lost, kept = claimed(queue, "one"), claimed(queue, "two")
    assert queue.recover("one") == 1
    again = claimed(queue, "one")
    assert again.id == lost.id and again.token != lost.token and again.losses == 1
    assert queue.renew(kept, lease_s=60.0) is not None


def test_a_job_that_ends_its_worker_each_time_is_set_aside_with_the_reason(queue: Queue) -> None:
    add(queue, "poison")
    add(queue, "good")
    for _ in range(POLICY.losses):
        assert claimed(queue).key == "poison"
        queue.recover("w")
    poison = queue.find("poison")
    assert poison is not None and poison.state is State.FAILED
    assert poison.reason == "Its worker ended without an outcome, 4 times."
    assert claimed(queue).key == "good"


def test_a_job_that_crashes_its_worker_lets_others_go_first_and_is_soon_set_aside(queue: Queue, clock: Clock) -> None:
    add(queue, "poison")
    add(queue, "good")
    assert claimed(queue).key == "poison"
    assert queue.recover("w", crashed=True) == 1
    good = claimed(queue)
    assert good.key == "good" and queue.finish(good, {})
    assert claim(queue) is None
    for _ in range(POLICY.failures - 1):
        clock.now_s += 1000.0
        assert claimed(queue).key == "poison"
        queue.recover("w", crashed=True)
    poison = queue.find("poison")
    assert poison is not None and poison.state is State.FAILED
    assert poison.reason == "Its worker crashed, 3 times; the input may be damaged, or memory is short."


def test_a_failure_that_may_pass_is_tried_again_after_growing_waits(queue: Queue, clock: Clock) -> None:
    add(queue, "a")
    for wait_s in (5.0, 10.0):
        assert queue.fail(claimed(queue), "The disk is full.", exit_code=6, retry=True)
        clock.now_s += wait_s - 0.1
        assert claim(queue) is None
        clock.now_s += 0.1
    assert queue.fail(claimed(queue), "The disk is full.", exit_code=6, retry=True)
    job = queue.find("a")
    assert job is not None
    assert (job.state, job.failures, job.reason, job.exit_code) == (State.FAILED, 3, "The disk is full.", 6)
    begun_again = add(queue, "a")
    assert (begun_again.state, begun_again.failures, begun_again.reason) == (State.QUEUED, 0, None)


def test_a_job_that_waits_for_another_attempt_holds_up_no_other(queue: Queue) -> None:
    add(queue, "a")
    add(queue, "b")
    queue.fail(claimed(queue), "The disk is full.", exit_code=6, retry=True)
    assert claimed(queue).key == "b"


def test_a_refused_input_is_set_aside_at_once(queue: Queue) -> None:
    add(queue, "a")
    queue.fail(claimed(queue), "A slice is missing.", exit_code=3, retry=False)
    job = queue.find("a")
    assert job is not None and (job.state, job.reason) == (State.FAILED, "A slice is missing.")


def test_cancelling_ends_a_queued_job_at_once_and_asks_a_running_one(queue: Queue) -> None:
    running, waiting = add(queue, "a"), add(queue, "b")
    attempt = claimed(queue)
    cancelled = queue.cancel(waiting.id)
    assert cancelled is not None and cancelled.state is State.CANCELLED
    asked = queue.cancel(running.id)
    assert asked is not None and asked.state is State.RUNNING and asked.cancelling
    renewed = queue.renew(attempt, lease_s=60.0)
    assert renewed is not None and renewed.cancelling
    assert queue.end_cancelled(attempt)
    assert queue.counts() == {**dict.fromkeys(State, 0), State.CANCELLED: 2}
    assert queue.cancel(99) is None


def test_a_cancelled_job_whose_worker_dies_or_fails_stays_cancelled(queue: Queue) -> None:
    for key in "ab":
        add(queue, key)
        queue.cancel(claimed(queue).id)
    by_death, by_failure = queue.find("a"), queue.find("b")
    assert by_death is not None and by_failure is not None
    assert queue.fail(by_failure, "The disk is full.", exit_code=6, retry=True)
    queue.recover("w")
    assert queue.counts()[State.CANCELLED] == 2


def test_a_worker_that_stops_in_order_gives_its_job_back_untouched(queue: Queue) -> None:
    add(queue, "a")
    assert queue.release(claimed(queue))
    job = claimed(queue)
    assert (job.losses, job.failures) == (0, 0)


def test_changes_are_listed_once_in_order_with_their_last_state(queue: Queue) -> None:
    first, second = add(queue, "a"), add(queue, "b")
    seen = queue.revision()
    queue.renew(claimed(queue), lease_s=60.0, phase="network", share=0.25, left_s=30.0)
    queue.cancel(second.id)
    changed = queue.changed(seen)
    assert [(job.id, job.state) for job in changed] == [(first.id, State.RUNNING), (second.id, State.CANCELLED)]
    assert (changed[0].phase, changed[0].share, changed[0].left_s) == ("network", 0.25, 30.0)
    assert queue.changed(changed[-1].revision) == []
    before = queue.revision()
    assert queue.remove(second.id) and not queue.remove(first.id)
    assert queue.revision() > before


def test_the_number_of_jobs_ahead(queue: Queue) -> None:
    jobs = [add(queue, key) for key in "abc"]
    urgent = add(queue, "urgent", priority=1)
    assert [queue.ahead(job) for job in (*jobs, urgent)] == [1, 2, 3, 0]


def test_ten_thousand_jobs_are_queued_and_worked_by_index_not_by_scan(queue: Queue, tmp_path: Path) -> None:
    queue.submit_all(NewJob("upscale", str(k), {"k": k}) for k in range(10_000))
    for k in range(300):
        job = claimed(queue)
        assert job.spec == {"k": k}
        assert queue.finish(job, {})
    assert queue.counts()[State.QUEUED] == 9_700
    # What makes it quick whatever the machine: no statement of a claim walks the table.
    with sqlite3.connect(tmp_path / "queue.sqlite") as connection:
        for statement in (
            "SELECT id FROM job WHERE state = 'queued' AND kind = 'upscale' AND due_at_s <= 1 "
            "ORDER BY priority DESC, id LIMIT 1",
            "SELECT * FROM job WHERE state = 'running' AND lease_until_s < 1",
            "SELECT * FROM job WHERE revision > 1 ORDER BY revision LIMIT 10",
        ):
            plan = " ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement))
            assert "USING INDEX" in plan and "TEMP B-TREE" not in plan, plan
    connection.close()


def test_pages_of_jobs(queue: Queue) -> None:
    for key in "abcd":
        add(queue, key, kind="inspect" if key == "b" else "upscale")
    assert [job.key for job in queue.jobs(after=1, most=2)] == ["b", "c"]
    assert [job.key for job in queue.jobs(kind="upscale")] == ["a", "c", "d"]


def test_values_that_are_no_json_are_refused_and_leave_nothing(queue: Queue) -> None:
    with pytest.raises(UsageError, match="JSON values only"):
        queue.submit(NewJob("upscale", "a", {"spacing_mm": float("nan")}))
    assert queue.jobs() == []


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 20 0:40 / {tmp_path.resolve()} rw - nfs4 host:/x rw\n")
    monkeypatch.setattr("thinslice.system.mounts._MOUNTS", mounts)
    with pytest.raises(OutputError, match="network file system .nfs4.*local disk"):
        Queue(tmp_path / "queue.sqlite")
    assert not (tmp_path / "queue.sqlite").exists()


def test_a_file_that_is_no_queue_or_of_another_version_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    other.write_text("no database, but long enough to be read as the head of one " * 40)
    with pytest.raises(OutputError, match="damaged, or no queue"):
        Queue(other)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(OutputError, match="version 99"):
        Queue(newer)
    with pytest.raises(OutputError, match="cannot be read or written"):
        Queue(tmp_path / "missing" / "queue.sqlite")
