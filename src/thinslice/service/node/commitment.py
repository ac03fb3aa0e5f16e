"""Storage commitment: requests of a node, and the reports with which archives answer them.

An archive answers on the same association, or calls back minutes later. So a report becomes a file, named by a digest
of its transaction, which the sending worker finds whenever it looks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from thinslice.service.folder import read_json, write_json
from thinslice.service.object_head import digest_name

STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")
"""SOP class of the storage commitment push model."""

WELL_KNOWN_INSTANCE = UID("1.2.840.10008.1.20.1.1")
"""Its one SOP instance."""

REQUEST_COMMITMENT = 1
"""Action type of a request."""


@dataclass(frozen=True)
class Report:
    """Answer of an archive.

    Attributes:
        kept: UIDs of the objects that it has taken responsibility for.
        failed: UIDs of those that it has not.
    """

    kept: frozenset[str]
    failed: frozenset[str]


class Commitments:
    """Reports by their transactions, as files.

    Only transactions that were announced are taken, so that no caller can fill the disk.

    Args:
        folder: of the reports.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def announce(self, transaction: str) -> None:
        """Note a transaction before it is requested."""
        with self._lock:
            write_json(self._path(transaction), {})

    def report(self, information: Dataset, *, complete: bool) -> None:
        """Keep a report; one whose transaction is not known is dropped.

        Args:
            information: the dataset of the event.
            complete: whether the event states that all objects are kept.
        """
        transaction = str(information.get("TransactionUID", ""))
        path = self._path(transaction)
        with self._lock:
            if not path.exists():
                return
            failed = [] if complete else _uids(information.get("FailedSOPSequence"))
            write_json(path, {"kept": _uids(information.get("ReferencedSOPSequence")), "failed": failed})

    def answer(self, transaction: str) -> Report | None:
        """The report of a transaction; None where there is none yet."""
        values = read_json(self._path(transaction))
        if not values:
            return None
        return Report(frozenset(values["kept"]), frozenset(values["failed"]))

    def forget(self, transaction: str) -> None:
        """Remove the report of a transaction."""
        self._path(transaction).unlink(missing_ok=True)

    def _path(self, transaction: str) -> Path:
        return self._folder / f"{digest_name(transaction)}.json"


def request_of(transaction: str, objects: Iterable[tuple[str, str]]) -> Dataset:
    """The dataset of a request.

    Args:
        transaction: its UID.
        objects: SOP class and instance UID of each object.
    """
    request = Dataset()
    request.TransactionUID = transaction
    items = []
    for class_uid, instance_uid in objects:
        item = Dataset()
        item.ReferencedSOPClassUID = class_uid
        item.ReferencedSOPInstanceUID = instance_uid
        items.append(item)
    request.ReferencedSOPSequence = Items(items)
    return request


def _uids(items: Sequence[Dataset] | None) -> list[str]:
    return [str(item.get("ReferencedSOPInstanceUID", "")) for item in items or ()]
