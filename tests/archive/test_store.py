"""An archive in a store of objects: headers by beginnings of objects, results by a manifest that is made once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.archives import LINEAR, outputs_of, planned, write_archive
from support.dicom_factory import write_series
from support.object_store import BUCKET, client, put_tree, served_store, stored_results
from thinslice.archive.catalogue import SERIES_QUERY, Catalogue, series_values
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan import PlanOptions, run_plan
from thinslice.archive.plan_file import KIND
from thinslice.archive.run import join_plan
from thinslice.archive.scan import run_scan
from thinslice.archive.storage.results import StoreResults
from thinslice.archive.storage.scratch import Scratch
from thinslice.archive.storage.store import ObjectStore, checked_url
from thinslice.archive.worker import ArchiveWorker, WorkerOptions
from thinslice.errors import OutputError, ResourceError, UnreachableError, UnreadableError, UsageError
from thinslice.queue import Queue, State

ROOT, OUT = f"s3://{BUCKET}/ct", f"s3://{BUCKET}/thin"
ONE = WorkerOptions(1, 0.0)


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, served_store(patch) as address:
        yield address


@pytest.fixture
def store(served: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The store, emptied."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    files = client()
    for name in files.find(BUCKET, refresh=True):
        files.rm_file(name)
    return served


def plan_in_store(index: Path, *, overwrite: bool = False) -> ArchivePlace:
    place = ArchivePlace(index)
    run_scan(ROOT, place, processes=0)
    options = PlanOptions(OUT, LINEAR, overwrite, measure=False, retry_first_s=0.0, device="cpu", backend="torch")
    run_plan(place, options)
    return place


def catalogued(place: ArchivePlace) -> list[dict[str, object]]:
    with Catalogue(place.catalogue) as catalogue:
        rows = [series_values(row) for row in catalogue.rows(f"{SERIES_QUERY} ORDER BY series.uid")]
    return [{name: value for name, value in row.items() if name != "patient"} for row in rows]


def test_a_store_is_scanned_and_upscaled_as_a_folder_is(tmp_path: Path, store: str) -> None:
    write_archive(tmp_path / "ct", 2, gaps=1, values=1)
    (tmp_path / "ct" / "notes.txt").write_text("no DICOM")
    (tmp_path / "ct" / "empty").write_bytes(b"")
    put_tree(tmp_path / "ct", ROOT)
    local, _ = planned(tmp_path / "ct", tmp_path / "local", tmp_path / "out")
    place = plan_in_store(tmp_path / "index")
    assert catalogued(place) == catalogued(local)
    with Catalogue(place.catalogue) as mine, Catalogue(local.catalogue) as theirs:
        assert mine.reasons() == theirs.reasons()
    join_plan(local, options=ONE)
    assert join_plan(place, options=ONE) == 3
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in stored_results(OUT).items()}
    assert digests == outputs_of(tmp_path / "out")
    with Queue(place.queue) as queue:
        (failed,) = queue.failed(KIND)
    assert "HU" in str(failed.reason) and failed.exit_code == 3
    again = run_scan(ROOT, place, processes=0)
    assert (again.files, again.unchanged) == (0, again.folders)


def test_headers_beyond_the_beginning_of_an_object_and_archive_files_are_fetched_whole(
    tmp_path: Path, store: str
) -> None:
    import zipfile

    from pydicom import dcmread

    write_series(tmp_path / "ct" / "long", shape=(3, 16, 16), seed=1, uid="1.2.1")
    for path in sorted((tmp_path / "ct" / "long").iterdir()):
        dataset = dcmread(path)
        dataset.add_new(0x00091001, "OB", b"\x01" * 100_000)
        dataset.save_as(path)
    write_series(tmp_path / "ct" / "large", shape=(3, 256, 256), seed=2, uid="1.2.2")
    write_series(tmp_path / "packed", shape=(3, 256, 256), seed=3, uid="1.2.3")
    with zipfile.ZipFile(tmp_path / "ct" / "study.zip", "w") as packed:
        for path in sorted((tmp_path / "packed").iterdir()):
            packed.write(path, path.name)
    put_tree(tmp_path / "ct", ROOT)
    place, local = ArchivePlace(tmp_path / "index"), ArchivePlace(tmp_path / "local")
    run_scan(ROOT, place, processes=0)
    run_scan(tmp_path / "ct", local, processes=0)
    assert [row["series_uid"] for row in catalogued(place)] == ["1.2.1", "1.2.2", "1.2.3"]
    assert catalogued(place) == catalogued(local)


def test_an_attempt_that_was_killed_leaves_nothing_that_counts_and_the_next_removes_it(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "ct", 1)
    put_tree(tmp_path / "ct", ROOT)
    place = plan_in_store(tmp_path / "index")

    def killed(store: ObjectStore, name: str, content: bytes) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ObjectStore, "make_once", killed)
        patch.setattr("thinslice.archive.run.require_stores", lambda *_: None)
        join_plan(place, options=ONE)
    left = client().find(f"{BUCKET}/thin", refresh=True)
    assert left and not [name for name in left if name.endswith(".json")]
    assert join_plan(place, options=ONE) == 1
    assert stored_results(OUT)
    assert not set(left) & set(client().find(f"{BUCKET}/thin", refresh=True))


@pytest.mark.heavy
def test_of_two_attempts_one_wins_and_the_other_takes_its_result(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "ct", 1)
    put_tree(tmp_path / "ct", ROOT)
    place = plan_in_store(tmp_path / "index")
    original = StoreResults._commit
    rows = []

    def twice(results: StoreResults, *arguments: object, **options: object) -> object:
        rows.append(original(results, *arguments, **options))  # type: ignore[arg-type]
        rows.append(original(results, *arguments, **options))  # type: ignore[arg-type]
        return rows[-1]

    monkeypatch.setattr(StoreResults, "_commit", twice)
    join_plan(place, options=ONE)
    assert [row.status for row in rows] == ["done", "skipped"]
    assert stored_results(OUT)


@pytest.mark.heavy
def test_other_settings_need_overwrite(tmp_path: Path, store: str) -> None:
    write_archive(tmp_path / "ct", 1)
    put_tree(tmp_path / "ct", ROOT)
    join_plan(plan_in_store(tmp_path / "index"), options=ONE)
    before = stored_results(OUT)
    objects = [name for name in client().find(f"{BUCKET}/thin") if name.endswith(".dcm")]
    name = next(name for name in client().find(f"{BUCKET}/ct"))
    client().pipe_file(name, (tmp_path / "ct" / name.partition("/ct/")[2]).read_bytes() + b"\0\0")
    place = plan_in_store(tmp_path / "index")
    join_plan(place, options=ONE)
    with Queue(place.queue) as queue:
        (failed,) = queue.failed(KIND)
    assert "overwrite" in str(failed.reason) and failed.exit_code == 5 and stored_results(OUT) == before
    join_plan(plan_in_store(tmp_path / "index", overwrite=True), options=ONE)
    # The voxels are the same, from files that are not: a new attempt has taken the place of the old one.
    assert stored_results(OUT) == before
    assert not set(objects) & {name for name in client().find(f"{BUCKET}/thin") if name.endswith(".dcm")}


@pytest.mark.heavy
def test_an_object_that_has_changed_since_the_scan_is_set_aside(tmp_path: Path, store: str) -> None:
    write_archive(tmp_path / "ct", 2)
    put_tree(tmp_path / "ct", ROOT)
    place = plan_in_store(tmp_path / "index")
    first, *_ = client().find(f"{BUCKET}/ct")
    client().rm_file(first)
    join_plan(place, options=ONE)
    with Queue(place.queue) as queue:
        (failed,) = queue.failed(KIND)
    assert "gone" in str(failed.reason) and "Doe" not in str(failed.reason)


def test_scratch_is_bounded_and_remains_are_removed(tmp_path: Path) -> None:
    with Scratch(tmp_path / "scratch", most_mib=10) as scratch:
        begun, release = threading.Event(), threading.Event()

        def hold() -> None:
            with scratch.folder(6):
                begun.set()
                release.wait()

        other = threading.Thread(target=hold)
        other.start()
        begun.wait()
        with pytest.raises(ResourceError, match="scratch_mib"), scratch.folder(11):
            pass
        threading.Timer(0.05, release.set).start()
        with scratch.folder(6) as folder:  # waits for the other one
            assert release.is_set() and not any(folder.iterdir())
        other.join()
        (tmp_path / "scratch" / ("0" * 12)).mkdir()  # left by a worker that was killed
        with Scratch(tmp_path / "scratch") as second:
            assert second.root.is_dir() and not (tmp_path / "scratch" / ("0" * 12)).exists()
            assert scratch.root.is_dir()
    assert not [path for path in (tmp_path / "scratch").iterdir() if path.is_dir()]


@pytest.mark.heavy
def test_a_series_beyond_the_scratch_is_set_aside_and_others_are_not(tmp_path: Path, store: str) -> None:
    write_archive(tmp_path / "ct", 1)
    put_tree(tmp_path / "ct", ROOT)
    place = plan_in_store(tmp_path / "index")
    worker = ArchiveWorker(place, "w", threads=1, kept_free_mib=0, scratch=tmp_path / "scratch", scratch_mib=0.001)
    worker.run(threading.Event())
    with Queue(place.queue) as queue:
        (failed,) = queue.failed(KIND)
    assert failed.exit_code == 6 and failed.failures == 4


@pytest.mark.heavy
def test_a_network_that_is_cut_is_tried_again(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path / "ct", 1)
    put_tree(tmp_path / "ct", ROOT)
    place = plan_in_store(tmp_path / "index")
    original, cuts = ObjectStore.put, []

    def put(store: ObjectStore, files: list[Path], names: list[str]) -> None:
        if len(cuts) < 2:
            cuts.append(1)
            raise UnreachableError("The store does not answer.")
        original(store, files, names)

    monkeypatch.setattr(ObjectStore, "put", put)
    join_plan(place, options=ONE)
    with Queue(place.queue) as queue:
        (job,) = queue.jobs(kind=KIND)
    assert job.state is State.DONE and job.failures == 2 and stored_results(OUT)


def test_faults_of_a_store_name_the_next_step(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableError, match="AWS_ENDPOINT_URL"):
        ObjectStore("s3://no-such-bucket/ct").require("read")
    with pytest.raises(UnreadableError, match="There is nothing"):
        ObjectStore(f"s3://{BUCKET}/empty").require("read")
    with pytest.raises(OutputError, match="bucket"):
        ObjectStore("s3://no-such-bucket/out").require("write")
    ObjectStore(f"s3://{BUCKET}/out").require("write")
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="twice"):
        patch.setattr(ObjectStore, "make_once", lambda *_: True)
        ObjectStore(f"s3://{BUCKET}/out").require("write")
    for url in ("s3://", f"s3://{BUCKET}/../x", "s3:///x"):
        with pytest.raises(UsageError):
            checked_url(url)


def test_without_credentials_or_an_answer_the_reason_is_clear(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("thinslice.archive.storage.store.RETRIES", 1)
    with monkeypatch.context() as patch, pytest.raises(UnreachableError, match="network"):
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        ObjectStore(ROOT).require("read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(UnreadableError, match="AWS_PROFILE"):
        ObjectStore(ROOT).require("read")
    monkeypatch.setenv("AWS_PROFILE", "radiology")
    with pytest.raises(OutputError, match="AWS_PROFILE"):
        ObjectStore(ROOT).require("write")
