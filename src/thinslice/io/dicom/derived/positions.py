"""Derived slices between their source slices: positions, order and the sources of each slice.

Positions follow the source's own decimal strings, not a grid computed from them: a thick slice and the thin slice on
it then agree to the last digit. At factor 5, thin slice 7 lies 2/5 of the way from thick slice 1 to thick slice 2: with
z "-119.0" and "-114.0" there, "-117".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset

from thinslice.geometry import Geometry
from thinslice.io.dicom.attributes import decimal_text, source_decimals, value_of
from thinslice.typing import Doubles

LINE_TOLERANCE_MM = 0.1
"""Where a source position is farther than this from the grid, reading resampled the slices: the grid is used."""

SAME_DEPTH_MM = 1e-3
"""Depths that differ by less are the same slice."""


@dataclass(frozen=True)
class SourcePair:
    """Place of a thin slice between thick ones.

    Attributes:
        lower: index of the thick slice at or before it.
        upper: index of the thick slice at or after it; equal to `lower` on a thick slice.
        weight: share of the way from `lower` to `upper`, exact; at factor 5, thin slice 7 has lower 1, upper 2 and
            weight 0.4, and thin slice 10 has lower and upper 2 and weight 0.
    """

    lower: int
    upper: int
    weight: Decimal = Decimal(0)

    @property
    def nearest(self) -> int:
        """The nearer thick slice, whose attributes a thin slice copies.

        In the middle the lower one, unlike `thinslice.geometry.nearest_thick`: headers of written series stay the same.
        """
        return self.lower if self.weight <= Decimal("0.5") else self.upper


class SourceLine:
    """The line of source slices and the thin slices along it.

    Args:
        geometry: the thin grid, (depth, height, width).
        headers: of the thick slices in depth order.
        factor: thin slices per thick interval; no whole number for thin slices at a distance of their own.
        resampled: whether reading resampled the slices, so that they lie elsewhere than their headers state.

    Attributes:
        positions: ImagePositionPatient of each thick slice as written, None where missing or damaged.
        followed: whether thin slice factor * k is thick slice k. Not so when reading resampled the slices (gantry
            tilt, uneven spacing); thin positions then come from the grid.
    """

    def __init__(
        self, geometry: Geometry, headers: Sequence[Dataset], factor: float, *, resampled: bool = False
    ) -> None:
        self.geometry = geometry
        self.factor = factor
        self.positions = [source_decimals(header, "ImagePositionPatient", 3) for header in headers]
        self.followed = not resampled and self._is_followed()
        self._locations = self._regular_locations(headers)
        self._backwards = _runs_backwards([value_of(header, "InstanceNumber") for header in headers])

    def __len__(self) -> int:
        """The number of thin slices."""
        return self.geometry.shape[0]

    def sources(self, slice_index: int) -> SourcePair:
        """The thick slices on either side of a thin one."""
        if self.followed:
            # Factor 5, thin slice 7: lower 1, rest 2, so between 1 and 2 at 2 / 5.
            lower, rest = divmod(slice_index, round(self.factor))
            return SourcePair(lower, lower + (rest > 0), Decimal(rest) / round(self.factor))
        # Source slices at 0, 5, 8 and 15 mm, thin ones of 1 mm: thin slice 6 is between 1 and 2 at (6 - 5) / (8 - 5).
        depths = self._source_depths_mm()
        at = slice_index * self.geometry.spacing_mm[0]
        same = np.flatnonzero(np.abs(depths - at) < SAME_DEPTH_MM)
        if len(same):
            return SourcePair(int(same[0]), int(same[0]))
        before, after = np.flatnonzero(depths < at), np.flatnonzero(depths > at)
        if not len(before) or not len(after):
            nearest = int(np.argmin(np.abs(depths - at)))
            return SourcePair(nearest, nearest)
        lower = int(before[np.argmax(depths[before])])
        upper = int(after[np.argmin(depths[after])])
        share = (at - depths[lower]) / (depths[upper] - depths[lower])
        return SourcePair(lower, upper, Decimal(repr(float(share))))

    def position(self, slice_index: int) -> tuple[str, ...]:
        """ImagePositionPatient of a thin slice, LPS mm: the source's strings on a thick slice, else between two."""
        if not self.followed:
            return tuple(decimal_text(x, 6) for x in self.geometry.position_mm((slice_index, 0, 0)))
        pair = self.sources(slice_index)
        first, last = self.positions[pair.lower] or (), self.positions[pair.upper] or ()
        if pair.lower == pair.upper:
            return first
        return tuple(_between(Decimal(a), Decimal(b), pair.weight) for a, b in zip(first, last, strict=True))

    def location(self, slice_index: int) -> str:
        """SliceLocation: on the source's own scale where that is regular, else the distance along the normal."""
        if self._locations is not None:
            pair = self.sources(slice_index)
            return _between(self._locations[pair.lower], self._locations[pair.upper], pair.weight)
        point = [float(text) for text in self.position(slice_index)]
        return decimal_text(float(np.dot(self.geometry.normal, point)), 6)

    def instance_number(self, slice_index: int) -> int:
        """InstanceNumber from 1, in the direction of the source's numbers, so that readers scroll as before.

        Of 316 thin slices, slice 0 has number 1, or 316 where the source counts against depth order.
        """
        return len(self) - slice_index if self._backwards else slice_index + 1

    def _is_followed(self) -> bool:
        if not float(self.factor).is_integer():
            return False
        if (len(self.positions) - 1) * self.factor + 1 != len(self) or None in self.positions:
            return False
        grid = np.array([self.geometry.position_mm((k * self.factor, 0, 0)) for k in range(len(self.positions))])
        return bool(np.all(np.linalg.norm(grid - self._known_positions(), axis=1) < LINE_TOLERANCE_MM))

    def _known_positions(self) -> Doubles:
        """(slices, 3) LPS mm of the source slices that have a position."""
        return np.array([[float(x) for x in p] for p in self.positions if p is not None]).reshape(-1, 3)

    def _source_depths_mm(self) -> Doubles:
        """Distance of each source slice along the normal from the first thin one; evenly spread when unknown."""
        if None in self.positions:
            return np.linspace(0, (len(self) - 1) * self.geometry.spacing_mm[0], len(self.positions))
        return np.asarray((self._known_positions() - np.array(self.geometry.origin_mm)) @ self.geometry.normal)

    def _regular_locations(self, headers: Sequence[Dataset]) -> list[Decimal] | None:
        """The source's SliceLocations when they step by the slice distance throughout; scanners differ in sign."""
        texts = [source_decimals(header, "SliceLocation", 1) for header in headers]
        if not self.followed or len(texts) < 2 or None in texts:
            return None
        locations = [Decimal(text[0]) for text in texts if text is not None]
        steps = np.diff([float(location) for location in locations])
        step = self.geometry.spacing_mm[0] * self.factor
        one_way = bool(np.all(steps > 0) or np.all(steps < 0))
        regular = one_way and bool(np.all(np.abs(np.abs(steps) - step) < LINE_TOLERANCE_MM))
        return locations if regular else None


def _between(first: Decimal, last: Decimal, weight: Decimal) -> str:
    return decimal_text(first + (last - first) * weight)


def _runs_backwards(instance_numbers: Sequence[object]) -> bool:
    """Whether the source counts its slices against depth order throughout."""
    numbers = [number for number in instance_numbers if isinstance(number, int)]
    if len(numbers) < 2 or len(numbers) != len(instance_numbers):
        return False
    # Resampled slices may share a source slice, and its number.
    return numbers[-1] < numbers[0] and all(later <= earlier for earlier, later in pairwise(numbers))
