"""What a node removes, and what it keeps until it has been sent."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pynetdicom")

from thinslice.queue import Job, NewJob, Queue
from thinslice.service.node.folder import DAY_S, REPORT, NodeFolder
from thinslice.service.node.inbox import Inbox

KEEP_DAYS = 3.0


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


class Work:
    """A received study with a result, and the job that sends it."""

    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.folder = NodeFolder(root)
        self.queue = Queue(self.folder.queue_file, clock=self.clock)
        self.inbox = Inbox(self.folder.incoming, self.folder.arriving)
        (self.folder.incoming / "study" / "series").mkdir(parents=True)
        self.upscale = self.queue.submit(NewJob("upscale", "result", {"study": "study"}))
        self.folder.result("result").mkdir()
        (self.folder.result("result") / REPORT).write_text("{}")
        self.send = self.queue.submit(NewJob("send:pacs", "sending", {"study": "study"}))
        self.folder.progress("sending").write_text("{}")

    def end(self, kind: str, *, well: bool = True) -> None:
        job = self.queue.claim("place", [kind], lease_s=60)
        assert isinstance(job, Job)
        if well:
            assert self.queue.finish(job, {})
        else:
            assert self.queue.fail(job, "gone", exit_code=5, retry=False)

    def after(self, days: float) -> tuple[bool, bool]:
        """Whether study and result are there after a sweep, so many days later."""
        self.clock.now_s += days * DAY_S
        self.folder.sweep(self.queue, self.inbox, keep_days=KEEP_DAYS, now_s=self.clock.now_s)
        return (self.folder.incoming / "study").exists(), self.folder.result("result").exists()


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "data")


def test_nothing_goes_before_it_was_sent(work: Work) -> None:
    work.end("upscale")
    assert work.after(100) == (True, True)
    work.end("send:pacs")
    assert work.after(KEEP_DAYS - 1) == (True, True)
    assert work.after(2) == (False, False)
    assert not work.folder.progress("sending").exists()
    assert work.queue.jobs() == []


def test_what_failed_stays_as_a_record_for_longer(work: Work) -> None:
    work.end("upscale")
    work.end("send:pacs", well=False)
    assert work.after(KEEP_DAYS + 1)[0] is False
    assert [job.state.value for job in work.queue.jobs()] == ["failed"]
    work.after(KEEP_DAYS + 1)
    assert work.queue.jobs() == []


def test_a_study_that_is_coming_in_stays(work: Work) -> None:
    work.end("upscale")
    work.end("send:pacs")
    work.inbox.touch("study")
    assert work.after(100)[0] is True
