"""Ellipsoids of any density inserted into training crops, so that a network learns faint objects of any shape.

Three chests hold vessels, bones and few lesions. Trained on them alone, a network takes a ball of ground glass for a
denser and thinner one, because in them everything of that shape is dense. An inserted
ellipsoid is homogeneous, keeps the texture below it, and is neither anatomy nor the phantom that nodules are measured
in (`thinslice.data.phantoms.nodule_field`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RADII = (1.5, 8.0)
"""Voxels, logarithmically even."""

CONTRAST_HU = (150.0, 900.0)
"""Of the voxels around, logarithmically even."""

DARKER = 0.25
"""Share of ellipsoids that are darker than what is around them."""

MOST = 16
"""Ellipsoids in a crop; from 1 on, all numbers alike."""

EDGE = (0.7, 2.0)
"""Voxels over which the contrast falls off."""

_AIR_HU = -1000.0
_RANGE_HU = (-1024.0, 3071.0)


def insert_ellipsoids(block: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The block with 1 to `MOST` ellipsoids added; centres in air outside the body stay empty.

    Args:
        block: (depth, height, width), HU; it is left as it is.
        rng: that everything is drawn from.

    Returns:
        A block of that shape, HU, limited to [-1024, 3071].

    >>> flat = np.zeros((24, 24, 24), np.float32)
    >>> filled = insert_ellipsoids(flat, np.random.default_rng(0))
    >>> bool(np.abs(filled).max() > 100.0), float(np.abs(flat).max())
    (True, 0.0)
    """
    filled = block.copy()
    for _ in range(int(rng.integers(1, MOST + 1))):
        centre = np.array([rng.uniform(0, extent - 1) for extent in block.shape])
        radii = np.exp(rng.uniform(*np.log(RADII))) * rng.uniform(0.7, 1.4, 3)
        contrast = np.exp(rng.uniform(*np.log(CONTRAST_HU))) * (-1.0 if rng.random() < DARKER else 1.0)
        edge = rng.uniform(*EDGE)
        if block[tuple(np.rint(centre).astype(int))] <= _AIR_HU:
            continue
        reach = radii + edge
        start = np.maximum(np.floor(centre - reach), 0).astype(int)
        stop = np.minimum(np.ceil(centre + reach) + 1, block.shape).astype(int)
        offsets = np.ogrid[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        distance = np.sqrt(sum(((at - c) / r) ** 2 for at, c, r in zip(offsets, centre, radii, strict=True)))
        # How far inside the surface, in voxels, along the shortest axis.
        inside = (1.0 - distance) * radii.min()
        part = filled[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        part += (contrast * np.clip(0.5 + inside / edge, 0.0, 1.0)).astype(np.float32)
    clipped: npt.NDArray[np.float32] = np.clip(filled, *_RANGE_HU, out=filled)
    return clipped
