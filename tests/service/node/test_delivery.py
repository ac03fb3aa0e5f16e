"""Sending a series to a target: everything once, whatever breaks, and responsibility where the target takes it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

pytest.importorskip("pynetdicom")

from support.dicom_factory import write_series
from support.noded import Archive, associate, send
from thinslice.service.node import delivery
from thinslice.service.node.commitment import Commitments
from thinslice.service.node.delivery import DeliveryError, Progress, Sender
from thinslice.service.node.inbox import Inbox
from thinslice.service.node.receiver import Receiver
from thinslice.service.node.settings import Caller, Limits, NodeSettings, Target, Tls
from thinslice.service.node.transport import client_context, server_context

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SLICES = 5


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    write_series(tmp_path / "thin", shape=(SLICES, 16, 16))
    return sorted((tmp_path / "thin").iterdir())


@pytest.fixture
def deliver(tmp_path: Path, paths: list[Path]) -> Callable[..., dict[str, Any]]:
    """Send the series once, with the progress of earlier attempts."""
    (tmp_path / "commitments").mkdir()

    def deliver(archive: Archive, *, own: Tls | None = None, check: Callable[[], None] = lambda: None, **of: Any):
        target = Target(name="archive0", ae_title="ARCHIVE0", host="127.0.0.1", port=archive.port, **of)
        sender = Sender("THINSLICE", target, own, Commitments(tmp_path / "commitments"))
        progress = Progress.of(tmp_path / "progress.json")
        return sender.send(paths, progress, phase=lambda name, share: None, check=check)

    return deliver


def same_as(archive: Archive, paths: list[Path]) -> bool:
    pixels = {pydicom.dcmread(path).SOPInstanceUID for path in paths}
    return {uid for _, uid in archive.objects} == pixels


def test_every_object_arrives_once(deliver: Callable[..., dict[str, Any]], paths: list[Path]) -> None:
    with Archive() as archive:
        assert deliver(archive) == {"objects": SLICES, "commitment": "not offered"}
        assert deliver(archive)["objects"] == SLICES
        assert same_as(archive, paths)
        assert set(archive.times.values()) == {1}


def test_a_target_that_takes_implicit_vr_alone_receives_the_same_pixels(
    deliver: Callable[..., dict[str, Any]], paths: list[Path]
) -> None:
    with Archive(implicit=True) as archive:
        deliver(archive)
        assert same_as(archive, paths)


@pytest.mark.parametrize("broken", range(SLICES))
def test_after_a_broken_connection_only_the_rest_is_sent(
    deliver: Callable[..., dict[str, Any]], paths: list[Path], broken: int
) -> None:
    def answer(number: int) -> int:
        return -1 if number == broken else 0

    with Archive(answer=answer) as archive:
        with pytest.raises(DeliveryError, match="broke"):
            deliver(archive)
        assert deliver(archive)["objects"] == SLICES
        assert same_as(archive, paths)
        assert set(archive.times.values()) == {1}


def test_a_refused_object_is_tried_again_and_one_that_is_there_counts_as_taken(
    deliver: Callable[..., dict[str, Any]], paths: list[Path]
) -> None:
    answers = iter([0, 0xA700, 0, 0x0111, 0, 0xB000, 0])
    with Archive(answer=lambda number: next(answers)) as archive:
        with pytest.raises(DeliveryError, match="A700"):
            deliver(archive)
        assert deliver(archive)["objects"] == SLICES


def test_an_attempt_ends_where_it_is_asked_to_and_goes_on_later(
    deliver: Callable[..., dict[str, Any]], paths: list[Path]
) -> None:
    left = iter([None, None])

    def check() -> None:
        if next(left, "ended") == "ended":
            raise KeyboardInterrupt

    with Archive() as archive:
        with pytest.raises(KeyboardInterrupt):
            deliver(archive, check=check)
        assert len(archive.objects) == 2
        deliver(archive)
        assert set(archive.times.values()) == {1}
        assert same_as(archive, paths)


def test_nobody_there_and_a_target_that_does_not_know_the_node(deliver: Callable[..., dict[str, Any]]) -> None:
    with Archive() as archive:
        port = archive.port
    gone = Archive(port=port)
    gone.__exit__()
    with pytest.raises(DeliveryError, match="cannot be reached"):
        deliver(gone)
    with Archive() as archive:
        archive._server.ae.require_calling_aet = ["SOMEBODY"]
        with pytest.raises(DeliveryError, match="refuses this node"):
            deliver(archive)


def test_commitment_on_the_same_association(deliver: Callable[..., dict[str, Any]], paths: list[Path]) -> None:
    with Archive(commitment="same") as archive:
        assert deliver(archive) == {"objects": SLICES, "commitment": "kept"}
        (request,) = archive.requests
        named = {item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence}
        assert named == {uid for _, uid in archive.objects}
        assert same_as(archive, paths)


def test_what_a_target_has_lost_is_sent_again(deliver: Callable[..., dict[str, Any]], paths: list[Path]) -> None:
    lost = str(pydicom.dcmread(paths[1]).SOPInstanceUID)
    with Archive(commitment="same") as archive:
        archive.lost = {lost}
        with pytest.raises(DeliveryError, match="has not confirmed"):
            deliver(archive)
        assert deliver(archive)["commitment"] == "kept"
        assert archive.times[lost] == 2
        assert sum(archive.times.values()) == SLICES + 1


def test_commitment_that_is_reported_by_a_call_back(
    deliver: Callable[..., dict[str, Any]], paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "REPORT_WAIT_S", 0.0)
    for name in ("incoming", "arriving"):
        (tmp_path / name).mkdir()
    with Archive(commitment="later") as archive:
        settings = NodeSettings(
            host="127.0.0.1",
            port=0,
            data=tmp_path,
            callers=(Caller(ae_title="CALLER"),),
            targets=(Target(name="archive0", ae_title="ARCHIVE0", host="127.0.0.1", port=archive.port),),
        )
        inbox, commitments = Inbox(tmp_path / "incoming", tmp_path / "arriving"), Commitments(tmp_path / "commitments")
        with Receiver(settings, inbox, commitments, lambda *line, **values: None) as receiver:
            archive.call_back = ("THINSLICE", receiver.port)
            with pytest.raises(DeliveryError, match="has not confirmed"):
                deliver(archive)
            for thread in archive.later:
                thread.join()
            assert deliver(archive)["commitment"] == "kept"
        assert len(archive.requests) == 1
        assert set(archive.times.values()) == {1}
        assert not list((tmp_path / "commitments").glob("*.json"))


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """An authority, and a certificate of 127.0.0.1 that it signed."""
    folder = tmp_path / "tls"
    folder.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    openssl(*new, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=node")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        *("x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-out", "own.pem", "-days", "2", "-extfile", "names"),
    )
    return folder


def test_tls_with_certificates_on_both_sides(
    deliver: Callable[..., dict[str, Any]], paths: list[Path], certificates: Path
) -> None:
    context = server_context(certificates / "own.pem", certificates / "own.key", certificates / "ca.pem")
    own = Tls(certificate=certificates / "own.pem", key=certificates / "own.key")
    with Archive(context=context) as archive:
        for halves in ({}, {"tls": True}, {"tls": True, "authority": certificates / "ca.pem"}):
            with pytest.raises(DeliveryError, match=r"cannot be reached|broke"):
                deliver(archive, **halves)
        assert not archive.objects
        deliver(archive, own=own, tls=True, authority=certificates / "ca.pem")
        assert same_as(archive, paths)


def test_a_node_with_tls_serves_while_others_stay_silent(paths: list[Path], certificates: Path, tmp_path: Path) -> None:
    for name in ("incoming", "arriving"):
        (tmp_path / name).mkdir()
    files = {name: certificates / f"{stem}" for name, stem in (("certificate", "own.pem"), ("key", "own.key"))}
    settings = NodeSettings(
        host="127.0.0.1",
        port=0,
        data=tmp_path,
        callers=(Caller(ae_title="CALLER"),),
        tls=Tls(**files, authority=certificates / "ca.pem"),
        limits=Limits(free_gib=0),
    )
    inbox = Inbox(tmp_path / "incoming", tmp_path / "arriving")
    with Receiver(settings, inbox, Commitments(tmp_path), lambda *line, **values: None) as receiver:
        address = ("127.0.0.1", receiver.port)
        with socket.create_connection(address), socket.create_connection(address):
            context = client_context(certificates / "ca.pem", files["certificate"], files["key"])
            assert send(receiver.port, paths[0].parent, tls_args=(context, "127.0.0.1")) == [0] * SLICES
            assert not associate(receiver.port).is_established
            stranger = client_context(certificates / "ca.pem", None, None)
            assert not associate(receiver.port, tls_args=(stranger, "127.0.0.1")).is_established
    assert len(list(inbox.incoming.rglob("*.dcm"))) == SLICES
