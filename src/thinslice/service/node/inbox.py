"""What a node has received: objects under names made from digests, and which studies are complete.

    incoming/STUDY/SERIES/OBJECT.dcm     received objects, as they came
    incoming/STUDY/SERIES.json           who sent the series first
    arriving/                            objects that have not come in whole

STUDY is a digest of patient and study, SERIES of the series' UID, OBJECT of the object's UID: no sender chooses a name.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from thinslice.errors import UnreadableError
from thinslice.service.folder import read_json, write_json
from thinslice.service.object_head import digest_name, read_object_head
from thinslice.system.atomic import sync
from thinslice.system.faults import output_fault

COMPARED_BYTES = 2**20
"""Bytes that are compared at once."""


@dataclass(frozen=True)
class Identity:
    """What an object belongs to, as the receiver needs it.

    Attributes:
        study: name of its study's folder.
        series: name of its series' folder.
        instance: name of its file without suffix.
        instance_uid: its SOPInstanceUID.
    """

    study: str
    series: str
    instance: str
    instance_uid: str


def identity_of(stream: BinaryIO, size: int) -> Identity:
    """Identity of an object from the start of its file; nothing else is parsed, and no pixel is decoded.

    Args:
        stream: the file.
        size: its length in bytes.

    Raises:
        DamagedObjectError: the UIDs of study, series and object are not at its start.
    """
    head = read_object_head(stream, size)
    return Identity(
        digest_name(head.patient_id, head.study_uid),
        digest_name(head.series_uid),
        digest_name(head.instance_uid),
        head.instance_uid,
    )


class Inbox:
    """Received objects on the disk, and the time of the last one of each study.

    Args:
        incoming: folder of studies.
        arriving: folder of objects that have not come in whole; on the same disk.
        clock: seconds that never go back.
    """

    def __init__(self, incoming: Path, arriving: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.incoming = incoming
        self.arriving = arriving
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def recover(self) -> None:
        """After a start: remove what had not come in whole, and take every study as one that has just come in.

        A sender whose connection ended with the node sends again what was not answered; until then its study waits.
        """
        for left in self.arriving.iterdir():
            left.unlink(missing_ok=True)
        with self._lock:
            for study in self.incoming.iterdir():
                self._last[study.name] = self._clock()

    def keep(self, arrived: Path, identity: Identity, caller: str) -> bool:
        """Put an object that has come in whole in its place; it is on the disk when the call returns.

        Args:
            arrived: its file in `arriving`, flushed and synced.
            identity: what it belongs to.
            caller: AE title of its sender.

        Returns:
            Whether it is new, or differs from what was there; an object that is there already is left.

        Raises:
            OutputError, ResourceError: it cannot be written.
        """
        folder = self.incoming / identity.study / identity.series
        place = folder / f"{identity.instance}.dcm"
        try:
            with self._lock:
                if not folder.is_dir():
                    folder.parent.mkdir(exist_ok=True, mode=0o700)
                    write_json(folder.with_suffix(".json"), {"calling_ae": caller})
                    folder.mkdir(mode=0o700)
                    sync(folder.parent)
                    sync(self.incoming)
            is_new = not _same_content(arrived, place)
            if is_new:
                arrived.replace(place)
                sync(folder)
        except OSError as error:
            raise output_fault(error, "incoming") from error
        self.touch(identity.study)
        return is_new

    def touch(self, study: str) -> None:
        """Note that something came in for a study."""
        with self._lock:
            self._last[study] = self._clock()

    def complete(self, stable_s: float) -> list[str]:
        """Studies for which nothing came for `stable_s` seconds; each is returned once, unless more comes in."""
        now = self._clock()
        with self._lock:
            found = [study for study, last_s in self._last.items() if now - last_s >= stable_s]
            for study in found:
                del self._last[study]
        return found

    @property
    def waiting(self) -> int:
        """Number of studies that may not be complete."""
        with self._lock:
            return len(self._last)

    def is_waiting(self, study: str) -> bool:
        """Whether a study may not be complete."""
        with self._lock:
            return study in self._last

    def series_of(self, study: str) -> list[str]:
        """Names of the series of a study."""
        with contextlib.suppress(OSError):
            return sorted(path.name for path in (self.incoming / study).iterdir() if path.is_dir())
        return []

    def folder(self, study: str, series: str) -> Path:
        """Folder of a series."""
        return self.incoming / study / series

    def files(self, study: str, series: str) -> list[Path]:
        """Objects of a series, by name."""
        return sorted(self.folder(study, series).glob("*.dcm"))

    def caller(self, study: str, series: str) -> str:
        """AE title that sent a series first; "" where it is not known."""
        values = read_json(self.folder(study, series).with_suffix(".json"))
        return "" if values is None else str(values.get("calling_ae", ""))

    def stamp(self, study: str, series: str) -> str:
        """Digest of names, sizes and times of the objects of a series: it changes when one comes in or is replaced."""
        states = [(path.name, path.stat()) for path in self.files(study, series)]
        return digest_name(*(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states))

    def content(self, study: str, series: str) -> str:
        """Digest of the bytes of all objects of a series.

        Raises:
            UnreadableError: one cannot be read.
        """
        digest = hashlib.sha256()
        try:
            for path in self.files(study, series):
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise UnreadableError("A received object cannot be read; check the disk, then send it again.") from error
        return digest.hexdigest()

    def remove(self, study: str) -> None:
        """Forget a study and remove its objects."""
        with self._lock:
            self._last.pop(study, None)
            shutil.rmtree(self.incoming / study, ignore_errors=True)


def _same_content(one: Path, other: Path) -> bool:
    try:
        if one.stat().st_size != other.stat().st_size:
            return False
        with one.open("rb") as first, other.open("rb") as second:
            while chunk := first.read(COMPARED_BYTES):
                if chunk != second.read(COMPARED_BYTES):
                    return False
    except FileNotFoundError:
        return False
    return True
