"""Enhanced multi-frame CT as single slices: each frame with the header that a single-frame CT image would have.

An enhanced CT object keeps what its frames share, and what differs, in functional groups (DICOM PS3.3, C.7.6.16). Here
every frame becomes a `SliceHeader` of its own, so that all that follows, from sorting to writing, knows slices alone.
Legacy converted enhanced CT is read in the same way; concatenations are frames of several files of one series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from thinslice.io.dicom.attributes import value_of
from thinslice.io.dicom.files.bounds import HeaderError
from thinslice.io.dicom.files.header import SliceHeader, mend, open_dataset, read_header
from thinslice.io.dicom.files.input_files import InputFile, SkippedFile
from thinslice.io.dicom.files.object_kinds import ENHANCED_KINDS, kind_of
from thinslice.io.dicom.files.pixel_element import ITEM_TAGS
from thinslice.io.dicom.files.unpack import spooled
from thinslice.io.dicom.files.values import integer, text

CODESTREAM_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""First bytes of JPEG and JPEG-LS, and of JPEG 2000."""

UNASSIGNED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
"""Attributes of the single-frame images that a legacy converted object was made from; anything else overrides them."""

GROUPS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "FrameVOILUTSequence",
    "FrameAnatomySequence",
    "CTImageFrameTypeSequence",
    "CTAcquisitionTypeSequence",
    "CTAcquisitionDetailsSequence",
    "CTTableDynamicsSequence",
    "CTReconstructionSequence",
    "CTGeometrySequence",
    "CTPositionSequence",
    "CTXRayDetailsSequence",
    "CardiacSynchronizationSequence",
    "RespiratorySynchronizationSequence",
    "TemporalPositionSequence",
    "MultienergyCTCharacteristicsSequence",
)
"""Functional groups whose attributes a single-frame image holds itself."""

RENAMED = {
    tag_for_keyword(of_frame): tag_for_keyword(of_image)
    for of_frame, of_image in (
        ("FrameType", "ImageType"),
        ("FrameAcquisitionNumber", "AcquisitionNumber"),
        ("FrameAcquisitionDateTime", "AcquisitionDateTime"),
        ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    )
}
"""Attributes that have another name in a single-frame image, by tag."""

OF_THE_OBJECT = (
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
    "NumberOfFrames",
)
"""Attributes that a single frame does not have."""

Elements = dict[Any, DataElement | RawDataElement]


def read_headers(file: InputFile) -> list[SliceHeader] | SkippedFile:
    """The slices of a file: one, the frames of an enhanced CT, or none for a DICOMDIR.

    Returns:
        Headers, or a `SkippedFile` for a file that is not DICOM, damaged or hostile.
    """
    header = read_header(file)
    if header is None:
        return []
    if isinstance(header, SkippedFile):
        return header
    try:
        return list(frames_of(header)) if kind_of(header.dataset) in ENHANCED_KINDS else [header]
    except HeaderError as error:
        return SkippedFile(file.name, str(error))
    except Exception:  # functional groups full of hostile bytes raise anything
        return SkippedFile(file.name, "damaged DICOM")


def frames_of(header: SliceHeader) -> Iterator[SliceHeader]:
    """The frames of an enhanced CT, in the order of the file.

    Raises:
        HeaderError: its functional groups or its pixels do not fit its number of frames.
    """
    dataset = header.dataset
    per_frame = list(value_of(dataset, "PerFrameFunctionalGroupsSequence", ()))
    if not per_frame or len(per_frame) != integer(dataset, "NumberOfFrames"):
        raise HeaderError("its functional groups do not match its number of frames")
    shared = next(iter(value_of(dataset, "SharedFunctionalGroupsSequence", ())), Dataset())
    left_behind = {tag_for_keyword(keyword) for keyword in OF_THE_OBJECT}
    common = {
        **_unassigned(shared),
        **{tag: element for tag, element in dataset.items() if tag not in left_behind},
        **_grouped(shared),
    }
    file, syntax = header.file, header.transfer_syntax
    if syntax == DeflatedExplicitVRLittleEndian:
        with file.open() as stream:
            inflated = open_dataset(header, stream).read()
        file, syntax = replace(file, content=spooled(iter([inflated]))), ExplicitVRLittleEndian
    file = file.unpacked()
    header = replace(header, file=file, transfer_syntax=syntax)
    places = _encapsulated_places(header, len(per_frame)) if syntax.is_encapsulated else _native_places(header)
    offset = integer(dataset, "ConcatenationFrameOffsetNumber") or 0
    for index, item in enumerate(per_frame):
        own = {**_unassigned(item), **common, **_grouped(item)}
        implicit, little = dataset.original_encoding
        frame = FileDataset("", own, None, dataset.file_meta, bool(implicit), bool(little))
        frame.set_original_encoding(implicit, little, dataset._character_set)
        frame.filename = frame.buffer = frame.timestamp = None
        in_stack = integer(frame, "InStackPositionNumber")
        frame.InstanceNumber = in_stack if in_stack and in_stack > 0 else offset + index + 1
        frame.ReferencedFrameNumber = index + 1
        start, length, left = next(places)
        notes = (*header.notes, *mend(frame))
        yield SliceHeader(file, frame, syntax, start, length, left, notes, header.pixels_swapped)


def missing_parts(datasets: Iterable[Dataset]) -> list[str]:
    """A sentence for every concatenation of which files are missing."""
    parts: dict[str, set[int | None]] = {}
    totals: dict[str, int] = {}
    for dataset in datasets:
        uid, total = text(dataset, "ConcatenationUID"), integer(dataset, "InConcatenationTotalNumber")
        if uid:
            parts.setdefault(uid, set()).add(integer(dataset, "InConcatenationNumber"))
            totals[uid] = max(totals.get(uid, 0), total or 0)
    return [
        f"A concatenation of {totals[uid]} files has {len(found)} here; slices are missing."
        for uid, found in parts.items()
        if totals[uid] > len(found)
    ]


def _unassigned(item: Dataset) -> Elements:
    return _flattened(item, UNASSIGNED)


def _grouped(item: Dataset) -> Elements:
    return _flattened(item, GROUPS)


def _flattened(item: Dataset, keywords: Iterable[str]) -> Elements:
    """The attributes inside some functional groups, under the names that a single-frame image has for them."""
    found: Elements = {}
    for keyword in keywords:
        group = next(iter(value_of(item, keyword, ())), None)
        if group is None:
            continue
        for element in group.values():
            tag = RENAMED.get(element.tag)
            if tag is None:
                found[element.tag] = element
            else:
                found[Tag(tag)] = DataElement(tag, dictionary_VR(tag), group[element.tag].value)
    return found


def _native_places(header: SliceHeader) -> Iterator[tuple[int | None, int, int]]:
    """(start, length, bytes to the end) of each frame of uncompressed pixels.

    Raises:
        HeaderError: there are more pixels than frames of this matrix hold.
    """
    rows, columns, bits = (integer(header.dataset, name) or 0 for name in ("Rows", "Columns", "BitsAllocated"))
    size = rows * columns * bits // 8
    if size and header.pixel_length > (integer(header.dataset, "NumberOfFrames") or 1) * size + size // 2:
        raise HeaderError("its pixel data do not fit Rows, Columns and its number of frames")
    start, left = header.pixel_start, min(header.pixel_bytes, header.pixel_length)
    while True:
        yield start, size, max(0, left)
        start, left = None if start is None else start + size, left - size


def _encapsulated_places(header: SliceHeader, frames: int) -> Iterator[tuple[int | None, int, int]]:
    """(start, length, bytes to the end) of the fragments of each frame of compressed pixels.

    Raises:
        HeaderError: the fragments cannot be divided into the frames.
    """
    if header.pixel_start is None:
        raise HeaderError("no pixel data, or cut short before them")
    with header.file.open() as stream:
        fragments = _fragments(stream, header.pixel_start, header.pixel_start + header.pixel_bytes)
    table, *rest = fragments or [(0, 0, b"")]
    if table[1] and table[2] != bytes(4):
        rest = fragments  # a writer without offset table
    firsts = rest if len(rest) == frames else [one for one in rest if one[2].startswith(CODESTREAM_STARTS)]
    if len(firsts) != frames:
        raise HeaderError("its compressed pixels do not match its number of frames")
    starts = [start for start, _, _ in firsts]
    end = rest[-1][0] + 8 + rest[-1][1]
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        yield start, header.pixel_length, stop - start


def _fragments(stream: BinaryIO, start: int, end: int) -> list[tuple[int, int, bytes]]:
    """(offset, length, first four bytes) of every item of encapsulated pixels."""
    found: list[tuple[int, int, bytes]] = []
    while start + 8 <= end:
        stream.seek(start)
        head = stream.read(12)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != ITEM_TAGS[0] or start + 8 + length > end:
            break
        found.append((start, length, head[8:12]))
        start += 8 + length
    return found
