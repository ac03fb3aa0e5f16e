"""A thorax phantom: a synthetic chest from formulas and a seed, with nodules of known size and place.

The phantom serves the demo, tutorials and tests, where a real patient must not be used. It resembles a CT in thick
slices: slanted fissures, vessels, ribs and the diaphragm cross many slices, and small nodules lie in one or two. It is
no model of anatomy, and no network should be trained on it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from thinslice.data.phantoms import anatomy
from thinslice.data.phantoms.vessel_tree import Tubes, grow, scatter
from thinslice.data.simulate import simulate_thick
from thinslice.errors import UsageError
from thinslice.geometry import AXIAL_DIRECTION, Geometry
from thinslice.profile import SliceProfile
from thinslice.typing import Doubles
from thinslice.volume import Volume

TIPS_PER_TREE = 950
"""Ends of the arteries, and of the veins, in each lung."""


@dataclass(frozen=True)
class Nodule:
    """A ball in the lung.

    Attributes:
        centre_mm: centre, LPS.
        diameter_mm: diameter of the ball.
        hu: density.
        kind: "solid" or "ground glass".
        beside_vessel: whether the nodule touches a vessel.
    """

    centre_mm: tuple[float, float, float]
    diameter_mm: float
    hu: float
    kind: str
    beside_vessel: bool


@dataclass(frozen=True, eq=False)
class Phantom:
    """A phantom as `render` takes it; it does not depend on a grid.

    Attributes:
        seed: seed of all random numbers, noise and texture included.
        contrast: whether blood holds contrast agent.
        noise_hu: standard deviation of the noise in a thin slice's soft tissue.
        nodules: nodules in the lungs.
        arteries, veins: vessels of both lungs.
        airways: air inside the windpipe and the bronchi.
    """

    seed: int
    contrast: bool
    noise_hu: float
    nodules: tuple[Nodule, ...]
    arteries: Tubes
    veins: Tubes
    airways: Tubes


def thorax(
    seed: int = 0,
    *,
    contrast: bool = True,
    noise_hu: float = 20.0,
    nodules: int = 12,
    low_mm: float = -80.0,
    high_mm: float = 80.0,
) -> Phantom:
    """A random phantom.

    Args:
        seed: seed; the same seed gives the same phantom.
        contrast: whether blood holds contrast agent (230 HU), or not (42 HU).
        noise_hu: standard deviation of noise in soft tissue, 0 for none.
        nodules: number of nodules; diameters 3 to 10 mm, a third of them ground glass, a third touching a vessel.
        low_mm: lowest z at which nodules are placed.
        high_mm: highest z at which nodules are placed.

    Raises:
        UsageError: a negative number of nodules or noise.
    """
    if nodules < 0 or noise_hu < 0:
        raise UsageError(f"A phantom needs counts and noise of at least 0, not {nodules} nodules, {noise_hu} HU.")
    rng = np.random.default_rng(seed)
    arteries: list[Tubes] = []
    veins: list[Tubes] = []
    for side in (-1.0, 1.0):
        for roots, trees, tip in ((_ARTERY_ROOT, arteries, 0.42), (_VEIN_ROOT, veins, 0.45)):
            x, y, z = roots
            low, high = ((-140.0, -2.0) if side < 0 else (2.0, 140.0)), (-100.0, 95.0)
            tips = scatter(_lung_at(3.0), (low[0], high[0], -110.0), (low[1], high[1], 130.0), TIPS_PER_TREE, rng)
            trees.append(grow((side * x, y, z), (side, 0.1, 0.1), tips, tip_radius_mm=tip, rng=rng))
    bronchi = Tubes.joined([tree.thicker_than(1.5).beside((0.0, 1.6, 0.4), 0.68) for tree in arteries])
    trunks = [Tubes.along(points, radii) for points, radii in _AIRWAY_TRUNKS]
    placed = _place_nodules(nodules, Tubes.joined(arteries), (low_mm, high_mm), rng)
    return Phantom(
        seed=seed,
        contrast=contrast,
        noise_hu=noise_hu,
        nodules=placed,
        arteries=Tubes.joined([*arteries, *(Tubes.along(p, r) for p, r in _ARTERY_TRUNKS)]),
        veins=Tubes.joined([*veins, *(Tubes.along(p, r) for p, r in _VEIN_TRUNKS)]),
        airways=Tubes.joined([*trunks, bronchi]),
    )


def phantom_grid(
    shape: tuple[int, int, int] = (121, 256, 256), spacing_mm: tuple[float, float, float] = (1.0, 1.4, 1.4)
) -> Geometry:
    """A thin axial grid, centred on the phantom's chest.

    >>> phantom_grid((3, 5, 5)).position_mm((1, 2, 2))
    (0.0, 8.0, 0.0)
    """
    depth, height, width = shape
    origin = tuple(-0.5 * (n - 1) * step for n, step in zip((width, height, depth), spacing_mm[::-1], strict=True))
    return Geometry(
        shape,
        spacing_mm,
        # The body's middle lies 8 mm behind that of the chest.
        origin_mm=(origin[0], origin[1] + 8.0, origin[2]),
        direction=AXIAL_DIRECTION,
        thickness_mm=spacing_mm[0],
    )


def thick_from(thin: Volume, factor: int) -> tuple[Volume, Volume]:
    """Contiguous simulated thick slices of a thin volume, in whole HU.

    Only thick slices with full support are made; the truth extends from the first thick centre to the last.

    Returns:
        (thick, truth): D thick slices and the corresponding (D - 1) * factor + 1 thin ones.

    Raises:
        NotEligibleError: too few thin slices; use a smaller factor.
    """
    thick, truth = simulate_thick(thin, SliceProfile.mean(factor))
    grid = replace(thick.geometry, thickness_mm=factor * thin.geometry.spacing_mm[0])
    return Volume(np.round(thick.hu).astype(np.int16), grid, thick.provenance), truth


def _lung_at(margin_mm: float) -> Callable[[Doubles], Doubles]:
    """Distance of points (n, 3) to a surface `margin_mm` inside the lungs' surface."""

    def distance(points: Doubles) -> Doubles:
        x, y, z = points.astype(np.float32).T
        return np.asarray(anatomy.lung(x, y, z) + margin_mm, dtype=np.float64)

    return distance


def _place_nodules(
    count: int, vessels: Tubes, range_mm: tuple[float, float], rng: np.random.Generator
) -> tuple[Nodule, ...]:
    """Nodules inside the lungs that neither touch the pleura nor each other."""
    placed: list[Nodule] = []
    inside = _lung_at(0.0)
    low, high = range_mm
    branches = np.flatnonzero(
        (vessels.stop_radius > 0.6) & (vessels.stop_radius < 1.6)
        & (vessels.stop[:, 2] > low) & (vessels.stop[:, 2] < high)
    )  # fmt: skip
    for number in range(count):
        diameter = float(np.round(3.0 + 7.0 * (number + 0.5) / count, 1))
        glass, beside = number % 3 == 1, number % 3 == 2 and branches.size > 0
        for _ in range(400):
            if beside:
                branch = int(rng.choice(branches))
                sideways = np.cross(vessels.stop[branch] - vessels.start[branch], rng.normal(size=3))
                sideways /= np.linalg.norm(sideways) + 1e-9
                centre = vessels.stop[branch] + sideways * (0.5 * diameter + 0.6 * vessels.stop_radius[branch])
            else:
                centre = rng.uniform((-130.0, -95.0, low), (130.0, 90.0, high))
            centre = np.round(centre, 1)
            free = all(np.linalg.norm(centre - n.centre_mm) > 0.5 * (diameter + n.diameter_mm) + 12.0 for n in placed)
            if free and low <= centre[2] <= high and inside(centre[None])[0] < -(0.5 * diameter + 3.0):
                x, y, z = (float(v) for v in centre)
                hu, kind = (-610.0, "ground glass") if glass else (35.0, "solid")
                placed.append(Nodule((x, y, z), diameter, hu, kind, beside))
                break
    return tuple(placed)


_ARTERY_ROOT, _VEIN_ROOT = (44.0, 2.0, 20.0), (38.0, 12.0, -2.0)
_ARTERY_TRUNKS = (
    ([(20, -48, 12), (20, -40, 26), (14, -22, 34), (8, -8, 34)], [14, 13.5, 13, 11.5]),
    ([(8, -8, 34), (-12, -4, 30), (-30, 0, 25), (-44, 2, 20)], [11.5, 10, 9, 7.5]),
    ([(8, -8, 34), (26, -2, 32), (38, 2, 27), (44, 2, 20)], [11.5, 10, 9, 7.5]),
)
_VEIN_TRUNKS = (
    ([(-12, 14, 0), (-38, 12, -2)], [8, 6.5]),
    ([(12, 14, 0), (38, 12, -2)], [8, 6.5]),
)
_AIRWAY_TRUNKS = (
    ([(-3, 2, 150), (-3, 12, 90), (-2, 19, 46)], [8.8, 8.5, 8.2]),
    ([(-2, 19, 46), (-18, 18, 34), (-34, 14, 25), (-44, 12, 21)], [7.2, 6.6, 6.0, 5.2]),
    ([(-2, 19, 46), (16, 22, 32), (34, 16, 23), (44, 13, 21)], [7.0, 6.0, 5.6, 5.0]),
)
