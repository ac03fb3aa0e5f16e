"""Sections of the clinical check about phantoms: the guard, nodules, known edges, noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thinslice.experiments.clinical_check import guard
from thinslice.experiments.document import Cells, Section, Table
from thinslice.experiments.text import number


def phantom_sections(checked: Mapping[str, Any]) -> list[Section]:
    """All sections about phantoms.

    Args:
        checked: of `thinslice.experiments.clinical_check.run.check`, with phantoms.
    """
    return [_guard(checked), _nodules(checked), _slanted(checked), _phantom_noise(checked)]


def guard_lines(checked: Mapping[str, Any]) -> tuple[Cells, list[Cells]]:
    """Heads and lines of the guard: methods by limit."""
    heads = [_limit_text(limit) for limit in guard.LIMITS]
    lines: list[Cells] = [
        [
            entry["method"],
            *(f"{number(limit['percent'], 0)} {limit['verdict']}" for limit in entry["limits"]),
            entry["verdict"],
        ]
        for entry in checked["guard"]
    ]
    return ["method", *heads, "guard"], lines


def _limit_text(limit: guard.Limit) -> str:
    """A limit as in "ground glass of 8 mm: contrast 95 to 105 %"."""
    reach = f"{limit.low:g} % or more" if limit.high is None else f"{limit.low:g} to {limit.high:g} %"
    return f"{limit.kind} of {limit.diameter_mm:g} mm: {limit.measure.removesuffix('_percent')} {reach}"


def _guard(checked: Mapping[str, Any]) -> Section:
    note = (
        "What a network must keep of the phantom's nodules to be embedded, means over the nodules of a kind: judged on "
        f"{guard.FACTOR} mm slices that become 1 mm slices, over the whole phantom."
    )
    if not checked["guard"]:
        return Section("The guard", (), (note, f"Not judged: it takes factor {guard.FACTOR} and no crop."))
    heads, lines = guard_lines(checked)
    return Section("The guard", (Table(heads, lines),), (note,))


def _nodules(checked: Mapping[str, Any]) -> Section:
    tables: list[Table] = []
    for factor, rows in _by_factor(checked):
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
                tables.append(Table(heads, lines, f"{kind}, {factor} mm slices: {title}"))
        title = f"all nodules, {factor} mm slices: contrast by setting and by place in the thick slice (%)"
        tables.append(Table(*_by_place(rows), title))
    count = len(checked["phantoms"][0]["nodules"])
    missing = max(row["nodules_missing"] for row in checked["phantoms"])
    note = (
        f"{count} nodules in the phantom{f' ({missing} more did not fit)' if missing else ''}, free, beside vessels "
        "and on the pleura, at places spread over a thick slice; mean ± standard deviation over nodules. "
        "Measured in the difference of two results, with the nodules and without. Contrast: mean within half the "
        "radius, % of the true one. Volume: where the difference reaches half the true contrast, % of the ball's; in "
        "brackets how many nodules reach it nowhere. CNR: that contrast over the standard deviation of the method's "
        "noise in lung, so smoothing raises it. Matched filter: signal to noise of a filter that has the nodule's "
        "shape, in the method's own noise, % of the same in the truth; a method that is not linear can enlarge a "
        "nodule and so exceed the thick slices, which is no gain of information. The truth row is the limit of 1 mm "
        "slices and pixels: compare with it, not with 100 %."
    )
    return Section("Nodules", tuple(tables), (note,))


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


def _slanted(checked: Mapping[str, Any]) -> Section:
    tables: list[Table] = []
    for factor, rows in _by_factor(checked):
        names = list(rows[0]["edges"])
        lines = [[row["method"], *(number(row["edges"][name]["rise_mm"]) for name in names)] for row in rows]
        heads = ["method", *(f"{name} (mm)" for name in names)]
        tables.append(Table(heads, lines, f"{factor} mm slices"))
    note = (
        "10-90 % rise of planes that lean a little against the slices, all voxels by their distance from the known "
        "plane (slanted edge). Thick: the slices' own spread, without interpolation."
    )
    return Section("Known edges", tuple(tables), (note,))


def _phantom_noise(checked: Mapping[str, Any]) -> Section:
    tables: list[Table] = []
    for factor, rows in _by_factor(checked):
        lines = [[row["method"], *(number(row["noise"][key], 1) for key in ("lung_sd_hu", "soft_sd_hu"))]
                 for row in rows]  # fmt: skip
        tables.append(Table(["method", "lung (HU)", "soft tissue (HU)"], lines, f"{factor} mm slices"))
    note = (
        "Standard deviation of the difference between results of two draws of noise, over the square root of two. The "
        "figure shows its power by frequency."
    )
    return Section("Noise, in the phantom", tuple(tables), (note,))


def _by_factor(checked: Mapping[str, Any]) -> Iterable[tuple[int, list[Any]]]:
    for factor in dict.fromkeys(row["factor"] for row in checked["phantoms"]):
        yield factor, [row for row in checked["phantoms"] if row["factor"] == factor]
