"""Row 22: downloads without a network, behind a proxy, and with certificates that cannot be checked."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from support.command_line import Run
from support.fault_checks import assert_sentence
from support.record_server import DOI, Archive, serve, split_zip

pytestmark = pytest.mark.faults

BY_HAND = ("val.zip", "same command")
"""What a message must say about fetching by hand: which file, and that the command takes it from there."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits between tries, seconds in use, cost nothing here; that they are waited is tested elsewhere."""
    for name in (
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "ALL_PROXY",
        "https_proxy",
        "http_proxy",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("thinslice.data.download.http.time.sleep", lambda seconds: None)
    monkeypatch.setattr("thinslice.data.download.http.Patience.wait_s", lambda self, failures: 0.0)


@pytest.fixture
def closed() -> str:
    """An address at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[str]:
    """A server with a certificate that nobody signed."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the program openssl")
    place = tmp_path / "tls"
    place.mkdir()
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(place / "key"), "-out", str(place / "cert")]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "cert", place / "key")

    class Server(HTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def download(run: Run, out: Path, resolver: str, *words: str) -> None:
    """A download that must fail with exit 3, a sentence with the words and the way by hand, and nothing left."""
    out.mkdir()
    outcome = run("dataset", "download", out, "--doi", DOI, "--split", "val", "--resolver", resolver)
    assert outcome.code == 3, outcome.err
    assert_sentence(outcome, *words, *BY_HAND)
    assert list(out.iterdir()) == []


def test_row_22_without_a_network(closed: str, tmp_path: Path, run: Run) -> None:
    download(run, tmp_path / "out", f"http://{closed}")


def test_row_22_a_proxy_that_refuses(closed: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{closed}")
    download(run, tmp_path / "out", "https://127.0.0.1:1", "proxy")


def test_row_22_a_certificate_that_nobody_signed(tls: str, tmp_path: Path, run: Run) -> None:
    download(run, tmp_path / "out", tls, "certificate", "REQUESTS_CA_BUNDLE")


def test_row_22_a_certificate_file_that_is_not_there(
    tls: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    download(run, tmp_path / "out", tls, "certificate", "REQUESTS_CA_BUNDLE")


def test_row_22_zips_fetched_by_hand_are_imported(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    content = split_zip(1)
    with serve(Archive({"val.zip": content})) as archive:
        monkeypatch.setenv("THINSLICE_DOI_RESOLVER", archive.address)
        (tmp_path / "val.zip").write_bytes(content)
        outcome = run("dataset", "download", tmp_path, "--doi", DOI, "--split", "val")
        assert archive.requests == [], "the zip that is there is not fetched again"
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "val" / "1mm" / "CT00000001.nii.gz").is_file()
