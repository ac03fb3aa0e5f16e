"""A small DICOMweb service on loopback, so that tests can break it: QIDO-RS, WADO-RS and STOW-RS of files in memory."""

from __future__ import annotations

import io
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom

BOUNDARY = "parts-of-the-peer"
JSON = "application/dicom+json"


class DicomwebPeer:
    """A service, as a context manager.

    Args:
        token: bearer token that it asks for; None for none.
        broken: called with method, path and the number of such a request from 0; a status ends it, "cut" ends an answer
            in the middle.
        page: most results of one search.

    Attributes:
        objects: SOP instance UID -> the file.
        requests: number of requests by method and kind.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        broken: Callable[[str, str, int], object] = lambda method, path, number: None,
        page: int = 1000,
    ) -> None:
        self.objects: dict[str, bytes] = {}
        self.refused: set[str] = set()
        self.requests: Counter[str] = Counter()
        self._token, self._broken, self._page = token, broken, page
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                peer.answer(self, "GET")

            def do_POST(self) -> None:
                peer.answer(self, "POST")

            def log_message(self, *given: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/web"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> DicomwebPeer:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: Any, method: str) -> None:
        """Answer one request."""
        parts = urlsplit(handler.path)
        path = parts.path.removeprefix("/web")
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(handler.rfile.readline(), 16):
                body += handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
        kind = f"{method} {re.sub(r'[0-9.]{4,}', 'UID', path)}"
        number, self.requests[kind] = self.requests[kind], self.requests[kind] + 1
        broken = self._broken(method, path, number)
        if self._token is not None and handler.headers.get("Authorization") != f"Bearer {self._token}":
            self._send(handler, 401, "text/plain", b"no")
        elif isinstance(broken, int):
            self._send(handler, broken, "text/plain", b"broken")
        elif method == "POST":
            self._store(handler, body)
        else:
            self._find(handler, path, parse_qs(parts.query), cut=broken == "cut")

    def _datasets(self) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(io.BytesIO(content)) for content in self.objects.values()]

    def _find(self, handler: Any, path: str, query: dict[str, list[str]], *, cut: bool) -> None:
        words = path.strip("/").split("/")
        uids = dict(zip(words[::2], words[1::2], strict=False))
        keys = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID", "instances": "SOPInstanceUID"}
        found = [
            dataset
            for dataset in self._datasets()
            if all(dataset.get(keys[name]) == uid for name, uid in uids.items() if name in keys)
            and all(dataset.get(name) == value[0] for name, value in query.items() if name not in ("limit", "offset"))
        ]
        if len(words) % 2 == 0:
            contents = [self.objects[dataset.SOPInstanceUID] for dataset in found]
            part = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            answer = b"".join(part + content + b"\r\n" for content in contents) + f"--{BOUNDARY}--\r\n".encode()
            kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
            self._send(handler, 200 if contents else 404, kind, answer, cut=cut)
            return
        level = keys[words[-1]]
        results = {dataset.get(level): dataset for dataset in found}
        offset = int(query.get("offset", ["0"])[0])
        limit = min(int(query.get("limit", ["100"])[0]), self._page)
        names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
        shown = []
        for uid in sorted(results)[offset : offset + limit]:
            one = pydicom.Dataset()
            for name in names:
                setattr(one, name, results[uid].get(name))
            shown.append(one.to_json_dict())
        self._send(handler, 200 if shown else 204, JSON, json.dumps(shown).encode() if shown else b"")

    def _store(self, handler: Any, body: bytes) -> None:
        boundary = re.search(r'boundary="?([^";]+)', handler.headers["Content-Type"])
        assert boundary
        answer = pydicom.Dataset()
        answer.ReferencedSOPSequence, answer.FailedSOPSequence = [], []
        for part in body.split(b"--" + boundary[1].encode())[1:-1]:
            content = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            uid = str(pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID)
            item = pydicom.Dataset()
            item.ReferencedSOPInstanceUID = uid
            if uid in self.refused:
                item.FailureReason = 0xA700
                answer.FailedSOPSequence.append(item)
            else:
                self.objects[uid] = content
                answer.ReferencedSOPSequence.append(item)
        self._send(handler, 202 if answer.FailedSOPSequence else 200, JSON, json.dumps(answer.to_json_dict()).encode())

    @staticmethod
    def _send(handler: Any, status: int, kind: str, body: bytes, *, cut: bool = False) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2] if cut else body)
        handler.close_connection = True
