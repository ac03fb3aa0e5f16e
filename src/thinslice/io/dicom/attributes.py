"""The attributes of a thick CT slice that a derived slice keeps, and their safe copy.

The lists name what is kept, by module of the CT Image IOD (DICOM PS3.3 A.3); every other attribute is
dropped: private groups, overlays, signatures, icons, per-slice dose, references to raw data and presentation states.

Text is kept as the source's bytes, never decoded and encoded again: names often do not fit the character set that
their file declares, and an archive files a series under the patient whose bytes it has.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from pydicom.charset import encode_string
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import Tag

_PATIENT = """
    PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence PatientBirthDate
    PatientBirthTime PatientSex OtherPatientIDs OtherPatientIDsSequence OtherPatientNames EthnicGroup PatientComments
    PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence
    ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization QualityControlSubject PatientIdentityRemoved
    DeidentificationMethod DeidentificationMethodCodeSequence
    ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID
    ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
    ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber
"""
_STUDY = """
    StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName
    ReferringPhysicianIdentificationSequence StudyDescription PhysiciansOfRecord NameOfPhysiciansReadingStudy
    ProcedureCodeSequence ReferencedStudySequence StudyID LongitudinalTemporalInformationModified
    AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight MedicalAlerts
    Allergies Occupation SmokingStatus AdditionalPatientHistory PregnancyStatus LastMenstrualDate PatientState
    PatientSexNeutered AdmissionID ReasonForVisit
    ClinicalTrialTimePointID ClinicalTrialTimePointDescription
"""
_SERIES = """
    Laterality BodyPartExamined AnatomicRegionSequence ProtocolName PatientPosition PerformingPhysicianName
    OperatorsName RequestAttributesSequence ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID
    PositionReferenceIndicator
"""
_EQUIPMENT = """
    Manufacturer InstitutionName InstitutionAddress InstitutionalDepartmentName StationName ManufacturerModelName
    DeviceSerialNumber SoftwareVersions GantryID DeviceUID SpatialResolution DateOfLastCalibration
    TimeOfLastCalibration
"""
_IMAGE = """
    AcquisitionDate AcquisitionTime AcquisitionDateTime AcquisitionNumber PatientOrientation QualityControlImage
    BurnedInAnnotation RecognizableVisualFeatures
    WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction
    KVP ScanOptions DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector DistanceSourceToPatient
    GantryDetectorTilt TableHeight RotationDirection RevolutionTime SingleCollimationWidth TotalCollimationWidth
    TableSpeed TableFeedPerRotation SpiralPitchFactor FilterType FocalSpots ConvolutionKernel ReconstructionAlgorithm
    ContrastBolusAgent ContrastBolusAgentSequence ContrastBolusRoute ContrastBolusAdministrationRouteSequence
    ContrastBolusVolume ContrastBolusStartTime ContrastBolusStopTime ContrastBolusTotalDose ContrastFlowRate
    ContrastFlowDuration ContrastBolusIngredient ContrastBolusIngredientConcentration
    ConvolutionKernelGroup FilterMaterial ReconstructionMethod
    SpecificCharacterSet TimezoneOffsetFromUTC ContributingEquipmentSequence
"""
_PHASE = """
    TemporalPositionIdentifier TemporalPositionIndex NumberOfTemporalPositions TemporalResolution
    TemporalPositionTimeOffset NominalPercentageOfCardiacPhase NominalCardiacTriggerDelayTime
    NominalCardiacTriggerTimePriorToRPeak ActualCardiacTriggerTimePriorToRPeak ActualCardiacTriggerDelayTime
    TriggerTime CardiacSynchronizationTechnique CardiacCyclePosition CardiacRRIntervalSpecified CardiacSignalSource
    CardiacBeatRejectionTechnique BeatRejectionFlag LowRRValue HighRRValue RRIntervalTimeNominal IntervalsAcquired
    IntervalsRejected HeartRate RespiratoryMotionCompensationTechnique RespiratoryCyclePosition
    NominalRespiratoryTriggerDelayTime NominalPercentageOfRespiratoryPhase ActualRespiratoryTriggerDelayTime
    FrameReferenceTime AcquisitionType TriggerSourceOrType
    MultienergyCTAcquisition MultienergyCTAcquisitionSequence MultienergyCTProcessingSequence
    MultienergyCTCharacteristicsSequence
"""
KEPT_KEYWORDS: tuple[str, ...] = tuple((_PATIENT + _STUDY + _SERIES + _EQUIPMENT + _IMAGE + _PHASE).split())
"""Attributes copied from the nearest thick slice. ContrastBolusTotalDose is a dose of contrast agent, not of X-rays."""

REQUIRED_KEYWORDS: tuple[str, ...] = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "Manufacturer",
    "PositionReferenceIndicator",
    "AcquisitionNumber",
    "KVP",
)
"""Type 2 of the CT Image IOD: written empty where the source has none."""

_KEPT_TAGS = tuple(tag_for_keyword(keyword) for keyword in KEPT_KEYWORDS)
EXACT_VRS = frozenset(("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"))
"""Value representations of text, whose bytes are kept as the source has them."""

_UID_PATTERN = re.compile(r" ?[0-9A-Za-z.][0-9A-Za-z._-]{0,255}")
_DEEPEST_SEQUENCE = 8
"""Real headers nest two or three deep; deeper ones are hostile and are dropped."""
_DS_LENGTH = 16
"""The longest decimal string (VR DS) that DICOM allows, in characters."""


def value_of(header: Dataset, keyword: str, default: Any = None) -> Any:
    """The value of an attribute, or `default` where it is absent, empty or cannot be decoded.

    The header stays as it is: its element is not replaced by the decoded one, which may have lost bytes.
    """
    try:
        tag = Tag(keyword)
        element: Any = header.get_item(tag) if tag in header else None
        if isinstance(element, RawDataElement) and _text_vr(element) is not None:
            encoding = "iso8859" if keyword == "SpecificCharacterSet" else header.original_character_set
            element = convert_raw_data_element(element, encoding=encoding or "iso8859", ds=header)
            value = element.value
        else:
            value = header.get(keyword)
    except Exception:  # a damaged value makes pydicom's parser raise anything
        return default
    return default if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def bytes_of(header: Dataset, keyword: str) -> bytes:
    """The bytes of a text attribute as in the source, without padding; b"" where absent.

    An element that was decoded before is encoded in the header's own character set.
    """
    try:
        tag = Tag(keyword)
        element: Any = header.get_item(tag) if tag in header else None
        if isinstance(element, RawDataElement):
            return (element.value or b"").strip(b" \0")
        if element is None or element.value is None:
            return b""
        values = element.value if isinstance(element.value, list | MultiValue) else [element.value]
        encodings = header._character_set
        listed = [encodings] if isinstance(encodings, str) else list(encodings)
        return b"\\".join(encode_string(str(value), listed) for value in values).strip(b" \0")
    except Exception:  # as value_of
        return b""


def safe_uid(value: object) -> str | None:
    """A UID fit to be copied, or None.

    Digits, letters, dots, "-" and "_", at most 256 of them: real scanners and anonymizers break the rules of the
    standard (leading zeros, letters, more than 64 characters), and a reference must be exact. Text that another program
    might take for a path is refused.

    >>> safe_uid("1.2.840.10008.1"), safe_uid("1.2.abc"), safe_uid("../../x"), safe_uid(None)
    ('1.2.840.10008.1', '1.2.abc', None, None)
    """
    text = str(value).rstrip("\0 ") if value is not None else ""
    return text if _UID_PATTERN.fullmatch(text) and text.strip(" .") else None


def is_valid_uid(uid: str) -> bool:
    """Whether a UID keeps the rules of DICOM that archives check: digits and dots, at most 64 (PS3.5, 9.1).

    >>> is_valid_uid("1.2.840"), is_valid_uid("1.2.abc")
    (True, False)
    """
    return len(uid) <= 64 and set(uid) <= set("0123456789.")


def decimal_text(number: Decimal | float, places: int = 9) -> str:
    """A decimal string (VR DS) of at most 16 characters, rounded to `places` decimals.

    >>> decimal_text(Decimal("-119.0")), decimal_text(2.5 / 3), decimal_text(-1e-12)
    ('-119', '0.833333333', '0')
    """
    exact = number if isinstance(number, Decimal) else Decimal(repr(float(number)))
    for digits in range(places, -1, -1):
        text = f"{exact:.{digits}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        if len(text) <= _DS_LENGTH:
            return "0" if text == "-0" else text
    return f"{exact:.8e}"


def source_decimals(header: Dataset, keyword: str, count: int) -> tuple[str, ...] | None:
    """The decimal strings of an attribute as the source wrote them; None unless there are `count` finite ones."""
    value = value_of(header, keyword)
    values = [value] if isinstance(value, str | int | float | Decimal) else list(value or ())
    texts = []
    for number in values:
        text = str(getattr(number, "original_string", number)).strip("\0 ")
        try:
            exact = Decimal(text)
        except InvalidOperation:
            return None
        if not exact.is_finite():
            return None
        texts.append(text if len(text) <= _DS_LENGTH else decimal_text(exact))
    return tuple(texts) if len(texts) == count else None


def kept_attributes(header: Dataset) -> Dataset:
    """The attributes of `KEPT_KEYWORDS` and `REQUIRED_KEYWORDS`, free of anything private at every depth.

    Args:
        header: of one source slice; not changed.

    Returns:
        A new dataset. It shares value elements with `header`, so replace elements in it, never change them.
    """
    kept = Dataset()
    for tag in _KEPT_TAGS:
        if tag is not None and tag in header:
            element = _clean_element(header, tag, 1)
            if element is not None:
                kept[tag] = element
    if value_of(kept, "SpecificCharacterSet") is None and "SpecificCharacterSet" in kept:
        del kept["SpecificCharacterSet"]
    for keyword in REQUIRED_KEYWORDS:
        if keyword not in kept:
            setattr(kept, keyword, None)
    return as_encoded(kept)


def lost_keywords(header: Dataset, kept: Dataset) -> list[str]:
    """The attributes of patient and study that the source has and `kept_attributes` could not copy."""
    return [
        keyword
        for keyword in (_PATIENT + _STUDY).split()
        if keyword in header and _has_value(header, keyword) and not _has_value(kept, keyword)
    ]


def as_encoded(dataset: Dataset) -> Dataset:
    """The dataset, marked as Explicit VR Little Endian, so that pydicom writes the bytes of its text as they are."""
    dataset.set_original_encoding(False, True, dataset._character_set)
    return dataset


def raw_text(keyword: Any, vr: str, value: bytes) -> RawDataElement:
    """A text element of these bytes, padded to an even length."""
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    return RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)


def _has_value(header: Dataset, keyword: str) -> bool:
    element = header.get_item(Tag(keyword)) if keyword in header else None
    return element is not None and bool(element.value)


def _text_vr(element: RawDataElement) -> str | None:
    """The value representation of an element of text, as declared or by the dictionary; None for other elements."""
    if not dictionary_has_tag(element.tag):
        return None
    known = dictionary_VR(element.tag)
    declared = known if element.VR in (None, "UN") else element.VR
    return declared if declared in EXACT_VRS and declared in known.split(" or ") else None


def _clean_element(parent: Dataset, tag: Any, depth: int) -> DataElement | RawDataElement | None:
    """One element fit to be copied, or None."""
    raw = parent.get_item(tag)
    vr = _text_vr(raw) if isinstance(raw, RawDataElement) else None
    if isinstance(raw, RawDataElement) and vr is not None:
        value = raw.value or b""
        if vr == "UI":
            value = value.rstrip(b"\0 ")
            if not all(safe_uid(uid.decode("latin-1")) for uid in value.split(b"\\") if value):
                return None
        return raw_text(tag, vr, value)
    try:
        element: DataElement = parent[tag]
    except Exception:  # a value that cannot be decoded, see value_of
        return None
    # pydicom keeps a value that its VR does not allow, as text or under another VR; a copy would be wrong too.
    if not dictionary_has_tag(element.tag) or element.VR not in dictionary_VR(element.tag).split(" or "):
        return None
    values = element.value if isinstance(element.value, list | MultiValue) else [element.value]
    if element.VR in ("DS", "IS") and any(isinstance(value, str) and value for value in values):
        return None
    if element.VR == "UI":
        return element if all(safe_uid(value) for value in values) else None
    if element.VR != "SQ":
        return element
    if depth > _DEEPEST_SEQUENCE:
        return None
    items = [_clean_item(item, depth) for item in element.value]
    if items and not any(items):
        return None
    return DataElement(element.tag, "SQ", Sequence([item for item in items if len(item)]))


def _clean_item(item: Dataset, depth: int) -> Dataset:
    clean = Dataset(parent_encoding=item.original_character_set or item._character_set)
    for tag in list(item.keys()):
        if tag.is_private or tag.element == 0 or tag.group in (0xFFFA, 0x4FFE):
            continue
        element = _clean_element(item, tag, depth + 1)
        if element is not None:
            clean[tag] = element
    return as_encoded(clean)
