"""Storing objects at a DICOMweb service (STOW-RS), in portions, those it has already left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from dicomweb_client.api import DICOMwebClient

from thinslice.service.dicomweb.connection import ServiceError, service_errors

PORTION_BYTES = 32 << 20
"""Bytes of one request; what it held is sent again after a broken connection."""

DUPLICATE = 0x0111
"""Reason of a failure that is none: the service has the object already."""


@dataclass(frozen=True)
class StoredFile:
    """A DICOM file with the UIDs by which a service knows it.

    Attributes:
        path: the file.
        study_uid, series_uid, instance_uid, class_uid: its UIDs.
    """

    path: Path
    study_uid: str
    series_uid: str
    instance_uid: str
    class_uid: str


def store(
    client: DICOMwebClient, files: Sequence[StoredFile], stored: Callable[[Sequence[StoredFile]], None] | None = None
) -> None:
    """Store files, portion by portion.

    Args:
        client: connection.
        files: what to store.
        stored: called with each portion that the service has taken.

    Raises:
        ServiceError: it cannot be reached, or did not take an object; those reported by `stored` are there.
        UsageError: it refuses the credentials.
    """
    for portion in _portions(files):
        with service_errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = client.store_instances([pydicom.dcmread(file.path) for file in portion])
        failed = [
            int(item.get("FailureReason", 0) or 0)
            for item in answer.get("FailedSOPSequence", ())
            if int(item.get("FailureReason", 0) or 0) != DUPLICATE
        ]
        if failed:
            raise ServiceError(
                f"The service did not take {len(failed)} of {len(portion)} objects (reason {failed[0]:04X} of the "
                "first); see its log."
            )
        if stored is not None:
            stored(portion)


def present(client: DICOMwebClient, study_uid: str, series_uid: str) -> set[str]:
    """UIDs of the objects of a series that a service has.

    Raises:
        ServiceError, UsageError: as of `service_errors`.
    """
    from thinslice.errors import InputError
    from thinslice.service.dicomweb.search import instances

    try:
        return {one.instance_uid for one in instances(client, study_uid, series_uid)}
    except InputError:
        return set()


def _portions(files: Sequence[StoredFile]) -> Iterator[list[StoredFile]]:
    portion: list[StoredFile] = []
    size = 0
    for file in files:
        length = file.path.stat().st_size
        if portion and size + length > PORTION_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(file)
        size += length
    if portion:
        yield portion
