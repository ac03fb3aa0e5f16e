"""Plots of benchmarks: bars with stars, score over time, case against case. The paper's Fig. 3 and its scatter plots.

Plots are dark on white, for pages of either colour and for print. matplotlib is loaded when a plot is drawn and used
through its object interface only.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinslice.about import NOTICE
from thinslice.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM"}
"""Axis labels of the two metrics."""

COLOURS = ("#0b63b0", "#c4560a", "#2e7d32", "#8e3aa8", "#b3261e", "#00796b", "#6d5a00", "#5c636d")
"""Colours of series, in order; readable on white and distinct for most red-green colour-blind readers."""

LABEL_POINTS = 9.0
"""Height of a label's line in points."""

CIRCLE_POINTS2_PER_PARAMETER = 60e-6
"""Area of a circle in points squared per trained value: a network of a million takes 60."""

LEAST_CIRCLE_POINTS2 = 5.0
"""Least area of a visible circle."""

MAX_CIRCLE_POINTS2 = 4000.0
"""Largest circle; with larger networks all circles shrink by one ratio."""

_INK, _DIM, _LINE, _DPI = "#1b1d21", "#5c636d", "#dfe2e6", 160

_DASHES = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Bar:
    """One bar: a mean over cases and its standard deviation.

    Attributes:
        label: below it.
        mean: height.
        sd: whiskers; None for none.
        star: written above it.
    """

    label: str
    mean: float
    sd: float | None = None
    star: str = ""


@dataclass(frozen=True)
class Circle:
    """One method of the plot of score over time.

    Attributes:
        label: beside it.
        seconds: per volume.
        score: mean over cases.
        parameters: trained values, its area; 0 is drawn as a cross.
    """

    label: str
    seconds: float
    score: float
    parameters: int


def bars(panels: Mapping[str, Sequence[Bar]], *, note: str = "") -> bytes:
    """Bars side by side, a panel for each metric (Fig. 3a). Axes do not start at zero, as the footer states.

    Args:
        panels: metric ("psnr", "ssim") -> bars.
        note: meaning of the stars.

    Returns:
        PNG.

    Raises:
        UsageError: no bars.

    >>> bars({"psnr": [Bar("cubic", 33.1, 1.2), Bar("ours", 35.0, 1.1, "*")]})[1:4]
    b'PNG'
    """
    _some(panels)
    count = max(len(row) for row in panels.values())
    figure, axes = new_figure(len(panels), max(3.4, 0.55 * count + 1.2), 3.6)
    for axis, (metric, row) in zip(axes, panels.items(), strict=True):
        _draw_bars(axis, np.arange(len(row)), row, COLOURS[0], width=0.65)
        axis.set_xticks(np.arange(len(row)), [bar.label for bar in row], rotation=35, ha="right", parse_math=False)
        _scale(axis, metric, row)
    _foot(figure, f"Mean over cases, whiskers one standard deviation; axes do not start at 0.\n{note}")
    return _png(figure)


def paired_bars(
    panels: Mapping[str, Mapping[str, Sequence[Bar]]],
    *,
    note: str = "",
    lines: Mapping[str, Mapping[str, float]] | None = None,
) -> bytes:
    """Bars of several series by method, such as training on paired and on simulated thick slices (Fig. 3c).

    Args:
        panels: metric -> series (its name stands in the legend) -> bars; bars of one label are grouped.
        note: meaning of the stars.
        lines: metric -> name -> height of a line across the panel, such as the score of an interpolation.

    Returns:
        PNG.

    Raises:
        UsageError: no bars, or more series than there are colours.
    """
    _some({metric: [bar for row in series.values() for bar in row] for metric, series in panels.items()})
    if any(len(series) > len(COLOURS) for series in panels.values()):
        raise UsageError(f"At most {len(COLOURS)} series have distinct colours in a plot.")
    labels = list(dict.fromkeys(bar.label for series in panels.values() for row in series.values() for bar in row))
    widest = max(len(series) for series in panels.values())
    figure, axes = new_figure(len(panels), max(3.6, (0.26 * widest + 0.2) * len(labels) + 1.2), 3.8)
    for axis, (metric, series) in zip(axes, panels.items(), strict=True):
        width = 0.8 / len(series)
        for number, (name, row) in enumerate(series.items()):
            at = np.array([labels.index(bar.label) for bar in row]) + (number - (len(series) - 1) / 2) * width
            _draw_bars(axis, at, row, COLOURS[number], width=0.92 * width, label=name)
        across = dict(lines or {}).get(metric, {})
        for number, (name, height) in enumerate(across.items()):
            axis.axhline(height, color=_DIM, linewidth=0.9, linestyle=_DASHES[number % len(_DASHES)], label=name)
        axis.set_xticks(np.arange(len(labels)), labels, rotation=35, ha="right", parse_math=False)
        _scale(axis, metric, [*(bar for row in series.values() for bar in row), *(Bar("", h) for h in across.values())])
        # matplotlib lists lines before bars.
        drawn = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        names = [*series, *(name for name in across if name not in series)]
        axis.legend(
            [drawn[name] for name in names], names, fontsize=7, frameon=False, loc="lower left",
            bbox_to_anchor=(0.0, 1.0), ncols=min(3, len(names)), borderaxespad=0.2,
        )  # fmt: skip
    _foot(figure, f"Mean over cases, whiskers one standard deviation; axes do not start at 0.\n{note}")
    return _png(figure)


def score_over_time(circles: Sequence[Circle], *, device: str = "") -> bytes:
    """PSNR over seconds per volume, circles as large as the network (Fig. 3b).

    Args:
        circles: methods.
        device: of the measured seconds, for the axis.

    Returns:
        PNG.

    Raises:
        UsageError: no methods.
    """
    _some({"psnr": circles})
    figure, (axis,) = new_figure(1, 6.4, 4.2)
    learned = [circle.parameters for circle in circles if circle.parameters]
    # One ratio for all, so that areas compare.
    share = min(CIRCLE_POINTS2_PER_PARAMETER, MAX_CIRCLE_POINTS2 / max(learned)) if learned else 1.0
    asides: list[float] = []
    for number, circle in enumerate(circles):
        colour = COLOURS[number % len(COLOURS)]
        if circle.parameters:
            area = max(LEAST_CIRCLE_POINTS2, circle.parameters * share)
            axis.scatter([circle.seconds], [circle.score], s=area, color=colour, alpha=0.55, edgecolors=colour)
        else:
            area = 40.0
            axis.scatter([circle.seconds], [circle.score], s=area, color=colour, marker="x")
        asides.append(0.55 * math.sqrt(area) + 3)
    seconds = [circle.seconds for circle in circles]
    if min(seconds) > 0 and max(seconds) > 5 * min(seconds):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    # Room for labels and for circles at the rim.
    axis.margins(x=0.25, y=0.2)
    axis.set_xlabel("seconds per volume" + (f", {device}" if device else ""), fontsize=8, parse_math=False)
    axis.set_ylabel(METRICS["psnr"], fontsize=8)
    _foot(figure, "Area of a circle: number of parameters; a cross has none.")
    figure.draw_without_rendering()  # fixes the positions of points
    points = [axis.transData.transform((c.seconds, c.score)) * (72.0 / figure.dpi) for c in circles]
    boxes = [(x + aside, y, 4.4 * len(c.label)) for (x, y), aside, c in zip(points, asides, circles, strict=True)]
    for circle, aside, lift in zip(circles, asides, apart(boxes, height=LABEL_POINTS), strict=True):
        axis.annotate(
            circle.label, (circle.seconds, circle.score), xytext=(aside, lift), textcoords="offset points",
            fontsize=7.5, va="center", color=_INK, parse_math=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": _DIM} if abs(lift) > LABEL_POINTS else None,
        )  # fmt: skip
    return _png(figure)


def apart(boxes: Sequence[tuple[float, float, float]], *, height: float) -> list[float]:
    """Lifts of labels so that none covers another.

    Args:
        boxes: for each label its left end, the middle of its height, and its width, in one unit.
        height: of a label, in that unit.

    Returns:
        One lift for each, in that unit; the first labels stay in place.

    >>> apart([(0, 0, 10), (5, 1, 10), (40, 0, 10)], height=4.0)
    [0.0, 4.0, 0.0]
    """
    placed: list[tuple[float, float, float]] = []
    lifts = []
    for left, middle, width in boxes:
        step = 0
        while True:
            # 0, up, down, further up, further down, ...
            lift = height * ((step + 1) // 2) * (1 if step % 2 else -1) if step else 0.0
            clear = all(
                abs(middle + lift - other) >= height or left >= begin + wide or begin >= left + width
                for begin, other, wide in placed
            )
            if clear:
                break
            step += 1
        placed.append((left, middle + lift, width))
        lifts.append(lift)
    return lifts


def case_scatter(reference: str, scores: Mapping[str, Sequence[tuple[float, float]]], *, metric: str = "psnr") -> bytes:
    """Case by case: a method's score across, the reference method's upwards, one panel for each method.

    Points above the line are cases in which the reference method is better.

    Args:
        reference: the method on the vertical axes.
        scores: method -> (its score, the reference method's) by case; infinite ones are left out.
        metric: "psnr" or "ssim".

    Returns:
        PNG.

    Raises:
        UsageError: no methods, or one without a case.
    """
    finite = {
        method: [pair for pair in pairs if all(math.isfinite(value) for value in pair)]
        for method, pairs in scores.items()
    }
    _some(finite)
    columns = min(4, len(finite))
    rows = math.ceil(len(finite) / columns)
    figure, axes = new_figure(columns, 2.7, 2.75, rows=rows)
    values = [value for pairs in finite.values() for pair in pairs for value in pair]
    margin = 0.06 * (max(values) - min(values)) or 0.5
    low, high = min(values) - margin, max(values) + margin
    for axis, (method, pairs) in zip(axes, finite.items(), strict=False):
        axis.plot((low, high), (low, high), color=_DIM, linewidth=0.8)
        theirs, ours = zip(*pairs, strict=True)
        axis.scatter(theirs, ours, s=14, color=COLOURS[0], alpha=0.75, linewidths=0)
        better = sum(upper > lower for lower, upper in pairs)
        axis.set_title(f"{reference} better in {better} of {len(pairs)}", fontsize=7.5, color=_DIM, parse_math=False)
        axis.set_xlim(low, high)
        axis.set_ylim(low, high)
        axis.set_aspect("equal")
        axis.set_xlabel(f"{method}, {METRICS[metric]}", fontsize=7.5, parse_math=False)
        axis.set_ylabel(f"{reference}, {METRICS[metric]}", fontsize=7.5, parse_math=False)
    for axis in axes[len(finite) :]:
        axis.set_visible(False)
    _foot(figure, "One point per case.")
    return _png(figure)


def _draw_bars(axis: Axes, at: Any, row: Sequence[Bar], colour: str, *, width: float, label: str = "") -> None:
    axis.bar(at, [bar.mean for bar in row], width, color=colour, label=label or None, zorder=2)
    for x, bar in zip(at, row, strict=True):
        if bar.sd is not None:
            axis.errorbar([x], [bar.mean], yerr=[bar.sd], color=_INK, linewidth=0.9, capsize=2.5, zorder=3)
        top = bar.mean + (bar.sd or 0.0)
        axis.annotate(
            bar.star, (x, top), xytext=(0, 1), textcoords="offset points", ha="center", fontsize=11, color=_INK
        )


def _scale(axis: Axes, metric: str, row: Sequence[Bar]) -> None:
    """Axis of bars: from a little below the lowest whisker to a little above the highest."""
    lows = [bar.mean - (bar.sd or 0.0) for bar in row]
    highs = [bar.mean + (bar.sd or 0.0) for bar in row]
    extent = (max(highs) - min(lows)) or 0.02 * abs(max(highs)) or 1.0
    axis.set_ylim(min(lows) - 0.25 * extent, max(highs) + 0.2 * extent)
    axis.set_ylabel(METRICS.get(metric, metric), fontsize=8)
    axis.grid(axis="y", color=_LINE, linewidth=0.7, zorder=0)


def new_figure(columns: int, width_in: float, height_in: float, *, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of panels in the look that all plots share.

    Args:
        columns, rows: panels.
        width_in, height_in: of one panel, inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(columns * width_in, rows * height_in + 0.35), dpi=_DPI, facecolor="white", layout="constrained"
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.tick_params(labelsize=7, colors=_INK)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return figure, axes


def finished(figure: Figure, note: str) -> bytes:
    """The figure as PNG with a note and the notice below it."""
    _foot(figure, note)
    return _png(figure)


def _foot(figure: Figure, text: str) -> None:
    figure.supxlabel(f"{text.strip()}\n{NOTICE}", fontsize=6.5, color=_DIM, x=0.01, ha="left", parse_math=False)


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": "thinslice"})
    return buffer.getvalue()


def _some(panels: Mapping[str, Sequence[Any]]) -> None:
    if not panels or not all(panels.values()):
        raise UsageError("A plot needs at least one method with a finished case.")
