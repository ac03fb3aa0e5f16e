"""One folder of an archive in a store of objects: as `read_folder`, by the beginnings of its objects.

The beginning of an object is laid down as a file of the whole object's size, whose rest takes no space on the disk, and
read as any other file. Only where the header does not end in it, the whole object is fetched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from thinslice.archive.read_folder import (
    FolderResult,
    FoundFile,
    SeriesRow,
    Stamp,
    add_files,
    changed_files,
    digest_of_listing,
    headers_at,
    rows_of,
)
from thinslice.archive.storage.store import ObjectStore
from thinslice.errors import ThinsliceError, UnreachableError

if TYPE_CHECKING:
    from thinslice.io.dicom.files.header import SliceHeader

HEAD_BYTES = 1 << 16
"""Beginning of an object; the headers of slices are shorter."""

MOST_WHOLE_BYTES = 4 << 30
"""Largest object that is fetched whole for its headers, as an archive file or a long header must be."""


@cache
def store_at(url: str) -> ObjectStore:
    """The store of a process."""
    return ObjectStore(url)


def list_prefix(url: str, folder: str, avoid: Iterable[str] = ()) -> tuple[FolderResult, dict[str, Stamp]]:
    """Names in a folder of a store, as `thinslice.archive.read_folder.list_folder`.

    Raises:
        UnreachableError: the store does not answer.
    """
    result = FolderResult(folder)
    stamps: dict[str, Stamp] = {}
    avoided = set(avoid)
    try:
        folders, objects = store_at(url).folder(folder)
    except UnreachableError:
        raise
    except ThinsliceError:
        result.reason = "may not be read by you" if folder else ""
        folders, objects = [], []
    place = f"{url}/{folder}" if folder else url
    result.subfolders = sorted(name for name in folders if f"{place}/{name}" not in avoided)
    stamps.update((each.name, each.stamp) for each in objects)
    result.total = len(stamps)
    result.digest = digest_of_listing(result, stamps)
    return result, stamps


def read_prefix(
    url: str,
    folder: str,
    salt: bytes,
    *,
    digest: bytes | None,
    known: Mapping[str, Stamp] | None,
    avoid: Iterable[str],
) -> FolderResult:
    """As `thinslice.archive.read_folder.read_folder`."""
    result, stamps = list_prefix(url, folder, avoid)
    changed = changed_files(result, stamps, digest=digest, known=known)
    if changed:
        _add(url, result, salt, changed, stamps, judge=not known)
    return result


def read_objects(url: str, folder: str, salt: bytes, names: list[str]) -> FolderResult:
    """As `thinslice.archive.read_folder.read_files`."""
    result, stamps = list_prefix(url, folder)
    _add(url, result, salt, [name for name in names if name in stamps], stamps, judge=False)
    return result


def judge_objects(url: str, label: str, paths: Iterable[str]) -> list[SeriesRow]:
    """As `thinslice.archive.read_folder.judge`."""
    from thinslice.io.dicom.files.header import quiet_pydicom
    from thinslice.io.dicom.files.object_kinds import series_label

    by_folder: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        by_folder.setdefault(folder, []).append(name)
    headers: list[SliceHeader] = []
    with quiet_pydicom():
        for folder, names in sorted(by_folder.items()):
            _, stamps = list_prefix(url, folder)
            there = [name for name in names if name in stamps]
            with _Beginnings(url, folder, there, stamps) as beginnings:
                for name in there:
                    found = beginnings.headers(name, FoundFile(name, stamps[name]))
                    headers += [header for header in found if series_label(header.dataset) == label]
    return rows_of(headers)


def _add(
    url: str, result: FolderResult, salt: bytes, names: list[str], stamps: Mapping[str, Stamp], *, judge: bool
) -> None:
    with _Beginnings(url, result.folder, names, stamps) as beginnings:
        add_files(result, salt, names, stamps, judge=judge, headers_of=beginnings.headers)


class _Beginnings:
    """Beginnings of objects as files of a folder that is removed at the end, as a context manager."""

    def __init__(self, url: str, folder: str, names: list[str], stamps: Mapping[str, Stamp]) -> None:
        self._store, self._folder, self._stamps = store_at(url), folder, stamps
        self._faults: dict[str, str] = {}
        self._places: dict[str, Path] = {}
        self._names = names
        self._disk = tempfile.TemporaryDirectory(prefix="thinslice-scan-")

    def __enter__(self) -> _Beginnings:
        # Names of objects are never names of files here: they may hold anything.
        root = Path(self._disk.name)
        self._places = {name: root / str(number) for number, name in enumerate(self._names)}
        filled = [name for name in self._names if self._stamps[name][0]]
        heads = self._store.heads([self._path(name) for name in filled], HEAD_BYTES)
        found = dict(zip(filled, heads, strict=True))
        for name in self._names:
            head = found.get(name, b"")
            if isinstance(head, UnreachableError):
                self.__exit__()
                raise head
            if isinstance(head, ThinsliceError):
                self._faults[name] = "may not be read by you, or gone"
                head = b""
            with self._places[name].open("wb") as file:
                file.write(head)
                file.truncate(self._stamps[name][0])
        return self

    def __exit__(self, *raised: object) -> None:
        self._disk.cleanup()

    def headers(self, name: str, file: FoundFile) -> Iterator[SliceHeader]:
        """Headers of an object; why there are none is noted in `file`."""
        if name in self._faults:
            file.reason = self._faults[name]
            return
        place, size = self._places[name], self._stamps[name][0]
        found = list(headers_at(place, file))
        if size > HEAD_BYTES and not _end_in_head(found):
            file.reason = ""
            if size > MOST_WHOLE_BYTES:
                file.reason = "too large to be fetched for its headers"
                return
            self._store.fetch([self._path(name)], [place])
            found = list(headers_at(place, file))
            with place.open("wb"):  # its bytes have been read
                pass
        yield from found

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name


def _end_in_head(headers: list[SliceHeader]) -> bool:
    """Whether the headers of an object, and the first bytes of its pixels, lie in its beginning."""
    starts = [
        header.pixel_start for header in headers if header.file.content is None and header.pixel_start is not None
    ]
    return bool(headers) and len(starts) == len(headers) and min(starts) + 4 <= HEAD_BYTES
