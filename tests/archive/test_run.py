"""The run of a plan: results as those of upscale --all, faults set aside, and every result once whatever is killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.archives import LINEAR, by_upscale_all, outputs_of, planned, states_of, write_archive
from support.dicom_factory import assert_no_canary, write_series
from thinslice.archive import run as run_module
from thinslice.archive import series_work
from thinslice.archive.catalogue import SERIES_QUERY, Catalogue
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan import PlanOptions, choose, run_plan
from thinslice.archive.plan_file import KIND, read_plan
from thinslice.archive.run import RunState, join_plan, run_plan_locally
from thinslice.archive.scan import run_scan
from thinslice.archive.series_work import DiskShortError
from thinslice.archive.worker import ArchiveWorker, WorkerOptions
from thinslice.errors import OutputBusyError, ResourceError, UsageError
from thinslice.queue import Queue, State
from thinslice.recipes.series_rules import SeriesRules


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def test_a_worker_makes_what_upscale_all_makes_and_sets_faults_aside(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 3, gaps=1, values=1)
    place, plan = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    assert plan.chosen == {"all": 4} and list(plan.left_out.values()) == [1]
    assert join_plan(place, options=WorkerOptions(1)) == 4
    found = states_of(place)
    assert [found[f"1.2.3.{k}"][0] for k in (1, 2, 3, 5)] == [State.DONE] * 3 + [State.FAILED]
    assert "HU" in str(found["1.2.3.5"][1])
    assert outputs_of(tmp_path / "out") == by_upscale_all(tmp_path / "ct", tmp_path / "whole")
    assert_no_canary([path.name for path in (tmp_path / "out").rglob("*")])
    assert_no_canary(str(found))


def test_a_second_run_finds_everything_done(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 2)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    join_plan(place, options=WorkerOptions(1))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.dcm")}
    planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    assert join_plan(place, options=WorkerOptions(1)) == 0
    place.queue.unlink()  # even where the queue was lost
    planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    assert join_plan(place, options=WorkerOptions(1)) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_next_series_is_read_while_the_network_is_at_work(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 3)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    join_plan(place, options=WorkerOptions(1))
    with Queue(place.queue) as queue:
        times = [job.result["times"] for job in queue.jobs(kind=KIND) if job.result]
    assert len(times) == 3
    for one, following in pairwise(times):
        assert following["reading_begun"] < one["ended"] and following["begun"] >= one["ended"]


def test_rules_choose_and_set_options(tmp_path: Path) -> None:
    write_series(tmp_path / "ct" / "a", shape=(4, 16, 16), seed=1, uid="1.2.1")
    write_series(tmp_path / "ct" / "b", shape=(4, 16, 16), seed=2, uid="1.2.2", spacing_mm=(3, 0.7, 0.7))
    write_series(tmp_path / "ct" / "c", shape=(6, 16, 16), seed=3, uid="1.2.3", tilt_degrees=10.0)
    write_series(tmp_path / "ct" / "d", shape=(4, 16, 16), seed=4, uid="1.2.4", spacing_mm=(1, 0.7, 0.7))
    rules = SeriesRules.model_validate(
        {
            "rule": [
                {
                    "name": "three",
                    "when": {"spacing_mm": {"at_most": 3}},
                    "run": {"model": "linear", "spacing_mm": 0.5},
                },
                {"name": "rest", "run": {"model": "linear", "factor": 2, "on_tilt": "resample"}},
            ]
        }
    )
    place, plan = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out", rules=rules)
    assert plan.chosen == {"three": 2, "rest": 2} and plan.left_out == {}
    with Catalogue(place.catalogue) as catalogue:
        chosen = {row["uid"]: choose(row, rules.rules) for row in catalogue.rows(SERIES_QUERY)}
    assert {uid: each if isinstance(each, str) else each.factor for uid, each in chosen.items()} == {
        "1.2.1": 2,
        "1.2.2": 6,
        "1.2.3": 2,
        "1.2.4": 2,
    }
    assert join_plan(place, options=WorkerOptions(1)) == 4
    assert {state for state, _ in states_of(place).values()} == {State.DONE}


def test_planning_again_takes_out_of_the_queue_what_no_rule_fits(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 2)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    none = SeriesRules.model_validate({"rule": [{"name": "none", "when": {"kernel": "no such"}}]})
    plan = run_plan(place, PlanOptions(tmp_path / "out", none, measure=False))
    assert plan.chosen == {} and plan.left_out == {"no rule fits": 2}
    assert {state for state, _ in states_of(place).values()} == {State.CANCELLED}
    planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    assert {state for state, _ in states_of(place).values()} == {State.QUEUED}


def test_a_measurement_gives_the_estimate_and_is_kept(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 3)
    place = ArchivePlace(tmp_path / "index")
    run_scan(tmp_path / "ct", place, processes=0)
    options = PlanOptions(tmp_path / "out", LINEAR, device="cpu", backend="torch")
    first, again = run_plan(place, options).estimate, run_plan(place, options).estimate
    assert first is not None and first.rates is not None and again is not None and again.rates is not None
    assert (first.rates.origin, again.rates.origin) == ("measured now", "earlier run")
    assert first.series == 3 and first.seconds is not None and first.seconds > 0 and first.memory_mib is not None
    assert first.thin_mvoxels == pytest.approx(3 * 16 * 16 * 16 / 1e6, rel=0.1)
    assert not list((tmp_path / "index").glob("measuring-*")) and not (tmp_path / "out").exists()


def test_a_series_that_has_changed_since_the_scan_is_set_aside(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 2)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    os.utime(next((tmp_path / "ct" / "Doe000_Jane" / "ct").iterdir()), ns=(1, 1))
    join_plan(place, options=WorkerOptions(1))
    found = states_of(place)
    assert found["1.2.3.1"][0] is State.FAILED and "changed since the scan" in str(found["1.2.3.1"][1])
    planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    join_plan(place, options=WorkerOptions(1))
    with Queue(place.queue) as queue:
        assert queue.counts(KIND)[State.DONE] == 2


def test_work_stops_before_the_disk_is_full_and_nothing_is_lost(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 2)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    with pytest.raises(ResourceError, match="room"):
        join_plan(place, options=WorkerOptions(1, 1e12))
    assert {state for state, _ in states_of(place).values()} == {State.QUEUED}
    with pytest.raises(ResourceError, match="0 of 2 series are done"):
        run_plan_locally(place, processes=1, options=WorkerOptions(1, 1e12))
    assert join_plan(place, options=WorkerOptions(1)) == 2


def test_a_disk_that_fills_up_in_the_middle_ends_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path / "ct", 1)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")

    def full(*_: Any, **__: Any) -> None:
        shutil_usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(series_work.shutil, "disk_usage", lambda _: shutil_usage._replace(free=0))
        raise ResourceError("The disk is full while writing 'Doe'.")

    monkeypatch.setattr(series_work, "upscale_one", full)
    with pytest.raises(DiskShortError):
        ArchiveWorker(place, "w").run(threading.Event())
    with Queue(place.queue) as queue:
        (job,) = queue.jobs(kind=KIND)
    assert job.state is State.QUEUED and job.failures == 0


def test_what_cannot_be_planned_or_run_is_refused(tmp_path: Path) -> None:
    place = ArchivePlace(tmp_path / "index")
    with pytest.raises(UsageError, match="scan ROOT"):
        run_plan(place, PlanOptions(tmp_path / "out"))
    write_archive(tmp_path / "ct", 1)
    run_scan(tmp_path / "ct", place, processes=0)
    with pytest.raises(UsageError, match="plan OUT"):
        join_plan(place)
    with pytest.raises(UsageError, match="holds the archive"):
        run_plan(place, PlanOptions(tmp_path, measure=False))


def test_two_drivers_do_not_work_at_once(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 1)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    with run_module.sole_run(place.root / "run"), pytest.raises(OutputBusyError, match="archive work"):
        run_plan_locally(place, processes=1)
    with run_module.sole_run(place.places / "me"), pytest.raises(OutputBusyError):
        join_plan(place, name="me")


POISON = """
import os, signal, sys
import thinslice.io.files as files
original = files.read_as
def read_as(source, *a, **k):
    if "Doe001" in str(source):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(source, *a, **k)
files.read_as = read_as
import thinslice.commands.upscale
from thinslice.archive import worker
raise SystemExit(worker.main(sys.argv[1:]))
"""
"""A worker that a certain series ends, as a fault in a library would."""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX system")
def test_a_series_that_ends_its_worker_is_set_aside_and_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "ct", 4)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")

    def start(pool: Any, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", POISON, str(place.root), name, *WorkerOptions(1, 0.0).arguments()]
        return subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})

    monkeypatch.setattr(run_module._Pool, "_start", start)
    last = run_plan_locally(place, processes=1)
    assert (last.done, last.failed) == (3, 1)
    assert "crashed" in str(states_of(place)["1.2.3.2"][1])
    with Queue(place.queue) as queue:
        assert all(job.failures == 0 for job in queue.jobs(kind=KIND) if job.spec["series"] != "1.2.3.2")


def _drive(place: ArchivePlace, processes: int = 2) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "thinslice", "archive", "run", "--index", str(place.root), "--quiet"]
    return subprocess.Popen(
        [*command, "--processes", str(processes), "--keep-free", "0"], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def _workers_of(driver: int) -> list[int]:
    """Process numbers of a driver's children."""
    try:
        return [int(number) for number in Path(f"/proc/{driver}/task/{driver}/children").read_text().split()]
    except OSError:
        return []


def _kill_at_random(place: ArchivePlace, kills: int, seed: int) -> None:
    """Run a plan, and kill a worker or the driver at random moments, measured in changes of the queue."""
    chance = random.Random(seed)
    pause = threading.Event()
    with Queue(place.queue) as queue:
        for kill in range(kills):
            driver = _drive(place)
            moment = queue.revision() + chance.randint(1, 12)
            while driver.poll() is None and queue.revision() < moment:
                pause.wait(0.01)
            workers = _workers_of(driver.pid)
            if kill % 2 and workers:
                os.kill(chance.choice(workers), signal.SIGKILL)
                again = queue.revision() + chance.randint(1, 6)
                while driver.poll() is None and queue.revision() < again:
                    pause.wait(0.01)
            driver.kill()
            driver.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="not Linux: no list of a process's children")
@pytest.mark.heavy
@pytest.mark.parametrize(("good", "broken", "kills"), [(4, 1, 2), (294, 6, 20)])
def test_whatever_is_killed_every_good_series_appears_once_and_every_bad_one_has_its_reason(
    tmp_path: Path, good: int, broken: int, kills: int
) -> None:
    write_archive(tmp_path / "ct", good, values=broken, gaps=1)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    _kill_at_random(place, kills, seed=good)
    driver = _drive(place)
    assert driver.wait() == 8
    found = states_of(place)
    assert sum(state is State.DONE for state, _ in found.values()) == good
    failed = {uid: reason for uid, (state, reason) in found.items() if state is State.FAILED}
    assert set(failed) == {f"1.2.3.{good + 2 + k}" for k in range(broken)}
    assert all("HU" in str(reason) for reason in failed.values())
    assert outputs_of(tmp_path / "out") == by_upscale_all(tmp_path / "ct", tmp_path / "whole")
    assert not [path for path in (tmp_path / "out").rglob(".*") if ".partial." in path.name]


def test_the_state_of_a_run_is_reported_to_its_end(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 2)
    place, _ = planned(tmp_path / "ct", tmp_path / "index", tmp_path / "out")
    seen: list[RunState] = []
    last = run_plan_locally(place, processes=1, options=WorkerOptions(1, 0.0), watch=seen.append)
    assert seen[0].left == 2 and seen[-1] == last and last.left == 0 and last.made == 2
    assert read_plan(place).estimate is not None
    kept = run_plan(place, PlanOptions(tmp_path / "other", LINEAR, measure=False, device="cpu", backend="torch"))
    assert kept.estimate is not None and kept.estimate.rates is not None and kept.estimate.rates.series == 2
