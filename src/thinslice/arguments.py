"""Types of the arguments that callers in Python give: each is checked where it enters, before any work.

Values of the right type are judged by the functions that know what they mean; here it is types alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from numbers import Real
from operator import index
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from thinslice.errors import ArgumentTypeError, UsageError

Kind = TypeVar("Kind")


def refuse(name: str, value: object, takes: str) -> NoReturn:
    """Refuse a value for its type.

    Args:
        name: the argument.
        value: what was given; its type alone is shown, as the value may be long, or a name.
        takes: what the argument takes; after a semicolon, how to get it.

    Raises:
        ArgumentTypeError: always.
    """
    kind = type(value)
    shown = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    given = "None" if value is None else f"a value of type {shown}"
    what, semicolon, remedy = takes.partition(";")
    raise ArgumentTypeError(f"The argument {name} takes {what}, not {given}{semicolon}{remedy}.")


def check_bool(name: str, value: object) -> bool:
    """True or False. A text such as "no" would count as true, so nothing else is taken.

    Raises:
        ArgumentTypeError: another type; give True or False.
    """
    # numpy's booleans are no bool, and this module does without numpy.
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        refuse(name, value, "True or False")
    return bool(value)


def check_text(name: str, value: object, takes: str = "a text") -> str:
    """A text.

    Raises:
        ArgumentTypeError: another type; `takes` describes the text.
    """
    if not isinstance(value, str):
        refuse(name, value, takes)
    return value


def check_whole(name: str, value: object, takes: str = "a whole number") -> int:
    """A whole number, of numpy too.

    Raises:
        ArgumentTypeError: another type; `takes` describes the number.

    >>> check_whole("factor", 5)
    5
    >>> check_whole("factor", "5")
    Traceback (most recent call last):
    ...
    thinslice.errors.ArgumentTypeError: The argument factor takes a whole number, not a value of type str.
    """
    if isinstance(value, bool):
        refuse(name, value, takes)
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        refuse(name, value, takes)


def check_number(name: str, value: object, takes: str = "a number") -> float:
    """A real number, of numpy too; one beyond the range of floats counts as infinite.

    Raises:
        ArgumentTypeError: another type; `takes` describes the number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        refuse(name, value, takes)
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


def check_several(name: str, value: object, takes: str) -> tuple[Any, ...]:
    """Several values in order: a tuple, a list, an array, but no text.

    Raises:
        ArgumentTypeError: another type; `takes` describes the values.
    """
    if isinstance(value, (str, bytes, dict, set, frozenset)) or not isinstance(value, Iterable):
        refuse(name, value, takes)
    try:
        return tuple(value)
    except TypeError:  # an array without axes has __iter__ all the same
        refuse(name, value, takes)


def check_numbers(name: str, value: object, takes: str) -> tuple[float, ...]:
    """Several real numbers.

    Raises:
        ArgumentTypeError: no sequence, or one of other things; `takes` describes the numbers.
    """
    return tuple(
        check_number(f"{name}[{at}]", each, takes) for at, each in enumerate(check_several(name, value, takes))
    )


def check_whole_numbers(name: str, value: object, takes: str) -> tuple[int, ...]:
    """Several whole numbers.

    Raises:
        ArgumentTypeError: no sequence, or one of other things; `takes` describes the numbers.
    """
    several = check_several(name, value, takes)
    return tuple(check_whole(f"{name}[{at}]", each, takes) for at, each in enumerate(several))


def check_path(name: str, value: object, takes: str = "a path (str or pathlib.Path)") -> Path:
    """A path.

    Raises:
        ArgumentTypeError: another type; `takes` describes what to give.
        UsageError: a blank text, which would stand for the current folder, or one that no path can be; give a path.
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        refuse(name, value, takes)
    if not os.fspath(value) or "\0" in os.fspath(value):
        raise UsageError(f"The argument {name} is blank or holds a NUL character; it takes {takes}.")
    return Path(value)


def check_paths(name: str, value: object, takes: str) -> list[Path]:
    """One path or several.

    Raises:
        ArgumentTypeError: another type; `takes` describes what to give.
    """
    if isinstance(value, (str, os.PathLike)):
        return [check_path(name, value, takes)]
    # The voxels of an array, one by one, would be refused by a worse message.
    if not isinstance(value, Iterable) or isinstance(value, (bytes, dict)) or hasattr(value, "__array__"):
        refuse(name, value, takes)
    return [check_path(f"{name}[{at}]", each, takes) for at, each in enumerate(value)]


def check_callback(name: str, value: object) -> None:
    """A function, or None.

    Raises:
        ArgumentTypeError: another type; give a function.
    """
    if value is not None and not callable(value):
        refuse(name, value, "a function, or None")


def check_instance(name: str, value: object, kind: type[Kind], takes: str) -> Kind:
    """An instance of a class.

    Raises:
        ArgumentTypeError: another type; `takes` describes the class, and how to make an instance.
    """
    if not isinstance(value, kind):
        refuse(name, value, takes)
    return value
