"""A header and its voxels in two files that change as one.

Two files cannot be renamed at once. The file of voxels is therefore named by its content, and the header, renamed last,
names it: whenever a run is killed, the header that is there belongs to the voxels that it names. Voxels that no header
names are removed by the next run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from thinslice.errors import OutputBusyError, UnreadableError
from thinslice.io.voxel_section import TextHeader
from thinslice.system.atomic import atomic_file, sole_run, sync

DIGEST_BYTES = 6
"""Of the digest in the name of a file of voxels."""

SUFFIX = ".zraw"
"""Of zlib voxels, as MetaIO names them."""

_LONGEST_STEM = 220


class Hashed:
    """A file whose bytes are counted and digested as they are written.

    Attributes:
        count: bytes written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self.count = 0

    def write(self, data: bytes | memoryview) -> None:
        """Write the next bytes."""
        self._hash.update(data)
        self.count += len(memoryview(data).cast("B"))
        self._file.write(data)

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    @property
    def digest(self) -> str:
        """Of all bytes so far, in hexadecimal digits."""
        return self._hash.hexdigest()


@dataclass
class Pair:
    """The two files of a pair while they are made.

    Attributes:
        header: final path of the header.
        header_partial, voxel_partial: where to write them.
        voxels: final path of the voxels, once named.
    """

    header: Path
    header_partial: Path
    voxel_partial: Path
    voxels: Path | None = field(default=None, init=False)

    def name_voxels(self, digest: str) -> str:
        """Put the finished voxels in place; the header may name them from now on.

        Returns:
            The name of their file.
        """
        self.voxels = self.header.with_name(f"{_stem(self.header)}.{digest}{SUFFIX}")
        sync(self.voxel_partial)
        self.voxel_partial.replace(self.voxels)
        return self.voxels.name


@contextmanager
def paired_files(header: Path, *, overwrite: bool) -> Iterator[Pair]:
    """Write a header and its voxels so that both appear, or neither.

    Args:
        header: the header to make, which names its voxels with ElementDataFile.
        overwrite: replace a pair that is there, once the new one is complete.

    Yields:
        The places to write to. The caller writes the voxels, names them, and writes the header.

    Raises:
        OutputExistsError, OutputError, OutputBusyError, ResourceError: as `atomic_file`.
    """
    before = _named_by(header)
    pair: Pair | None = None
    try:
        with atomic_file(header, overwrite=overwrite) as partial:
            _remove_unnamed(header)
            token = partial.name.partition(".partial.")[0]
            sibling = partial.name.replace(token, f".{uuid.uuid4().hex[:12]}", 1)
            pair = Pair(header.resolve(), partial, partial.with_name(sibling))
            yield pair
    except BaseException:
        if pair is not None:
            pair.voxel_partial.unlink(missing_ok=True)
            if pair.voxels is not None and _named_by(header) != pair.voxels:
                pair.voxels.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OutputBusyError), sole_run(header):
        named = _named_by(header)
        # A pair of an older version, or of another writer, had a .raw that the header no longer names.
        if before is not None and before != named and before.stem == header.resolve().stem:
            before.unlink(missing_ok=True)
        _remove_unnamed(header)


def _stem(header: Path) -> str:
    """The header's name without suffix; one that leaves no room for a digest of the voxels ends in its own."""
    stem = header.resolve().stem
    encoded = os.fsencode(stem)
    if len(encoded) <= _LONGEST_STEM:
        return stem
    kept = encoded[: _LONGEST_STEM - 2 * DIGEST_BYTES].decode("utf-8", "ignore")
    return kept + hashlib.blake2b(encoded, digest_size=DIGEST_BYTES).hexdigest()


def _named_by(header: Path) -> Path | None:
    """The file of voxels that a header names; None without a readable header, and for voxels in the header's file."""
    header = header.resolve()
    try:
        named = TextHeader.read(header).data_path()
    except UnreadableError:
        return None
    return None if named == header else named


def _remove_unnamed(header: Path) -> None:
    """Remove files of voxels that runs on this header were killed beside; only under its lock."""
    named, header = _named_by(header), header.resolve()
    pattern = re.compile(rf"{re.escape(_stem(header))}\.[0-9a-f]{{{2 * DIGEST_BYTES}}}{re.escape(SUFFIX)}")
    for sibling in header.parent.iterdir():
        if pattern.fullmatch(sibling.name) and sibling != named:
            sibling.unlink(missing_ok=True)
