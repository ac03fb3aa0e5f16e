"""Nodules, shells and metal inserted into training crops, so that few patients show what many would.

A ball of soft tissue or ground glass in lung, a thin curved plate of bone and a piece of metal are rare in the training
volumes or absent from them. An inserted object is homogeneous, has a soft edge, and is neither anatomy nor the phantom
in which nodules are measured (`thinslice.data.phantoms.nodule_field`). Sizes are in mm: a ball stays a ball on an
anisotropic grid.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from thinslice.intensity import DENSER_THAN_LUNG_HU

NODULES = 6
"""Largest number of nodules in a crop; every number from 1 on is equally likely."""

SOLID_MM, GROUND_GLASS_MM = (3.0, 10.0), (4.0, 16.0)
"""Ranges of the mean diameters of solid and of ground-glass nodules, mm; logarithmically even."""

NODULE_AXES = (0.85, 1.15)
"""Range of an axis of a nodule over its mean diameter."""

SOLID_HU, GROUND_GLASS_HU = (0.0, 80.0), (-750.0, -350.0)
"""Ranges of the densities of solid and of ground-glass nodules, HU."""

SOLID_SHARE = 0.4
"""Share of nodules that are solid."""

LUNG_HU = (-960.0, -700.0)
"""Range of the voxels in which a nodule may be centred, HU."""

SHELL_MM, SHELL_THICKNESS_MM, SHELL_HU = (15.0, 90.0), (1.5, 8.0), (300.0, 1500.0)
"""Ranges of the shells' radii and thicknesses, mm, and densities, HU."""

METAL_MM, METAL_HU = (1.5, 8.0), (2500.0, 8000.0)
"""Ranges of the radii of metal, mm, and of its density, HU: reconstruction of a thick slice averages true densities."""

STREAK_HU, STREAK_MM = (50.0, 600.0), (10.0, 40.0)
"""Ranges of the amplitude of streaks at the metal's surface, HU, and of the distance over which they fade, mm."""

_SHADOW_HU = -1024.0
_STREAKS = 24

Block = npt.NDArray[np.float32]
Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]


def insert_nodules(block: Block, spacing_mm: Spacing, rng: np.random.Generator) -> Block:
    """The block with 1 to `NODULES` ellipsoids, nearly balls, of solid or ground-glass density in its lung.

    Lung keeps its texture under a nodule; tissue that is denser than the nodule stays.

    Args:
        block: (depth, height, width), HU; it is not changed.
        spacing_mm: distance of voxels along each axis.
        rng: source of all draws.

    Returns:
        Same shape, HU. A block without lung comes back as a copy.

    >>> lung = np.full((24, 24, 24), -850.0, np.float32)
    >>> inserted = insert_nodules(lung, (1.0, 0.7, 0.7), np.random.default_rng(0))
    >>> bool(inserted.max() > -760.0), bool(inserted.max() <= SOLID_HU[1]), float(lung.max())
    (True, True, -850.0)
    """
    inserted = block.copy()
    lung = np.argwhere((block > LUNG_HU[0]) & (block < LUNG_HU[1]))
    for _ in range(int(rng.integers(1, NODULES + 1)) if len(lung) else 0):
        centre = lung[int(rng.integers(len(lung)))] + rng.uniform(-0.5, 0.5, 3)
        diameters, densities = (
            (SOLID_MM, SOLID_HU) if rng.random() < SOLID_SHARE else (GROUND_GLASS_MM, GROUND_GLASS_HU)
        )
        radii_mm = 0.5 * _logarithmic(diameters, rng) * rng.uniform(*NODULE_AXES, 3)
        density = float(rng.uniform(*densities))
        for box, depth_mm in _ellipsoid(block.shape, centre, radii_mm, spacing_mm):
            part, before = inserted[box], block[box]
            aerated = before < LUNG_HU[1]
            if aerated.any():
                texture = before - float(before[aerated].mean())
                made = np.where(aerated, density + texture, np.maximum(part, density))
                part += _coverage(depth_mm, spacing_mm) * (made - part)
    return inserted


def insert_shell(block: Block, spacing_mm: Spacing, rng: np.random.Generator) -> Block:
    """The block with a piece of one ellipsoidal shell as dense as bone, where the block is not air.

    Args:
        block: (depth, height, width), HU; it is not changed.
        spacing_mm: distance of voxels along each axis.
        rng: source of all draws.

    Returns:
        Same shape, HU.

    >>> shell = insert_shell(np.zeros((20, 40, 40), np.float32), (1.0, 0.7, 0.7), np.random.default_rng(1))
    >>> bool(0.0 < np.mean(shell > 200.0) < 0.5), bool(shell.max() <= SHELL_HU[1])
    (True, True)
    """
    radii_mm = _logarithmic(SHELL_MM, rng) * rng.uniform(0.8, 1.25, 3)
    thickness_mm = _logarithmic(SHELL_THICKNESS_MM, rng)
    density = np.float32(rng.uniform(*SHELL_HU))
    # A point of the block lies on the shell, in any direction from its centre.
    direction = rng.standard_normal(3)
    on_it = np.array([rng.uniform(0, extent - 1) for extent in block.shape])
    centre = on_it - direction / np.linalg.norm(direction) * radii_mm / np.asarray(spacing_mm)
    depth_mm = _depth_mm(block.shape, centre, radii_mm, spacing_mm)
    coverage = _coverage(np.minimum(depth_mm, thickness_mm - depth_mm), spacing_mm) * (block > DENSER_THAN_LUNG_HU)
    shell: Block = block + coverage * np.maximum(density - block, 0.0)
    return shell


def insert_metal(block: Block, spacing_mm: Spacing, rng: np.random.Generator) -> Block:
    """The block with one or two ellipsoids of metal and, in the slices they cross, streaks around them.

    Streaks lie in planes of the last two axes, as the scanner makes them.

    Args:
        block: (depth, height, width), HU; it is not changed.
        spacing_mm: distance of voxels along each axis.
        rng: source of all draws.

    Returns:
        Same shape, HU; at least -1024.

    >>> metal = insert_metal(np.zeros((20, 40, 40), np.float32), (1.0, 0.7, 0.7), np.random.default_rng(1))
    >>> bool(metal.max() > 2000.0), bool(metal.std(axis=(1, 2)).min() == 0.0)
    (True, True)
    """
    inserted = block.copy()
    for _ in range(int(rng.integers(1, 3))):
        centre = np.array([rng.uniform(0, extent - 1) for extent in block.shape])
        radii_mm = _logarithmic(METAL_MM, rng) * rng.uniform(0.6, 2.0, 3)
        density = np.float32(rng.uniform(*METAL_HU))
        if block[tuple(np.rint(centre).astype(int))] < DENSER_THAN_LUNG_HU:
            continue
        coverage = _coverage(_depth_mm(block.shape, centre, radii_mm, spacing_mm), spacing_mm)
        # (depth,): the metal's section in a slice over its largest one.
        section = coverage.sum(axis=(1, 2))
        section = section / max(float(section.max()), 1e-6)
        inserted += section[:, None, None] * _streaks(block.shape, centre, radii_mm, spacing_mm, rng)
        inserted += coverage * np.maximum(density - inserted, 0.0)
    limited: Block = np.maximum(inserted, np.float32(_SHADOW_HU))
    return limited


def _streaks(
    shape: tuple[int, ...],
    centre: npt.NDArray[np.float64],
    radii_mm: npt.NDArray[np.float64],
    spacing_mm: Spacing,
    rng: np.random.Generator,
) -> Block:
    """HU of streaks in a slice, (height, width): bright and dark rays that fade with the distance from the metal."""
    down, across = ((np.arange(n) - c) * step for n, c, step in zip(shape[1:], centre[1:], spacing_mm[1:], strict=True))
    angle = np.arctan2(down[:, None], across[None, :])
    distance = np.hypot(down[:, None], across[None, :])
    orders = np.arange(1, _STREAKS + 1)
    # Opposite rays are alike, as every line through the metal is measured from both ends.
    table = np.linspace(-np.pi, np.pi, 512)
    waves = np.cos(2.0 * orders[:, None] * table + rng.uniform(0.0, 2.0 * np.pi, _STREAKS)[:, None])
    rays = (rng.standard_normal(_STREAKS) @ waves) / np.sqrt(0.5 * _STREAKS)
    fade = np.exp(-np.maximum(distance - radii_mm[1:].mean(), 0.0) / rng.uniform(*STREAK_MM))
    streaks: npt.NDArray[np.float64] = _logarithmic(STREAK_HU, rng) * np.interp(angle, table, rays) * fade
    return streaks.astype(np.float32)


def _ellipsoid(
    shape: tuple[int, ...], centre: npt.NDArray[np.float64], radii_mm: npt.NDArray[np.float64], spacing_mm: Spacing
) -> Iterator[tuple[Box, Block]]:
    """The box around an ellipsoid and the depth of its voxels below the surface, mm; nothing outside the block."""
    reach = radii_mm / np.asarray(spacing_mm) + 1.0
    start = np.maximum(np.floor(centre - reach), 0).astype(int)
    stop = np.minimum(np.ceil(centre + reach) + 1, shape).astype(int)
    if (start < stop).all():
        box = (slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2]))
        yield box, _depth_mm(tuple(stop - start), centre - start, radii_mm, spacing_mm)


def _depth_mm(
    shape: tuple[int, ...], centre: npt.NDArray[np.float64], radii_mm: npt.NDArray[np.float64], spacing_mm: Spacing
) -> Block:
    """Depth of voxels below the surface of an ellipsoid, mm, along its shortest axis; negative outside."""
    axes = zip(shape, centre, radii_mm, spacing_mm, strict=True)
    z, y, x = np.ix_(*(((np.arange(n) - c) * step / r).astype(np.float32) for n, c, r, step in axes))
    depth: Block = (1.0 - np.sqrt(z**2 + y**2 + x**2)) * np.float32(radii_mm.min())
    return depth


def _coverage(depth_mm: Block, spacing_mm: Spacing) -> Block:
    """Share of a voxel that lies inside a surface, [0, 1]: it rises over one mean spacing."""
    coverage: Block = np.clip(0.5 + depth_mm / np.float32(np.mean(spacing_mm)), 0.0, 1.0)
    return coverage


def _logarithmic(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """A draw from a range, logarithmically even."""
    return float(np.exp(rng.uniform(*np.log(limits))))
