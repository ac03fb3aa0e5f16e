"""Client of the service for Python; it needs none of the packages of the `serve` extra.

    from thinslice.service.client import Client

    client = Client("http://127.0.0.1:8377/?token=...")      # the address that `thinslice serve` printed
    source = client.upload(["chest_5mm/"])
    job = client.wait(client.submit(source, model="default", factor=5))
    client.download(job, "thin.nii.gz", "thin.nii.gz")

Research software, not a medical device: synthesised detail can be wrong; keep the originals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import requests
from pydantic import ValidationError

from thinslice.errors import (
    DeviceError,
    InputError,
    ModelError,
    OutputError,
    ResourceError,
    ThinsliceError,
    UnreadableError,
    UsageError,
)
from thinslice.recipes.checked import first_fault
from thinslice.service.schemas import About, JobRequest, JobView, SourceView, VolumeView
from thinslice.system.atomic import atomic_file
from thinslice.typing import PhaseProgress

POLL_S = 0.5
"""Time between two looks at a job."""

OUTAGE_S = 60.0
"""How long a server may be away, such as for a restart."""

PIECE_BYTES = 1 << 20

Seen = TypeVar("Seen", JobView, SourceView)

_ERRORS: dict[int, type[ThinsliceError]] = {
    error.exit_code: error for error in (UsageError, InputError, ModelError, OutputError, ResourceError, DeviceError)
}


class Client:
    """A connection to a server.

    Args:
        address: as `thinslice serve` printed it, with the token.
        outage_s: how long the server may be away while a job is waited for.

    Raises:
        UsageError: no address, or one without a token.
    """

    def __init__(self, address: str, *, outage_s: float = OUTAGE_S) -> None:
        parts = urlsplit(address)
        token = parse_qs(parts.query).get("token", [""])[0]
        if parts.scheme not in ("http", "https") or not parts.hostname or not token:
            raise UsageError("The address of a server is needed as 'thinslice serve' prints it, with ?token=... in it.")
        self._base = f"{parts.scheme}://{parts.netloc}/api"
        self._outage_s = outage_s
        self._session = requests.Session()
        # No proxy of the environment: it would receive the token and the images.
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *raised: object) -> None:
        self._session.close()

    def about(self) -> About:
        """Version, networks, devices and limits of the server."""
        return About.model_validate(self._call("GET", "/about"))

    def upload(self, paths: Sequence[str | Path], *, phase: PhaseProgress | None = None) -> SourceView:
        """Send files, or all files below folders, and wait until the server has inspected them.

        Args:
            paths: files and folders. No name leaves this computer but the suffixes of files.
            phase: called with the share that is sent.

        Raises:
            UnreadableError: nothing to send.
            InputError: the server cannot read it.
            ResourceError: too large for the server.
        """
        files = [file for path in paths for file in _files(Path(path))]
        if not files:
            raise UnreadableError("There is no file to send; check the path.")
        upload = self._call("POST", "/uploads")["id"]
        total, sent = max(1, sum(file.stat().st_size for file in files)), 0
        try:
            for number, file in enumerate(files):
                suffix = "".join(file.suffixes[-2:])
                with file.open("rb") as body:
                    self._call("PUT", f"/uploads/{upload}/files/{number}?name={quote('f' + suffix)}", data=body)
                sent += file.stat().st_size
                if phase is not None:
                    phase("sending", min(1.0, sent / total))
        except BaseException:
            # What was sent would count as an open upload for a day.
            with suppress(ThinsliceError):
                self.remove_source(upload)
            raise
        return self._inspected(SourceView.model_validate(self._call("POST", f"/uploads/{upload}/complete")))

    def source(self, source_id: str) -> SourceView:
        """A source as it is now."""
        return SourceView.model_validate(self._call("GET", f"/sources/{source_id}"))

    def choose(self, folder: int, path: str = "") -> SourceView:
        """Take a folder or file that the server may read where it lies, and wait until it is inspected.

        Args:
            folder: number of an allowed folder (`about().folders`).
            path: below it.
        """
        return self._inspected(
            SourceView.model_validate(self._call("POST", "/sources", json={"folder": folder, "path": path}))
        )

    def submit(self, source: SourceView | str, *, series: int | None = None, **settings: Any) -> JobView:
        """Queue a job; the same request again is the same job.

        Args:
            source: of `upload` or `choose`.
            series: number in the source; the only one that can be upscaled unless set.
            settings: as in `thinslice.service.schemas.JobRequest`.

        Raises:
            UsageError: options that contradict each other.
            InputError: the series cannot be upscaled.
        """
        source_id = source if isinstance(source, str) else source.id
        try:
            wanted = JobRequest(source=source_id, series=series, **settings)
        except ValidationError as error:
            raise UsageError(f"The request does not fit, {first_fault(error)}; correct it.") from error
        return JobView.model_validate(self._call("POST", "/jobs", json=wanted.model_dump(mode="json")))

    def job(self, job: JobView | int) -> JobView:
        """A job as it is now."""
        return JobView.model_validate(self._call("GET", f"/jobs/{_number(job)}"))

    def jobs(self) -> list[JobView]:
        """All jobs, oldest first."""
        return [JobView.model_validate(row) for row in self._call("GET", "/jobs")["jobs"]]

    def cancel(self, job: JobView | int) -> JobView:
        """Cancel a job."""
        return JobView.model_validate(self._call("POST", f"/jobs/{_number(job)}/cancel"))

    def remove(self, job: JobView | int) -> None:
        """Remove a finished job and what it made."""
        self._call("DELETE", f"/jobs/{_number(job)}")

    def remove_source(self, source: SourceView | str) -> None:
        """Remove a source that no unfinished job needs."""
        self._call("DELETE", f"/sources/{source if isinstance(source, str) else source.id}")

    def wait(self, job: JobView | int, *, phase: PhaseProgress | None = None) -> JobView:
        """Wait until a job is done.

        Args:
            job: of `submit`.
            phase: called with its progress.

        Raises:
            ThinsliceError: it failed; the error is that of the command line.
            UsageError: it was cancelled.
        """
        while True:
            now = self.patiently(lambda: self.job(job))
            if phase is not None and now.state in ("queued", "running"):
                phase(now.phase or "waiting", now.share)
            if now.state == "done":
                return now
            if now.state == "failed":
                raise _ERRORS.get(now.exit_code or 0, ThinsliceError)(now.reason or "The job failed.")
            if now.state == "cancelled":
                raise UsageError("The job was cancelled.")
            time.sleep(POLL_S)

    def download(self, job: JobView | int, name: str, path: str | Path, *, overwrite: bool = False) -> None:
        """Fetch a file that a job made; it appears whole.

        Args:
            job: a job that is done.
            name: one of its `files`.
            path: of the file to write.
            overwrite: replace one that is there.
        """
        with atomic_file(path, overwrite=overwrite) as unfinished, unfinished.open("wb") as file:
            for piece in self.pieces(job, name):
                file.write(piece)

    def pieces(self, job: JobView | int, name: str) -> Iterator[bytes]:
        """The bytes of a file that a job made."""
        with self._answer("GET", f"/jobs/{_number(job)}/files/{name}", stream=True) as answer:
            yield from answer.iter_content(PIECE_BYTES)

    def volumes(self, job: JobView | int) -> list[VolumeView]:
        """Grids of the raw volumes of a job."""
        return [VolumeView.model_validate(row) for row in self._call("GET", f"/jobs/{_number(job)}/volumes")]

    def slices(self, job: JobView | int, name: str, start: int, stop: int) -> bytes:
        """Slices of a raw volume: little-endian int16, (depth, height, width)."""
        with self._answer("GET", f"/jobs/{_number(job)}/volumes/{name}?start={start}&stop={stop}") as answer:
            return answer.content

    def _inspected(self, source: SourceView) -> SourceView:
        while source.state == "inspecting":
            time.sleep(POLL_S)
            source = self.patiently(partial(self.source, source.id))
        if source.state == "refused":
            raise InputError(source.reason or "The server cannot read it.")
        return source

    def patiently(self, ask: Callable[[], Seen]) -> Seen:
        """An answer, although the server may be away for a while."""
        away_since_s: float | None = None
        while True:
            try:
                return ask()
            except ServerAwayError:
                now_s = time.monotonic()
                away_since_s = now_s if away_since_s is None else away_since_s
                if now_s - away_since_s > self._outage_s:
                    raise
                time.sleep(POLL_S)

    def _call(self, method: str, path: str, **rest: Any) -> Any:
        with self._answer(method, path, **rest) as answer:
            return answer.json() if answer.content else None

    @contextmanager
    def _answer(self, method: str, path: str, **rest: Any) -> Iterator[requests.Response]:
        try:
            answer = self._session.request(method, self._base + path, timeout=(10, 600), allow_redirects=False, **rest)
        except requests.ConnectionError as error:
            raise ServerAwayError(
                "The server does not answer; check that 'thinslice serve' runs and that the address is the one it "
                "printed."
            ) from error
        except requests.RequestException as error:
            raise ServerAwayError("The connection to the server ended; try again.") from error
        with answer:
            if answer.ok:
                yield answer
                return
            try:
                problem = answer.json()
            except ValueError:
                problem = {}
            detail = str(problem.get("detail") or f"The server answered {answer.status_code}.")
            raise _ERRORS.get(problem.get("exit_code") or 2, UsageError)(detail)


class ServerAwayError(InputError):
    """The server does not answer; start it, or check the address."""


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))


def _number(job: JobView | int) -> int:
    return job if isinstance(job, int) else job.id
