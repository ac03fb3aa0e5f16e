"""What people type that no shell and no parser mends: long dashes, quotation marks, paths of another system."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

LONG_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
"""Characters that word processors and chats put in the place of a hyphen."""

QUOTATION_MARKS = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
"""Characters around a path that a shell leaves there where they were typed within others, or are typographic."""

_OF_WINDOWS = re.compile(r"[A-Za-z]:\\|\\\\")
_VARIABLE = re.compile(r"\$\w+|\$\{\w+\}|%\w+%")


def mistake(arguments: Sequence[str], takes_value: Collection[str], options: Collection[str]) -> str:
    """The first argument that cannot mean what it says, as a sentence with the right way; "" where there is none.

    Args:
        arguments: of a command, as typed.
        takes_value: its options that take a value.
        options: all of its options.

    >>> mistake(["a.nii", "b.nii", "\u2014all"], (), ("--all",))
    "'\u2014all' begins with a long dash, as word processors write it; type --all with two hyphens."
    >>> mistake(["", "b.nii"], (), ())
    'An argument is empty, as from a shell variable that is not set; give the path.'
    >>> mistake(["in", "-"], (), ())
    "'-' means standard input or output elsewhere, which a volume does not fit; name a file or folder."
    >>> mistake(["in", "out", "--report", "--quiet"], ("--report",), ("--report", "--quiet"))
    '--report needs a value before --quiet; without one, leave it out.'
    """
    before = ""
    for text in arguments:
        if text == "--":
            break
        value_of = before if before in takes_value else ""
        if value_of and text in options:
            return f"{value_of} needs a value before {text}; without one, leave it out."
        # A blank series has a message of its own.
        found = "" if value_of.startswith("--series") else _about(text, is_value=bool(value_of))
        if found:
            return found
        before = text
    return ""


def _about(text: str, *, is_value: bool) -> str:
    if not text.strip():
        return "An argument is empty, as from a shell variable that is not set; give the path."
    if _is_there(text):
        return ""
    if text == "-" and not is_value:
        return "'-' means standard input or output elsewhere, which a volume does not fit; name a file or folder."
    if text[0] in LONG_DASHES and not is_value:
        name = text.lstrip(LONG_DASHES + "-")
        return f"{text!r} begins with a long dash, as word processors write it; type --{name} with two hyphens."
    if len(text) > 2 and text[0] in QUOTATION_MARKS and text[-1] in QUOTATION_MARKS:
        return f"The quotation marks of {text!r} are part of the argument; type it within one pair of plain ones."
    if text.startswith("file://"):
        return f"{text!r} is an address; give the path alone, without file://."
    if os.name != "nt" and _OF_WINDOWS.match(text):
        return f"{text!r} is a path of Windows, and this system has / between folders; give the path as it is here."
    if text.startswith("~/") or _VARIABLE.match(text):
        return f"{text!r} was not replaced by your shell, as within quotation marks; give the whole path."
    return ""


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
