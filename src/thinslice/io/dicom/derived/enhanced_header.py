"""The header of a thin series as one enhanced multi-frame CT object, from the headers of its single slices.

What `DerivedSeries` states for a slice is sorted into what the object states once, what its frames share, and what each
frame has of its own (DICOM PS3.3, A.38 and C.7.6.16). Attributes of single-frame CT that enhanced CT has no place for
stay at the top, which a standard extended SOP class allows.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, EnhancedCTImageStorage, ExplicitVRLittleEndian

from thinslice.io.dicom.attributes import REQUIRED_KEYWORDS, safe_uid, value_of
from thinslice.io.dicom.derived.derivation import derived_uid, instance_of
from thinslice.io.dicom.derived.header import DerivedSeries

IMAGE_TYPE = ("DERIVED", "PRIMARY", "VOLUME", "RESAMPLED")
"""Four values, as enhanced CT needs them: it knows no SECONDARY."""

UNKNOWN = "unknown"
"""Text of attributes that enhanced CT needs and the source lacks."""

SHARED_GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction"),
}
"""Functional groups that all frames share, with the attributes of a single-frame slice that go into them."""

DERIVATION = ("DerivationDescription", "DerivationCodeSequence")

OF_A_FRAME = ("AcquisitionNumber", "AnatomicRegionSequence")
"""Attributes of a slice that go into a group of their own, beside those of `SHARED_GROUPS`."""

WITHOUT_PLACE = ("AcquisitionDate", "AcquisitionTime", "PatientOrientation", "SliceLocation", "Laterality")
"""Attributes of a slice that another one of the object replaces."""

BODY_PARTS = {
    "CHEST": ("51185008", "Thorax"),
    "THORAX": ("51185008", "Thorax"),
    "LUNG": ("39607008", "Lung"),
    "ABDOMEN": ("818981001", "Abdomen"),
    "PELVIS": ("12921003", "Pelvis"),
    "HEAD": ("69536005", "Head"),
    "NECK": ("45048000", "Neck"),
}
"""SNOMED CT codes of BodyPartExamined; another one is coded as the entire body."""


class EnhancedHeader:
    """The header of a thin series as one object.

    Args:
        series: the series as single slices.
        sources: headers of the thick slices, which may name their irradiation events.

    Attributes:
        instance_uid: SOPInstanceUID of the object. Object and series have other UIDs than the single slices.
    """

    def __init__(self, series: DerivedSeries, sources: tuple[Dataset, ...]) -> None:
        self._series = series
        self._sources = sources
        self._evidence = _evidence(sources)
        self._evident = {
            reference.ReferencedSOPInstanceUID
            for study in self._evidence
            for reference in study.ReferencedSeriesSequence[0].ReferencedSOPSequence
        }
        self._series_uid: UID = derived_uid("enhanced series", str(series.series_uid))
        self.instance_uid: UID = derived_uid("enhanced image", str(series.series_uid))
        nearest = sorted({series.line.sources(k).nearest for k in range(len(series))})
        commons = [series.common(index) for index in nearest]
        self._slice = _agreed(commons)

    def file_meta(self) -> FileMetaDataset:
        """The file meta information of the object."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
        meta.MediaStorageSOPInstanceUID = self.instance_uid
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return meta

    def top(self) -> Dataset:
        """Everything but the groups of each frame and the pixels."""
        grouped = {keyword for keywords in SHARED_GROUPS.values() for keyword in keywords}
        # References, with which the derivation stands, need the study and series of an image; some sources name none.
        derivation = DERIVATION if self._evident else ()
        left_out = {tag_for_keyword(keyword) for keyword in (*grouped, *OF_A_FRAME, *WITHOUT_PLACE, *derivation)}
        top = Dataset()
        top.update({tag: element for tag, element in self._slice.items() if tag not in left_out})
        top.SOPClassUID, top.SOPInstanceUID = EnhancedCTImageStorage, self.instance_uid
        top.SeriesInstanceUID = self._series_uid
        top.ImageType = list(IMAGE_TYPE)
        top.InstanceNumber = 1
        top.NumberOfFrames = len(self._series)
        top.PixelPresentation, top.VolumetricProperties = "MONOCHROME", "VOLUME"
        top.VolumeBasedCalculationTechnique = "NONE"
        top.PresentationLUTShape, top.ContentQualification = "IDENTITY", "RESEARCH"
        top.AcquisitionContextSequence = Sequence([])
        for keyword, value in (
            ("ContentDate", "19000101"),  # of a source whose dates were removed
            ("ContentTime", "000000"),
            ("BurnedInAnnotation", "NO"),
            ("LossyImageCompression", "00"),
            ("Manufacturer", UNKNOWN),
            ("ManufacturerModelName", UNKNOWN),
            ("DeviceSerialNumber", UNKNOWN),
            ("SoftwareVersions", UNKNOWN),
        ):
            if value_of(top, keyword) is None:
                setattr(top, keyword, value)
        date, time = value_of(self._slice, "AcquisitionDate"), value_of(self._slice, "AcquisitionTime")
        if value_of(top, "AcquisitionDateTime") is None and date and time:
            top.AcquisitionDateTime = f"{date}{time}"
        if self._evidence:
            top.SourceImageEvidenceSequence = Sequence(self._evidence)
        self._add_dimensions(top)
        top.SharedFunctionalGroupsSequence = Sequence([self._shared()])
        return top

    def frame(self, slice_index: int) -> Dataset:
        """The functional groups of one frame.

        Args:
            slice_index: in depth order, from 0; frames have the order of depth.
        """
        own = self._series.own(slice_index)
        item = Dataset()
        content = Dataset()
        content.StackID, content.InStackPositionNumber = "1", slice_index + 1
        content.DimensionIndexValues = [1, slice_index + 1]
        acquisition = value_of(self._slice, "AcquisitionNumber")
        if isinstance(acquisition, int) and acquisition >= 0:
            content.FrameAcquisitionNumber = int(acquisition)
        item.FrameContentSequence = Sequence([content])
        item.PlanePositionSequence = Sequence([_chosen(own, ("ImagePositionPatient",))])
        if self._evident:
            derivation = _chosen(self._slice, DERIVATION)
            derivation.SourceImageSequence = Sequence(
                reference
                for reference in value_of(own, "SourceImageSequence", ())
                if reference.ReferencedSOPInstanceUID in self._evident
            )
            item.DerivationImageSequence = Sequence([derivation])
        return item

    def _shared(self) -> Dataset:
        """The functional groups that all frames share."""
        shared = Dataset()
        for sequence, keywords in SHARED_GROUPS.items():
            group = _chosen(self._slice, keywords)
            if len(group) and (
                sequence != "FrameVOILUTSequence" or {"WindowCenter", "WindowWidth"} <= set(group.dir())
            ):
                setattr(shared, sequence, Sequence([group]))
        kind = Dataset()
        kind.FrameType = list(IMAGE_TYPE)
        kind.PixelPresentation, kind.VolumetricProperties = "MONOCHROME", "VOLUME"
        kind.VolumeBasedCalculationTechnique = "NONE"
        shared.CTImageFrameTypeSequence = Sequence([kind])
        anatomy = Dataset()
        anatomy.FrameLaterality = "U"
        anatomy.AnatomicRegionSequence = Sequence(
            value_of(self._slice, "AnatomicRegionSequence") or [_region(value_of(self._slice, "BodyPartExamined", ""))]
        )
        shared.FrameAnatomySequence = Sequence([anatomy])
        event = Dataset()
        # Required. Where the source names none, a UID stands for the unknown event of the source.
        named = sorted({safe_uid(value_of(source, "IrradiationEventUID")) or "" for source in self._sources} - {""})
        event.IrradiationEventUID = named or derived_uid("irradiation event", str(self._series.series_uid))
        shared.IrradiationEventIdentificationSequence = Sequence([event])
        return shared

    def _add_dimensions(self, top: Dataset) -> None:
        """State that frames are ordered by stack, then by place in it."""
        uid = derived_uid("dimensions", str(self._series.series_uid))
        organisation = Dataset()
        organisation.DimensionOrganizationUID = uid
        top.DimensionOrganizationSequence = Sequence([organisation])
        top.DimensionOrganizationType = "3D"
        indices = []
        for keyword, label in (("StackID", "Stack"), ("InStackPositionNumber", "Place in the stack")):
            index = Dataset()
            index.DimensionOrganizationUID = uid
            index.DimensionIndexPointer = tag_for_keyword(keyword)
            index.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
            index.DimensionDescriptionLabel = label
            indices.append(index)
        top.DimensionIndexSequence = Sequence(indices)


def _agreed(commons: list[Dataset]) -> Dataset:
    """The attributes of a slice, less those that differ between the slices of a series; required ones stay."""
    first = commons[0]
    agreed = Dataset()
    for tag, element in first.items():
        required = keyword_for_tag(tag) in REQUIRED_KEYWORDS
        if required or all(tag in other and other[tag] == first[tag] for other in commons[1:]):
            agreed[tag] = element
    return agreed


def _chosen(source: Dataset, keywords: Iterable[str]) -> Dataset:
    """Some attributes that have values."""
    chosen = Dataset()
    for keyword in keywords:
        if value_of(source, keyword) is not None:
            chosen[keyword] = source.get_item(keyword)
    return chosen


def _evidence(sources: Iterable[Dataset]) -> list[Dataset]:
    """The source images by study and series, as far as they have UIDs."""
    by_series: dict[tuple[str, str], dict[str, str]] = {}
    for source in sources:
        study, series = (safe_uid(value_of(source, f"{level}InstanceUID")) for level in ("Study", "Series"))
        sop_class, instance = instance_of(source)
        if study and series and instance:
            by_series.setdefault((study, series), {})[instance] = sop_class
    evidence = []
    for (study, series), instances in by_series.items():
        of_study, of_series = Dataset(), Dataset()
        references = []
        for instance, sop_class in instances.items():
            reference = Dataset()
            reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, instance
            references.append(reference)
        of_series.SeriesInstanceUID, of_series.ReferencedSOPSequence = series, Sequence(references)
        of_study.StudyInstanceUID, of_study.ReferencedSeriesSequence = study, Sequence([of_series])
        evidence.append(of_study)
    return evidence


def _region(body_part: object) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodeMeaning = BODY_PARTS.get(str(body_part).upper().strip(), ("38266002", "Entire body"))
    code.CodingSchemeDesignator = "SCT"
    return code
