"""Pairs as memory-mapped arrays: random cubes are read without decompressing whole volumes each time.

Each case has one file with its HU, uncompressed, in a folder outside the data set, which may be read-only. A file is
built once, appears whole or not at all, and is rebuilt when its source has changed or its checksums fail. It is named
by the content of its source, so a data set that was moved finds its files again. Files that nobody has used for
`KEPT_DAYS` are removed. Several processes may request the same cases at the same time; they share the work.

The files are in the safetensors layout (https://github.com/huggingface/safetensors): the length of a JSON header, the
header, and two tensors, "thick" and "thin". The header's metadata holds the other facts.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.data.manifest import Case, Pair, content_mark, read_pair
from thinslice.errors import OutputBusyError, OutputError
from thinslice.geometry import Geometry
from thinslice.system import user_cache
from thinslice.system.atomic import atomic_file, output_errors
from thinslice.system.resources import require_disk
from thinslice.typing import Progress
from thinslice.volume import Volume

VERSION = 3
"""Version of the files' content; files of another version are rebuilt."""

SUFFIX = ".safetensors"

KEPT_DAYS = 90
"""Days after which a file that nobody has used is removed, when another one is built."""

_FOLDER = "pairs"

_TENSORS = ("thick", "thin")
_DTYPES: dict[str, np.dtype[Any]] = {"I16": np.dtype("<i2"), "F32": np.dtype("<f4")}
_ALIGNMENT = 64
_MAX_HEADER_BYTES = 1 << 20
_PIECE_BYTES = 16 << 20
"""Bytes of a piece with its own checksum, so that several threads can check a file."""

_CHECKERS = 4
_WAIT_S = 0.2

_checked: dict[Path, tuple[int, int, int]] = {}
"""Files whose checksums this process has verified -> (inode, size, time of change) at that time."""


@dataclass(frozen=True, eq=False)
class CachedPair:
    """A pair on disk, mapped into memory.

    Pickling transfers only the path, not the voxels.

    Attributes:
        case_id: name of the case.
        thick: (D, height, width) HU, int16 or float32, read-only.
        thin: ((D - 1) * factor + 1, height, width) HU, int16 or float32, read-only.
        factor: thin slices per thick interval; thick slice k is centred on thin slice factor * k.
        relative_thickness: thickness of the thick slices over their distance; 1.0 where the thickness is unknown.
        path: cache file.
        thin_spacing_mm: distance of thin voxels along (depth, height, width), mm; those of released files, which lack
            it, are 1 mm apart in depth, and in plane None.
        thickness_mm: of the thick slices; None where unknown.
        digest: of the voxels of both (`voxels_digest`), whatever file they came from.
    """

    case_id: str
    thick: npt.NDArray[Any]
    thin: npt.NDArray[Any]
    factor: int
    relative_thickness: float
    path: Path
    thin_spacing_mm: tuple[float, float | None, float | None] = (1.0, None, None)
    thickness_mm: float | None = None
    digest: str = ""

    def volumes(self, plane: tuple[slice, slice] = (slice(None), slice(None))) -> tuple[Volume, Volume]:
        """Thick and thin volume on one grid, whose origin is that of neither file.

        Args:
            plane: part in (height, width).
        """
        step, height_mm, width_mm = self.thin_spacing_mm
        thick, thin = (np.ascontiguousarray(voxels[(slice(None), *plane)]) for voxels in (self.thick, self.thin))
        thick_grid = Geometry(thick.shape, (step * self.factor, height_mm, width_mm), thickness_mm=self.thickness_mm)
        return Volume(thick, thick_grid), Volume(thin, Geometry(thin.shape, self.thin_spacing_mm))

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path,)


@functools.cache
def pairs_folder() -> Path:
    """The folder of cached pairs in the user's cache; a temporary one, removed at the end, where nothing is kept.

    `thinslice.system.user_cache.VARIABLE` names another place for the user's cache.
    """
    kept = user_cache.cache_folder()
    if kept is not None:
        return kept / _FOLDER
    temporary = Path(tempfile.mkdtemp(prefix="thinslice-pairs-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return temporary


def cached_pairs(cases: Sequence[Case], folder: str | Path, *, progress: Progress | None = None) -> list[CachedPair]:
    """The cases as memory-mapped arrays; missing cache files are built.

    When a process opens a file for the first time, it reads the whole file and verifies its checksums.

    Args:
        cases: cases with thick and thin slices.
        folder: folder of the cache, created when missing; several data sets may share it.
        progress: called with (cases ready, cases in all).

    Returns:
        One pair for each case, in the same order.

    Raises:
        InputError: as `read_pair`, with the name of the case: damaged, incomplete or misaligned pairs are not cached.
        ResourceError: when memory or disk is short; free some space, then run again.
        OutputError: when the folder cannot be written; choose another.
    """
    folder = Path(folder)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    found: dict[int, CachedPair] = {}
    waiting = list(range(len(cases)))
    while waiting:
        busy: list[int] = []
        for index in waiting:
            try:
                found[index] = _ready(cases[index], folder)
            except OutputBusyError:
                # Another process builds this file: build others first.
                busy.append(index)
                continue
            if progress is not None:
                progress(len(found), len(cases))
        if len(busy) == len(waiting):
            time.sleep(_WAIT_S)
        waiting = busy
    return [found[index] for index in range(len(cases))]


def cache_path(case: Case, folder: Path) -> Path:
    """Path of a case's file in a cache; it depends on the name of the case and the content of its files."""
    marks = [case.case_id, *("" if path is None else content_mark(path) for path in (case.thick, case.thin))]
    return folder / f"{_stem(case)}-{hashlib.sha256(chr(10).join(marks).encode()).hexdigest()[:12]}{SUFFIX}"


def _stem(case: Case) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", case.case_id)[:60].lstrip(".")


def _place(case: Case) -> str:
    """Digest of the paths of a case's files."""
    paths = f"{case.thick and case.thick.resolve()}\n{case.thin.resolve()}"
    return hashlib.sha256(paths.encode()).hexdigest()[:16]


def _remove_outdated(case: Case, path: Path) -> None:
    """Remove the file of the same source as it was before, and those that nobody has used for long."""
    oldest = time.time() - KEPT_DAYS * 86400.0
    for other in path.parent.glob(f"*{SUFFIX}"):
        try:
            before = (
                other.name.startswith(_stem(case)) and other != path and _metadata(other).get("place") == _place(case)
            )
            if before or other.stat().st_atime < oldest:
                other.unlink()
        except (OSError, ValueError, LookupError, TypeError):
            # No cache file, or another process was faster.
            continue


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        metadata: dict[str, str] = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))["__metadata__"]
    return metadata


class _BuiltMeanwhileError(Exception):
    """Another process finished the file before this one had its lock."""


def _ready(case: Case, folder: Path) -> CachedPair:
    path, identity = cache_path(case, folder), _identity(case)
    pair = _open(path, identity)
    if pair is not None:
        return pair
    try:
        with atomic_file(path, overwrite=True) as partial:
            if _open(path, identity) is not None:
                raise _BuiltMeanwhileError
            _write(read_pair(case), identity, _place(case), partial)
        _remove_outdated(case, path)
    except _BuiltMeanwhileError:
        pass
    pair = _open(path, identity)
    if pair is None:
        raise OutputError(
            f"The cache file of case {case.case_id} differs from what was written; check the disk, or choose "
            "another folder for the cache."
        )
    return pair


def _identity(case: Case) -> str:
    """Text that identifies the source of a case and changes when the source changes."""
    parts = [str(VERSION), case.case_id, case.layout, str(case.thick_thickness_mm)]
    for path in (case.thick, case.thin):
        if path is not None:
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            times = [file.stat().st_mtime_ns for file in files if file.exists()]
            parts.append(f"{content_mark(path)} {max(times, default=0)}")
    return "\n".join(parts)


def _write(pair: Pair, identity: str, place: str, path: Path) -> None:
    volumes = {"thick": pair.thick.hu, "thin": pair.thin.hu}
    arrays = {name: np.ascontiguousarray(hu, dtype=hu.dtype.newbyteorder("<")) for name, hu in volumes.items()}
    grid = pair.thick.geometry
    header: dict[str, Any] = {}
    offset = 0
    for name, array in arrays.items():
        kind = next(kind for kind, dtype in _DTYPES.items() if dtype == array.dtype)
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    metadata = {
        "identity": hashlib.sha256(identity.encode()).hexdigest(),
        "place": place,
        "case_id": pair.case_id,
        "factor": str(pair.factor),
        "relative_thickness": repr(1.0 if grid.thickness_mm is None else grid.thickness_mm / grid.spacing_mm[0]),
        "thickness_mm": json.dumps(grid.thickness_mm),
        "thin_spacing_mm": json.dumps(pair.thin.geometry.spacing_mm),
        "digest": voxels_digest(*arrays.values()),
        "checksums": json.dumps({name: _checksums(array) for name, array in arrays.items()}),
    }
    metadata["seal"] = _seal(header, metadata)
    head = json.dumps({**header, "__metadata__": metadata}).encode()
    head += b" " * (-(8 + len(head)) % _ALIGNMENT)
    require_disk(path, 8 + len(head) + offset)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for array in arrays.values():
            file.write(array.reshape(-1).view(np.uint8).data)


def _open(path: Path, identity: str | None) -> CachedPair | None:
    """The pair in a file; None where the file is missing, damaged or of another source."""
    try:
        with path.open("rb") as file:
            status = path.stat()
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _MAX_HEADER_BYTES:
                return None
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__")
        if metadata["seal"] != _seal(header, {k: v for k, v in metadata.items() if k != "seal"}):
            return None
        if identity is not None and metadata["identity"] != hashlib.sha256(identity.encode()).hexdigest():
            return None
        if status.st_size != 8 + length + max(header[name]["data_offsets"][1] for name in _TENSORS):
            return None
        arrays = {
            name: np.memmap(
                path,
                dtype=_DTYPES[header[name]["dtype"]],
                mode="r",
                offset=8 + length + header[name]["data_offsets"][0],
                shape=tuple(header[name]["shape"]),
            )
            for name in _TENSORS
        }
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if _checked.get(path) != stamp:
            if json.loads(metadata["checksums"]) != {name: _checksums(array) for name, array in arrays.items()}:
                return None
            _checked[path] = stamp
            _mark_used(path, status)
        factor, thickness = int(metadata["factor"]), float(metadata["relative_thickness"])
        depth_mm, height_mm, width_mm = json.loads(metadata["thin_spacing_mm"])
        spacing = (depth_mm, height_mm, width_mm)
        return CachedPair(
            metadata["case_id"],
            arrays["thick"],
            arrays["thin"],
            factor,
            thickness,
            path,
            spacing,
            json.loads(metadata["thickness_mm"]),
            metadata["digest"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Missing, or not a cache file: it is built.
        return None


def _mark_used(path: Path, status: os.stat_result) -> None:
    """Set the time of use, which many file systems do not record; the time of change stays."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))


def _reopen(path: Path) -> CachedPair:
    pair = _open(path, None)
    if pair is None:
        raise OutputError(f"The cache file {path.name!r} is missing or damaged; start again, so that it is rebuilt.")
    return pair


def voxels_digest(*volumes: npt.NDArray[Any]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of volumes, with their shapes and types.

    A case has the same digest wherever its files lie and however they are compressed.

    >>> voxels_digest(np.zeros((2, 1, 1), dtype=np.int16)) == voxels_digest(np.zeros((1, 2, 1), dtype=np.int16))
    False
    """
    digest = hashlib.sha256()
    for volume in volumes:
        little = np.ascontiguousarray(volume, dtype=volume.dtype.newbyteorder("<"))
        digest.update(f"{little.dtype.str} {little.shape}\n".encode())
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _checksums(array: npt.NDArray[Any]) -> list[int]:
    flat = array.reshape(-1).view(np.uint8)
    with ThreadPoolExecutor(_CHECKERS) as pool:
        return list(
            pool.map(lambda at: zlib.crc32(flat[at : at + _PIECE_BYTES].data), range(0, flat.size, _PIECE_BYTES))
        )


def _seal(header: dict[str, Any], metadata: dict[str, str]) -> str:
    """Checksum of the header and the other metadata."""
    return hashlib.sha256(json.dumps([header, metadata], sort_keys=True).encode()).hexdigest()[:16]
