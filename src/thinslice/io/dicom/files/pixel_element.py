"""Where the pixels of a file begin and end, and what its bytes show of their encoding."""

from __future__ import annotations

import struct
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.uid import UID

from thinslice.io.dicom.files.file_form import KNOWN_VRS, Layout
from thinslice.io.dicom.files.values import integer

UNDEFINED_LENGTH = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010

MAX_REST_BYTES = 1 << 16
"""Bytes behind the pixels that are looked at."""

ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
FIRST_PIXEL_TAGS = frozenset((0x7FE00008, 0x7FE00009, PIXEL_DATA))
PIXEL_VRS = ("OW", "OB", "UN")


def pixel_element(stream: BinaryIO, layout: Layout) -> tuple[int | None, int]:
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


def found_syntax(
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


def behind_pixels(stream: BinaryIO, layout: Layout, start: int, length: int, size: int) -> tuple[str, ...]:
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
