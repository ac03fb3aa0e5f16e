"""Facts about a series that help to recognise it in a list, and none that identifies the patient."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import permutations

from pydicom.dataset import Dataset

from thinslice.io.dicom.attributes import bytes_of, value_of
from thinslice.io.dicom.files.input_files import printable
from thinslice.io.dicom.files.values import text

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

FIRST_IDEOGRAPH = 0x2E80
"""First code point of Chinese, Japanese and Korean characters."""

DATE = re.compile(
    r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|(19|20)\d\d|\d{1,3} ?(y|yo|yrs?|years?|j|jahre)|"
    r"\d{0,4}[./-]?(jan|feb|mar|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-z]*[./-]?\d{1,4}"
    r"|\d{1,2}[./-]?(jan|feb|mar|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-z]*"
)
"""Dates, years and ages, in small letters."""

BIRTH = re.compile(r"[\W_]*((geb|gb|dob|born|birth|naiss|nac|nato|ur)[a-z]*[\W_]*)?")
"""What may stand before a date of birth without a space, in small letters: "*", "geb.", "dob:"."""

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


@dataclass(frozen=True)
class Identity:
    """What identifies the patient of a header, as words and dates that no shown text may hold.

    Attributes:
        persons: words of persons' names, also joined ("linda" of Lin^Da).
        private: words of other identifying attributes, but for ordinary words of protocols.
        dates: digits of dates.
        comparable: whether the patient's name and number are there, so that other words can be compared with them.
    """

    persons: frozenset[str]
    private: frozenset[str]
    dates: frozenset[str]
    comparable: bool

    @classmethod
    def of(cls, dataset: Dataset) -> Identity:
        """The identity in a header."""
        names = [_words(spelling) for keyword in PERSONS for spelling in _spellings(dataset, keyword)]
        joined = {"".join(pair) for words in names for pair in permutations(words[:4], 2)}
        private = {word for key in PRIVATE for spelling in _spellings(dataset, key) for word in _words(spelling)}
        dates = {re.sub(r"\D", "", _plain(dataset, keyword)) for keyword in DATES} - {""}
        comparable = all(_words(_plain(dataset, keyword)) for keyword in PATIENT)
        persons = {word for words in names for word in words}
        return cls(frozenset(persons | joined), frozenset(private - PROTOCOL_WORDS), frozenset(dates), comparable)

    def without(self, value: str) -> str:
        """A text without the tokens that identify."""
        # Letters that stand alone may be a name or initials, letter by letter.
        value = re.sub(r"(?<!\S)\w(?:[\s._-]+\w){1,}\.?(?!\S)", lambda run: _unless_letters(run[0]), value)
        return " ".join(token for token in value.split() if not self._is_in(token))

    def _is_in(self, token: str) -> bool:
        words, digits = _words(token), re.sub(r"\D", "", token)
        return (
            any(_is_of(word, self.persons) for word in words)
            or any(word not in PROTOCOL_WORDS and _is_of(word, self.private) for word in words)
            or any(len(run) >= LEAST_NUMBER for run in re.findall(r"\d+", token))
            or any(date in digits or (len(digits) >= LEAST_NUMBER and digits in date) for date in self.dates)
            or DATE.fullmatch(re.sub(r"[\W_]+$", "", BIRTH.sub("", token.casefold(), count=1))) is not None
            or "^" in token
        )


def shown_text(dataset: Dataset, keyword: str, length: int = 48) -> str:
    """An attribute that helps to recognise a series, such as its kernel, safe to show and without anything identifying.

    Args:
        dataset: the header.
        keyword: of an attribute that scanners fill, not persons.
        length: longest text.
    """
    value = text(dataset, keyword)
    return printable(Identity.of(dataset).without(value), length) if value else ""


def description_of(dataset: Dataset) -> str:
    """SeriesDescription without anything that may identify the patient: "" where nothing is left.

    Words of identifying attributes, words spelled nearly like them ("Mueller" beside Müller), dates, ages, and numbers
    of five digits or more are left out. Ordinary words of protocols stay, but not where they are a person's name or
    number. Where the name or number of the patient is missing or cannot be read, no word can be compared with it:
    then only ordinary words of protocols, the kernel and short codes are left.
    """
    description = str(value_of(dataset, "SeriesDescription") or "")
    if not description:
        return ""
    identity = Identity.of(dataset)
    ordinary = PROTOCOL_WORDS | set(_words(_plain(dataset, "ConvolutionKernel")))
    kept = identity.without(description).split()
    if not identity.comparable:
        kept = [token for token in kept if _is_ordinary(token, ordinary)]
    return printable(" ".join(kept), 64)


def _unless_letters(run: str) -> str:
    return run if any(letter.isdecimal() for letter in run) else ""


def _is_ordinary(token: str, ordinary: frozenset[str] | set[str]) -> bool:
    return all(word in ordinary or CODE.fullmatch(word) for word in _words(token))


def _plain(dataset: Dataset, keyword: str) -> str:
    value = value_of(dataset, keyword)
    return "" if value is None else str(value).casefold()


def _spellings(dataset: Dataset, keyword: str) -> set[str]:
    """An attribute as its character set has it, and byte by byte, as a text of an undeclared one is shown."""
    return {_plain(dataset, keyword), bytes_of(dataset, keyword).decode("latin-1").casefold()}


def _words(value: str) -> list[str]:
    """Letters and digits that belong together, of two at least, without accents: "doe" and "jane" of "Doé^Jane X".

    A Chinese, Japanese or Korean character is a word alone.
    """
    decomposed = unicodedata.normalize("NFKD", value.casefold())
    bare = "".join(letter for letter in decomposed if unicodedata.category(letter) not in ("Mn", "Cf"))
    composed = unicodedata.normalize("NFC", bare)
    return [word for word in re.findall(r"[^\W_]+", composed) if len(word) >= 2 or _is_ideographic(word)]


def _is_ideographic(word: str) -> bool:
    return any(ord(letter) >= FIRST_IDEOGRAPH for letter in word)


def _is_of(word: str, identifying: frozenset[str]) -> bool:
    if word in identifying:
        return True
    return any(
        ((len(known) >= LEAST_WORD or _is_ideographic(known)) and known in word)
        or ((len(word) > LEAST_WORD or _is_ideographic(word)) and word in known)
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
