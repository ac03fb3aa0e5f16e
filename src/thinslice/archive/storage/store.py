"""Stores of objects that speak the language of S3: lists, beginnings of objects, whole objects, objects made once.

All by s3fs, an fsspec file system. Credentials come from where every client of S3 looks: the environment
(AWS_ACCESS_KEY_ID and so on), a profile (AWS_PROFILE), or the machine's role; the address of another store than
Amazon's from AWS_ENDPOINT_URL. None of them is ever stored or printed.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thinslice.errors import (
    MissingExtraError,
    OutputError,
    ThinsliceError,
    UnreachableError,
    UnreadableError,
    UsageError,
)

SCHEME = "s3://"

AT_ONCE = 16
"""Objects that are fetched or written at the same time."""

CONNECT_S, READ_S = 10, 60
"""Longest wait for a connection and for an answer."""

RETRIES = 3
"""Requests before a fault of the network is reported; the queue tries the job again later."""

Use = Literal["read", "write"]


def is_store(place: str | Path) -> bool:
    """Whether a place is in a store of objects.

    >>> is_store("s3://bucket/ct"), is_store("/data/ct")
    (True, False)
    """
    return str(place).startswith(SCHEME)


def checked_url(text: str) -> str:
    """The URL of a bucket or of a prefix in it, without a slash at its end.

    Raises:
        UsageError: it has no bucket, or parts such as "..".

    >>> checked_url("s3://scans/ct/")
    's3://scans/ct'
    """
    place = text.removeprefix(SCHEME).rstrip("/")
    if not is_store(text) or any(part in ("", ".", "..") for part in place.split("/")):
        raise UsageError(f"{text!r} is no place in a store; write s3://BUCKET/PREFIX.")
    return f"{SCHEME}{place}"


@dataclass(frozen=True)
class Listed:
    """One object of a list.

    Attributes:
        name: in its folder, or its whole path below the root of the store for `ObjectStore.below`.
        size: bytes.
        changed_ns: time of its last change, nanoseconds since 1970.
        tag: digest of its ETag, below 0.
    """

    name: str
    size: int
    changed_ns: int
    tag: int

    @property
    def stamp(self) -> tuple[int, int, int]:
        """As `thinslice.archive.read_folder.Stamp`; the ETag stands where a local file has its inode."""
        return self.size, self.changed_ns, self.tag


class ObjectStore:
    """The objects below a prefix; one for each process.

    Args:
        url: as `checked_url` gives it.

    Raises:
        MissingExtraError: s3fs is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            import s3fs
        except ModuleNotFoundError:
            raise MissingExtraError(
                'Stores of objects need more packages; in a clone of the repository: pip install ".[s3]".'
            ) from None
        self.url = url
        self._root = url.removeprefix(SCHEME)
        settings = {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "retries": {"max_attempts": 1}}
        with store_errors("read"):
            self._files = s3fs.S3FileSystem(
                skip_instance_cache=True, use_listings_cache=False, config_kwargs=settings, max_concurrency=AT_ONCE
            )
        self._files.retries = RETRIES

    def require(self, use: Use) -> None:
        """Refuse a store that cannot be used, before any work.

        Args:
            use: "write" tries, too, that an object can be made once only, which results rely on.

        Raises:
            UnreadableError: for "read": no credentials, no right to read, or no such bucket.
            OutputError: the same for "write", or a store that lets an object be made twice.
            UnreachableError: it does not answer.
        """
        bucket, _, prefix = self._root.partition("/")
        with store_errors(use):
            found = self._files.call_s3(
                "list_objects_v2", Bucket=bucket, MaxKeys=1, Prefix=f"{prefix}/" if prefix else ""
            )
        if use == "read" and not found.get("Contents"):
            raise UnreadableError(f"There is nothing at {self.url!r}; check the URL, and AWS_ENDPOINT_URL.")
        if use == "write":
            probe = f".thinslice/once-{uuid.uuid4().hex[:12]}"
            is_made_once = self.make_once(probe, b"1") and not self.make_once(probe, b"2")
            self.remove([probe])
            if not is_made_once:
                raise OutputError(
                    "The store does not refuse to make an object twice (If-None-Match), so no result in it would be "
                    "safe; choose another store, or a folder."
                )

    # Reading

    def folder(self, folder: str) -> tuple[list[str], list[Listed]]:
        """Folders and objects directly in a folder, "" for the root."""
        with store_errors("read"):
            found = self._files.ls(self._path(folder), detail=True, refresh=True)
        folders = [entry["name"].rpartition("/")[2] for entry in found if entry["type"] == "directory"]
        # A key that ends in a slash marks a folder.
        return [name for name in folders if name], [
            _listed(entry, entry["name"].rpartition("/")[2])
            for entry in found
            if entry["type"] == "file" and entry["name"].rpartition("/")[2] and not entry["Key"].endswith("/")
        ]

    def below(self, folder: str) -> list[Listed]:
        """Every object below a folder."""
        with store_errors("read"):
            found = self._files.find(self._path(folder), detail=True, refresh=True)
        start = len(self._root) + 1
        return [_listed(entry, name[start:]) for name, entry in found.items()]

    def heads(self, names: Sequence[str], head_bytes: int) -> list[bytes | ThinsliceError]:
        """The first bytes of objects that are not empty; an error in place of those that could not be read."""
        paths = [self._path(name) for name in names]
        with store_errors("read"):
            found = self._files.cat_ranges(
                paths, 0, [head_bytes] * len(paths), on_error="return", batch_size=AT_ONCE, max_gap=None
            )
        return [bytes(each) if isinstance(each, bytes | bytearray) else _fault(each, "read") for each in found]

    def read(self, name: str) -> bytes | None:
        """A small object; None where there is none."""
        try:
            with store_errors("read", missing=True):
                return bytes(self._files.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def fetch(self, names: Sequence[str], targets: Sequence[Path]) -> None:
        """Whole objects as files.

        Raises:
            UnreadableError: one is gone, or may not be read.
            UnreachableError: the store does not answer.
            OSError: a file cannot be written.
        """
        with store_errors("read"):
            self._files.get([self._path(name) for name in names], [str(path) for path in targets], batch_size=AT_ONCE)

    # Writing

    def put(self, files: Sequence[Path], names: Sequence[str]) -> None:
        """Write files as objects."""
        with store_errors("write"):
            self._files.put([str(path) for path in files], [self._path(name) for name in names], batch_size=AT_ONCE)

    def make_once(self, name: str, content: bytes) -> bool:
        """Make an object unless there is one of this name; returns whether this call made it."""
        try:
            with store_errors("write", exists=True):
                self._files.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            # An answer that was lost makes the client ask again, and be refused by its own object.
            return self.read(name) == content
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, as far as they are there."""
        paths = [self._path(name) for name in names]
        if paths:
            with store_errors("write"):
                for path in paths:
                    self._files.rm_file(path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


@contextmanager
def store_errors(use: Use, *, missing: bool = False, exists: bool = False) -> Iterator[None]:
    """Turn the errors of a store into those of thinslice; they quote keys, which may name a patient.

    Args:
        use: what the store was asked for.
        missing, exists: whether FileNotFoundError, or FileExistsError, passes.

    Raises:
        UnreadableError, OutputError: no credentials, no right, no such bucket or object.
        UnreachableError: the store does not answer, or is overloaded; the same may succeed later.
    """
    try:
        yield
    except ThinsliceError:
        raise
    except FileNotFoundError as error:
        if missing:
            raise
        raise _fault(error, use) from None
    except FileExistsError as error:
        if exists:
            raise
        raise _fault(error, use) from None
    except OSError as error:
        if error.filename is not None:  # a file of this machine
            raise
        raise _fault(error, use) from None
    except Exception as error:
        raise _fault(error, use) from None


NO_CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError", "NoAuthTokenError"}
    | {"TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError", "InvalidConfigError"}
)
"""Errors of botocore, which is not imported for their names alone."""


def _fault(error: BaseException, use: Use) -> ThinsliceError:
    kind: type[ThinsliceError] = UnreadableError if use == "read" else OutputError
    if type(error).__name__ in NO_CREDENTIALS:
        return kind(
            "There are no credentials for the store; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if isinstance(error, PermissionError):
        what = "read" if use == "read" else "write"
        return kind(f"The store refuses to let these credentials {what} there; check them, and the bucket's policy.")
    if isinstance(error, FileNotFoundError):
        return kind("The store has no such bucket or object; check the URL, and AWS_ENDPOINT_URL.")
    return UnreachableError(
        f"The store does not answer as it should ({type(error).__name__}); check the network and AWS_ENDPOINT_URL, and "
        "try again."
    )


def _listed(entry: dict[str, Any], name: str) -> Listed:
    changed = entry["LastModified"]
    tag = hashlib.sha256(str(entry.get("ETag", "")).encode()).digest()[:7]
    changed_ns = int(changed.timestamp() * 1000) * 1_000_000
    return Listed(name, int(entry["size"]), changed_ns, -1 - int.from_bytes(tag, "big"))
