"""A connection to a DICOMweb service: its address, its credentials, and its errors as those of thinslice."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client.api import DICOMwebClient
from requests.adapters import HTTPAdapter

from thinslice.errors import InputError, OutputError, UsageError

TOKEN_VARIABLE = "THINSLICE_DICOMWEB_TOKEN"
LOGIN_VARIABLE = "THINSLICE_DICOMWEB_LOGIN"

CONNECT_S = 20.0
ANSWER_S = 300.0
"""Longest silence of a service; a large study may take it that long to prepare."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class ServiceError(OutputError):
    """The service cannot be reached, or refuses a request."""


@dataclass(frozen=True)
class Credentials:
    """What a service asks for; at most one of the two.

    Attributes:
        token: bearer token.
        login: user name and password.
    """

    token: str | None = None
    login: tuple[str, str] | None = None

    def __repr__(self) -> str:
        """Nothing secret."""
        kind = "token" if self.token else "login" if self.login else "none"
        return f"Credentials({kind})"


def credentials(*, token_file: Path | None = None, login_file: Path | None = None) -> Credentials:
    """Credentials from files, or else from the environment; never from the command line, which others can read.

    Args:
        token_file: holds a bearer token; else the variable THINSLICE_DICOMWEB_TOKEN.
        login_file: holds "user:password"; else the variable THINSLICE_DICOMWEB_LOGIN.

    Raises:
        UsageError: a file cannot be read, a value is empty or has no colon, or both kinds are given; correct it.
    """
    if token_file is None and login_file is None:
        token, login = os.environ.get(TOKEN_VARIABLE), os.environ.get(LOGIN_VARIABLE)
        where_token, where_login = TOKEN_VARIABLE, LOGIN_VARIABLE
    else:
        token, login = _first_line(token_file), _first_line(login_file)
        where_token, where_login = str(token_file), str(login_file)
    if token is not None and login is not None:
        raise UsageError("There are a token and a login for the service; give one of them.")
    if token is not None:
        if not token.strip() or not token.isascii():
            raise UsageError(f"{where_token} holds no token; correct it.")
        return Credentials(token=token.strip())
    if login is not None:
        user, colon, password = login.partition(":")
        if not (user and colon):
            raise UsageError(f"{where_login} holds no user:password; correct it.")
        return Credentials(login=(user, password))
    return Credentials()


def _first_line(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").split("\n", 1)[0].strip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(path)!r} cannot be read; check the file.") from error


class _PlainStars(HTTPAdapter):
    """Sends a star in a query as it is: some services, such as Orthanc's, do not decode it."""

    def send(self, request: requests.PreparedRequest, *given: Any, **named: Any) -> requests.Response:
        """Send one request."""
        request.url = (request.url or "").replace("%2A", "*")
        return super().send(request, *given, **named)


def connect(url: str, secret: Credentials, *, authority: Path | None = None) -> DICOMwebClient:
    """A client of a service; nothing is sent yet.

    Args:
        url: address of the service, such as https://pacs.example/dicom-web.
        secret: credentials.
        authority: certificates (PEM) that the service's certificate is checked with; None for those of the system.

    Raises:
        UsageError: the address is none, or credentials or images would travel unencrypted to another computer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("The address of a DICOMweb service begins with https:// and a name; correct it.")
    if parts.username is not None or parts.password is not None:
        raise UsageError("The address holds a password, which others can read; put it into a file or the environment.")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK and (secret.token or secret.login):
        raise UsageError(
            "Credentials would travel unencrypted over http; take the https address of the service, or a tunnel that "
            "ends on this computer."
        )
    logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL + 1)
    session = requests.Session()
    session.mount(f"{parts.scheme}://", _PlainStars())
    session.trust_env = False  # no password of a .netrc that the user does not know of
    if authority is not None:
        session.verify = str(authority)
    if secret.token is not None:
        session.headers["Authorization"] = f"Bearer {secret.token}"
    if secret.login is not None:
        session.auth = secret.login
    proxies = requests.utils.get_environ_proxies(url)
    client = DICOMwebClient(
        url.rstrip("/"), session=session, proxies=proxies or None, permissive_uid=True, timeout=(CONNECT_S, ANSWER_S)
    )
    # Outages are waited for by whoever calls; the client's own wait would hold them up.
    client.set_http_retry_params(retry=False)
    return client


@contextmanager
def service_errors() -> Iterator[None]:
    """Turn the errors of requests into those of thinslice; their texts would quote addresses with UIDs.

    Raises:
        ServiceError: the service cannot be reached or failed; try again later.
        UsageError: it refuses the credentials.
        InputError: it does not know what was asked for.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except requests.HTTPError as error:
        code = None if error.response is None else error.response.status_code
        if code in (401, 403):
            raise UsageError(
                f"The service refuses the credentials (HTTP {code}); check {TOKEN_VARIABLE}, {LOGIN_VARIABLE} or the "
                "file that holds them."
            ) from error
        if code == 404:
            raise InputError("The service does not know what was asked for (HTTP 404); check address and UIDs.") from (
                error
            )
        raise ServiceError(f"The service failed (HTTP {code}); try again later.") from error
    except requests.exceptions.SSLError as error:
        raise ServiceError(
            "The certificate of the service cannot be trusted; name the hospital's certificates with an authority file."
        ) from error
    except (requests.RequestException, ConnectionError) as error:
        raise ServiceError(
            f"The service cannot be reached, or the connection broke ({type(error).__name__}); try again later."
        ) from error
