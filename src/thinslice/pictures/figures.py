"""Pictures: the preview of a run (thick beside thin) and the comparison of methods.

matplotlib is loaded when a picture is drawn and used through its object interface only: no global state, no display.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.arguments import check_bool, check_path
from thinslice.errors import UsageError
from thinslice.geometry import Geometry, nearest_thick
from thinslice.pictures.drawing import (
    ERROR_MAX_HU,
    WINDOWS_HU,
    PictureRow,
    Pictures,
    as_png,
    draw_rows,
    level_and_width,
    save_png,
    window_label,
)
from thinslice.pictures.planes import Body, ViewPlane, find_body, planes_of
from thinslice.volume import Volume, check_volume, reorient

COMPARISON_ROWS = (("axial", "lung"), ("coronal", "lung"), ("coronal", "soft tissue"), ("coronal", "error"))
"""Default rows of `comparison`: a plane, and a window of `WINDOWS_HU` or "error"."""

RATIO_TOLERANCE = 1e-4
"""Thin slices per thick interval: rounding errors of spacings in files."""


class Preview:
    """Preview of a run: thick, interpolated and thin in three planes and three windows, collected slab by slab.

    Only the planes to be shown are kept. The axial plane lies midway between two thick slices, where every value is
    synthesised; the coronal and the sagittal plane go through the middle of the body. Thick slices are repeated over
    the thin slices nearest to them, as the baseline `nearest` does; beside them stands their linear interpolation.

    Args:
        thick: the source.
        thin_geometry: grid of the thin volume, `thick.geometry.thin_grid(factor)`.
        caption: model and settings, for the footer; nothing that identifies a patient belongs in it.
        deviation: whether a map of the thin volume's standard deviations is added.

    Raises:
        UsageError: the thin grid is not a thin grid of `thick`.

    >>> thick = Volume(np.zeros((3, 8, 8), np.int16), Geometry((3, 8, 8), (5.0, 1.0, 1.0)))
    >>> preview = Preview(thick, thick.geometry.thin_grid(5), caption="linear, factor 5")
    >>> preview.add(0, np.zeros((11, 8, 8), np.int16))
    >>> preview.png_bytes()[1:4]
    b'PNG'
    """

    def __init__(self, thick: Volume, thin_geometry: Geometry, *, caption: str = "", deviation: bool = False) -> None:
        self._factor = _factor(thick.geometry, thin_geometry)
        self._thick, self._thin, self._caption = thick.geometry, thin_geometry, caption
        self._body = find_body(thick.hu, thick.geometry)
        self._cut = _cuts(thick.geometry.shape[0], self._factor, self._body)
        nearest = np.array([nearest_thick(index, self._factor) for index in range(thin_geometry.shape[0])])
        self._before = {axis: _take(thick.hu, axis, self._cut[axis], nearest) for axis in range(3)}
        self._between = {
            axis: _interpolated(thick.hu, axis, self._cut[axis], thin_geometry.shape[0], self._factor)
            for axis in range(3)
        }
        self._after = {axis: np.zeros(cut.shape, np.float32) for axis, cut in self._before.items()}
        self._deviation = {axis: np.zeros_like(cut) for axis, cut in self._after.items()} if deviation else None
        self._seen = np.zeros(thin_geometry.shape[0], dtype=bool)

    def add(self, start: int, hu: npt.NDArray[Any], deviation_hu: npt.NDArray[Any] | None = None) -> None:
        """Add a finished slab of thin slices.

        Args:
            start: thin index of its first slice.
            hu: (slices, height, width) HU.
            deviation_hu: its standard deviations, of the same shape, where a map of them is drawn.

        Raises:
            UsageError: it does not fit the thin grid, or lacks the standard deviations that are drawn.
        """
        stop = start + hu.shape[0]
        if hu.ndim != 3 or hu.shape[1:] != self._thin.shape[1:] or start < 0 or stop > self._thin.shape[0]:
            raise UsageError(f"A slab {hu.shape} at slice {start} does not fit the thin grid {self._thin.shape}.")
        sides = [(self._after, hu)]
        if self._deviation is not None:
            if deviation_hu is None or deviation_hu.shape != hu.shape:
                raise UsageError(f"The slab at slice {start} lacks the standard deviations that are drawn.")
            sides.append((self._deviation, deviation_hu))
        for kept, values in sides:
            if start <= self._cut[0] < stop:
                kept[0][:] = values[self._cut[0] - start]
            kept[1][start:stop] = values[:, self._cut[1]]
            kept[2][start:stop] = values[:, :, self._cut[2]]
        self._seen[start:stop] = True

    def png_bytes(self) -> bytes:
        """The picture as PNG: all windows side by side.

        Raises:
            UsageError: slices are missing; add them first.
        """
        return self._drawn(tuple(WINDOWS_HU), deviation=self._deviation is not None)

    def parts(self) -> list[tuple[str, bytes]]:
        """The picture as one PNG per window, each with its title, for pages on which the whole would be too small.

        Raises:
            UsageError: slices are missing; add them first.
        """
        parts = [(level_and_width(window), self._drawn((window,), deviation=False)) for window in WINDOWS_HU]
        if self._deviation is not None:
            parts.append(("Uncertainty of the thin slices (standard deviation)", self._drawn((), deviation=True)))
        return parts

    def _drawn(self, windows: Sequence[str], *, deviation: bool) -> bytes:
        if not self._seen.all():
            raise UsageError(f"The preview holds {int(self._seen.sum())} of {self._seen.size} thin slices.")
        thin_mm = f"{self._thin.spacing_mm[0]:.3g} mm"
        titles = (f"thick, {self._thick.spacing_mm[0]:.3g} mm", f"interpolated, {thin_mm}", f"thin, {thin_mm}")
        columns = [(f"{window_label(name)} HU", title) for name in windows for title in titles]
        if deviation:
            columns.append(("standard deviation", f"thin, {thin_mm}"))
        rows: list[PictureRow] = []
        for plane in planes_of(self._thin).values():
            where = _where(plane, self._cut, self._factor)
            cuts = (self._before, self._between, self._after)
            sides = [_crop(cut[plane.normal], plane.normal, self._body) for cut in cuts]
            pictures: Pictures = [(plane.show(side), window) for window in windows for side in sides]
            if deviation and self._deviation is not None:
                cut = _crop(self._deviation[plane.normal], plane.normal, self._body)
                pictures.append((plane.show(cut), "deviation"))
            rows.append((f"{plane.name}\n{where}", plane, pictures))
        caption = " · ".join(part for part in (self._caption, _unknown(self._thin)) if part)
        return as_png(draw_rows(rows, columns, self._thin, caption))

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the picture as PNG, atomically.

        Raises:
            UsageError: slices are missing; add them first.
            OutputExistsError: the file exists and `overwrite` is false.
        """
        save_png(self.png_bytes(), path, overwrite=overwrite)


def preview(thick: Volume, thin: Volume, path: str | Path | None = None, *, overwrite: bool = False) -> bytes:
    """A picture of a thick volume beside its thin one, in three planes and three windows, as PNG.

    Args:
        thick: the source.
        thin: a thin volume made from it.
        path: also write the picture there.
        overwrite: replace an existing file.

    Returns:
        The PNG; in a notebook, `IPython.display.Image(data)` shows it.

    Raises:
        ArgumentTypeError: an argument of another type, such as a path in place of a volume; read it first.
        UsageError: `thin` does not lie on a thin grid of `thick`, or the path does not end in .png.
        OutputExistsError: the file exists and `overwrite` is false.
        OutputError: it cannot be written there.
    """
    thick, thin = check_volume("thick", thick), check_volume("thin", thin)
    place = None if path is None else check_path("path", path)
    check_bool("overwrite", overwrite)
    if place is not None and place.suffix.lower() != ".png":
        raise UsageError(f"The picture is a PNG; end {str(place)!r} in .png.")
    derivation = thin.provenance.derivation
    made = (
        "" if derivation is None else f"{derivation.model} {derivation.model_version}, factor {derivation.factor:.4g}"
    )
    drawn = Preview(thick, thin.geometry, caption=made)
    drawn.add(0, thin.hu)
    png = drawn.png_bytes()
    if place is not None:
        save_png(png, place, overwrite=overwrite)
    return png


def comparison(
    panels: Mapping[str, Volume],
    reference: Volume | None = None,
    *,
    rows: Sequence[tuple[str, str]] = COMPARISON_ROWS,
    caption: str = "",
) -> bytes:
    """Methods side by side, with maps of their error where the truth is known.

    Voxels are taken from the nearest position, without interpolation. Planes are
    those of `Preview`: midway between two slices of the thickest panel, and through the middle of the body.

    Args:
        panels: title -> volume, for example thick, cubic, ours; on any parallel grids of one scan.
        reference: the thin truth, shown last; without it rows of errors are left out.
        rows: pairs of plane and window (or "error").
        caption: for the footer; nothing that identifies a patient belongs in it.

    Returns:
        PNG.

    Raises:
        UsageError: no panels, or a row that does not exist.
        GeometryError: axes of the volumes are not parallel.
    """
    if not panels:
        raise UsageError("A comparison needs at least one volume.")
    for plane_name, window in rows:
        if plane_name not in ("axial", "coronal", "sagittal") or window not in (*WINDOWS_HU, "error"):
            raise UsageError(f"There is no row ({plane_name}, {window}) in a comparison.")
    grid_of = reference or min(panels.values(), key=lambda v: v.geometry.spacing_mm[0])
    grid = grid_of.geometry
    shown = {title: reorient(volume, grid) for title, volume in panels.items()}
    thickest = max(shown.values(), key=lambda v: v.geometry.spacing_mm[0])
    body = find_body(grid_of.hu, grid)
    cut = (_between_slices(thickest.geometry, grid), *body.centre)
    if reference is not None:
        shown["truth"] = reference
    drawn: list[PictureRow] = []
    for plane_name, window in rows:
        plane = planes_of(grid)[plane_name]
        if window == "error" and reference is None:
            continue
        truth = None if reference is None else _sample(reference, grid, plane.normal, cut[plane.normal])
        pictures: Pictures = []
        for title, volume in shown.items():
            values = _sample(volume, grid, plane.normal, cut[plane.normal])
            if window == "error" and truth is not None:
                values = np.abs(values - truth)
            hidden = window == "error" and title == "truth"
            pictures.append((None if hidden else plane.show(_crop(values, plane.normal, body)), window))
        label = f"absolute error,\n0 to {ERROR_MAX_HU:.0f} HU" if window == "error" else window_label(window)
        drawn.append((f"{plane_name}\n{label}", plane, pictures))
    caption = " · ".join(part for part in (caption, _unknown(grid)) if part)
    return as_png(draw_rows(drawn, [("", title) for title in shown], grid, caption))


def _factor(thick: Geometry, thin: Geometry) -> float:
    ratio = thick.spacing_mm[0] / thin.spacing_mm[0]
    factor = round(ratio) if abs(ratio - round(ratio)) < RATIO_TOLERANCE else ratio
    slices = int((thick.shape[0] - 1) * factor + RATIO_TOLERANCE) + 1
    if factor < 1 or thin.shape != (slices, *thick.shape[1:]):
        raise UsageError(f"A grid {thin.shape} is no thin grid of {thick.shape} at factor {factor:.4g}.")
    return factor


def _cuts(thick_depth: int, factor: float, body: Body) -> tuple[int, int, int]:
    """Thin depth, height and width at which the volume is cut."""
    below = max(0, (thick_depth - 2) // 2)
    return (int(below * factor + factor / 2) if thick_depth > 1 else 0), *body.centre


def _between_slices(thickest: Geometry, grid: Geometry) -> int:
    """Depth index of `grid` nearest to midway between the two middle slices of `thickest`."""
    height, width = (thickest.shape[1] - 1) / 2, (thickest.shape[2] - 1) / 2
    middle = (thickest.shape[0] - 1) // 2 + (0.5 if thickest.shape[0] > 1 else 0.0)
    index = grid.index_at(thickest.position_mm((middle, height, width)))[0]
    return int(np.clip(np.floor(index), 0, grid.shape[0] - 1))


def _take(hu: npt.NDArray[Any], axis: int, thin_index: int, nearest: npt.NDArray[np.int_]) -> npt.NDArray[np.float32]:
    if axis == 0:
        return np.asarray(hu[nearest[thin_index]], dtype=np.float32)
    plane = hu[:, thin_index] if axis == 1 else hu[:, :, thin_index]
    return np.asarray(plane[nearest], dtype=np.float32)


def _interpolated(
    hu: npt.NDArray[Any], axis: int, thin_index: int, thin_slices: int, factor: float
) -> npt.NDArray[np.float32]:
    """The plane across `axis` at `thin_index` of the thick slices, linearly interpolated to the thin ones.

    At factor 5, thin slice 7 is 0.6 of thick slice 1 and 0.4 of thick slice 2.
    """
    at = np.array([thin_index]) / factor if axis == 0 else np.arange(thin_slices) / factor
    below = np.minimum(at.astype(int), hu.shape[0] - 1)
    above = np.minimum(below + 1, hu.shape[0] - 1)
    planes = hu if axis == 0 else hu[:, thin_index] if axis == 1 else hu[:, :, thin_index]
    share = (at - below).reshape(-1, *[1] * (planes.ndim - 1)).astype(np.float32)
    made = planes[below] * (1 - share) + planes[above] * share
    return np.asarray(made[0] if axis == 0 else made, dtype=np.float32)


def _sample(volume: Volume, grid: Geometry, axis: int, index: int) -> npt.NDArray[np.float32]:
    """The plane of `grid` across `axis` at `index`, each voxel from the nearest one of a volume with parallel axes."""
    here = []
    for a in range(3):
        first: list[float] = [0.0, 0.0, 0.0]
        last: list[float] = [0.0, 0.0, 0.0]
        last[a] = 1.0
        at0 = volume.geometry.index_at(grid.position_mm((first[0], first[1], first[2])))[a]
        at1 = volume.geometry.index_at(grid.position_mm((last[0], last[1], last[2])))[a]
        wanted = np.array([index]) if a == axis else np.arange(grid.shape[a])
        # Halfway between two voxels the upper one, as `thinslice.geometry.nearest_thick`; rounding errors included.
        nearest = np.floor(at0 + (at1 - at0) * wanted + 0.5 + 1e-6).astype(int)
        here.append(np.clip(nearest, 0, volume.hu.shape[a] - 1))
    return np.asarray(volume.hu[np.ix_(*here)].squeeze(axis), dtype=np.float32)


def _crop(cut: npt.NDArray[Any], axis: int, body: Body) -> npt.NDArray[Any]:
    """A cut across an array axis, cropped in plane to the body."""
    (h0, w0), (h1, w1) = body.start, body.stop
    return {0: cut[h0:h1, w0:w1], 1: cut[:, w0:w1], 2: cut[:, h0:h1]}[axis]


def _where(plane: ViewPlane, cut: tuple[int, int, int], factor: float) -> str:
    if plane.normal != 0:
        return "through the body's\nmiddle"
    thick = int(cut[0] // factor)
    return (
        f"midway between thick\nslices {thick + 1} and {thick + 2}" if cut[0] % factor else f"thick slice {thick + 1}"
    )


def _unknown(grid: Geometry) -> str:
    return "in-plane spacing unknown, shown as 1 mm" if None in grid.spacing_mm else ""
