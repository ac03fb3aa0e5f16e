"""The viewer in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from thinslice.arguments import check_whole
from thinslice.errors import UsageError
from thinslice.geometry import Geometry
from thinslice.pictures.viewer import widget
from thinslice.volume import Volume, check_volume

Scan = Volume | str | Path | Sequence[str | Path]
"""A volume, or the path that `thinslice.read` reads it from."""

HEIGHTS_PX = (200, 4000)
"""Smallest and largest height of the viewer in a notebook."""

POSITION_TOLERANCE_MM = 1e-3
"""Distance between corners of two grids up to which they are one."""


class Picture:
    """A picture that a notebook displays where it is a cell's last value.

    Args:
        png: its bytes.
    """

    def __init__(self, png: bytes) -> None:
        self.png = png

    def _repr_png_(self) -> bytes:
        return self.png


def show(thick: Scan, thin: Scan, uncertainty: Scan | None = None, *, height_px: int = 640) -> Any:
    """Thick and thin slices side by side in a notebook: the viewer of `thinslice upscale --view`.

    With the extra `notebook` (anywidget) the result is a widget: three planes, swipe, blink, differences, slabs,
    distances; the key ? lists all keys. Without it, it is the picture of `thinslice.preview`.

    Args:
        thick: the thick volume, or its path.
        thin: a thin volume made from it, or its path.
        uncertainty: standard deviations of the thin volume's errors in HU, on its grid, or their path.
        height_px: height in the notebook, 200 to 4000.

    Returns:
        What a notebook displays where it is a cell's last value; elsewhere use `IPython.display.display`.

    Raises:
        ArgumentTypeError: an argument of another type; the message describes what is taken.
        UsageError: a height out of range, or grids that do not belong together; pass the thin volume of these thick
            slices.
        ThinsliceError: as `thinslice.read` for a path.
    """
    height = check_whole("height_px", height_px)
    if not HEIGHTS_PX[0] <= height <= HEIGHTS_PX[1]:
        raise UsageError(f"The argument height_px takes {HEIGHTS_PX[0]} to {HEIGHTS_PX[1]}, not {height}.")
    before, after = _volume("thick", thick), _volume("thin", thin)
    deviation = None if uncertainty is None else _volume("uncertainty", uncertainty)
    _check_ends(before.geometry, after.geometry)
    if deviation is not None and not _same_place(deviation.geometry, after.geometry):
        raise UsageError(
            f"The uncertainty {deviation.geometry.shape} does not lie on the grid of the thin volume "
            f"{after.geometry.shape}; pass both results of upscale_with_uncertainty."
        )
    if not widget.is_installed():
        from thinslice.pictures.figures import preview

        return Picture(preview(before, after))
    from thinslice.pictures.viewer.page import ViewerPage

    page = ViewerPage(before, after.geometry, deviation=deviation is not None)
    page.add(0, after.hu, None if deviation is None else deviation.hu)
    return widget.viewer_widget(page, height_px=height)


def _volume(name: str, scan: Scan) -> Volume:
    is_path = isinstance(scan, str | PathLike) or (
        isinstance(scan, Sequence) and len(scan) > 0 and all(isinstance(each, str | PathLike) for each in scan)
    )
    if not is_path:
        return check_volume(name, scan, "a thinslice.Volume or a path")
    from thinslice.io.files import read

    return read(scan)  # type: ignore[arg-type]  # a path, as checked above


def _check_ends(thick: Geometry, thin: Geometry) -> None:
    """Refuse a thin grid that does not start at the thick one, has other planes, or ends outside it.

    Raises:
        UsageError: naming both grids.
    """
    first = thin.position_mm((0, 0, 0)), thick.position_mm((0, 0, 0))
    starts = max(abs(a - b) for a, b in zip(*first, strict=True)) <= POSITION_TOLERANCE_MM
    alike = all(
        abs(a - b) <= POSITION_TOLERANCE_MM
        for rows in zip(thin.direction, thick.direction, strict=True)
        for a, b in zip(*rows, strict=True)
    )
    longest = (thick.shape[0] - 1) * thick.spacing_mm[0] + POSITION_TOLERANCE_MM
    inside = (thin.shape[0] - 1) * thin.spacing_mm[0] <= longest
    if thin.shape[1:] != thick.shape[1:] or not (starts and alike and inside):
        raise UsageError(
            f"The thin volume {thin.shape} does not lie on a thin grid of the thick one {thick.shape}; pass the thin "
            "volume that was made from these thick slices."
        )


def _same_place(one: Geometry, other: Geometry) -> bool:
    depth, height, width = one.shape
    corners = ((0, 0, 0), (depth - 1, height - 1, width - 1))
    return one.shape == other.shape and all(
        abs(a - b) <= POSITION_TOLERANCE_MM
        for corner in corners
        for a, b in zip(one.position_mm(corner), other.position_mm(corner), strict=True)
    )
