"""Rows of pictures in CT windows, with sides, scale bar and colours: laid out and drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinslice.about import NOTICE
from thinslice.geometry import Geometry
from thinslice.pictures.planes import SIDES, ViewPlane, steps_mm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOWS_HU = {"lung": (-600.0, 1500.0), "soft tissue": (40.0, 400.0), "bone": (300.0, 1200.0)}
"""Display windows: (centre, width) in HU."""

ERROR_MAX_HU = 200.0
"""Absolute error at full brightness of error maps."""

DEVIATION_MAX_HU = 100.0
"""Standard deviation at full brightness of its maps."""

Pictures = list[tuple[npt.NDArray[Any] | None, str]]
PictureRow = tuple[str, ViewPlane, Pictures]

_FROM_ZERO_HU, _COLOURS = {"error": ERROR_MAX_HU, "deviation": DEVIATION_MAX_HU}, "magma"
_BACKGROUND, _INK, _DIM = "#0d0f12", "#e8eaed", "#9aa0a6"
_PANEL_IN, _GAP_IN, _GROUP_GAP_IN, _LEFT_IN, _LABEL_IN, _DPI = 2.9, 0.05, 0.2, 1.8, 0.5, 140


def save_png(png: bytes, path: Path, *, overwrite: bool = False) -> None:
    """Write a picture atomically.

    Raises:
        OutputExistsError: the file exists and `overwrite` is false.
    """
    from thinslice.system.atomic import atomic_file

    with atomic_file(Path(path), overwrite=overwrite) as unfinished:
        unfinished.write_bytes(png)


def draw_rows(rows: Sequence[PictureRow], columns: Sequence[tuple[str, str]], grid: Geometry, caption: str) -> Figure:
    """Rows of pictures at one physical scale, headings above, labels at the left, caption and notice below.

    Each column has a group and a title; columns of one group stand close together under its name.
    """
    from matplotlib.figure import Figure

    steps = steps_mm(grid)
    sizes = []
    for _, plane, pictures in rows:
        height, width = next(picture for picture, _ in pictures if picture is not None).shape
        sizes.append((height * steps[plane.rows], width * steps[plane.columns]))
    inch = _PANEL_IN / max(width for _, width in sizes)
    heights = [max(height * inch, _LABEL_IN) for height, _ in sizes]
    lefts = _column_positions([group for group, _ in columns])
    top, bottom = (0.62 if any(group for group, _ in columns) else 0.36), 0.5
    total = (lefts[-1] + _PANEL_IN + _GAP_IN, top + sum(heights) + _GAP_IN * len(rows) + bottom)
    figure = Figure(figsize=total, dpi=_DPI, facecolor=_BACKGROUND)
    y = total[1] - top
    group_starts = {lefts[i] for i, (group, _) in enumerate(columns) if i == 0 or group != columns[i - 1][0]}
    for number, (row, height, (tall_mm, wide_mm)) in enumerate(zip(rows, heights, sizes, strict=True)):
        label, plane, pictures = row
        y -= height
        _text(figure, 0.08, y + height / 2, label, total, size=10, ha="left", va="center", linespacing=1.5)
        for left, (picture, window) in zip(lefts, pictures, strict=True):
            if picture is None:
                continue
            x, above = left + (_PANEL_IN - wide_mm * inch) / 2, y + (height - tall_mm * inch) / 2
            box = (x / total[0], above / total[1], wide_mm * inch / total[0], tall_mm * inch / total[1])
            axes = figure.add_axes(box)
            _show(axes, picture, window, (wide_mm, tall_mm))
            if left in group_starts:
                _name_sides(axes, plane, wide_mm, tall_mm)
            # All pictures have one scale, so one bar is enough; without a known spacing there is none.
            if number == 0 and left == lefts[0] and None not in grid.spacing_mm:
                _scale_bar(axes, wide_mm, tall_mm)
        y -= _GAP_IN
    for left, (group, title) in zip(lefts, columns, strict=True):
        middle = left + _PANEL_IN / 2
        _text(figure, middle, total[1] - top + 0.07, title, total, size=10, ha="center", va="bottom", color=_DIM)
        members = [x for x, (other, _) in zip(lefts, columns, strict=True) if other == group]
        if group and left == members[0]:
            middle = (members[0] + members[-1] + _PANEL_IN) / 2
            _text(figure, middle, total[1] - 0.32, group, total, size=12, ha="center", va="bottom")
    for left, (_, window) in zip(lefts, rows[0][2], strict=True):
        if window == "deviation":
            _colour_scale(figure, left, bottom - 0.12, total, DEVIATION_MAX_HU)
    _text(figure, lefts[0], bottom - 0.18, caption, total, size=9.5, ha="left", va="center")
    _text(figure, lefts[0], 0.14, NOTICE, total, size=8.5, ha="left", va="center", color=_DIM)
    return figure


def _column_positions(groups: Sequence[str]) -> list[float]:
    """Left edges of the columns in inches: a wider gap before each new group."""
    x, positions = _LEFT_IN, []
    for i, group in enumerate(groups):
        if i:
            x += _PANEL_IN + (_GAP_IN if group == groups[i - 1] else _GROUP_GAP_IN)
        positions.append(x)
    return positions


def _show(axes: Axes, picture: npt.NDArray[Any], window: str, size_mm: tuple[float, float]) -> None:
    if window in _FROM_ZERO_HU:
        low, high, colours = 0.0, _FROM_ZERO_HU[window], _COLOURS
    else:
        centre, width = WINDOWS_HU[window]
        low, high, colours = centre - width / 2, centre + width / 2, "gray"
    # A picture that is shrunk is averaged over display pixels; rows of thick slices are repeated already.
    axes.imshow(
        picture, cmap=colours, vmin=low, vmax=high, extent=(0, size_mm[0], size_mm[1], 0),
        aspect="auto", interpolation="antialiased",
    )  # fmt: skip
    axes.set_axis_off()


def _colour_scale(figure: Figure, left: float, top: float, total: tuple[float, float], most_hu: float) -> None:
    """Draw the colour scale of maps that begin at zero, as wide as a panel, with its HU below; inches."""
    tall = 0.1
    axes = figure.add_axes((left / total[0], (top - tall) / total[1], _PANEL_IN / total[0], tall / total[1]))
    axes.imshow(np.linspace(0.0, 1.0, 256)[None], cmap=_COLOURS, vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_axis_off()
    for share, align in ((0.0, "left"), (0.5, "center"), (1.0, "right")):
        text = f"{share * most_hu:.0f} HU" + (" and more" if share == 1.0 else "")
        _text(figure, left + share * _PANEL_IN, top - tall - 0.04, text, total, size=7, ha=align, va="top", color=_DIM)


def _name_sides(axes: Axes, plane: ViewPlane, wide_mm: float, tall_mm: float) -> None:
    """Write the sides of the patient at the edges of a picture."""
    from matplotlib.patheffects import withStroke

    left, right, top, bottom = SIDES[plane.name]
    edge = [withStroke(linewidth=2.0, foreground="black")]
    style: dict[str, Any] = {"color": _INK, "fontsize": 10, "path_effects": edge, "ha": "center", "va": "center"}
    margin = 0.035 * wide_mm
    axes.text(margin, tall_mm / 2, left, **style)
    axes.text(wide_mm - margin, tall_mm / 2, right, **style)
    axes.text(wide_mm / 2, margin, top, **style)
    axes.text(wide_mm / 2, tall_mm - margin, bottom, **style)


def _scale_bar(axes: Axes, wide_mm: float, tall_mm: float) -> None:
    """Draw a bar of a round length, at most a third of the picture, in its lower left corner."""
    from matplotlib.patheffects import withStroke

    length = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= wide_mm / 3), default=None)
    if length is None:
        return
    x, y = 0.03 * wide_mm, tall_mm - 0.03 * wide_mm
    edge = [withStroke(linewidth=2.5, foreground="black")]
    axes.plot((x, x + length), (y, y), color=_INK, linewidth=1.6, solid_capstyle="butt", path_effects=edge)
    label = f"{length} mm"
    above = y - 0.02 * wide_mm
    axes.text(x + length / 2, above, label, color=_INK, fontsize=9, ha="center", va="bottom", path_effects=edge)
    axes.set_xlim(0, wide_mm)
    axes.set_ylim(tall_mm, 0)


def _text(figure: Figure, x: float, y: float, text: str, total: tuple[float, float], **style: Any) -> None:
    # parse_math=False: a dollar sign in a model's name is no formula.
    style.setdefault("color", _INK)
    figure.text(x / total[0], y / total[1], text, parse_math=False, **style)


def as_png(figure: Figure) -> bytes:
    """A figure as PNG; the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", facecolor=_BACKGROUND, metadata={"Software": "thinslice"})
    return buffer.getvalue()


def window_label(name: str) -> str:
    """A display window with its centre and width.

    >>> window_label("lung")
    'lung  -600 / 1500'
    """
    centre, width = WINDOWS_HU[name]
    return f"{name}  {centre:.0f} / {width:.0f}"


def level_and_width(window: str) -> str:
    """The caption of pictures in a window."""
    centre, width = WINDOWS_HU[window]
    return f"Thick, interpolated and thin slices in the {window} window (level {centre:g} HU, width {width:g} HU)"
