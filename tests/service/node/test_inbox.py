"""Received objects: their names, that none is lost or doubled, and when a study is complete."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import FileDataset

from support.dicom_factory import TRANSFER_SYNTAXES, assert_no_canary, write_series
from thinslice.service.node.inbox import Identity, Inbox, identity_of
from thinslice.service.object_head import MOST_HEAD_BYTES, DamagedObjectError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inbox(tmp_path: Path, clock: Clock) -> Inbox:
    for name in ("incoming", "arriving"):
        (tmp_path / name).mkdir()
    return Inbox(tmp_path / "incoming", tmp_path / "arriving", clock=clock)


@pytest.fixture
def arrive(inbox: Inbox) -> Callable[..., bool]:
    """Let a file come in as the receiver does."""

    def arrive(path: Path, caller: str = "CT1") -> bool:
        arrived = inbox.arriving / "object"
        arrived.write_bytes(path.read_bytes())
        with arrived.open("rb") as stream:
            identity = identity_of(stream, arrived.stat().st_size)
        return inbox.keep(arrived, identity, caller)

    return arrive


def stored(inbox: Inbox) -> list[Path]:
    return sorted(inbox.incoming.rglob("*.dcm"))


@pytest.mark.parametrize("syntax", sorted(TRANSFER_SYNTAXES))
def test_an_object_is_kept_byte_for_byte_in_every_transfer_syntax(
    inbox: Inbox, arrive: Callable[..., bool], tmp_path: Path, syntax: str
) -> None:
    write_series(tmp_path / "in", shape=(2, 32, 32), transfer_syntax=syntax)
    files = sorted((tmp_path / "in").iterdir())
    assert [arrive(path) for path in files] == [True, True]
    assert {path.read_bytes() for path in stored(inbox)} == {path.read_bytes() for path in files}
    assert not list(inbox.arriving.iterdir())


def test_an_object_that_comes_again_is_there_once_and_one_that_changed_replaces_it(
    inbox: Inbox, arrive: Callable[..., bool], tmp_path: Path
) -> None:
    write_series(tmp_path / "in", shape=(2, 16, 16))
    files = sorted((tmp_path / "in").iterdir())
    for path in files:
        arrive(path)
    (study,) = inbox.incoming.iterdir()
    (series,) = inbox.series_of(study.name)
    stamp, content = inbox.stamp(study.name, series), inbox.content(study.name, series)
    assert not arrive(files[0])
    assert (inbox.stamp(study.name, series), inbox.content(study.name, series)) == (stamp, content)
    changed = pydicom.dcmread(files[0])
    changed.SeriesDescription = "corrected"
    changed.save_as(files[0])
    assert arrive(files[0])
    assert len(stored(inbox)) == 2
    assert inbox.content(study.name, series) != content


def test_no_sender_chooses_a_name(inbox: Inbox, arrive: Callable[..., bool], tmp_path: Path) -> None:
    def hostile(dataset: FileDataset, index: int) -> None:
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            dataset.add_new(name, "UI", f"../../../{name}/{index}")
        dataset.PatientID = "../../evil"

    write_series(tmp_path / "in", shape=(2, 16, 16), edit=hostile)
    for path in sorted((tmp_path / "in").iterdir()):
        arrive(path)
    kept = [path.relative_to(inbox.incoming) for path in stored(inbox)]
    assert len(kept) == 2
    for path in kept:
        assert len(path.parts) == 3
        assert_no_canary(path.as_posix())
        assert all(set(part) <= set("0123456789abcdef.dm") | set("c") for part in path.parts)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "incoming", "arriving"}


def test_patients_who_share_a_study_uid_are_kept_apart(
    inbox: Inbox, arrive: Callable[..., bool], tmp_path: Path
) -> None:
    for patient in ("A", "B"):

        def owner(dataset: FileDataset, index: int, patient: str = patient) -> None:
            dataset.PatientID = patient

        write_series(tmp_path / patient, shape=(2, 16, 16), edit=owner, uid="1.2.3", study_uid="1.2.3.4")
        for path in sorted((tmp_path / patient).iterdir()):
            arrive(path)
    assert len(list(inbox.incoming.iterdir())) == 2


def test_a_study_is_complete_once_nothing_came_for_a_while_and_again_after_more_came(
    inbox: Inbox, arrive: Callable[..., bool], tmp_path: Path, clock: Clock
) -> None:
    write_series(tmp_path / "in", shape=(3, 16, 16))
    files = sorted((tmp_path / "in").iterdir())
    arrive(files[0])
    clock.now_s += 50
    arrive(files[1])
    clock.now_s += 50
    assert inbox.complete(60) == []
    assert inbox.waiting == 1
    clock.now_s += 10
    (study,) = inbox.complete(60)
    assert inbox.complete(60) == [] and inbox.waiting == 0
    arrive(files[2])
    clock.now_s += 60
    assert inbox.complete(60) == [study]


def test_after_a_start_studies_wait_anew_and_halves_are_gone(
    inbox: Inbox, arrive: Callable[..., bool], tmp_path: Path, clock: Clock
) -> None:
    write_series(tmp_path / "in", shape=(2, 16, 16))
    arrive(tmp_path / "in" / "slice0000.dcm", "CT7")
    (inbox.arriving / "half").write_bytes(b"half")
    again = Inbox(inbox.incoming, inbox.arriving, clock=clock)
    again.recover()
    assert not list(inbox.arriving.iterdir())
    assert again.complete(60) == []
    clock.now_s += 60
    (study,) = again.complete(60)
    (series,) = again.series_of(study)
    assert again.caller(study, series) == "CT7"


@pytest.mark.parametrize(
    "content",
    [b"", b"DICM", b"\0" * 128 + b"DICM", bytes(range(256)) * 64, b"\xff" * 4096],
    ids=["nothing", "four letters", "preamble", "every byte", "ones"],
)
def test_bytes_that_are_no_object_are_refused(content: bytes) -> None:
    with pytest.raises(DamagedObjectError):
        identity_of(io.BytesIO(content), len(content))


def test_an_object_without_uids_is_refused(tmp_path: Path) -> None:
    def nameless(dataset: FileDataset, index: int) -> None:
        del dataset.SeriesInstanceUID

    write_series(tmp_path / "in", shape=(2, 16, 16), edit=nameless)
    path = tmp_path / "in" / "slice0000.dcm"
    with path.open("rb") as stream, pytest.raises(DamagedObjectError, match="lacks the UID"):
        identity_of(stream, path.stat().st_size)


def test_a_header_that_goes_on_and_on_is_refused_within_bounds(tmp_path: Path) -> None:
    write_series(tmp_path / "in", shape=(2, 16, 16))
    whole = (tmp_path / "in" / "slice0000.dcm").read_bytes()
    start = whole.index(b"\x08\x00", 140)
    endless = whole[:start] + b"\x09\x00\x10\x00UN\x00\x00\x04\x00\x00\x00abcd" * (MOST_HEAD_BYTES // 8) + whole[start:]
    stream = io.BytesIO(endless)
    with pytest.raises(DamagedObjectError):
        identity_of(stream, len(endless))
    assert stream.tell() <= 2 * MOST_HEAD_BYTES


def test_an_identity_is_a_function_of_the_uids(tmp_path: Path) -> None:
    write_series(tmp_path / "in", shape=(2, 16, 16))
    found: list[Identity] = []
    for _ in range(2):
        path = tmp_path / "in" / "slice0000.dcm"
        with path.open("rb") as stream:
            found.append(identity_of(stream, path.stat().st_size))
    assert found[0] == found[1]
    assert found[0].instance_uid == pydicom.dcmread(path).SOPInstanceUID
