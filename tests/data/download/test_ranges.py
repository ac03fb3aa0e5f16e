"""One file over several connections: every kind of faulty server, and runs that are killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.record_server import DOI, Archive, serve
from thinslice.data.download.http import Patience
from thinslice.data.download.ranges import Ledger, fetch, gaps, merged
from thinslice.data.download.record import RecordFile, find_record
from thinslice.errors import DownloadError, ResourceError

NAME = "train.zip"
SIZE = 1_000_000
HASTY = Patience(connect_s=30.0, silence_s=30.0, tries=3, first_wait_s=0.02, longest_wait_s=0.3)
"""Never impatient with a server that answers, so that a loaded machine changes nothing; quick to try again."""

SMALL = {"most_piece": 100_000, "least_piece": 20_000, "patience": HASTY}


@pytest.fixture
def archive() -> Iterator[Archive]:
    with serve(Archive({NAME: np.random.default_rng(0).bytes(SIZE)})) as served:
        yield served


def published(archive: Archive) -> RecordFile:
    return find_record(DOI, resolver=archive.address, patience=HASTY).file(NAME)


def get(archive: Archive, folder: Path, **options: Any) -> bytes:
    fetch(published(archive), folder / NAME, **{**SMALL, **options})
    assert [path.name for path in folder.iterdir()] == [NAME]
    return (folder / NAME).read_bytes()


def test_intervals_agree_with_sets() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        pairs = [tuple(sorted(random.integers(0, 40, 2).tolist())) for _ in range(random.integers(0, 8))]
        covered = {n for a, b in pairs for n in range(a, b)}
        assert {n for a, b in merged(pairs) for n in range(a, b)} == covered
        assert {n for a, b in gaps(pairs, 40) for n in range(a, b)} == set(range(40)) - covered


def meet(archive: Archive, count: int) -> None:
    """Answer the first requests for a file only when `count` of them are open at the same time."""
    meeting, coming = threading.Barrier(count, timeout=600), iter(range(count))

    def wait(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        if next(coming, None) is not None:
            meeting.wait()
        return False

    archive.on_file = wait


def test_several_ranges_at_once_make_the_file(archive: Archive, tmp_path: Path) -> None:
    meet(archive, 4)
    seen: list[tuple[int, int]] = []
    assert get(archive, tmp_path, connections=4, progress=lambda *at: seen.append(at)) == archive.files[NAME]
    assert archive.busiest == 4
    assert archive.served_bytes == SIZE
    assert seen[-1] == (SIZE, SIZE) and seen == sorted(seen)
    assert all(agent.startswith("thinslice/") for agent in archive.agents)


def test_pieces_shrink_towards_the_end(archive: Archive, tmp_path: Path) -> None:
    get(archive, tmp_path, connections=2)
    spans = [tuple(map(int, re.findall(r"\d+", asked or ""))) for _, asked in archive.requests]
    lengths = [stop - start + 1 for start, stop in sorted(spans)]  # type: ignore[misc]
    assert lengths[0] == 100_000 and max(lengths) == 100_000 and lengths[-1] <= 20_000


@pytest.mark.parametrize("connections", [1, 8])
def test_as_many_ranges_are_fetched_at_once_as_there_are_connections(
    archive: Archive, tmp_path: Path, connections: int
) -> None:
    meet(archive, connections)
    assert get(archive, tmp_path, connections=connections) == archive.files[NAME]
    assert archive.busiest == connections
    # What one connection waits for before the others have begun: an eighth of the file at most.
    first = [tuple(map(int, re.findall(r"\d+", asked or ""))) for _, asked in archive.requests[:8]]
    assert connections == 1 or max(stop - start + 1 for start, stop in first) <= SIZE // 8  # type: ignore[misc]


def test_answers_that_break_off_are_continued(archive: Archive, tmp_path: Path) -> None:
    broken = iter(range(1000))

    def break_off(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        if span is None or next(broken) % 3 == 2:
            return False
        start, stop = span
        half = content[start : (start + stop) // 2]
        handler.reply(206, half, stop - start, **{"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})
        handler.close_connection = True
        return True

    archive.on_file = break_off
    assert get(archive, tmp_path, connections=3) == archive.files[NAME]


@pytest.mark.parametrize("difference", [-5000, 700])
def test_a_wrong_content_length_harms_nothing(archive: Archive, tmp_path: Path, difference: int) -> None:
    lies = iter(range(1000))

    def lie(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        if span is None or next(lies) % 2:
            return False
        start, stop = span
        length = max(1, stop - start + difference)
        body = content[start : start + min(length, stop - start)]
        handler.reply(206, body, length, **{"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})
        handler.close_connection = True
        return True

    archive.on_file = lie
    assert get(archive, tmp_path, connections=3) == archive.files[NAME]


def test_more_bytes_than_asked_for_are_not_written(archive: Archive, tmp_path: Path) -> None:
    def too_much(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        assert span is not None
        body = content[slice(*span)] + b"x" * 300_000
        handler.reply(206, body, **{"Content-Range": f"bytes {span[0]}-{span[1] - 1}/{len(content)}"})
        return True

    archive.on_file = too_much
    assert get(archive, tmp_path, connections=3) == archive.files[NAME]


def test_another_range_than_asked_for_is_not_taken(archive: Archive, tmp_path: Path) -> None:
    lies = iter(range(1000))

    def shifted(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        if span is None or next(lies) % 2:
            return False
        start, stop = span[0] + 10, span[1] + 10
        handler.reply(206, content[start:stop], **{"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})
        return True

    archive.on_file = shifted
    assert get(archive, tmp_path, connections=2) == archive.files[NAME]


@pytest.mark.parametrize("size", [SIZE + 1, SIZE - 1])
def test_a_size_that_contradicts_the_record_is_named(archive: Archive, tmp_path: Path, size: int) -> None:
    archive.sizes[NAME] = size
    with pytest.raises(DownloadError, match=f"has {SIZE} bytes, in the record {size}"):
        get(archive, tmp_path)
    assert not (tmp_path / NAME).exists()


def test_wrong_bytes_are_named_and_removed(archive: Archive, tmp_path: Path) -> None:
    archive.on_file = lambda handler, content, span: _reply_zeros(handler, content, span)
    with pytest.raises(DownloadError, match="does not have the published checksum; it was removed"):
        get(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []
    archive.on_file = None
    assert get(archive, tmp_path) == archive.files[NAME]


def _reply_zeros(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
    assert span is not None
    content_range = f"bytes {span[0]}-{span[1] - 1}/{len(content)}"
    handler.reply(206, bytes(span[1] - span[0]), **{"Content-Range": content_range})
    return True


def test_a_server_without_ranges_is_read_as_one_stream(archive: Archive, tmp_path: Path) -> None:
    archive.ranges = False
    tries = iter(range(1000))

    def break_off(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        # The first answers are those to ranges; of the streams, two break off, each later than the one before.
        number = next(tries)
        if handler.headers.get("Range") or number > 6:
            return False
        handler.reply(200, content[: 200_000 + 50_000 * number], len(content))
        handler.close_connection = True
        return True

    archive.on_file = break_off
    assert get(archive, tmp_path, connections=3) == archive.files[NAME]
    streams = [asked for _, asked in archive.requests if asked is None]
    assert len(streams) >= 2


def test_a_stream_that_never_ends_is_refused(archive: Archive, tmp_path: Path) -> None:
    archive.ranges = False
    archive.sizes[NAME] = SIZE - 1000
    with pytest.raises(DownloadError, match="more than the 999000 bytes"):
        get(archive, tmp_path)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_waited_for_with_fewer_connections(archive: Archive, tmp_path: Path, status: int) -> None:
    refused: list[float] = []
    after: list[float] = []

    def busy(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        if len(refused) < 2:
            refused.append(time.monotonic())
            handler.reply(status, b"", **{"Retry-After": "0.25"})
            return True
        if time.monotonic() > refused[-1] + 0.05:
            after.append(time.monotonic())
        return False

    archive.on_file = busy
    archive.rate = 5e6
    assert get(archive, tmp_path, connections=8, most_piece=20_000) == archive.files[NAME]
    assert len(refused) == 2 and after


def test_a_server_that_stays_busy_is_given_up_and_what_came_is_kept(archive: Archive, tmp_path: Path) -> None:
    served = iter(range(1000))

    def busy(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        if next(served) < 3:
            return False
        handler.reply(503, b"", **{"Retry-After": "0"})
        return True

    archive.on_file = busy
    with pytest.raises(DownloadError, match="busy .*run the same command again"):
        get(archive, tmp_path)
    archive.on_file = None
    before = archive.served_bytes
    archive.requests.clear()
    assert get(archive, tmp_path) == archive.files[NAME]
    assert archive.served_bytes < SIZE < before + SIZE


def test_a_silent_server_is_given_up(archive: Archive, tmp_path: Path) -> None:
    release = threading.Event()
    # The answer would come after ten minutes; the error comes first.
    archive.on_file = lambda handler, content, span: release.wait(600) and False
    try:
        with pytest.raises(DownloadError, match="silent|broke off"):
            get(archive, tmp_path, connections=2, patience=replace(HASTY, silence_s=0.5))
    finally:
        release.set()


def test_redirections_of_the_file_are_followed(archive: Archive, tmp_path: Path) -> None:
    archive.files["other.zip"] = archive.files[NAME]

    def redirect(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        if handler.path.endswith("other.zip"):
            return False
        handler.reply(302, b"", Location="/files/other.zip")
        return True

    archive.on_file = redirect
    assert get(archive, tmp_path) == archive.files[NAME]


def test_circles_and_missing_files_are_given_up_at_once(archive: Archive, tmp_path: Path) -> None:
    for status, headers, words in (
        (302, {"Location": f"/files/{NAME}"}, "in circles"),
        (404, {}, "no such record or file"),
        (403, {}, "refuses"),
        (418, {}, "status 418"),
    ):
        archive.on_file = lambda handler, content, span, s=status, h=headers: handler.reply(s, b"", **h) or True
        with pytest.raises(DownloadError, match=words):
            get(archive, tmp_path)


def test_a_full_disk_says_so_and_keeps_what_came(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(sink: Any, position: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thinslice.data.download.ranges._write_at", full)
    with pytest.raises(ResourceError, match="disk is full"):
        get(archive, tmp_path)


def test_a_journal_that_does_not_fit_is_not_believed(archive: Archive, tmp_path: Path) -> None:
    file = published(archive)
    part = tmp_path / f"{NAME}.part"
    journal = tmp_path / f"{NAME}.part.json"
    good = {"version": 1, "size": SIZE, "checksum": file.checksum, "done": [[0, 1000]]}
    for journal_values, size in (
        ({**good, "checksum": "md5:00"}, SIZE),
        ({**good, "size": 5}, SIZE),
        ({**good, "done": [[0, SIZE + 1]]}, SIZE),
        ({**good, "done": [["a", 3]]}, SIZE),
        ([], SIZE),
        (good, SIZE - 1),
    ):
        part.write_bytes(bytes(size))
        journal.write_text(json.dumps(journal_values))
        assert Ledger(part, file).done_bytes == 0
    part.write_bytes(bytes(SIZE))
    journal.write_text(json.dumps(good))
    assert Ledger(part, file).done_bytes == 1000
    journal.write_text("{")
    assert Ledger(part, file).done_bytes == 0


PROGRAM = """
import sys
from pathlib import Path
from thinslice.data.download import ranges
from thinslice.data.download.record import RecordFile
ranges.SAVE_EVERY_S = 0.0
ranges.fetch(RecordFile("train.zip", int(sys.argv[2]), sys.argv[3], sys.argv[4]), Path(sys.argv[1]), connections=4,
             most_piece=50_000, least_piece=20_000)
"""


def test_a_killed_run_goes_on_exactly_where_its_journal_says(archive: Archive, tmp_path: Path) -> None:
    file = published(archive)
    arguments = [str(tmp_path / NAME), str(SIZE), file.checksum, file.url]
    journal = tmp_path / f"{NAME}.part.json"
    release = threading.Event()
    most = 0

    def hold(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        """Keep requests waiting once so many bytes were asked for, so that no run comes to its end."""
        return archive.served_bytes > most and release.wait(600) and False

    archive.on_file = hold
    done = 0
    try:
        for least in (150_000, 450_000):
            most = archive.served_bytes + 400_000
            process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments])
            while done < least and process.poll() is None:
                time.sleep(0.02)
                if journal.is_file():
                    done = sum(stop - start for start, stop in json.loads(journal.read_text())["done"])
            process.kill()
            assert process.wait() == -signal.SIGKILL
            done = sum(stop - start for start, stop in json.loads(journal.read_text())["done"])
            assert least <= done < SIZE
    finally:
        release.set()
    # By another address, so that late requests of the killed runs do not count.
    archive.files["again.zip"], archive.on_file = archive.files[NAME], None
    again = replace(file, url=file.url.replace(NAME, "again.zip"))
    archive.requests.clear()
    fetch(again, tmp_path / NAME, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).read_bytes() == archive.files[NAME]
    spans = [re.findall(r"\d+", asked or "") for path, asked in archive.requests if path.endswith("again.zip")]
    assert sum(int(stop) - int(start) + 1 for start, stop in spans) == SIZE - done
