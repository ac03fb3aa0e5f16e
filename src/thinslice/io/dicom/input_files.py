"""Files of a DICOM input, from folders, files and zip archives: opened one at a time, never extracted.

Suffixes are not considered, and no name found in the input is ever used to build a path.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from thinslice.errors import UnreadableError

MAX_FILES = 200_000
"""Most files in one input; a folder with more is surely the wrong one."""

MAX_MEMBER_BYTES = 64 * 2**20
"""Largest zip member that is unpacked (in memory): twice a 4096 x 4096 slice of 16 bits."""

MAX_ZIP_BYTES = 16 * 2**30
"""Largest sum of unpacked sizes that a zip may declare."""

MAX_ZIP_RATIO = 100.0
"""Largest ratio of unpacked to packed size of a whole zip above `RATIO_FREE_BYTES`; CT packs by 2 to 4."""

RATIO_FREE_BYTES = 256 * 2**20
"""Zips that declare less than this are accepted with any ratio."""

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
    """One file, or one member of a zip archive.

    Attributes:
        path: the file, or the archive.
        member: index of the member in the archive's directory, or None for a plain file.
        name: base name, safe to show.
        size: bytes when opened.
    """

    path: Path
    member: int | None
    name: str
    size: int

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open for reading; a zip member is unpacked in memory within `MAX_MEMBER_BYTES`.

        Raises:
            OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError: as Python's file and zip
                readers do; callers list the file as skipped.
        """
        if self.member is None:
            with self.path.open("rb") as stream:
                yield stream
            return
        with zipfile.ZipFile(self.path) as archive:
            yield _unpack(archive, archive.infolist()[self.member])


@dataclass(frozen=True)
class SkippedFile:
    """A file that was left out, with the reason; `str()` shows it in reports."""

    name: str
    reason: str

    @property
    def may_be_slice(self) -> bool:
        """Whether a slice may have been lost with this file; a file of another kind loses nothing."""
        return self.reason != "not DICOM"

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


UNPACK_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError)
"""Exceptions of a damaged, encrypted or exotic zip member."""


def input_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, most: int = MAX_FILES
) -> Iterator[InputFile]:
    """Every file of the input, in a stable order, each once.

    Args:
        paths: a folder (walked recursively, links to folders not followed), a file, a zip, or several of these.
        most: files that one input may have.

    Raises:
        UnreadableError: a path that does not exist, a zip that is damaged or a bomb, or more than `most` files; check
            the path, or name the folder of one study.
    """
    seen: set[tuple[int, int] | str] = set()
    count = 0
    for path in [paths] if isinstance(paths, str | os.PathLike) else list(paths):
        for file, identity in _expand(Path(path)):
            if identity in seen:
                continue
            seen.add(identity)
            count += 1
            if count > most:
                raise UnreadableError(f"The input holds more than {most} files; name the folder of one study.")
            yield file


def is_zip(path: Path) -> bool:
    """Whether the file's content is a zip archive.

    Raises:
        OSError: when the file cannot be opened.
    """
    with path.open("rb") as stream:
        return stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06") and zipfile.is_zipfile(stream)


def _expand(path: Path) -> Iterator[tuple[InputFile, tuple[int, int] | str]]:
    name = printable(path.name)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise UnreadableError(f"There is no readable file or folder named {name!r}; check the path.") from error
    if stat.S_ISDIR(mode):
        for folder, folders, files in os.walk(path):
            folders.sort()
            for file in sorted(files):
                found = _plain(Path(folder, file))
                if found:
                    yield found
        return
    if not stat.S_ISREG(mode):
        raise UnreadableError(f"{name!r} is neither a file nor a folder; name a DICOM file, folder or zip.")
    try:
        zipped = is_zip(path)
    except OSError as error:
        raise UnreadableError(f"{name!r} cannot be opened ({type(error).__name__}); check its permissions.") from error
    if zipped:
        yield from _members(path)
        return
    found = _plain(path)
    if found:
        yield found


def _plain(path: Path) -> tuple[InputFile, tuple[int, int]] | None:
    """A regular file; None for pipes, sockets and dangling links, which could block or raise on opening."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return InputFile(path, None, printable(path.name), status.st_size), (status.st_dev, status.st_ino)


def _members(path: Path) -> Iterator[tuple[InputFile, str]]:
    name = printable(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except UNPACK_ERRORS as error:
        raise UnreadableError(f"The zip {name!r} is damaged; get it again, or unpack it yourself.") from error
    declared = sum(member.file_size for member in members)
    packed = max(1, sum(member.compress_size for member in members))
    # Members that overlap count each time, so the trick of many members over one packed block is caught here too.
    if declared > MAX_ZIP_BYTES or (declared > RATIO_FREE_BYTES and declared / packed > MAX_ZIP_RATIO):
        raise UnreadableError(
            f"The zip {name!r} declares {declared / 2**30:.1f} GiB unpacked from {packed / 2**20:.1f} MiB, more than "
            "CT can; it is refused as a decompression bomb, so get the archive again or unpack it yourself."
        )
    real = f"{path.resolve()}"
    for index, member in enumerate(members):
        if not member.is_dir():
            shown = printable(member.filename.replace("\\", "/").rsplit("/", 1)[-1])
            yield InputFile(path, index, shown, member.file_size), f"{real}#{index}"


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    if member.file_size > MAX_MEMBER_BYTES:
        raise zipfile.BadZipFile("member too large")
    with archive.open(member) as stream:
        # The declared size may be wrong: read one byte more than allowed and no further.
        data = stream.read(MAX_MEMBER_BYTES + 1)
    if len(data) > MAX_MEMBER_BYTES:
        raise zipfile.BadZipFile("member larger than it says")
    return io.BytesIO(data)
