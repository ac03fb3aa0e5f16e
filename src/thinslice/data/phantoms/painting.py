"""Rendering of the thorax phantom: planes are painted organ over organ, with edges one pixel wide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thinslice.data.phantoms import anatomy
from thinslice.data.phantoms.noise import grain
from thinslice.data.phantoms.thorax import Phantom
from thinslice.data.phantoms.vessel_tree import Tubes
from thinslice.errors import InputError, UsageError
from thinslice.geometry import AXIAL_DIRECTION, Geometry
from thinslice.typing import Doubles, Floats
from thinslice.volume import Provenance, Volume

AIR_HU, FAT_HU, MUSCLE_HU, BLOOD_HU, CONTRAST_HU = -1000.0, -102.0, 52.0, 42.0, 230.0
"""HU of the main materials of the chest; contrast: blood with contrast agent."""


AORTA = (
    [(6, -22, 4), (-8, -26, 24), (-14, -24, 45), (-10, -14, 60), (2, 4, 70), (14, 24, 71), (23, 42, 62), (26, 52, 44),
     (25, 54, 10), (22, 54, -30), (16, 52, -70), (10, 50, -130)],
    [13.5, 15, 15, 14, 13.5, 13, 12.5, 12, 11.5, 11, 11, 10.5],
)  # fmt: skip
"""The aorta's course, (x, y, z) mm, and its radii in mm."""

VENA_CAVA = ([(-30, -6, 10), (-29, -8, 40), (-27, -8, 75), (-28, -14, 140)], [10, 9, 8.5, 8])
"""Course and radii of the upper vena cava, as for the aorta."""


SLAB_SLICES = 8
"""Thin slices that are painted at a time, to save memory."""


def render(phantom: Phantom, geometry: Geometry, *, supersample: int = 2, noise: bool = True) -> Volume:
    """A simulated scan of the phantom on a grid.

    Edges are soft over about a pixel in plane, and a slice is the average of `supersample` planes. Noise has the
    spectrum of a reconstruction kernel and is drawn slice by slice.

    Args:
        phantom: phantom to render.
        geometry: axial grid (depth up, height to the back, width to the left) of known spacing.
        supersample: planes per slice.
        noise: whether the phantom's noise is added.

    Returns:
        Volume of int16 HU within [-1024, 3071].

    Raises:
        InputError: a grid that is not axial or of unknown spacing; use `phantom_grid`.
        UsageError: `supersample` below 1.
    """
    if supersample < 1:
        raise UsageError(f"supersample must be at least 1, not {supersample}.")
    if None in geometry.spacing_mm or not np.allclose(geometry.direction, AXIAL_DIRECTION):
        raise InputError("The phantom is painted on an axial grid of known spacing; see phantom_grid().")
    from scipy.ndimage import gaussian_filter

    depth, height, width = geometry.shape
    hu = np.empty(geometry.shape, dtype=np.int16)
    canvas = Canvas(phantom, geometry)
    fine = (np.arange(supersample) - 0.5 * (supersample - 1)) / supersample * geometry.spacing_mm[0]
    for start in range(0, depth, SLAB_SLICES):
        stop = min(depth, start + SLAB_SLICES)
        centres = geometry.origin_mm[2] + np.arange(start, stop) * geometry.spacing_mm[0]
        painted = canvas.paint((centres[:, None] + fine).ravel())
        slices = painted.reshape(stop - start, supersample, height, width).mean(axis=1)
        for index, plane in zip(range(start, stop), slices, strict=True):
            blurred = gaussian_filter(plane, 0.45)
            if noise and phantom.noise_hu > 0:
                blurred += _noise(phantom, geometry, index, blurred)
            hu[index] = np.clip(np.round(blurred), -1024, 3071)
    return Volume(hu, geometry, Provenance(details={"phantom": "thorax", "seed": phantom.seed}))


class Canvas:
    """Painter of planes of one phantom on one grid.

    Args:
        phantom: phantom to paint.
        geometry: axial grid of known spacing.
    """

    def __init__(self, phantom: Phantom, geometry: Geometry) -> None:
        _, height, width = geometry.shape
        _, step_y, step_x = geometry.spacing_mm
        x0, y0, _ = geometry.origin_mm
        self.phantom = phantom
        self.step = float(min(step_x or 1.0, step_y or 1.0))
        self.x = (x0 + np.arange(width) * (step_x or 1.0)).astype(np.float32)[None, :]
        self.y = (y0 + np.arange(height) * (step_y or 1.0)).astype(np.float32)[:, None]
        # Boxes of central organs, to save time: x from, to, y from, to in mm.
        self.heart_box = self._box(-70.0, 110.0, -100.0, 62.0)
        self.gullet_box = self._box(-8.0, 20.0, 30.0, 52.0)
        self.spine_box = self._box(-48.0, 48.0, 50.0, 136.0)
        self.breastbone_box = self._box(-42.0, 42.0, -112.0, -60.0)
        self.fat = anatomy.fat_thickness(self.x, self.y)
        self.dome = anatomy.dome(self.x, self.y)
        self.blood = CONTRAST_HU if phantom.contrast else BLOOD_HU
        rng = np.random.default_rng([phantom.seed, 1])
        self.lattice = rng.standard_normal((48, 48, 48)).astype(np.float32)

    def paint(self, heights_mm: Doubles) -> Floats:
        """HU at several heights z, (planes, height, width); tubes and nodules are painted on all planes at once."""
        planes = np.stack([self._plane(float(z)) for z in heights_mm])
        z = heights_mm.astype(np.float32)
        p = self.phantom
        everything = Tubes.joined([p.arteries, p.veins])
        # The walls of airways: 1.12 times as thick plus 0.35 mm.
        start_radius, stop_radius = (1.12 * r + 0.35 for r in (p.airways.start_radius, p.airways.stop_radius))
        self._tubes(planes, z, Tubes(p.airways.start, p.airways.stop, start_radius, stop_radius), 10.0)
        self._tubes(planes, z, everything, self.blood)
        self._tubes(planes, z, p.airways, AIR_HU + 15.0)
        for nodule in p.nodules:
            centre, radius = np.array(nodule.centre_mm), 0.5 * nodule.diameter_mm
            self._patch(
                planes, z, centre - radius, centre + radius, _capsule(centre, centre, radius, radius), nodule.hu, 1.0
            )
        return planes

    def _plane(self, z: float) -> Floats:
        x, y, blood = self.x, self.y, self.blood
        hu = np.full((y.size, x.size), AIR_HU, dtype=np.float32)
        skin, cage = anatomy.body(x, y, z), anatomy.cage(x, y, z)
        self._fill(hu, anatomy.table(x, y), -330.0)
        self._fill(hu, skin, 15.0)
        self._fill(hu, skin + 1.8, FAT_HU + 6.0 * self._texture(z, 9.0))
        # Muscle streaked with fat, and fat between its layers.
        muscle = MUSCLE_HU + 9.0 * self._texture(z, 3.5) + 7.0 * self._texture(z, 11.0)
        self._fill(hu, np.maximum(skin + self.fat, -(cage - 2.0)), muscle)
        layers = np.minimum(np.abs(cage - 15.5), np.abs(cage - 25.0 - 3.0 * np.sin(x / 17.0)))
        self._fill(hu, np.maximum(layers - 1.0, skin + self.fat + 2.0), FAT_HU + 25.0)
        self._fill(hu, cage - 1.0, FAT_HU)
        self._abdomen(hu, cage, z)
        lung = anatomy.lung(x, y, z)
        self._fill(hu, lung - 0.8, 10.0)
        air = -868.0 + 0.22 * y + 16.0 * self._texture(z, 14.0) + 20.0 * self._texture(z, 3.2)
        self._fill(hu, lung, air.astype(np.float32))
        fissure = np.maximum(anatomy.fissures(x, y, z) - 0.35, lung + 1.0)
        self._fill(hu, fissure, -560.0)
        self._heart(hu, z, blood)
        self._great_vessels(hu, z, blood)
        self._bones(hu, cage, z)
        return hu

    def _abdomen(self, hu: Floats, cage: Floats, z: float) -> None:
        """Diaphragm and, under it, liver, spleen and stomach in fat."""
        x, y = self.x, self.y
        under = np.maximum(0.85 * (np.float32(z) - self.dome), cage + 1.5)
        self._fill(hu, under, MUSCLE_HU)
        self._fill(hu, under + 2.5, FAT_HU)
        liver = np.maximum(under + 3.0, x - 22.0 + 0.35 * (y + 40.0) + 0.2 * (z + 50.0))
        tissue = (108.0 if self.phantom.contrast else 58.0) + 6.0 * self._texture(z, 5.0)
        self._fill(hu, liver, tissue)
        spleen = np.maximum(anatomy.ellipsoid(x - 92.0, y - 38.0, z + 78.0, (34.0, 42.0, 44.0)), under + 4.0)
        self._fill(hu, spleen, 118.0 if self.phantom.contrast else 48.0)
        stomach = np.maximum(anatomy.ellipsoid(x - 66.0, y + 18.0, z + 72.0, (42.0, 44.0, 34.0)), under + 4.0)
        self._fill(hu, stomach, 45.0)
        # The patient lies on the back, so gas gathers in front.
        self._fill(hu, np.maximum(stomach + 4.0, y + 12.0), AIR_HU)

    def _heart(self, plane: Floats, z: float, blood: float) -> None:
        if not -75.0 < z < 50.0:
            return
        rows, columns = self.heart_box
        hu, x, y = plane[rows, columns], self.x[:, columns], self.y[rows]
        along, across, up = anatomy.heart_axes(x, y, z)
        outer = anatomy.heart(x, y, z)
        self._fill(hu, outer + 1.0, 25.0)
        self._fill(hu, outer + 2.2, FAT_HU)
        muscle = 96.0 if self.phantom.contrast else 46.0
        left = anatomy.ellipsoid(along - 10.0, across - 9.0, up - 2.0, (45.0, 30.0, 32.0))
        right = anatomy.ellipsoid(along - 4.0, across + 18.0, up + 6.0, (46.0, 21.0, 33.0))
        atria = anatomy.blend(
            anatomy.ellipsoid(x + 4.0, y - 14.0, z - 4.0, (34.0, 19.0, 24.0)),
            anatomy.ellipsoid(x + 26.0, y + 20.0, z + 6.0, (23.0, 27.0, 32.0)),
            4.0,
        )
        walls = anatomy.blend(np.minimum(left, right), atria, 5.0)
        self._fill(hu, walls, muscle)
        for cavity, share in ((left + 10.0, 1.0), (right + 4.0, 0.9)):
            self._fill(hu, cavity, blood * share)
        septum = np.float32(0.9) - np.abs(x + 13.0 + 0.55 * (y - 2.0) + 3.0 * np.sin(y / 9.0))
        self._fill(hu, np.maximum(atria + 2.2, septum), blood)

    def _great_vessels(self, hu: Floats, z: float, blood: float) -> None:
        for points, radii in (AORTA, VENA_CAVA):
            self._tubes(hu[None], np.array([z], np.float32), Tubes.along(points, np.add(radii, 1.2)), MUSCLE_HU)
        for points, radii in (AORTA, VENA_CAVA):
            self._tubes(hu[None], np.array([z], np.float32), Tubes.along(points, radii), blood)
        rows, columns = self.gullet_box
        gullet = np.hypot((self.x[:, columns] - 6.0) / 1.35, self.y[rows] - 41.0) - 5.5
        self._fill(hu[rows, columns], gullet, 38.0)
        self._fill(hu[rows, columns], gullet + 4.6, -350.0)

    def _bones(self, plane: Floats, cage: Floats, z: float) -> None:
        everywhere = (slice(None), slice(None))
        marrow = np.asarray(170.0 + 55.0 * self._texture(z, 1.7), dtype=np.float32)
        bone, cartilage = anatomy.rib(self.x, self.y, z, cage)
        self._fill(plane, cartilage, 105.0)
        rows, columns = self.breastbone_box
        for distance, box, shell, hard in (
            (bone, everywhere, 1.1, 980.0),
            (anatomy.shoulder_blade(self.x, self.y, z, cage), everywhere, 1.3, 900.0),
            (anatomy.breastbone(self.x[:, columns], self.y[rows], z), self.breastbone_box, 1.0, 620.0),
        ):
            self._fill(plane[box], distance, hard)
            self._fill(plane[box], distance + np.float32(shell), marrow[box])
        rows, columns = self.spine_box
        hu, x, y, marrow = plane[rows, columns], self.x[:, columns], self.y[rows], marrow[rows, columns]
        bodies, discs, arch = anatomy.vertebra(x, y, z)
        self._fill(hu, anatomy.spinal_canal(x, y), 12.0)
        self._fill(hu, anatomy.spinal_canal(x, y) + 3.2, 42.0)
        self._fill(hu, discs, 85.0)
        self._fill(hu, bodies, 640.0)
        self._fill(hu, bodies + 1.0, marrow + 25.0)
        self._fill(hu, arch, 800.0)
        self._fill(hu, arch + 1.4, marrow + 140.0)

    def _box(self, x_from: float, x_to: float, y_from: float, y_to: float) -> tuple[slice, slice]:
        """(rows, columns) of the pixels in a box, LPS mm."""
        columns = np.searchsorted(self.x[0], (x_from, x_to))
        rows = np.searchsorted(self.y[:, 0], (y_from, y_to))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def _fill(self, hu: Floats, distance: Floats, value: Floats | float) -> None:
        """Paint where the distance is negative, with an edge one pixel wide."""
        covered = np.clip(np.float32(0.5) - distance / np.float32(self.step), 0.0, 1.0)
        hu += covered * (value - hu)

    def _texture(self, z: float, grain_mm: float) -> Floats:
        """Smooth random values of about unit standard deviation, by position, not by grid; period 48 grains."""
        size = self.lattice.shape[0]
        at_x, at_y, at_z = self.x[0] / grain_mm, self.y[:, 0] / grain_mm, z / grain_mm + grain_mm * 7.3
        x0, y0, z0 = np.floor(at_x).astype(int), np.floor(at_y).astype(int), int(np.floor(at_z))
        fx, fy, fz = (at_x - x0)[None, :], (at_y - y0)[:, None], at_z - z0
        level = (1 - fz) * self.lattice[z0 % size] + fz * self.lattice[(z0 + 1) % size]
        rows = (1 - fy) * level[y0 % size] + fy * level[(y0 + 1) % size]
        return np.asarray((1 - fx) * rows[:, x0 % size] + fx * rows[:, (x0 + 1) % size], dtype=np.float32) * 1.6

    def _tubes(self, planes: Floats, z: Floats, tubes: Tubes, value: float) -> None:
        if not len(tubes):
            return
        for i in tubes.near(float(z[0]) - self.step, float(z[-1]) + self.step):
            start, stop = tubes.start[i], tubes.stop[i]
            r0, r1 = float(tubes.start_radius[i]), float(tubes.stop_radius[i])
            reach = max(r0, r1)
            # A tube thinner than a pixel cannot fill it.
            strength = min(1.0, (2.0 * max(r0, r1) / self.step) ** 0.8)
            low, high = np.minimum(start, stop) - reach, np.maximum(start, stop) + reach
            self._patch(planes, z, low, high, _capsule(start, stop, r0, r1), value, strength)

    def _patch(
        self,
        planes: Floats,
        z: Floats,
        low: Doubles,
        high: Doubles,
        distance: Callable[[Floats, Floats, Floats], Floats],
        value: float,
        strength: float,
    ) -> None:
        """Paint a small object within its box [low, high], LPS mm."""
        soft = 0.5 * self.step
        window = []
        for axis, centres in ((2, z), (1, self.y[:, 0]), (0, self.x[0])):
            begin = int(np.searchsorted(centres, low[axis] - soft))
            end = int(np.searchsorted(centres, high[axis] + soft, side="right"))
            if begin >= end:
                return
            window.append(slice(begin, end))
        at_z, at_y, at_x = window
        found = distance(self.x[:, at_x][None], self.y[at_y][None], z[at_z][:, None, None])
        covered = np.float32(strength) * np.clip(np.float32(0.5) - found / np.float32(self.step), 0.0, 1.0)
        target = planes[at_z, at_y, at_x]
        target += covered * (np.float32(value) - target)


def _capsule(start: Doubles, stop: Doubles, r0: float, r1: float) -> Callable[[Floats, Floats, Floats], Floats]:
    axis = (stop - start).astype(np.float32)
    squared = float(axis @ axis) + 1e-9
    (a, b, c), (u, v, w) = start.astype(np.float32), axis

    def distance(x: Floats, y: Floats, z: Floats) -> Floats:
        dx, dy, dz = x - a, y - b, z - c
        t = np.clip((dx * u + dy * v + dz * w) / squared, 0.0, 1.0)
        away = np.sqrt((dx - t * u) ** 2 + (dy - t * v) ** 2 + (dz - t * w) ** 2)
        return np.asarray(away - (r0 + t * (r1 - r0)), dtype=np.float32)

    return distance


def _noise(phantom: Phantom, geometry: Geometry, index: int, hu: Floats) -> Floats:
    """Noise with the spectrum of a reconstruction kernel: strongest in the middle of the body, weak in air."""
    height, width = hu.shape
    # Seeded by position, not index, so that a part of a volume has the noise of the whole.
    place = round((geometry.origin_mm[2] + index * geometry.spacing_mm[0]) * 1000) % 2**32
    rng = np.random.default_rng([phantom.seed, 2, place])
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    middle = 0.7 + 0.45 * np.exp(-2.0 * (x**2 + y**2))
    local = np.where(hu < -950, 0.45, np.where(hu < -500, 0.8, 1.0))
    return np.asarray(phantom.noise_hu * middle * local * grain((height, width), rng), dtype=np.float32)
