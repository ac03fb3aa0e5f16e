"""A real node in a process of its own on loopback, and archives by pynetdicom that send to it and take its series."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import requests
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"

RULES = """
[[rule]]
name = "every-series"
run.model = "linear"
"""


class Node:
    """`thinslice node` with its data in a folder.

    Args:
        folder: for its settings and data; kept from start to start.
        targets: ports of archives named ARCHIVE0, ARCHIVE1 and so on.
        rules: TOML of the rules.
        settings: further lines of TOML before the tables.
        more: further tables.
        stable_s: time after which a study is complete.
        port: port of the node; 0 takes a free one.
    """

    def __init__(
        self,
        folder: Path,
        targets: Sequence[int] = (),
        *,
        rules: str = RULES,
        settings: str = "",
        more: str = "",
        stable_s: float = 1.0,
        port: int = 0,
    ) -> None:
        self.data = folder / "data"
        self.log: list[str] = []
        self._path = folder / "node.toml"
        self._lines = [
            f'host = "127.0.0.1"\ndata = "data"\nthreads = 1\nstable_s = {stable_s}\n{settings}',
            '[[caller]]\nae_title = "CALLER"\n',
            *(
                f'[[target]]\nname = "archive{number}"\nae_title = "ARCHIVE{number}"\n'
                f'host = "127.0.0.1"\nport = {port}\n'
                for number, port in enumerate(targets)
            ),
            "" if "[limits]" in more else "[limits]\nfree_gib = 0\n",
            more,
            rules,
        ]
        self.port, self.status_port = port, 0
        self.start()

    def start(self) -> None:
        """Start the node; on the same ports as before."""
        ports = f"port = {self.port}\nstatus_port = {self.status_port}\n"
        self._path.write_text(ports + "".join(self._lines), encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "thinslice", "node", str(self._path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        ports_found = re.fullmatch(r"THINSLICE 127\.0\.0\.1:(\d+) http://127\.0\.0\.1:(\d+)/\n", first)
        assert ports_found, self.process.communicate()
        self.port, self.status_port = map(int, ports_found.groups())
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self._reader.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            with self._heard:
                self.log.append(line.rstrip("\n"))
                self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()

    def wait(self, pattern: str, *, times: int = 1, within_s: float = 240.0) -> list[str]:
        """Lines of the log that match, once there are so many."""

        def found() -> list[str]:
            return [line for line in self.log if re.search(pattern, line)]

        with self._heard:
            assert self._heard.wait_for(lambda: len(found()) >= times or self.process.poll() is not None, within_s), (
                self.log
            )
            assert len(found()) >= times, self.log
            return found()

    def wait_until(self, holds: Callable[[], bool], within_s: float = 600.0) -> None:
        """Wait until something holds that is looked at after each line of the log."""
        with self._heard:
            assert self._heard.wait_for(lambda: holds() or self.process.poll() is not None, within_s), self.log
        assert holds(), self.log

    def more(self, lines: int, within_s: float = 60.0) -> bool:
        """Wait for so many more lines of the log; returns whether they came."""
        begun = len(self.log)
        with self._heard:
            return self._heard.wait_for(lambda: len(self.log) >= begun + lines, within_s)

    def metrics(self) -> dict[str, float]:
        """Metrics by name and labels."""
        text = requests.get(f"http://127.0.0.1:{self.status_port}/metrics", timeout=60).text
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def kill(self) -> None:
        """End the node as a power cut would; its workers follow."""
        self.process.kill()
        self._gone()

    def stop(self) -> int:
        """End the node in an orderly way; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        self._gone()
        return self.process.returncode

    def _gone(self) -> None:
        self.process.wait()
        self._reader.join()

    def worker(self, place: str) -> int:
        """Process number of the worker in a place; it must run."""
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent == self.process.pid and place.encode() in (folder / "cmdline").read_bytes():
                        return int(folder.name)
        raise LookupError(place)


@contextlib.contextmanager
def noded(folder: Path, targets: Sequence[int] = (), **settings: Any) -> Iterator[Node]:
    """A node that ends with the block."""
    node = Node(folder, targets, **settings)
    try:
        yield node
    finally:
        if node.process.poll() is None:
            node.stop()


class Archive:
    """Takes series by C-STORE, and storage commitment where it is offered; as a context manager.

    Args:
        title: its AE title.
        commitment: "same": reports on the same association; "later": calls back; None: not offered.
        answer: status of each object by its number from 0; an exception ends the connection.
        implicit: take nothing but Implicit VR Little Endian.
        context: TLS.

    Attributes:
        objects: (series UID, SOP instance UID) -> bytes of the last dataset that was stored.
        times: how often each was sent.
        lost: UIDs of objects for which commitment is refused, once.
    """

    def __init__(
        self,
        title: str = "ARCHIVE0",
        *,
        commitment: str | None = None,
        answer: Callable[[int], int] = lambda number: 0,
        implicit: bool = False,
        context: Any = None,
        port: int = 0,
    ) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.times: Counter[str] = Counter()
        self.requests: list[Dataset] = []
        self.lost: set[str] = set()
        self.call_back: tuple[str, int] | None = None
        self.later: list[threading.Thread] = []
        self._title = title
        self._commitment = commitment
        self._answer = answer
        self._count = 0
        ae = AE(ae_title=title)
        syntaxes = [ImplicitVRLittleEndian] if implicit else [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        for class_uid in (CTImageStorage, EnhancedCTImageStorage):
            ae.add_supported_context(class_uid, syntaxes)
        if commitment is not None:
            ae.add_supported_context(STORAGE_COMMITMENT)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action)]
        self._server: Any = ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=context
        )
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *raised: object) -> None:
        for thread in self.later:
            thread.join()
        self._server.shutdown()

    def _store(self, event: Any) -> int:
        number, self._count = self._count, self._count + 1
        status = self._answer(number)
        if status == -1:
            event.assoc.dul.socket.socket.close()
            return 0xC000
        if status == 0:
            dataset = event.dataset
            self.times[dataset.SOPInstanceUID] += 1
            content = event.encoded_dataset(include_meta=False)
            self.objects[dataset.SeriesInstanceUID, dataset.SOPInstanceUID] = content
        return status

    def _action(self, event: Any) -> tuple[int, None]:
        request = event.action_information
        self.requests.append(request)
        report, kind = self._report(request)
        if self._commitment == "same":
            thread = threading.Thread(
                target=lambda: event.assoc.send_n_event_report(
                    report, kind, STORAGE_COMMITMENT, "1.2.840.10008.1.20.1.1"
                )
            )
        else:
            thread = threading.Thread(target=self._call, args=(report, kind))
        self.later.append(thread)
        thread.start()
        return 0, None

    def _report(self, request: Dataset) -> tuple[Dataset, int]:
        there = {uid for _, uid in self.objects}
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        kept, failed = [], []
        for item in request.ReferencedSOPSequence:
            uid = item.ReferencedSOPInstanceUID
            if uid in there and uid not in self.lost:
                kept.append(item)
            else:
                failed_item = Dataset()
                failed_item.update(item)
                failed_item.FailureReason = 0x0112
                failed.append(failed_item)
        self.lost.clear()
        report.ReferencedSOPSequence = Items(kept)
        if failed:
            report.FailedSOPSequence = Items(failed)
        return report, 2 if failed else 1

    def _call(self, report: Dataset, kind: int) -> None:
        assert self.call_back is not None
        from pynetdicom import build_role

        ae = AE(ae_title=self._title)
        ae.add_requested_context(STORAGE_COMMITMENT)
        association = ae.associate(
            "127.0.0.1",
            self.call_back[1],
            ae_title=self.call_back[0],
            ext_neg=[build_role(STORAGE_COMMITMENT, scp_role=True)],
        )
        association.send_n_event_report(report, kind, STORAGE_COMMITMENT, "1.2.840.10008.1.20.1.1")
        association.release()


def associate(
    port: int, *, title: str = "CALLER", called: str = "THINSLICE", syntaxes: Sequence[str] = (), **rest: Any
):
    """An association with a node, for CT in some transfer syntaxes."""
    ae = AE(ae_title=title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context("1.2.840.10008.1.1")
    wanted = list(syntaxes) or [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    for class_uid in (CTImageStorage, EnhancedCTImageStorage):
        for syntax in wanted:
            ae.add_requested_context(class_uid, syntax)
    return ae.associate("127.0.0.1", port, ae_title=called, **rest)


def send(port: int, folder: Path, **rest: Any) -> list[int]:
    """Send the files of a folder; returns the status of each."""
    import pydicom

    files = [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]
    syntaxes = sorted({file.file_meta.TransferSyntaxUID for file in files})
    association = associate(port, syntaxes=syntaxes, **rest)
    assert association.is_established
    try:
        return [int(association.send_c_store(file).get("Status", -1)) for file in files]
    finally:
        association.release()
