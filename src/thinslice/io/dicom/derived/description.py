"""SeriesDescription and SeriesNumber of a derived series, by which derived series differ where their sources do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydicom.charset import convert_encodings, decode_bytes, encode_string

LONGEST = 64
"""Characters that a value of SeriesDescription may have (VR LO)."""

CUT = ".."
"""Mark of a cut in the middle of a text."""

_DELIMITERS = {0x5C, 0x0A, 0x0C, 0x0D}
_ASCII_STATE = b"\x1b(B"
"""Escape sequence of ISO 2022 that returns to ASCII."""

PARTS_IN_A_NUMBER = 100
"""Parts of one series that get numbers of their own."""


def describe_series(theirs: bytes, character_set: str | Sequence[str], endings: Sequence[str]) -> bytes:
    """The source's description and an ending of ours, in at most `LONGEST` characters.

    Where both do not fit, a shorter ending is taken first; then the middle of the source's description is cut, since
    the scanner's words stand at its start and phase, energy or kernel at its end.

    Args:
        theirs: the source's bytes, in its character set or another.
        character_set: value of SpecificCharacterSet, "" where undeclared.
        endings: ours in ASCII, the longest first.

    Returns:
        Bytes of the source's character set, not padded.

    >>> describe_series(b"Chest 5.0 B30f", "", ["thinslice 1mm AI, not for diagnosis"])
    b'Chest 5.0 B30f thinslice 1mm AI, not for diagnosis'
    >>> describe_series(b"Monoenergetic Plus Abdomen portal venous 1.5 Qr40 190 keV", "", ["1mm AI, not for diagnosis"])
    b'Monoenergetic Plus..s 1.5 Qr40 190 keV 1mm AI, not for diagnosis'
    """
    declared = [character_set] if isinstance(character_set, str) else list(character_set)
    encodings = convert_encodings(declared) if any(declared) else ["iso8859"]
    text = decode_bytes(theirs, encodings, _DELIMITERS)
    faithful = encode_string(text, encodings) == theirs and (any(declared) or theirs.isascii())
    if not faithful:
        # Bytes of another character set: each counts as a character, and none is read.
        encodings, text = ["latin-1"], theirs.decode("latin-1")
    text = re.sub(r"[\x00-\x1a\x1c-\x1f]" if not faithful else r"[\x00-\x1f\\]", " ", text).strip()
    for ending in endings:
        if len(text) + 1 + len(ending) <= LONGEST:
            break
    else:
        text = _without_middle(text, LONGEST - 1 - len(ending), whole_words=not faithful)
    ours = ending.encode("ascii")
    if not text:
        return ours
    start = text.encode("latin-1") if not faithful else encode_string(text, encodings)
    return start + (_ASCII_STATE if not faithful and b"\x1b" in start else b"") + b" " + ours


def _without_middle(text: str, length: int, *, whole_words: bool) -> str:
    """Start and end of a text, `length` characters at most; unread bytes beside the cut go, as they may be halves."""
    kept = length - len(CUT)
    start, end = text[: kept - kept // 2], text[len(text) - kept // 2 :]
    if whole_words:
        start, end = re.sub(r"[^\x20-\x7e]+$", "", start), re.sub(r"^[^\x20-\x7e]+", "", end)
    return f"{start}{CUT}{end}"


def derived_series_number(source: object, factor: int, part: int) -> int:
    """SeriesNumber of a derived series: new, and beside its source in a list sorted by number.

    Args:
        source: SeriesNumber of the source, or another value where it has none.
        factor: thin slices per thick interval, 1 to 9.
        part: number of the part, from 1, where one source series was divided into phases, energies or reconstructions.

    Examples:
        Series 3 by a factor of 5 becomes 3905; its second part 3915, its tenth 3995, its eleventh 3005.

    >>> [derived_series_number(3, 5, part) for part in (1, 2, 11)], derived_series_number(None, 5, 1)
    ([3905, 3915, 3005], 905)
    """
    usable = isinstance(source, int) and 0 <= source <= 1_000_000
    block = (PARTS_IN_A_NUMBER - 10 + part - 1) % PARTS_IN_A_NUMBER
    return (int(source) if usable else 0) * 1000 + 10 * block + factor  # type: ignore[call-overload]
