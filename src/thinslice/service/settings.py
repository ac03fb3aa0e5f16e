"""Settings of the service as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from thinslice.errors import UsageError
from thinslice.options import option

GIB = 2**30

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine that reach it alone."""

DEFAULT_PORT = 8377


def default_data_folder() -> Path:
    """The user's own folder for the service."""
    return user_data_path("thinslice", appauthor=False) / "serve"


@dataclass(frozen=True)
class ServeSettings:
    """Options of `thinslice serve`.

    Attributes:
        data: folder of uploads, results and the queue; made if absent.
        host: address that the server listens on; one other than loopback must be chosen on purpose.
        port: port; 0 takes a free one.
        names: further names under which clients reach the server, for an address other than loopback.
        allow: folders whose content may be upscaled without an upload.
        keep_days: results and uploads that nothing uses are removed after so many days.
        limit_gb: size of the data folder in GiB, beyond which the oldest results go and uploads are refused.
        upload_gb: largest upload in GiB.
        upload_files: most files of an upload.
        open_uploads: most uploads that are not complete.
        workers: processes that upscale; each takes the memory of a run.
        threads: CPU threads of each worker; None for all cores.
        inspect_limit_s: longest time in which a source is inspected.

    Raises:
        UsageError: a number out of range, or an allowed folder that does not exist.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    names: tuple[str, ...] = ()
    allow: tuple[Path, ...] = ()
    keep_days: float = 7.0
    limit_gb: float = 50.0
    upload_gb: float = 8.0
    upload_files: int = 20_000
    open_uploads: int = 32
    workers: int = 1
    threads: int | None = None
    inspect_limit_s: float = 1800.0

    def __post_init__(self) -> None:
        for name in ("keep_days", "limit_gb", "upload_gb"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{option(name)} must be a positive number; choose another.")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"{option('port', self.port)} is no port; choose one from 1024 to 65535, or 0 for any.")
        if not 1 <= self.workers <= 64:
            raise UsageError(f"{option('workers', self.workers)} is out of range; choose 1 to 64.")
        for folder in self.allow:
            if not folder.is_dir():
                raise UsageError(f"{option('allow')} names {str(folder)!r}, which is no folder; name one that exists.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in ("127.0.0.1", "localhost", "::1")

    @property
    def shown_host(self) -> str:
        """Name of this server in the address that is printed.

        >>> ServeSettings(Path("data"), host="0.0.0.0", names=("ct.example",)).shown_host
        'ct.example'
        """
        if self.host in ("0.0.0.0", "::"):
            return self.names[0] if self.names else LOOPBACK[0]
        return f"[{self.host}]" if ":" in self.host else self.host

    def hosts(self, port: int) -> frozenset[str]:
        """Values of the Host header that are answered, for the port that is really listened on."""
        named = {*LOOPBACK, self.shown_host, *self.names}
        return frozenset(name.lower() if port == 80 else f"{name.lower()}:{port}" for name in named)
