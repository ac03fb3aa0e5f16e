"""Figure and tables of the results of speed/compare.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "speed.md"
FIGURE = PAGE.parents[1] / "images" / "speed.png"
BEGIN = "<!-- made by: python speed/compare.py --write -->\n"
END = "<!-- end -->\n"

PLAIN = "plain"

Row = dict[str, Any]


def table(results: dict[str, Any]) -> str:
    """Machine, windows and volumes as Markdown."""
    machine, settings = results["machine"], results["settings"]
    parts = [
        f"{machine['processor']}, {settings['threads']} threads; float32 products {machine['matrix_gflops']:.0f} "
        f"GFLOP/s by torch's `@` and {machine['onednn_gflops']:.0f} by oneDNN, copies {machine['copy_gbs']:.0f} GB/s; "
        f"load {machine['load_before']:.1f} at the start; torch {settings['torch']}.\n",
        _windows(results),
        _volumes(results),
        _factors(results),
    ]
    parts += [f"Left out: {reason}\n" for reason in results["left_out"]]
    return "\n".join(parts)


def _windows(results: dict[str, Any]) -> str:
    machine = results["machine"]
    best = max(machine["matrix_gflops"], machine["onednn_gflops"])
    rows = [row for row in results["windows"] if row["factor"] == 5]
    plain = _plain(rows)
    lines = [
        f"One window of {_shape(results)} at factor 5, medians of {results['settings']['runs']}:\n",
        "| | s | plain takes | peak, MiB | GFLOP | share of product rate | GB by operators | share of copy rate "
        "| off plain by |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        seconds, operations, moved = row["median_s"], row["operations"] / 1e9, row["bytes"]
        difference = results["agreement"].get(row["contestant"])
        cells = [
            _name(row),
            f"{seconds:.3g}",
            _times(plain, row),
            f"{row['peak_mib']:.0f}",
            f"{operations:.1f}",
            f"{operations / seconds / best:.0%}",
            "-" if moved is None else f"{moved / 1e9:.2f}",
            "-" if moved is None else f"{moved / 1e9 / seconds / machine['copy_gbs']:.0%}",
            "-" if difference is None else f"{difference:.1e}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _volumes(results: dict[str, Any]) -> str:
    lines = [
        f"Volumes of soft tissue at factor 5, files left out, medians of {results['settings']['volume_runs']}; figures "
        "with ~ are computed from the time per window:\n",
        "| thick slices | matrix | | s | plain takes | peak, MiB | windows | TFLOP |",
        "|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for depth, side in sorted({(row["shape"][0], row["shape"][1]) for row in results["volumes"]}):
        rows = [row for row in results["volumes"] if row["shape"][:2] == [depth, side]]
        order = [row["contestant"] for row in results["windows"]]
        plain = _plain(rows)
        for row in sorted(rows, key=lambda row: order.index(row["contestant"])):
            mark = "~" if row["computed"] else ""
            peak = "-" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
            cells = [str(depth), str(side), _name(row), f"{mark}{_figures(row['median_s'])}", _times(plain, row), peak]
            cells += [str(row["windows"]), f"{row['operations'] / 1e12:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _factors(results: dict[str, Any]) -> str:
    factors = sorted({row["factor"] for row in results["windows"]})
    if len(factors) == 1:
        return ""
    names = [row["contestant"] for row in results["windows"] if row["factor"] == 5 and row["contestant"] != PLAIN]
    lines = [
        f"Seconds for one window of {_shape(results)} by factor:\n",
        f"| | {' | '.join(map(str, factors))} |",
        f"|---|{'---:|' * len(factors)}",
    ]
    for name in names:
        found = {row["factor"]: row for row in results["windows"] if row["contestant"] == name}
        cells = [_figures(found[factor]["median_s"]) if factor in found else "-" for factor in factors]
        lines.append(f"| {_name({'contestant': name})} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _plain(rows: list[Row]) -> Row | None:
    return next((row for row in rows if row["contestant"] == PLAIN), None)


def _times(plain: Row | None, row: Row) -> str:
    return "-" if plain is None else f"{_figures(plain['median_s'] / row['median_s'])} x"


def _figures(value: float) -> str:
    """A value with three significant figures, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _shape(results: dict[str, Any]) -> str:
    return " x ".join(map(str, results["windows"][0]["shape"]))


def _name(row: Row) -> str:
    if row["contestant"] == PLAIN:
        return "plain TVSRN"
    model, _, backend = row["contestant"].partition("/")
    return f"`{model}`, {backend}"


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw time over slices, matrix and factor; computed points are hollow."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    volumes, windows = results["volumes"], results["windows"]
    slices = sorted({row["shape"][0] for row in volumes})
    sides = sorted({row["shape"][1] for row in volumes})
    side = 512 if 512 in sides else sides[0]
    depth = 64 if 64 in slices else slices[0]
    panels: list[tuple[str, str, list[Row], Callable[[Row], int]]] = [
        ("thick slices", f"{side} x {side}, factor 5", volumes, lambda row: row["shape"][0]),
        ("matrix", f"{depth} thick slices, factor 5", volumes, lambda row: row["shape"][1]),
        ("factor", f"one window of {_shape(results)}", windows, lambda row: row["factor"]),
    ]
    chosen = [
        [row for row in volumes if row["shape"][1] == side],
        [row for row in volumes if row["shape"][0] == depth],
        windows,
    ]
    names = list(dict.fromkeys(row["contestant"] for row in windows))
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), constrained_layout=True)
    for axis, (label, title, _, at), rows in zip(axes, panels, chosen, strict=True):
        for index, name in enumerate(names):
            own = sorted((row for row in rows if row["contestant"] == name), key=at)
            colour = f"C{index}"
            axis.plot([at(row) for row in own], [row["median_s"] for row in own], color=colour, linewidth=1)
            for row in own:
                axis.plot(at(row), row["median_s"], "o", color=colour, fillstyle="none" if row["computed"] else "full")
        ticks = sorted({at(row) for row in rows})
        axis.set(xscale="log", yscale="log", xlabel=label, title=title)
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(which="both", alpha=0.25)
    axes[0].set_ylabel("seconds")
    lines = [plt.Line2D([], [], color=f"C{index}", marker="o", linewidth=1) for index in range(len(names))]
    hollow = plt.Line2D([], [], color="grey", marker="o", fillstyle="none", linewidth=0)
    labels = [_name({"contestant": name}).replace("`", "") for name in names]
    figure.legend([*lines, hollow], [*labels, "computed from windows"], loc="outside lower center", ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write_page(results: dict[str, Any]) -> None:
    """Write the tables into docs/results/speed.md and draw its figure."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + "\n" + table(results) + "\n" + END + after, encoding="utf-8")
    draw(results, FIGURE)
