"""A record by its DOI."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.record_server import DOI, Archive, serve
from thinslice.data.download.http import Patience
from thinslice.data.download.record import RecordFile, find_record, matches
from thinslice.errors import DownloadError, UsageError

HASTY = Patience(connect_s=30.0, silence_s=30.0, tries=2, first_wait_s=0.01, longest_wait_s=0.1)


@pytest.fixture
def archive() -> Iterator[Archive]:
    with serve(Archive({"train.zip": b"abc", "read me.txt": b""})) as served:
        yield served


def find(archive: Archive, doi: str = DOI) -> Any:
    return find_record(doi, resolver=archive.address, patience=HASTY)


def test_names_sizes_checksums_and_addresses(archive: Archive) -> None:
    record = find(archive)
    digest = "md5:900150983cd24fb0d6963f7d28e17f72"
    assert record.files[0] == RecordFile("train.zip", 3, digest, f"{archive.address}/files/train.zip")
    assert record.file("TRAIN.zip") is record.files[0]
    assert archive.pages == [f"/{DOI}", f"/doi/{DOI}", "/records/4242", "/api/records/4242"]
    assert find(archive, f"doi:{DOI}") == record


def test_a_missing_file_names_those_there_are(archive: Archive) -> None:
    with pytest.raises(UsageError, match=r"no file 'val.zip', only read me.txt, train.zip"):
        find(archive).file("val.zip")


def test_the_newer_form_of_the_interface(archive: Archive) -> None:
    entry = {"filename": "a.zip", "filesize": 9, "checksum": "0" * 32, "links": {"download": "http://localhost/a"}}
    archive.record = lambda: {"files": [entry]}  # type: ignore[method-assign]
    assert find(archive).files == (RecordFile("a.zip", 9, "md5:" + "0" * 32, "http://localhost/a"),)


@pytest.mark.parametrize("doi", ["zenodo.4242", "10.5281/", "http://localhost", "10.5281/a b"])
def test_what_is_no_doi(archive: Archive, doi: str) -> None:
    with pytest.raises(UsageError, match="not a DOI"):
        find(archive, doi)
    assert archive.pages == []


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": "3"},
        {"checksum": "crc32:00"},
        {"checksum": "md5:zz"},
        {"key": "../train.zip"},
        {"key": ".hidden"},
        {"links": {"self": "file:///etc/passwd"}},
        {"links": {}},
    ],
)
def test_a_record_that_makes_no_sense_is_refused(archive: Archive, change: dict[str, Any]) -> None:
    good = archive.record()["files"][0]
    archive.record = lambda: {"files": [{**good, **change}]}  # type: ignore[method-assign]
    with pytest.raises(DownloadError, match="does not describe the record"):
        find(archive)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"status": 429}', b'{"files": 3}', b"[" * 100_000])
def test_an_answer_that_is_no_record_is_refused(archive: Archive, body: bytes) -> None:
    def answer(handler: Any) -> bool:
        if not handler.path.startswith("/api"):
            return False
        handler.reply(200, body)
        return True

    archive.on_page = answer
    with pytest.raises(DownloadError, match="does not describe the record"):
        find(archive)


def test_a_page_without_end_is_refused(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinslice.data.download.record.MAX_RECORD_BYTES", 5)
    with pytest.raises(DownloadError, match="too long"):
        find(archive)


def test_busy_archives_are_asked_again(archive: Archive) -> None:
    def busy(handler: Any) -> bool:
        if len(archive.pages) > 1:
            return False
        handler.reply(429, b"", **{"Retry-After": "0"})
        return True

    archive.on_page = busy
    assert find(archive).files[0].name == "train.zip"


def test_unknown_dois_and_other_archives(archive: Archive) -> None:
    with pytest.raises(DownloadError, match="no such record"):
        find(archive, "10.5281/zenodo.1")

    def elsewhere(handler: Any) -> bool:
        if handler.path == f"/{DOI}":
            handler.reply(302, b"", Location="/about")
        elif handler.path == "/about":
            handler.reply(200, json.dumps({}).encode())
        else:
            return False
        return True

    archive.on_page = elsewhere
    with pytest.raises(DownloadError, match="does not lead to a record"):
        find(archive)


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(DownloadError, match="cannot be reached.*check the network"):
        find_record(DOI, resolver=address, patience=HASTY)


def test_a_certificate_that_cannot_be_checked(archive: Archive) -> None:
    with pytest.raises(DownloadError, match=r"certificate|cannot be reached"):
        find_record(DOI, resolver=archive.address.replace("http:", "https:"), patience=HASTY)


def test_a_file_of_certificates_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    with pytest.raises(DownloadError, match="REQUESTS_CA_BUNDLE .* is not there; correct or unset it"):
        find_record(DOI, resolver="https://127.0.0.1:9", patience=HASTY)


def test_a_proxy_that_refuses(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused.getsockname()[1]}")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(DownloadError, match="proxy refuses"):
        find_record(DOI, resolver="http://doi.invalid", patience=HASTY)


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_checksums_are_those_of_the_content(tmp_path: Path, kind: str) -> None:
    import hashlib

    path = tmp_path / "file"
    path.write_bytes(b"x" * 5_000_000)
    digest = hashlib.new(kind, path.read_bytes()).hexdigest()
    assert matches(path, f"{kind}:{digest}") and not matches(path, f"{kind}:{digest[::-1]}")
