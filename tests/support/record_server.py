"""A local archive that publishes a record with zips in the layout of RPLHR-CT, with faults on request."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

DOI = "10.5281/zenodo.4242"
SPLITS = ("train", "val", "test")


def split_zip(first_case: int, *, cases: int = 2, kilobytes: int = 40, folder: str = "") -> bytes:
    """A zip with 1mm/ and 5mm/ of so many cases; what stands for NIfTI is gzip of noise."""
    noise = np.random.default_rng(first_case)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for case in range(first_case, first_case + cases):
            for thickness, size in (("1mm", kilobytes), ("5mm", kilobytes // 5)):
                content = gzip.compress(noise.bytes(size * 1000), mtime=0)
                archive.writestr(f"{folder}{thickness}/CT{case:08d}.nii.gz", content)
    return packed.getvalue()


class Archive:
    """What the server publishes, and how it behaves.

    Attributes:
        files: content by name.
        requests: (path, Range header) of every request for a file, in order.
        busiest: most file requests answered at one time.
        on_file: called as on_file(handler, content, range) before a file is answered; True when it has answered.
        sizes, checksums: values in the record in place of the true ones.
        ranges: whether ranges are understood.
        rate: bytes a second and connection; None for as fast as it goes.
        on_page: called as on_page(handler) before any page but a file; True when it has answered.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.requests: list[tuple[str, str | None]] = []
        self.pages: list[str] = []
        self.agents: set[str] = set()
        self.on_file: Callable[[Any, bytes, tuple[int, int] | None], bool] | None = None
        self.on_page: Callable[[Any], bool] | None = None
        self.sizes: dict[str, int] = {}
        self.checksums: dict[str, str] = {}
        self.ranges = True
        self.rate: float | None = None
        self.busiest = self.busy = 0
        self.lock = threading.Lock()
        self.address = ""

    @property
    def served_bytes(self) -> int:
        """Bytes of files that were asked for."""
        total = 0
        for path, asked in self.requests:
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "")
            total += int(match[2]) - int(match[1]) + 1 if match else len(self.files[path.rsplit("/", 1)[1]])
        return total

    def record(self) -> dict[str, Any]:
        """The description of the record, in the form of the public interface."""
        return {
            "id": 4242,
            "files": [
                {
                    "id": name,
                    "key": name,
                    "size": self.sizes.get(name, len(content)),
                    "checksum": self.checksums.get(name, "md5:" + hashlib.md5(content).hexdigest()),  # noqa: S324
                    "links": {"self": f"{self.address}/files/{name}"},
                }
                for name, content in self.files.items()
            ],
        }


@contextmanager
def serve(archive: Archive) -> Iterator[Archive]:
    """Run the server while the block lasts; `archive.address` is its base."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            try:
                self._answer()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def _answer(self) -> None:
            archive.agents.add(self.headers.get("User-Agent", ""))
            if not self.path.startswith("/files/"):
                archive.pages.append(self.path)
                if archive.on_page is not None and archive.on_page(self):
                    return
                if self.path == f"/{DOI}":
                    self.reply(302, b"", Location="/doi/" + DOI)
                elif self.path == f"/doi/{DOI}":
                    self.reply(302, b"", Location="/records/4242")
                elif self.path == "/records/4242":
                    self.reply(200, b"<html>a record</html>")
                elif self.path == "/api/records/4242":
                    self.reply(200, json.dumps(archive.record()).encode())
                else:
                    self.reply(404, b"nothing here")
                return
            name = self.path.rsplit("/", 1)[1]
            with archive.lock:
                archive.requests.append((self.path, self.headers.get("Range")))
                archive.busy += 1
                archive.busiest = max(archive.busiest, archive.busy)
            try:
                self.file(archive.files[name])
            finally:
                with archive.lock:
                    archive.busy -= 1

        def file(self, content: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            span = (int(asked[1]), min(int(asked[2]) + 1, len(content))) if asked and archive.ranges else None
            if archive.on_file is not None and archive.on_file(self, content, span):
                return
            if span is None:
                self.reply(200, content)
            elif span[0] >= len(content):
                self.reply(416, b"", **{"Content-Range": f"bytes */{len(content)}"})
            else:
                content_range = f"bytes {span[0]}-{span[1] - 1}/{len(content)}"
                self.reply(206, content[slice(*span)], **{"Content-Range": content_range})

        def reply(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.send(body)

        def send(self, body: bytes) -> None:
            if archive.rate is None:
                self.wfile.write(body)
                return
            step = max(1, int(archive.rate / 50))
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                time.sleep(step / archive.rate)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    archive.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
