"""Download of RPLHR-CT: each split of the published record is fetched, checked and unpacked into a folder."""

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
from thinslice.options import option
from thinslice.system.atomic import atomic_file, output_errors, sole_run
from thinslice.system.resources import require_disk
from thinslice.typing import Progress, Transfer

SPLITS = ("train", "val", "test")
"""Splits of the release; each is a zip of the same name."""

MOST_CONNECTIONS = 32


@dataclass(frozen=True)
class SplitOutcome:
    """Result for one split.

    Attributes:
        split: name of the split.
        state: "there" when an earlier run has fetched and checked the split, else "new".
        thin: number of 1 mm volumes.
        thick: number of 5 mm volumes.
        warnings: warnings, as sentences.
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

    After an interruption the same call continues where it stopped. A zip that already lies in `out` is checked and
    used; without a network it is checked only by its own checksums.

    Args:
        out: folder of the data set, created when missing; each split becomes a folder in it.
        splits: names of the splits; SPLIT.zip must be a file of the record.
        doi: DOI of the record.
        connections: ranges fetched at the same time.
        keep_zip: whether each zip is kept beside its folder.
        overwrite: whether a split's folder is replaced when this function did not make it or it has changed since.
        resolver: address that turns a DOI into the page of its record.
        patience: time limits and number of tries.
        report: called with step, bytes done and bytes in all.

    Returns:
        One outcome for each split.

    Raises:
        UsageError: a split that the record does not have, or `connections` out of range.
        DownloadError: the record or a file cannot be fetched, or differs from the published one; try again later.
        UnreadableError: a zip is damaged, hostile or holds something else; delete it.
        OutputExistsError: a split's folder exists and was not made by this function; set `overwrite`.
        OutputBusyError: another run uses the folder; wait for it.
        ResourceError: the disk is too small; free some space.
    """
    if not 1 <= connections <= MOST_CONNECTIONS:
        raise UsageError(f"{option('connections')} must be 1 to {MOST_CONNECTIONS}, not {connections}.")
    for split in splits:
        if not split.replace("_", "").replace("-", "").isalnum():
            raise UsageError(f"{split[:40]!r} is not the name of a split; the release has {', '.join(SPLITS)}.")
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
            # The receipt first: without it a later run would refuse the folder of a run that was killed here.
            unpacked = unpack(
                archive,
                out / split,
                overwrite=overwrite,
                progress=_labelled(report, "unpacking", split),
                before_appearing=partial(_write_receipt, out, split, doi, file),
            )
            if not keep_zip:
                archive.unlink(missing_ok=True)
            warnings = [] if note is None else [note]
            if unpacked.left_out:
                warnings.append(f"{unpacked.left_out} file(s) of the zip are no volumes and were left out.")
            there[split] = _outcome(split, "new", unpacked.files, tuple(warnings))
    return [there[split] for split in chosen]


def _labelled(report: Transfer | None, step: str, split: str) -> Progress | None:
    return None if report is None else partial(report, f"{step} {split}.zip")


def _record(out: Path, missing: list[str], doi: str, resolver: str, patience: Patience | None) -> Record | None:
    """The record, or None when it cannot be reached but all zips were put into the folder by hand."""
    try:
        return find_record(doi, resolver=resolver, patience=patience)
    except DownloadError as error:
        if all((out / f"{split}.zip").is_file() for split in missing):
            return None
        raise DownloadError(f"{error} {_by_hand(doi, missing)}") from error


def _by_hand(doi: str, splits: Sequence[str]) -> str:
    zips = ", ".join(f"{split}.zip" for split in splits)
    return (
        f"Or fetch {zips} from the page of DOI {doi} on another machine, put them into the output folder, and run the "
        "same command: it checks and unpacks them."
    )


def _obtain(
    archive: Path,
    file: RecordFile | None,
    doi: str,
    connections: int,
    patience: Patience | None,
    report: Transfer | None,
) -> str | None:
    """Fetch and check the zip; returns a warning where it cannot be compared with the published checksum."""
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
                f"{archive.name!r} in the output folder is not the published file; delete it and run the same command "
                "again."
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
    """Check the disk for all splits unpacked (as large as their zips) and the zips."""
    unpacked = sum(file.size for file in files)
    zips = [file.size for file in files]
    fetched = sum(_allocated(out / f"{file.name}{suffix}") for file in files for suffix in ("", ".part"))
    require_disk(out, max(0, unpacked + (sum(zips) if keep_zip else max(zips)) - fetched))


def _allocated(path: Path) -> int:
    """Bytes of a file on the disk; an unfinished file has holes."""
    try:
        status = path.stat()
    except OSError:
        return 0
    return min(status.st_size, getattr(status, "st_blocks", 0) * 512)


def _receipt(out: Path, split: str) -> Path:
    """Path of the list of unpacked files, beside the split's folder, so that the folder holds only the release."""
    return out / f".{split}.downloaded.json"


def _write_receipt(out: Path, split: str, doi: str, file: RecordFile | None, unpacked: Unpacked) -> None:
    values = {"version": 1, "doi": doi, "checksum": None if file is None else file.checksum, "files": unpacked.files}
    with atomic_file(_receipt(out, split), overwrite=True) as unfinished:
        unfinished.write_text(json.dumps(values))


def _already(out: Path, split: str, doi: str) -> SplitOutcome | None:
    """The outcome of an earlier run, if all files that it unpacked still exist with their sizes."""
    try:
        values: Any = json.loads(_receipt(out, split).read_bytes())
        if (values["version"], values["doi"]) != (1, doi) or not values["files"]:
            return None
        files = {str(place): (int(size), int(crc)) for place, (size, crc) in values["files"].items()}
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
            f"{folder.name!r} in the output folder was not made by this command, or its files have changed; "
            f"pass {option('overwrite', True)} to replace it, or choose another folder."
        )


def _outcome(
    split: str, state: Literal["there", "new"], files: dict[str, tuple[int, int]], warnings: tuple[str, ...]
) -> SplitOutcome:
    thin = sum(place.startswith("1mm/") for place in files)
    return SplitOutcome(split, state, thin, len(files) - thin, warnings)
