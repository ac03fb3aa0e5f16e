"""The folder of an archive's index: its files, and who may read them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from thinslice.errors import OutputError, UsageError
from thinslice.options import option
from thinslice.system.faults import output_fault
from thinslice.system.mounts import network_file_system

MARK = "thinslice-archive.txt"
"""File that marks the folder as an index."""

_TEXT = """Index of an archive, made by thinslice. It is safe to remove this folder: nothing of the archive lies in it.
It holds names of folders and files as they are in the archive, and UIDs; see "What the catalogue holds" in the manual.
"""


@dataclass(frozen=True)
class ArchivePlace:
    """Paths in the folder of an index.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def catalogue(self) -> Path:
        """SQLite file of patients, studies, series and files."""
        return self.root / "catalogue.sqlite"

    @property
    def queue(self) -> Path:
        """SQLite file of the jobs."""
        return self.root / "queue.sqlite"

    @property
    def plan(self) -> Path:
        """The plan's settings and estimate, as JSON."""
        return self.root / "plan.json"

    @property
    def rates(self) -> Path:
        """Rates measured by earlier runs, as JSON."""
        return self.root / "rates.json"

    @property
    def places(self) -> Path:
        """Folder of the workers' locks."""
        return self.root / "workers"

    def create(self) -> None:
        """Make the folder, readable by its owner alone.

        Raises:
            OutputError: it cannot be made, holds something else, or lies on a network file system.
        """
        try:
            if self.root.is_dir() and not (self.root / MARK).is_file() and any(self.root.iterdir()):
                raise OutputError(
                    f"{str(self.root)!r} holds something else; choose another folder by {option('root')}."
                )
            self.root.mkdir(parents=True, exist_ok=True)
            shared = network_file_system(self.root)
            if shared is not None:
                raise OutputError(
                    f"{str(self.root)!r} lies on a network file system ({shared}), on which its catalogue would be "
                    f"damaged; choose a folder on a local disk by {option('root')}."
                )
            self.root.chmod(0o700)
            self.places.mkdir(exist_ok=True)
            (self.root / MARK).write_text(_TEXT, encoding="utf-8")
        except OSError as error:
            raise output_fault(error, self.root.name) from error

    def require(self) -> None:
        """Refuse a folder that holds no catalogue.

        Raises:
            UsageError: scan an archive first, or name its index.
        """
        if not self.catalogue.is_file():
            raise UsageError(
                f"There is no index in {str(self.root)!r}; run 'thinslice archive scan ROOT' first, or name the index "
                f"by {option('root')}."
            )


def private_file(path: Path) -> None:
    """Make an empty file that its owner alone may read, unless it exists.

    Raises:
        OutputError: it cannot be made there.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise output_fault(error, path.name) from error
