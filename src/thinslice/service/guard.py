"""What a request must show before any handler runs: a name of this server, no foreign origin, and the token.

- Host: a page on another site can let its own name resolve to this machine (DNS rebinding); its requests then carry
  that name, and are refused.
- Origin and Sec-Fetch-Site: requests that another page caused are refused, and no answer permits them (no CORS).
- Token: in `Authorization: Bearer`, or in a cookie that the address with the token sets once. The cookie is out of
  reach of scripts, is not sent by other sites, and changes need an Origin besides.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MOST_BODY_BYTES = 64 << 10
"""Largest body of a request that is no upload."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of everything but reports: nothing from elsewhere, and no script or style in the page."""

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""The same of reports, which are pages of their own with their style and pictures in them, and without script."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

_ENTERED = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>thinslice</title>"
    b"<meta http-equiv=refresh content='0;url=/'><p><a href='/'>thinslice</a></p></html>"
)
_CLOSED = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>thinslice</title>"
    b"<p>Open the address that <code>thinslice serve</code> printed: it holds the key of this page.</p></html>"
)


class Guard:
    """Refuses requests before the application receives them, and adds security headers to every answer.

    Args:
        app: the application.
        token: the secret.
        hosts: permitted values of Host, with the port.
        cookie: name of the cookie.
    """

    def __init__(self, app: App, *, token: str, hosts: frozenset[str], cookie: str) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = hosts
        self._origins = frozenset(f"http://{host}" for host in hosts)
        self._cookie = cookie

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            # A second Host or Cookie would let two readers of the request disagree: joined, it fits nothing.
            key = name.decode("latin-1").lower()
            headers[key] = f"{headers[key]},{value.decode('latin-1')}" if key in headers else value.decode("latin-1")
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        if scope["path"] == "/" and self._matches(_query_token(scope)):
            cookie = f"{self._cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 200, _ENTERED, "text/html; charset=utf-8", cookie)
            return
        if not self._is_known(headers):
            if scope["path"] == "/":
                await _answer(send, 401, _CLOSED, "text/html; charset=utf-8")
            else:
                await _answer(send, 401, _detail("The token is missing or wrong."))
            return
        await self._app(scope, _bounded(scope, receive), _with_headers(send))

    def _refusal(self, scope: Message, headers: dict[str, str]) -> tuple[int, bytes] | None:
        if headers.get("host", "").lower() not in self._hosts:
            return 421, _detail("This server does not have that name.")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            return 403, _detail("Requests of other pages are refused.")
        opens_page = scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not opens_page:
            return 403, _detail("Requests of other pages are refused.")
        changes = scope["method"] not in ("GET", "HEAD")
        if changes and origin is None and not headers.get("authorization"):
            return 403, _detail("A change needs an Origin header, or the token in an Authorization header.")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or (not _is_upload(scope) and int(length) > MOST_BODY_BYTES):
            return 413, _detail("The body of the request is too large.")
        return None

    def _is_known(self, headers: dict[str, str]) -> bool:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._matches(bearer.strip()):
            return True
        cookies = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
        return any(name == self._cookie and self._matches(value) for name, _, value in cookies)

    def _matches(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode(), self._token)


def _query_token(scope: Message) -> str:
    query: bytes = scope.get("query_string", b"")
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def _is_upload(scope: Message) -> bool:
    return bool(scope["method"] == "PUT" and scope["path"].startswith("/api/uploads/"))


def _bounded(scope: Message, receive: Receive) -> Receive:
    """Bodies without a declared length are counted as they come."""
    if _is_upload(scope):
        return receive
    count = 0

    async def counted() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        # The rest of a body that is too large never reaches the application.
        return message if count <= MOST_BODY_BYTES else {"type": "http.disconnect"}

    return counted


def _with_headers(send: Send) -> Send:
    async def added(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            wanted = {**_HEADERS, "content-security-policy": PAGE_POLICY, "cache-control": "no-store"}
            message["headers"] = [
                *message["headers"],
                *((name.encode(), value.encode()) for name, value in wanted.items() if name.encode() not in present),
            ]
        await send(message)

    return added


async def _answer(
    send: Send, status: int, body: bytes, content_type: str = "application/json", cookie: str | None = None
) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    if cookie is not None:
        headers.append((b"set-cookie", cookie.encode()))
    add = _with_headers(send)
    await add({"type": "http.response.start", "status": status, "headers": headers})
    await add({"type": "http.response.body", "body": body})


def _detail(sentence: str) -> bytes:
    return json.dumps({"detail": sentence}).encode()
