"""Figures of the clinical check: bias, edges, nodules, noise. Every method keeps its colour through all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinslice.pictures.plots import COLOURS, finished, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRUTH, _THICK = "#1b1d21", "#9aa0a6"


@dataclass(frozen=True)
class Curve:
    """A line of a method.

    Attributes:
        at: positions along the horizontal axis.
        values: along the vertical axis.
        sd: of each value; empty for none.
    """

    at: Sequence[float]
    values: Sequence[float]
    sd: Sequence[float] = ()


def colours_of(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method; truth is black and the thick slices grey.

    >>> colours_of(["truth", "cubic"])["truth"]
    '#1b1d21'
    """
    others = [name for name in methods if name not in ("truth", "thick")]
    named = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(others)}
    return {"truth": _TRUTH, "thick": _THICK, **named}


def bias_figure(panels: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]], limit: float) -> bytes:
    """Bias with its interval by tissue, a panel for each case; the rule as a band.

    Args:
        panels: case -> method -> tissue -> (bias, low, high) in HU.
        limit: of the rule, HU.

    Returns:
        PNG.
    """
    figure, axes = new_figure(len(panels), 6.4 if len(panels) == 1 else 5.2, 3.6)
    for axis, (case, methods) in zip(axes, panels.items(), strict=True):
        colours = colours_of(list(methods))
        tissues = list(dict.fromkeys(name for found in methods.values() for name in found))
        axis.axhspan(-limit, limit, color="#2e7d32", alpha=0.12, linewidth=0)
        axis.axhline(0.0, color=_THICK, linewidth=0.7)
        for number, (method, found) in enumerate(methods.items()):
            at = [tissues.index(name) + 0.16 * (number - (len(methods) - 1) / 2) for name in found]
            values = np.array(list(found.values()))
            reach = np.abs(values[:, 1:] - values[:, :1]).T
            axis.errorbar(at, values[:, 0], yerr=reach, fmt="o", markersize=3.5, linewidth=1.0, capsize=2,
                          color=colours[method], label=method)  # fmt: skip
        axis.set_xticks(range(len(tissues)), tissues)
        # Large biases must not hide small ones.
        axis.set_yscale("symlog", linthresh=2.0 * limit)
        axis.yaxis.set_major_formatter("{x:g}")
        _dress(axis, case, "", "bias (HU)")
    return finished(figure, "Mean error by tissue class of the thick slice, 95 % interval; band: the rule.")


def curves_figure(
    panels: Mapping[str, Mapping[str, Curve]], *, across: str, upwards: str, note: str, log: bool = False
) -> bytes:
    """Lines of methods, a panel each: spreads of edges, measures of nodules by diameter, power of noise.

    Args:
        panels: title -> method -> line.
        across, upwards: labels of the horizontal and the vertical axis.
        note: below the picture.
        log: whether the vertical axis is logarithmic.

    Returns:
        PNG.

    >>> curves_figure({"a": {"cubic": Curve([0, 1], [2, 3])}}, across="mm", upwards="HU", note="")[1:4]
    b'PNG'
    """
    columns = min(3, len(panels))
    figure, axes = new_figure(columns, 6.4 if columns == 1 else 3.9, 3.2, rows=-(-len(panels) // columns))
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        colours = colours_of(list(lines))
        for number, (method, line) in enumerate(lines.items()):
            known = method in ("truth", "thick")
            style: dict[str, Any] = {"color": colours[method], "linewidth": 1.6 if method == "truth" else 1.1,
                                     "linestyle": "--" if known else "-", "label": method}  # fmt: skip
            if line.sd:
                # Whiskers of one diameter stand side by side.
                shift = 0.07 * (number - (len(lines) - 1) / 2)
                axis.errorbar(np.asarray(line.at) + shift, line.values, yerr=line.sd, capsize=1.5, marker="o",
                              markersize=2.5, elinewidth=0.7, **style)  # fmt: skip
            else:
                axis.plot(line.at, line.values, **style)
        if log:
            axis.set_yscale("log")
        _dress(axis, title, across, upwards)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return finished(figure, note)


def _dress(axis: Axes, title: str, across: str, upwards: str) -> None:
    axis.set_title(title, fontsize=8, parse_math=False)
    axis.set_xlabel(across, fontsize=8, parse_math=False)
    axis.set_ylabel(upwards, fontsize=8, parse_math=False)
    axis.grid(axis="y", color="#dfe2e6", linewidth=0.6)
    axis.legend(fontsize=6.5, frameon=False)
