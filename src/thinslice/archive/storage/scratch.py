"""Scratch space of a worker: objects of a store as files, and results before they are sent; bounded."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from thinslice.archive.storage.store import ObjectStore
from thinslice.archive.storage.task import SeriesTask
from thinslice.errors import ResourceError, ThinsliceError, UnreadableError
from thinslice.options import option
from thinslice.system.atomic import sole_run
from thinslice.system.faults import output_fault

MIB = 2.0**20

MOST_SCRATCH_MIB = 20 * 1024.0
"""Space that the scratch files of one worker may take."""


class Scratch:
    """A folder of one worker, removed at the end; as a context manager.

    What workers that were killed have left in the same place is removed: their locks are free.

    Args:
        place: folder of all workers' scratch; made where it is needed. In the system's temporary folder unless set.
        most_mib: space that the files of this worker may take.
    """

    def __init__(self, place: Path | None = None, *, most_mib: float = MOST_SCRATCH_MIB) -> None:
        self._all = place or Path(tempfile.gettempdir(), f"thinslice-scratch-{getattr(os, 'getuid', int)()}")
        self._most_mib, self._taken_mib = most_mib, 0.0
        self._changed = threading.Condition(threading.RLock())
        self._root: Path | None = None
        self._lock = ExitStack()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
        self._lock.close()

    @property
    def root(self) -> Path:
        """The folder, made on first use.

        Raises:
            OutputError: it cannot be made; choose another place.
        """
        with self._changed:
            if self._root is None:
                name = uuid.uuid4().hex[:12]
                try:
                    self._all.mkdir(parents=True, exist_ok=True, mode=0o700)
                    self._remove_remains()
                    self._lock.enter_context(sole_run(self._all / f"{name}.worker"))
                    (self._all / name).mkdir(mode=0o700)
                except OSError as error:
                    raise output_fault(error, self._all.name) from error
                self._root = self._all / name
            return self._root

    @contextmanager
    def folder(self, mib: float) -> Iterator[Path]:
        """An empty folder for files of a size, removed at the end of the block.

        Args:
            mib: size of the files. It waits until others of this worker have given back what they took.

        Raises:
            ResourceError: it is beyond the bound; raise it, or name another disk.
        """
        with self._changed:
            if mib > self._most_mib:
                raise ResourceError(
                    f"The series needs {mib:.0f} MiB of scratch space, and {self._most_mib:.0f} MiB are permitted; "
                    f"raise {option('scratch_mib')}."
                )
            while self._taken_mib + mib > self._most_mib:
                self._changed.wait()
            self._taken_mib += mib
        try:
            place = self.root / uuid.uuid4().hex[:12]
            try:
                place.mkdir()
            except OSError as error:
                raise output_fault(error, "scratch") from error
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)
        finally:
            with self._changed:
                self._taken_mib -= mib
                self._changed.notify_all()

    def _remove_remains(self) -> None:
        for left in self._all.iterdir():
            if left.is_dir() and len(left.name) == 12:
                with suppress(ThinsliceError), sole_run(self._all / f"{left.name}.worker"):
                    shutil.rmtree(left, ignore_errors=True)


def fetch(store: ObjectStore, task: SeriesTask, folder: Path) -> list[Path]:
    """The objects of a series as files, unless they have changed since the scan.

    Args:
        store: of the archive.
        task: the series.
        folder: empty, for the files. Their names are numbers, since those of objects may be anything.

    Raises:
        UnreadableError: an object is gone or has changed; scan and plan again.
        UnreachableError: the store does not answer.
        ResourceError: the disk is full.
    """
    wanted: dict[str, list[tuple[str, int, int]]] = {}
    for path, size, changed_ns in task.stamps:
        place, _, name = path.rpartition("/")
        wanted.setdefault(place, []).append((name, size, changed_ns))
    for place, stamps in wanted.items():
        there = {each.name: (each.size, each.changed_ns) for each in store.folder(place)[1]}
        for name, size, changed_ns in stamps:
            if name not in there:
                raise UnreadableError("A file of the series is gone or closed to you; scan and plan again.")
            if there[name] != (size, changed_ns):
                raise UnreadableError("A file of the series has changed since the scan; scan and plan again.")
    targets = [folder / str(number) for number in range(len(task.stamps))]
    try:
        store.fetch([path for path, _, _ in task.stamps], targets)
    except OSError as error:
        raise output_fault(error, "scratch") from error
    sizes = [target.stat().st_size for target in targets]
    if sizes != [size for _, size, _ in task.stamps]:
        raise UnreadableError("A file of the series has changed since the scan; scan and plan again.")
    return targets
