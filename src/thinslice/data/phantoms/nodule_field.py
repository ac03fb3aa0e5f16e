"""A synthetic piece of lung with inserted nodules of known size and place, for the clinical check.

The field uses the vessel trees and kernel-like noise of the thorax phantom, but consists of lung between two chest
walls, so a small volume holds hundreds of nodules: solid and ground glass, 3 to 10 mm, free, beside a vessel and on the
pleura, with centres spread evenly over the positions within a thick slice. The field can be rendered with and without
its nodules and with any number of noise draws, so the effect of a method on nodules can be separated from its other
effects.

In plane the field has the blur of a standard kernel. Through plane every thin slice is an exact average over its
extent; a voxel of a nodule is the exact average over the voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from thinslice.data.phantoms.noise import grain
from thinslice.data.phantoms.vessel_tree import Tubes, grow, scatter
from thinslice.errors import UsageError
from thinslice.geometry import AXIAL_DIRECTION, Geometry
from thinslice.typing import Doubles, Floats
from thinslice.volume import Provenance, Volume

DIAMETERS_MM = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Diameters of nodules, from the smallest in guidelines to the largest that counts as small."""

KINDS_HU = {"solid": 35.0, "ground glass": -610.0}
"""Density by kind."""

SETTINGS = ("free", "vessel", "pleura")
"""Position of a nodule: free, touching a vessel, or touching the chest wall."""

LUNG_HU = -868.0
"""Mean of the lung around nodules, the reference of their contrast."""

WALL_HU, BLOOD_HU = 50.0, 42.0

THIN_MM, PIXEL_MM = 1.0, 0.7
"""Thickness and distance of thin slices; size of a pixel."""

BLUR_MM = 0.5
"""Standard deviation of the blur in plane (1.2 mm wide at half height)."""

END_MM = 22.0
"""Distance of nodules' centres from the first and the last slice: more than two and a half of the thickest slices."""

APART_MM = 6.0
"""Free space in plane between the surfaces of two nodules, unless they lie far apart along z (`APART_THICK`)."""

APART_THICK = 2.5
"""Free space along z, in thick slices, across which a method does not smear one nodule into another."""

_WALL_MM, _SIDE_MM, _CLEAR_MM = 14.0, 12.0, 2.0
_WIDTHS_MM = (0.0, 0.6, 1.0, 1.5, 2.2, 3.3, 5.0, 8.0, np.inf)
_TRIED, _FAR_MM = 150, 9.0
_FINE = 5
_PLANES = 4


@dataclass(frozen=True)
class InsertedNodule:
    """A nodule of the field.

    Attributes:
        centre_mm: centre, LPS.
        diameter_mm: diameter of the ball.
        hu: density.
        kind: key of `KINDS_HU`.
        setting: one of `SETTINGS`.
    """

    centre_mm: tuple[float, float, float]
    diameter_mm: float
    hu: float
    kind: str
    setting: str

    @property
    def contrast_hu(self) -> float:
        """Density less that of the surrounding lung."""
        return self.hu - LUNG_HU

    @property
    def volume_mm3(self) -> float:
        """Volume of the ball."""
        return float(np.pi / 6.0 * self.diameter_mm**3)

    def phase(self, thick_mm: float, first_mm: float) -> float:
        """Position within a thick interval: 0 at a thick slice's centre, 0.5 midway between two.

        Example: at z = 13.5 mm, with thick slices at 2, 7, 12, ... mm, the phase is 1.5 / 5 = 0.3.

        Args:
            thick_mm: distance of thick slices.
            first_mm: z of a thick slice's centre.
        """
        return float(((self.centre_mm[2] - first_mm) / thick_mm) % 1.0)


@dataclass(frozen=True, eq=False)
class NoduleField:
    """The field on its thin grid, without noise.

    Attributes:
        seed: seed of all random numbers.
        grid: thin grid, with its origin at voxel [0, 0, 0].
        empty: HU without nodules.
        full: HU with nodules.
        nodules: inserted nodules.
        lung: voxels that hold only lung in the empty field.
        missing: number of requested nodules for which there was no room.
    """

    seed: int
    grid: Geometry
    empty: Floats
    full: Floats
    nodules: tuple[InsertedNodule, ...]
    lung: npt.NDArray[np.bool_]
    missing: int

    def scan(self, *, nodules: bool, noise_hu: float, draw: int = 0) -> Volume:
        """A simulated scan of the field: whole HU, with noise.

        Args:
            nodules: whether the nodules are inserted.
            noise_hu: standard deviation of noise in soft tissue; 0.8 times that in lung. 0 for no noise.
            draw: number of the noise draw; one number gives the same noise with and without nodules.
        """
        hu = (self.full if nodules else self.empty).copy()
        if noise_hu > 0.0:
            for index, plane in enumerate(hu):
                rng = np.random.default_rng([self.seed, 3, draw, index])
                # Strength by the empty field, so that scans of one draw differ only by the nodules.
                strength = noise_hu * np.where(self.empty[index] < -500.0, 0.8, 1.0)
                plane += (strength * grain(plane.shape, rng)).astype(np.float32)
        hu = np.clip(np.round(hu), -1024, 3071).astype(np.int16)
        return Volume(hu, self.grid, Provenance(details={"phantom": "nodule field", "seed": self.seed}))


def nodule_field(
    seed: int = 0,
    *,
    thick_mm: float = 5.0,
    positions: int = 6,
    pixels: int = 240,
    slices: int = 137,
    diameters_mm: tuple[float, ...] = DIAMETERS_MM,
    kinds: tuple[str, ...] = tuple(KINDS_HU),
    settings: tuple[str, ...] = SETTINGS,
) -> NoduleField:
    """Make a field of inserted nodules.

    Args:
        seed: seed; the same seed and arguments give the same field.
        thick_mm: distance of the thick slices over whose extent nodules' centres are spread evenly; for thick slices
            centred (thick_mm / THIN_MM) // 2 slices from the first one, as `simulate_thick` centres them.
        positions: number of nodules of each diameter, kind and setting.
        pixels: height and width.
        slices: number of thin slices.
        diameters_mm, kinds, settings: diameters, kinds and settings of the nodules.

    Raises:
        UsageError: a field too small for nodules; the message names the least size.
    """
    if positions < 1 or pixels * PIXEL_MM < 2 * _WALL_MM + 40.0 or slices * THIN_MM < 2 * END_MM + 10.0:
        raise UsageError(
            f"A nodule field needs a position, {int((2 * _WALL_MM + 40) / PIXEL_MM) + 1} pixels and "
            f"{int((2 * END_MM + 10) / THIN_MM)} slices at least, not {positions}, {pixels} and {slices}."
        )
    grid = Geometry(
        (slices, pixels, pixels), (THIN_MM, PIXEL_MM, PIXEL_MM), direction=AXIAL_DIRECTION, thickness_mm=THIN_MM
    )
    rng = np.random.default_rng([seed, 0])
    site = _Site(slices * THIN_MM, pixels * PIXEL_MM, seed)
    wanted = [(d, kind, setting, i) for setting in settings[::-1] for d in sorted(diameters_mm, reverse=True)
              for kind in kinds for i in range(positions)]  # fmt: skip
    first_mm = (round(thick_mm / THIN_MM) // 2) * THIN_MM
    inserted: list[InsertedNodule] = []
    for diameter, kind, setting, i in wanted:
        centres = site.candidates(setting, 0.5 * diameter, rng)
        phase = ((centres[:, 2] - first_mm) / thick_mm) % 1.0
        centres = centres[(phase * positions).astype(int) == i]
        for other in inserted:
            away = centres - other.centre_mm
            room = 0.5 * (diameter + other.diameter_mm)
            aside = np.hypot(away[:, 0], away[:, 1]) > room + APART_MM
            centres = centres[aside | (np.abs(away[:, 2]) > room + APART_THICK * thick_mm)]
        # The slowest test comes last, on a few of the candidates.
        centres = centres[:_TRIED]
        # A nodule beside a vessel touches it and lies in no other.
        radius = 0.5 * diameter
        clearance_mm = {"free": radius + _CLEAR_MM, "pleura": radius + 0.5 * _CLEAR_MM, "vessel": radius - 0.4}[setting]
        centres = centres[site.clear_of_vessels(centres) > clearance_mm]
        if len(centres):
            x, y, z = (float(value) for value in centres[0])
            inserted.append(InsertedNodule((x, y, z), diameter, KINDS_HU[kind], kind, setting))
    sharp, lung = _paint(site, grid, seed)
    full = sharp.copy()
    for nodule in inserted:
        window, share = _ball_share(nodule, grid)
        full[window] += share * (np.float32(nodule.hu) - full[window])
    return NoduleField(seed, grid, _blurred(sharp), _blurred(full), tuple(inserted), lung, len(wanted) - len(inserted))


class _Site:
    """Walls and vessels of a field, and positions for nodules."""

    def __init__(self, depth_mm: float, side_mm: float, seed: int) -> None:
        self.depth_mm, self.side_mm = depth_mm, side_mm
        rng = np.random.default_rng([seed, 1])
        tips = scatter(lambda p: -self.inside(p), (0.0, 0.0, 0.0), (side_mm, side_mm, depth_mm),
                       max(40, int(side_mm**2 * depth_mm / 7e3)), rng)  # fmt: skip
        root = (0.5 * side_mm, 0.5 * side_mm, -10.0)
        self.vessels = grow(root, (0.2, 0.1, 1.0), tips, tip_radius_mm=0.42, rng=rng)
        from scipy.spatial import cKDTree

        along = np.linspace(0.0, 1.0, 6)[:, None, None]
        widest = np.maximum(self.vessels.start_radius, self.vessels.stop_radius)
        # Trees by width: the nearest axis is not the nearest surface where a trunk lies beside a twig.
        self._axes = []
        for low, high in pairwise(_WIDTHS_MM):
            held = (widest > low) & (widest <= high)
            if held.any():
                start, stop = self.vessels.start[held], self.vessels.stop[held]
                points = (start + along * (stop - start)).reshape(-1, 3)
                self._axes.append((cKDTree(points), np.tile(widest[held], len(along))))

    def walls(self, x: Doubles | Floats, z: Doubles | Floats) -> tuple[Doubles, Doubles]:
        """y of the front and the back wall's surface."""
        swing = 3.0 * np.sin(x / 19.0) + 4.0 * np.sin(z / 23.0 + 1.0)
        return _WALL_MM + swing, self.side_mm - _WALL_MM + 0.8 * swing

    def inside(self, points: Doubles) -> Doubles:
        """Distance of points (n, 3) to the nearer wall along y, positive in the lung; slightly too large."""
        front, back = self.walls(points[:, 0], points[:, 2])
        return np.asarray(np.minimum(points[:, 1] - front, back - points[:, 1]), dtype=np.float64)

    def clear_of_vessels(self, points: Doubles) -> Doubles:
        """Distance of points (n, 3) to the nearest vessel's surface; infinite where none is near."""
        found = np.full(len(points), np.inf)
        for tree, radius in self._axes:
            apart, index = tree.query(points, distance_upper_bound=_FAR_MM + radius.max())
            near = np.isfinite(apart)
            found[near] = np.minimum(found[near], apart[near] - radius[index[near]])
        return found

    def candidates(self, setting: str, radius: float, rng: np.random.Generator) -> Doubles:
        """Possible centres (n, 3) of a nodule; the distance to other vessels is not checked."""
        low = np.array([_SIDE_MM, 0.0, END_MM])
        high = np.array([self.side_mm - _SIDE_MM, self.side_mm, self.depth_mm - END_MM])
        points = rng.uniform(low, high, (6000, 3))
        if setting == "pleura":
            front, back = self.walls(points[:, 0], points[:, 2])
            # The surface leans by up to a fifth, so a distance along y exceeds that along the normal.
            lean = np.hypot(1.0, np.hypot(3.0 / 19.0 * np.cos(points[:, 0] / 19.0),
                                          4.0 / 23.0 * np.cos(points[:, 2] / 23.0 + 1.0)))  # fmt: skip
            at_front = rng.random(len(points)) < 0.5
            points[:, 1] = np.where(at_front, front + radius * lean, back - radius * lean)
            return points
        if setting == "vessel":
            tubes = self.vessels
            fit = np.flatnonzero((tubes.stop_radius > 0.7) & (tubes.stop_radius < 2.0))
            if not fit.size:
                return np.zeros((0, 3))
            chosen = rng.choice(fit, len(points))
            axis = tubes.stop[chosen] - tubes.start[chosen]
            sideways = np.cross(axis, rng.normal(size=axis.shape))
            sideways /= np.linalg.norm(sideways, axis=1, keepdims=True) + 1e-9
            points = tubes.stop[chosen] + sideways * (radius + tubes.stop_radius[chosen])[:, None]
            held = np.all((points > low) & (points < high), axis=1) & (self.inside(points) > radius + _CLEAR_MM)
            return np.asarray(points[held], dtype=np.float64)
        return np.asarray(points[self.inside(points) > 1.05 * radius + _CLEAR_MM], dtype=np.float64)


def _paint(site: _Site, grid: Geometry, seed: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """HU without nodules and blur, and a mask of voxels that hold only lung."""
    from scipy.ndimage import gaussian_filter, zoom

    depth, height, width = grid.shape
    rng = np.random.default_rng([seed, 2])
    hu = np.full(grid.shape, LUNG_HU, dtype=np.float32)
    for grain_mm, strength in ((14.0, 8.0), (3.2, 12.0)):
        coarse = rng.standard_normal([int(n * step / grain_mm) + 4 for n, step in zip(grid.shape, _STEPS, strict=True)])
        texture = zoom(gaussian_filter(coarse, 0.5), [grain_mm / step for step in _STEPS], order=1)
        texture = texture[:depth, :height, :width]
        hu += (strength * texture / texture.std()).astype(np.float32)
    x = (np.arange(width) * PIXEL_MM).astype(np.float32)
    y = (np.arange(height) * PIXEL_MM).astype(np.float32)[:, None]
    other = np.zeros(grid.shape, dtype=np.float32)
    fine = ((np.arange(_PLANES) - 0.5 * (_PLANES - 1)) / _PLANES * THIN_MM).astype(np.float32)
    for index in range(depth):
        for z in index * THIN_MM + fine:
            front, back = site.walls(x, np.full_like(x, z))
            outside = np.maximum(front - y, y - back)
            other[index] += np.clip(0.5 + outside / PIXEL_MM, 0.0, 1.0).astype(np.float32) / _PLANES
    hu += other * (np.float32(WALL_HU) - hu)
    blood = np.zeros(grid.shape, dtype=np.float32)
    _paint_tubes(blood, site.vessels, fine)
    hu += blood * (np.float32(BLOOD_HU) - hu)
    lung = _blurred(np.maximum(other, blood)) < 0.01
    return hu, lung


_STEPS = (THIN_MM, PIXEL_MM, PIXEL_MM)


def _paint_tubes(share: Floats, tubes: Tubes, fine: Floats) -> None:
    """Share of each voxel that tubes fill, the larger where two overlap."""
    steps = np.array(_STEPS[::-1])
    for start, stop, r0, r1 in zip(tubes.start, tubes.stop, tubes.start_radius, tubes.stop_radius, strict=True):
        reach = max(r0, r1) + PIXEL_MM
        low = np.maximum(0, np.floor((np.minimum(start, stop) - reach) / steps)).astype(int)
        high = np.minimum(share.shape[::-1], np.ceil((np.maximum(start, stop) + reach) / steps) + 1).astype(int)
        if np.any(low >= high):
            continue
        z = (np.arange(low[2], high[2])[:, None] * THIN_MM + fine).reshape(-1, 1, 1)
        y = np.arange(low[1], high[1])[:, None] * PIXEL_MM
        x = np.arange(low[0], high[0]) * PIXEL_MM
        axis = stop - start
        dx, dy, dz = x - start[0], y - start[1], z - start[2]
        t = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / (axis @ axis + 1e-9), 0.0, 1.0)
        away = np.sqrt((dx - t * axis[0]) ** 2 + (dy - t * axis[1]) ** 2 + (dz - t * axis[2]) ** 2)
        covered = np.clip(0.5 - (away - (r0 + t * (r1 - r0))) / PIXEL_MM, 0.0, 1.0)
        # A tube thinner than a pixel cannot fill it.
        covered *= min(1.0, (2.0 * max(r0, r1) / PIXEL_MM) ** 0.8)
        mean = covered.reshape(high[2] - low[2], len(fine), high[1] - low[1], high[0] - low[0]).mean(axis=1)
        target = share[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        np.maximum(target, mean, out=target)


def _ball_share(nodule: InsertedNodule, grid: Geometry) -> tuple[tuple[slice, slice, slice], Floats]:
    """Window of voxels around a ball, and the share of each voxel that it fills."""
    radius = 0.5 * nodule.diameter_mm
    windows, axes = [], []
    for centre, step, size in zip(nodule.centre_mm[::-1], _STEPS, grid.shape, strict=True):
        low = max(0, int(np.floor((centre - radius) / step)))
        high = min(size, int(np.ceil((centre + radius) / step)) + 1)
        windows.append(slice(low, high))
        inner = (np.arange(_FINE) - 0.5 * (_FINE - 1)) / _FINE
        axes.append((np.arange(low, high)[:, None] + inner).ravel() * step - centre)
    z, y, x = axes
    # A surface softened over one sub-voxel makes the share smooth.
    away = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2) - radius
    share = np.clip(0.5 - away * _FINE / PIXEL_MM, 0.0, 1.0)
    counts = [window.stop - window.start for window in windows]
    shaped = share.reshape(counts[0], _FINE, counts[1], _FINE, counts[2], _FINE)
    return (windows[0], windows[1], windows[2]), shaped.mean(axis=(1, 3, 5)).astype(np.float32)


def _blurred(hu: Floats) -> Floats:
    """The volume with the in-plane blur of the scanner."""
    from scipy.ndimage import gaussian_filter

    sigma = BLUR_MM / PIXEL_MM
    return np.asarray(np.stack([gaussian_filter(plane, sigma) for plane in hu]), dtype=np.float32)
