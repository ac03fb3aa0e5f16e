"""Storing the DICOM files of a folder at a DICOMweb service, those it has already left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicomweb_client.api import DICOMwebClient

from thinslice.errors import UnreadableError
from thinslice.service.dicomweb.connection import ServiceError
from thinslice.service.dicomweb.store import StoredFile, present, store
from thinslice.service.object_head import DamagedObjectError, object_head
from thinslice.typing import Notify, Progress


@dataclass
class PushSummary:
    """What became of the files.

    Attributes:
        stored: objects that the service has taken in this run.
        present: objects that it had before.
        left_out: files that are no DICOM objects.
        failures: reasons why a series was not stored as a whole.
    """

    stored: int = 0
    present: int = 0
    left_out: int = 0
    failures: list[str] = field(default_factory=list)


def push(
    client: DICOMwebClient,
    source: Path,
    *,
    notify: Notify | None = None,
    progress: Progress | None = None,
) -> PushSummary:
    """Store a DICOM file, or all DICOM files of a folder and its subfolders.

    A service is asked for the objects that it has of each series, and the others are sent. So a push that was
    interrupted goes on where it was.

    Args:
        client: connection.
        source: the file or folder.
        notify: called with plain lines.
        progress: called with objects that are at the service, of all.

    Returns:
        The summary; a series that the service did not take is among its failures.

    Raises:
        UnreadableError: there is no DICOM file.
        UsageError: the service refuses the credentials.
    """
    series, left_out = find_files(source)
    summary = PushSummary(left_out=left_out)
    total = sum(map(len, series.values()))
    if notify is not None:
        notify(f"{total} DICOM objects in {len(series)} series")
    for number, ((study_uid, series_uid), files) in enumerate(series.items(), start=1):
        try:
            there = present(client, study_uid, series_uid)
            missing = [file for file in files if file.instance_uid not in there]
            summary.present += len(files) - len(missing)

            def stored(portion: Sequence[StoredFile]) -> None:
                summary.stored += len(portion)
                if progress is not None:
                    progress(summary.stored + summary.present, total)

            store(client, missing, stored)
        except ServiceError as error:
            summary.failures.append(f"series {number}: {error}")
            if notify is not None:
                notify(f"warning: {summary.failures[-1]}")
    return summary


def find_files(source: Path) -> tuple[dict[tuple[str, str], list[StoredFile]], int]:
    """DICOM files by study and series; one object in two files counts once.

    Args:
        source: a file or folder.

    Returns:
        The files, and the number of others.

    Raises:
        UnreadableError: there is no DICOM file, or nothing at all.
    """
    if not source.exists():
        raise UnreadableError(f"There is nothing at {source.name!r}; check the path.")
    paths = [source]
    if source.is_dir():
        paths = sorted(Path(top, name) for top, _, names in os.walk(source) for name in names)
    found: dict[tuple[str, str], dict[str, StoredFile]] = {}
    left_out = 0
    for path in paths:
        try:
            head = object_head(path)
        except DamagedObjectError:
            left_out += 1
            continue
        file = StoredFile(path, head.study_uid, head.series_uid, head.instance_uid, head.class_uid)
        found.setdefault((head.study_uid, head.series_uid), {}).setdefault(head.instance_uid, file)
    if not found:
        raise UnreadableError(f"There is no DICOM file in {source.name!r}; name a DICOM series.")
    return {key: list(files.values()) for key, files in found.items()}, left_out
