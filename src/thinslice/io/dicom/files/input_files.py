"""Files of a DICOM input, from folders, files and archives: opened one at a time, never unpacked to a path.

Suffixes are not considered, and no name found in the input is ever used to build a path.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from thinslice.errors import UnreadableError
from thinslice.io.dicom.files.archives import HEAD_BYTES, NOT_DICOM, Packed, archive_kind, members
from thinslice.io.dicom.files.unpack import PackedError, Part, spooled

MAX_FILES = 200_000
"""Most files in one input; a folder with more is surely the wrong one."""

MAX_NAME_LENGTH = 48
"""Longest file name shown in a message."""


def printable(text: str, length: int = MAX_NAME_LENGTH) -> str:
    """Text from the input made safe to show: no control or escape characters, no line breaks, bounded.

    >>> printable("a\\x1b[31m\\nb")
    'a?[31m?b'
    """
    shown = "".join(c if c.isprintable() else "?" for c in text[: length + 1])
    return shown if len(shown) <= length else shown[: length - 3] + "..."


@dataclass(frozen=True)
class InputFile:
    """One file, or one member of an archive.

    Attributes:
        path: the file, or the outermost archive.
        name: base name, safe to show.
        content: the bytes of a member; None for the file at `path` itself.
        fault: why it cannot be opened, or "".
    """

    path: Path
    name: str
    content: Part | Packed | None = None
    fault: str = ""

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open for reading; a packed member is unpacked within bounds.

        Raises:
            PackedError: a member that is damaged, locked or a bomb.
            OSError: as Python's files do. Callers list the file as skipped in both cases.
        """
        if self.fault:
            raise PackedError(self.fault)
        with self.path.open("rb") if self.content is None else self.content.open() as stream:
            yield stream

    def unpacked(self) -> InputFile:
        """The same file in a form that is opened often at no cost: a packed member becomes a temporary file."""
        if isinstance(self.content, Packed):
            return replace(self, content=spooled(self.content.pieces()))
        return self


@dataclass(frozen=True)
class SkippedFile:
    """A file that was left out, with the reason; `str()` shows it in reports."""

    name: str
    reason: str

    @property
    def may_be_slice(self) -> bool:
        """Whether a slice may have been lost with this file; a file of another kind loses nothing."""
        return self.reason != NOT_DICOM

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


UNPACK_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, PackedError)
"""Exceptions of a file that is damaged or cannot be opened."""


def input_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, most: int = MAX_FILES
) -> Iterator[InputFile]:
    """Every file of the input, in a stable order, each once; those in archives too.

    Args:
        paths: a folder (walked recursively, links to folders not followed), a file, an archive, or several of these.
        most: files that one input may have.

    Raises:
        UnreadableError: a path that does not exist, an archive that is damaged or a bomb, or more than `most` files;
            check the path, or name the folder of one study.
    """
    seen: set[tuple[int, ...]] = set()
    count = 0
    for path in [paths] if isinstance(paths, str | os.PathLike) else list(paths):
        for file, identity in _expand(Path(path)):
            if identity and identity in seen:
                continue
            seen.add(identity)
            count += 1
            if count > most:
                raise UnreadableError(f"The input holds more than {most} files; name the folder of one study.")
            yield file


def _expand(path: Path) -> Iterator[tuple[InputFile, tuple[int, ...]]]:
    name = printable(path.name)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise UnreadableError(f"There is no readable file or folder named {name!r}; check the path.") from error
    if stat.S_ISDIR(status.st_mode):
        closed: list[InputFile] = []
        for folder, folders, files in os.walk(
            path, onerror=lambda error: closed.append(InputFile(path, _base_name(error), None, "may not be read"))
        ):
            folders.sort()
            for file in sorted(files):
                yield from _inside(Path(folder, file))
        yield from ((file, ()) for file in closed)
        return
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError(f"{name!r} is neither a file nor a folder; name a DICOM file, folder or archive.")
    try:
        with path.open("rb") as stream:
            kind = archive_kind(stream.read(HEAD_BYTES))
        if kind is None:
            yield InputFile(path, name), (status.st_dev, status.st_ino)
        else:
            yield from _members(path, kind)
    except OSError as error:
        raise UnreadableError(f"{name!r} cannot be opened ({type(error).__name__}); check its permissions.") from error
    except PackedError as error:
        raise UnreadableError(
            f"The archive {name!r} cannot be read: {error}; get it again, or unpack it yourself."
        ) from error


def _base_name(error: OSError) -> str:
    return printable(os.path.basename(str(error.filename or "a folder")))  # noqa: PTH119


def _inside(path: Path) -> Iterator[tuple[InputFile, tuple[int, ...]]]:
    """A regular file, or the members of the archive that it is; none for pipes, sockets and dangling links.

    Pipes could block on opening. An archive that cannot be read becomes a faulty file.
    """
    try:
        status = path.stat()
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        return
    plain = InputFile(path, printable(path.name))
    try:
        with path.open("rb") as stream:
            kind = archive_kind(stream.read(HEAD_BYTES))
        if kind is not None:
            yield from _members(path, kind)
            return
    except PackedError as error:
        plain = replace(plain, fault=str(error))
    except OSError:
        plain = replace(plain, fault="cannot be opened")
    yield plain, (status.st_dev, status.st_ino)


def _members(path: Path, kind: str) -> Iterator[tuple[InputFile, tuple[int, ...]]]:
    status = path.stat()
    for member in members(Part(path, 0, status.st_size), path.name, kind):
        name = printable(member.name or path.name)
        yield InputFile(path, name, member.content, member.fault), (status.st_dev, status.st_ino, *member.place)
