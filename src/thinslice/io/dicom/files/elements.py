"""The elements of a dataset, as pydicom reads them, in a fraction of the time: an archive has millions of headers.

Plain elements, which are all but a few, are cut out of one block of bytes. Everything else (undefined lengths, unknown
value representations, values longer than the block) is left to pydicom's parser, element by element.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, BinaryIO, cast

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from thinslice.io.dicom.files.bounds import MAX_HEADER_BYTES, BoundedReader, HeaderError

BLOCK_BYTES = 1 << 14
"""Bytes read at a time; the headers of most slices have 2 to 12 KiB."""

CHARACTER_SET = 0x00080005
ITEM_DELIMITER = 0xFFFEE00D
UNDEFINED_LENGTH = 0xFFFFFFFF
MOST_TAGS = 1 << 14
"""Tags that are kept as objects; a hostile file may hold any number of others."""

_VRS = {str(vr).encode(): (str(vr), vr in EXPLICIT_VR_LENGTH_32) for vr in VR if len(str(vr)) == 2}
"""Value representation -> its name, and whether its length has four bytes."""

_TAGS: dict[int, BaseTag] = {}

_NESTING = ("SQ", "UN", None)
"""Value representations of elements in which sequences may nest."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_LITTLE, _BIG = (
    (
        struct.Struct(f"{order}HHL").unpack_from,
        struct.Struct(f"{order}L").unpack_from,
        struct.Struct(f"{order}HH2sH").unpack_from,
    )
    for order in "<>"
)
"""Readers of tag and length, of a long length, and of tag, value representation and short length."""

Elements = dict[BaseTag, DataElement | RawDataElement]


def tag_object(tag: int) -> BaseTag:
    """The one object of a tag: dictionaries compare the same object without calling pydicom's comparison.

    >>> tag_object(0x00100010) is tag_object(0x00100010)
    True
    """
    found = _TAGS.get(tag)
    if found is None:
        found = BaseTag(tag)
        if len(_TAGS) < MOST_TAGS:
            _TAGS[tag] = found
    return found


def read_elements(
    stream: BinaryIO,
    size: int,
    *,
    implicit: bool,
    little: bool,
    stop: Callable[[int], bool],
    limit: int,
    keep: frozenset[int] | None = None,
) -> Dataset:
    """The elements from the stream's position to the first one that `stop` accepts, or to the end.

    Args:
        stream: left at the start of that element, as by pydicom.
        size: bytes of the stream.
        implicit: whether elements have no value representation.
        little: whether they are little endian.
        stop: takes a tag.
        limit: most bytes of all elements.
        keep: tags of the elements that are wanted; None for all. Elements that may hide deep nesting are kept in any
            case, for those who check it.

    Raises:
        HeaderError: there are more bytes than `limit`.
    """
    place = stream.tell()
    letters = stream.read(6)[4:]
    stream.seek(place)
    if len(letters) == 2 and implicit == all(0x40 < letter < 0x5B for letter in letters):
        # pydicom does not believe the encoding, and finds its own.
        bounded = cast(BinaryIO, BoundedReader(stream, size, limit))
        return read_dataset(bounded, implicit, little, stop_when=lambda tag, vr, length: stop(tag))
    reader = _Reader(stream, size, implicit, little, stop, place + limit, keep)
    try:
        reader.run()
    except (EOFError, NotImplementedError):  # as pydicom, which keeps nothing then
        reader.elements.clear()
    dataset = Dataset(cast(Any, reader.elements))
    dataset.set_original_encoding(implicit, little, reader.encoding)
    return dataset


@lru_cache(maxsize=256)
def _encodings(value: bytes, name: str | None, implicit: bool, little: bool) -> Any:
    key = tag_object(CHARACTER_SET)
    raw = RawDataElement(key, name, len(value), value, 0, implicit, little)
    return convert_encodings(convert_raw_data_element(raw).value)


def _behind_sequence(data: bytes, at: int, head: Any, long_length: Any, implicit: bool, depth: int = 0) -> int | None:
    """Where a sequence of undefined length ends, whose first item lies at `at`; None where that is not plain to see.

    Only sequences that lie in one block and nest little are passed over.
    """
    end = len(data)
    while at + 8 <= end:
        group, number, length = head(data, at)
        tag, at = group << 16 | number, at + 8
        if tag == _SEQUENCE_END:
            return at if length == 0 else None
        if tag != _ITEM or depth > 2:
            return None
        if length != UNDEFINED_LENGTH:
            if data.count(b"\xfe\xff\x00\xe0", at, at + length) > 1:
                return None
            at += length
            continue
        while True:
            if at + 12 > end:
                return None
            group, number, length = head(data, at)
            if group << 16 | number == _ITEM_END:
                at += 8
                break
            at += 8
            if not implicit:
                known = _VRS.get(data[at - 4 : at - 2])
                if known is None:
                    return None
                if known[1]:
                    length, at = long_length(data, at)[0], at + 4
                else:
                    length = length >> 16 if head is _LITTLE[0] else length & 0xFFFF
            if length == UNDEFINED_LENGTH:
                inner = _behind_sequence(data, at, head, long_length, implicit, depth + 1)
                if inner is None:
                    return None
                at = inner
            elif data.count(b"\xfe\xff\x00\xe0", at, at + length) > 1:
                return None
            else:
                at += length
    return None


class _Reader:
    """One run over a stream: a block of its bytes, and the elements so far."""

    def __init__(
        self,
        stream: BinaryIO,
        size: int,
        implicit: bool,
        little: bool,
        stop: Callable[[int], bool],
        limit: int,
        keep: frozenset[int] | None,
    ) -> None:
        self.stream, self.size, self.implicit, self.little, self.stop = stream, size, implicit, little, stop
        self.limit, self.keep = limit, keep
        self.elements: Elements = {}
        self.encoding: Any = default_encoding

    def run(self) -> None:
        """Read all elements."""
        place: int | None = self.stream.tell()
        while place is not None:
            if place > self.limit:
                raise HeaderError(f"its header is larger than {MAX_HEADER_BYTES // 2**20} MiB")
            self.stream.seek(place)
            place = self._block(self.stream.read(BLOCK_BYTES), place)

    def _block(self, data: bytes, start: int) -> int | None:
        """Cut elements out of a block that begins at `start`; returns where the next one begins, None at the end."""
        implicit, little, stop, elements, keep = self.implicit, self.little, self.stop, self.elements, self.keep
        head, long_length, with_vr = _LITTLE if little else _BIG
        at, end = 0, len(data)
        while at + 8 <= end:
            name: str | None = None
            if implicit:
                group, number, length = head(data, at)
            else:
                group, number, letters, length = with_vr(data, at)
            tag = group << 16 | number
            if tag == ITEM_DELIMITER or stop(tag):
                self.stream.seek(start + at + (8 if tag == ITEM_DELIMITER else 0))
                return None
            value_at = at + 8
            if not implicit:
                known = _VRS.get(letters)
                if known is None:
                    return self._by_pydicom(start + at)
                name, is_long = known
                if is_long:
                    if at + 12 > end:
                        if start + end >= self.size:
                            return self._by_pydicom(start + at)
                        break
                    value_at = at + 12
                    length = long_length(data, at + 8)[0]
            after = value_at + length
            is_wanted = keep is None or tag in keep
            if length == UNDEFINED_LENGTH and not is_wanted:
                passed = _behind_sequence(data, value_at, head, long_length, implicit)
                if passed is not None:
                    at = passed
                    continue
            if length == UNDEFINED_LENGTH or start + after > self.size:
                return self._by_pydicom(start + at)
            if not is_wanted and not (name in _NESTING and data.count(b"\xfe\xff\x00\xe0", value_at, after) > 1):
                at = after
                continue
            if after > end:
                if at == 0:
                    return self._by_pydicom(start)
                break
            key = tag_object(tag)
            value = data[value_at:after] if length else cast(bytes | None, empty_value_for_VR(name, raw=True))
            elements[key] = RawDataElement(key, name, length, value, start + value_at, implicit, little)
            if tag == CHARACTER_SET:
                self.encoding = _encodings(value or b"", name, implicit, little)
            at = after
        if start + at + 8 > self.size or not data:
            self.stream.seek(self.size)
            return None
        return start + at

    def _by_pydicom(self, place: int) -> int | None:
        """Let pydicom read the element at a place; returns as `_block`."""
        self.stream.seek(place)
        bounded = cast(BinaryIO, BoundedReader(self.stream, self.size, max(0, self.limit - place)))
        element = next(data_element_generator(bounded, self.implicit, self.little, encoding=self.encoding), None)
        if element is None:
            return None
        self.elements[tag_object(int(element.tag))] = element
        if int(element.tag) == CHARACTER_SET and isinstance(element, RawDataElement):
            self.encoding = convert_encodings(convert_raw_data_element(element).value)
        return self.stream.tell()
