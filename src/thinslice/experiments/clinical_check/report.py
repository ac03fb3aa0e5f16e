"""Report of a clinical check: tables, figures, and one page that holds them all.

OUT/check.html                  the whole report, in one file
OUT/check.json                  all numbers, for programs
OUT/check.md                    the tables
OUT/figures/*.png               each figure by itself
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinslice.experiments.clinical_check.table import to_document
from thinslice.experiments.document import Picture, to_html, to_markdown, write_files
from thinslice.pictures.clinical_plots import Curve, bias_figure, curves_figure


def write_check(checked: Mapping[str, Any], out: Path) -> None:
    """Write tables, figures and the page, replacing those of an earlier check.

    Args:
        checked: of `thinslice.experiments.clinical_check.run.check`.
        out: folder, made when missing.

    Raises:
        OutputError, ResourceError: they cannot be written.
    """
    document = to_document(checked, pictures(checked))
    texts = {
        "check.json": json.dumps(checked, indent=1, allow_nan=False) + "\n",
        "check.md": to_markdown(document),
        "check.html": to_html(document),
    }
    write_files(out, texts, document.pictures)


def pictures(checked: Mapping[str, Any]) -> list[Picture]:
    """All figures that the check allows."""
    drawn = []
    if checked["results"]:
        drawn.append(_bias(checked))
        edges = _scan_edges(checked)
        if edges:
            drawn.append(edges)
        power = _scan_power(checked)
        if power:
            drawn.append(power)
    for factor in dict.fromkeys(row["factor"] for row in checked["phantoms"]):
        rows = [row for row in checked["phantoms"] if row["factor"] == factor]
        made = (_nodules(factor, rows), _known_edges(factor, rows), _power(factor, rows))
        drawn += [picture for picture in made if picture is not None]
    return drawn


def _bias(checked: Mapping[str, Any]) -> Picture:
    panels: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {}
    for row in checked["results"]:
        held = {
            name: (entry["bias_hu"], *(entry["interval_95_hu"] or [entry["bias_hu"]] * 2))
            for name, entry in row.get("bias_by_thick", {}).items()
            if entry["verdict"] != "too few"
        }
        if held:
            panels.setdefault(f"{row['case']}, factor {row['factor']}", {})[row["method"]] = held
    text = "Mean error in HU by tissue class of the thick slice; the band is the rule."
    return Picture("bias", "Bias by tissue", text, bias_figure(panels, checked["rule"]["max_bias_hu"]))


def _scan_edges(checked: Mapping[str, Any]) -> Picture | None:
    panels: dict[str, dict[str, Curve]] = {}
    for row in checked["results"]:
        profile = row["edges"]["profile"]
        if profile is not None:
            title = f"{row['case']}, factor {row['factor']}"
            panels.setdefault(title, {})[row["method"]] = Curve(profile["at_mm"], profile["share"])
    if not panels:
        return None
    text = "Mean of edges across slices in the scans, aligned where the truth reaches half their height."
    png = curves_figure(panels, across="mm along z", upwards="share of the step", note=text)
    return Picture("edges", "Edges in scans", text, png)


def _scan_power(checked: Mapping[str, Any]) -> Picture | None:
    panels: dict[str, dict[str, Curve]] = {}
    for key, title in (("in_plane", "in plane (HU² mm²)"), ("along_z", "along z (HU² mm)")):
        for row in checked["results"]:
            spectrum = row["noise_power"][key]
            if spectrum is not None:
                place = f"{row['case']}, factor {row['factor']}: {title}"
                panels.setdefault(place, {})[row["method"]] = Curve(spectrum["per_mm"], spectrum["power"])
    if not panels:
        return None
    text = "Noise power in patches of even soft tissue of the scans, by frequency."
    png = curves_figure(panels, across="1/mm", upwards="power", note=text, log=True)
    return Picture("noise-scans", "Noise power in scans", text, png)


def _nodules(factor: int, rows: list[Any]) -> Picture | None:
    panels: dict[str, dict[str, Curve]] = {}
    measures = (
        ("contrast_percent", "contrast (%)"),
        ("volume_percent", "volume at half contrast (%)"),
        ("detectability_percent", "matched filter (% of truth)"),
    )
    for kind in ("solid", "ground glass"):
        for key, title in measures:
            for row in rows:
                groups = [group for group in row["nodule_summary"]
                          if group["kind"] == kind and group[key]["mean"] is not None]  # fmt: skip
                if groups:
                    panels.setdefault(f"{kind}: {title}", {})[row["method"]] = Curve(
                        [group["diameter_mm"] for group in groups],
                        [group[key]["mean"] for group in groups],
                        [group[key]["sd"] or 0.0 for group in groups],
                    )
    if not panels:
        return None
    text = f"Nodules of the phantom in {factor} mm slices by diameter; whiskers: one standard deviation over nodules."
    png = curves_figure(panels, across="diameter (mm)", upwards="%", note=text)
    return Picture(f"nodules-{factor}", f"Nodules, {factor} mm slices", text, png)


def _known_edges(factor: int, rows: list[Any]) -> Picture:
    panels = {
        name: {row["method"]: Curve(row["edges"][name]["at_mm"], row["edges"][name]["hu"]) for row in rows}
        for name in rows[0]["edges"]
    }
    text = f"Mean HU by distance from a known edge, {factor} mm slices; overshoot shows beside the step."
    png = curves_figure(panels, across="mm from the edge", upwards="HU", note=text)
    return Picture(f"known-edges-{factor}", f"Known edges, {factor} mm slices", text, png)


def _power(factor: int, rows: list[Any]) -> Picture | None:
    panels: dict[str, dict[str, Curve]] = {}
    for key, title in (("in_plane", "in plane (HU² mm²)"), ("across", "across slices (HU² mm)")):
        for row in rows:
            power = row["noise"]["power"][key]
            if power is not None:
                panels.setdefault(title, {})[row["method"]] = Curve(power["per_mm"], power["power"])
    if not panels:
        return None
    text = f"Power of the noise in the phantom's lung by frequency, {factor} mm slices."
    png = curves_figure(panels, across="1/mm", upwards="power", note=text, log=True)
    return Picture(f"noise-{factor}", f"Noise power, {factor} mm slices", text, png)
