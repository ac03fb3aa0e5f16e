"""Headers with the attributes alone by which series are told apart and judged: for lists of very many files."""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword

from thinslice.io.dicom.files.header import SliceHeader, read_header
from thinslice.io.dicom.files.input_files import InputFile, SkippedFile
from thinslice.io.dicom.files.multiframe import read_headers
from thinslice.io.dicom.files.object_kinds import ENHANCED_KINDS, kind_of
from thinslice.io.dicom.series.clues import CLOCKS, CONTENT, ENCODING, PASSES, SAME_PATIENT, SAME_SCAN, SETTINGS
from thinslice.io.dicom.series.facts import DATES, PERSONS, PRIVATE

OF_A_SLICE = (
    *("SOPClassUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "SpecificCharacterSet"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SpacingBetweenSlices", "GantryDetectorTilt"),
    *("RescaleType", "ModalityLUTSequence", "PixelPaddingValue", "LossyImageCompression", "NumberOfFrames"),
    *("ImagesInAcquisition", "ContributingEquipmentSequence", "ReferencedFrameNumber", "BodyPartExamined"),
    *("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber"),
)
"""Attributes of a slice that no other list here names."""

WANTED_KEYWORDS = frozenset(
    (
        *OF_A_SLICE,
        *(*SAME_PATIENT, *SAME_SCAN, *CONTENT, *PASSES, *SETTINGS, *ENCODING, *CLOCKS),
        *(*PERSONS, *PRIVATE, *DATES),
    )
)

WANTED_TAGS = frozenset(tag for tag in map(tag_for_keyword, WANTED_KEYWORDS) if tag is not None)


def read_wanted(file: InputFile) -> list[SliceHeader] | SkippedFile:
    """As `thinslice.io.dicom.files.multiframe.read_headers`, but for the attributes that nothing here asks for."""
    header = read_header(file, keep=WANTED_TAGS)
    if header is None:
        return []
    if isinstance(header, SliceHeader) and kind_of(header.dataset) in ENHANCED_KINDS:
        return read_headers(file)
    return header if isinstance(header, SkippedFile) else [header]
