"""Facts about a series that help to recognise it in a list, and none that identifies the patient."""

from __future__ import annotations

import re
import unicodedata
from difflib import SequenceMatcher

from pydicom.dataset import Dataset

from thinslice.io.dicom.attributes import value_of
from thinslice.io.dicom.files.header import text
from thinslice.io.dicom.files.input_files import printable

PERSONS = (
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
    "OperatorsName",
)
"""Names of persons, whose words are never shown."""

PRIVATE = (
    "PatientID",
    "OtherPatientIDs",
    "PatientAddress",
    "PatientComments",
    "AccessionNumber",
    "StudyID",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "DeviceSerialNumber",
)
"""Other attributes that identify, whose words are not shown unless they are ordinary ones of protocols."""

LEAST_NUMBER = 5
"""Digits of the shortest number that may be an identifier or a date; protocols have smaller ones."""

DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
"""Attributes whose dates are never shown."""

LEAST_WORD = 3
"""Letters of the shortest word that is searched for inside others; shorter names are compared as a whole."""

NEAR_SPELLING = 0.75
"""Likeness, from 0 to 1 (`difflib.SequenceMatcher.ratio`), from which a word counts as another spelling of a name."""

PATIENT = ("PatientName", "PatientID")
"""Attributes that every header has; where one is empty, a description cannot be compared with it."""

CODE = re.compile(r"[a-z]{0,2}\d{1,3}[a-z]{0,2}|\d{1,3}(mm|cm|kv|kev|hu|sec)")
"""Numbers, also with units, and codes as kernels and protocols have them: "5", "10mm", "b31f", "fc08"."""

PROTOCOL_WORDS = frozenset(
    """
    aaa abdomen abdominal angio aorta arm art arterial ax axial axis body bolus bone br brain breast cap cardiac
    cardio carotid cervical chest contrast cor coronal coronary cranium cspine ct cta delay delayed dose dual
    dynamic ear early ecg elbow energy enhanced exp expiration extremity face facial femur filter fine follow
    foot full girdle groin hand head heart helical helix hepatic hip hires hr hrct inner insp inspiration iodine
    iterative iv kev kidney kidneys knee kv large late leg lens limb liver localizer low lower lspine lumbar
    lung lungs mandible mediastinum mip mm mono monoenergetic mpr multiphase native neck nect nephro non
    noncontrast oblique orbit orbita pancreas parenchyma part pelvis perfusion petrous phase plain plus portal
    post pre prone protocol pulmonary pv recon reconstruction renal routine run runoff sag sagittal scan scapula
    scout sd sella series sharp shoulder sinus sinuses skull slice slices smooth soft spine spiral spleen ssd st
    standard std supine temporal thick thin thoracic thorax throat tissue topogram trauma triphasic tspine upper
    urinary uro urography vein venous vessel virtual vmi vnc volume vrt water whole with without wk wo wrist
    """.split()  # noqa: SIM905
)
"""Ordinary words of protocols, shown even where an address or a department has them too ("Thorax Centre")."""


def description_of(dataset: Dataset) -> str:
    """SeriesDescription without anything that may identify the patient: "" where nothing is left.

    Words of identifying attributes, words spelled nearly like them ("Mueller" beside Müller), dates, and numbers of
    five digits or more are left out. Ordinary words of protocols stay, but not where they are a person's name or
    number. Where the name or number of the patient is missing or cannot be read, no word can be compared with it:
    then only ordinary words of protocols, the kernel and short codes are left.
    """
    description = text(dataset, "SeriesDescription")
    if not description:
        return ""
    persons = {word for keyword in PERSONS for word in _words(_plain(dataset, keyword))}
    private = {word for keyword in PRIVATE for word in _words(_plain(dataset, keyword))} - PROTOCOL_WORDS
    dates = {re.sub(r"\D", "", _plain(dataset, keyword)) for keyword in DATES} - {""}
    ordinary = PROTOCOL_WORDS | set(_words(_plain(dataset, "ConvolutionKernel")))
    comparable = all(_words(_plain(dataset, keyword)) for keyword in PATIENT)
    kept = [
        token
        for token in description.split()
        if not _identifies(token, persons, private, dates) and (comparable or _is_ordinary(token, ordinary))
    ]
    return printable(" ".join(kept), 64)


def _identifies(token: str, persons: set[str], private: set[str], dates: set[str]) -> bool:
    words, digits = _words(token), re.sub(r"\D", "", token)
    return (
        any(_is_of(word, persons) or (word not in PROTOCOL_WORDS and _is_of(word, private)) for word in words)
        or any(len(run) >= LEAST_NUMBER for run in re.findall(r"\d+", token))
        or any(date in digits or (len(digits) >= LEAST_NUMBER and digits in date) for date in dates)
        or re.fullmatch(r"\W*\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\W*", token) is not None
        or "^" in token
    )


def _is_ordinary(token: str, ordinary: frozenset[str] | set[str]) -> bool:
    return all(word in ordinary or CODE.fullmatch(word) for word in _words(token))


def _plain(dataset: Dataset, keyword: str) -> str:
    value = value_of(dataset, keyword)
    return "" if value is None else str(value).casefold()


def _words(value: str) -> list[str]:
    """Letters and digits that belong together, of two at least, without accents: "doe" and "jane" of "Doé^Jane X"."""
    decomposed = unicodedata.normalize("NFKD", value.casefold())
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return [word for word in re.findall(r"[^\W_]+", bare) if len(word) >= 2]


def _is_of(word: str, identifying: set[str]) -> bool:
    if word in identifying:
        return True
    return any(
        (len(known) >= LEAST_WORD and known in word)
        or (len(word) > LEAST_WORD and word in known)
        or (word not in PROTOCOL_WORDS and _is_near(word, known))
        for known in identifying
    )


def _is_near(word: str, known: str) -> bool:
    return min(len(word), len(known)) > LEAST_WORD and SequenceMatcher(None, word, known).ratio() >= NEAR_SPELLING


def is_our_own(dataset: Dataset) -> bool:
    """Whether thinslice made the image, by its ContributingEquipmentSequence."""
    for equipment in value_of(dataset, "ContributingEquipmentSequence") or ():
        if text(equipment, "ManufacturerModelName") == "thinslice" or text(equipment, "Manufacturer") == "thinslice":
            return True
    return False
