"""Fetching series from a DICOMweb service (QIDO-RS, WADO-RS) into a folder, those objects it has already left out.

    OUT/study-DIGEST/series-DIGEST/DIGEST.dcm

Names are digests of UIDs: they identify nobody, and the same object has the same name in every run.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicomweb_client.api import DICOMwebClient
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from thinslice.errors import InputError, OutputError, ThinsliceError, UnreadableError, UsageError
from thinslice.io.dicom.files.header import quiet_pydicom
from thinslice.service.dicomweb.connection import ServiceError, service_errors
from thinslice.service.dicomweb.search import FoundInstance, FoundSeries, find_series, instances, series_of
from thinslice.service.object_head import digest_name
from thinslice.system.atomic import atomic_file, sole_run
from thinslice.system.faults import output_fault
from thinslice.typing import Notify, Progress

ANY_SYNTAX = (("application/dicom", "*"),)
"""Objects as the service has them, without a conversion."""

ATTEMPTS = 4
FIRST_WAIT_S = 2.0

SINGLE_SHARE = 0.5
"""Share of a series that is missing below which its objects are fetched one by one."""

KEPT_DIGITS = 16


@dataclass
class PullSummary:
    """What became of the series.

    Attributes:
        series: number of series that were asked for.
        fetched: objects that were fetched.
        present: objects that were there from an earlier run.
        failures: "study-DIGEST/series-DIGEST: reason" of series that are not complete.
    """

    series: int = 0
    fetched: int = 0
    present: int = 0
    failures: list[str] = field(default_factory=list)


def pull(
    client: DICOMwebClient,
    out: Path,
    *,
    studies: Sequence[str] = (),
    filters: Mapping[str, str],
    notify: Notify | None = None,
    progress: Progress | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> PullSummary:
    """Fetch series into a folder.

    Args:
        client: connection.
        out: the folder; made if absent, kept from run to run.
        studies: UIDs of studies; without any, `filters` alone choose.
        filters: keyword of DICOM -> value that series must have.
        notify: called with plain lines.
        progress: called with objects that are done, of those of the series.
        pause: waits for so many seconds before a series is tried again.

    Returns:
        The summary. A series that could not be fetched is among its failures, and the next run goes on with it.

    Raises:
        UsageError: nothing chooses series, or the service refuses the credentials.
        InputError: no series fits.
        OutputError: the folder cannot be written, another run fills it, or the service cannot be reached at all.
    """
    if not studies and not filters:
        raise UsageError("Nothing chooses what is fetched: name a study, or a filter.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_fault(error, out.name) from error
    summary = PullSummary()
    with sole_run(out / "pull"):
        found = [series for study in studies for series in series_of(client, filters, study_uid=study)]
        if not studies:
            found = find_series(client, filters)
        if not found:
            raise InputError("The service has no series that fits; check UIDs and filters.")
        summary.series = len(found)
        if notify is not None:
            notify(f"{len(found)} series to fetch")
        for series in found:
            folder = out / f"study-{_digest(series.study_uid)}" / f"series-{_digest(series.series_uid)}"
            try:
                _pull_series(client, series, folder, summary, progress, pause)
            except UsageError:
                raise
            except (InputError, ServiceError) as error:
                summary.failures.append(f"{folder.parent.name}/{folder.name}: {error}")
                if notify is not None:
                    notify(f"warning: {summary.failures[-1]}")
    return summary


def _pull_series(
    client: DICOMwebClient,
    series: FoundSeries,
    folder: Path,
    summary: PullSummary,
    progress: Progress | None,
    pause: Callable[[float], None],
) -> None:
    """Fetch what is missing of a series, again where a connection breaks."""
    failures = 0
    counted = False
    while True:
        try:
            wanted = instances(client, series.study_uid, series.series_uid)
            missing = [one for one in wanted if not _place(folder, one.instance_uid).exists()]
            if not counted:
                summary.present += len(wanted) - len(missing)
                counted = True
            done = len(wanted) - len(missing)
            for dataset in _datasets(client, series, wanted, missing):
                if _keep(dataset, series, folder):
                    summary.fetched += 1
                    done, failures = done + 1, 0
                    if progress is not None:
                        progress(done, len(wanted))
            lacking = [one for one in wanted if not _place(folder, one.instance_uid).exists()]
            if lacking:
                raise ServiceError(f"The service sent {len(wanted) - len(lacking)} of {len(wanted)} objects.")
            return
        except ServiceError:
            failures += 1
            if failures >= ATTEMPTS:
                raise
            pause(FIRST_WAIT_S * 2 ** (failures - 1))


def _datasets(
    client: DICOMwebClient, series: FoundSeries, wanted: Sequence[FoundInstance], missing: Sequence[FoundInstance]
) -> Iterator[Dataset]:
    """The missing objects: the whole series in one answer, or one by one where few are missing."""
    if not missing:
        return
    with service_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if len(missing) > SINGLE_SHARE * len(wanted):
                yield from client.iter_series(series.study_uid, series.series_uid, media_types=ANY_SYNTAX)
            else:
                for one in missing:
                    yield client.retrieve_instance(
                        series.study_uid, series.series_uid, one.instance_uid, media_types=ANY_SYNTAX
                    )
        except ThinsliceError:
            raise
        except (ValueError, KeyError, AttributeError, EOFError, IndexError) as error:
            raise ServiceError("The service sent something that is no DICOM object.") from error


def _keep(dataset: Dataset, series: FoundSeries, folder: Path) -> bool:
    """Write an object under its final name; returns whether it was new.

    Raises:
        UnreadableError: it belongs to another series, or is not whole.
    """
    uid = str(dataset.get("SOPInstanceUID", ""))
    if not uid or str(dataset.get("SeriesInstanceUID", "")) != series.series_uid:
        raise UnreadableError("The service sent an object that was not asked for.")
    _require_whole(dataset)
    place = _place(folder, uid)
    if place.exists():
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with quiet_pydicom(), atomic_file(place) as unfinished:
            dcmwrite(unfinished, dataset, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UnreadableError("The service sent an object that cannot be written as a file.") from error
    except OSError as error:
        raise OutputError(f"{folder.name!r} cannot be written ({error.strerror}).") from error
    return True


def _require_whole(dataset: Dataset) -> None:
    """Refuse uncompressed pixels that were cut short; a broken connection may look like the end of an answer."""
    meta = getattr(dataset, "file_meta", None)
    syntax = None if meta is None else meta.get("TransferSyntaxUID")
    if syntax is None or syntax.is_compressed or "PixelData" not in dataset:
        return
    sizes = [dataset.get(name) for name in ("Rows", "Columns", "BitsAllocated")]
    if all(isinstance(size, int) for size in sizes):
        rows, columns, bits = sizes
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        if len(dataset.PixelData) < rows * columns * frames * bits // 8:
            raise ServiceError("The service sent an object that was cut short.")


def _place(folder: Path, instance_uid: str) -> Path:
    return folder / f"{_digest(instance_uid)}.dcm"


def _digest(uid: str) -> str:
    return digest_name(uid)[:KEPT_DIGITS]
