"""Searching a DICOMweb service (QIDO-RS) for series and their objects, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dicomweb_client.api import DICOMwebClient

from thinslice.service.dicomweb.connection import service_errors

PAGE = 500
"""Results that are asked for at once."""

MOST_RESULTS = 100_000

STUDY_KEYWORDS = frozenset(
    (
        *("AccessionNumber", "ModalitiesInStudy", "PatientBirthDate", "PatientID", "PatientName", "PatientSex"),
        *("ReferringPhysicianName", "StudyDate", "StudyDescription", "StudyID", "StudyInstanceUID", "StudyTime"),
    )
)
"""Keywords by which studies are searched; not every service compares them in a search of series."""

_STUDY, _SERIES, _INSTANCE, _CLASS, _MODALITY = "0020000D", "0020000E", "00080018", "00080016", "00080060"


@dataclass(frozen=True)
class FoundSeries:
    """A series of a service.

    Attributes:
        study_uid: of its study.
        series_uid: of the series.
        modality: such as "CT"; "" where unknown.
    """

    study_uid: str
    series_uid: str
    modality: str


@dataclass(frozen=True)
class FoundInstance:
    """An object of a series.

    Attributes:
        instance_uid: of the object.
        class_uid: of its SOP class; "" where unknown.
    """

    instance_uid: str
    class_uid: str


def find_series(client: DICOMwebClient, filters: Mapping[str, str]) -> list[FoundSeries]:
    """Series of all studies that fit filters: where some concern studies, these are searched first.

    Args:
        client: connection.
        filters: keyword of DICOM -> value, such as {"Modality": "CT", "StudyDate": "20260101-20260131"}.

    Raises:
        InputError, ServiceError, UsageError: as of `service_errors`.
    """
    of_study = {key: value for key, value in filters.items() if key in STUDY_KEYWORDS}
    rest = {key: value for key, value in filters.items() if key not in of_study}
    if not of_study:
        return series_of(client, rest)
    answers = _pages(lambda offset: client.search_for_studies(search_filters=of_study, limit=PAGE, offset=offset))
    studies = dict.fromkeys(uid for answer in answers if (uid := _text(answer, _STUDY)))
    return [series for study_uid in studies for series in series_of(client, rest, study_uid=study_uid)]


def series_of(client: DICOMwebClient, filters: Mapping[str, str], *, study_uid: str | None = None) -> list[FoundSeries]:
    """Series of one study, or of all, that fit filters.

    Args:
        client: connection.
        filters: keyword of DICOM -> value, such as {"Modality": "CT", "StudyDate": "20260101-20260131"}.
        study_uid: the study that they belong to; None searches all.

    Raises:
        InputError, ServiceError, UsageError: as of `service_errors`.
    """
    found = {}
    for answer in _pages(
        lambda offset: client.search_for_series(study_uid, search_filters=dict(filters), limit=PAGE, offset=offset)
    ):
        series_uid, study = _text(answer, _SERIES), _text(answer, _STUDY) or (study_uid or "")
        if series_uid and study:
            found[study, series_uid] = FoundSeries(study, series_uid, _text(answer, _MODALITY))
    return list(found.values())


def instances(client: DICOMwebClient, study_uid: str, series_uid: str) -> list[FoundInstance]:
    """Objects of a series, in a stable order.

    Raises:
        InputError, ServiceError, UsageError: as of `service_errors`.
    """
    found = {}
    for answer in _pages(lambda offset: client.search_for_instances(study_uid, series_uid, limit=PAGE, offset=offset)):
        uid = _text(answer, _INSTANCE)
        if uid:
            found[uid] = FoundInstance(uid, _text(answer, _CLASS))
    return [found[uid] for uid in sorted(found)]


def _pages(ask: Callable[[int], list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Answers of all pages; a service that ignores the offset ends with the first page that brings nothing new."""
    seen: set[str] = set()
    offset = 0
    while offset < MOST_RESULTS:
        with service_errors():
            answers = ask(offset)
        fresh = [answer for answer in answers if str(answer) not in seen]
        seen.update(map(str, fresh))
        yield from fresh
        if len(answers) < PAGE or not fresh:
            return
        offset += len(answers)


def _text(answer: Mapping[str, Any], tag: str) -> str:
    values = answer.get(tag, {}).get("Value") or [""]
    return str(values[0])
