"""The SQLite file of a queue: its table, its transactions, and its errors as those of thinslice.

Write-ahead logging needs a local disk: SQLite's shared memory does not work over a network file system.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from thinslice.errors import OutputError
from thinslice.system.mounts import network_file_system
from thinslice.system.sqlite_errors import sqlite_errors

VERSION = 1
"""Version of the table, in the file's user_version; a file of another one is refused."""

BUSY_WAIT_S = 60.0
"""How long a transaction waits for those of other processes."""

_TABLE = """
CREATE TABLE IF NOT EXISTS job(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    spec TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    priority INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    token TEXT,
    lease_until_s REAL,
    due_at_s REAL NOT NULL DEFAULT 0,
    phase TEXT NOT NULL DEFAULT '',
    share REAL NOT NULL DEFAULT 0,
    left_s REAL,
    cancelling INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    exit_code INTEGER,
    result TEXT,
    made_at_s REAL NOT NULL,
    begun_at_s REAL,
    ended_at_s REAL,
    revision INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS job_ready ON job(kind, priority DESC, id) WHERE state = 'queued';
CREATE INDEX IF NOT EXISTS job_leased ON job(lease_until_s) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS job_changed ON job(revision);
CREATE TABLE IF NOT EXISTS change(revision INTEGER NOT NULL);
INSERT INTO change SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM change);
"""


class Database:
    """One connection, for all threads of a process.

    Args:
        path: the file; it is made if absent, its folder must exist and lie on a local disk.

    Raises:
        OutputError: the file cannot be opened, lies on a network file system, or is no queue of this version; name
            another place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        shared = network_file_system(path)
        if shared is not None:
            raise OutputError(
                f"{str(path)!r} lies on a network file system ({shared}), on which a queue would be damaged; name a "
                "folder on a local disk."
            )
        with self._errors():
            self._connection = sqlite3.connect(path, timeout=BUSY_WAIT_S, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._prepare()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, alone among all processes.

        Args:
            durable: whether it is on the disk when the block ends. A claim and a heartbeat need not be: a power cut
                ends their workers too.
        """
        with self._lock, self._errors():
            connection = self._connection
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Rows of a query."""
        with self._lock, self._errors(), closing(self._connection.execute(query, values)) as found:
            return found.fetchall()

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = WAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == VERSION:
            return
        if version != 0:
            raise OutputError(
                f"{self.path.name!r} is a queue of version {version}, and this version of thinslice reads {VERSION}; "
                "name another place, or use the version that made it."
            )
        with self.writing():
            for statement in _TABLE.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def _errors(self) -> AbstractContextManager[None]:
        return sqlite_errors(self.path, kind="queue", remedy="name another place")
