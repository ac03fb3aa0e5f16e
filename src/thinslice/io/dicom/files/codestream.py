"""The header of a compressed image, checked before any decoder reads it.

Decoders written in C allocate the size that a stream announces, and gdcm ends the whole process on some malformed JPEG
headers; so headers are checked here, in Python, and only sound ones reach a decoder.
"""

from __future__ import annotations

import struct

SOF, DHT, SOS, EOI = 0xC0, 0xC4, 0xDA, 0xD9
JPEG_LS_FRAME = 0xF7

OTHER_SEGMENTS = (0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))
"""Segments that may stand before the scan beside tables and frame: DQT, DRI, COM, APPn."""


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream announces, or None where it announces none.

    Decoders allocate this size, whatever the DICOM header states, so it is compared first.

    >>> codestream_size(bytes.fromhex("ffd8ffc3000b080010002001011100"))
    (16, 32)
    """
    if data[:4] == b"\xff\x4f\xff\x51" and len(data) >= 24:
        width, height, left, top = struct.unpack(">LLLL", data[8:24])
        return height - top, width - left
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2
            continue
        # Start of frame: C0-CF without DHT, JPG and DAC; F7 is JPEG-LS.
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns = struct.unpack(">HH", data[at + 5 : at + 9])
            return rows, columns
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None


def sound_jpeg(data: bytes, bits_stored: int, bits_allocated: int) -> bool:
    """Whether a greyscale JPEG stream (sequential or lossless) has a well-formed header and an end.

    Args:
        data: the stream.
        bits_stored, bits_allocated: of the DICOM header; the precision must lie between them.

    Source: ITU-T T.81, annex B.
    """
    # Streams of odd length are followed by a byte of padding, whatever its value.
    if data[:2] != b"\xff\xd8" or bytes((0xFF, EOI)) not in data[-4:]:
        return False
    at, component, tables = 2, None, set[int]()
    lossless = False
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if length < 2 or len(segment) != length - 2:
            return False
        at += 2 + length
        if marker == DHT:
            found = _tables(segment)
            if found is None:
                return False
            tables |= found
        elif marker in (SOF, SOF + 1, SOF + 3):
            lossless = marker == SOF + 3
            one_grey = len(segment) == 9 and segment[5] == 1 and segment[7] == 0x11
            if component is not None or not one_grey or not bits_stored <= segment[0] <= bits_allocated:
                return False
            component = segment[6]
        elif marker == SOS:
            return component is not None and _sound_scan(segment, component, tables, lossless)
        elif marker not in OTHER_SEGMENTS:
            return False
    return False


def _tables(segment: bytes) -> set[int] | None:
    """Class and number of every Huffman table of a DHT segment, or None when a table is malformed."""
    found, at = set[int](), 0
    while at < len(segment):
        counts = segment[at + 1 : at + 17]
        # Kraft's inequality: codes of these lengths must exist.
        if len(counts) < 16 or sum(n << (15 - k) for k, n in enumerate(counts)) > 1 << 16:
            return None
        if segment[at] & 0xEC or not 0 < sum(counts) <= 256:
            return None
        found.add(segment[at])
        at += 17 + sum(counts)
    return found if at == len(segment) else None


def _sound_scan(segment: bytes, component: int, tables: set[int], lossless: bool) -> bool:
    """Whether a scan header names the frame's component, tables that were defined, and legal parameters."""
    if len(segment) != 6 or segment[0] != 1 or segment[1] != component or segment[2] >> 4 not in tables:
        return False
    start, end, shift = segment[3:]
    if lossless:
        return 1 <= start <= 7 and end == 0 and shift == 0
    return (0x10 | segment[2] & 0x0F) in tables and start == 0 and end == 63 and shift == 0
