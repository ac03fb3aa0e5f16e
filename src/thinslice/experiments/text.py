"""Numbers and tables of experiments as text: means, counts, signed values, CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any


def mean_text(mean: float, sd: float | None, digits: int, star: str = "") -> str:
    """A mean with its standard deviation.

    >>> mean_text(38.6091, 1.7213, 3, "*"), mean_text(0.5, None, 2), mean_text(math.inf, None, 3)
    ('38.609 ± 1.721*', '0.50', 'infinite')
    """
    if math.isinf(mean):
        return f"infinite{star}"
    return f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}") + star


def count_text(count: float | None) -> str:
    """A count with up to four digits, as published ones have, and a unit.

    >>> [count_text(count) for count in (0, 1_730_000, 17_150_000, 2.5e12, 431, None)]
    ['0', '1.73 M', '17.15 M', '2.5 T', '431', '-']
    """
    if count is None:
        return "-"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count:.3g}"


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign; zero has none, and None is a dash.

    >>> signed(1.234), signed(-0.0001), signed(None)
    ('+1.23', '0.00', '-')
    """
    if value is None:
        return "-"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0.0 else text


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash for None.

    >>> number(2.345), number(None)
    ('2.35', '-')
    """
    return "-" if value is None else f"{value:.{digits}f}"


def as_csv(names: Sequence[str], lines: Sequence[dict[str, Any]]) -> str:
    """Dictionaries as CSV with the named columns; None is empty, other keys are left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
