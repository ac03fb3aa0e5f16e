"""One DICOM header, read with bounds: a file with hostile lengths, nesting or deflate streams is skipped."""

from __future__ import annotations

import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from thinslice.io.dicom.attributes import value_of
from thinslice.io.dicom.input_files import UNPACK_ERRORS, InputFile, SkippedFile

MAX_HEADER_BYTES = 32 * 2**20
"""Bytes read for one header, pixels not counted; real ones stay below 1 MiB."""

MAX_INFLATED_BYTES = 64 * 2**20
"""Bytes that a deflated dataset may unpack to: twice a 4096 x 4096 slice of 16 bits."""

MAX_NESTING = 32
"""Sequences inside sequences; real CT headers have five at most."""

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
"""SOP class of single-frame CT."""

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of DICOMDIR, an index that is ignored."""

TEXT_VRS = ("CS", "LO", "SH", "UI", "DS", "IS", "TM", "DA")
"""Value representations that need no character set to be compared."""

TAGS: dict[str, int] = {}
VRS: dict[int, str] = {}

UNDEFINED_LENGTH = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
FIRST_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, PIXEL_DATA)


class HeaderError(Exception):
    """This file is not read; the message is a short reason for the list of skipped files."""


class _InflateError(Exception):
    """pydicom met a deflated dataset and asked for all that is left."""


@dataclass(frozen=True)
class SliceHeader:
    """A parsed file: its header, and where its pixels lie.

    Attributes:
        file: where it was read from.
        dataset: everything before the pixels, with `file_meta`; no preamble, no reference to the file.
        transfer_syntax: how the dataset is encoded.
        pixel_start: offset of the pixel value, in the inflated stream for a deflated dataset; None without pixels.
        pixel_length: declared bytes, `UNDEFINED_LENGTH` when encapsulated.
        pixel_bytes: bytes from `pixel_start` to the end of the stream.
    """

    file: InputFile
    dataset: FileDataset
    transfer_syntax: UID
    pixel_start: int | None
    pixel_length: int
    pixel_bytes: int


class BoundedReader:
    """A file for pydicom that never reads past the end of the file, nor more than `limit` bytes in all.

    pydicom allocates the length that an element declares; here the length is cut to the end of the file. Reading
    without a size raises: pydicom does so only to inflate a deflated dataset, which must be bounded.
    """

    def __init__(self, stream: BinaryIO, size: int, limit: int) -> None:
        self._stream, self._size, self._left = stream, size, limit

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; `HeaderError` once the limit is spent."""
        if size < 0:
            raise _InflateError
        data = self._stream.read(min(size, self._size - self._stream.tell()) if size > 4096 else size)
        self._left -= len(data)
        if self._left < 0:
            raise HeaderError(f"its header is larger than {MAX_HEADER_BYTES // 2**20} MiB")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of files, but never past the end, even for a hostile length."""
        position = self._stream.seek(offset, whence)
        return position if position <= self._size else self._stream.seek(self._size)

    def tell(self) -> int:
        """As of files."""
        return self._stream.tell()

    def close(self) -> None:
        """No action: the stream is closed where it was opened."""


@contextmanager
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


def read_header(file: InputFile) -> SliceHeader | SkippedFile | None:
    """Parse everything before the pixels.

    Returns:
        The header; a `SkippedFile` for a file that is not DICOM, damaged or hostile; None for a DICOMDIR.
    """
    try:
        with file.open() as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            header = _parse(file, stream, size)
    except HeaderError as error:
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
    _skip_meta(stream)
    return _inflate(stream)


def text(dataset: Dataset, keyword: str) -> str:
    """A header value as text, stripped, several joined by a backslash; "" where missing or unreadable."""
    raw = _raw(dataset, keyword)
    if raw is not None and raw.VR in TEXT_VRS:
        return (raw.value or b"").decode("latin-1").strip(" \0")
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
    items: Iterable[Any]
    raw = _raw(dataset, keyword)
    if raw is not None and raw.VR in ("DS", "IS"):
        items = (raw.value or b"").split(b"\\")
    else:
        value = value_of(dataset, keyword)
        if value is None or isinstance(value, bytes):
            return None
        items = [value] if isinstance(value, str | int | float) else value
    try:
        result = tuple(float(item) for item in items)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if len(result) == count and all(map(math.isfinite, result)) else None


def _raw(dataset: Dataset, keyword: str) -> RawDataElement | None:
    """The element as in the file, with its VR: converting every value costs more than parsing."""
    tag = TAGS.get(keyword)
    if tag is None:
        tag = TAGS[keyword] = tag_for_keyword(keyword) or 0
        VRS[tag] = dictionary_VR(tag)
    try:
        element: Any = dataset.get_item(tag)
    except KeyError:
        return None
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return None
    return element if element.VR else element._replace(VR=VRS[tag])


def _parse(file: InputFile, stream: BinaryIO, size: int) -> SliceHeader:
    head = stream.read(140)
    stream.seek(0)
    if not head:
        raise HeaderError("empty file")
    has_preamble = head[128:132] == b"DICM"
    if not has_preamble and not _looks_bare(head):
        raise HeaderError("not DICOM" if len(head) > 132 else "cut short, or not DICOM")
    reader = BoundedReader(stream, size, MAX_HEADER_BYTES)
    try:
        dataset = dcmread(cast(BinaryIO, reader), stop_before_pixels=True, force=True)
    except _InflateError:
        dataset, stream, size = _parse_deflated(stream)
    if "SOPClassUID" not in dataset and "MediaStorageSOPClassUID" not in dataset.file_meta:
        raise HeaderError("not DICOM" if not has_preamble else "truncated or empty DICOM")
    syntax = _transfer_syntax(dataset)
    start, length = _pixel_element(stream, dataset)
    if start is None and CT_IMAGE in (text(dataset, "SOPClassUID"), text(dataset.file_meta, "MediaStorageSOPClassUID")):
        raise HeaderError("no pixel data, or cut short before them")
    _check_nesting(dataset)
    # An executable may hide in the preamble, and the file must not stay open or its folder be remembered.
    dataset.preamble = None
    dataset.filename = dataset.buffer = dataset.timestamp = None
    return SliceHeader(file, dataset, syntax, start, length, size - start if start is not None else 0)


def _looks_bare(head: bytes) -> bool:
    """Whether a file without preamble begins with an element of group 2 or 8, as datasets do."""
    if len(head) < 8:
        return False
    little, big = struct.unpack("<HH", head[:4]), struct.unpack(">HH", head[:4])
    return (little[0] in (2, 8) and little[1] <= 0x0080) or (big[0] in (2, 8) and big[1] <= 0x0080)


def _transfer_syntax(dataset: FileDataset) -> UID:
    """The declared transfer syntax, or the one in which the dataset was found to be encoded."""
    declared = text(dataset.file_meta, "TransferSyntaxUID")
    if declared:
        syntax = UID(declared)
        if not syntax.is_transfer_syntax:
            raise HeaderError("unknown transfer syntax")
        return syntax
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return UID("1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2")


def _skip_meta(stream: BinaryIO) -> FileMetaDataset:
    """Read the file meta information; the stream then stands before the dataset."""
    stream.seek(132)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(132)
    reader = BoundedReader(stream, size, MAX_HEADER_BYTES)
    meta = read_dataset(cast(BinaryIO, reader), False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    return FileMetaDataset(meta)


def _inflate(stream: BinaryIO) -> io.BytesIO:
    """Inflate what is left of a stream, within `MAX_INFLATED_BYTES`."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(stream.read(MAX_INFLATED_BYTES), MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail or (stream.read(1) and not inflater.eof):
        raise HeaderError(f"its deflated dataset unpacks to more than {MAX_INFLATED_BYTES // 2**20} MiB (a bomb)")
    return io.BytesIO(data)


def _parse_deflated(stream: BinaryIO) -> tuple[FileDataset, BinaryIO, int]:
    """The header of a deflated dataset, its inflated stream, and the bytes of that stream."""
    meta = _skip_meta(stream)
    body = _inflate(stream)
    size = len(body.getbuffer())
    reader = BoundedReader(body, size, MAX_HEADER_BYTES)
    elements = read_dataset(
        cast(BinaryIO, reader), False, True, stop_when=lambda tag, vr, length: tag in FIRST_PIXEL_TAGS
    )
    dataset = FileDataset("", elements, None, meta, False, True)
    dataset.set_original_encoding(False, True, elements._character_set)
    return dataset, body, size


def _pixel_element(stream: BinaryIO, dataset: FileDataset) -> tuple[int | None, int]:
    """(offset of the value, declared length) of the PixelData element at the stream's position."""
    offset = stream.tell()
    head = stream.read(12)
    implicit, little = dataset.original_encoding
    order = "<" if little is not False else ">"
    if len(head) < 12:
        return None, 0
    group, element = struct.unpack(order + "HH", head[:4])
    if (group << 16 | element) != PIXEL_DATA:
        return None, 0
    # A file that declares implicit VR but is explicit: "OW\0\0" read as a length would be odd, and no length is odd.
    if implicit and head[4:8] not in (b"OW\0\0", b"OB\0\0"):
        return offset + 8, struct.unpack(order + "L", head[4:8])[0]
    return offset + 12, struct.unpack(order + "L", head[8:12])[0]


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
