"""Download of a large file over several connections, each of which fetches a range; resumable after a kill.

Beside the unfinished file (NAME.part) lies a journal (NAME.part.json) of the ranges on the disk. The journal is written
after its bytes have reached the disk, and replaced as a whole, so it never lists bytes that are missing.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.data.download.http import PassingError, Patience, response_to, session
from thinslice.data.download.record import RecordFile, matches
from thinslice.errors import DownloadError
from thinslice.system.atomic import output_errors
from thinslice.typing import Progress

if TYPE_CHECKING:
    import requests

DEFAULT_CONNECTIONS = 8
"""One connection to the archive of RPLHR-CT is slow (0.15 MB/s measured); archives refuse too many."""

MOST_PIECE_BYTES = 32 << 20
"""Largest range of one request: large, because archives limit the number of requests."""

LEAST_PIECE_BYTES = 4 << 20
"""Smallest range of one request; ranges shrink to it towards the end, so that all connections end together."""

READ_BYTES = 1 << 14
"""Bytes that are read before they are written and counted; an incomplete block is lost when an answer breaks off."""

SAVE_EVERY_S = 2.0
"""Time between two writings of the journal."""

TICK_S = 0.1

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

Interval = tuple[int, int]


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Half-open intervals, sorted; touching and overlapping ones are joined.

    >>> merged([(6, 9), (0, 2), (2, 4), (8, 12)])
    [(0, 4), (6, 12)]
    """
    joined: list[Interval] = []
    for start, stop in sorted(intervals):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        elif stop > start:
            joined.append((start, stop))
    return joined


def gaps(intervals: Iterable[Interval], size: int) -> list[Interval]:
    """The parts of [0, size) outside of intervals.

    >>> gaps([(0, 4), (6, 12)], 20)
    [(4, 6), (12, 20)]
    """
    missing, at = [], 0
    for start, stop in merged(intervals):
        if start > at:
            missing.append((at, start))
        at = stop
    if at < size:
        missing.append((at, size))
    return missing


class Ledger:
    """The bytes of an unfinished file: fetched, claimed by a connection, or missing.

    Args:
        part: unfinished file; created, or continued from an earlier run if its journal fits.
        file: published file.
        most_piece: largest range of a claim, bytes.
        least_piece: smallest range of a claim, bytes.
    """

    def __init__(
        self, part: Path, file: RecordFile, *, most_piece: int = MOST_PIECE_BYTES, least_piece: int = LEAST_PIECE_BYTES
    ) -> None:
        self.part = part
        self.journal = part.with_name(f"{part.name}.json")
        self._file = file
        self._pieces = least_piece, most_piece
        self._lock = threading.Lock()
        self._done = self._kept()
        self._todo = gaps(self._done, file.size)
        self._claims = 0
        with output_errors(part):
            with part.open("r+b" if self._done else "wb") as made:
                made.truncate(file.size)
            self.save()

    @property
    def done_bytes(self) -> int:
        """Number of bytes that are fetched."""
        with self._lock:
            return sum(stop - start for start, stop in self._done)

    @property
    def complete(self) -> bool:
        """Whether all bytes are fetched."""
        return self.done_bytes == self._file.size

    @property
    def idle(self) -> bool:
        """Whether no range is claimed."""
        with self._lock:
            return self._claims == 0

    def claim(self, connections: int) -> Interval | None:
        """The next range to fetch, or None when all missing bytes are claimed."""
        with self._lock:
            if not self._todo:
                return None
            least, most = self._pieces
            fair = sum(stop - start for start, stop in self._todo) // (2 * connections)
            start, stop = self._todo.pop(0)
            end = min(stop, start + max(least, min(most, fair)))
            if end < stop:
                self._todo.insert(0, (end, stop))
            self._claims += 1
            return start, end

    def release(self, start: int, stop: int) -> None:
        """End a claim, of which [start, stop) is still missing."""
        with self._lock:
            self._claims -= 1
            self._todo = merged([*self._todo, (start, stop)])

    def gained(self, start: int, stop: int) -> None:
        """Record bytes [start, stop) as written."""
        with self._lock:
            self._done = merged([*self._done, (start, stop)])

    def save(self) -> None:
        """Write the journal after its bytes have reached the disk."""
        with self._lock:
            done = list(self._done)
        with self.part.open("r+b") as file:
            os.fsync(file.fileno())
        text = json.dumps({"version": 1, "size": self._file.size, "checksum": self._file.checksum, "done": done})
        new = self.journal.with_name(f"{self.journal.name}.new")
        with new.open("w") as file_of_text:
            file_of_text.write(text)
            file_of_text.flush()
            os.fsync(file_of_text.fileno())
        new.replace(self.journal)

    def remove(self) -> None:
        """Remove the file and its journal; the file first, because a journal without a file is ignored."""
        self.part.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)

    def _kept(self) -> list[Interval]:
        """Intervals that an earlier run has fetched; none unless file and journal fit the published file."""
        try:
            values: Any = json.loads(self.journal.read_bytes())
            fits = (values["version"], values["size"], values["checksum"]) == (1, self._file.size, self._file.checksum)
            if not fits or self.part.stat().st_size != self._file.size:
                return []
            done = [(int(start), int(stop)) for start, stop in values["done"]]
        except (OSError, ValueError, TypeError, KeyError):
            return []
        return merged(done) if all(0 <= start < stop <= self._file.size for start, stop in done) else []


def fetch(
    file: RecordFile,
    target: Path,
    *,
    connections: int = DEFAULT_CONNECTIONS,
    patience: Patience | None = None,
    progress: Progress | None = None,
    checking: Progress | None = None,
    most_piece: int = MOST_PIECE_BYTES,
    least_piece: int = LEAST_PIECE_BYTES,
) -> None:
    """Fetch a file in several ranges at once and check it; ranges of an earlier run are not fetched again.

    A server that ignores ranges is read as one stream. A busy server gets half as many connections, after the wait that
    it requests.

    Args:
        file: published file.
        target: path at which the whole, checked file appears.
        connections: ranges fetched at the same time.
        patience: time limits and number of tries.
        progress: called with (bytes fetched, bytes in all).
        checking: called with (bytes read, bytes in all) while the checksum is computed.
        most_piece: largest range of one request, bytes.
        least_piece: smallest range of one request, bytes.

    Raises:
        DownloadError: the file cannot be fetched (fetched ranges are kept; run again), or it differs from the published
            one (it is removed; run again).
        OutputError: the file cannot be written.
        ResourceError: the disk is full.
    """
    part = target.with_name(f"{target.name}.part")
    ledger = Ledger(part, file, most_piece=most_piece, least_piece=least_piece)
    if progress is not None:
        progress(ledger.done_bytes, file.size)
    if not ledger.complete:
        _Transfer(file, ledger, connections, patience or Patience()).run(progress)
    if not matches(part, file.checksum, checking):
        ledger.remove()
        raise DownloadError(
            f"{file.name!r} was fetched completely, but does not have the published checksum; it was removed. Run "
            "the same command again; if that fails too, report it to the archive."
        )
    with output_errors(target):
        part.replace(target)
        ledger.remove()


class _NoRangesError(Exception):
    """The server ignores ranges and sends the whole file."""


class _Transfer:
    """The connections of one file."""

    def __init__(self, file: RecordFile, ledger: Ledger, connections: int, patience: Patience) -> None:
        self._file = file
        self._ledger = ledger
        self._patience = patience
        self._allowed = max(1, connections)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._streaming = False
        self._not_before = 0.0
        self._error: BaseException | None = None
        self._working = 0

    def run(self, progress: Progress | None) -> None:
        """Fetch all missing bytes.

        Raises:
            DownloadError: no connection makes progress any more.
        """
        try:
            self._run_threads(self._work, self._allowed, progress)
            if self._streaming and self._error is None:
                self._run_threads(self._stream, 1, progress)
        finally:
            self._stop.set()
            with output_errors(self._ledger.part):
                self._ledger.save()
        if self._error is not None:
            raise self._error
        if not self._ledger.complete:
            raise DownloadError(
                f"{self._file.name!r} was not fetched completely; run the same command again to continue."
            )

    def _run_threads(self, work: Callable[[], None], count: int, progress: Progress | None) -> None:
        threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for _ in range(count)]
        self._working = count
        self._stop.clear()
        for thread in threads:
            thread.start()
        saved = time.monotonic()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(TICK_S / count)
            if progress is not None:
                progress(self._ledger.done_bytes, self._file.size)
            if time.monotonic() - saved >= SAVE_EVERY_S:
                with output_errors(self._ledger.part):
                    self._ledger.save()
                saved = time.monotonic()
        if progress is not None:
            progress(self._ledger.done_bytes, self._file.size)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run the work of a thread; an error ends all threads and is raised in the main one."""
        try:
            with output_errors(self._ledger.part):
                work()
        except _NoRangesError:
            self._streaming = True
            self._stop.set()
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()

    def _leave(self, most: int) -> bool:
        """Whether this connection ends because more than `most` connections are active."""
        with self._lock:
            if self._working <= most:
                return False
            self._working -= 1
            return True

    def _work(self) -> None:
        """Fetch ranges one after the other."""
        failures = 0
        with session() as at, self._ledger.part.open("r+b", buffering=0) as sink:
            while not self._stop.is_set() and not self._leave(self._allowed):
                self._stop.wait(max(0.0, self._not_before - time.monotonic()))
                piece = self._ledger.claim(self._allowed)
                if piece is None:
                    # A range that another connection fetches may become missing again.
                    if self._ledger.idle or self._stop.wait(TICK_S):
                        return
                    continue
                gained, fault = self._range(at, sink, *piece)
                if fault is None:
                    failures = 0
                    continue
                failures = 1 if gained else failures + 1
                if not self._go_on_after(fault, failures):
                    return

    def _range(self, at: requests.Session, sink: Any, start: int, stop: int) -> tuple[int, PassingError | None]:
        """Fetch [start, stop); returns the number of bytes that arrived, and the failure that cut them short."""
        position, fault = start, None
        try:
            with response_to(at, self._file.url, self._patience, {"Range": f"bytes={start}-{stop - 1}"}) as response:
                self._check_range(response, start)
                for block in response.iter_content(READ_BYTES):
                    if self._stop.is_set():
                        break
                    # A server may send more than was requested.
                    wanted = block[: stop - position]
                    _write_at(sink, position, wanted)
                    self._ledger.gained(position, position + len(wanted))
                    position += len(wanted)
                    if position == stop:
                        break
            if position < stop and not self._stop.is_set():
                fault = PassingError("the answer is shorter than the requested range")
        except PassingError as passing:
            fault = passing
        finally:
            self._ledger.release(position, stop)
        return position - start, fault

    def _check_range(self, response: requests.Response, start: int) -> None:
        """Check that an answer is the requested range."""
        _check_plain(response)
        sent = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status_code == 200:
            raise _NoRangesError
        if sent is not None and sent.group(3) != "*" and int(sent.group(3)) != self._file.size:
            raise DownloadError(
                f"On the server {self._file.name!r} has {int(sent.group(3))} bytes, in the record "
                f"{self._file.size}; try again later, and report it to the archive if that remains."
            )
        if response.status_code == 416:
            raise DownloadError(
                f"On the server {self._file.name!r} ends before its {self._file.size} bytes; try again later."
            )
        if sent is None or int(sent.group(1)) != start:
            raise PassingError("the server sends another range than requested")

    def _stream(self) -> None:
        """Fetch the whole file from its beginning, with further tries until it is complete."""
        failures = furthest = 0
        with session() as at, self._ledger.part.open("r+b", buffering=0) as sink:
            while not self._ledger.complete:
                position = 0
                try:
                    with response_to(at, self._file.url, self._patience) as response:
                        _check_plain(response)
                        for block in response.iter_content(READ_BYTES):
                            if self._stop.is_set():
                                return
                            wanted = block[: self._file.size - position]
                            _write_at(sink, position, wanted)
                            self._ledger.gained(position, position + len(wanted))
                            position += len(wanted)
                            if len(wanted) < len(block):
                                raise DownloadError(
                                    f"The server sends more than the {self._file.size} bytes of {self._file.name!r} in "
                                    "the record; try again later."
                                )
                    if position < self._file.size:
                        raise PassingError("the answer broke off")
                except PassingError as fault:
                    # Without ranges a new try starts at byte 0: only bytes beyond the furthest one are progress.
                    failures = 1 if position > furthest else failures + 1
                    furthest = max(furthest, position)
                    if not self._go_on_after(fault, failures):
                        return
                    self._stop.wait(max(0.0, self._not_before - time.monotonic()))

    def _go_on_after(self, fault: PassingError, failures: int) -> bool:
        """Wait before the next try; returns False when this connection ends because others are active.

        Raises:
            DownloadError: the last try of the last connection has failed; run again later.
        """
        wait_s = self._patience.wait_s(failures) if fault.wait_s is None else fault.wait_s
        wait_s = min(wait_s, self._patience.longest_wait_s)
        if fault.busy:
            with self._lock:
                self._allowed = max(1, self._allowed // 2)
                self._not_before = max(self._not_before, time.monotonic() + wait_s)
        elif failures < self._patience.tries:
            self._stop.wait(wait_s)
        if failures < self._patience.tries:
            return True
        if self._leave(1):
            return False
        raise DownloadError(
            f"{self._file.name!r} cannot be fetched further: {fault}, {failures} times in a row. The fetched part "
            "is kept: run the same command again to continue."
        )


def _check_plain(response: requests.Response) -> None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError("The server, or a proxy between, changes the file's encoding; try without the proxy.")


def _write_at(sink: Any, position: int, data: bytes) -> None:
    """Write all of `data` to an unbuffered file."""
    sink.seek(position)
    view = memoryview(data)
    while view:
        view = view[sink.write(view) :]
