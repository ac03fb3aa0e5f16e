"""Uploads and chosen folders: names that do no harm, limits, places that stay inside, digests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from thinslice.errors import InputError, ResourceError, UnreadableError, UsageError
from thinslice.queue import Queue, State
from thinslice.service.folder import DataFolder
from thinslice.service.settings import GIB, ServeSettings
from thinslice.service.sources import Sources, digest_of, source_path, stored_name


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


@pytest.fixture
def queue(folder: DataFolder) -> Iterator[Queue]:
    with Queue(folder.queue_file) as made:
        yield made


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    allowed = tmp_path / "studies"
    (allowed / "a" / "deep").mkdir(parents=True)
    (allowed / "a" / "one.dcm").write_bytes(b"1")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.dcm").write_bytes(b"s")
    (allowed / "link").symlink_to(tmp_path / "secret")
    return allowed


@pytest.fixture
def settings(folder: DataFolder, studies: Path) -> ServeSettings:
    return ServeSettings(data=folder.root, allow=(studies,), upload_gb=1000 / GIB, upload_files=3, open_uploads=2)


@pytest.fixture
def sources(folder: DataFolder, queue: Queue, settings: ServeSettings) -> Sources:
    return Sources(folder, queue, settings)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100):
        yield data[start : start + 100]


def put(sources: Sources, upload: str, number: int, data: bytes, name: str = "", declared: int | None = None) -> None:
    asyncio.run(sources.take(upload, number, name, declared, _pieces(data)))


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd",
        "..\\..\\x.dcm",
        "/etc/cron.d/x.zip",
        "Doe^Jane 19700101.dcm",
        "a\0b.nii",
        "\x1b[31m.dcm",
        "x" * 4000 + ".nii.gz",
        "<script>alert(1)</script>.zip",
        ".",
        "con.nrrd",
    ],
)
def test_of_a_hostile_name_the_suffix_alone_is_kept(name: str, sources: Sources, folder: DataFolder) -> None:
    upload = sources.open_upload().id
    put(sources, upload, 1, b"data", name)
    stored = [path.name for path in (folder.source(upload) / "files").iterdir()]
    assert stored == [stored_name(1, name)]
    assert stored[0].startswith("000001") and stored[0][6:] in ("", ".dcm", ".zip", ".nii", ".nii.gz", ".nrrd")


def test_an_upload_is_inspected_once_it_is_complete(sources: Sources, queue: Queue, folder: DataFolder) -> None:
    upload = sources.open_upload().id
    put(sources, upload, 0, b"abc", "a.nii")
    assert sources.all() == []
    with pytest.raises(UnreadableError):
        sources.get(upload)
    view = sources.complete(upload)
    assert (view.state, view.files, view.bytes) == ("inspecting", 1, 3)
    assert sources.complete(upload) == view
    assert queue.counts()[State.QUEUED] == 1
    assert source_path(folder, upload).name == "000000.nii"
    with pytest.raises(UnreadableError):
        put(sources, upload, 1, b"more")


def test_a_file_that_is_sent_again_replaces_the_first(sources: Sources, folder: DataFolder) -> None:
    upload = sources.open_upload().id
    put(sources, upload, 0, b"first", "a.nii")
    put(sources, upload, 0, b"second", "a.dcm")
    files = list((folder.source(upload) / "files").iterdir())
    assert [(path.name, path.read_bytes()) for path in files] == [("000000.dcm", b"second")]


def test_a_bomb_is_cut_off_and_leaves_nothing(sources: Sources, folder: DataFolder) -> None:
    upload = sources.open_upload().id
    put(sources, upload, 0, bytes(600))
    with pytest.raises(ResourceError, match="larger than"):
        put(sources, upload, 1, bytes(401))
    with pytest.raises(ResourceError, match="larger than"):
        put(sources, upload, 1, b"", declared=10**15)
    with pytest.raises(InputError, match="ended before"):
        put(sources, upload, 1, bytes(10), declared=20)
    with pytest.raises(UsageError, match="3 files at most"):
        put(sources, upload, 3, b"x")
    with pytest.raises(UsageError):
        put(sources, upload, -1, b"x")
    assert [path.name for path in (folder.source(upload) / "files").iterdir()] == ["000000"]
    put(sources, upload, 1, bytes(400))


def test_limits_hold_after_a_restart(
    sources: Sources, folder: DataFolder, queue: Queue, settings: ServeSettings
) -> None:
    upload = sources.open_upload().id
    put(sources, upload, 0, bytes(600))
    again = Sources(folder, queue, settings)
    with pytest.raises(ResourceError):
        put(again, upload, 1, bytes(401))
    put(again, upload, 1, bytes(400))


def test_open_uploads_are_bounded_and_a_full_folder_takes_none(
    sources: Sources, folder: DataFolder, queue: Queue, settings: ServeSettings
) -> None:
    for _ in range(2):
        sources.open_upload()
    with pytest.raises(ResourceError, match="2 uploads are open"):
        sources.open_upload()
    full = Sources(folder, queue, replace(settings, limit_gb=1e-9))
    with pytest.raises(ResourceError, match="full"):
        full.open_upload()


def test_an_upload_without_files_and_an_unknown_one_are_refused(sources: Sources) -> None:
    with pytest.raises(UsageError, match="no file"):
        sources.complete(sources.open_upload().id)
    for name in ("0" * 16, "../x", ""):
        with pytest.raises(UnreadableError):
            put(sources, name, 0, b"x")


@pytest.mark.parametrize(
    "path",
    ["..", "../secret", "a/../../secret", "link", "link/s.dcm", "..\\secret", "a/../..", "\0", "a/" + "../" * 50],
)
def test_nothing_outside_an_allowed_folder_is_reached(path: str, sources: Sources) -> None:
    with pytest.raises(UsageError, match="not below a folder that was allowed"):
        sources.list_folder(0, path)
    with pytest.raises(UsageError, match="not below a folder that was allowed"):
        sources.choose(0, path)


def test_an_absolute_path_is_taken_below_the_allowed_folder(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing of that name"):
        sources.choose(0, str(tmp_path / "secret"))
    for number in (-1, 1):
        with pytest.raises(UsageError):
            sources.list_folder(number, "")


def test_an_allowed_folder_is_listed_and_chosen(sources: Sources, folder: DataFolder, studies: Path) -> None:
    assert [(entry.name, entry.folder) for entry in sources.list_folder(0, "").entries] == [("a", True), ("link", True)]
    assert [entry.name for entry in sources.list_folder(0, "a/").entries] == ["deep", "one.dcm"]
    chosen = sources.choose(0, "a")
    assert chosen.kind == "folder" and source_path(folder, chosen.id) == studies / "a"
    sources.remove(chosen.id)
    assert (studies / "a" / "one.dcm").exists() and sources.all() == []


def test_digests_follow_content_or_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for place, names in ((one, "ab"), (two, "xy")):
        place.mkdir()
        for name, data in zip(names, (b"1", b"2"), strict=True):
            (place / name).write_bytes(data)
    assert digest_of(one, by_content=True) == digest_of(two, by_content=True)
    assert digest_of(one, by_content=False) != digest_of(two, by_content=False)
    before = digest_of(one, by_content=False)
    (one / "a").write_bytes(b"longer")
    assert digest_of(one, by_content=False) != before
