"""Reliability diagram: coverage against nominal level, and errors against estimated standard deviations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from thinslice.errors import UsageError
from thinslice.pictures.plots import COLOURS, finished, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOLERANCE_POINTS = 5.0
"""Distance from the nominal level, in percentage points, that counts as calibrated; drawn as a band."""

_INK, _DIM = "#1b1d21", "#9aa0a6"

Coverage = Mapping[int, float]
"""Nominal level in percent -> coverage in percent."""


def reliability(
    panels: Mapping[str, Mapping[str, Coverage]], expected: Sequence[tuple[float, float]], *, note: str = ""
) -> bytes:
    """A panel for each way to group voxels, and one of errors against standard deviations.

    Args:
        panels: title -> group -> coverage by level; the first group of each is drawn black, for all voxels.
        expected: pairs (mean estimated standard deviation, root mean square error), HU, of groups of voxels.
        note: below the figure.

    Returns:
        PNG.

    Raises:
        UsageError: nothing to draw.

    >>> reliability({"tissue": {"lung": {50: 48.0, 90: 91.0}}}, [(10.0, 11.0)])[1:4]
    b'PNG'
    """
    if not panels or not all(panels.values()):
        raise UsageError("There is no coverage to draw.")
    figure, axes = new_figure(len(panels) + 1, 3.5, 3.6)
    for axis, (title, groups) in zip(axes, panels.items(), strict=False):
        _draw_coverage(axis, title, groups)
    _draw_expected(axes[-1], expected)
    return finished(figure, f"The band is {TOLERANCE_POINTS:g} points to either side of the nominal level.\n{note}")


def _draw_coverage(axis: Axes, title: str, groups: Mapping[str, Coverage]) -> None:
    axis.fill_between(
        (0, 100), (-TOLERANCE_POINTS, 100 - TOLERANCE_POINTS), (TOLERANCE_POINTS, 100 + TOLERANCE_POINTS),
        color="#2e7d32", alpha=0.12, linewidth=0,
    )  # fmt: skip
    axis.plot((0, 100), (0, 100), color=_DIM, linewidth=0.7)
    for number, (name, coverage) in enumerate(groups.items()):
        levels = sorted(coverage)
        # The first stands for all voxels.
        colour = COLOURS[(number - 1) % len(COLOURS)] if number else _INK
        axis.plot(levels, [coverage[level] for level in levels], marker="o", markersize=3.5, linewidth=1.1,
                  color=colour, label=name)  # fmt: skip
    lowest = min(min(coverage) for coverage in groups.values())
    axis.set_xlim(lowest - 8, 100)
    axis.set_ylim(min(lowest - 8, *(min(c.values()) - 3 for c in groups.values())), 100)
    axis.set_title(title, fontsize=9, color=_INK, parse_math=False)
    axis.set_xlabel("nominal level (%)", fontsize=8)
    axis.set_ylabel("intervals that hold the truth (%)", fontsize=8)
    axis.legend(fontsize=7, frameon=False, loc="lower right")


def _draw_expected(axis: Axes, expected: Sequence[tuple[float, float]]) -> None:
    values = [value for pair in expected for value in pair if value > 0] or [1.0]
    ends = (0.8 * min(values), 1.25 * max(values))
    axis.plot(ends, ends, color=_DIM, linewidth=0.7)
    axis.plot([sd for sd, _ in expected], [found for _, found in expected], marker="o", markersize=3.5,
              linewidth=1.1, color=COLOURS[0])  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter("{x:g}")
    axis.set_title("by estimated standard deviation", fontsize=9, color=_INK)
    axis.set_xlabel("mean standard deviation (HU)", fontsize=8)
    axis.set_ylabel("root mean square error (HU)", fontsize=8)
