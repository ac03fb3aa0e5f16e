"""The server as a whole: data folder, token, workers and the web server, until it is told to end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import uvicorn

from thinslice.errors import OutputBusyError, UsageError
from thinslice.queue import Queue
from thinslice.service.app import Service, guarded
from thinslice.service.folder import DataFolder
from thinslice.service.settings import ServeSettings
from thinslice.service.supervisor import Supervisor, places
from thinslice.system.atomic import sole_run

CLOSING_S = 2
"""Time that open connections have when the server ends."""

MOST_CONNECTIONS = 1000


def serve(settings: ServeSettings, *, ready: Callable[[str], None]) -> None:
    """Serve until the process is interrupted.

    Args:
        settings: options.
        ready: called with the address, token included, once the port is listened on.

    Raises:
        OutputBusyError: another server uses the data folder.
        OutputError: the data folder cannot be made or written.
        UsageError: the port or the address cannot be listened on.
    """
    folder = DataFolder(settings.data)
    try:
        with sole_run(folder.root / "server"), Queue(folder.queue_file) as queue:
            listening = _listen(settings)
            try:
                port = listening.getsockname()[1]
                token = folder.token()
                app = guarded(Service(folder, queue, settings), token=token, port=port)
                config = uvicorn.Config(
                    app,
                    # Lines about requests and tracebacks may quote what identifies a patient.
                    log_level="warning" if os.environ.get("THINSLICE_DEBUG") == "1" else "critical",
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_graceful_shutdown=CLOSING_S,
                    limit_concurrency=MOST_CONNECTIONS,
                )
                with Supervisor(places(folder, settings), lambda place: queue):
                    ready(f"http://{settings.shown_host}:{port}/?token={token}")
                    uvicorn.Server(config).run(sockets=[listening])
            finally:
                listening.close()
    except OutputBusyError:
        raise OutputBusyError(
            f"Another server uses the data folder {str(settings.data)!r}; end it, or name another folder."
        ) from None


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(256)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"{settings.host} port {settings.port} cannot be listened on ({error.strerror}); choose another port, or 0 "
            "for any that is free."
        ) from error
    return listening
