"""The guard: which requests reach the application, whatever it is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from thinslice.service.guard import MOST_BODY_BYTES, PAGE_POLICY, Guard

TOKEN = "t" * 43
HOST = "127.0.0.1:8377"
ORIGIN = f"http://{HOST}"


class Answer:
    """What one request got: status, headers, body, and whether the application was reached."""

    def __init__(self) -> None:
        self.status, self.body, self.reached = 0, b"", False
        self.received = b""
        self.headers: dict[str, str] = {}


def ask(
    path: str = "/api/about",
    *,
    method: str = "GET",
    query: str = "",
    body: tuple[bytes, ...] = (b"",),
    host: str | None = HOST,
    **headers: str,
) -> Answer:
    """Send a request through the guard; keywords are headers, with _ for -."""
    answer = Answer()
    pieces = list(body)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        answer.reached = True
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            answer.received += message["body"]
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    listed = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if host is not None:
        listed.append((b"host", host.encode()))
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": listed}
    guard = Guard(application, token=TOKEN, hosts=frozenset({HOST, "localhost:8377"}), cookie="thinslice-8377")
    asyncio.run(guard(scope, receive, send))
    return answer


BEARER = {"authorization": f"Bearer {TOKEN}"}
COOKIE = {"cookie": f"other=1; thinslice-8377={TOKEN}"}


@pytest.mark.parametrize("shown", [BEARER, COOKIE], ids=["bearer", "cookie"])
def test_the_token_opens_and_every_answer_carries_the_policies(shown: dict[str, str]) -> None:
    answer = ask(**shown)
    assert answer.reached and answer.status == 200
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer tök"},
        {"cookie": f"thinslice-1={TOKEN}"},
        {"cookie": "thinslice-8377="},
    ],
)
@pytest.mark.parametrize("path", ["/", "/page.js", "/api/about", "/api/openapi.json"])
def test_without_the_token_nothing_is_reached(shown: dict[str, str], path: str) -> None:
    answer = ask(path, **shown)
    assert answer.status == 401 and not answer.reached
    assert TOKEN.encode() not in answer.body


def test_the_address_with_the_token_sets_a_cookie_that_scripts_cannot_read() -> None:
    answer = ask("/", query=f"token={TOKEN}")
    cookie = answer.headers["set-cookie"]
    assert answer.status == 200 and not answer.reached
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert ask("/", query="token=wrong").status == 401
    # The address of anything else does not open with it: such an address would be passed on.
    assert ask("/api/about", query=f"token={TOKEN}").status == 401


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "evil.example:8377", "127.0.0.1", "127.0.0.1:80", f"{HOST}.evil.example"]
)
def test_a_foreign_host_is_refused_even_with_the_token(host: str | None) -> None:
    answer = ask(host=host, **BEARER)
    assert answer.status == 421 and not answer.reached


def test_two_host_headers_are_refused() -> None:
    assert ask(Host="evil.example", **BEARER).status == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:8377", "http://127.0.0.1:9000"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_foreign_origin_is_refused_even_with_the_token(origin: str, method: str) -> None:
    answer = ask(method=method, origin=origin, **COOKIE)
    assert answer.status == 403 and not answer.reached


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_that_another_page_caused_are_refused(site: str) -> None:
    assert ask(sec_fetch_site=site, **COOKIE).status == 403
    assert ask(sec_fetch_site="same-origin", **COOKIE).status == 200
    # Following a link to the page itself is what people do.
    assert ask("/", sec_fetch_site=site, sec_fetch_mode="navigate", **COOKIE).status == 200


def test_a_change_needs_an_origin_or_the_token_in_a_header() -> None:
    assert ask(method="POST", **COOKIE).status == 403
    assert ask(method="POST", origin=ORIGIN, **COOKIE).status == 200
    assert ask(method="POST", origin="http://localhost:8377", **COOKIE).status == 200
    assert ask(method="DELETE", **BEARER).status == 200


def test_bodies_are_bounded_whether_they_state_their_length_or_not() -> None:
    stated = ask(method="POST", content_length=str(MOST_BODY_BYTES + 1), **BEARER)
    assert stated.status == 413 and not stated.reached
    assert ask(method="POST", content_length="-1", **BEARER).status == 413
    pieces = (b"x" * 40_000,) * 5
    unstated = ask(method="POST", body=pieces, **BEARER)
    assert len(unstated.received) <= MOST_BODY_BYTES
    upload = ask("/api/uploads/1/files/0", method="PUT", body=pieces, **BEARER)
    assert len(upload.received) == 200_000


def test_refusals_are_json_sentences() -> None:
    assert json.loads(ask().body) == {"detail": "The token is missing or wrong."}
