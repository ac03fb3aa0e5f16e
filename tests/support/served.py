"""A real server of the service in a process of its own, on loopback, for tests to upload to, kill and start again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from thinslice.service.client import Client

EPOCH = "1700000000"
"""SOURCE_DATE_EPOCH of servers, so that times in their outputs can be compared."""


class Served:
    """`thinslice serve` with its data in a folder.

    Args:
        data: data folder; kept from start to start.
        options: further options of the command line.
    """

    def __init__(self, data: Path, *options: object) -> None:
        self.data = data
        self._options = [str(option) for option in options]
        self._port = "0"
        self.start()

    def start(self) -> None:
        """Start the server; on the same port as before."""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "thinslice", "serve", "--no-browser", "--threads", "1"),
                *("--data", str(self.data), "--port", self._port, *self._options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address, self.process.communicate()
        parts = urlsplit(self.address)
        self.base = f"{parts.scheme}://{parts.netloc}"
        self.host = parts.netloc
        self._port = str(parts.port)
        self.token = parts.query.removeprefix("token=")

    def client(self) -> Client:
        """A client that waits as long as a test may need."""
        return Client(self.address, outage_s=600.0)

    def kill(self) -> None:
        """End the server as a power cut would; its workers follow."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        """End the server in an orderly way; returns what it printed on stderr."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate()[1]

    def ask(self, method: str, path: str, *, token: bool = True, **rest: Any) -> requests.Response:
        """A request with plain means; headers as the test gives them."""
        headers = {"Authorization": f"Bearer {self.token}"} if token else {}
        return requests.request(
            method, self.base + path, headers={**headers, **rest.pop("headers", {})}, timeout=120, **rest
        )

    def worker(self, place: str) -> int:
        """Process number of the worker in a place; it must run."""
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent == self.process.pid and place.encode() in (folder / "cmdline").read_bytes():
                        return int(folder.name)
        raise LookupError(place)

    def memory_mib(self) -> float:
        """Highest resident memory of the server process so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextlib.contextmanager
def served(data: Path, *options: object) -> Iterator[Served]:
    """A server that ends with the block."""
    server = Served(data, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
