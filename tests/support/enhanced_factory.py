"""Enhanced multi-frame CT made from single-frame slices: functional groups, stacks, phases, concatenations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from support.dicom_factory import save

PER_FRAME = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SliceLocation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "PixelData",
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "ImageType",
    "ConvolutionKernel",
    "GantryDetectorTilt",
)


def enhanced(
    files: Sequence[Path],
    path: Path,
    *,
    stacks: Sequence[int] | None = None,
    times: Sequence[int] | None = None,
    part: tuple[int, int, int] | None = None,
    transfer_syntax: str | UID = "explicit",
) -> FileDataset:
    """Write one enhanced CT object whose frames are single-frame slices, in the order given.

    Args:
        files: single-frame CT in explicit VR little endian, of one matrix.
        path: to be written.
        stacks: stack of each frame; all 1 by default.
        times: temporal position of each frame; none by default.
        part: (number, of how many, frames before it) of a concatenation.
        transfer_syntax: as in `dicom_factory.save`.

    Returns:
        The dataset as written.
    """
    slices = [dcmread(file) for file in files]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    whole.update({element.tag: element for element in slices[0] if element.keyword not in PER_FRAME})
    whole.SOPClassUID, whole.SOPInstanceUID = EnhancedCTImageStorage, meta.MediaStorageSOPInstanceUID
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    whole.InstanceNumber, whole.NumberOfFrames = 1, len(slices)
    if part:
        whole.ConcatenationUID = generate_uid(entropy_srcs=[str(slices[0].SeriesInstanceUID)])
        whole.InConcatenationNumber, whole.InConcatenationTotalNumber = part[:2]
        whole.ConcatenationFrameOffsetNumber = part[2]
    common = Dataset()
    common.PlaneOrientationSequence = [_group(slices[0], "ImageOrientationPatient")]
    common.PixelMeasuresSequence = [_group(slices[0], "PixelSpacing", "SliceThickness")]
    kind = Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    common.CTImageFrameTypeSequence = [kind]
    if "ConvolutionKernel" in slices[0]:
        common.CTReconstructionSequence = [_group(slices[0], "ConvolutionKernel")]
    whole.SharedFunctionalGroupsSequence = [common]
    items = []
    for index, one in enumerate(slices):
        item, content = Dataset(), Dataset()
        content.StackID = str(stacks[index] if stacks else 1)
        if times:
            content.TemporalPositionIndex = times[index]
        item.FrameContentSequence = [content]
        item.PlanePositionSequence = [_group(one, "ImagePositionPatient")]
        item.PixelValueTransformationSequence = [_group(one, "RescaleSlope", "RescaleIntercept", "RescaleType")]
        items.append(item)
    whole.PerFrameFunctionalGroupsSequence = items
    whole.PixelData = b"".join(one.PixelData for one in slices)
    whole["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(whole, path, transfer_syntax)
    return whole


def _group(source: Dataset, *keywords: str) -> Dataset:
    group = Dataset()
    for keyword in keywords:
        if keyword in source:
            group[keyword] = source[keyword]
    return group
