"""The clinical check as tables that people read: sections of notes and cells, the same for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thinslice.about import NOTICE
from thinslice.evaluation.clinical.tissues import TISSUES_HU
from thinslice.experiments.benchmark.render import joined, markdown_table

Cells = Sequence[str]

TITLE = "Clinical check"


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        title: heading.
        note: what the numbers are, a sentence or more.
        tables: (caption, heads, lines) of each table.
    """

    title: str
    note: str
    tables: tuple[tuple[str, Cells, tuple[Cells, ...]], ...]


def sections(told: Mapping[str, Any]) -> list[Section]:
    """Everything that was measured, in the order of the report.

    Args:
        told: of `thinslice.experiments.clinical_check.run.check`.
    """
    parts = []
    if told["results"]:
        parts += [_rule(told), _bias(told), _density(told), _edges(told), _noise(told)]
    if told["phantoms"]:
        parts += [_nodules(told), _slanted(told), _phantom_noise(told)]
    return [*parts, _made_from(told)]


def to_markdown(told: Mapping[str, Any]) -> str:
    """The whole check as Markdown."""
    parts = [f"# {TITLE}", f"> {NOTICE}"]
    for section in sections(told):
        parts += [f"## {section.title}", section.note]
        for caption, heads, lines in section.tables:
            parts += [*([f"**{caption}**"] if caption else []), markdown_table(heads, lines)]
    return joined([part for part in parts if part])


def rule_lines(told: Mapping[str, Any]) -> tuple[Cells, list[Cells]]:
    """(heads, lines) of the rule: method by class."""
    names = list(TISSUES_HU)
    by = {(entry["method"], entry["class"]): entry for entry in told["verdicts"]}
    lines: list[Cells] = []
    for method in told["methods"]:
        entries = [by[method["label"], name] for name in names]
        verdicts = [entry["verdict"] for entry in entries]
        # A class that no case holds enough of leaves the rule undecided.
        whole = "FAIL" if "FAIL" in verdicts else "pass" if all(v == "pass" for v in verdicts) else "undecided"
        lines.append([method["label"], *(f"{signed(entry['bias_hu'])} {entry['verdict']}" for entry in entries), whole])
    return ["method", *names, "rule"], lines


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign; zero has none.

    >>> signed(1.234), signed(-0.0001), signed(None)
    ('+1.23', '0.00', '-')
    """
    if value is None:
        return "-"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0.0 else text


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash.

    >>> number(2.345), number(None)
    ('2.35', '-')
    """
    return "-" if value is None else f"{value:.{digits}f}"


def _rule(told: Mapping[str, Any]) -> Section:
    limit = told["rule"]["max_bias_hu"]
    heads, lines = rule_lines(told)
    note = (
        f"Mean error in HU (estimate less truth) by tissue, the tissue told by the thick slice: at most {limit:g} HU "
        "either way in every class. The worst of all cases and factors is shown. A method whose output averages back "
        "to the thick slices meets this by construction; the tables below tell what it leaves open."
    )
    skipped = [f"{s['method']} at factor {s['factor']}: {s['reason']}." for s in told["skipped"]]
    return Section("The rule", " ".join([note, *(["Not measured:", *skipped] if skipped else [])]),
                   (("", heads, tuple(lines)),))  # fmt: skip


def _bias(told: Mapping[str, Any]) -> Section:
    tables = []
    for case, rows in _by_case(told):
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
        tables.append((case, heads, tuple(lines)))
    note = (
        "HU. Interval: bootstrap over thick slices. Worst distance: the bias among thin slices equally far from the "
        "nearest thick one, where it is furthest from 0. By truth: classes told by the thin truth; bright voxels are "
        "guessed darker there by any method that does not know them (regression to the mean): no rule is asked of it."
    )
    return Section("Bias by tissue", note, tuple(tables))


def _density(told: Mapping[str, Any]) -> Section:
    tables: list[tuple[str, Cells, tuple[Cells, ...]]] = []
    for case, rows in _by_case(told):
        truth = next((row["lung"] for row in rows if row["method"] == "truth"), None)
        if truth is None:
            tables.append((case, ["method"], (("no lung found",),)))
            continue
        lines: list[Cells] = []
        for row in rows:
            lung = row["lung"]
            if lung is None:
                continue
            apart = {key: "" if row["method"] == "truth" else f" ({signed(lung[key] - truth[key], digits)})"
                     for key, digits in _DENSITY}  # fmt: skip
            lines.append([row["method"], *(f"{lung[key]:.{digits}f}{apart[key]}" for key, digits in _DENSITY)])
        heads = ["method", "LAA-950 (%)", "Perc15 (HU)", "mean (HU)"]
        tables.append((f"{case}, {truth['litres']:.2f} litres of lung", heads, tuple(lines)))
    note = (
        "In brackets: less the truth. The lung is found once, in the truth. Shares below a threshold hang on noise, "
        "which every method lowers; do not read them off upscaled scans without a correction of your own."
    )
    return Section("Lung density", note, tuple(tables))


_DENSITY = (("laa950_percent", 2), ("perc15_hu", 0), ("mean_hu", 1))


def _edges(told: Mapping[str, Any]) -> Section:
    tables = []
    for case, rows in _by_case(told):
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
        tables.append((f"{case}, {count} edges", heads, tuple(lines)))
    note = (
        "Distance along z over which steps of 400 HU and more rise from 10 to 90 %, at edges found in the truth: "
        "median of single columns; rise of all columns laid over each other at the truth's place; root mean square "
        "displacement of the place of half height; columns that do not rise at all. Thick: straight between slices."
    )
    return Section("Edges across slices, in scans", note, tuple(tables))


def _noise(told: Mapping[str, Any]) -> Section:
    tables = []
    for case, rows in _by_case(told):
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
        tables.append((f"{case}, {rows[0]['noise']['patches']} patches", heads, tuple(lines)))
    note = (
        "Noise: standard deviation in patches of even soft tissue, the same for every row. What a method lacks of the "
        "truth's noise is texture that was lost. Consistency: the output averaged back, against the thick slices. "
        "Seconds: wall clock on this machine, as busy as it was."
    )
    return Section("Noise and consistency, in scans", note, tuple(tables))


def _nodules(told: Mapping[str, Any]) -> Section:
    tables: list[tuple[str, Cells, tuple[Cells, ...]]] = []
    for factor, rows in _by_factor(told):
        for kind in ("solid", "ground glass"):
            for key, title in _NODULE_MEASURES:
                diameters = [group["diameter_mm"] for group in rows[0]["nodule_summary"] if group["kind"] == kind]
                lines = [
                    [
                        row["method"],
                        *(_mean_text(group, key) for group in row["nodule_summary"] if group["kind"] == kind),
                    ]
                    for row in rows
                ]
                heads = ["method", *(f"{diameter:g} mm" for diameter in diameters)]
                tables.append((f"{kind}, {factor} mm slices: {title}", heads, tuple(lines)))
        title = f"all nodules, {factor} mm slices: contrast by setting and by place in the thick slice (%)"
        tables.append((title, *_by_place(rows)))
    count = len(told["phantoms"][0]["nodules"])
    missing = max(row["nodules_missing"] for row in told["phantoms"])
    note = (
        f"{count} nodules in the phantom{f' ({missing} more found no room)' if missing else ''}, free, beside vessels "
        "and on the pleura, spread over all places within a thick slice; mean ± standard deviation over nodules. "
        "Measured in the difference of two results, with the nodules and without. Contrast: mean within half the "
        "radius, % of the true one. Volume: where the difference reaches half the true contrast, % of the ball's; in "
        "brackets how many nodules reach it nowhere. CNR: that contrast over the standard deviation of the method's "
        "noise in lung, so smoothing raises it. Matched filter: signal to noise of an observer who knows the nodule "
        "and meets the noise as it is, smoothed or not, % of the same in the truth; a method that is not linear can "
        "enlarge a nodule and so pass what thick slices hold, which is no gain of information. The truth row shows "
        "what 1 mm slices and pixels themselves leave of a ball: compare with it, not with 100 %."
    )
    return Section("Nodules", note, tuple(tables))


_NODULE_MEASURES = (
    ("contrast_percent", "contrast recovered (%)"),
    ("volume_percent", "volume recovered (%)"),
    ("cnr", "contrast-to-noise ratio"),
    ("detectability_percent", "matched filter, of the truth's (%)"),
)


def _by_place(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], tuple[Cells, ...]]:
    """Contrast recovered of all nodules by where they lie."""
    settings = list(dict.fromkeys(nodule["setting"] for nodule in rows[0]["nodules"]))
    lines = []
    for row in rows:
        chosen = [[n for n in row["nodules"] if n["setting"] == setting] for setting in settings]
        chosen += [[n for n in row["nodules"] if (abs(n["phase"] - 0.5) > 0.25) == near] for near in (True, False)]
        lines.append([row["method"], *(_spread([n["contrast_percent"] for n in group]) for group in chosen)])
    return ["method", *settings, "near a thick slice's centre", "between two"], tuple(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = sum(values) / len(values)
    sd = (sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)) ** 0.5
    return f"{mean:.0f} ± {sd:.0f}"


def _mean_text(group: Mapping[str, Any], key: str) -> str:
    value = group[key]
    if value["mean"] is None:
        return "-"
    text = f"{value['mean']:.0f}" + ("" if value["sd"] is None else f" ± {value['sd']:.0f}")
    return f"{text} ({group['lost']}/{group['nodules']} lost)" if key == "volume_percent" and group["lost"] else text


def _slanted(told: Mapping[str, Any]) -> Section:
    tables = []
    for factor, rows in _by_factor(told):
        names = list(rows[0]["edges"])
        lines = [[row["method"], *(number(row["edges"][name]["rise_mm"]) for name in names)] for row in rows]
        heads = ["method", *(f"{name} (mm)" for name in names)]
        tables.append((f"{factor} mm slices", heads, tuple(lines)))
    note = (
        "10-90 % rise of planes that lean a little against the slices, all voxels by their distance from the known "
        "plane (slanted edge). Thick: the slices' own spread, with nothing made up between them."
    )
    return Section("Known edges", note, tuple(tables))


def _phantom_noise(told: Mapping[str, Any]) -> Section:
    tables = []
    for factor, rows in _by_factor(told):
        lines = [[row["method"], *(number(row["noise"][key], 1) for key in ("lung_sd_hu", "soft_sd_hu"))]
                 for row in rows]  # fmt: skip
        tables.append((f"{factor} mm slices", ["method", "lung (HU)", "soft tissue (HU)"], tuple(lines)))
    note = (
        "Standard deviation of what two draws of noise change in the result, over the square root of two. The figure "
        "shows its power by frequency."
    )
    return Section("Noise, in the phantom", note, tuple(tables))


def _made_from(told: Mapping[str, Any]) -> Section:
    device = told["device"]
    facts = [
        ("commit", told["commit"] or "none (installed package)"),
        ("thinslice", told["thinslice"]),
        (
            "device",
            f"{device['kind']}: {device['name']}; threads {device['threads'] or 'automatic'}",
        ),
        ("seed", str(told["seed"])),
        ("made", told["made"]),
    ]
    for case in told["cases"]:
        cut = "" if case["crop"] is None else f", cropped to {case['crop']} pixels where lung and tissue are most even"
        shape = " x ".join(str(n) for n in case["shape"])
        facts.append((
            f"case {case['label']}",
            f"factor {case['factor']}: {shape} thin voxels, {case['thick_mm']:.3g} mm slices simulated by "
            f"`{case['profile']}`, {case['thick_slices_measured']} of {case['thick_slices']} measured{cut}; whole "
            f"volume sha256 {case['sha256']}",
        ))  # fmt: skip
    facts += [
        (
            f"method {method['label']}",
            f"{method['name']} {method['version']}, weights {method['weights_sha256'] or 'none'}",
        )
        for method in told["methods"]
    ]
    return Section("Made from", "", (("", ["what", "which"], tuple(facts)),))


def _by_case(told: Mapping[str, Any]) -> Iterable[tuple[str, list[Any]]]:
    """(caption, rows) of each case and factor."""
    for case in told["cases"]:
        rows = [row for row in told["results"] if (row["case"], row["factor"]) == (case["label"], case["factor"])]
        yield f"{case['label']}, factor {case['factor']}", rows


def _by_factor(told: Mapping[str, Any]) -> Iterable[tuple[int, list[Any]]]:
    for factor in dict.fromkeys(row["factor"] for row in told["phantoms"]):
        yield factor, [row for row in told["phantoms"] if row["factor"] == factor]
