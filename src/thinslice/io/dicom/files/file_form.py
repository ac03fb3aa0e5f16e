"""Layout of a DICOM file, found by its bytes: where the dataset begins, and how it and the file meta are encoded.

Many writers contradict part 10 of DICOM: file meta information in implicit VR or big endian, a transfer syntax that is
not the dataset's, no preamble. The first bytes of each part show how it is encoded; what is declared decides only what
they cannot show: whether pixels are compressed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import VR

from thinslice.io.dicom.files.bounds import MAX_HEADER_BYTES, HeaderError
from thinslice.io.dicom.files.elements import read_elements

MAX_INFLATED_BYTES = 64 * 2**20
"""Bytes that a deflated dataset may unpack to: twice a 4096 x 4096 slice of 16 bits."""

KNOWN_VRS = frozenset(str(vr) for vr in VR if len(str(vr)) == 2)
"""Value representations of DICOM, as the two letters in a file."""

NATIVE_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
"""Transfer syntaxes of uncompressed pixels."""


@dataclass(frozen=True)
class Layout:
    """Encoding of a run of elements.

    Attributes:
        implicit: without VR.
        little: little endian.
    """

    implicit: bool
    little: bool

    @property
    def syntax(self) -> UID:
        """The transfer syntax of uncompressed pixels in this encoding."""
        if self.implicit:
            return ImplicitVRLittleEndian
        return ExplicitVRLittleEndian if self.little else ExplicitVRBigEndian


@dataclass(frozen=True)
class FileForm:
    """What stands before the dataset.

    Attributes:
        meta: the file meta information, empty where there is none.
        start: offset of the dataset.
        declared: the declared transfer syntax, or "".
    """

    meta: FileMetaDataset
    start: int
    declared: str


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM does: with DICM after a preamble, or without one with an element of group 2 or 8.

    >>> looks_like_dicom(bytes(128) + b"DICM"), looks_like_dicom(b"GIF89a..")
    (True, False)
    """
    if head[128:132] == b"DICM" or head[:4] == b"DICM":
        return True
    if len(head) < 8:
        return False
    little, big = struct.unpack("<HH", head[:4]), struct.unpack(">HH", head[:4])
    return (little[0] in (2, 8) and little[1] <= 0x0080) or (big[0] in (2, 8) and big[1] <= 0x0080)


def layout_of(head: bytes) -> Layout:
    """The encoding of elements, from the first one: its VR letters, and the byte order of its group.

    Args:
        head: at least six bytes; groups are small numbers, so the order in which the group is smaller is right.

    >>> layout_of(bytes.fromhex("0800050043530a00"))
    Layout(implicit=False, little=True)
    >>> layout_of(bytes.fromhex("000800050000000a"))
    Layout(implicit=True, little=False)
    """
    little, big = struct.unpack("<H", head[:2])[0], struct.unpack(">H", head[:2])[0]
    return Layout(head[4:6].decode("latin-1") not in KNOWN_VRS, little <= big)


def file_form(stream: BinaryIO, size: int) -> FileForm:
    """Read what stands before the dataset.

    Args:
        stream: at any position; left at the start of the dataset.
        size: bytes of the whole file.

    Raises:
        HeaderError: the file meta information is larger than a header may be.
    """
    stream.seek(0)
    head = stream.read(132)
    start = 132 if head[128:132] == b"DICM" else 4 if head[:4] == b"DICM" else 0
    stream.seek(start)
    first = stream.read(8)
    stream.seek(start)
    if len(first) < 8 or 2 not in struct.unpack("<H", first[:2]) + struct.unpack(">H", first[:2]):
        return FileForm(FileMetaDataset(), start, "")
    layout = layout_of(first)
    meta = FileMetaDataset(
        read_elements(
            stream,
            size,
            implicit=layout.implicit,
            little=layout.little,
            stop=lambda tag: tag >> 16 != 2,
            limit=MAX_HEADER_BYTES,
        )
    )
    syntax = meta.get_item(0x00020010)
    value = getattr(syntax, "value", b"") or b""
    declared = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return FileForm(meta, stream.tell(), declared.strip(" \0"))


def inflate(data: bytes, more: Callable[[], bytes]) -> bytes:
    """Inflate a deflated dataset within `MAX_INFLATED_BYTES`; some writers wrap it as zlib does.

    Args:
        data: the compressed bytes, up to the limit.
        more: reads on behind `data`.

    Raises:
        HeaderError: it unpacks to more, as a bomb does.
        zlib.error: it is damaged.
    """
    try:
        return _inflate(data, more, -zlib.MAX_WBITS)
    except zlib.error:
        if len(data) < 2 or data[0] & 0x0F != 8 or int.from_bytes(data[:2], "big") % 31:
            raise
        return _inflate(data, more, zlib.MAX_WBITS)


def _inflate(data: bytes, more: Callable[[], bytes], window_bits: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    inflated = inflater.decompress(data, MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail or (not inflater.eof and more()):
        raise HeaderError(f"its deflated dataset unpacks to more than {MAX_INFLATED_BYTES // 2**20} MiB (a bomb)")
    return inflated
