"""One DICOM header, read with bounds: a file with hostile lengths, nesting or deflate streams is skipped."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import struct
import warnings
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Any, BinaryIO

from pydicom import config
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from thinslice.io.dicom.attributes import value_of
from thinslice.io.dicom.files.bounds import MAX_HEADER_BYTES, HeaderError
from thinslice.io.dicom.files.elements import read_elements, tag_object
from thinslice.io.dicom.files.file_form import (
    KNOWN_VRS,
    MAX_INFLATED_BYTES,
    NATIVE_SYNTAXES,
    FileForm,
    Layout,
    file_form,
    inflate,
    layout_of,
    looks_like_dicom,
)
from thinslice.io.dicom.files.input_files import UNPACK_ERRORS, InputFile, SkippedFile
from thinslice.io.dicom.files.unpack import PackedError

MAX_NESTING = 32
"""Sequences inside sequences; real CT headers have five at most."""

GE_SWAPPED_PIXELS = "1.2.840.113619.5.2"
"""GE's private transfer syntax: a dataset in implicit VR little endian, its pixels big endian."""

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
"""SOP class of single-frame CT."""

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of DICOMDIR, an index that is ignored."""

BINARY_VRS = ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD")
"""Value representations of numbers that are not text."""

TEXT_VRS = ("CS", "LO", "SH", "UI", "DS", "IS", "TM", "DA")
"""Value representations that need no character set to be compared."""

TAGS: dict[str, BaseTag] = {}
VRS: dict[int, str] = {}

UNDEFINED_LENGTH = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
MAX_REST_BYTES = 1 << 16
"""Bytes behind the pixels that are looked at."""

ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
FIRST_PIXEL_TAGS = frozenset((0x7FE00008, 0x7FE00009, PIXEL_DATA))
PIXEL_VRS = ("OW", "OB", "UN")

_DECIMAL = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class SliceHeader:
    """A parsed file: its header, and where its pixels lie.

    Attributes:
        file: where it was read from.
        dataset: everything before the pixels, with `file_meta`; no preamble, no reference to the file.
        transfer_syntax: how the dataset is encoded.
        pixel_start: offset of the pixel value, in the inflated stream for a deflated dataset; None without pixels.
        pixel_length: declared bytes, `UNDEFINED_LENGTH` when encapsulated.
        pixel_bytes: bytes from `pixel_start` to the end of the stream, or of the frame.
        notes: sentences on what was taken otherwise than written.
        pixels_swapped: whether the pixels are declared to be in the other byte order than the dataset.
    """

    file: InputFile
    dataset: FileDataset
    transfer_syntax: UID
    pixel_start: int | None
    pixel_length: int
    pixel_bytes: int
    notes: tuple[str, ...] = ()
    pixels_swapped: bool = False


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Suppress pydicom's warnings and log: its messages quote values, which may identify a patient."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def read_header(file: InputFile, *, keep: frozenset[int] | None = None) -> SliceHeader | SkippedFile | None:
    """Parse everything before the pixels.

    Args:
        file: the file.
        keep: tags of the attributes that are wanted; None for all.

    Returns:
        The header; a `SkippedFile` for a file that is not DICOM, damaged or hostile; None for a DICOMDIR.
    """
    try:
        with file.open() as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            header = _parse(file, stream, size, keep)
    except (HeaderError, PackedError) as error:
        return SkippedFile(file.name, str(error))
    except UNPACK_ERRORS as error:
        # RecursionError is a RuntimeError: a dataset nested beyond Python's limit.
        if isinstance(error, RecursionError):
            return SkippedFile(file.name, f"sequences nested deeper than {MAX_NESTING}")
        return SkippedFile(file.name, "cannot be opened or parsed")
    except MemoryError:
        return SkippedFile(file.name, "asks for more memory than there is")
    except Exception:  # a parser fed with hostile bytes raises anything; the reason must not quote them
        return SkippedFile(file.name, "damaged DICOM")
    meta_class = text(header.dataset.file_meta, "MediaStorageSOPClassUID")
    return None if meta_class == MEDIA_STORAGE_DIRECTORY else header


def open_dataset(header: SliceHeader, stream: BinaryIO) -> BinaryIO:
    """The stream to which `pixel_start` refers: the file itself, or its inflated dataset."""
    if header.transfer_syntax != DeflatedExplicitVRLittleEndian:
        return stream
    return _dataset_stream(file_form(stream, stream.seek(0, io.SEEK_END)), stream)


def text(dataset: Dataset, keyword: str) -> str:
    """A header value as text, stripped, several joined by a backslash; "" where missing or unreadable."""
    raw = _raw(dataset, keyword)
    if raw is not None and raw.VR in TEXT_VRS:
        return (raw.value or b"").decode("latin-1").strip(" \0")
    if raw is None and TAGS[keyword] not in dataset._dict:
        return ""
    value = value_of(dataset, keyword)
    if value is None:
        return ""
    return ("\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)).strip()


def number(dataset: Dataset, keyword: str) -> float | None:
    """A finite header value, or None where missing or unreadable."""
    values = numbers(dataset, keyword, 1)
    return values[0] if values else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """A whole header value, or None where missing, fractional or unreadable."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite header values, or None."""
    raw = _raw(dataset, keyword)
    if raw is None and TAGS[keyword] not in dataset._dict:
        return None
    items: Iterable[Any]
    try:
        if raw is not None and raw.VR not in BINARY_VRS and VRS[raw.tag] in ("DS", "IS"):
            items = decimals(raw.value or b"")
        elif raw is not None and raw.VR in ("US", "SS") and raw.value and len(raw.value) % 2 == 0:
            letter = "H" if raw.VR == "US" else "h"
            items = struct.unpack(f"{'<' if raw.is_little_endian else '>'}{len(raw.value) // 2}{letter}", raw.value)
        else:
            value = value_of(dataset, keyword)
            items = [value] if isinstance(value, str | int | float) else value
        result = tuple(float(item) for item in items)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if len(result) == count and all(map(math.isfinite, result)) else None


def is_shared(datasets: Several[Dataset], keyword: str) -> bool:
    """Whether an attribute has the same bytes in all headers, or is in none; it then means the same in all of them.

    This costs a tenth of a comparison of values. False where they may still mean the same.
    """
    _raw(datasets[0], keyword)
    tag = TAGS[keyword]
    first = datasets[0]._dict.get(tag)
    if first is None:
        return all(tag not in dataset._dict for dataset in datasets)
    if not isinstance(first, RawDataElement):
        return False
    value, vr = first.value, first.VR
    for dataset in datasets:
        other = dataset._dict.get(tag)
        if not isinstance(other, RawDataElement) or other.value != value or vr != other.VR:
            return False
    return True


def decimals(value: bytes) -> list[bytes]:
    r"""The numbers of a decimal or integer string, as they are written, without padding.

    Writers pad with spaces, as DICOM asks for, with NUL, or with empty values.

    Raises:
        ValueError: one is no number.

    >>> decimals(b"0.841796875\\0.841796875\0"), decimals(b" 5 "), decimals(b"-1024\\ ")
    ([b'0.841796875', b'0.841796875'], [b'5'], [b'-1024'])
    """
    items = [item.strip(b" \0\t\r\n") for item in value.split(b"\\")]
    while items and not items[-1]:
        items.pop()
    if not all(_DECIMAL.fullmatch(item) for item in items):
        raise ValueError
    return items


def _raw(dataset: Dataset, keyword: str) -> RawDataElement | None:
    """The element as in the file, with its VR: converting every value costs more than parsing."""
    tag = TAGS.get(keyword)
    if tag is None:
        tag = TAGS[keyword] = tag_object(tag_for_keyword(keyword) or 0)
        VRS[tag] = dictionary_VR(tag)
    element = dataset._dict.get(tag)
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return None
    return element if element.VR else element._replace(VR=VRS[tag])


def _parse(file: InputFile, stream: BinaryIO, size: int, keep: frozenset[int] | None) -> SliceHeader:
    head = stream.read(140)
    if not head:
        raise HeaderError("empty file")
    if not looks_like_dicom(head):
        raise HeaderError("not DICOM" if len(head) > 132 else "cut short, or not DICOM")
    form = file_form(stream, size)
    body = _dataset_stream(form, stream)
    start, body_size = body.tell(), size
    if body is not stream:
        body_size = body.seek(0, io.SEEK_END)
        body.seek(start)
    first = body.read(8)
    body.seek(start)
    if len(first) < 8:
        raise HeaderError("truncated or empty DICOM")
    layout = layout_of(first)
    elements = read_elements(
        body,
        body_size,
        implicit=layout.implicit,
        little=layout.little,
        stop=FIRST_PIXEL_TAGS.__contains__,
        limit=MAX_HEADER_BYTES,
        keep=keep,
    )
    # An executable may hide in the preamble, and the file must not stay open or its folder be remembered.
    dataset = FileDataset("", elements, None, form.meta, layout.implicit, layout.little)
    dataset.set_original_encoding(layout.implicit, layout.little, elements._character_set)
    dataset.filename = dataset.buffer = dataset.timestamp = None
    if "SOPClassUID" not in dataset and "MediaStorageSOPClassUID" not in form.meta:
        raise HeaderError("not DICOM" if form.start < 132 else "truncated or empty DICOM")
    syntax = _declared_syntax(form, layout, inflated=body is not stream)
    notes = mend(dataset)
    pixels, length = _pixel_element(body, layout)
    if pixels is None and CT_IMAGE in (text(dataset, "SOPClassUID"), text(form.meta, "MediaStorageSOPClassUID")):
        raise HeaderError("no pixel data, or cut short before them")
    _check_nesting(dataset)
    if pixels is None:
        return SliceHeader(file, dataset, syntax, None, 0, 0, notes)
    syntax, length = _found_syntax(syntax, layout, dataset, length, body, pixels)
    notes += _behind_pixels(body, layout, pixels, length, body_size)
    swapped = form.declared == GE_SWAPPED_PIXELS
    return SliceHeader(file, dataset, syntax, pixels, length, body_size - pixels, notes, swapped)


def _dataset_stream(form: FileForm, stream: BinaryIO) -> BinaryIO:
    """The stream of the dataset, at its start: the file, or what a deflated dataset inflates to."""
    stream.seek(form.start)
    if form.declared != DeflatedExplicitVRLittleEndian:
        return stream
    first = stream.read(6)
    stream.seek(form.start)
    if first[:2] == b"\x08\x00" and first[4:6].decode("latin-1") in KNOWN_VRS:
        return stream  # said to be deflated, and is not
    return io.BytesIO(inflate(stream.read(MAX_INFLATED_BYTES), lambda: stream.read(1)))


def _declared_syntax(form: FileForm, layout: Layout, *, inflated: bool) -> UID:
    """The declared transfer syntax; for uncompressed pixels the one that the dataset was found to have."""
    if inflated:
        return DeflatedExplicitVRLittleEndian
    if form.declared and form.declared not in (*NATIVE_SYNTAXES, GE_SWAPPED_PIXELS):
        syntax = UID(form.declared)
        if not syntax.is_transfer_syntax:
            raise HeaderError("unknown transfer syntax")
        return syntax
    if layout.implicit and not layout.little:
        raise HeaderError("unknown transfer syntax")
    return layout.syntax


def mend(dataset: Dataset) -> tuple[str, ...]:
    """Take padding off numbers and damage off value representations, and complete values as other readers do.

    Returns:
        Sentences on what was assumed.
    """
    commas = False
    for element in list(dataset.values()):
        if not isinstance(element, RawDataElement):
            continue
        mended = element
        if element.VR is not None and element.VR not in KNOWN_VRS:
            mended = mended._replace(VR=None)  # pydicom then takes the one of its dictionary
        value = element.value
        if isinstance(value, bytes) and value[-1:] in (b"\0", b"\\") and _is_decimal(mended):
            with contextlib.suppress(ValueError):
                cleaned = b"\\".join(decimals(value))
                mended = mended._replace(value=cleaned, length=len(cleaned))
        if isinstance(value, bytes) and b"," in value and _is_decimal(mended):
            with contextlib.suppress(ValueError):
                pointed = b"\\".join(decimals(value.replace(b",", b".")))
                mended = mended._replace(value=pointed, length=len(pointed))
                commas = True
        if mended is not element:
            dataset[element.tag] = mended
    # What follows is read as SimpleITK and dcm2niix read it.
    notes = ["Numbers are written with a decimal comma, which is taken as a point."] if commas else []
    spacing = numbers(dataset, "PixelSpacing", 1)
    if spacing is not None:
        dataset.PixelSpacing = [spacing[0], spacing[0]]
        notes.append("PixelSpacing holds one value; pixels are taken as square.")
    if not number(dataset, "RescaleSlope") and number(dataset, "RescaleIntercept") is not None:
        dataset.RescaleSlope = 1
        notes.append("RescaleSlope is missing or 0; it is taken as 1.")
    one_sample = integer(dataset, "SamplesPerPixel") == 1
    if one_sample and "Rows" in dataset and not text(dataset, "PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2"
        notes.append("PhotometricInterpretation is missing; larger values are taken as denser.")
    return tuple(notes)


def _is_decimal(element: RawDataElement) -> bool:
    if element.VR is not None:
        return element.VR in ("DS", "IS")
    return dictionary_has_tag(element.tag) and dictionary_VR(element.tag) in ("DS", "IS")


def _pixel_element(stream: BinaryIO, layout: Layout) -> tuple[int | None, int]:
    """(offset of the value, declared length) of the PixelData element at the stream's position."""
    offset = stream.tell()
    head = stream.read(12)
    order = "<" if layout.little else ">"
    if len(head) < 12:
        return None, 0
    group, element = struct.unpack(order + "HH", head[:4])
    if (group << 16 | element) != PIXEL_DATA:
        return None, 0
    # The letters of a VR, read as a length, would be odd, and no length is odd. Letters that were damaged into those of
    # another VR leave the two zero bytes behind them.
    letters = PIXEL_VRS if layout.implicit else KNOWN_VRS
    if head[4:6].decode("latin-1") not in letters or (head[6:8] != b"\0\0" and layout.implicit):
        return offset + 8, struct.unpack(order + "L", head[4:8])[0]
    return offset + 12, struct.unpack(order + "L", head[8:12])[0]


def _found_syntax(
    syntax: UID, layout: Layout, dataset: Dataset, length: int, stream: BinaryIO, start: int
) -> tuple[UID, int]:
    """(transfer syntax, length) of pixels whose length shows that they are not as declared.

    Uncompressed pixels of exactly the right size under a compressed syntax are uncompressed; uncompressed pixels of
    undefined length end after as many bytes as the matrix needs.
    """
    if syntax.is_encapsulated == (length == UNDEFINED_LENGTH):
        return syntax, length
    sizes = [integer(dataset, keyword) or 0 for keyword in ("Rows", "Columns", "BitsAllocated")]
    frames = integer(dataset, "NumberOfFrames") or 1
    expected = sizes[0] * sizes[1] * sizes[2] // 8 * frames
    if not 0 < expected < UNDEFINED_LENGTH:
        return syntax, length
    stream.seek(start)
    first = stream.read(4)
    if syntax.is_encapsulated:
        is_plain = expected <= length <= expected + 1 and first[:2] not in (b"\xff\xd8", b"\xff\x4f")
        return (layout.syntax if is_plain else syntax), length
    return syntax, (length if first in ITEM_TAGS else expected)


def _behind_pixels(stream: BinaryIO, layout: Layout, start: int, length: int, size: int) -> tuple[str, ...]:
    """A sentence where uncompressed pixels are followed by bytes that are neither elements nor padding.

    Elements may follow the pixels: trailing padding, signatures, private ones. Other bytes show that something was
    lost, inserted or changed in the length before them.
    """
    end = start + length
    if length == UNDEFINED_LENGTH or end >= size:
        return ()
    stream.seek(end)
    rest = stream.read(MAX_REST_BYTES)
    if not rest.strip(b"\0 \r\n"):
        return ()
    order = "<" if layout.little else ">"
    if len(rest) >= 8:
        group = struct.unpack(order + "H", rest[:2])[0]
        is_known = layout.implicit or rest[4:6].decode("latin-1") in KNOWN_VRS
        if group >= PIXEL_DATA >> 16 and is_known:
            return ()
    return ("Bytes that are no DICOM follow the pixels; the file may be damaged.",)


def _check_nesting(dataset: Dataset) -> None:
    """Refuse a dataset that nests too deeply; pydicom parses sequences of defined length only on access."""
    level: list[Dataset] = [dataset]
    for _ in range(MAX_NESTING):
        deeper: list[Dataset] = []
        for item in level:
            for element in list(item.values()):
                if isinstance(element, RawDataElement) and not _may_nest(element):
                    continue
                value = item[element.tag].value
                if isinstance(value, Sequence):
                    deeper.extend(value)
        if not deeper:
            return
        level = deeper
    raise HeaderError(f"sequences nested deeper than {MAX_NESTING}")


def _may_nest(element: RawDataElement) -> bool:
    """Whether an unparsed element may hold sequences deeper than allowed; every level begins with an item tag."""
    # Implicit VR holds no types, and UN may hide a sequence.
    if element.VR not in ("SQ", "UN", None) or not isinstance(element.value, bytes):
        return False
    return element.value[:4] in ITEM_TAGS and sum(map(element.value.count, ITEM_TAGS)) >= MAX_NESTING // 2
