"""The downstream columns of a suite's table: means over cases, for Markdown, CSV and JSON alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.text import number

NOTE = (
    "Means over cases that could be measured. Lung density: estimate less truth, over the lung of the truth. "
    "Radiomics: share of features whose concordance with the truth reaches 0.85. Nodules: a phantom with known ones; "
    "mean volume and contrast, 100 % is the truth, and how many of them left no volume. Segmentations: the suite's "
    "programs on the method's volume against the same on the truth; means over labels."
)


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: in CSV and JSON.
        head: in tables.
        digits: after the point.
        value: of a method's label; None where nothing was measured.
    """

    name: str
    head: str
    digits: int
    value: Callable[[str], float | None]


def downstream_columns(result: SuiteResult) -> tuple[Column, ...]:
    """The columns that the suite asks for."""
    chosen = result.suite.downstream
    made: list[Column] = []

    def of_cases(label: str) -> list[Mapping[str, Any]]:
        return [values for (method, _), values in result.downstream.items() if method == label]

    def measured(*path: str) -> Callable[[str], float | None]:
        return lambda label: _mean(_at(values, path) for values in of_cases(label))

    if chosen.lung_density:
        difference = ("lung_density", "difference")
        made += [
            Column("laa950_difference", "LAA-950 (points)", 2, measured(*difference, "laa950_percent")),
            Column("perc15_difference_hu", "Perc15 (HU)", 1, measured(*difference, "perc15_hu")),
        ]
    if chosen.radiomics:
        made += [
            Column(f"radiomics_{tissue}_percent", f"radiomics {tissue} (%)", 0,
                   measured("radiomics", tissue, "concordant_percent"))
            for tissue in ("lung", "soft")
        ]  # fmt: skip
    if chosen.nodules:
        for name, head in (("volume_percent", "nodules: volume (%)"), ("contrast_percent", "nodules: contrast (%)")):
            made.append(Column(f"nodule_{name}", head, 0, _of_nodules(result, name, _mean)))
        made.append(Column("nodules_lost", "nodules lost", 0, _of_nodules(result, "volume_percent", _zeros)))
    for one in chosen.segmentations:
        for key, head, digits in (("dice", "Dice", 3), ("volume_percent", "volume (%)", 1)):
            made.append(Column(f"{key}_{one.name}", f"{one.name}: {head}", digits, _of_labels(of_cases, one.name, key)))
    return tuple(made)


def downstream_rows(result: SuiteResult) -> tuple[list[str], list[list[str]]]:
    """The columns as a table of text: heads, and a line for each method that has a value."""
    made = downstream_columns(result)
    lines = [
        [method.label, *(number(column.value(method.label), column.digits) for column in made)]
        for method in result.methods
        if any(column.value(method.label) is not None for column in made)
    ]
    return ["method", *(column.head for column in made)], lines


def downstream_json(result: SuiteResult) -> dict[str, Any] | None:
    """Columns by method, and everything behind them; None where the suite asks for nothing."""
    made = downstream_columns(result)
    if not made:
        return None
    return {
        "rows": [
            {"label": method.label, **{column.name: column.value(method.label) for column in made}}
            for method in result.methods
        ],
        "cases": [{"label": label, "case": case, **values} for (label, case), values in result.downstream.items()],
        "nodules": dict(result.nodules),
    }


def _of_nodules(
    result: SuiteResult, name: str, together: Callable[[Iterable[float | None]], float | None]
) -> Callable[[str], float | None]:
    def value(label: str) -> float | None:
        found = result.nodules.get(label)
        return None if found is None else together(nodule[name] for nodule in found["nodules"])

    return value


def _of_labels(
    of_cases: Callable[[str], list[Mapping[str, Any]]], name: str, key: str
) -> Callable[[str], float | None]:
    def value(label: str) -> float | None:
        agreed = [values.get("segmentations", {}).get(name, {}) for values in of_cases(label)]
        return _mean(_mean(one[key] for one in labels.values()) for labels in agreed)

    return value


def _at(values: Any, path: tuple[str, ...]) -> float | None:
    for name in path:
        if values is None:
            return None
        values = values.get(name)
    return None if values is None else float(values)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _zeros(values: Iterable[float | None]) -> float:
    return float(sum(value == 0.0 for value in values))
