"""The guard: its limits are those of the table, and only the whole phantom at factor 5 is judged."""

from __future__ import annotations

from typing import Any

import pytest

from thinslice.experiments.clinical_check import guard
from thinslice.experiments.clinical_check.phantom_table import guard_lines


def row(method: str = "net", factor: int = 5, **means: float) -> dict[str, Any]:
    """A phantom's row with the means that the guard reads, all of them kept unless set otherwise."""
    values = {"ground8": 100.0, "ground10": 100.0, "solid5": 84.0, **means}

    def group(kind: str, diameter: float, measure: str, value: float) -> dict[str, Any]:
        others = {"contrast_percent": {"mean": 1.0}, "volume_percent": {"mean": 1.0}}
        return {"kind": kind, "diameter_mm": diameter, **others, measure: {"mean": value}}

    summary = [
        group("ground glass", 8.0, "contrast_percent", values["ground8"]),
        group("ground glass", 10.0, "contrast_percent", values["ground10"]),
        group("solid", 5.0, "volume_percent", values["solid5"]),
        group("solid", 3.0, "volume_percent", 0.0),
    ]
    return {"method": method, "factor": factor, "nodule_summary": summary}


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ({}, "pass"),
        ({"ground8": 95.0, "ground10": 105.0, "solid5": 80.0}, "pass"),
        ({"ground8": 94.9}, "FAIL"),
        ({"ground10": 105.1}, "FAIL"),
        ({"solid5": 79.9}, "FAIL"),
        ({"solid5": 130.0}, "pass"),
    ],
)
def test_the_limits_are_inclusive(means: dict[str, float], verdict: str) -> None:
    (found,) = guard.verdicts([row(**means)])
    assert found["verdict"] == verdict
    assert guard.broken({"guard": [found]}, ["net"]) == ([] if verdict == "pass" else ["net"])


def test_truth_and_thick_slices_other_factors_and_crops_are_not_judged() -> None:
    rows = [row("truth"), row("thick"), row("net", 4), row("net", 8)]
    assert guard.verdicts(rows) == guard.verdicts([row()], whole=False) == []
    # A network that was not judged does not pass.
    assert guard.broken({"guard": []}, ["net"]) == ["net"]


def test_a_phantom_without_the_nodules_fails() -> None:
    (found,) = guard.verdicts([{"method": "net", "factor": 5, "nodule_summary": []}])
    assert found["verdict"] == "FAIL" and {limit["percent"] for limit in found["limits"]} == {None}


def test_the_table_names_every_limit() -> None:
    heads, lines = guard_lines({"guard": guard.verdicts([row(ground8=107.2)])})
    assert heads == [
        "method",
        "ground glass of 8 mm: contrast 95 to 105 %",
        "ground glass of 10 mm: contrast 95 to 105 %",
        "solid of 5 mm: volume 80 % or more",
        "guard",
    ]
    assert lines == [["net", "107 FAIL", "100 pass", "84 pass", "FAIL"]]
