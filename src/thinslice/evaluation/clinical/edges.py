"""Sharpness across slices: the distance over which an edge rises from 10 to 90 %.

In scans: steps of single columns of voxels, found in the thin truth and measured in the truth, in the thick slices and
in every method (`find_edges`, `measure_edges`). In an object whose edge is known: all voxels by their distance from it,
the slanted-edge method of resolution measurements, which depends neither on noise nor on a choice of columns
(`spread_function`, `rise_mm`).

Source: ISO 12233 for slanted edges; for CT Richard et al., Med Phys 39 (2012), "task transfer function".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.tissues import EDGE_REACH_MM, EDGE_STEP_HU
from thinslice.typing import Doubles

LEVEL_SHARE = 0.2
"""Largest range of values, as a share of the step, of the stretches before and behind an edge."""

STEEP_SHARE = 0.6
"""Least share of the step within three slices: edges run across slices, not along them."""

STRIDE = 2
"""Every other row and column is searched: neighbours show the same edge."""

FINE_MM = 0.25
"""Distance of the points of a mean profile."""


@dataclass(frozen=True)
class Edges:
    """Steps found in a thin volume.

    Attributes:
        slices: (n,) thin index below the place where the step reaches half its height.
        rows, columns: (n,) in plane.
        reach: thin slices of a column to either side.
        step_mm: distance of thin slices.
    """

    slices: npt.NDArray[np.intp]
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    reach: int
    step_mm: float

    def __len__(self) -> int:
        return len(self.slices)

    def columns_of(self, hu: npt.NDArray[Any]) -> Doubles:
        """(2 * reach + 2, n) HU about the edges, of a volume on the thin grid."""
        offsets = np.arange(-self.reach, self.reach + 2)[:, None]
        return np.asarray(hu[self.slices + offsets, self.rows, self.columns], dtype=np.float64)


def find_edges(
    truth: npt.NDArray[Any], step_mm: float, thick_mm: float, *, first: int = 0, last: int | None = None
) -> Edges:
    """Steps of at least `EDGE_STEP_HU` between two even stretches, along columns of the truth.

    Args:
        truth: (depth, height, width) HU.
        step_mm: distance of thin slices.
        thick_mm: distance of thick slices; a column reaches one and a half of it to either side, and
            `EDGE_REACH_MM` at least.
        first, last: range of thin slices that columns stay in, half-open.

    >>> hu = np.full((40, 8, 8), -850.0); hu[21:] = 50.0
    >>> edges = find_edges(hu, 1.0, 5.0)
    >>> len(edges), set(edges.slices.tolist())
    (16, {20})
    """
    reach = max(2, round(max(EDGE_REACH_MM, 1.5 * thick_mm) / step_mm))
    stop = (truth.shape[0] if last is None else last) - reach - 1
    flat = max(1, reach // 2)
    found: list[npt.NDArray[np.intp]] = []
    window = truth[:, ::STRIDE, ::STRIDE]
    for index in range(first + reach, stop):
        columns = window[index - reach : index + reach + 2].astype(np.float32)
        begin, end = columns[:flat], columns[-flat:]
        low, high = begin.mean(axis=0), end.mean(axis=0)
        jump = high - low
        share = (columns[reach - 1 : reach + 3] - low) / np.where(jump == 0.0, np.inf, jump)
        taken = (np.abs(jump) > EDGE_STEP_HU) & (share[1] < 0.5) & (share[2] >= 0.5)
        taken &= share[3] - share[0] > STEEP_SHARE
        taken &= np.maximum(np.ptp(begin, axis=0), np.ptp(end, axis=0)) < LEVEL_SHARE * np.abs(jump)
        rows, cols = np.nonzero(taken)
        found.append(np.stack([np.full(rows.size, index), STRIDE * rows, STRIDE * cols]))
    slices, rows, cols = np.concatenate(found, axis=1) if found else np.zeros((3, 0), np.intp)
    return Edges(slices, rows, cols, reach, step_mm)


def measure_edges(hu: npt.NDArray[Any], truth: npt.NDArray[Any], edges: Edges) -> dict[str, Any]:
    """Rises and places of the edges in a volume on the thin grid.

    Each column is measured between its own levels, and is linear between slices.

    Returns:
        `edges`: their number; `rise_mm`: median 10-90 % rise of single columns, with quartiles; `unresolved_percent`:
        columns without a rise of their own; `displaced_mm`: root mean square distance, along z, of the place of half
        height from that in the truth; `profile`: mean of the columns laid over each other at the truth's place, with
        its rise, which includes displacement.
    """
    count = len(edges)
    if not count:
        return {"edges": 0, "rise_mm": None, "quartiles_mm": None, "unresolved_percent": None, "displaced_mm": None,
                "profile": None}  # fmt: skip
    shares, reference = (_shares(edges.columns_of(volume), edges.reach) for volume in (hu, truth))
    places = np.stack([_crossings(shares, level) for level in (0.1, 0.5, 0.9)])
    rises = (places[2] - places[0]) * edges.step_mm
    resolved = np.isfinite(rises) & (rises >= 0.0)
    middle = _crossings(reference, 0.5)
    apart = (places[1] - middle)[np.isfinite(places[1]) & np.isfinite(middle)] * edges.step_mm
    at_mm, profile = _mean_profile(shares, middle, edges)
    quartiles = np.quantile(rises[resolved], [0.25, 0.5, 0.75]) if resolved.any() else None
    return {
        "edges": count,
        "rise_mm": None if quartiles is None else float(quartiles[1]),
        "quartiles_mm": None if quartiles is None else [float(quartiles[0]), float(quartiles[2])],
        "unresolved_percent": float(100.0 * np.mean(~resolved)),
        "displaced_mm": float(np.sqrt(np.mean(apart**2))) if apart.size else None,
        "profile": {
            "at_mm": at_mm.tolist(),
            "share": [round(float(value), 5) for value in profile],
            "rise_mm": rise_mm(at_mm, profile),
        },
    }


def spread_function(
    hu: npt.NDArray[Any], distance_mm: npt.NDArray[Any], *, reach_mm: float, fine_mm: float = FINE_MM
) -> tuple[Doubles, Doubles]:
    """Edge spread function: mean HU of voxels by their distance from a known edge.

    Args:
        hu: any shape.
        distance_mm: of each voxel's centre from the edge along z, same shape.
        reach_mm: distance to either side.
        fine_mm: width of a bin; bins must be narrow beside the rise.

    Returns:
        (distances, mean HU); bins without voxels are left out.
    """
    bins = np.round(distance_mm / fine_mm).astype(np.intp) + round(reach_mm / fine_mm)
    size = 2 * round(reach_mm / fine_mm) + 1
    inside = (bins >= 0) & (bins < size)
    count = np.bincount(bins[inside], minlength=size)
    total = np.bincount(bins[inside], hu[inside].astype(np.float64), minlength=size)
    held = count > 0
    at = np.asarray((np.arange(size) - size // 2) * fine_mm, dtype=np.float64)
    return at[held], total[held] / count[held]


def rise_mm(at_mm: Doubles, profile: Doubles, *, low: float | None = None, high: float | None = None) -> float | None:
    """10-90 % rise of a profile about its place of half height, in mm, linear between points; None where it has none.

    Args:
        at_mm: (n,) ascending.
        profile: (n,) values; the step may go up or down.
        low, high: its levels; None for the means of its first and last eighth.

    >>> at = np.arange(-10, 10.1, 0.1)
    >>> round(rise_mm(at, np.clip(at / 5.0 + 0.5, 0, 1)), 3)
    4.0
    """
    ends = max(1, len(profile) // 8)
    begin = float(np.mean(profile[:ends])) if low is None else low
    finish = float(np.mean(profile[-ends:])) if high is None else high
    if begin == finish:
        return None
    share = (np.asarray(profile, dtype=np.float64) - begin) / (finish - begin)
    places = [_crossings(share[:, None], level)[0] for level in (0.1, 0.9)]
    if not np.all(np.isfinite(places)):
        return None
    foot, top = np.interp(places, np.arange(len(at_mm)), at_mm)
    return float(top - foot)


def straight_between(thick: npt.NDArray[Any], factor: int) -> npt.NDArray[np.float32]:
    """Thick slices interpolated linearly between their centres, as a viewer shows them across slices.

    >>> straight_between(np.array([0.0, 4.0]).reshape(2, 1, 1), 2).ravel().tolist()
    [0.0, 2.0, 4.0]
    """
    depth = thick.shape[0]
    thin = np.empty(((depth - 1) * factor + 1, *thick.shape[1:]), dtype=np.float32)
    thin[::factor] = thick
    for offset in range(1, factor):
        part = np.float32(offset / factor)
        thin[offset::factor] = (1 - part) * thick[:-1] + part * thick[1:]
    return thin


def _shares(columns: Doubles, reach: int) -> Doubles:
    """Columns scaled so that their own levels are 0 and 1; NaN where both levels are alike."""
    flat = max(1, reach // 2)
    low, high = columns[:flat].mean(axis=0), columns[-flat:].mean(axis=0)
    jump = high - low
    return np.asarray((columns - low) / np.where(np.abs(jump) < 1.0, np.nan, jump))


def _crossings(shares: Doubles, level: float) -> Doubles:
    """Points at which each column (points, n) passes a level next to its place of half height; NaN where it does not.

    Of the levels below a half the last crossing before that place counts, of those above it the first behind it.
    """
    points, count = shares.shape
    known = np.all(np.isfinite(shares), axis=0)
    values = np.where(known, shares, 0.0)
    rising = (values[:-1] < 0.5) & (values[1:] >= 0.5)
    # The crossing of a half nearest to the middle.
    away = np.where(rising, np.abs(np.arange(points - 1) - (points - 2) / 2.0)[:, None], np.inf)
    half = np.argmin(away, axis=0)
    known &= rising.any(axis=0)
    number = np.arange(points)[:, None]
    if level < 0.5:
        below = (values < level) & (number <= half)
        foot = points - 1 - np.argmax(below[::-1], axis=0)
        known &= below.any(axis=0)
    elif level > 0.5:
        above = (values >= level) & (number > half)
        foot = np.argmax(above, axis=0) - 1
        known &= above.any(axis=0)
    else:
        foot = half
    foot = np.clip(foot, 0, points - 2)
    each = np.arange(count)
    first, second = values[foot, each], values[foot + 1, each]
    place = foot + (level - first) / np.where(second == first, np.nan, second - first)
    return np.where(known, place, np.nan)


def _mean_profile(shares: Doubles, middle: Doubles, edges: Edges) -> tuple[Doubles, Doubles]:
    """Columns laid over each other so that the truth's half height is at 0, and their mean."""
    usable = np.isfinite(middle) & np.all(np.isfinite(shares), axis=0)
    extent = (edges.reach - 1) * edges.step_mm
    at = np.arange(-np.floor(extent / FINE_MM), np.floor(extent / FINE_MM) + 1) * FINE_MM
    if not usable.any():
        return at, np.full(len(at), np.nan)
    values, centre = shares[:, usable], middle[usable]
    wanted = at[:, None] / edges.step_mm + centre
    low = np.clip(np.floor(wanted).astype(np.intp), 0, len(values) - 2)
    part = np.clip(wanted - low, 0.0, 1.0)
    each = np.arange(values.shape[1])
    return at, ((1.0 - part) * values[low, each] + part * values[low + 1, each]).mean(axis=1)
