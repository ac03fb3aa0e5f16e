"""The data folder: its token, and what a sweep removes and keeps."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from thinslice.errors import OutputError
from thinslice.queue import Job, NewJob, Queue
from thinslice.service.folder import DAY_S, SOURCE_FILE, DataFolder, write_json

NOW_S = 1_700_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


@pytest.fixture
def queue(folder: DataFolder) -> Iterator[Queue]:
    with Queue(folder.queue_file, clock=lambda: NOW_S) as made:
        yield made


def source(folder: DataFolder, number: int, *, age_days: float = 0.0, size: int = 10, complete: bool = True) -> str:
    source_id = f"{number:016x}"
    place = folder.source(source_id)
    (place / "files").mkdir(parents=True)
    (place / "files" / "000000").write_bytes(bytes(size))
    if complete:
        write_json(place / SOURCE_FILE, {"kind": "upload"})
    changed_s = NOW_S - age_days * DAY_S
    os.utime(place, (changed_s, changed_s))
    return source_id


def job(folder: DataFolder, queue: Queue, source_id: str, key: str, *, size: int = 10, done: bool = True) -> Job:
    queued = queue.submit(NewJob("upscale", key, {"source": source_id}))
    if done:
        claimed = queue.claim("w", ["upscale"], lease_s=60.0)
        assert claimed is not None
        folder.result(key).mkdir()
        (folder.result(key) / "thin.nii.gz").write_bytes(bytes(size))
        queue.finish(claimed, {})
    return queued


def sweep(folder: DataFolder, queue: Queue, *, limit_mib: float = 1000.0, days_later: float = 0.0) -> int:
    return folder.sweep(queue, keep_days=7.0, limit_gb=limit_mib / 1024, now_s=NOW_S + days_later * DAY_S)


def test_the_token_is_secret_and_stays(folder: DataFolder) -> None:
    token = folder.token()
    assert len(token) >= 40 and DataFolder(folder.root).token() == token
    if os.name == "posix":
        assert stat.S_IMODE((folder.root / "token").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    (folder.root / "token").write_text("short")
    assert len(folder.token()) >= 40


def test_a_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(OutputError):
        DataFolder(tmp_path / "data")


def test_names_of_sources_are_checked(folder: DataFolder) -> None:
    for name in ("..", "../../etc", "", "x" * 16, "0" * 15):
        with pytest.raises(ValueError):
            folder.source(name)


def test_old_results_go_and_their_sources_with_them(folder: DataFolder, queue: Queue) -> None:
    source_id = source(folder, 1)
    made = job(folder, queue, source_id, "a")
    sweep(folder, queue, days_later=6.9)
    assert folder.result("a").is_dir() and folder.source(source_id).is_dir()
    sweep(folder, queue, days_later=7.1)
    assert not folder.result("a").exists() and queue.get(made.id) is None
    sweep(folder, queue, days_later=7.2)
    assert not folder.source(source_id).exists()


def test_a_job_that_waits_keeps_its_source_however_old_and_full(folder: DataFolder, queue: Queue) -> None:
    source_id = source(folder, 1, age_days=100.0, size=2 << 20)
    waiting = job(folder, queue, source_id, "a", done=False)
    sweep(folder, queue, limit_mib=1.0, days_later=100.0)
    assert folder.source(source_id).is_dir() and queue.get(waiting.id) is not None


def test_an_upload_that_was_left_goes_after_a_day(folder: DataFolder, queue: Queue) -> None:
    fresh = source(folder, 1, complete=False, age_days=0.5)
    left = source(folder, 2, complete=False, age_days=1.5)
    sweep(folder, queue)
    assert folder.source(fresh).is_dir() and not folder.source(left).exists()


def test_beyond_the_limit_the_oldest_results_go_first(folder: DataFolder, queue: Queue) -> None:
    source_id = source(folder, 1)
    for key in "abc":
        job(folder, queue, source_id, key, size=1 << 20)
    left = sweep(folder, queue, limit_mib=2.5)
    assert [folder.result(key).exists() for key in "abc"] == [False, True, True]
    assert left == folder.used_bytes() <= 2.5 * 2**20
    assert [row.key for row in queue.jobs(kind="upscale")] == ["b", "c"]


def test_remains_without_a_job_go(folder: DataFolder, queue: Queue) -> None:
    source_id = source(folder, 1)
    job(folder, queue, source_id, "ended")
    job(folder, queue, source_id, "waiting", done=False)
    remains = [folder.result("lost"), folder.live / "lost", folder.live / "ended", folder.results / ".1f.partial.ended"]
    work = [folder.live / "waiting", folder.results / ".2f.partial.waiting"]
    for place in (*remains, *work):
        place.mkdir()
    sweep(folder, queue)
    assert not any(place.exists() for place in remains) and all(place.exists() for place in work)
    assert folder.result("ended").is_dir()
