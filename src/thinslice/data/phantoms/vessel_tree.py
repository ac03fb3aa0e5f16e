"""Random branching tubes: lung vessels and airways of the thorax phantom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinslice.typing import Doubles

BRANCH_EXPONENT = 2.7
"""Exponent of Murray's law: a parent's radius to this power is the sum of its children's."""

STEP_MM = 5.0
"""Longest straight piece of a vessel."""


@dataclass(frozen=True, eq=False)
class Tubes:
    """Tapered tubes with round ends.

    Attributes:
        start, stop: ends of the axes, (n, 3), LPS mm.
        start_radius, stop_radius: radii at the ends, (n,), mm.
    """

    start: Doubles
    stop: Doubles
    start_radius: Doubles
    stop_radius: Doubles

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def along(cls, points: npt.ArrayLike, radii: npt.ArrayLike) -> Tubes:
        """One vessel through points (n, 3) with a radius at each.

        >>> len(Tubes.along([(0, 0, 0), (1, 0, 0), (2, 0, 0)], [1, 1, 1]))
        2
        """
        p, r = np.asarray(points, dtype=float), np.asarray(radii, dtype=float)
        return cls(p[:-1], p[1:], r[:-1], r[1:])

    @classmethod
    def joined(cls, parts: list[Tubes]) -> Tubes:
        """All tubes of several sets."""
        return cls(
            np.concatenate([t.start for t in parts]),
            np.concatenate([t.stop for t in parts]),
            np.concatenate([t.start_radius for t in parts]),
            np.concatenate([t.stop_radius for t in parts]),
        )

    def near(self, low_mm: float, high_mm: float) -> npt.NDArray[np.int_]:
        """Indices of the tubes that reach into a range of z."""
        radius = np.maximum(self.start_radius, self.stop_radius)
        low = np.minimum(self.start[:, 2], self.stop[:, 2]) - radius
        high = np.maximum(self.start[:, 2], self.stop[:, 2]) + radius
        return np.flatnonzero((high >= low_mm) & (low <= high_mm))

    def thicker_than(self, radius_mm: float) -> Tubes:
        """The tubes whose thinner end has at least a radius."""
        kept = self.stop_radius >= radius_mm
        return Tubes(self.start[kept], self.stop[kept], self.start_radius[kept], self.stop_radius[kept])

    def beside(self, offset: tuple[float, float, float], scale: float) -> Tubes:
        """Companion tubes: moved by `offset` times the local radius, with scaled radii."""
        step = np.asarray(offset)
        return Tubes(
            self.start + self.start_radius[:, None] * step,
            self.stop + self.stop_radius[:, None] * step,
            self.start_radius * scale,
            self.stop_radius * scale,
        )


def grow(
    root_mm: tuple[float, float, float],
    heading: tuple[float, float, float],
    targets_mm: Doubles,
    *,
    tip_radius_mm: float,
    rng: np.random.Generator,
) -> Tubes:
    """A tree of tubes from a root to many tips.

    Tips are joined one by one, near ones first, to a branch that is close and heads towards them; the new branch curves
    away from the heading of its parent. Radii follow from the number of tips beyond a branch.

    Args:
        root_mm: first point of the tree.
        heading: direction at the root.
        targets_mm: tips, (n, 3).
        tip_radius_mm: radius of the thinnest branches.
        rng: random generator of small irregularities.
    """
    root = np.asarray(root_mm, dtype=float)
    order = np.argsort(np.linalg.norm(targets_mm - root, axis=1) * rng.uniform(0.85, 1.15, len(targets_mm)))
    room = 1 + int(np.sum(np.linalg.norm(targets_mm - root, axis=1) / STEP_MM + 2))
    at, toward = np.zeros((room, 3)), np.zeros((room, 3))
    parent = np.full(room, -1)
    at[0], toward[0] = root, np.asarray(heading) / np.linalg.norm(heading)
    count = 1
    tips = []
    for target in targets_mm[order]:
        away = target - at[:count]
        distance = np.linalg.norm(away, axis=1) + 1e-6
        bend = 1.0 - np.einsum("ij,ij->i", away / distance[:, None], toward[:count])
        joint = int(np.argmin(distance * (1.0 + 0.8 * bend)))
        length = distance[joint]
        pieces = max(1, int(np.ceil(length / STEP_MM)))
        control = at[joint] + 0.4 * length * toward[joint] + rng.normal(0, 0.04 * length, 3)
        previous = joint
        for t in np.arange(1, pieces + 1) / pieces:
            at[count] = (1 - t) ** 2 * at[joint] + 2 * t * (1 - t) * control + t**2 * target
            step = at[count] - at[previous]
            toward[count] = step / (np.linalg.norm(step) + 1e-9)
            parent[count] = previous
            previous, count = count, count + 1
            if count == room:
                break
        tips.append(previous)
        if count == room:
            break
    area = np.zeros(count)
    area[tips] += tip_radius_mm**BRANCH_EXPONENT
    # Children come after their parents, so one pass from the end adds up all areas.
    for node in range(count - 1, 0, -1):
        area[node] = max(area[node], tip_radius_mm**BRANCH_EXPONENT)
        area[parent[node]] += area[node]
    radius = area ** (1.0 / BRANCH_EXPONENT)
    child = np.arange(1, count)
    above = parent[child]
    # A side branch starts with about its own radius, not with that of its parent.
    begin = np.minimum(radius[above], 1.25 * radius[child])
    return Tubes(at[above], at[child], begin, radius[child])


def scatter(
    inside: Callable[[Doubles], Doubles],
    low_mm: tuple[float, float, float],
    high_mm: tuple[float, float, float],
    count: int,
    rng: np.random.Generator,
) -> Doubles:
    """Uniform random points (count, 3) where `inside` (distance of points (n, 3)) is negative."""
    found: list[Doubles] = []
    have = 0
    while have < count:
        points = rng.uniform(low_mm, high_mm, (8 * count, 3))
        kept = points[inside(points) < 0]
        found.append(kept)
        have += len(kept)
    return np.concatenate(found)[:count]
