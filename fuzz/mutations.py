"""Damage done to valid files: bits, bytes, cuts, swapped pieces, false lengths, false numbers, edited elements."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Callable, Mapping

import numpy as np
import pydicom

HEADER_BYTES = 1500
"""Half of all damage is done within this many bytes of the start, where headers lie."""

LENGTHS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 8)
"""Values of length and count fields, most of them false."""

NUMBERS = (
    b"0", b"-1", b"1", b"2", b"3", b"7", b"255", b"256", b"4096", b"32768", b"65535", b"65536", b"2147483648",
    b"99999999999999999999", b"1e30", b"-1e30", b"1e-30", b"1e308", b"1e999", b"nan", b"inf", b"-inf", b"0.0", b"-0.7",
    b"0.5", b"1.5", b"5e4", b"1,5", b"--1", b"1.2.3", b"", b"\0", b"[]", b"true", b"null",
)  # fmt: skip
"""Numbers as text, most of them false."""

WORDS = (
    b"../../x", b"/etc/passwd", b"\x1b[31m", b"\n", b"\\", b"A" * 70, b"\xff\xfe", b"%s%n", b"LOCAL", b"LIST", b"NaN",
)  # fmt: skip
"""Text that a reader may take for a path, a format or the end of a line."""

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")

Mutation = Callable[[bytearray, np.random.Generator], None]


def mutate(content: bytes, random: np.random.Generator, kinds: Mapping[Mutation, float]) -> bytes:
    """Content with one to three pieces of damage.

    Args:
        content: of a valid file.
        random: decides on the damage.
        kinds: damage that suits the format, beside that of any file, and how often it is done.
    """
    damaged = bytearray(content)
    every = {**ANY, **kinds}
    share = np.array(list(every.values())) / sum(every.values())
    for _ in range(int(random.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))):
        if damaged:
            list(every)[int(random.choice(len(every), p=share))](damaged, random)
    return bytes(damaged)


def _place(data: bytearray, random: np.random.Generator) -> int:
    """A byte: in the header half of the time."""
    most = len(data) if random.random() < 0.5 else min(len(data), HEADER_BYTES)
    return int(random.integers(most))


def flip_bits(data: bytearray, random: np.random.Generator) -> None:
    """Flip one bit, or a few."""
    for _ in range(int(random.choice([1, 1, 1, 2, 8]))):
        data[_place(data, random)] ^= 1 << int(random.integers(8))


def set_bytes(data: bytearray, random: np.random.Generator) -> None:
    """Overwrite up to 16 bytes with noise, zeros or ones."""
    at = _place(data, random)
    count = min(int(random.integers(1, 17)), len(data) - at)
    data[at : at + count] = (random.bytes(count), b"\0" * count, b"\xff" * count)[int(random.integers(3))]


def cut(data: bytearray, random: np.random.Generator) -> None:
    """Cut the end off, or add bytes to it."""
    if random.random() < 0.2:
        data += random.bytes(int(random.integers(1, 2000)))
    else:
        del data[int(random.integers(len(data))) :]


def _piece(data: bytearray, random: np.random.Generator) -> slice:
    at = _place(data, random)
    return slice(at, min(len(data), at + int(2 ** random.uniform(0, 10))))


def swap_pieces(data: bytearray, random: np.random.Generator) -> None:
    """Exchange two pieces of one length."""
    one, other = _piece(data, random), _piece(data, random)
    size = min(one.stop - one.start, other.stop - other.start)
    first, second = slice(one.start, one.start + size), slice(other.start, other.start + size)
    held = bytes(data[first])
    data[first] = data[second]
    data[second] = held


def repeat_piece(data: bytearray, random: np.random.Generator) -> None:
    """Insert a piece a second time, somewhere."""
    piece = bytes(data[_piece(data, random)])
    at = _place(data, random)
    data[at:at] = piece


def remove_piece(data: bytearray, random: np.random.Generator) -> None:
    """Leave a piece out."""
    del data[_piece(data, random)]


def false_length(data: bytearray, random: np.random.Generator) -> None:
    """Write a length into two, four or eight bytes, in either byte order."""
    width, order = int(random.choice([2, 4, 4, 8])), str(random.choice(["little", "big"]))
    if len(data) < width:
        return
    at = min(_place(data, random), len(data) - width)
    value = int(random.choice(LENGTHS)) % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]


def false_number(data: bytearray, random: np.random.Generator) -> None:
    """Overwrite a number in text with another one of the same length."""
    found = list(_NUMBER.finditer(data, 0, 8 * HEADER_BYTES))
    if found:
        span = slice(*found[int(random.integers(len(found)))].span())
        size = span.stop - span.start
        data[span] = NUMBERS[int(random.integers(len(NUMBERS)))][:size].ljust(size, b" ")


def replace_number(data: bytearray, random: np.random.Generator) -> None:
    """Put another number in the place of one, whatever its length."""
    found = list(_NUMBER.finditer(data, 0, 64 * HEADER_BYTES))
    if found:
        span = slice(*found[int(random.integers(len(found)))].span())
        data[span] = NUMBERS[int(random.integers(len(NUMBERS)))]


def insert_word(data: bytearray, random: np.random.Generator) -> None:
    """Insert text that a reader may take for a path, a format or the end of a line."""
    at = _place(data, random)
    data[at:at] = WORDS[int(random.integers(len(WORDS)))]


def edit_element(data: bytearray, random: np.random.Generator) -> None:
    """Change value, length, type or tag of one DICOM element, or leave it out, or repeat it.

    A file whose elements cannot be found (packed whole, or damaged already) gets false numbers instead.
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(bytes(data)), force=True)
        found = [dataset.get_item(tag) for tag in dataset.keys()]  # noqa: SIM118 - iterating would convert the elements
        plain = [each for each in found if getattr(each, "value_tell", 0) and each.length not in (None, 0xFFFFFFFF)]
    except Exception:
        plain = []
    if not plain:
        false_number(data, random)
        return
    element = plain[int(random.integers(len(plain)))]
    start, size = element.value_tell, element.length
    if start + size > len(data) or start < 8:
        false_number(data, random)
        return
    order = "<" if dataset.original_encoding[1] is not False else ">"
    long_form = element.VR in ("OB", "OW", "SQ", "UN", "UT", "OF", "OD", "OL", "UC", "UR")
    head = start - (12 if long_form and not element.is_implicit_VR else 8)
    kind = int(random.integers(7))
    if kind <= 2:
        value = (NUMBERS + WORDS)[int(random.integers(len(NUMBERS) + len(WORDS)))]
        if element.VR in ("US", "SS") and size == 2:
            value = struct.pack(f"{order}H", int(random.choice(LENGTHS)) % 65536)
        data[start : start + size] = value[:size].ljust(size, b" " if random.random() < 0.8 else b"\0")
    elif kind == 3:
        width = 4 if long_form or element.is_implicit_VR else 2
        data[start - width : start] = struct.pack(
            f"{order}{'L' if width == 4 else 'H'}", int(random.choice(LENGTHS)) % (1 << 8 * width)
        )
    elif kind == 4 and not element.is_implicit_VR:
        data[head + 4 : head + 6] = random.choice(
            [b"UN", b"OB", b"SQ", b"DS", b"IS", b"US", b"FD", b"PN", b"??", b"\0\0"]
        )
    elif kind == 5:
        del data[head : start + size]
    else:
        piece = bytes(data[head : start + size])
        data[head:head] = piece


def edit_weights_header(data: bytearray, random: np.random.Generator) -> None:
    """Change one value of config, card or digest of a weights file, or leave it out; its length fields stay true."""
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        meta = json.loads(header["__metadata__"]["thinslice"])
    except (ValueError, KeyError, TypeError):
        false_number(data, random)
        return
    where = meta
    while True:
        key = list(where)[int(random.integers(len(where)))]
        if not isinstance(where[key], dict) or not where[key] or random.random() < 0.1:
            break
        where = where[key]
    kind = int(random.integers(4))
    if kind == 0:
        del where[key]
    elif kind == 1:
        where[key] = [0, -1, 1, 2, 3, 64, 4096, 2**31, 2**63, 0.5, 1e30, True, None][int(random.integers(13))]
    elif kind == 2:
        where[key] = ["", "../../x", "\x1b[31m", "a" * 100_000, "thinnet", "tvsrn", "0" * 64][int(random.integers(7))]
    else:
        where[key] = [[], {}, [1, 2], {"a": 1}, [[[]]]][int(random.integers(5))]
    header["__metadata__"]["thinslice"] = json.dumps(meta)
    text = json.dumps(header).encode()
    data[: 8 + length] = len(text).to_bytes(8, "little") + text


ANY: dict[Mutation, float] = {
    flip_bits: 3.0,
    set_bytes: 2.0,
    cut: 1.0,
    swap_pieces: 1.0,
    repeat_piece: 1.0,
    remove_piece: 1.0,
    false_length: 2.0,
    false_number: 2.0,
}
"""Damage that suits any file, and how often it is done."""

TEXT: dict[Mutation, float] = {replace_number: 12.0, insert_word: 2.0}
"""Damage that suits text."""
