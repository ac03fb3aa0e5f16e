"""The receiving side of a node: who is served, what is answered, and what hostile callers can take."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

pytest.importorskip("pynetdicom")

from pynetdicom import AE, build_role
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF

from support.dicom_factory import TRANSFER_SYNTAXES, assert_no_canary, write_enhanced, write_series
from support.noded import STORAGE_COMMITMENT, associate, send
from thinslice.errors import UsageError
from thinslice.service.node.commitment import Commitments
from thinslice.service.node.inbox import Inbox
from thinslice.service.node.receiver import Receiver
from thinslice.service.node.settings import Caller, Limits, NodeSettings, Target

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]

BOUNDS = Limits(free_gib=0, per_address=4, associations=6, pdu_kib=32, object_mib=1, idle_s=5, begin_s=1)

ASSOCIATE_REQUEST = 1
DATA = 4


class Listening:
    """A receiver, with what it wrote and kept."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.lines: list[str] = []
        for name in ("incoming", "arriving", "commitments"):
            (folder / name).mkdir()
        self.inbox = Inbox(folder / "incoming", folder / "arriving")
        self.commitments = Commitments(folder / "commitments")
        callers = settings.pop("callers", (Caller(ae_title="CALLER"),))
        values = {"host": "127.0.0.1", "port": 0, "data": folder, "limits": BOUNDS, **settings}
        self.receiver = Receiver(
            NodeSettings(callers=callers, **values),
            self.inbox,
            self.commitments,
            lambda *line, **values: self.lines.append(f"{line} {values}"),
        )

    @property
    def port(self) -> int:
        return self.receiver.port

    def kept(self) -> list[Path]:
        return sorted(self.inbox.incoming.rglob("*.dcm"))


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Callable[..., Listening]]:
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Listening:
            folder = tmp_path / "node"
            folder.mkdir()
            made = Listening(folder, **settings)
            stack.enter_context(made.receiver)
            return made

        yield start


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "in", shape=(3, 32, 32))
    return tmp_path / "in"


def echo(port: int, **rest: Any) -> int | None:
    association = associate(port, **rest)
    if not association.is_established:
        return None
    status = association.send_c_echo()
    association.release()
    return status.get("Status")


def still_serving(made: Listening, series: Path) -> None:
    assert send(made.port, series) == [0, 0, 0]
    assert not list(made.inbox.arriving.iterdir())
    for line in made.lines:
        assert_no_canary(line)


def connect(made: Listening, source: str = "127.0.0.1") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", made.port), timeout=30, source_address=(source, 0))
    connection.settimeout(30)
    return connection


def ended(connection: socket.socket) -> bool:
    """Whether the other side ends the connection; it blocks until then."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(4096):
            pass
    return True


def pdu(kind: int, content: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBL", kind, 0, len(content) if length is None else length) + content


def open_association(made: Listening) -> tuple[Any, socket.socket]:
    """An association whose socket a test may write on, with one accepted context for CT."""
    association = associate(made.port)
    assert association.is_established
    return association, association.dul.socket.socket


def messages(association: Any, dataset: Dataset, content: bytes) -> list[bytes]:
    """PDUs that store an object whose encoded dataset is `content`, in small parts."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    request.DataSet = io.BytesIO(content)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    context = next(one for one in association.accepted_contexts if one.abstract_syntax == dataset.SOPClassUID)
    parts = []
    for primitive in message.encode_msg(context.context_id, 4096):
        part = P_DATA_TF()
        part.from_primitive(primitive)
        parts.append(part.encode())
    return parts


def test_a_caller_is_answered_and_a_stranger_is_not(listen: Callable[..., Listening]) -> None:
    made = listen()
    assert echo(made.port) == 0
    assert echo(made.port, title="STRANGER") is None
    assert echo(made.port, called="OTHER") is None
    assert made.receiver.counts["rejected"] == 2


def test_an_address_of_no_caller_is_turned_away_at_once(listen: Callable[..., Listening]) -> None:
    made = listen(callers=(Caller(ae_title="CALLER", address="127.0.0.2"),))
    assert ended(connect(made))
    assert made.receiver.closed_at_once == 1


def test_the_address_of_a_caller_counts_for_each_title(listen: Callable[..., Listening], series: Path) -> None:
    callers = (Caller(ae_title="CALLER", address="127.0.0.2"), Caller(ae_title="OTHER"))
    made = listen(callers=callers)
    assert send(made.port, series) == [0x0124] * 3
    assert send(made.port, series, title="OTHER") == [0] * 3


def test_a_target_may_report_and_may_not_store(listen: Callable[..., Listening], series: Path) -> None:
    made = listen(targets=(Target(name="pacs", ae_title="PACS", host="127.0.0.1", port=104),))
    assert send(made.port, series, title="PACS") == [0x0124] * 3
    assert not made.kept()


@pytest.mark.parametrize("syntax", sorted(TRANSFER_SYNTAXES))
def test_every_transfer_syntax_is_taken_as_it_comes(
    listen: Callable[..., Listening], tmp_path: Path, syntax: str
) -> None:
    write_series(tmp_path / "in", shape=(2, 32, 32), transfer_syntax=syntax)
    made = listen()
    assert send(made.port, tmp_path / "in") == [0, 0]
    sent = {pydicom.dcmread(path).PixelData for path in (tmp_path / "in").iterdir()}
    kept = [pydicom.dcmread(path) for path in made.kept()]
    assert {dataset.PixelData for dataset in kept} == sent
    assert {dataset.file_meta.TransferSyntaxUID for dataset in kept} == {TRANSFER_SYNTAXES[syntax]}


def test_an_enhanced_object_is_taken(listen: Callable[..., Listening], tmp_path: Path) -> None:
    write_enhanced(tmp_path / "enhanced.dcm")
    made = listen(limits=BOUNDS.model_copy(update={"object_mib": 64}))
    assert send(made.port, tmp_path) == [0]
    assert len(made.kept()) == 1


def test_an_object_of_another_class_is_not_negotiated(listen: Callable[..., Listening]) -> None:
    made = listen()
    ae = AE(ae_title="CALLER")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
    association = ae.associate("127.0.0.1", made.port, ae_title="THINSLICE")
    assert not association.accepted_contexts


def test_an_object_under_a_false_name_or_without_uids_is_refused(
    listen: Callable[..., Listening], series: Path
) -> None:
    made = listen()
    association = associate(made.port)
    dataset = pydicom.dcmread(series / "slice0000.dcm")
    whole = dataset.StudyInstanceUID
    del dataset.StudyInstanceUID
    assert association.send_c_store(dataset).Status == 0xC000
    dataset.StudyInstanceUID = whole
    assert association.send_c_store(dataset).Status == 0
    association.release()
    assert len(made.kept()) == 1
    still_serving(made, series)


def test_a_full_disk_is_answered_and_nothing_is_kept(listen: Callable[..., Listening], series: Path) -> None:
    made = listen(limits=BOUNDS.model_copy(update={"free_gib": 1e9}))
    assert send(made.port, series) == [0xA700] * 3
    assert not made.kept() and not list(made.inbox.arriving.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(range(256)) * 8, b"\x01"],
    ids=["http", "tls", "bytes", "one byte"],
)
def test_garbage_ends_its_connection_alone(listen: Callable[..., Listening], series: Path, content: bytes) -> None:
    made = listen()
    with connect(made) as connection:
        connection.sendall(content)
        assert ended(connection)
    still_serving(made, series)


def test_a_pdu_bomb_ends_its_connection_before_it_is_read(listen: Callable[..., Listening], series: Path) -> None:
    made = listen()
    for kind in (ASSOCIATE_REQUEST, DATA):
        with connect(made) as connection:
            connection.sendall(pdu(kind, b"", 0xFFFFFFFF))
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"\0" * 100_000)
            assert ended(connection)
    still_serving(made, series)


def test_an_object_beyond_the_limit_ends_its_association_and_leaves_nothing(
    listen: Callable[..., Listening], series: Path
) -> None:
    made = listen()
    association, connection = open_association(made)
    dataset = pydicom.dcmread(series / "slice0000.dcm")
    with contextlib.suppress(OSError):
        for part in messages(association, dataset, b"\0" * 60_000_000):
            connection.sendall(part)
        pytest.fail("the node took 60 MB for an object of at most 1 MiB")
    association.abort()
    still_serving(made, series)


def test_a_command_that_never_ends_is_cut_off(listen: Callable[..., Listening], series: Path) -> None:
    made = listen()
    association, connection = open_association(made)
    context = association.accepted_contexts[0].context_id
    fragment = struct.pack(">LBB", 30_002, context, 1) + b"\0" * 30_000
    with contextlib.suppress(OSError):
        for _ in range(2000):
            connection.sendall(pdu(DATA, fragment))
        pytest.fail("the node took a command of 60 MB")
    association.abort()
    still_serving(made, series)


def test_a_flood_of_silent_connections_from_one_address_leaves_room_for_others(
    listen: Callable[..., Listening], series: Path
) -> None:
    made = listen()
    flood = [connect(made, "127.0.0.2") for _ in range(60)]
    try:
        still_serving(made, series)
        assert made.receiver.closed_at_once >= 50
    finally:
        for connection in flood:
            connection.close()


def test_a_silent_connection_is_ended(listen: Callable[..., Listening], series: Path) -> None:
    made = listen()
    begun_s = time.monotonic()
    with connect(made) as connection:
        assert ended(connection)
    with connect(made) as connection:
        connection.sendall(b"\x01\x00\x00")
        assert ended(connection)
    assert time.monotonic() - begun_s < 60
    still_serving(made, series)


def test_a_connection_that_breaks_in_an_object_leaves_nothing(listen: Callable[..., Listening], series: Path) -> None:
    made = listen()
    association, connection = open_association(made)
    dataset = pydicom.dcmread(series / "slice0000.dcm")
    parts = messages(association, dataset, encode(dataset, False, True) or b"")
    for part in parts[: len(parts) // 2]:
        connection.sendall(part)
    connection.shutdown(socket.SHUT_RDWR)
    still_serving(made, series)
    assert len(made.kept()) == 3


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000,
        b"\x08\x00\x05\x00CS\xff\xff",
        b"\x08\x00\x10\x11SQ\0\0\x00\x00\x00\xf0",
        b"\x08\x00\x01\x00UN\0\0\x00\x00\x00\x00" * 20_000,
    ],
    ids=["nested", "too long", "endless sequence", "many elements"],
)
def test_a_damaged_dataset_is_answered_with_a_failure(
    listen: Callable[..., Listening], series: Path, hostile: bytes
) -> None:
    made = listen()
    association, connection = open_association(made)
    dataset = pydicom.dcmread(series / "slice0000.dcm")
    association._reactor_checkpoint.clear()  # the answer is for this test
    for part in messages(association, dataset, hostile):
        connection.sendall(part)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert answer is not None and answer.Status == 0xC000
    association.release()
    still_serving(made, series)
    assert len(made.kept()) == 3


def test_a_report_of_an_unknown_transaction_is_dropped(listen: Callable[..., Listening], tmp_path: Path) -> None:
    made = listen(targets=(Target(name="pacs", ae_title="PACS", host="127.0.0.1", port=104),))
    made.commitments.announce("1.2.3")
    ae = AE(ae_title="PACS")
    ae.add_requested_context(STORAGE_COMMITMENT)
    association = ae.associate(
        "127.0.0.1", made.port, ae_title="THINSLICE", ext_neg=[build_role(STORAGE_COMMITMENT, scp_role=True)]
    )
    for transaction in ("1.2.3", "9.9.9"):
        report = Dataset()
        report.TransactionUID = transaction
        kept = Dataset()
        kept.ReferencedSOPClassUID, kept.ReferencedSOPInstanceUID = "1.2", "1.2.4"
        report.ReferencedSOPSequence = [kept]
        status, _ = association.send_n_event_report(report, 1, STORAGE_COMMITMENT, "1.2.840.10008.1.20.1.1")
        assert status.Status == 0
    association.release()
    answer = made.commitments.answer("1.2.3")
    assert answer is not None and answer.kept == {"1.2.4"}
    assert made.commitments.answer("9.9.9") is None
    assert len(list((tmp_path / "node" / "commitments").glob("*.json"))) == 1


def test_a_port_that_is_taken_is_refused_with_a_way_on(listen: Callable[..., Listening], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="choose another host or port"):
            listen(port=taken.getsockname()[1])
