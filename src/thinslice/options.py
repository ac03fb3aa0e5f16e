"""Options in messages: as an argument for callers in Python, as a flag on the command line.

A message is written once, below both: `f"try {option('spacing_mm', 1.25)}"` becomes "try spacing_mm=1.25" in Python and
"try --spacing 1.25" in the program `thinslice`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

FLAGS = {
    "spacing_mm": "--spacing",
    "data_root": "--data",
    "splits": "--split",
    "protocols": "--protocol",
    "root": "--index",
    "scratch_mib": "--scratch-limit",
}
"""Flags that are not the option's name with hyphens."""

ARGUMENTS = {"uncertainty_by": "uncertainty"}
"""Arguments in Python that are not the option's name: where the command line has two flags and a call one argument."""


class Spelling(Enum):
    """How messages name an option."""

    ARGUMENT = "argument"
    FLAG = "flag"


# One spelling for the process, no context variable: writers and readers make messages in threads of their own.
_spelling = Spelling.ARGUMENT


@contextmanager
def options_as_flags() -> Iterator[None]:
    """Within it, messages name flags of the command line, in all threads of the process."""
    global _spelling
    before, _spelling = _spelling, Spelling.FLAG
    try:
        yield
    finally:
        _spelling = before


def option(name: str, value: str | int | float | bool | None = None) -> str:
    """An option as the reader of a message writes it.

    Args:
        name: the argument in Python, such as "on_tilt", unless `ARGUMENTS` holds another for it.
        value: to give it; True for a flag without a value, None to name the option alone.

    >>> option("on_tilt", "resample"), option("spacing_mm", 1.25), option("overwrite", True), option("axis")
    ("on_tilt='resample'", 'spacing_mm=1.25', 'overwrite=True', 'axis=')
    >>> with options_as_flags():
    ...     option("on_tilt", "resample"), option("spacing_mm", 1.25), option("overwrite", True), option("axis")
    ('--on-tilt resample', '--spacing 1.25', '--overwrite', '--axis')
    """
    shown = f"{value:.4g}" if isinstance(value, float) else value
    if _spelling is Spelling.ARGUMENT:
        name = ARGUMENTS.get(name, name)
        return f"{name}=" if value is None else f"{name}={shown!r}" if isinstance(value, str) else f"{name}={shown}"
    flag = FLAGS.get(name, "--" + name.replace("_", "-"))
    return flag if value is None or value is True else f"{flag} {shlex.quote(str(shown))}"
