"""The scan of an archive: folders are read by processes, what they found goes into the catalogue; resumable."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from thinslice.archive.catalogue import Catalogue, Totals
from thinslice.archive.place import ArchivePlace
from thinslice.archive.processes import CrashError, Processes
from thinslice.archive.read_folder import FolderResult, SeriesRow, Stamp, judge, load, read_files, read_folder
from thinslice.archive.storage.read_prefix import judge_objects, read_objects, read_prefix
from thinslice.archive.storage.store import ObjectStore, checked_url, is_store
from thinslice.commands.outputs import check_sources
from thinslice.errors import OutputBusyError, UnreachableError, UsageError
from thinslice.system.atomic import sole_run
from thinslice.system.cores import sensible_threads
from thinslice.typing import Notify

FOLDERS_AT_ONCE = 64
"""Known folders that one task looks at: each takes less time than to hand it over."""

COMMIT_EVERY_S = 1.0
"""Time between two transactions: a scan that is killed loses as much."""

NOTE_EVERY_S = 5.0
"""Time between two lines of progress."""


@dataclass(frozen=True)
class ScanTask:
    """Work of one process: a folder, several known ones, some files of a large one, or a series to be judged.

    Attributes:
        root: of the archive: a folder, or the URL of a prefix in a store of objects.
        many: known folders and their digests, which are only looked at.
        folder: below it.
        salt: of the patients' digests.
        digest: of the folder when it was last read, or None.
        known: stamps of its files then; None where they were not asked for.
        names: files to be read, of a large folder; None for a whole one.
        avoid: real paths of folders that are not entered.
        collection: number of a series to be judged; None for a folder.
        label: UID of that series.
        paths: of its files.
    """

    root: Path | str
    many: tuple[tuple[str, bytes], ...] = ()
    folder: str = ""
    salt: bytes = b""
    digest: bytes | None = None
    known: dict[str, Stamp] | None = None
    names: tuple[str, ...] | None = None
    avoid: tuple[str, ...] = ()
    collection: int | None = None
    label: str = ""
    paths: tuple[str, ...] = ()


Outcome = FolderResult | list[FolderResult] | list[SeriesRow]


def do_task(task: ScanTask) -> Outcome:
    """Do one task; in any process."""
    if isinstance(task.root, str):
        return _in_store(task.root, task)
    if task.many:
        return [
            read_folder(task.root, folder, b"", digest=digest, known=None, avoid=task.avoid)
            for folder, digest in task.many
        ]
    if task.collection is not None:
        return judge(task.root, task.label, task.paths)
    if task.names is not None:
        return read_files(task.root, task.folder, task.salt, list(task.names))
    return read_folder(task.root, task.folder, task.salt, digest=task.digest, known=task.known, avoid=task.avoid)


def _in_store(url: str, task: ScanTask) -> Outcome:
    if task.many:
        return [
            read_prefix(url, folder, b"", digest=digest, known=None, avoid=task.avoid) for folder, digest in task.many
        ]
    if task.collection is not None:
        return judge_objects(url, task.label, task.paths)
    if task.names is not None:
        return read_objects(url, task.folder, task.salt, list(task.names))
    return read_prefix(url, task.folder, task.salt, digest=task.digest, known=task.known, avoid=task.avoid)


@dataclass
class ScanSummary:
    """Result of a scan.

    Attributes:
        folders: folders that were met.
        unchanged: those among them that had not changed.
        files: files whose headers were read.
        judged: series that were judged again because they lie in several folders, or have changed.
        crashed: folders or series that ended the process that read them.
        dropped: folders that are gone.
        seconds: of the whole scan.
        totals: of the catalogue.
    """

    folders: int = 0
    unchanged: int = 0
    files: int = 0
    judged: int = 0
    crashed: int = 0
    dropped: int = 0
    seconds: float = 0.0
    totals: Totals | None = None


@dataclass
class _Scan:
    catalogue: Catalogue
    root: Path | str
    number: int
    avoid: tuple[str, ...]
    notify: Notify
    summary: ScanSummary = field(default_factory=ScanSummary)


def run_scan(
    root: Path | str, place: ArchivePlace, *, processes: int | None = None, notify: Notify | None = None
) -> ScanSummary:
    """Bring the catalogue of an archive up to date.

    Folders whose files are as they were are passed over, files that have not changed are not opened. A scan that was
    killed is continued by the next one. Nothing in the archive is changed, and no file in it can end a scan.

    Args:
        root: folder of the archive, where links to folders are not followed; or s3://BUCKET/PREFIX in a store.
        place: the index; made if absent. It may lie in the archive.
        processes: that read headers; one for each core unless set, 0 for this process.
        notify: called with plain lines of progress.

    Raises:
        UnreadableError: the root is missing, or may not be read.
        UnreachableError: the store of the root does not answer.
        UsageError: the root is a file.
        OutputError: the index cannot be written, or is that of another archive.
        OutputBusyError: another scan works on the index.
    """
    root = _checked(root)
    place.create()
    count = sensible_threads() if processes is None else processes
    try:
        with sole_run(place.root / "scan"), Catalogue(place.catalogue, create=True) as catalogue:
            number = catalogue.begin(root)
            scan = _Scan(catalogue, root, number, _avoided(place, catalogue), notify or (lambda line: None))
            begun = time.perf_counter()
            if number == 1:
                load()
            with Processes(do_task, count) as pool:
                _walk(scan, pool)
                _judge(scan, pool)
            _finish(scan)
            scan.summary.seconds = time.perf_counter() - begun
            scan.summary.totals = catalogue.totals()
            return scan.summary
    except OutputBusyError:
        raise OutputBusyError(f"Another scan works on {str(place.root)!r}; wait for it to end.") from None


def _checked(root: Path | str) -> Path | str:
    """The root of an archive, which is there."""
    if is_store(root):
        url = checked_url(str(root))
        ObjectStore(url).require("read")
        return url
    folder = Path(root)
    check_sources([folder])
    if not folder.is_dir():
        raise UsageError(f"{str(root)!r} is a file; name the folder of an archive.")
    return folder.resolve()


def _avoided(place: ArchivePlace, catalogue: Catalogue) -> tuple[str, ...]:
    """Folders that are no part of the archive: the index, and outputs of its plan."""
    found = [str(place.root), *([] if (out := catalogue.get("out")) is None else [os.fsdecode(out)])]
    return tuple(path if is_store(path) else os.path.realpath(path) for path in found)


def _walk(scan: _Scan, pool: Processes[ScanTask, Outcome]) -> None:
    """Read every folder below the root; what was found is written once a second."""
    catalogue, summary = scan.catalogue, scan.summary
    digests, salt = catalogue.known_digests(), catalogue.salt
    parts: dict[str, tuple[int, bytes]] = {}
    ready: list[tuple[FolderResult, bool]] = []
    unchanged: list[str] = []
    known_folders: list[str] = []

    def task(folder: str, known: dict[str, Stamp] | None = None) -> ScanTask:
        return ScanTask(scan.root, (), folder, salt, digests.get(folder), known, avoid=scan.avoid)

    def submit(folder: str) -> None:
        if folder in digests:
            known_folders.append(folder)
        else:
            pool.submit(task(folder))

    def feed() -> None:
        """Hand over known folders: many at once, or what there is where the processes have nothing to do."""
        while len(known_folders) >= FOLDERS_AT_ONCE or (known_folders and pool.pending < 2):
            several, known_folders[:] = known_folders[:FOLDERS_AT_ONCE], known_folders[FOLDERS_AT_ONCE:]
            many = tuple((folder, digests[folder]) for folder in several)
            pool.submit(ScanTask(scan.root, many, avoid=scan.avoid))

    def take(folder: str, result: FolderResult, *, asked: bool) -> None:
        """Take what a folder holds; `asked` where its known files were compared."""
        if not result.unchanged and folder in digests and not asked:
            pool.submit(task(folder, catalogue.known_files(folder)))
            return
        summary.folders += 1
        for name in result.subfolders:
            submit(f"{folder}/{name}" if folder else name)
        if result.unchanged:
            summary.unchanged += 1
            unchanged.append(folder)
            return
        summary.files += len(result.files)
        ready.append((result, True))
        if result.later:
            parts[folder] = (len(result.later), result.digest)
            for names in result.later:
                pool.submit(ScanTask(scan.root, (), folder, salt, names=tuple(names)))

    def take_part(folder: str, result: FolderResult) -> None:
        left, digest = parts[folder]
        parts[folder] = (left - 1, digest)
        summary.files += len(result.files)
        ready.append((result, False))

    def write() -> None:
        with catalogue.writing():
            catalogue.see(unchanged, scan.number)
            for result, whole in ready:
                catalogue.add(result, scan.number, whole=whole)
            for folder in [folder for folder, (left, _) in parts.items() if left == 0]:
                catalogue.finish_folder(folder, parts.pop(folder)[1])
        ready.clear()
        unchanged.clear()

    submit("")
    feed()
    written_s = noted_s = time.perf_counter()
    while pool.pending:
        for done, result in pool.results():
            if isinstance(result, UnreachableError):
                raise result  # what was read so far is kept, and the next scan goes on
            if isinstance(result, Exception):
                summary.crashed += 1
                for folder, _ in done.many:  # one of them; each is looked at alone
                    pool.submit(task(folder, catalogue.known_files(folder)))
                if not done.many:
                    take(done.folder, _broken(done.folder, result), asked=True)
            elif isinstance(result, FolderResult) and done.names is not None:
                take_part(done.folder, result)
            elif isinstance(result, FolderResult):
                take(done.folder, result, asked=done.known is not None)
            else:
                for each in result:
                    if isinstance(each, FolderResult):
                        take(each.folder, each, asked=False)
        feed()
        now = time.perf_counter()
        if now - written_s > COMMIT_EVERY_S:
            write()
            written_s = time.perf_counter()
        if now - noted_s > NOTE_EVERY_S:
            following = pool.pending + len(known_folders)
            scan.notify(f"{summary.folders} folders, {summary.files} files read, {following} known to follow")
            noted_s = now
    write()


def _broken(folder: str, error: Exception) -> FolderResult:
    """The result of a folder whose files end the process that reads them, or that raised."""
    reason = "a file in it ends the program that reads it" if isinstance(error, CrashError) else "cannot be read"
    return FolderResult(folder, digest=os.urandom(16), reason=reason)


def _judge(scan: _Scan, pool: Processes[ScanTask, Outcome]) -> None:
    """Judge series that lie in several folders or have changed, from the headers of all their files."""
    catalogue, summary = scan.catalogue, scan.summary
    with catalogue.writing():
        summary.dropped = catalogue.drop_unseen(scan.number)
        catalogue.drop_empty()
    stale = iter(catalogue.stale())
    ready: list[tuple[int, list[SeriesRow]]] = []
    written_s = noted_s = time.perf_counter()

    def feed() -> None:
        while pool.pending < 64:
            following = next(stale, None)
            if following is None:
                return
            number, label = following
            paths = tuple(catalogue.paths(number))
            pool.submit(ScanTask(scan.root, collection=number, label=label, paths=paths))

    def write() -> None:
        with catalogue.writing():
            for number, rows in ready:
                catalogue.set_series(number, rows)
        ready.clear()

    feed()
    while pool.pending:
        for done, result in pool.results():
            if done.collection is None:
                continue
            summary.judged += 1
            if isinstance(result, UnreachableError):
                raise result
            if isinstance(result, Exception):
                summary.crashed += 1
                result = []
            if isinstance(result, list):
                ready.append((done.collection, [row for row in result if isinstance(row, SeriesRow)]))
        feed()
        now = time.perf_counter()
        if now - written_s > COMMIT_EVERY_S:
            write()
            written_s = time.perf_counter()
        if now - noted_s > NOTE_EVERY_S:
            scan.notify(f"{summary.judged} series judged anew")
            noted_s = now
    write()


def _finish(scan: _Scan) -> None:
    catalogue = scan.catalogue
    with catalogue.writing():
        catalogue.put("complete", 1)
        catalogue.put("scanned_at_s", time.time())
