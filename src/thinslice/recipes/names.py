"""Names in recipes and suites that become files and folders."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
"""Names that Windows gives to devices, with any suffix."""


def check_file_stem(name: str) -> str:
    """A name that is one file or folder on every system, returned unchanged.

    Letters, digits, dot, hyphen and underscore, the first a letter or digit, the last no dot. It holds no separator
    and no `..`, so a path that ends in it lies in the folder before it.

    Args:
        name: the name; suffixes such as .safetensors are added to it.

    Raises:
        ValueError: for any other name; choose letters, digits, hyphens and underscores.

    >>> check_file_stem("paper-tvsrn")
    'paper-tvsrn'
    >>> check_file_stem("../best")
    Traceback (most recent call last):
    ValueError: a name becomes a file: letters and digits (A to Z, 0 to 9), '.', '-' and '_', ...
    """
    plain = name.isascii() and all(letter.isalnum() or letter in "._-" for letter in name)
    if not plain or not name[:1].isalnum() or name.endswith(".") or name.lower().split(".")[0] in _DEVICES:
        raise ValueError(
            "a name becomes a file: letters and digits (A to Z, 0 to 9), '.', '-' and '_', the first a letter or "
            "digit, the last not '.', and no name of a Windows device"
        )
    return name


LONGEST_STEM = 64
"""Most characters; with a stage, suffixes and the marks of a temporary file they fit into a file system's 255 bytes."""

FileStem = Annotated[str, Field(min_length=1, max_length=LONGEST_STEM), AfterValidator(check_file_stem)]
"""The name of a run, a suite or weights: one file or folder, never a path."""
