"""The data folder of the service: its places, its token, and what is removed when.

    queue.sqlite        jobs
    token               secret that a client shows
    sources/ID/         an upload (`files/`) or a chosen folder, and `source.json` once it is complete
    live/KEY/           raw volumes of a run in progress
    results/KEY/        everything that a job made; appears whole
    workers/            locks of worker processes

Names in it are numbers and digests: none comes from a client.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from thinslice.errors import OutputError
from thinslice.queue import Job, Queue
from thinslice.service.settings import GIB
from thinslice.system.atomic import atomic_file
from thinslice.system.faults import output_fault

SOURCE_ID = re.compile(r"[0-9a-f]{16}")
"""Identifiers of sources."""

DAY_S = 86_400.0

UNFINISHED_UPLOAD_S = DAY_S
"""Time after which an upload that was never completed is removed."""

SOURCE_FILE = "source.json"

VOLUMES = "volumes"
"""Folder of the raw volumes in that of a result."""

REPORT = "report.json"
"""Report of a job in its result."""


def make_private(root: Path, folders: Iterable[Path]) -> None:
    """Make a folder and those in it, for this user alone, where they are absent.

    Raises:
        OutputError: one cannot be made or written; name another one.
    """
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in folders:
            folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise output_fault(error, root.name) from error


class DataFolder:
    """Places of the service on the disk.

    Args:
        root: the folder; made, for this user alone, if absent.

    Raises:
        OutputError: it cannot be made or written; name another one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.queue_file = self.root / "queue.sqlite"
        self.sources = self.root / "sources"
        self.live = self.root / "live"
        self.results = self.root / "results"
        self.workers = self.root / "workers"
        make_private(self.root, (self.sources, self.live, self.results, self.workers))

    def token(self) -> str:
        """The secret of this folder; it stays the same when the server is started again.

        Raises:
            OutputError: it cannot be read or made.
        """
        path = self.root / "token"
        try:
            with contextlib.suppress(FileNotFoundError):
                kept = path.read_text(encoding="ascii").strip()
                if len(kept) >= 32:
                    return kept
                path.unlink()
            made = secrets.token_urlsafe(32)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(made + "\n")
        except (OSError, UnicodeDecodeError) as error:
            raise OutputError(
                f"The file {str(path)!r} cannot be read or made; remove it, or name another folder."
            ) from error
        return made

    def source(self, source_id: str) -> Path:
        """Folder of a source; it need not exist."""
        if not SOURCE_ID.fullmatch(source_id):
            raise ValueError(source_id)
        return self.sources / source_id

    def result(self, key: str) -> Path:
        """Folder of a job's result; it need not exist."""
        return self.results / key

    def volumes(self, key: str) -> Path:
        """Folder of a job's raw volumes: those of its result, or those of its run in progress."""
        finished = self.result(key) / VOLUMES
        return finished if finished.is_dir() else self.live / key

    def used_bytes(self) -> int:
        """Size of all files in it."""
        return sum(_sizes(self.root))

    def sweep(self, queue: Queue, *, keep_days: float, limit_gb: float, now_s: float | None = None) -> int:
        """Remove what is old, and while the folder is too large, the oldest results and sources that nothing uses.

        A job that is queued or running keeps its source. The job's row goes before its files do, so that what is left
        of an interruption is files without a row, which the next sweep removes.

        Args:
            queue: the jobs.
            keep_days: age beyond which finished work goes.
            limit_gb: size beyond which the oldest work goes.
            now_s: the time, seconds since 1970.

        Returns:
            Size that is left, in bytes.
        """
        now = time.time() if now_s is None else now_s
        jobs = queue.jobs(most=1_000_000)
        used_sources = {str(job.spec.get("source")) for job in jobs if not job.state.is_final}
        live_keys = {job.key for job in jobs if not job.state.is_final}
        final = sorted((job for job in jobs if job.state.is_final), key=lambda job: job.ended_at_s or 0.0)
        for job in final:
            if job.kind == "upscale" and now - (job.ended_at_s or 0.0) > keep_days * DAY_S:
                self.forget(queue, job)
        known = {job.key for job in queue.jobs(most=1_000_000)}
        for folder in (*_folders(self.results), *_folders(self.live)):
            # The unfinished folder of an attempt has a name of its own before the key (thinslice.system.atomic).
            key = folder.name.rpartition(".")[2]
            unfinished = folder.parent == self.live or folder.name.startswith(".")
            if key not in (live_keys if unfinished else known):
                shutil.rmtree(folder, ignore_errors=True)
        needed = used_sources | {str(job.spec.get("source")) for job in queue.jobs(most=1_000_000, kind="upscale")}
        for folder in _folders(self.sources):
            age_s = now - _modified_s(folder)
            complete = (folder / SOURCE_FILE).exists()
            limit_s = keep_days * DAY_S if complete else UNFINISHED_UPLOAD_S
            if folder.name not in used_sources and age_s > limit_s and folder.name not in needed:
                self.forget_source(queue, folder.name)
        limit = limit_gb * GIB
        for job in final:
            if self.used_bytes() <= limit:
                break
            if job.kind == "upscale" and queue.get(job.id) is not None:
                self.forget(queue, job)
        for folder in sorted(_folders(self.sources), key=_modified_s):
            if self.used_bytes() <= limit:
                break
            if folder.name not in used_sources and (folder / SOURCE_FILE).exists():
                self.forget_source(queue, folder.name)
        return self.used_bytes()

    def forget(self, queue: Queue, job: Job) -> bool:
        """Remove a finished job and its result; returns whether it was there and finished."""
        if not queue.remove(job.id):
            return False
        shutil.rmtree(self.result(job.key), ignore_errors=True)
        shutil.rmtree(self.live / job.key, ignore_errors=True)
        return True

    def forget_source(self, queue: Queue, source_id: str) -> None:
        """Remove a source and what its inspection found; a folder that was chosen is left as it is."""
        for job in queue.jobs(most=1_000_000, kind="inspect"):
            if job.spec.get("source") == source_id:
                queue.cancel(job.id)
                queue.remove(job.id)
        shutil.rmtree(self.source(source_id), ignore_errors=True)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write JSON values so that the file appears whole."""
    with atomic_file(path, overwrite=True) as unfinished:
        unfinished.write_text(json.dumps(values, allow_nan=False), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _folders(parent: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()]
    return []


def _modified_s(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _sizes(root: Path) -> Iterator[int]:
    for place, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                yield Path(place, name).lstat().st_size
