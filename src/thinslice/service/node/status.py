"""Status page and metrics of a node, on this computer alone: numbers and states that identify nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from thinslice.about import NOTICE, __version__
from thinslice.errors import UsageError
from thinslice.queue import Job, Queue, State
from thinslice.service.node.jobs import EXAMINE, UPSCALE, is_send, send_kind
from thinslice.service.node.receiver import Receiver
from thinslice.service.node.settings import NodeSettings

HOST = "127.0.0.1"

SHOWN_JOBS = 50

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884}"
)

Waiting = Callable[[], int]


class Status:
    """What there is to show of a node.

    Args:
        settings: of the node.
        queue: its jobs.
        receiver: its receiving side.
        waiting: number of studies that may not be complete.
    """

    def __init__(self, settings: NodeSettings, queue: Queue, receiver: Receiver, waiting: Waiting) -> None:
        self._settings = settings
        self._queue = queue
        self._receiver = receiver
        self._waiting = waiting
        self._begun_s = time.time()

    @property
    def kinds(self) -> list[str]:
        """Kinds of jobs, in the order of the work."""
        return [EXAMINE, UPSCALE, *(send_kind(target.name) for target in self._settings.targets)]

    def metrics(self) -> str:
        """Metrics in the text format of Prometheus."""
        counts = self._receiver.counts
        lines = [
            *_metric("thinslice_up_seconds", "gauge", "Time since the start.", [("", time.time() - self._begun_s)]),
            *_metric(
                "thinslice_objects_total",
                "counter",
                "Objects that callers sent.",
                [(f'{{outcome="{name}"}}', counts[name]) for name in ("received", "repeated", "refused")],
            ),
            *_metric(
                "thinslice_associations_total",
                "counter",
                "Associations that callers asked for.",
                [
                    ('{outcome="accepted"}', counts["associations"]),
                    ('{outcome="rejected"}', counts["rejected"]),
                    ('{outcome="closed"}', self._receiver.closed_at_once),
                ],
            ),
            *_metric(
                "thinslice_connections", "gauge", "Connections that are open.", [("", self._receiver.connections)]
            ),
            *_metric("thinslice_studies_waiting", "gauge", "Studies that are not complete.", [("", self._waiting())]),
            *_metric(
                "thinslice_jobs",
                "gauge",
                "Jobs by kind and state.",
                [
                    (f'{{kind="{kind}",state="{state}"}}', number)
                    for kind in self.kinds
                    for state, number in self._queue.counts(kind).items()
                ],
            ),
        ]
        return "\n".join(lines) + "\n"

    def page(self) -> str:
        """The page."""
        settings, counts = self._settings, self._receiver.counts
        rows = [[kind, *(self._queue.counts(kind)[state] for state in State)] for kind in self.kinds]
        recent = sorted(self._queue.jobs(most=1_000_000), key=lambda job: -job.revision)[:SHOWN_JOBS]
        facts = (
            f"{settings.ae_title} listens on port {self._receiver.port}. {counts['received']} objects received, "
            f"{counts['repeated']} sent again, {counts['refused']} refused; {counts['associations']} associations "
            f"accepted, {counts['rejected']} rejected, {self._receiver.closed_at_once} connections closed at once; "
            f"{self._receiver.connections} open. {self._waiting()} studies are not complete."
        )
        jobs = _table(["job", "kind", "state", "failed tries", "what", "reason"], [_row(job) for job in recent])
        return (
            "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>"
            f"<title>thinslice node</title><style>{_STYLE}</style><h1>thinslice node</h1><p>{escape(facts)}</p>"
            f"{_table(['work', *(state.value for state in State)], rows)}<h2>Latest jobs</h2>{jobs}"
            f"<p>{escape(NOTICE)} thinslice {escape(__version__)}; metrics for Prometheus: "
            "<a href=/metrics>/metrics</a>.</p></html>"
        )


class StatusServer:
    """Answers for the status on loopback, as a context manager.

    Args:
        status: what there is to show.
        port: port; 0 takes a free one.

    Attributes:
        port: the port that is listened on.

    Raises:
        UsageError: the port cannot be listened on; choose another one.
    """

    def __init__(self, status: Status, port: int) -> None:
        try:
            self._server = ThreadingHTTPServer((HOST, port), _handler(status))
        except OSError as error:
            raise UsageError(
                f"Port {port} of this computer cannot be listened on ({error.strerror}); choose another "
                "status_port, or 0 for any that is free."
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    def __enter__(self) -> StatusServer:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(status: Status) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One request."""

        timeout = 10
        server_version = "thinslice"
        sys_version = ""

        def do_GET(self) -> None:
            """Answer with the page or the metrics."""
            # Another name is a page elsewhere that resolved its own name to this computer.
            host = self.headers.get("Host", "").rpartition(":")[0].lower()
            if host not in (HOST, "localhost"):
                self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", "not here\n")
            elif self.path == "/metrics":
                self._answer(HTTPStatus.OK, "text/plain; version=0.0.4", status.metrics())
            elif self.path == "/":
                self._answer(HTTPStatus.OK, "text/html", status.page())
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", "nothing here\n")

        def log_message(self, *given: Any) -> None:
            """Write nothing."""

        def _answer(self, code: HTTPStatus, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", _POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

    return Handler


def describe(job: Job) -> str:
    """A job in a few words that identify nobody.

    >>> result = {"objects": 316, "commitment": "kept"}
    >>> describe(Job(1, "key", "send:pacs", {"target": "pacs"}, State.DONE, result=result))
    '316 objects, commitment: kept'
    """
    result = job.result or {}
    if job.kind == EXAMINE and result:
        reasons = "; ".join(dict.fromkeys(result["reasons"]))
        return f"{result['chosen']} of {result['volumes']} volumes chosen" + (
            f"; left out: {reasons}" if reasons else ""
        )
    if job.kind == UPSCALE:
        if result.get("superseded"):
            return "more objects came in"
        made = f" to {result['slices']}" if result else ""
        return f"rule {job.spec['rule']}, {job.spec['slices']} slices{made}"
    if is_send(job.kind) and result:
        return f"{result['objects']} objects, commitment: {result['commitment']}"
    return ""


def _row(job: Job) -> list[object]:
    return [job.id, job.kind, job.state.value, job.failures + job.losses, describe(job), job.reason or ""]


def _table(heads: list[str], rows: list[list[object]]) -> str:
    head = "".join(f"<th>{escape(text)}" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}" for cell in row) for row in rows)
    return f"<table><tr>{head}{body}</table>"


def _metric(name: str, kind: str, description: str, values: list[tuple[str, float]]) -> list[str]:
    return [
        f"# HELP {name} {description}",
        f"# TYPE {name} {kind}",
        *(f"{name}{label} {value}" for label, value in values),
    ]
