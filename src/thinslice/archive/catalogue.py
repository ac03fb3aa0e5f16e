"""The catalogue of an archive: patients, studies, series and files in one SQLite file.

It holds names of folders and files, which are needed to read them, UIDs, and what `thinslice inspect` shows of a
series. It holds no name, number or birth date of a patient: patients are digests under a key that lies in the catalogue
alone. Folders and files may be named after patients, so the file is readable by its owner alone, and reports and
exports leave these names out.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinslice.archive.place import private_file
from thinslice.archive.read_folder import FolderResult, GroupKey, SeriesRow, Stamp
from thinslice.errors import OutputError
from thinslice.options import option
from thinslice.system.sqlite_errors import sqlite_errors

VERSION = 1
"""Version of the tables, in the file's user_version."""

BUSY_WAIT_S = 60.0

_TABLES = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE reason(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE folder(id INTEGER PRIMARY KEY, path NOT NULL UNIQUE, digest BLOB, files INTEGER NOT NULL DEFAULT 0,
    seen INTEGER NOT NULL, reason INTEGER REFERENCES reason);
CREATE TABLE patient(id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE);
CREATE TABLE study(id INTEGER PRIMARY KEY, patient INTEGER NOT NULL REFERENCES patient, uid TEXT NOT NULL,
    name TEXT NOT NULL, UNIQUE(patient, uid));
CREATE TABLE collection(id INTEGER PRIMARY KEY, study INTEGER NOT NULL REFERENCES study, uid TEXT NOT NULL,
    name TEXT NOT NULL, bytes INTEGER NOT NULL DEFAULT 0, files INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0, UNIQUE(study, uid));
CREATE INDEX collection_stale ON collection(stale) WHERE stale;
CREATE TABLE series(id INTEGER PRIMARY KEY, collection INTEGER NOT NULL REFERENCES collection, uid TEXT NOT NULL,
    kind TEXT NOT NULL, slices INTEGER NOT NULL, spacing_mm REAL, row_mm REAL, column_mm REAL, thickness_mm REAL,
    height INTEGER, width INTEGER, orientation TEXT NOT NULL, number INTEGER, description TEXT NOT NULL,
    part TEXT NOT NULL, kernel TEXT NOT NULL, derived INTEGER NOT NULL, factor INTEGER, reason INTEGER,
    readable INTEGER NOT NULL, mended_by TEXT NOT NULL, body_part TEXT NOT NULL, station TEXT NOT NULL,
    manufacturer TEXT NOT NULL, scanner TEXT NOT NULL, syntax TEXT NOT NULL, UNIQUE(collection, uid));
CREATE TABLE file(folder INTEGER NOT NULL, name NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, collection INTEGER, reason INTEGER, PRIMARY KEY(folder, name)) WITHOUT ROWID;
CREATE INDEX file_of ON file(collection) WHERE collection IS NOT NULL;
CREATE TABLE also(collection INTEGER NOT NULL, folder INTEGER NOT NULL, name NOT NULL,
    PRIMARY KEY(collection, folder, name)) WITHOUT ROWID;
CREATE INDEX also_of ON also(folder, name);
"""

_SERIES_COLUMNS = (
    *("collection", "uid", "kind", "slices", "spacing_mm", "row_mm", "column_mm", "thickness_mm", "height", "width"),
    *("orientation", "number", "description", "part", "kernel", "derived", "factor", "reason", "readable"),
    *("mended_by", "body_part", "station", "manufacturer", "scanner", "syntax"),
)

SERIES_QUERY = (
    "SELECT series.*, collection.bytes, collection.files, collection.uid AS series_uid, "
    "collection.name AS series_name, study.uid AS study_uid, study.id AS study_id, study.name AS study_name, "
    "patient.digest AS patient, reason.text AS reason_text FROM series "
    "JOIN collection ON collection.id = series.collection JOIN study ON study.id = collection.study "
    "JOIN patient ON patient.id = study.patient LEFT JOIN reason ON reason.id = series.reason"
)
"""Series with the names of study and patient; a condition and an order may follow."""


@dataclass(frozen=True)
class Totals:
    """Numbers of a catalogue.

    Attributes:
        folders, files, patients, studies, series: how many there are.
        fit: series that can be upscaled to 1 mm and that thinslice did not make.
        bytes: of all files.
        left_out: files that belong to no series.
        closed: folders that cannot be read.
        complete: whether the last scan came to its end.
        scanned_at_s: time of its end, seconds since 1970; 0.0 where there was none.
    """

    folders: int
    files: int
    patients: int
    studies: int
    series: int
    fit: int
    bytes: int
    left_out: int
    closed: int
    complete: bool
    scanned_at_s: float


class Catalogue:
    """One catalogue, for one writer and any number of readers on one machine.

    Args:
        path: the file.
        create: make it if absent.

    Raises:
        OutputError: it cannot be opened, or is no catalogue of this version.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if create:
            private_file(path)
        with self._errors():
            place = f"{path.absolute().as_uri()}?mode=rw"
            self.connection = sqlite3.connect(place, uri=True, timeout=BUSY_WAIT_S, isolation_level=None)
            self.connection.row_factory = sqlite3.Row
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = NORMAL")
            self.connection.execute("PRAGMA cache_size = -65536")
            self._prepare()
        self._ids: dict[tuple[str, Any], int] = {}

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction; what it wrote stays, or none of it."""
        with self._errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.connection.execute("ROLLBACK")
                self._ids.clear()
                raise
            self.connection.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> Iterator[sqlite3.Row]:
        """Rows of a query, one by one."""
        with self._errors(), closing(self.connection.execute(query, values)) as found:
            yield from found

    def value(self, query: str, *values: Any) -> Any:
        """The first value of a query; None without a row."""
        row = next(self.rows(query, *values), None)
        return None if row is None else row[0]

    # Facts of the whole

    def get(self, name: str) -> Any:
        """A named value; None where it was never set."""
        return self.value("SELECT value FROM meta WHERE name = ?", name)

    def put(self, name: str, value: Any) -> None:
        """Set a named value, in a transaction."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (name, value))

    @property
    def root(self) -> str:
        """The archive's root: a folder, or a URL in a store of objects."""
        return os.fsdecode(self.get("root") or b"")

    @property
    def salt(self) -> bytes:
        """Key of the patients' digests."""
        return bytes(self.get("salt"))

    def totals(self) -> Totals:
        """Counts, for the terminal and reports."""
        count = self.value
        return Totals(
            folders=count("SELECT COUNT(*) FROM folder"),
            files=count("SELECT COALESCE(SUM(files), 0) FROM folder"),
            patients=count("SELECT COUNT(*) FROM patient"),
            studies=count("SELECT COUNT(*) FROM study"),
            series=count("SELECT COUNT(*) FROM series"),
            fit=count("SELECT COUNT(*) FROM series WHERE factor IS NOT NULL AND NOT derived"),
            bytes=count("SELECT COALESCE(SUM(bytes), 0) FROM collection"),
            left_out=count("SELECT COUNT(*) FROM file WHERE reason IS NOT NULL"),
            closed=count("SELECT COUNT(*) FROM folder WHERE reason IS NOT NULL"),
            complete=bool(self.get("complete")),
            scanned_at_s=self.get("scanned_at_s") or 0.0,
        )

    # Scanning

    def begin(self, root: Path | str) -> int:
        """Begin a scan; returns its number.

        Raises:
            OutputError: the catalogue is that of another archive.
        """
        known = self.get("root")
        if known is not None and os.fsdecode(known) != str(root):
            raise OutputError(
                f"{str(self.path.parent)!r} is the index of {os.fsdecode(known)!r}; name another index by "
                f"{option('root')} for this archive."
            )
        with self.writing():
            if known is None:
                self.put("root", os.fsencode(root))
                self.put("salt", secrets.token_bytes(16))
            number = (self.get("scan") or 0) + 1
            self.put("scan", number)
            self.put("complete", 0)
        return number

    def known_folder(self, folder: str) -> bytes | None:
        """Digest of a folder when it was read; None where it was not, or not to the end."""
        digest = self.value("SELECT digest FROM folder WHERE path = ?", _stored(folder))
        return None if digest is None else bytes(digest)

    def known_digests(self) -> dict[str, bytes]:
        """Digests of all folders that were read."""
        return {
            _shown(row["path"]): bytes(row["digest"])
            for row in self.rows("SELECT path, digest FROM folder WHERE digest IS NOT NULL")
        }

    def known_files(self, folder: str) -> dict[str, Stamp]:
        """Stamps of a folder's files."""
        return {
            _shown(row["name"]): (row["size"], row["mtime_ns"], row["inode"])
            for row in self.rows(
                "SELECT name, size, mtime_ns, inode FROM file WHERE folder = (SELECT id FROM folder WHERE path = ?)",
                _stored(folder),
            )
        }

    def see(self, folders: Iterable[str], scan: int) -> None:
        """Note that folders are there and unchanged."""
        self.connection.executemany(
            "UPDATE folder SET seen = ? WHERE path = ?", [(scan, _stored(folder)) for folder in folders]
        )

    def add(self, result: FolderResult, scan: int, *, whole: bool = True) -> None:
        """Add what was read of a folder, in a transaction.

        Args:
            result: of `thinslice.archive.read_folder`.
            scan: number of this scan.
            whole: whether the folder is read to its end by it.
        """
        execute = self.connection.execute
        is_new = execute("SELECT 1 FROM folder WHERE path = ?", (_stored(result.folder),)).fetchone() is None
        folder = execute(
            "INSERT INTO folder(path, seen, files, reason) VALUES(?, ?, ?, ?) ON CONFLICT(path) DO UPDATE SET "
            "seen = excluded.seen, files = excluded.files, reason = excluded.reason, digest = NULL RETURNING id",
            (_stored(result.folder), scan, result.total, self._reason(result.reason)),
        ).fetchone()[0]
        fresh = is_new or self._forget_files(folder, [*result.gone, *(file.name for file in result.files)])
        collections = [self._collection(key) for key in result.groups]
        sizes = [[0, 0] for _ in collections]
        rows, extra = [], []
        for file in result.files:
            first = collections[file.groups[0]] if file.groups else None
            rows.append((folder, _stored(file.name), *file.stamp, first, self._reason(file.reason)))
            extra += [(collections[group], folder, _stored(file.name)) for group in file.groups[1:]]
            for group in file.groups:
                sizes[group][0] += file.stamp[0]
                sizes[group][1] += 1
        self.connection.executemany("INSERT INTO file VALUES(?, ?, ?, ?, ?, ?, ?)", rows)
        self.connection.executemany("INSERT INTO also VALUES(?, ?, ?)", extra)
        for index, collection in enumerate(collections):
            added, files = sizes[index]
            before = execute("SELECT files FROM collection WHERE id = ?", (collection,)).fetchone()[0]
            judged = result.rows[index] if before == 0 and fresh else None
            execute(
                "UPDATE collection SET bytes = bytes + ?, files = files + ?, stale = ? WHERE id = ?",
                (added, files, judged is None, collection),
            )
            if judged is not None:
                self.set_series(collection, judged)
        if whole and not result.later:
            self.finish_folder(result.folder, result.digest)

    def finish_folder(self, folder: str, digest: bytes) -> None:
        """Note that a folder is read to its end."""
        self.connection.execute("UPDATE folder SET digest = ? WHERE path = ?", (digest, _stored(folder)))

    def drop_unseen(self, scan: int) -> int:
        """Remove folders that a complete scan did not meet; returns their number."""
        gone = [row["id"] for row in self.rows("SELECT id FROM folder WHERE seen < ?", scan)]
        for folder in gone:
            names = [_shown(row["name"]) for row in self.rows("SELECT name FROM file WHERE folder = ?", folder)]
            self._forget_files(folder, names)
            self.connection.execute("DELETE FROM folder WHERE id = ?", (folder,))
        return len(gone)

    def drop_empty(self) -> None:
        """Remove series, studies and patients that have no file any more."""
        execute = self.connection.execute
        execute("DELETE FROM series WHERE collection IN (SELECT id FROM collection WHERE files <= 0)")
        execute("DELETE FROM collection WHERE files <= 0")
        execute("DELETE FROM study WHERE id NOT IN (SELECT study FROM collection)")
        execute("DELETE FROM patient WHERE id NOT IN (SELECT patient FROM study)")
        self._ids.clear()

    def stale(self) -> list[tuple[int, str]]:
        """Number and UID of the series that must be judged anew."""
        return [(row["id"], row["uid"]) for row in self.rows("SELECT id, uid FROM collection WHERE stale")]

    def set_series(self, collection: int, rows: Sequence[SeriesRow]) -> None:
        """Set what the files of a collection make together."""
        self.connection.execute("DELETE FROM series WHERE collection = ?", (collection,))
        marks = ", ".join("?" * len(_SERIES_COLUMNS))
        self.connection.executemany(
            f"INSERT OR REPLACE INTO series({', '.join(_SERIES_COLUMNS)}) VALUES({marks})",
            [self._values(collection, row) for row in rows],
        )
        self.connection.execute("UPDATE collection SET stale = 0 WHERE id = ?", (collection,))

    # Reading

    def paths(self, collection: int) -> list[str]:
        """Paths of a collection's files below the root, in the order of their names."""
        found = self.rows(
            "SELECT folder.path, found.name FROM (SELECT folder, name FROM file WHERE collection = ?1 "
            "UNION SELECT folder, name FROM also WHERE collection = ?1) AS found "
            "JOIN folder ON folder.id = found.folder",
            collection,
        )
        places = [(_shown(row["path"]), _shown(row["name"])) for row in found]
        return sorted(f"{folder}/{name}" if folder else name for folder, name in places)

    def stamps(self, collection: int) -> list[tuple[str, int, int]]:
        """Path, size and time of change of a collection's files, as they were when they were scanned."""
        found = self.rows(
            "SELECT folder.path, file.name, file.size, file.mtime_ns FROM (SELECT folder, name FROM file "
            "WHERE collection = ?1 UNION SELECT folder, name FROM also WHERE collection = ?1) AS found "
            "JOIN file ON file.folder = found.folder AND file.name = found.name "
            "JOIN folder ON folder.id = file.folder",
            collection,
        )
        return sorted(
            (
                f"{_shown(row['path'])}/{_shown(row['name'])}" if _shown(row["path"]) else _shown(row["name"]),
                row["size"],
                row["mtime_ns"],
            )
            for row in found
        )

    def reasons(self, most: int = 50) -> list[tuple[str, int]]:
        """Why files belong to no series, with their numbers; the commonest first."""
        return [
            (row["text"], row["files"])
            for row in self.rows(
                "SELECT reason.text, COUNT(*) AS files FROM file JOIN reason ON reason.id = file.reason "
                "GROUP BY file.reason ORDER BY files DESC, text LIMIT ?",
                most,
            )
        ]

    # Inside

    def _values(self, collection: int, row: SeriesRow) -> tuple[Any, ...]:
        return (
            *(collection, row.uid, row.kind, row.slices, *row.spacing_mm, row.thickness_mm, *row.matrix),
            *(row.orientation, row.number, row.description, row.part, row.kernel, row.derived),
            *(None if row.reasons else row.factor, self._reason(row.reasons)),
            *(row.readable, row.mended_by),
            *(row.body_part, row.station, row.manufacturer, row.scanner, row.syntax),
        )

    def _forget_files(self, folder: int, names: Sequence[str]) -> bool:
        """Forget files of a folder; their series become stale. Returns whether none of them was known."""
        execute, known = self.connection.execute, False
        for name in names:
            stored = _stored(name)
            row = execute(
                "DELETE FROM file WHERE folder = ? AND name = ? RETURNING size, collection", (folder, stored)
            ).fetchone()
            if row is None:
                continue
            known = True
            others = execute("DELETE FROM also WHERE folder = ? AND name = ? RETURNING collection", (folder, stored))
            touched = {row["collection"], *(other["collection"] for other in others.fetchall())} - {None}
            for collection in touched:
                execute(
                    "UPDATE collection SET bytes = bytes - ?, files = files - 1, stale = 1 WHERE id = ?",
                    (row["size"], collection),
                )
        return not known

    def _collection(self, key: GroupKey) -> int:
        digest, study_uid, uid, study_name, name = key
        patient = self._id("patient", ("digest",), (digest,))
        study = self._id("study", ("patient", "uid"), (patient, study_uid), study_name)
        return self._id("collection", ("study", "uid"), (study, uid), name)

    def _reason(self, text: str) -> int | None:
        return self._id("reason", ("text",), (text[:500],)) if text else None

    def _id(self, table: str, columns: tuple[str, ...], values: tuple[Any, ...], name: str | None = None) -> int:
        """Number of a row of a table of names; the row is made if absent, with a name for outputs if it has one."""
        known = self._ids.get((table, values))
        if known is not None:
            return known
        execute, where = self.connection.execute, " AND ".join(f"{column} = ?" for column in columns)
        row = execute(f"SELECT id FROM {table} WHERE {where}", values).fetchone()
        if row is None:
            given, stated = (columns, values) if name is None else ((*columns, "name"), (*values, name))
            marks = ", ".join("?" * len(given))
            row = execute(f"INSERT INTO {table}({', '.join(given)}) VALUES({marks}) RETURNING id", stated).fetchone()
        if len(self._ids) > 50_000:
            self._ids.clear()
        self._ids[table, values] = row[0]
        return int(row[0])

    def _prepare(self) -> None:
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version == VERSION:
            return
        if version != 0:
            raise OutputError(
                f"{self.path.name!r} is a catalogue of version {version}, and this version of thinslice reads "
                f"{VERSION}; scan into another folder, or use the version that made it."
            )
        self.connection.execute("BEGIN IMMEDIATE")
        if self.connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _TABLES.split(";"):
                self.connection.execute(statement)
            self.connection.execute(f"PRAGMA user_version = {VERSION}")
        self.connection.execute("COMMIT")

    def _errors(self) -> AbstractContextManager[None]:
        return sqlite_errors(self.path, kind="catalogue", remedy="scan into another folder")


def _stored(name: str) -> str | bytes:
    """A name as SQLite stores it: bytes where it is no text."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def _shown(name: str | bytes) -> str:
    return os.fsdecode(name) if isinstance(name, bytes) else name


def series_values(row: Mapping[str, Any] | sqlite3.Row) -> dict[str, Any]:
    """A row of `SERIES_QUERY` as JSON values that name nobody and no file, for reports and exports."""
    return {
        "patient": row["patient"],
        "study_uid": row["study_uid"],
        "series_uid": row["uid"],
        "kind": row["kind"],
        "slices": row["slices"],
        "spacing_mm": row["spacing_mm"],
        "row_mm": row["row_mm"],
        "column_mm": row["column_mm"],
        "thickness_mm": row["thickness_mm"],
        "height": row["height"],
        "width": row["width"],
        "orientation": row["orientation"],
        "series_number": row["number"],
        "description": row["description"],
        "part": row["part"],
        "kernel": row["kernel"],
        "body_part": row["body_part"],
        "station": row["station"],
        "manufacturer": row["manufacturer"],
        "scanner": row["scanner"],
        "transfer_syntax": row["syntax"],
        "derived": bool(row["derived"]),
        "eligible": row["factor"] is not None,
        "factor": row["factor"],
        "reason": row["reason_text"] or "",
        "bytes": row["bytes"],
        "files": row["files"],
    }
