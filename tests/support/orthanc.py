"""Debian's Orthanc as an archive on loopback, with its DICOMweb plug-in; only in a network namespace of its own.

This version listens on every address, whatever its settings are.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
LOGIN = ("radiology", "loopback only")
TITLE = "ORTHANC"
HTTP_PORT, DICOM_PORT = 18042, 14242


class Orthanc:
    """A server with its data in a folder, as a context manager.

    Args:
        folder: for its settings and data.
        modalities: name -> AE title and port of its peers on loopback.
    """

    def __init__(self, folder: Path, modalities: Mapping[str, tuple[str, int]]) -> None:
        self.address = f"http://127.0.0.1:{HTTP_PORT}"
        self.web = f"{self.address}/dicom-web"
        for name in ("storage", "index"):
            (folder / name).mkdir(parents=True)
        settings = {
            "Name": "peer",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": HTTP_PORT,
            "DicomPort": DICOM_PORT,
            "DicomAet": TITLE,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": dict([LOGIN]),
            "DicomModalities": {name: [title, "127.0.0.1", port] for name, (title, port) in modalities.items()},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True},
            "OverwriteInstances": False,
        }
        path = folder / "orthanc.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(["Orthanc", str(path)], stdout=log, stderr=log)
        pause = threading.Event()
        while True:
            try:
                self.ask("/system")
                break
            except requests.ConnectionError:
                assert self._process.poll() is None, (folder / "log").read_text()
                pause.wait(0.2)

    def __enter__(self) -> Orthanc:
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.terminate()
        self._process.wait()

    def ask(self, path: str, data: object = None, *, raw: bytes | None = None) -> Any:
        """Answer of its REST interface, as JSON values."""
        method = "GET" if data is None and raw is None else "POST"
        body = raw if raw is not None else None if data is None else json.dumps(data).encode()
        answer = requests.request(method, self.address + path, data=body, auth=LOGIN, timeout=900)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def upload(self, paths: Sequence[Path]) -> None:
        """Store files."""
        for path in paths:
            self.ask("/instances", raw=path.read_bytes())

    def send(self, modality: str, resources: Sequence[str]) -> dict[str, Any]:
        """Send studies, series or instances to a peer by C-STORE."""
        return self.ask(f"/modalities/{modality}/store", {"Resources": list(resources), "Synchronous": True})

    def series(self) -> list[dict[str, Any]]:
        """All series, with their instances."""
        return [self.ask(f"/series/{name}") for name in self.ask("/series")]
