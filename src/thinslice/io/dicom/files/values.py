"""Values of a header as text and numbers, read from its bytes without converting what is not asked for."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable
from collections.abc import Sequence as Several
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from thinslice.io.dicom.attributes import value_of
from thinslice.io.dicom.files.elements import tag_object

BINARY_VRS = ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD")
"""Value representations of numbers that are not text."""

TEXT_VRS = ("CS", "LO", "SH", "UI", "DS", "IS", "TM", "DA")
"""Value representations that need no character set to be compared."""

TAGS: dict[str, BaseTag] = {}
VRS: dict[int, str] = {}

_DECIMAL = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


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
