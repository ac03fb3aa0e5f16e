"""Report of a calibration: tables and a figure of `thinslice.experiments.calibration.run.findings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from thinslice.pictures.reliability import TOLERANCE_POINTS, reliability

HEADINGS = {
    "all": "all voxels",
    "tissue": "by tissue of the thick slice",
    "edge": "by gradient of the estimate",
    "distance_mm": "by distance from the nearest thick slice (mm)",
    "deviation_hu": "by estimated standard deviation (HU)",
    "told_hu": "by estimated standard deviation (HU)",
}
"""Heading of each kind of group; `told_hu` is an earlier spelling of `deviation_hu`."""

LEAST_SHARE = 0.01
"""Share of all voxels below which a group does not count in the verdict."""

CoverageRow = Mapping[str, Any]


def as_markdown(findings: Mapping[str, Any]) -> str:
    """Tables of coverage over all patients, and the verdict.

    Args:
        findings: of `thinslice.experiments.calibration.run.findings`.
    """
    tested, model = findings["tested"], findings["model"]
    origin = {"card": "its card", "others": "other patients", "these patients": "these same patients"}[tested["from"]]
    multipliers = ", ".join(f"{level} %: {value:.3f}" for level, value in tested["multipliers"].items())
    lines = [
        f"{model['name']} {model['version']}, standard deviations {findings['deviation']}; calibration from {origin}",
        f"scale {tested['scale']:.4f}, multipliers {multipliers}",
    ]
    if findings["rows"]:
        lines += ["", *_table(findings["rows"], findings["levels"]), *_verdict(findings["rows"])]
    if findings["left_one_out"]:
        lines += [
            "",
            "Each patient that a calibration is found on, with that of all the others:",
            "",
            *_table(findings["left_one_out"], findings["levels"]),
            *_verdict(findings["left_one_out"]),
            "",
            "One by one, the mean of all factors:",
            "",
            *_by_patient(findings["left_one_out"], findings["levels"]),
        ]
    lines += ["", f"{findings['left_out_percent']:.1f} % of voxels left out. {findings['note']}", ""]
    return "\n".join(lines)


def as_figure(findings: Mapping[str, Any]) -> bytes:
    """Reliability diagram of the tested calibration, PNG; where it was found on the same patients and there are
    several, of each patient with the calibration of the others.
    """
    same = findings["tested"]["from"] == "these patients"
    rows = findings["left_one_out"] if same and findings["left_one_out"] else findings["rows"]
    shown = [row for row in rows if row["case"] == "all"]
    everything = {"all voxels": next(_coverage(row) for row in shown if row["kind"] == "all")}
    panels = {}
    for kind in ("tissue", "edge", "distance_mm"):
        panels[HEADINGS[kind]] = everything | {row["group"]: _coverage(row) for row in shown if row["kind"] == kind}
    expected = [
        (row["mean_deviation_hu"], row["rmse_hu"]) for row in shown if row["kind"] in ("deviation_hu", "told_hu")
    ]
    model = findings["model"]
    patients = ", ".join(dict.fromkeys(patient["case"] for patient in findings["patients"]))
    return reliability(panels, expected, note=f"{model['name']} {model['version']} on {patients}. {findings['note']}")


def worst(rows: Sequence[CoverageRow], level: str = "90") -> tuple[str, float] | None:
    """Group over all patients farthest from a nominal level, and its distance in points; small ones do not count."""
    shown = [row for row in rows if row["case"] == "all"]
    total = max((row["voxels"] for row in shown), default=0)
    counted = [row for row in shown if row["voxels"] >= LEAST_SHARE * total and level in row["coverage_percent"]]
    if not counted:
        return None
    row = max(counted, key=lambda row: abs(row["coverage_percent"][level] - float(level)))
    name = HEADINGS[row["kind"]] if row["kind"] == "all" else f"{row['group']} ({HEADINGS[row['kind']]})"
    return name, row["coverage_percent"][level] - float(level)


def _table(rows: Sequence[CoverageRow], levels: Sequence[int]) -> list[str]:
    heads = [f"{level} %" for level in levels]
    lines = [
        f"| voxels | share | {' | '.join(heads)} | RMS error over SD | mean SD, HU | RMSE, HU |",
        f"|---|---|{'---|' * len(heads)}---|---|---|",
    ]
    shown = [row for row in rows if row["case"] == "all"]
    total = max(row["voxels"] for row in shown)
    kind = None
    for row in shown:
        if row["kind"] != kind and row["kind"] != "all":
            lines.append(f"| *{HEADINGS[row['kind']]}* |" + " |" * (len(heads) + 4))
        kind = row["kind"]
        name = HEADINGS["all"] if kind == "all" else row["group"]
        coverage = " | ".join(f"{row['coverage_percent'][str(level)]:.1f}" for level in levels)
        lines.append(
            f"| {name} | {100.0 * row['voxels'] / total:.1f} % | {coverage} | {row['rms_standardised']:.2f} | "
            f"{row['mean_deviation_hu']:.1f} | {row['rmse_hu']:.1f} |"
        )
    return lines


def _by_patient(rows: Sequence[CoverageRow], levels: Sequence[int]) -> list[str]:
    cases: dict[str, list[CoverageRow]] = {}
    for row in rows:
        if row["kind"] == "all" and row["case"] != "all":
            cases.setdefault(row["case"], []).append(row)
    heads = [f"{level} %" for level in levels]
    lines = [f"| patient | {' | '.join(heads)} | RMS error over SD |", f"|---|{'---|' * len(heads)}---|"]
    for case, found in cases.items():
        coverage = " | ".join(f"{mean(row['coverage_percent'][str(level)] for row in found):.1f}" for level in levels)
        lines.append(f"| {case} | {coverage} | {mean(row['rms_standardised'] for row in found):.2f} |")
    return lines


def _verdict(rows: Sequence[CoverageRow]) -> list[str]:
    found = worst(rows)
    if found is None:
        return []
    whole = next(row for row in rows if (row["case"], row["kind"]) == ("all", "all"))["coverage_percent"]
    apart = max(abs(value - float(level)) for level, value in whole.items())
    kept = "kept" if apart <= TOLERANCE_POINTS else "NOT kept"
    return [
        "",
        f"Over all voxels at most {apart:.1f} points from nominal (rule: {TOLERANCE_POINTS:g}, {kept}); at 90 % the "
        f"farthest group is {found[0]}, {found[1]:+.1f} points.",
    ]


def _coverage(row: CoverageRow) -> dict[int, float]:
    return {int(level): value for level, value in row["coverage_percent"].items()}
