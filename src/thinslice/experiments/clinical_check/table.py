"""The clinical check as a document: sections of notes and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thinslice.evaluation.clinical import radiomics
from thinslice.evaluation.clinical.tissues import TISSUES_HU
from thinslice.experiments.clinical_check.phantom_table import phantom_sections
from thinslice.experiments.document import Cells, Document, Picture, Section, Table
from thinslice.experiments.text import number, signed

TITLE = "Clinical check"

_LEAD = "docs/explanation/clinical-checks.md defines each number."


def to_document(checked: Mapping[str, Any], drawn: Sequence[Picture] = ()) -> Document:
    """The report of a check, with its figures at the end.

    Args:
        checked: of `thinslice.experiments.clinical_check.run.check`.
        drawn: figures.
    """
    sections: list[Section] = []
    if checked["results"]:
        sections += [_rule(checked), _bias(checked), _density(checked), _edges(checked), _noise(checked)]
        sections += [_noise_power(checked), _radiomics(checked)]
    if checked["phantoms"]:
        sections += phantom_sections(checked)
    return Document(TITLE, _LEAD, (*sections, _provenance(checked), *drawn))


def rule_lines(checked: Mapping[str, Any]) -> tuple[Cells, list[Cells]]:
    """Heads and lines of the rule: methods by class."""
    names = list(TISSUES_HU)
    by = {(entry["method"], entry["class"]): entry for entry in checked["verdicts"]}
    lines: list[Cells] = []
    for method in checked["methods"]:
        entries = [by[method["label"], name] for name in names]
        verdicts = [entry["verdict"] for entry in entries]
        # A class that no case holds enough of leaves the rule undecided.
        whole = "FAIL" if "FAIL" in verdicts else "pass" if all(v == "pass" for v in verdicts) else "undecided"
        lines.append([method["label"], *map(_verdict_text, entries), whole])
    return ["method", *names, "rule"], lines


def _verdict_text(entry: Mapping[str, Any]) -> str:
    """Bias, bias at the worst distance, verdict, as in "0.00, -1.42 pass"."""
    return f"{signed(entry['bias_hu'])}, {signed(entry['worst_offset_hu'])} {entry['verdict']}"


def _rule(checked: Mapping[str, Any]) -> Section:
    limit = checked["rule"]["max_bias_hu"]
    heads, lines = rule_lines(checked)
    note = (
        f"Mean error in HU (estimate less truth) by tissue class of the thick slice: at most {limit:g} HU either way "
        "in every class, over all thin slices (first number) and at every distance from a thick slice (second "
        "number: the worst distance). The worst of all cases and factors is shown. Where thick slices are simulated, a "
        "method whose output averages back to them has a first number of 0 by construction; on a real pair the "
        "numbers also hold what the two reconstructions differ by."
    )
    skipped = [f"{s['method']} at factor {s['factor']}: {s['reason']}." for s in checked["skipped"]]
    return Section("The rule", (Table(heads, lines),), (note, *(f"Not measured: {sentence}" for sentence in skipped)))


def _bias(checked: Mapping[str, Any]) -> Section:
    tables: list[Table] = []
    for case, rows in _by_case(checked):
        lines: list[Cells] = []
        for row in rows:
            for name, entry in row.get("bias_by_thick", {}).items():
                interval = entry["interval_95_hu"]
                lines.append([
                    row["method"],
                    name,
                    f"{entry['voxels']:,}".replace(",", " "),
                    signed(entry["bias_hu"]),
                    "-" if interval is None else " to ".join(signed(end) for end in interval),
                    number(entry["rmse_hu"], 1),
                    signed(entry["worst_offset_hu"]),
                    entry["verdict"],
                    signed(row["bias_by_truth"][name]["bias_hu"]),
                ])  # fmt: skip
        heads = ["method", "tissue", "voxels", "bias", "95 % interval", "RMSE", "worst distance", "rule",
                 "by truth (information)"]  # fmt: skip
        tables.append(Table(heads, lines, case))
    note = (
        "HU. Interval: bootstrap over thick slices. Worst distance: the bias among thin slices equally far from the "
        "nearest thick one, where it is furthest from 0. By truth: classes of the thin truth, by "
        "which every method estimates bright voxels darker than they are (regression to the mean): no rule applies."
    )
    return Section("Bias by tissue", tuple(tables), (note,))


def _density(checked: Mapping[str, Any]) -> Section:
    tables: list[Table] = []
    for case, rows in _by_case(checked):
        truth = next((row["lung"] for row in rows if row["method"] == "truth"), None)
        if truth is None:
            tables.append(Table(["method"], [["no lung found"]], case))
            continue
        lines: list[Cells] = []
        for row in rows:
            lung = row["lung"]
            if lung is None:
                continue
            apart = {key: "" if row["method"] == "truth" else f" ({signed(lung[key] - truth[key], digits)})"
                     for key, digits in _DENSITY}  # fmt: skip
            lines.append([row["method"], *(f"{lung[key]:.{digits}f}{apart[key]}" for key, digits in _DENSITY)])
        heads = ["method", "LAA-950 (%)", "LAA-910 (%)", "Perc15 (HU)", "mean (HU)"]
        tables.append(Table(heads, lines, f"{case}, {truth['litres']:.2f} litres of lung"))
    note = (
        "In brackets: less the truth. The lung is found once, in the truth. Shares below a threshold depend on noise, "
        "which every method lowers; do not take them from upscaled scans without a correction of your own."
    )
    return Section("Lung density", tuple(tables), (note,))


_DENSITY = (("laa950_percent", 2), ("laa910_percent", 2), ("perc15_hu", 0), ("mean_hu", 1))


def _edges(checked: Mapping[str, Any]) -> Section:
    tables: list[Table] = []
    for case, rows in _by_case(checked):
        lines = []
        for row in rows:
            edges = row["edges"]
            quartiles = edges["quartiles_mm"]
            lines.append([
                row["method"],
                number(edges["rise_mm"]),
                "-" if quartiles is None else " to ".join(number(end) for end in quartiles),
                number(edges["profile"] and edges["profile"]["rise_mm"]),
                number(edges["displaced_mm"]),
                number(edges["unresolved_percent"], 1),
            ])  # fmt: skip
        heads = ["method", "rise (mm)", "middle half (mm)", "rise of the mean (mm)", "displaced (mm)", "unresolved (%)"]
        count = rows[0]["edges"]["edges"]
        tables.append(Table(heads, lines, f"{case}, {count} edges"))
    note = (
        "Distance along z over which steps of 400 HU and more rise from 10 to 90 %, at edges found in the truth: "
        "median of single columns; rise of the mean of all columns aligned at the truth's place; root mean square "
        "displacement of the place of half height; columns without a rise. Thick: linear between slices."
    )
    return Section("Edges across slices, in scans", tuple(tables), (note,))


def _noise(checked: Mapping[str, Any]) -> Section:
    tables: list[Table] = []
    for case, rows in _by_case(checked):
        truth = rows[0]["noise"]["sd_hu"]
        lines = []
        for row in rows:
            noise, offsets = row["noise"], row["noise"]["by_offset_hu"]
            kept = None if not truth or noise["sd_hu"] is None else 100.0 * noise["sd_hu"] / truth
            lines.append([
                row["method"],
                number(noise["sd_hu"], 1),
                number(kept, 0),
                number(offsets and offsets[0], 1),
                number(offsets and offsets[-1], 1),
                number(row["consistency_rms_hu"]),
                number(row["seconds"], 1),
            ])  # fmt: skip
        heads = ["method", "noise (HU)", "of the truth's (%)", "on thick slices", "furthest from them",
                 "consistency (RMS HU)", "seconds"]  # fmt: skip
        tables.append(Table(heads, lines, f"{case}, {rows[0]['noise']['patches']} patches"))
    note = (
        "Noise: standard deviation in patches of even soft tissue, the same for every row. Noise below the "
        "truth's is lost texture. Consistency: the output averaged over the slice profile, against the thick slices. "
        "Seconds: wall clock on this machine, other work included."
    )
    return Section("Noise and consistency, in scans", tuple(tables), (note,))


def _noise_power(checked: Mapping[str, Any]) -> Section:
    tables: list[Table] = []
    for case, rows in _by_case(checked):
        lines = []
        for row in rows:
            percent = row["noise_power"]["percent"]
            bands = [None] * 5 if percent is None else [*percent["in_plane"], *percent["along_z"]]
            lines.append([row["method"], *(number(band, 0) for band in bands)])
        heads = ["method", "in plane, lower third (%)", "middle third", "upper third",
                 "along z, up to the thick slices' limit (%)", "beyond it"]  # fmt: skip
        patches = rows[0]["noise_power"]["stretches"]
        tables.append(Table(heads, lines, f"{case}, {patches} patches of even soft tissue"))
    note = (
        "Noise power, % of the truth's, in bands of frequency: 100 in each is the truth's texture. In plane: thirds of "
        "the frequencies that the pixels carry. Along z: up to half a cycle per thick slice, which thick slices "
        "carry, and beyond, which only thin ones do."
    )
    return Section("Noise power, in scans", tuple(tables), (note,))


def _radiomics(checked: Mapping[str, Any]) -> Section:
    if not checked["radiomics_installed"]:
        return Section("Radiomic agreement", (), (radiomics.MISSING,))
    tables: list[Table] = []
    for case, rows in _by_case(checked):
        lines = []
        for row in rows:
            if row["radiomics"] is None:
                continue
            cells = []
            for tissue in ("lung", "soft"):
                part = row["radiomics"][tissue]
                cells += [number(part and part["concordant_percent"], 0), number(part and part["median"])]
            lines.append([row["method"], *cells])
        regions = [rows[1]["radiomics"][tissue] for tissue in ("lung", "soft")] if len(rows) > 1 else [None, None]
        counts = " and ".join(str(part["regions"] if part else 0) for part in regions)
        heads = ["method", "lung: features kept (%)", "lung: median concordance", "soft tissue: features kept (%)",
                 "soft tissue: median concordance"]  # fmt: skip
        tables.append(Table(heads, lines, f"{case}, {counts} regions of lung and soft tissue"))
    note = (
        f"Features of first order and texture in cubes of {radiomics.REGION_MM:g} mm, against those of the truth: "
        f"share with Lin's concordance of {radiomics.CONCORDANT:g} or more over the regions, and the median."
    )
    return Section("Radiomic agreement", tuple(tables), (note,))


def _provenance(checked: Mapping[str, Any]) -> Section:
    device = checked["device"]
    facts = [
        ("commit", checked["commit"] or "none (installed package)"),
        ("thinslice", checked["thinslice"]),
        (
            "device",
            f"{device['kind']}: {device['name']}; threads {device['threads'] or 'automatic'}",
        ),
        ("seed", str(checked["seed"])),
        ("made", checked["made"]),
    ]
    for case in checked["cases"]:
        cut = "" if case["crop"] is None else f", cropped to {case['crop']} pixels where lung and tissue are most even"
        shape = " x ".join(str(n) for n in case["shape"])
        facts.append((
            f"case {case['label']}",
            f"factor {case['factor']}: {shape} thin voxels, {case['thick_mm']:.3g} mm slices "
            f"{_origin(case['profile'])}, {case['thick_slices_measured']} of {case['thick_slices']} measured{cut}; "
            f"whole volume sha256 {case['sha256']}",
        ))  # fmt: skip
    facts += [
        (
            f"method {method['label']}",
            f"{method['name']} {method['version']}, weights {method['weights_sha256'] or 'none'}",
        )
        for method in checked["methods"]
    ]
    return Section("Provenance", (Table((), facts),))


def _origin(profile: str) -> str:
    return "of a real pair" if profile == "real pair" else f"simulated by `{profile}`"


def _by_case(checked: Mapping[str, Any]) -> Iterable[tuple[str, list[Any]]]:
    """(caption, rows) of each case and factor."""
    for case in checked["cases"]:
        rows = [row for row in checked["results"] if (row["case"], row["factor"]) == (case["label"], case["factor"])]
        yield f"{case['label']}, factor {case['factor']}", rows
