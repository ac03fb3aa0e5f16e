"""A folder that is filled where it is: a mount point, the current folder, or a folder in one that is read-only.

Such a folder cannot be replaced by a rename. Its new content is written into a hidden folder in it and moved up at the
end. The hidden names are a journal, so that the next run on the folder completes or undoes what a killed run left:

    .thinslice.<token>.partial   being written; removed
    .thinslice.previous          old content on its way out; moved back, unless the next name is there
    .thinslice.commit            the new content, complete; moved up, and the old content removed
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from types import TracebackType

_OURS = ".thinslice."
_COMMIT, _PREVIOUS = f"{_OURS}commit", f"{_OURS}previous"
_OF_FILE_SYSTEMS = frozenset({"lost+found", ".DS_Store", "System Volume Information", ".snapshot"})
"""Entries that file systems and desktops make by themselves; they stay."""


def entries(folder: Path) -> list[Path]:
    """The content of a folder, without what file systems make by themselves and without our hidden names."""
    return [
        entry for entry in folder.iterdir() if entry.name not in _OF_FILE_SYSTEMS and not entry.name.startswith(_OURS)
    ]


def must_stay(target: Path) -> bool:
    """Whether an existing folder cannot, or should not, be replaced by a rename."""
    if not target.is_dir() or target.is_symlink():
        return False
    if os.path.ismount(target) or not os.access(target.parent, os.W_OK | os.X_OK):
        return True
    if any(entry.name.startswith(_OURS) or entry.name in _OF_FILE_SYSTEMS for entry in target.iterdir()):
        return True
    try:
        return Path.cwd().is_relative_to(target)
    except OSError:  # the current folder has gone
        return False


class Journal:
    """New content of a folder; a context manager that yields the hidden folder to fill.

    Without `commit` the content is removed at the end of the block, and the folder is as it was.

    Args:
        target: the folder, under its lock.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial = target / f"{_OURS}{uuid.uuid4().hex[:12]}.partial"

    def __enter__(self) -> Path:
        self._partial.mkdir()
        return self._partial

    def commit(self) -> None:
        """Replace the content of the folder by the new one."""
        previous = self._target / _PREVIOUS
        old = entries(self._target)
        try:
            if old:
                previous.mkdir()
                for entry in old:
                    entry.rename(previous / entry.name)
            self._partial.rename(self._target / _COMMIT)
        except BaseException:
            _move_up(previous, self._target)
            raise
        recover(self._target)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


def recover(target: Path) -> None:
    """Complete or undo what a run that was killed left in a folder; only under its lock."""
    commit, previous = target / _COMMIT, target / _PREVIOUS
    if commit.is_dir():
        _move_up(commit, target)
        shutil.rmtree(previous, ignore_errors=True)
    else:
        _move_up(previous, target)
    for entry in target.iterdir():
        if entry.name.startswith(_OURS) and entry.name.endswith(".partial"):
            shutil.rmtree(entry, ignore_errors=True)


def _move_up(source: Path, target: Path) -> None:
    if source.is_dir():
        for entry in source.iterdir():
            entry.rename(target / entry.name)
        source.rmdir()
