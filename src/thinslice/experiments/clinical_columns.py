"""The measures of protocol `clinical` as columns of a table: one definition for suites and for single pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TISSUES = ("lung", "fat", "soft", "bone")

COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    *(
        column
        for tissue in TISSUES
        for column in (
            (f"bias {tissue} (HU)", ("by_tissue_of_thick", tissue, "bias_hu")),
            (f"MAE {tissue} (HU)", ("by_tissue_of_thick", tissue, "mae_hu")),
        )
    ),
    ("LAA-950 difference (%)", ("laa950_percent", "difference")),
    ("edge rise (mm)", ("edge_rise_mm", "estimate")),
    ("true edge rise (mm)", ("edge_rise_mm", "reference")),
    ("noise (HU)", ("noise_hu", "estimate")),
    ("true noise (HU)", ("noise_hu", "reference")),
    ("consistency (HU RMS)", ("consistency_rms_hu",)),
)
"""Head of a column, and the keys that lead to its value in `thinslice.evaluation.clinical.measures.measure`."""


def clinical_table(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """A line for each method: means over cases; bias and error by tissue, classes from the thick slices.

    Args:
        measured: label -> measures of each case, at least one.

    Returns:
        Column heads, and lines of text.

    >>> heads, lines = clinical_table({"cubic": [{"consistency_rms_hu": 1.0}, {"consistency_rms_hu": 2.0}]})
    >>> heads[-1], lines[0][:3], lines[0][-1]
    ('consistency (HU RMS)', ['cubic', '2', '-'], '1.50')
    """
    heads = ["method", "cases", *(head for head, _ in COLUMNS)]
    lines = [
        [label, str(len(cases)), *(_mean_text([_at(case, path) for case in cases]) for _, path in COLUMNS)]
        for label, cases in measured.items()
    ]
    return heads, lines


def _at(measured: Any, path: tuple[str, ...]) -> float | None:
    for name in path:
        if measured is None:
            return None
        measured = measured.get(name)
    return None if measured is None else float(measured)


def _mean_text(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return f"{float(np.mean(known)):.2f}" if known else "-"
