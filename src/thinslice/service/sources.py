"""Uploads and chosen folders: taken in without trust, and inspected by a worker."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from thinslice.errors import InputError, OutputError, ResourceError, UnreadableError, UsageError
from thinslice.queue import Job, NewJob, Queue, State, job_key
from thinslice.service.folder import SOURCE_FILE, SOURCE_ID, DataFolder, read_json, write_json
from thinslice.service.schemas import FolderEntry, FolderList, SourceView, UploadView
from thinslice.service.settings import GIB, ServeSettings
from thinslice.system.faults import output_fault

INSPECT = "inspect"
"""Kind of the jobs that inspect a source."""

KEPT_SUFFIX = re.compile(r"\.(nii|nii\.gz|nrrd|mha|dcm|ima|zip|tar|tar\.gz|tgz|tar\.xz|tar\.bz2|gz)$", re.IGNORECASE)
"""Suffixes that a stored file keeps, because readers go by them. Nothing else of its name is kept."""

KEPT_FREE_BYTES = GIB // 2
"""Space that an upload leaves on the disk."""

BUFFER_BYTES = 1 << 20

MOST_ENTRIES = 5_000
"""Entries of a folder that are listed."""

MOST_CHOSEN_FILES = 200_000
"""Files below a chosen folder."""


class Sources:
    """Uploads and chosen folders in the data folder.

    Args:
        folder: places on the disk.
        queue: where inspections are queued.
        settings: limits.
    """

    def __init__(self, folder: DataFolder, queue: Queue, settings: ServeSettings) -> None:
        self._folder = folder
        self._queue = queue
        self._settings = settings
        self._lock = threading.Lock()
        self._sizes: dict[str, dict[int, int]] = {}

    # Uploads

    def open_upload(self) -> UploadView:
        """Begin an upload.

        Raises:
            ResourceError: too many uploads are open, or the data folder is full.
        """
        if self._folder.used_bytes() > self._settings.limit_gb * GIB:
            raise ResourceError("The data folder of the server is full; remove finished jobs.")
        with self._lock:
            unfinished = sum(not (path / SOURCE_FILE).exists() for path in self._folder.sources.iterdir())
            if unfinished >= self._settings.open_uploads:
                raise ResourceError(f"{unfinished} uploads are open; complete or remove one of them.")
            source_id = secrets.token_hex(8)
            (self._folder.source(source_id) / "files").mkdir(parents=True, mode=0o700)
        return UploadView(id=source_id)

    async def take(
        self, source_id: str, number: int, name: str, declared_bytes: int | None, pieces: AsyncIterator[bytes]
    ) -> UploadView:
        """Store one file of an upload; the same number again replaces it.

        Args:
            source_id: of the upload.
            number: of the file, from 0.
            name: its name, of which the suffix alone is used.
            declared_bytes: length that the client states, or None.
            pieces: its bytes.

        Raises:
            UsageError: no open upload of this name, or a number out of range.
            ResourceError: the upload is too large, or the disk too full.
            InputError: fewer bytes than declared.
        """
        files = self._open_files(source_id)
        if not 0 <= number < self._settings.upload_files:
            raise UsageError(f"An upload has {self._settings.upload_files} files at most; upload a zip.")
        sizes = self._sizes_of(source_id)
        room = int(self._settings.upload_gb * GIB) - sum(size for at, size in sizes.items() if at != number)
        room = min(room, shutil.disk_usage(files).free - KEPT_FREE_BYTES)
        too_large = ResourceError(
            f"The upload is larger than {self._settings.upload_gb:.4g} GiB, or than the space on the server's disk; "
            "upload a part of it."
        )
        if declared_bytes is not None and declared_bytes > room:
            raise too_large
        target, partial = files / stored_name(number, name), files / f".{number:06d}.{secrets.token_hex(4)}"
        count = 0
        try:
            with partial.open("wb") as file:
                waiting = bytearray()
                async for piece in pieces:
                    count += len(piece)
                    if count > room:
                        raise too_large
                    waiting += piece
                    if len(waiting) >= BUFFER_BYTES:
                        await asyncio.to_thread(file.write, bytes(waiting))
                        waiting.clear()
                file.write(waiting)
            if declared_bytes is not None and count != declared_bytes:
                raise InputError("The connection ended before the file did; send it again.")
            for stale in files.glob(f"{number:06d}*"):
                stale.unlink()
            partial.replace(target)
        except OSError as error:
            raise output_fault(error, "the upload") from error
        finally:
            partial.unlink(missing_ok=True)
        with self._lock:
            sizes[number] = count
            return UploadView(id=source_id, files=len(sizes), bytes=sum(sizes.values()))

    def complete(self, source_id: str) -> SourceView:
        """Close an upload and queue its inspection; once more is no error.

        Raises:
            UsageError: no such upload, or one without files.
        """
        place = self._place(source_id)
        if not (place / SOURCE_FILE).exists():
            files = self._open_files(source_id)
            sizes = [path.stat().st_size for path in files.iterdir() if not path.name.startswith(".")]
            if not sizes:
                raise UsageError("The upload holds no file; send one.")
            self._close(place, kind="upload", files=len(sizes), size=sum(sizes))
        with self._lock:
            self._sizes.pop(source_id, None)
        return self._inspect(source_id)

    # Folders

    def list_folder(self, number: int, path: str) -> FolderList:
        """Content of a folder below an allowed one.

        Raises:
            UsageError: not below an allowed folder, or no folder.
        """
        place = self.allowed(number, path)
        if not place.is_dir():
            raise UsageError("There is no such folder below the allowed one.")
        entries: list[FolderEntry] = []
        for entry in sorted(os.scandir(place), key=lambda each: each.name):
            if len(entries) == MOST_ENTRIES:
                break
            if not entry.name.startswith(".") and entry.name.isprintable():
                entries.append(FolderEntry(name=entry.name, folder=entry.is_dir()))
        return FolderList(path=path.strip("/"), entries=tuple(entries), truncated=len(entries) == MOST_ENTRIES)

    def choose(self, number: int, path: str) -> SourceView:
        """Inspect a folder or file below an allowed one where it lies.

        Raises:
            UsageError: not below an allowed folder, or nothing there.
        """
        place = self.allowed(number, path)
        if not place.exists():
            raise UsageError("There is nothing of that name below the allowed folder.")
        source_id = secrets.token_hex(8)
        folder = self._folder.source(source_id)
        folder.mkdir(mode=0o700)
        self._close(folder, kind="folder", files=0, size=0, path=str(place))
        return self._inspect(source_id)

    def allowed(self, number: int, path: str) -> Path:
        """The real place of a path below an allowed folder.

        Raises:
            UsageError: no such allowed folder, or a place outside of it, by a link too.
        """
        refused = UsageError("That is not below a folder that was allowed when the server started.")
        if not 0 <= number < len(self._settings.allow) or "\0" in path:
            raise refused
        root = self._settings.allow[number].resolve()
        try:
            place = root.joinpath(*(part for part in re.split(r"[/\\]", path) if part)).resolve()
        except (OSError, RuntimeError, ValueError):
            raise refused from None
        if not place.is_relative_to(root):
            raise refused
        return place

    # Both

    def all(self) -> list[SourceView]:
        """Every complete source, oldest first."""
        jobs = {str(job.spec["source"]): job for job in self._queue.jobs(most=1_000_000, kind=INSPECT)}
        found = []
        for path in self._folder.sources.iterdir():
            values = read_json(path / SOURCE_FILE)
            if values is not None:
                found.append(_view(path.name, values, jobs.get(path.name)))
        return sorted(found, key=lambda view: view.made_at_s)

    def get(self, source_id: str) -> SourceView:
        """One source.

        Raises:
            UnreadableError: there is none of this name.
        """
        values = read_json(self._place(source_id) / SOURCE_FILE)
        if values is None:
            raise UnreadableError("There is no such source; it may have been removed.")
        return _view(source_id, values, self._queue.find(_inspect_key(source_id)))

    def digest(self, source_id: str) -> str:
        """Digest of what was read, as the inspection found it.

        Raises:
            UsageError: not inspected yet, or refused.
        """
        job = self._queue.find(_inspect_key(source_id))
        if job is None or job.state is not State.DONE or job.result is None:
            raise UsageError("The source has not been inspected yet, or was refused.")
        return str(job.result["digest"])

    def remove(self, source_id: str) -> None:
        """Remove a source that no queued or running job needs.

        Raises:
            UsageError: a job needs it.
        """
        place = self._place(source_id)
        jobs = self._queue.jobs(most=1_000_000, kind="upscale")
        if any(job.spec.get("source") == source_id and not job.state.is_final for job in jobs):
            raise UsageError("A job needs this source; cancel the job first.")
        self._folder.forget_source(self._queue, place.name)

    def recover(self) -> None:
        """Queue the inspection of every complete source again; those that are queued or done stay so."""
        for path in self._folder.sources.iterdir():
            if (path / SOURCE_FILE).exists() and self._queue.find(_inspect_key(path.name)) is None:
                self._inspect(path.name)

    def _place(self, source_id: str) -> Path:
        if not SOURCE_ID.fullmatch(source_id):
            raise UnreadableError("There is no such source; it may have been removed.")
        return self._folder.source(source_id)

    def _open_files(self, source_id: str) -> Path:
        place = self._place(source_id)
        files = place / "files"
        if not files.is_dir() or (place / SOURCE_FILE).exists():
            raise UnreadableError("There is no open upload of that name; begin one.")
        return files

    def _sizes_of(self, source_id: str) -> dict[int, int]:
        with self._lock:
            if source_id not in self._sizes:
                # After a restart, from what the disk holds.
                self._sizes[source_id] = {
                    int(path.name[:6]): path.stat().st_size
                    for path in (self._folder.source(source_id) / "files").iterdir()
                    if path.name[:6].isdecimal()
                }
            return self._sizes[source_id]

    def _close(self, place: Path, *, kind: str, files: int, size: int, path: str | None = None) -> None:
        values: dict[str, Any] = {"kind": kind, "files": files, "bytes": size, "made_at_s": time.time(), "path": path}
        write_json(place / SOURCE_FILE, values)

    def _inspect(self, source_id: str) -> SourceView:
        self._queue.submit(NewJob(INSPECT, _inspect_key(source_id), {"source": source_id}))
        return self.get(source_id)


def stored_name(number: int, name: str) -> str:
    """Name under which a file of an upload is stored.

    >>> stored_name(3, "../../Doe^Jane.NII.GZ"), stored_name(4, "IM 7")
    ('000003.nii.gz', '000004')
    """
    suffix = KEPT_SUFFIX.search(name)
    return f"{number:06d}{suffix.group().lower() if suffix else ''}"


def source_path(folder: DataFolder, source_id: str) -> Path:
    """The path of a source for the readers: a folder, or the single file of an upload.

    Raises:
        OutputError: the source has gone.
    """
    values = read_json(folder.source(source_id) / SOURCE_FILE)
    if values is None:
        raise UnreadableError("The source has been removed; upload it again.")
    if values["path"] is not None:
        return Path(values["path"])
    files = folder.source(source_id) / "files"
    inside = [path for path in files.iterdir() if not path.name.startswith(".")]
    return inside[0] if len(inside) == 1 else files


def digest_of(path: Path, *, by_content: bool) -> str:
    """Digest of a file or of all files below a folder.

    Args:
        path: file or folder.
        by_content: of the bytes, whatever the files' names; else of name, size and time of change.

    Raises:
        ResourceError: too many files.
        OutputError: a file cannot be read.
    """
    parts = []
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    if len(files) > MOST_CHOSEN_FILES:
        raise ResourceError(f"There are more than {MOST_CHOSEN_FILES} files below the folder; choose one in it.")
    try:
        for file in files:
            if by_content:
                with file.open("rb") as stream:
                    parts.append(hashlib.file_digest(stream, "sha256").hexdigest())
            else:
                state = file.stat()
                parts.append(f"{file.relative_to(path).as_posix()}\n{state.st_size}\n{state.st_mtime_ns}")
    except OSError as error:
        raise OutputError("A file of the source cannot be read; choose it again.") from error
    return hashlib.sha256("\0".join(sorted(parts)).encode("utf-8", "surrogateescape")).hexdigest()


def _inspect_key(source_id: str) -> str:
    return job_key(kind=INSPECT, source=source_id)


def _view(source_id: str, values: dict[str, Any], job: Job | None) -> SourceView:
    state = State.QUEUED if job is None else job.state
    return SourceView(
        id=source_id,
        kind=values["kind"],
        state="ready" if state is State.DONE else "inspecting" if not state.is_final else "refused",
        files=values["files"],
        bytes=values["bytes"],
        made_at_s=values["made_at_s"],
        reason=None if job is None else job.reason,
        series=() if job is None or job.result is None else tuple(job.result["series"]),
    )
