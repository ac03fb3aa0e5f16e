"""Headers without identity: the Basic Application Level Confidentiality Profile of DICOM (PS3.15, Annex E).

A list of what stays, not of what goes: an attribute that is not named here is not in the output, at any depth. Writers
take the de-identified headers in place of the source's, so no form of output sees more.

The profile alone, without its options: dates and times go, descriptions go, UIDs are replaced. Pixels are not examined
for text or faces.

Source: DICOM PS3.15 2026c, table E.1-1. Stricter than the table in that sequences keep codes and numbers only, and that
clinical trial attributes go as a whole.
"""

from __future__ import annotations

from typing import Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from thinslice.io.dicom.attributes import kept_attributes, safe_uid, value_of
from thinslice.io.dicom.derived.derivation import derived_uid
from thinslice.io.dicom.files.header import quiet_pydicom

METHOD = "thinslice, PS3.15 2026c Annex E, basic profile"
"""DeidentificationMethod, at most 64 characters."""

_KEPT = """
    SpecificCharacterSet BurnedInAnnotation RecognizableVisualFeatures QualityControlImage QualityControlSubject
    BodyPartExamined Laterality PatientPosition PatientOrientation PositionReferenceIndicator AnatomicRegionSequence
    Manufacturer ManufacturerModelName SoftwareVersions SpatialResolution
    AcquisitionNumber WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction
    KVP ScanOptions DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector DistanceSourceToPatient
    GantryDetectorTilt TableHeight RotationDirection RevolutionTime SingleCollimationWidth TotalCollimationWidth
    TableSpeed TableFeedPerRotation SpiralPitchFactor FilterType FocalSpots ConvolutionKernel ReconstructionAlgorithm
    ConvolutionKernelGroup FilterMaterial ReconstructionMethod
    ContrastBolusAgentSequence ContrastBolusRoute ContrastBolusAdministrationRouteSequence ContrastBolusVolume
    ContrastBolusTotalDose ContrastFlowRate ContrastFlowDuration ContrastBolusIngredient
    ContrastBolusIngredientConcentration
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
_STRUCTURE = """
    ImageType SOPClassUID Modality SeriesNumber InstanceNumber ImagePositionPatient ImageOrientationPatient
    SliceLocation PixelSpacing SliceThickness Rows Columns ReferencedFrameNumber
    LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod
"""
KEPT_WITHOUT_IDENTITY: tuple[str, ...] = tuple(_KEPT.split())
"""Attributes of `kept_attributes` that stay: table E.1-1 keeps them, and they name no person, place or device."""

STRUCTURE_KEYWORDS: tuple[str, ...] = tuple(_STRUCTURE.split())
"""Attributes from which derived headers are computed; none is a free text."""

REPLACED_UIDS: tuple[str, ...] = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
"""UIDs that are replaced, each value by the same new one wherever it stands."""

_CODE_KEYWORDS = frozenset(
    map(Tag, ("CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"))
)
_HARMLESS_VRS = frozenset(("CS", "DS", "IS", "FD", "FL", "US", "UL", "SS", "SL"))
_STANDARD_ROOT = "1.2.840.10008."
"""UIDs of the standard itself, such as SOP classes."""


def replaced_uid(uid: str) -> str:
    """The UID that stands for one of the source: always the same, and without a way back.

    >>> replaced_uid("1.2.3") == replaced_uid("1.2.3"), replaced_uid("1.2.3") == replaced_uid("1.2.4")
    (True, False)
    """
    return uid if uid.startswith(_STANDARD_ROOT) else derived_uid("deidentified", uid)


def deidentified(headers: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    """Headers of a series without identity; the headers given stay as they are.

    The patient gets a name and an ID made from the study's new UID, so that studies of one patient are not linked.
    Type 2 attributes of the CT Image IOD that are not here are written empty later.

    Args:
        headers: of the source slices.
    """
    with quiet_pydicom():
        return tuple(_without_identity(header) for header in headers)


def _without_identity(header: Dataset) -> Dataset:
    source = kept_attributes(header)
    result = Dataset()
    for keyword in KEPT_WITHOUT_IDENTITY:
        if keyword in source and source.get_item(Tag(keyword)).value is not None:
            result[Tag(keyword)] = _harmless(source, Tag(keyword))
    for keyword in STRUCTURE_KEYWORDS:
        if value_of(header, keyword) is not None:
            result[Tag(keyword)] = header[Tag(keyword)]
    meta = getattr(header, "file_meta", None) or Dataset()
    result.file_meta = FileMetaDataset()
    for keyword in ("TransferSyntaxUID", "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID"):
        value = safe_uid(value_of(meta, keyword))
        if value:
            setattr(result.file_meta, keyword, replaced_uid(value))
    for keyword in REPLACED_UIDS:
        value = safe_uid(value_of(header, keyword))
        if value:
            setattr(result, keyword, replaced_uid(value))
    study = safe_uid(value_of(result, "StudyInstanceUID")) or derived_uid("deidentified", "unknown study")
    result.PatientName, result.PatientID = f"Anonymous^{study[-10:]}", f"ANON-{study[-10:]}"
    result.PatientIdentityRemoved = "YES"
    result.LongitudinalTemporalInformationModified = "REMOVED"
    result.DeidentificationMethod = METHOD
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
    code.CodeMeaning = "Basic Application Confidentiality Profile"
    result.DeidentificationMethodCodeSequence = Sequence([code])
    return result


def _harmless(parent: Dataset, tag: Any) -> DataElement | RawDataElement:
    """An element as it is; of a sequence, what `_harmless_item` keeps of its items."""
    element: DataElement | RawDataElement = parent.get_item(tag)
    if element.VR != "SQ":
        return element
    return DataElement(tag, "SQ", Sequence([_harmless_item(item) for item in parent[tag].value]))


def _harmless_item(item: Dataset) -> Dataset:
    """Codes, numbers, terms (VR CS) and replaced UIDs of a sequence's item, at every depth."""
    result = Dataset()
    for tag in list(item.keys()):
        element = item.get_item(tag)
        if tag.is_private:
            continue
        if element.VR == "SQ":
            result[tag] = _harmless(item, tag)
        elif element.VR == "UI":
            values = [item[tag].value] if item[tag].VM == 1 else list(item[tag].value or ())
            result.add_new(tag, "UI", [replaced_uid(str(value)) for value in values])
        elif element.VR in _HARMLESS_VRS or tag in _CODE_KEYWORDS:
            result[tag] = element
    return result
