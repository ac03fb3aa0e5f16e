"""Row 25: the web service under requests that are made to harm; it refuses them, and still serves."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from support.dicom_factory import assert_no_canary, write_series
from support.served import Served, served
from thinslice.errors import InputError
from thinslice.service.client import Client

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]

SCRIPT = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an allowed folder in it, and a secret beside that."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "allowed" / "empty").mkdir(parents=True)
    (folder / "secret").mkdir()
    (folder / "secret" / "diary.txt").write_text("nobody reads this")
    (folder / "allowed" / "out").symlink_to(folder / "secret")
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Served]:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with served(place / "data", "--allow", place / "allowed", "--upload-gb", "0.02") as made:
        yield made


@pytest.fixture
def client(server: Served) -> Client:
    return server.client()


@pytest.fixture(autouse=True)
def still_serving(server: Served) -> Iterator[None]:
    """After every test the server answers, and has printed nothing that identifies anybody."""
    yield
    assert server.ask("GET", "/api/about").status_code == 200
    assert server.process.poll() is None


def raw(server: Served, head: str) -> bytes:
    """Send the head of a request as it stands, with a host and the token; returns the answer."""
    host, _, port = server.host.rpartition(":")
    rest = f"Host: {server.host}\r\nAuthorization: Bearer {server.token}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as wire:
        wire.sendall((head + rest).encode())
        return b"".join(iter(lambda: wire.recv(65536), b""))


PATHS = ("/", "/page.js", "/api/about", "/api/jobs", "/api/sources", "/api/events", "/api/openapi.json")


@pytest.mark.parametrize("path", PATHS)
def test_row_25_no_token_no_answer(path: str, server: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "thinslice-1=x"}):
        answer = server.ask("GET", path, token=False, headers=headers)
        assert answer.status_code == 401 and server.token not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_row_25_a_foreign_host_or_origin_is_refused(path: str, server: Served) -> None:
    assert server.ask("GET", path, headers={"Host": "rebound.example"}).status_code == 421
    assert server.ask("GET", path, headers={"Origin": "http://elsewhere.example"}).status_code == 403
    # What a page elsewhere could cause with the browser's cookie.
    port = server.host.rpartition(":")[2]
    cookie = {"Cookie": f"thinslice-{port}={server.token}", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert server.ask("GET", path, token=False, headers=cookie).status_code == 403


def test_row_25_no_answer_permits_another_origin(server: Served) -> None:
    asked = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "POST"}
    answer = server.ask("OPTIONS", "/api/jobs", headers=asked)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/static/../../app.py",
        "/%5c..%5c..%5capp.py",
        "/app.py",
        "/page.js%00.html",
        "//etc/passwd",
    ],
)
def test_row_25_no_path_leads_out_of_the_page(path: str, server: Served) -> None:
    # The plain means of a client would tidy the path up; this sends it as it stands.
    answer = raw(server, f"GET {path} HTTP/1.1\r\n")
    assert answer.split(b" ")[1] in (b"400", b"404", b"405"), answer[:200]
    assert b"root:" not in answer and b"FastAPI(" not in answer


@pytest.mark.parametrize("path", ["..", "../secret", "out", "out/diary.txt", "empty/../../secret", "..\\secret"])
def test_row_25_no_path_leads_out_of_an_allowed_folder(path: str, server: Served) -> None:
    listed = server.ask("GET", "/api/folders/0", params={"path": path})
    chosen = server.ask("POST", "/api/sources", json={"folder": 0, "path": path})
    for answer in (listed, chosen):
        assert answer.status_code == 400 and "not below a folder that was allowed" in answer.json()["detail"]
        assert "diary" not in answer.text


@pytest.mark.parametrize("name", ["..%2f..%2ftoken", "token", "..", "thin.nii.gz%00.png", "%2fetc%2fpasswd"])
def test_row_25_no_name_of_a_result_leads_elsewhere(name: str, server: Served, client: Client, tmp_path: Path) -> None:
    write_series(tmp_path / "in", shape=(3, 12, 12))
    job = client.wait(client.submit(client.upload([tmp_path / "in"]), model="linear"))
    answer = server.ask("GET", f"/api/jobs/{job.id}/files/{name}")
    assert answer.status_code == 404 and server.token not in answer.text


def test_row_25_uploads_are_cut_off_at_their_limit(server: Served) -> None:
    upload = server.ask("POST", "/api/uploads").json()["id"]
    path = f"/api/uploads/{upload}/files/0"
    stated = raw(server, f"PUT {path} HTTP/1.1\r\nOrigin: {server.base}\r\nContent-Length: {10**15}\r\n")
    assert stated.startswith(b"HTTP/1.1 507")
    before = server.memory_mib()

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 20)

    # The server may end the connection while the rest is being sent.
    with contextlib.suppress(requests.ConnectionError):
        assert server.ask("PUT", path, data=endless()).status_code == 507
    assert server.memory_mib() - before < 32
    files = server.data / "sources" / upload / "files"
    assert list(files.iterdir()) == []
    assert server.ask("PUT", path, data=b"small").status_code == 200
    assert server.ask("PUT", f"/api/uploads/{upload}/files/999999", data=b"x").status_code == 400
    assert server.ask("POST", "/api/jobs", data=bytes(1 << 20)).status_code == 413


def test_row_25_a_bomb_in_an_upload_is_refused_by_its_reader(client: Client, tmp_path: Path) -> None:
    header = struct.pack("<i", 348) + bytes(36) + struct.pack("<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)
    header = (header + struct.pack("<3f", 0, 0, 0) + struct.pack("<hhh", 0, 4, 16)).ljust(344, b"\0") + b"n+1\0"
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(header + bytes(4 << 20)))
    with pytest.raises(InputError):
        source = client.upload([tmp_path / "bomb.nii.gz"])
        client.wait(client.submit(source, model="linear"))


@pytest.mark.parametrize(
    "name",
    [
        "../../../up.dcm",
        "/etc/x.dcm",
        "a%00b.dcm",
        "%1b[31m.dcm",
        "x" * 3000 + ".dcm",
        "Kanarienvogel^Gelb.dcm",
        SCRIPT,
    ],
    ids=range(7),
)
def test_row_25_hostile_names_of_files_leave_no_trace(name: str, server: Served, place: Path) -> None:
    before = set(place.iterdir())
    upload = server.ask("POST", "/api/uploads").json()["id"]
    answer = server.ask("PUT", f"/api/uploads/{upload}/files/0", params={"name": name}, data=b"x")
    assert answer.status_code == 200
    stored = [path.name for path in (server.data / "sources" / upload / "files").iterdir()]
    assert stored in (["000000.dcm"], ["000000"])
    assert set(place.iterdir()) == before
    assert server.ask("DELETE", f"/api/sources/{upload}").status_code == 204
    assert not (server.data / "sources" / upload).exists()


def test_row_25_script_in_the_text_of_dicom_stays_text(server: Served, client: Client, tmp_path: Path) -> None:
    def spoil(dataset, k: int) -> None:
        for keyword in ("SeriesDescription", "ConvolutionKernel", "Manufacturer", "ManufacturerModelName"):
            setattr(dataset, keyword, SCRIPT[:64] if keyword == "SeriesDescription" else SCRIPT[:16])

    write_series(tmp_path / "in", shape=(3, 12, 12), edit=spoil)
    job = client.wait(client.submit(client.upload([tmp_path / "in"]), model="linear"))
    answer = server.ask("GET", f"/api/jobs/{job.id}/files/report.html")
    assert "<script" not in answer.text.lower() and "onerror" not in answer.text.lower().split("<style")[0]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox;") and "default-src 'none'" in policy and "script" not in policy
    # JSON is never taken for a page.
    listed = server.ask("GET", "/api/jobs")
    assert listed.headers["content-type"] == "application/json"
    assert listed.headers["x-content-type-options"] == "nosniff"
    assert_no_canary(listed.text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'{"source": 3}',
        b'{"source": "x", "spacing_mm": NaN}',
        b'{"source": "x", "evil": 1}',
        b'{"source":' * 3000,
        b"\xff\xfe",
    ],
    ids=range(8),
)
def test_row_25_malformed_requests_are_refused_with_a_sentence(body: bytes, server: Served) -> None:
    answer = server.ask("POST", "/api/jobs", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"].endswith(".")


def test_row_25_a_flood_of_half_requests_does_not_stop_the_server(server: Served) -> None:
    host, _, port = server.host.rpartition(":")
    wires = [socket.create_connection((host, int(port)), timeout=60) for _ in range(100)]
    try:
        for wire in wires:
            wire.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert server.ask("GET", "/api/about").status_code == 200
    finally:
        for wire in wires:
            wire.close()
