"""A published record by its DOI: names, sizes, checksums and addresses of its files.

pooch finds addresses and checksums by DOI too, but gives no sizes, accepts an error page as a record, and supports only
fixed hosts.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from thinslice.data.download.http import Patience, small_answer
from thinslice.errors import DownloadError, UsageError
from thinslice.options import option
from thinslice.typing import Progress

RPLHR_DOI = "10.5281/zenodo.17239183"
"""RPLHR-CT as released (CC-BY-4.0): train.zip, val.zip, test.zip."""

DOI_RESOLVER = "https://doi.org"
"""Address that redirects a DOI to the page of its record."""

MAX_RECORD_BYTES = 8 << 20
"""Upper limit for a record's page or description."""

CHECKSUMS = ("md5", "sha1", "sha256", "sha512")
"""Supported kinds of checksums."""

HASH_BYTES = 4 << 20

_DOI = re.compile(r"10\.\d{4,9}/[!-~]+")
_NUMBER_AT_END = re.compile(r"(\d+)/?$")


@dataclass(frozen=True)
class RecordFile:
    """One published file.

    Attributes:
        name: file name without a folder.
        size: size in bytes.
        checksum: "md5:..." or another of `CHECKSUMS`, in lower case.
        url: address of the file.
    """

    name: str
    size: int
    checksum: str
    url: str


@dataclass(frozen=True)
class Record:
    """A published record.

    Attributes:
        doi: DOI of the record.
        files: files in the order of the record.
    """

    doi: str
    files: tuple[RecordFile, ...]

    def file(self, name: str) -> RecordFile:
        """The file of a name, whatever its case.

        Raises:
            UsageError: there is no such file; the message lists the files.
        """
        for file in self.files:
            if file.name.lower() == name.lower():
                return file
        raise UsageError(
            f"The record has no file {name!r}, only {', '.join(sorted(file.name for file in self.files)) or 'none'}; "
            f"choose another {option('splits')} or {option('doi')}."
        )


def find_record(doi: str, *, resolver: str = DOI_RESOLVER, patience: Patience | None = None) -> Record:
    """Fetch the description of a record from its archive.

    The resolver redirects to the record's page; the archive's public interface is on the same host, under
    /api/records/NUMBER (InvenioRDM, as Zenodo runs it).

    Args:
        doi: DOI of the record, such as `RPLHR_DOI`.
        resolver: address that turns a DOI into the page of its record.
        patience: time limits and number of tries.

    Raises:
        UsageError: `doi` is not a DOI.
        DownloadError: the record cannot be reached, or the answer does not describe a record; check network and DOI.
    """
    patience = patience or Patience(tries=4)
    doi = doi.removeprefix("doi:")
    if not _DOI.fullmatch(doi):
        raise UsageError(f"{doi[:80]!r} is not a DOI; it looks like {RPLHR_DOI}.")
    page, _ = small_answer(f"{resolver.rstrip('/')}/{quote(doi, safe='/')}", patience, MAX_RECORD_BYTES)
    number = _NUMBER_AT_END.search(urlsplit(page).path)
    if number is None:
        raise DownloadError(f"The DOI {doi} does not lead to a record of a supported archive; check it.")
    _, body = small_answer(urljoin(page, f"/api/records/{number.group(1)}"), patience, MAX_RECORD_BYTES)
    try:
        files = json.loads(body)["files"]
        return Record(doi, tuple(_file(entry) for entry in files))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DownloadError(
            f"The archive's answer does not describe the record {doi}; try again later, or update thinslice."
        ) from error


def _file(entry: dict[str, Any]) -> RecordFile:
    """A file of the record, from the older or newer form of the interface."""
    name, size = entry.get("key", entry.get("filename")), entry.get("size", entry.get("filesize"))
    checksum = str(entry["checksum"]).lower()
    if ":" not in checksum:
        checksum = f"md5:{checksum}"
    links = entry["links"]
    url = links.get("content") or (links["self"] if "key" in entry else links["download"])
    kind, _, digest = checksum.partition(":")
    if kind not in CHECKSUMS or not re.fullmatch(r"[0-9a-f]+", digest):
        raise ValueError("checksum")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError("size")
    if not isinstance(name, str) or not re.fullmatch(r"[\w. +()-]{1,200}", name) or name.startswith("."):
        raise ValueError("name")
    if urlsplit(str(url)).scheme not in ("http", "https"):
        raise ValueError("address")
    return RecordFile(name, size, checksum, str(url))


def matches(path: Path, checksum: str, progress: Progress | None = None) -> bool:
    """Whether a file has a checksum.

    Args:
        path: file to check.
        checksum: "md5:..." or another of `CHECKSUMS`.
        progress: called with (bytes read, bytes in all).

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as empty:
    ...     matches(Path(empty.name), "md5:d41d8cd98f00b204e9800998ecf8427e")
    True
    """
    kind, _, digest = checksum.partition(":")
    hasher = hashlib.new(kind, usedforsecurity=False)
    total, done = path.stat().st_size, 0
    if progress is not None:
        progress(done, total)
    with path.open("rb") as file:
        while block := file.read(HASH_BYTES):
            hasher.update(block)
            done += len(block)
            if progress is not None:
                progress(done, total)
    return hasher.hexdigest() == digest
