"""Signed distances to the organs of a chest, in millimetres, for the thorax phantom.

Coordinates are LPS mm about the middle of the chest: x to the patient's left, y to the back, z up; z = 0 lies at the
level of the left atrium. Every function takes arrays that broadcast and returns a distance, negative inside. Distances
are accurate near a surface, as painting with soft edges needs, and rough far from it.

Sizes are those of an adult; the shapes are formulas of this project and come from no patient.
"""

from __future__ import annotations

import numpy as np

from thinslice.typing import Floats

RIB_PITCH_MM = 25.0
"""Vertical distance of neighbouring ribs."""

VERTEBRA_PITCH_MM = 26.0
"""Vertical distance of neighbouring vertebrae, a disc included."""

SPINE = (0.0, 74.0)
"""Axis of the vertebral bodies, (x, y)."""


def superellipse(x: Floats, y: Floats, a: float, b: float, power: float = 2.3) -> Floats:
    """Distance along the ray from the centre to a superellipse of half axes a, b.

    >>> superellipse(np.float32([20, 5]), np.float32([0, 0]), 10.0, 8.0).round(3).tolist()
    [10.0, -5.0]
    """
    scale = (np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1.0 / power)
    return np.asarray(np.hypot(x, y) * (1.0 - 1.0 / np.maximum(scale, 1e-3)), dtype=np.float32)


def ellipsoid(x: Floats, y: Floats, z: Floats | float, radii: tuple[float, float, float]) -> Floats:
    """Distance to an ellipsoid about the origin, to first order.

    >>> ellipsoid(np.float32([12.0]), np.float32([0.0]), 0.0, (10.0, 5.0, 5.0)).round(3).tolist()
    [2.0]
    """
    a, b, c = radii
    k0 = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    k1 = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
    return np.asarray(k0 * (k0 - 1.0) / np.maximum(k1, 1e-6), dtype=np.float32)


def box(x: Floats, y: Floats, half_x: float, half_y: float, rounding: float) -> Floats:
    """Distance to a rounded rectangle about the origin."""
    dx, dy = np.abs(x) - (half_x - rounding), np.abs(y) - (half_y - rounding)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0) - rounding, dtype=np.float32)


def blend(a: Floats, b: Floats, reach: float) -> Floats:
    """Union of two shapes whose seam is rounded over `reach` mm."""
    h = np.clip(0.5 + 0.5 * (b - a) / reach, 0.0, 1.0)
    return np.asarray(b * (1.0 - h) + a * h - reach * h * (1.0 - h), dtype=np.float32)


def body(x: Floats, y: Floats, z: Floats | float) -> Floats:
    """The skin."""
    height = np.asarray(z, dtype=np.float32)
    shoulders = np.asarray(1.0 + 0.05 * np.clip((height - 30.0) / 80.0, 0.0, 1.0), dtype=np.float32)
    angle = np.arctan2(x, -y)
    # Pectoral muscles in front and a furrow along the spine, a little uneven between the sides.
    bumps = 3.0 * np.cos(4.0 * angle) + 1.5 * np.cos(3.0 * angle + 0.4) + 1.2 * np.sin(2.0 * angle)
    furrow = 5.0 * np.exp(-((x / 16.0) ** 2)) * np.asarray(y > 60.0, dtype=np.float32)
    outline = superellipse(x / shoulders, y - 10.0, 166.0, 121.0, 2.35)
    return np.asarray(outline - bumps + furrow, dtype=np.float32)


def table(x: Floats, y: Floats) -> Floats:
    """The scanner's table: a thin curved shell under the back."""
    sheet = np.abs(y - 149.0 + (x / 68.0) ** 2 * 4.0) - 1.1
    lower = np.abs(y - 171.0 + (x / 68.0) ** 2 * 7.5) - 1.1
    return np.asarray(np.minimum(sheet, lower), dtype=np.float32)


def fat_thickness(x: Floats, y: Floats) -> Floats:
    """Fat under the skin: thicker at the flanks and in front than over the shoulder blades."""
    angle = np.arctan2(x, -y)
    return np.asarray(11.0 + 4.0 * np.cos(2.0 * angle + np.pi) + 3.0 * np.cos(angle), dtype=np.float32)


def cage(x: Floats, y: Floats, z: Floats | float) -> Floats:
    """The inside of the ribs; narrows towards the neck."""
    height = np.asarray(z, dtype=np.float32)
    narrow = 1.0 - 0.45 * np.clip((height - 30.0) / 130.0, 0.0, 1.0) ** 2
    return superellipse(x / narrow, (y + 2.0) / narrow, 137.0, 91.0, 2.35) * np.asarray(narrow, dtype=np.float32)


def heart(x: Floats, y: Floats, z: Floats | float) -> Floats:
    """The outside of the heart: an ellipsoid whose long axis points left, forward and down."""
    along, across, up = heart_axes(x, y, z)
    return ellipsoid(along, across, up, (64.0, 45.0, 47.0))


def heart_axes(x: Floats, y: Floats, z: Floats | float) -> tuple[Floats, Floats, Floats]:
    """Coordinates along the heart's own axes about its middle, base to apex first."""
    dx, dy, dz = x - 20.0, y + 24.0, np.asarray(z + 12.0, dtype=np.float32)
    along = 0.78 * dx - 0.45 * dy - 0.435 * dz
    across = 0.5 * dx + 0.866 * dy + 0.0 * dz
    up = 0.377 * dx - 0.2175 * dy + 0.9 * dz
    return np.asarray(along), np.asarray(across), np.asarray(up)


def mediastinum(x: Floats, y: Floats, z: Floats | float) -> Floats:
    """The tissue between the lungs: a column from breastbone to spine, the heart, the aorta's bed, the spine."""
    height = np.asarray(z, dtype=np.float32)
    behind = 1.0 / (1.0 + np.exp(-(y + 42.0) / 9.0))
    top = np.clip((height - 45.0) / 50.0, 0.0, 1.0)
    half = 4.0 + (20.0 + 6.0 * top) * behind + 6.0 * top * (1.0 - behind)
    column = np.abs(x - 1.0) - half
    shape = blend(np.asarray(column, dtype=np.float32), heart(x, y, z), 14.0)
    spine = np.hypot(x - SPINE[0], y - SPINE[1] - 4.0) - 23.0
    shape = blend(shape, np.asarray(spine, dtype=np.float32), 8.0)
    aorta = np.hypot(x - 25.0, y - 52.0) - 15.0 + 60.0 * np.clip((height - 55.0) / 40.0, 0.0, 1.0)
    shape = blend(shape, np.asarray(aorta, dtype=np.float32), 6.0)
    cava = np.hypot(x + 28.0, y + 8.0) - 12.5
    shape = blend(shape, np.asarray(cava, dtype=np.float32), 7.0)
    trunk = np.sqrt((x - 22.0) ** 2 + (y + 28.0) ** 2 + ((height - 26.0) / 1.15) ** 2) - 20.0
    shape = blend(shape, np.asarray(trunk, dtype=np.float32), 8.0)
    arch = ellipsoid(x - 13.0, y - 20.0, height - 66.0, (24.0, 44.0, 17.0))
    shape = blend(shape, arch, 9.0)
    hila = np.sqrt(((np.abs(x) - 30.0) / 1.3) ** 2 + (y - 4.0) ** 2 + ((height - 14.0) / 1.6) ** 2) - 13.0
    return blend(shape, np.asarray(hila, dtype=np.float32), 10.0)


def dome(x: Floats, y: Floats) -> Floats:
    """Height z of the diaphragm, higher on the right; it sinks under the heart and towards the ribs."""
    right = -22.0 - 0.0050 * (x + 62.0) ** 2 - 0.0062 * (y + 6.0) ** 2
    left = -36.0 - 0.0055 * (x - 66.0) ** 2 - 0.0062 * (y + 4.0) ** 2
    higher = -blend(np.asarray(-right, dtype=np.float32), np.asarray(-left, dtype=np.float32), 10.0)
    bed = 16.0 * np.exp(-((x - 24.0) ** 2 + (y + 32.0) ** 2) / 48.0**2)
    return np.asarray(higher - bed, dtype=np.float32)


def lung(x: Floats, y: Floats, z: Floats | float) -> Floats:
    """Both lungs."""
    below = 0.8 * (dome(x, y) - np.asarray(z, dtype=np.float32))
    return np.asarray(np.maximum(np.maximum(cage(x, y, z) + 1.5, -mediastinum(x, y, z)), below), dtype=np.float32)


def fissures(x: Floats, y: Floats, z: Floats | float) -> Floats:
    """Distance to the sheets between the lobes: oblique in both lungs, horizontal in the right one."""
    height = np.asarray(z, dtype=np.float32)
    swing = 5.0 * np.sin(x / 31.0) + 4.0 * np.sin(y / 23.0 + 1.0)
    oblique = np.abs(0.62 * (height - 20.0) - 0.785 * (y - 2.0) + swing)
    level = np.abs(height - 16.0 + 3.0 * np.sin(x / 19.0) + 0.08 * y)
    front = 0.62 * (height - 20.0) - 0.785 * (y - 2.0) + swing > 0
    return np.asarray(np.where((x < 0) & front, np.minimum(oblique, level), oblique), dtype=np.float32)


def rib(x: Floats, y: Floats, z: float, distance_to_cage: Floats) -> tuple[Floats, Floats]:
    """Ribs and the cartilage between ribs and breastbone.

    Returns:
        Distance to bone and to cartilage.
    """
    angle = np.degrees(np.arctan2(np.abs(x), y + 2.0))  # 0 at the back, 180 in front
    # A rib leaves the spine, falls on its way round, and its cartilage rises again to the breastbone.
    fall = 62.0 * np.clip((angle - 8.0) / 125.0, 0.0, 1.0) ** 1.15 - 34.0 * np.clip((angle - 138.0) / 42.0, 0.0, 1.0)
    phase = (np.float32(z) + fall + 7.0) / RIB_PITCH_MM
    vertical = (phase - np.round(phase)) * RIB_PITCH_MM * 0.86
    section = ellipsoid(
        np.asarray(distance_to_cage - 4.6, dtype=np.float32),
        np.asarray(vertical, dtype=np.float32),
        0.0,
        (3.6, 6.4, 1.0),
    )
    end = np.radians(angle - 139.0) * 100.0
    start = np.radians(11.0 - angle) * 90.0
    bone = np.maximum(np.maximum(section, end), start)
    cartilage = np.maximum(np.maximum(section + 0.6, -end), np.radians(angle - 172.0) * 90.0)
    return np.asarray(bone, dtype=np.float32), np.asarray(cartilage, dtype=np.float32)


def shoulder_blade(x: Floats, y: Floats, z: float, distance_to_cage: Floats) -> Floats:
    """Thin curved plates behind the upper ribs."""
    angle = np.degrees(np.arctan2(np.abs(x), y + 2.0))
    plate = np.abs(distance_to_cage - 20.0 - 0.08 * (angle - 45.0)) - 2.0 - 2.0 * np.exp(-(((angle - 62.0) / 6.0) ** 2))
    lower = 8.0 - z - 0.8 * np.abs(angle - 46.0)
    inner = np.radians(27.0 - angle + 0.12 * z) * 110.0
    outer = np.radians(angle - 66.0) * 110.0
    return np.asarray(np.maximum(np.maximum(plate, 0.7 * lower), np.maximum(inner, outer)), dtype=np.float32)


def breastbone(x: Floats, y: Floats, z: float) -> Floats:
    """The sternum: a flat bar in front, wider at its upper end."""
    half = 14.0 + 9.0 * float(np.clip((z - 70.0) / 30.0, 0.0, 1.0)) + 2.0 * float(np.sin(z / 8.0))
    half -= 9.0 * float(np.clip((-12.0 - z) / 26.0, 0.0, 1.0)) ** 2
    front = -97.0 + 0.06 * max(z, 0.0) + 20.0 * float(np.clip((z - 40.0) / 100.0, 0.0, 1.0))
    return np.asarray(np.maximum(box(x, y - front, half, 5.2, 4.0), -38.0 - z), dtype=np.float32)


def vertebra(x: Floats, y: Floats, z: float) -> tuple[Floats, Floats, Floats]:
    """The spine at one height.

    Returns:
        Distances to vertebral bodies, to the discs between them, and to the bony arch with its processes.
    """
    phase = (z + 4.0) / VERTEBRA_PITCH_MM
    height = (phase - round(phase)) * VERTEBRA_PITCH_MM
    dx, dy = x - SPINE[0], y - SPINE[1]
    waist = 1.6 * (1.0 - (height / 10.0) ** 2)
    outline = superellipse(dx, dy + 1.0, 17.5 - waist, 14.0 - waist, 2.6)
    bodies = np.maximum(outline, abs(height) - 10.2)
    discs = np.maximum(outline + 0.8, 10.4 - abs(height))
    canal = np.hypot(dx / 1.1, dy - 21.0)
    ring = np.abs(canal - 11.2) - 2.6
    arch = np.maximum(ring, 0.7 * (abs(height + 3.0) - 8.5))
    # The spinous process points back and down, so further back it belongs to a lower height.
    drop = height + 3.0 + 0.75 * (dy - 33.0)
    drop = drop - VERTEBRA_PITCH_MM * np.round(drop / VERTEBRA_PITCH_MM)
    spinous = np.maximum(box(dx, dy - 38.0, 2.8, 9.5, 2.0), np.abs(drop) - 7.0)
    swept = np.abs(dx) - 22.0
    transverse = np.maximum(box(swept, dy - 21.0 - 0.35 * (np.abs(dx) - 12.0), 11.5, 4.2, 3.0), abs(height - 3.0) - 5.5)
    arch = np.minimum(np.minimum(arch, spinous), transverse)
    return (
        np.asarray(bodies, dtype=np.float32),
        np.asarray(discs, dtype=np.float32),
        np.asarray(arch, dtype=np.float32),
    )


def spinal_canal(x: Floats, y: Floats) -> Floats:
    """The canal behind the vertebral bodies."""
    return np.asarray(np.hypot((x - SPINE[0]) / 1.1, y - SPINE[1] - 21.0) - 8.4, dtype=np.float32)
