"""SQLite's errors as those of thinslice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thinslice.errors import OutputBusyError, OutputError, ResourceError


@contextmanager
def sqlite_errors(path: Path, *, kind: str, remedy: str) -> Iterator[None]:
    """Turn errors of SQLite within the block into those of thinslice.

    Args:
        path: the file; messages hold its name.
        kind: what it is, such as "queue".
        remedy: what to do where it is damaged, such as "name another place".

    Raises:
        ResourceError: the disk is full; free some space.
        OutputBusyError: another program keeps it locked; end that program.
        OutputError: it is damaged, of another kind, or cannot be read or written.
        sqlite3.ProgrammingError: as it is: a fault of the caller.
    """
    name = path.name
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith("SQLITE_FULL"):
            raise ResourceError(f"The disk that holds the {kind} {name!r} is full; free some space.") from error
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise OutputBusyError(
                f"Another program keeps the {kind} {name!r} locked; end it, then try again."
            ) from error
        if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            raise OutputError(f"{name!r} is damaged, or no {kind} of thinslice; {remedy}.") from error
        raise OutputError(
            f"The {kind} {name!r} cannot be read or written ({error}); check that its folder exists, is yours and "
            "lies on a local disk."
        ) from error
