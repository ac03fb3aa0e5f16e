"""One region of a case by every method: three views, display windows, maps of the error. The paper's Fig. 4.

Methods run one after the other, and only three planes of each volume are kept in memory (`cuts_of`); the picture is
drawn from these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import UsageError
from thinslice.geometry import Geometry, nearest_thick
from thinslice.pictures.drawing import ERROR_MAX_HU, WINDOWS_HU, as_png, draw_rows, window_label
from thinslice.pictures.planes import find_body, planes_of
from thinslice.volume import Volume

Cuts = dict[str, npt.NDArray[Any]]
"""View ("axial", "coronal", "sagittal") -> HU of the plane, its array axes in ascending order."""

ROWS = (("axial", "lung"), ("coronal", "soft tissue"), ("sagittal", "bone"))
"""Default pairs of view and display window."""

TRUTH, THICK = "truth", "thick"
"""Titles of the columns around the methods."""


@dataclass(frozen=True)
class FigureRegion:
    """A box of thin voxels and the three planes shown of it.

    Attributes:
        start, stop: (depth, height, width), half-open.
        cut: thin depth, height and width of the planes.

    >>> region = FigureRegion((0, 10, 10), (21, 30, 40), (12, 20, 25))
    >>> region.of(np.zeros((21, 64, 64)), 0).shape, region.of(np.zeros((21, 64, 64)), 2).shape
    ((20, 30), (21, 20))
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    cut: tuple[int, int, int]

    def of(self, hu: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        """The plane across an array axis, cropped to the box; a view."""
        index = tuple(self.cut[i] if i == axis else slice(self.start[i], self.stop[i]) for i in range(3))
        return hu[index]


def choose_region(
    thin: Volume,
    factor: int,
    *,
    depth: tuple[int, int] | None = None,
    height: tuple[int, int] | None = None,
    width: tuple[int, int] | None = None,
) -> FigureRegion:
    """The region to show.

    Planes go through its middle; the axial one is moved to midway between two thick slices, where every value is
    synthesised.

    Args:
        thin: the truth, its slice factor * k on thick slice k.
        factor: thin slices per thick interval.
        depth, height, width: ranges of thin voxels, half-open; None for all slices, and in plane for the body's box.

    Raises:
        UsageError: a range that lies outside the volume.

    >>> thin = Volume(np.zeros((21, 32, 32), np.int16), Geometry((21, 32, 32), (1.0, 0.7, 0.7)))
    >>> choose_region(thin, 5, height=(4, 12)).cut
    (12, 8, 16)
    """
    body = find_body(thin.hu, thin.geometry)
    shape = thin.geometry.shape
    box = [
        depth or (0, shape[0]),
        height or (body.start[0], body.stop[0]),
        width or (body.start[1], body.stop[1]),
    ]
    for name, (low, high), extent in zip(("depth", "height", "width"), box, shape, strict=True):
        if not 0 <= low < high <= extent:
            raise UsageError(
                f"The region's {name} [{low}, {high}) does not lie in {extent} thin voxels; change it in the suite."
            )
    middle = [(low + high) // 2 for low, high in box]
    between = middle[0] // factor * factor + factor // 2
    cut = between if between < box[0][1] else middle[0]
    starts, stops = zip(*box, strict=True)
    return FigureRegion(starts, stops, (max(cut, box[0][0]), middle[1], middle[2]))


def cuts_of(hu: npt.NDArray[Any], grid: Geometry, region: FigureRegion) -> Cuts:
    """The three planes of a thin volume, by view; copies.

    Args:
        hu: (depth, height, width) HU on the thin grid.
        grid: the thin grid.
        region: box and planes.
    """
    return {view: region.of(hu, plane.normal).copy() for view, plane in planes_of(grid).items()}


def thick_cuts_of(thick: npt.NDArray[Any], factor: int, grid: Geometry, region: FigureRegion) -> Cuts:
    """The same planes of the thick slices, each repeated over the thin slices nearest to it (`nearest_thick`).

    Args:
        thick: (D, height, width) HU; slice k on thin slice factor * k.
        factor: thin slices per thick interval.
        grid: the thin grid.
        region: box and planes.
    """
    nearest = [min(nearest_thick(index, factor), thick.shape[0] - 1) for index in range(grid.shape[0])]
    found: Cuts = {}
    for view, plane in planes_of(grid).items():
        if plane.normal == 0:
            found[view] = thick[nearest[region.cut[0]]][
                region.start[1] : region.stop[1], region.start[2] : region.stop[2]
            ]
        else:
            inside = FigureRegion((0, *region.start[1:]), (thick.shape[0], *region.stop[1:]), (0, *region.cut[1:]))
            found[view] = inside.of(thick, plane.normal)[nearest[region.start[0] : region.stop[0]]]
    return {view: cut.copy() for view, cut in found.items()}


def region_figure(
    columns: Mapping[str, Cuts],
    truth: Cuts,
    grid: Geometry,
    *,
    rows: Sequence[tuple[str, str]] = ROWS,
    caption: str = "",
) -> bytes:
    """Draw one region for every method, each view with a map of the absolute error below it (Fig. 4).

    Args:
        columns: title -> planes, in order: thick slices, methods.
        truth: planes of the thin truth, drawn last.
        grid: the thin grid that all planes are cut from.
        rows: pairs of view and display window (`thinslice.pictures.figures.WINDOWS_HU`).
        caption: for the footer; nothing that identifies a patient.

    Returns:
        PNG.

    Raises:
        UsageError: no columns, an unknown view or window, or planes of another region.
    """
    if not columns:
        raise UsageError("A comparison needs at least one method.")
    planes = planes_of(grid)
    drawn = []
    for view, window in rows:
        if view not in planes or window not in WINDOWS_HU:
            raise UsageError(f"There is no row ({view}, {window}) in a comparison.")
        plane = planes[view]
        shown: list[tuple[npt.NDArray[Any] | None, str]] = []
        errors: list[tuple[npt.NDArray[Any] | None, str]] = []
        for title, cuts in (*columns.items(), (TRUTH, truth)):
            if cuts[view].shape != truth[view].shape:
                raise UsageError(f"{title} shows another region than the truth; run the suite again.")
            shown.append((plane.show(cuts[view].astype(np.float32)), window))
            error = np.abs(cuts[view].astype(np.float32) - truth[view].astype(np.float32))
            errors.append((None if title == TRUTH else plane.show(error), "error"))
        drawn.append((f"{view}\n{window_label(window)}", plane, shown))
        drawn.append((f"absolute error,\n0 to {ERROR_MAX_HU:.0f} HU", plane, errors))
    if None in grid.spacing_mm:
        caption = " · ".join(part for part in (caption, "in-plane spacing unknown, shown as 1 mm") if part)
    return as_png(draw_rows(drawn, [("", title) for title in (*columns, TRUTH)], grid, caption))
