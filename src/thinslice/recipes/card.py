"""Model cards: JSON values that travel with weights into terminals, reports and DICOM headers.

A weights file comes from anywhere, so its card is text of others: bounded in size and depth, and printable. A control
character could move a terminal's cursor or end a DICOM value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

LONGEST_NAME = 120
"""Most characters of name, version and keys: the longest name of a recipe, with a stage and "-adapted" behind it."""

LONGEST_TEXT = 20_000
"""Most characters of one text."""

LARGEST_CARD_BYTES = 1 << 20
"""Most bytes of a card as JSON."""

DEEPEST = 12
"""Most levels of lists and tables inside each other."""

_LINE_BREAKS = str.maketrans("", "", "\n\t")


def check_card(card: Mapping[str, Any]) -> None:
    """Refuse a card that is no bounded, printable JSON.

    Args:
        card: key -> JSON value; `name` and `version` are the identity of the weights.

    Raises:
        ValueError: naming the entry; shorten it, or remove what cannot be printed.

    >>> check_card({"name": "mine", "limits": ["chest", "adults"]})
    >>> check_card({"name": "mine\\x1b[2J"})
    Traceback (most recent call last):
    ValueError: its name holds characters that cannot be printed
    """
    for key in ("name", "version"):
        value = card.get(key)
        if value is None:
            continue
        if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME:
            raise ValueError(f"its {key} is no text of 1 to {LONGEST_NAME} characters")
        if not value.isprintable():
            raise ValueError(f"its {key} holds characters that cannot be printed")
    _check(card, "card", DEEPEST)
    if len(json.dumps(card)) > LARGEST_CARD_BYTES:
        raise ValueError(f"it is larger than {LARGEST_CARD_BYTES >> 20} MiB")


def shown_name(text: str) -> str:
    """A name that may stand where a card's could: printable, at most `LONGEST_NAME` characters.

    Args:
        text: such as the name of a weights file, which a file system gives in any characters.

    >>> shown_name("mine\x1b[2J")
    'mine?[2J'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST_NAME]) or "unnamed"


def _check(value: object, where: str, levels: int) -> None:
    if levels == 0:
        raise ValueError(f"its values lie more than {DEEPEST} levels deep")
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"{where} is longer than {LONGEST_TEXT} characters")
        if not value.translate(_LINE_BREAKS).isprintable():
            raise ValueError(f"{where} holds characters that cannot be printed")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str) or len(key) > LONGEST_NAME or not key.isprintable():
                raise ValueError(f"{where} has a key that is no printable text of up to {LONGEST_NAME} characters")
            _check(inner, f"{where}.{key}"[-160:], levels - 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check(inner, where, levels - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is no finite number")
    elif not (value is None or isinstance(value, bool | int | float)):
        raise ValueError(f"{where} is a {type(value).__name__}, which JSON does not have; write it as text")
