"""HTTP requests with time limits; failures are sorted into those worth another try and final ones."""

from __future__ import annotations

import contextlib
import email.utils
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinslice.about import __version__
from thinslice.errors import DownloadError

if TYPE_CHECKING:
    import requests

USER_AGENT = f"thinslice/{__version__} (RPLHR-CT downloader)"
"""Name of this client; archives slow down or refuse clients without one."""

BUSY = frozenset({429, 503})
"""Status codes of a busy server."""

PASSING = frozenset({408, 425, 500, 502, 504})
"""Status codes of faults that may pass."""

MAX_REDIRECTS = 10


@dataclass(frozen=True)
class Patience:
    """Time limits of requests and number of tries.

    Attributes:
        connect_s: time limit for a connection.
        silence_s: time limit between two arriving bytes.
        tries: failures in a row, without a byte gained, before the download stops with an error.
        first_wait_s: wait before the first new try; each further wait is twice as long.
        longest_wait_s: upper limit of all waits, also of those that the server requests.
    """

    connect_s: float = 15.0
    silence_s: float = 60.0
    tries: int = 8
    first_wait_s: float = 1.0
    longest_wait_s: float = 300.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after a number of failures in a row.

        >>> [Patience().wait_s(n) for n in (1, 2, 5, 50)]
        [1.0, 2.0, 16.0, 300.0]
        """
        return min(self.first_wait_s * 2.0 ** min(failures - 1, 30), self.longest_wait_s)


class PassingError(Exception):
    """A failure that may pass, so that another try is worthwhile.

    Attributes:
        wait_s: wait that the server requests; None without such a request.
        busy: whether the server reports too many requests.
    """

    def __init__(self, reason: str, *, wait_s: float | None = None, busy: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.busy = busy


def session() -> requests.Session:
    """An HTTP session with this client's name; proxies are those of the environment."""
    import requests

    made = requests.Session()
    made.max_redirects = MAX_REDIRECTS
    # No transparent compression, which would shift all ranges.
    made.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
    return made


@contextmanager
def response_to(
    at: requests.Session, url: str, patience: Patience, headers: dict[str, str] | None = None
) -> Iterator[requests.Response]:
    """Request a page or a file; the body is read in the block.

    All failures, also while the block reads the body, become one of two exceptions.

    Args:
        at: session.
        url: http or https address.
        patience: time limits.
        headers: headers beside those of the session.

    Yields:
        A response with status 200, 206 or 416.

    Raises:
        PassingError: a failure that may pass; try again.
        DownloadError: a final failure: refused, no such file, no certificate, no proxy.
    """
    import requests

    try:
        with at.get(url, headers=headers, stream=True, timeout=(patience.connect_s, patience.silence_s)) as response:
            _check_status(response)
            yield response
    except requests.exceptions.SSLError as error:
        raise DownloadError(
            "The server's certificate cannot be checked (TLS); let your administrator set REQUESTS_CA_BUNDLE."
        ) from error
    except requests.exceptions.ProxyError as error:
        raise DownloadError("The proxy refuses the connection; check HTTPS_PROXY and NO_PROXY.") from error
    except requests.exceptions.TooManyRedirects as error:
        raise DownloadError("The server redirects in circles (too many redirections); try again later.") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise DownloadError("The server redirects to an invalid address; try again later.") from error
    except requests.exceptions.Timeout as error:
        raise PassingError("the server is silent") from error
    except requests.exceptions.ConnectionError as error:
        raise PassingError("the connection failed or broke off") from error
    except requests.exceptions.RequestException as error:
        raise PassingError("the answer broke off") from error
    except OSError as error:
        # requests names the file of certificates that is not there in an error of its own form, without a number.
        if error.errno is not None or "CA certificate" not in str(error):
            raise
        raise DownloadError(
            "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names a file of certificates that is not there; correct or unset it."
        ) from error


def _check_status(response: requests.Response) -> None:
    code = response.status_code
    if code in (200, 206, 416):
        return
    if code in BUSY:
        wait_s = retry_after_s(response.headers.get("Retry-After"))
        raise PassingError(f"the server is busy (status {code})", wait_s=wait_s, busy=True)
    if code in PASSING:
        raise PassingError(f"the server has a fault (status {code})")
    if code in (401, 403):
        raise DownloadError(f"The server refuses to give the file (status {code}); try again later.")
    if code in (404, 410):
        raise DownloadError(f"The server has no such record or file (status {code}); check the DOI.")
    raise DownloadError(f"The server answers with status {code}, which is not expected; try again later.")


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; None without a usable value.

    >>> retry_after_s("7"), retry_after_s("soon"), retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT")
    (7.0, None, 0.0)
    """
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return max(0.0, seconds) if seconds < float("inf") else None
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - time.time())


def small_answer(url: str, patience: Patience, most_bytes: int) -> tuple[str, bytes]:
    """Fetch a small page, with further tries after passing failures.

    Args:
        url: http or https address.
        patience: time limits and number of tries.
        most_bytes: largest size of the body.

    Returns:
        Address of the page after all redirections, and its body.

    Raises:
        DownloadError: the page cannot be fetched, or is too long; check network and DOI.
    """
    failures = 0
    with session() as at:
        while True:
            try:
                with response_to(at, url, patience) as response:
                    body = b""
                    for piece in response.iter_content(1 << 16):
                        body += piece
                        if len(body) > most_bytes:
                            raise DownloadError("The page is too long for a record; check the DOI.")
                    return response.url, body
            except PassingError as fault:
                failures += 1
                if failures >= patience.tries:
                    raise DownloadError(f"The record cannot be reached: {fault}; check the network.") from fault
                wait_s = patience.wait_s(failures) if fault.wait_s is None else fault.wait_s
                threading.Event().wait(min(wait_s, patience.longest_wait_s))
