"""The attributes of a thick CT slice that a derived slice keeps, and their safe copy.

The lists name what is kept, by module of the CT Image IOD (DICOM PS3.3 A.3); every other attribute is
dropped: private groups, overlays, signatures, icons, per-slice dose, references to raw data and presentation states.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

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
    SpecificCharacterSet TimezoneOffsetFromUTC ContributingEquipmentSequence
"""
KEPT_KEYWORDS: tuple[str, ...] = tuple((_PATIENT + _STUDY + _SERIES + _EQUIPMENT + _IMAGE).split())
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
_UID_PATTERN = re.compile(r"[0-9.]{1,64}")
_DEEPEST_SEQUENCE = 8
"""Real headers nest two or three deep; deeper ones are hostile and are dropped."""
_DS_LENGTH = 16
"""The longest decimal string (VR DS) that DICOM allows, in characters."""


def value_of(header: Dataset, keyword: str, default: Any = None) -> Any:
    """The value of an attribute, or `default` where it is absent, empty or cannot be decoded."""
    try:
        value = header.get(keyword)
    except Exception:  # a damaged value makes pydicom's parser raise anything
        return default
    return default if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def safe_uid(value: object) -> str | None:
    """A UID fit to be copied, or None.

    Only digits and dots, at most 64: real scanners break finer rules (components with leading zeros), and a reference
    must be exact; text that another program might take for a path is refused.

    >>> safe_uid("1.2.840.10008.1"), safe_uid("../../x"), safe_uid(None)
    ('1.2.840.10008.1', None, None)
    """
    text = str(value).strip("\0 ") if value is not None else ""
    return text if _UID_PATTERN.fullmatch(text) and text.strip(".") else None


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
    return kept


def _clean_element(parent: Dataset, tag: Any, depth: int) -> DataElement | None:
    """One element fit to be copied, or None."""
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
    clean = Dataset()
    for tag in list(item.keys()):
        if tag.is_private or tag.element == 0 or tag.group in (0xFFFA, 0x4FFE):
            continue
        element = _clean_element(item, tag, depth + 1)
        if element is not None:
            clean[tag] = element
    return clean
