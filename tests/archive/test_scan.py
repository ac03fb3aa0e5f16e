"""The scan of an archive: the rules of inspect, changed files alone, faults with their reason, no identity."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.archives import numbered, write_archive
from support.dicom_factory import CANARY, assert_no_canary, write_series
from thinslice.archive import read_folder, scan
from thinslice.archive.catalogue import SERIES_QUERY, Catalogue, series_values
from thinslice.archive.place import ArchivePlace
from thinslice.archive.processes import CrashError, Processes
from thinslice.archive.scan import ScanSummary, run_scan
from thinslice.commands.inspect import survey
from thinslice.errors import OutputBusyError, OutputError, UnreadableError, UsageError


@pytest.fixture
def place(tmp_path: Path) -> ArchivePlace:
    return ArchivePlace(tmp_path / "index")


def scanned(root: Path, place: ArchivePlace) -> ScanSummary:
    return run_scan(root, place, processes=0)


def rows(place: ArchivePlace) -> dict[str, dict[str, Any]]:
    with Catalogue(place.catalogue) as catalogue:
        return {
            row["uid"]: {**series_values(row), "collection": row["collection"]} for row in catalogue.rows(SERIES_QUERY)
        }


def reasons(place: ArchivePlace) -> dict[str, str]:
    with Catalogue(place.catalogue) as catalogue:
        query = "SELECT name, text FROM file JOIN reason ON reason.id = file.reason"
        return {row["name"]: row["text"] for row in catalogue.rows(query)}


def mixed(root: Path) -> None:
    """Good, thin, tilted and incomplete series, several in a folder, one in a zip."""
    write_series(root / "a", shape=(4, 16, 16), seed=1, uid="1.2.1", edit=numbered(1, "A"))
    write_series(root / "a", shape=(5, 16, 16), seed=2, uid="1.2.2", prefix="thin", spacing_mm=(1, 0.7, 0.7))
    write_series(root / "b" / "c", shape=(6, 16, 16), seed=3, uid="1.2.3", missing=(2,))
    write_series(root / "b", shape=(6, 16, 16), seed=4, uid="1.2.4", tilt_degrees=12.0)
    write_series(root / "loose", shape=(4, 16, 16), seed=5, uid="1.2.5")
    with zipfile.ZipFile(root / "disc.zip", "w") as archive:
        for file in sorted((root / "loose").iterdir()):
            archive.write(file, file.name)
    shutil.rmtree(root / "loose")


def test_the_catalogue_says_what_inspect_says(tmp_path: Path, place: ArchivePlace) -> None:
    mixed(tmp_path / "ct")
    scanned(tmp_path / "ct", place)
    found, expected = rows(place), {series.series_uid: series for series in survey(tmp_path / "ct")}
    assert set(found) == set(expected) == {"1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5"}
    for uid, series in expected.items():
        row = found[str(uid)]
        assert (row["eligible"], row["factor"]) == (series.eligible, series.factor)
        assert row["kind"] == series.kind and row["slices"] == series.slices
        assert row["reason"].split("'")[0] == " ".join(series.reasons).split("'")[0]
        assert row["kernel"] == series.kernel and row["description"] == series.description
        assert series.spacing_mm is not None and row["spacing_mm"] == series.spacing_mm[0]


def test_processes_find_the_same(tmp_path: Path, place: ArchivePlace) -> None:
    mixed(tmp_path / "ct")
    scanned(tmp_path / "ct", place)
    other = ArchivePlace(tmp_path / "other")
    run_scan(tmp_path / "ct", other, processes=2)
    plain = [{k: v for k, v in row.items() if k not in ("patient", "collection")} for row in rows(place).values()]
    again = [{k: v for k, v in row.items() if k not in ("patient", "collection")} for row in rows(other).values()]
    assert sorted(plain, key=str) == sorted(again, key=str)


def test_a_second_scan_opens_no_file(tmp_path: Path, place: ArchivePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed(tmp_path / "ct")
    before = (scanned(tmp_path / "ct", place).files, rows(place))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(read_folder, "add_files", refuse)
    summary = scanned(tmp_path / "ct", place)
    assert (summary.files, summary.unchanged, summary.folders) == (0, 4, 4) and before[0] == 21
    assert rows(place) == before[1]


def test_one_new_file_is_the_only_one_whose_series_is_judged_again(tmp_path: Path, place: ArchivePlace) -> None:
    mixed(tmp_path / "ct")
    scanned(tmp_path / "ct", place)
    kept = tmp_path / "kept.dcm"
    gone = max((tmp_path / "ct" / "a").glob("slice*"))
    shutil.copy2(gone, kept)
    gone.unlink()
    summary = scanned(tmp_path / "ct", place)
    assert (summary.files, summary.judged) == (0, 1) and rows(place)["1.2.1"]["slices"] == 3
    shutil.copy2(kept, gone)
    summary = scanned(tmp_path / "ct", place)
    assert (summary.files, summary.judged) == (1, 1) and rows(place)["1.2.1"]["slices"] == 4


def test_a_file_with_the_same_size_and_another_time_is_read_again(tmp_path: Path, place: ArchivePlace) -> None:
    write_series(tmp_path / "ct", shape=(4, 16, 16), uid="1.2.1")
    scanned(tmp_path / "ct", place)
    file = next((tmp_path / "ct").iterdir())
    os.utime(file, ns=(1, 1))
    assert scanned(tmp_path / "ct", place).files == 1


def test_folders_that_are_gone_take_their_series_with_them(tmp_path: Path, place: ArchivePlace) -> None:
    write_archive(tmp_path / "ct", 3)
    scanned(tmp_path / "ct", place)
    shutil.rmtree(tmp_path / "ct" / "Doe001_Jane")
    scanned(tmp_path / "ct", place)
    assert set(rows(place)) == {"1.2.3.1", "1.2.3.3"}
    with Catalogue(place.catalogue) as catalogue:
        totals = catalogue.totals()
    assert (totals.patients, totals.studies, totals.series, totals.files) == (2, 2, 2, 8)


def test_a_series_in_several_folders_is_one_series(tmp_path: Path, place: ArchivePlace) -> None:
    made = write_series(tmp_path / "ct" / "one", shape=(6, 16, 16), uid="1.2.1")
    (tmp_path / "ct" / "two").mkdir()
    for file in made.files[3:]:
        shutil.move(file, tmp_path / "ct" / "two")
    assert scanned(tmp_path / "ct", place).judged == 1
    row = rows(place)["1.2.1"]
    assert row["slices"] == 6 and row["eligible"] and row["files"] == 6
    with Catalogue(place.catalogue) as catalogue:
        paths = catalogue.paths(row["collection"])
    assert [path.split("/")[0] for path in paths] == ["one"] * 3 + ["two"] * 3


def test_faults_are_noted_and_none_ends_the_scan(tmp_path: Path, place: ArchivePlace) -> None:
    root = tmp_path / "ct"
    made = write_series(root / "good", shape=(4, 16, 16), uid="1.2.1")
    first = Path(made.files[0])
    (root / "empty.dcm").write_bytes(b"")
    (root / "notes.txt").write_text("no image, but a text of more than a hundred and thirty-two letters " * 4)
    (root / "cut.dcm").write_bytes(first.read_bytes()[:600])
    (root / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    (root / "dangling").symlink_to(root / "nowhere")
    (root / "circle").symlink_to(root)
    os.mkfifo(root / "pipe")
    (root / "good" / "same.dcm").hardlink_to(first)
    scanned(root, place)
    found = reasons(place)
    assert found["empty.dcm"] == "empty file" and found["notes.txt"] == "not DICOM"
    assert "cut short" in found["cut.dcm"] and "archive" in found["broken.zip"]
    assert "link" in found["dangling"] and "link" in found["circle"] and found["pipe"] == "no ordinary file"
    assert list(found.values()).count("another name of a file that is listed (a link)") == 1
    assert rows(place)["1.2.1"]["slices"] == 4 and rows(place)["1.2.1"]["eligible"]


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read every folder")
def test_a_closed_folder_is_noted(tmp_path: Path, place: ArchivePlace) -> None:
    write_archive(tmp_path / "ct", 1)
    closed = tmp_path / "ct" / "closed"
    closed.mkdir(mode=0o000)
    try:
        scanned(tmp_path / "ct", place)
    finally:
        closed.chmod(0o700)
    with Catalogue(place.catalogue) as catalogue:
        assert catalogue.totals().closed == 1


def test_names_that_are_no_text_are_kept(tmp_path: Path, place: ArchivePlace) -> None:
    write_series(tmp_path / "ct" / os.fsdecode(b"M\xfcller"), shape=(4, 16, 16), uid="1.2.1")
    scanned(tmp_path / "ct", place)
    assert scanned(tmp_path / "ct", place).files == 0
    with Catalogue(place.catalogue) as catalogue:
        assert all((tmp_path / "ct" / path).is_file() for path in catalogue.paths(rows(place)["1.2.1"]["collection"]))


def test_a_large_folder_is_read_in_parts(tmp_path: Path, place: ArchivePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_folder, "MOST_AT_ONCE", 3)
    for number in range(3):
        write_series(tmp_path / "ct", shape=(4, 16, 16), seed=number, uid=f"1.2.{number}", prefix=f"s{number}-")
    assert scanned(tmp_path / "ct", place).files == 12
    assert {uid: row["slices"] for uid, row in rows(place).items()} == {"1.2.0": 4, "1.2.1": 4, "1.2.2": 4}
    assert all(row["eligible"] for row in rows(place).values())
    assert scanned(tmp_path / "ct", place).files == 0


def test_the_catalogue_holds_no_identity_and_its_owner_alone_reads_it(tmp_path: Path, place: ArchivePlace) -> None:
    write_series(tmp_path / "ct", shape=(4, 16, 16), uid="1.2.1")
    scanned(tmp_path / "ct", place)
    assert place.catalogue.stat().st_mode & 0o777 == 0o600 and place.root.stat().st_mode & 0o777 == 0o700
    connection = sqlite3.connect(place.catalogue)
    dump = "\n".join(connection.iterdump()).replace(CANARY["StationName"], "")
    connection.close()
    assert_no_canary(dump)
    assert_no_canary({**rows(place)["1.2.1"], "station": ""})


KILLED = """
import os, signal, sys
from pathlib import Path
from thinslice.archive import scan
from thinslice.archive.catalogue import Catalogue
from thinslice.archive.place import ArchivePlace
scan.COMMIT_EVERY_S = 0.0
add, count = Catalogue.add, 0
def killed(self, *a, **k):
    global count
    count += 1
    if count > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, *a, **k)
Catalogue.add = killed
scan.run_scan(Path(sys.argv[1]), ArchivePlace(Path(sys.argv[2])), processes=0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX system")
def test_a_scan_that_was_killed_goes_on_where_it_was(tmp_path: Path, place: ArchivePlace) -> None:
    write_archive(tmp_path / "ct", 4)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "ct"), str(place.root)]
    assert subprocess.run([*command, "6"], check=False).returncode == -signal.SIGKILL
    with Catalogue(place.catalogue) as catalogue:
        assert not catalogue.totals().complete
    summary = scanned(tmp_path / "ct", place)
    assert 0 < summary.files < 16 and summary.unchanged > 0
    assert {row["slices"] for row in rows(place).values()} == {4} and len(rows(place)) == 4


def test_what_is_no_archive_is_refused(tmp_path: Path, place: ArchivePlace) -> None:
    with pytest.raises(UnreadableError):
        scanned(tmp_path / "nothing", place)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="folder"):
        scanned(tmp_path / "file", place)
    (tmp_path / "ct").mkdir()
    with pytest.raises(OutputError, match="something else"):
        scanned(tmp_path / "ct", ArchivePlace(tmp_path))
    scanned(tmp_path / "ct", place)
    (tmp_path / "other").mkdir()
    with pytest.raises(OutputError, match="is the index of"):
        scanned(tmp_path / "other", place)


def test_two_scans_of_one_index_do_not_work_at_once(tmp_path: Path, place: ArchivePlace) -> None:
    (tmp_path / "ct").mkdir()
    place.create()
    with scan.sole_run(place.root / "scan"), pytest.raises(OutputBusyError):
        scanned(tmp_path / "ct", place)


def test_the_index_may_lie_in_the_archive(tmp_path: Path) -> None:
    write_archive(tmp_path / "ct", 1)
    place = ArchivePlace(tmp_path / "ct" / "index")
    scanned(tmp_path / "ct", place)
    assert scanned(tmp_path / "ct", place).files == 0 and len(rows(place)) == 1


def doubled_or_dead(value: int) -> int:
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if value == 5:
        raise ValueError("five")
    return 2 * value


@pytest.mark.skipif(sys.platform != "linux", reason="forks are unsafe elsewhere")
def test_a_task_that_ends_its_process_is_named_and_all_others_are_done() -> None:
    found: dict[int, object] = {}
    with Processes(doubled_or_dead, 2) as pool:
        for value in range(10):
            pool.submit(value)
        while pool.pending:
            found.update(pool.results())
    assert isinstance(found.pop(3), CrashError) and isinstance(found.pop(5), ValueError)
    assert found == {value: 2 * value for value in range(10) if value not in (3, 5)}
