"""RPLHR-CT from a record of a local archive: split by split, twice, from zips fetched by hand, on a short disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.record_server import DOI, SPLITS, Archive, serve, split_zip
from thinslice.data.download.dataset import SplitOutcome, download
from thinslice.data.download.http import Patience
from thinslice.errors import (
    DownloadError,
    OutputBusyError,
    OutputExistsError,
    ResourceError,
    UnreadableError,
    UsageError,
)
from thinslice.system.atomic import sole_run

HASTY = Patience(connect_s=30.0, silence_s=30.0, tries=2, first_wait_s=0.01, longest_wait_s=0.1)


@pytest.fixture
def archive() -> Iterator[Archive]:
    zips = {f"{split}.zip": split_zip(100 * number) for number, split in enumerate(SPLITS)}
    with serve(Archive(zips)) as served:
        yield served


def run(archive: Archive, out: Path, **options: Any) -> list[SplitOutcome]:
    return download(out, doi=DOI, resolver=archive.address, patience=HASTY, **options)


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_split_in_the_released_layout(archive: Archive, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    outcomes = run(archive, tmp_path / "set", report=lambda *at: calls.append(at))
    assert [(o.split, o.state, o.thin, o.thick) for o in outcomes] == [(split, "new", 2, 2) for split in SPLITS]
    cases = {
        f"{s}/{t}/CT{c:08d}.nii.gz"
        for s, a in zip(SPLITS, (0, 100, 200), strict=True)
        for c in (a, a + 1)
        for t in ("1mm", "5mm")
    }
    assert listed(tmp_path / "set") == cases | {f".{split}.downloaded.json" for split in SPLITS}
    assert list(dict.fromkeys(step for step, _, _ in calls)) == [
        f"{step} {split}.zip" for split in SPLITS for step in ("fetching", "checking", "unpacking")
    ]


def test_a_second_run_fetches_nothing(archive: Archive, tmp_path: Path) -> None:
    run(archive, tmp_path, splits=["val"])
    archive.requests.clear()
    archive.pages.clear()
    assert [outcome.state for outcome in run(archive, tmp_path, splits=["val"])] == ["there"]
    assert archive.requests == archive.pages == []
    assert [outcome.state for outcome in run(archive, tmp_path, splits=["test", "val"])] == ["new", "there"]
    assert {path for path, _ in archive.requests} == {"/files/test.zip"}


def test_a_split_that_was_changed_is_not_called_there(archive: Archive, tmp_path: Path) -> None:
    run(archive, tmp_path, splits=["val"])
    (tmp_path / "val" / "1mm" / "CT00000100.nii.gz").write_bytes(b"cut")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        run(archive, tmp_path, splits=["val"])
    assert run(archive, tmp_path, splits=["val"], overwrite=True)[0].state == "new"
    assert (tmp_path / "val" / "1mm" / "CT00000100.nii.gz").stat().st_size > 3


def test_the_zip_is_kept_when_asked(archive: Archive, tmp_path: Path) -> None:
    run(archive, tmp_path, splits=["val"], keep_zip=True)
    assert (tmp_path / "val.zip").read_bytes() == archive.files["val.zip"]
    shutil.rmtree(tmp_path / "val")
    archive.requests.clear()
    assert run(archive, tmp_path, splits=["val"])[0].state == "new"
    assert archive.requests == [] and not (tmp_path / "val.zip").exists()


def test_a_zip_fetched_by_hand_is_checked(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "val.zip").write_bytes(archive.files["test.zip"])
    with pytest.raises(UnreadableError, match="not the published file"):
        run(archive, tmp_path, splits=["val"])
    (tmp_path / "val.zip").write_bytes(archive.files["val.zip"])
    assert run(archive, tmp_path, splits=["val"])[0].warnings == ()
    assert archive.requests == []


def test_without_a_network_the_error_describes_the_way_by_hand(archive: Archive, tmp_path: Path) -> None:
    nowhere = {"doi": DOI, "resolver": "http://127.0.0.1:9", "patience": HASTY, "splits": ["val"]}
    with pytest.raises(DownloadError, match=f"fetch val.zip from the page of DOI {DOI}"):
        download(tmp_path, **nowhere)
    (tmp_path / "val.zip").write_bytes(archive.files["val.zip"])
    outcome = download(tmp_path, **nowhere)[0]
    assert outcome.state == "new" and "not compared with its published checksum" in outcome.warnings[0]
    assert download(tmp_path, **nowhere)[0].state == "there"


def test_a_file_that_cannot_be_fetched_has_the_same_advice(archive: Archive, tmp_path: Path) -> None:
    archive.on_file = lambda handler, content, span: handler.reply(403, b"") or True
    with pytest.raises(DownloadError, match="refuses to give the file.*fetch train.zip from the page"):
        run(archive, tmp_path)


def test_the_disk_is_looked_at_first(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = sum(map(len, archive.files.values()))
    for free, keep_zip, fits in ((total * 1.2, False, False), (total * 1.5, False, True), (total * 1.5, True, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: shutil._ntuple_diskusage(0, 0, int(free)))
        if fits:
            assert len(run(archive, tmp_path / "fits")) == 3
        else:
            archive.requests.clear()
            with pytest.raises(ResourceError, match="free some space"):
                run(archive, tmp_path / "short", keep_zip=keep_zip)
            assert archive.requests == []


def test_one_of_two_runs_wins(archive: Archive, tmp_path: Path) -> None:
    with sole_run(tmp_path / "download"), pytest.raises(OutputBusyError, match="Another run"):
        run(archive, tmp_path)
    assert archive.pages == []


def test_splits_and_connections_are_checked(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only test.zip, train.zip, val.zip"):
        run(archive, tmp_path, splits=["tiny"])
    with pytest.raises(UsageError, match="not the name of a split"):
        run(archive, tmp_path, splits=["../train"])
    with pytest.raises(UsageError, match="connections="):
        run(archive, tmp_path, connections=0)
    assert archive.requests == []


def test_a_run_killed_before_its_folder_appeared_or_just_after(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import thinslice.data.download.dataset as module

    def dies(*arguments: Any, **options: Any) -> Any:
        after = options.pop("after")
        if after:
            original(*arguments, **options)
        raise KeyboardInterrupt

    original = module.unpack
    for after in (False, True):
        out = tmp_path / str(after)
        monkeypatch.setattr(module, "unpack", lambda *a, after=after, **o: dies(*a, after=after, **o))
        with pytest.raises(KeyboardInterrupt):
            run(archive, out, splits=["val"])
        monkeypatch.setattr(module, "unpack", original)
        archive.requests.clear()
        assert run(archive, out, splits=["val"])[0].state == ("there" if after else "new")
        assert archive.requests == []
