"""RPLHR-CT from its published record to folders on the disk: fetched, checked and unpacked, split by split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from thinslice.data.download.http import Patience
from thinslice.data.download.ranges import DEFAULT_CONNECTIONS, fetch
from thinslice.data.download.record import DOI_RESOLVER, RPLHR_DOI, Record, RecordFile, find_record, matches
from thinslice.data.download.unpack import Unpacked, unpack
from thinslice.errors import DownloadError, OutputExistsError, UnreadableError, UsageError
from thinslice.system.atomic import atomic_file, output_errors, sole_run
from thinslice.system.resources import require_disk
from thinslice.typing import Progress, Transfer

SPLITS = ("train", "val", "test")
"""Of the release, each a zip of its name."""

MOST_CONNECTIONS = 32


@dataclass(frozen=True)
class SplitOutcome:
    """What became of one split.

    Attributes:
        split: its name.
        state: "there" when an earlier run had fetched and checked it, else "new".
        thin: number of 1 mm volumes.
        thick: number of 5 mm volumes.
        warnings: sentences.
    """

    split: str
    state: Literal["there", "new"]
    thin: int
    thick: int
    warnings: tuple[str, ...] = ()


def download(
    out: Path,
    *,
    splits: Sequence[str] = SPLITS,
    doi: str = RPLHR_DOI,
    connections: int = DEFAULT_CONNECTIONS,
    keep_zip: bool = False,
    overwrite: bool = False,
    resolver: str = DOI_RESOLVER,
    patience: Patience | None = None,
    report: Transfer | None = None,
) -> list[SplitOutcome]:
    """Fetch, check and unpack splits of a record, one after the other.

    Interrupted at any point, the same call goes on where it was. A zip that was put into `out` by hand is checked
    and used; without a network its own checksums have to do.

    Args:
        out: folder of the data set, made where needed; each split becomes a folder in it.
        splits: which; SPLIT.zip must be a file of the record.
        doi: of the record.
        connections: ranges fetched at the same time.
        keep_zip: keep each zip beside its folder.
        overwrite: replace a split's folder that this function did not make, or that was changed since.
        resolver: address that turns a DOI into the page of its record.
        patience: time limits and tries.
        report: called as work goes on.

    Returns:
        One outcome for each split.

    Raises:
        UsageError: a split that the record does not have; `connections` out of range.
        DownloadError: the record or a file cannot be fetched, or is not what was published.
        UnreadableError: a zip is damaged, hostile or holds something else.
        OutputExistsError: a split's folder is there and not ours.
        OutputBusyError: another run is at work there.
        ResourceError: the disk does not hold it.
    """
    if not 1 <= connections <= MOST_CONNECTIONS:
        raise UsageError(f"--connections must be 1 to {MOST_CONNECTIONS}, not {connections}.")
    for split in splits:
        if not split.replace("_", "").replace("-", "").isalnum():
            raise UsageError(f"{split[:40]!r} is no name of a split; the release has {', '.join(SPLITS)}.")
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with sole_run(out / "download"):
        chosen = list(dict.fromkeys(splits))
        there = {split: outcome for split in chosen if (outcome := _already(out, split, doi)) is not None}
        missing = [split for split in chosen if split not in there]
        if not overwrite:
            for split in missing:
                _refuse_foreign(out / split)
        record = _record(out, missing, doi, resolver, patience) if missing else None
        if record is not None:
            _require_disk(out, [record.file(f"{split}.zip") for split in missing], keep_zip)
        for split in missing:
            file = None if record is None else record.file(f"{split}.zip")
            archive = out / f"{split}.zip"
            note = _obtain(archive, file, doi, connections, patience, report)
            # The receipt first: a run killed between the two would not know the folder for its own.
            unpacked = unpack(
                archive,
                out / split,
                overwrite=overwrite,
                progress=_labelled(report, "unpacking", split),
                before_appearing=partial(_write_receipt, out, split, doi, file),
            )
            if not keep_zip:
                archive.unlink(missing_ok=True)
            there[split] = _outcome(split, "new", unpacked.files, _notes(note, unpacked))
    return [there[split] for split in chosen]


def _labelled(report: Transfer | None, doing: str, split: str) -> Progress | None:
    return None if report is None else partial(report, f"{doing} {split}.zip")


def _record(out: Path, missing: list[str], doi: str, resolver: str, patience: Patience | None) -> Record | None:
    """The record, or None when it cannot be reached but every zip was brought by hand."""
    try:
        return find_record(doi, resolver=resolver, patience=patience)
    except DownloadError as error:
        if all((out / f"{split}.zip").is_file() for split in missing):
            return None
        raise DownloadError(f"{error} {_by_hand(doi, missing)}") from error


def _by_hand(doi: str, splits: Sequence[str]) -> str:
    zips = ", ".join(f"{split}.zip" for split in splits)
    return (
        f"Or fetch {zips} by hand from the page of DOI {doi} on a machine that can, put them into the output folder, "
        "and run the same command: they are checked and unpacked."
    )


def _obtain(
    archive: Path,
    file: RecordFile | None,
    doi: str,
    connections: int,
    patience: Patience | None,
    report: Transfer | None,
) -> str | None:
    """Have the zip on the disk, whole and checked; a warning where it cannot be."""
    split = archive.stem
    checking = _labelled(report, "checking", split)
    if file is None:
        return (
            f"The record could not be reached, so {archive.name} was not compared with its published checksum, only "
            "with the checksums inside it."
        )
    if archive.is_file():
        if archive.stat().st_size != file.size or not matches(archive, file.checksum, checking):
            raise UnreadableError(
                f"{archive.name!r} was in the output folder already, but it is not the published file; delete it and "
                "run the same command again."
            )
    else:
        try:
            fetch(
                file,
                archive,
                connections=connections,
                patience=patience,
                progress=_labelled(report, "fetching", split),
                checking=checking,
            )
        except DownloadError as error:
            raise DownloadError(f"{error} {_by_hand(doi, [split])}") from error
    for suffix in (".part", ".part.json"):
        archive.with_name(archive.name + suffix).unlink(missing_ok=True)
    return None


def _require_disk(out: Path, files: list[RecordFile], keep_zip: bool) -> None:
    """Refuse to begin what the disk cannot end: all splits unpacked (as large as their zips), and the zips."""
    unpacked = sum(file.size for file in files)
    zips = [file.size for file in files]
    fetched = sum(_allocated(out / f"{file.name}{suffix}") for file in files for suffix in ("", ".part"))
    require_disk(out, max(0, unpacked + (sum(zips) if keep_zip else max(zips)) - fetched))


def _allocated(path: Path) -> int:
    """Bytes that a file takes on the disk; an unfinished one has holes."""
    try:
        status = path.stat()
    except OSError:
        return 0
    return min(status.st_size, getattr(status, "st_blocks", 0) * 512)


def _receipt(out: Path, split: str) -> Path:
    """Says what was unpacked into a split's folder; beside it, so that the folder holds the release alone."""
    return out / f".{split}.downloaded.json"


def _write_receipt(out: Path, split: str, doi: str, file: RecordFile | None, unpacked: Unpacked) -> None:
    told = {"version": 1, "doi": doi, "checksum": None if file is None else file.checksum, "files": unpacked.files}
    with atomic_file(_receipt(out, split), overwrite=True) as unfinished:
        unfinished.write_text(json.dumps(told))


def _already(out: Path, split: str, doi: str) -> SplitOutcome | None:
    """The outcome of an earlier run, when every file it unpacked is still there with its size."""
    try:
        told: Any = json.loads(_receipt(out, split).read_bytes())
        if (told["version"], told["doi"]) != (1, doi) or not told["files"]:
            return None
        files = {str(place): (int(size), int(crc)) for place, (size, crc) in told["files"].items()}
        if any((out / split / place).stat().st_size != size for place, (size, _) in files.items()):
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return _outcome(split, "there", files, ())


def _refuse_foreign(folder: Path) -> None:
    with suppress(OSError):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if folder.exists():
        raise OutputExistsError(
            f"{folder.name!r} is in the output folder, but it is not as this command leaves it (files are missing or "
            "changed, or it was put there by hand); pass --overwrite to replace it, or choose another folder."
        )


def _outcome(
    split: str, state: Literal["there", "new"], files: dict[str, tuple[int, int]], warnings: tuple[str, ...]
) -> SplitOutcome:
    thin = sum(place.startswith("1mm/") for place in files)
    return SplitOutcome(split, state, thin, len(files) - thin, warnings)


def _notes(note: str | None, unpacked: Unpacked) -> tuple[str, ...]:
    left_out = (
        f"{unpacked.left_out} file(s) of the zip are no volumes and were left out." if unpacked.left_out else None
    )
    return tuple(sentence for sentence in (note, left_out) if sentence)
