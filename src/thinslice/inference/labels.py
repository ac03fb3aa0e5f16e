"""A segmentation of a thick scan on the thin grid: integer labels, shapes between slices, volumes kept.

Each label is interpolated by itself (`thinslice.inference.shapes`). Where structures meet, the smaller one takes the
voxels that it needs, and the larger one makes up for them at its other borders, so that areas stay. With a whole number
of thin slices per thick interval, a thin slice that lies on a thick one has its labels exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

from thinslice.errors import GeometryError, InputError
from thinslice.geometry import REGISTRATION_TOLERANCE_MM, Geometry
from thinslice.inference.shapes import Plane, Structure, largest, structures, whole_areas
from thinslice.typing import Doubles
from thinslice.volume import Volume, check_volume, reorient

Labels = npt.NDArray[np.integer[Any]]
"""Integer labels, (depth, height, width) or one slice of it; 0 is background."""

EDGE_TOLERANCE = 1e-6
"""Thick spacings: rounding errors of positions."""


def upscale_labels(labels: Volume, thin: Volume | Geometry) -> Volume:
    """The labels of a thick segmentation on the grid of its thin scan.

    Args:
        labels: whole numbers, 0 for background, on the grid of the thick scan, in any order of its axes.
        thin: the result of `thinslice.upscale`, or its grid.

    Returns:
        Labels on the thin grid. The area of every structure is linear between thick slices, so its volume between the
        centres of the first and the last slice is kept to the rounding of voxels.

    Raises:
        GeometryError: the two do not lie on one grid; segment the scan that was upscaled, or resample the segmentation
            onto its grid.
        InputError: values that are no labels (fractions, negative or not finite); give a segmentation.
        ArgumentTypeError: no volume; make one with `Volume.from_array`.

    >>> disc = np.hypot(*np.ogrid[-9:10, -9:10]) <= 6
    >>> thick = Volume.from_array(np.stack([0 * disc, 3 * disc, 0 * disc]), spacing_mm=(5.0, 0.7, 0.7))
    >>> found = upscale_labels(thick, thick.geometry.thin_grid(5))
    >>> np.unique(found.hu).tolist(), int((found.hu[5] == 3).sum()), int((found.hu == 3).sum()) / 5
    ([0, 3], 113, 113.0)
    """
    labels = check_volume("labels", labels)
    grid = thin if isinstance(thin, Geometry) else check_volume("thin", thin, "a thinslice.Volume or its grid").geometry
    turned = reorient(labels, grid)
    depth, thick_mm = turned.geometry.shape[0], turned.geometry.spacing_mm[0]
    thick = grid.respaced(thick_mm, depth)
    reach_mm = (grid.shape[0] - 1) * grid.spacing_mm[0]
    if not -thick_mm < reach_mm - (depth - 1) * thick_mm <= REGISTRATION_TOLERANCE_MM:
        raise GeometryError(
            f"The thin slices reach over {reach_mm:.4g} mm and those of the segmentation over "
            f"{(depth - 1) * thick_mm:.4g} mm; give the segmentation of the scan that was upscaled."
        )
    values = labels_on(turned, thick)
    planes = list(thin_labels(values, turned.geometry, grid))
    return Volume(np.stack(planes).astype(labels.hu.dtype), grid)


def labels_on(labels: Volume, thick: Geometry) -> Labels:
    """The labels of a segmentation with axes as those of the scan that it belongs to.

    Args:
        labels: as for `upscale_labels`.
        thick: grid of the scan.

    Returns:
        (depth, height, width) as the scan.

    Raises:
        GeometryError, InputError: as `upscale_labels`.
    """
    turned = reorient(labels, thick)
    grid = turned.geometry
    remedy = "segment the scan that is upscaled, or resample the segmentation onto its grid."
    if grid.shape != thick.shape:
        raise GeometryError(
            f"The segmentation has {_extent(grid)} voxels (depth x height x width) and the scan {_extent(thick)}; "
            f"{remedy}"
        )
    ends = [(0.0, 0.0, 0.0), tuple(float(n - 1) for n in grid.shape)]
    apart = max(math.dist(grid.position_mm(end), thick.position_mm(end)) for end in ends)  # type: ignore[arg-type]
    if apart > REGISTRATION_TOLERANCE_MM:
        raise GeometryError(
            f"The segmentation lies up to {apart:.2f} mm off the scan (tolerance {REGISTRATION_TOLERANCE_MM} mm); "
            f"{remedy}"
        )
    values = turned.hu
    if not np.all(np.isfinite(values)) or float(values.min()) < 0 or np.any(values != np.rint(values)):
        raise InputError(
            "The segmentation holds fractions, negative or infinite values, so it is no map of labels; give one with "
            "whole numbers, 0 for background (a map of probabilities has to be thresholded first)."
        )
    return values.astype(np.int32)


def thin_labels(labels: Labels, thick: Geometry, thin: Geometry) -> Iterator[Labels]:
    """Thin slices of labels in order, (height, width) each.

    Args:
        labels: (depth, height, width) on the thick grid.
        thick, thin: grids with the same first slice, one above the other.
    """
    return _Interpolation(labels, thick, thin).slices()


class LabelAreas:
    """Areas of labels in slices that come one after the other.

    Args:
        grid: of the whole volume; an unknown spacing in plane counts as 1 mm.
    """

    def __init__(self, grid: Geometry) -> None:
        self._step_mm = grid.spacing_mm[0]
        self._pixel_mm2 = (grid.spacing_mm[1] or 1.0) * (grid.spacing_mm[2] or 1.0)
        self._slices = 0
        self._voxels: dict[int, dict[int, int]] = {}

    def add(self, plane: Labels) -> None:
        """Count the next slice."""
        for number, count in zip(*np.unique(plane, return_counts=True), strict=True):
            if number != 0:
                self._voxels.setdefault(int(number), {})[self._slices] = int(count)
        self._slices += 1

    @property
    def labels(self) -> list[int]:
        """Labels found so far, background left out."""
        return sorted(self._voxels)

    def ml(self, label: int, reach_mm: float) -> float:
        """Volume of a label from the centre of the first slice over a distance, areas between slices being linear.

        >>> areas = LabelAreas(Geometry((3, 1, 2), (5.0, 10.0, 10.0)))
        >>> for plane in ([[0, 0]], [[4, 4]], [[0, 4]]):
        ...     areas.add(np.array(plane))
        >>> areas.ml(4, 10.0), areas.ml(4, 5.0), areas.ml(7, 10.0)
        (1.25, 0.5, 0.0)
        """
        held = self._voxels.get(label, {})
        places = np.arange(self._slices) * self._step_mm
        areas = np.array([held.get(index, 0) for index in range(self._slices)]) * self._pixel_mm2
        kept = places < reach_mm - EDGE_TOLERANCE
        nodes = np.append(places[kept], min(reach_mm, float(places[-1])))
        return float(trapezoid(np.interp(nodes, places, areas), nodes)) / 1000.0


@dataclass(frozen=True)
class _Claim:
    """A structure's claim to voxels of one thin slice.

    Attributes:
        structure: with its window.
        label: its number.
        depth: (rows, columns) of the window: distance within the structure, mm.
        area: voxels that it needs.
    """

    structure: Structure
    label: int
    depth: Doubles
    area: int


class _Interpolation:
    """Thin slices of labels, thick interval by thick interval.

    Areas between thick slices are linear. Where thin slices do not lie on the thick ones, samples of that line do not
    keep its integral: a structure in one thick slice would lose up to 4 % between 2.5 thin ones. There every area is
    the line's average over the thin slice.
    """

    def __init__(self, labels: Labels, thick: Geometry, thin: Geometry) -> None:
        self._labels = labels
        self._ratio = thick.spacing_mm[0] / thin.spacing_mm[0]
        self._count = thin.shape[0]
        self._pixel_mm = (thick.spacing_mm[1] or 1.0, thick.spacing_mm[2] or 1.0)
        self._tied = abs(self._ratio - round(self._ratio)) < EDGE_TOLERANCE * self._ratio
        self._owed: dict[int, float] = {}
        self._areas: dict[int, Doubles] = {}
        if not self._tied:
            for k, plane in enumerate(labels):
                for number, count in zip(*np.unique(plane, return_counts=True), strict=True):
                    self._areas.setdefault(int(number), np.zeros(len(labels)))[k] = count

    def slices(self) -> Iterator[Labels]:
        """All thin slices in order."""
        last = len(self._labels) - 1
        index = 0
        for k in range(last + 1):
            stop = index
            while stop < self._count and stop / self._ratio < k + 1 - EDGE_TOLERANCE:
                stop += 1
            indices = range(index, stop)
            if self._tied and len(indices):
                yield self._labels[k]
                indices = indices[1:]
            if len(indices):
                yield from self._between(k, min(k + 1, last), indices)
            index = stop

    def _between(self, k: int, after: int, indices: range) -> Iterator[Labels]:
        """The thin slices `indices`, which lie between thick slices k and `after`."""
        first, second = self._labels[k], self._labels[after]
        places = np.array([max(0.0, index / self._ratio - k) for index in indices])
        found: list[tuple[int, Structure, tuple[Doubles, Doubles], npt.NDArray[np.intp]]] = []
        for label in sorted({*np.unique(first).tolist(), *np.unique(second).tolist()} - {0}):
            held = list(structures(first == label, second == label))
            ends = np.array([[structure.first.sum(), structure.second.sum()] for structure in held], dtype=float)
            exact = ends[:, :1] * (1.0 - places) + ends[:, 1:] * places
            if not self._tied:
                line = exact.sum(axis=0)
                wanted = np.array([self._average(label, index) for index in indices])
                exact = exact * np.divide(wanted, line, out=np.zeros_like(line), where=line > 0)
                self._owed[label] = self._owed.get(label, 0.0) + float(wanted[line == 0].sum())
            areas, self._owed[label] = whole_areas(exact, self._owed.get(label, 0.0))
            found += [
                (label, structure, structure.distances(self._pixel_mm), own)
                for structure, own in zip(held, areas, strict=True)
            ]
        # The same order in all slices between the two, so that borders do not change sides.
        found.sort(key=lambda entry: int(entry[1].first.sum()) + int(entry[1].second.sum()))
        for number, place in enumerate(places):
            claims = [
                _Claim(structure, label, (1.0 - place) * near + place * far, int(areas[number]))
                for label, structure, (near, far), areas in found
                if areas[number]
            ]
            yield _settled(claims, first.shape)

    def _average(self, label: int, index: int) -> float:
        """Mean area of a label over the extent of a thin slice, within the thick slices' centres."""
        areas = self._areas[label]
        low = max(0.0, (index - 0.5) / self._ratio)
        high = min(len(areas) - 1.0, (index + 0.5) / self._ratio)
        nodes = np.array([low, *range(math.floor(low) + 1, math.ceil(high)), high])
        return float(trapezoid(np.interp(nodes, np.arange(len(areas)), areas), nodes)) / (high - low)


def _settled(claims: Sequence[_Claim], shape: tuple[int, ...]) -> Labels:
    """The slice in which claims are met one after the other, so that the smallest structures lose nothing."""
    plane = np.zeros(shape, dtype=np.int32)
    for claim in claims:
        window = claim.structure.rows, claim.structure.columns
        free: Plane = plane[window] == 0
        area = min(claim.area, int(np.count_nonzero(free)))
        plane[window][largest(np.where(free, claim.depth, claim.depth.min() - 1.0), area)] = claim.label
    return plane


def _extent(grid: Geometry) -> str:
    return " x ".join(str(n) for n in grid.shape)
