"""Random crops with simulated thick slices, drawn so that a step's batch depends on the seed and the step alone.

A run that was killed and goes on therefore sees the same crops as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from thinslice.errors import NotEligibleError
from thinslice.intensity import to_unit
from thinslice.profile import SliceProfile
from thinslice.recipes import SimulationRecipe
from thinslice.volume import Volume

_BODY_HU = -950.0
_DRAWS = 8


@dataclass(frozen=True)
class Batch:
    """Crops that share a factor and the profile the network is told.

    Attributes:
        thick: (batch, 1, D, P, P) float32, unit intensity.
        thin: (batch, 1, (D - 1) * factor + 1, P, P) float32, unit intensity.
        weight: same shape as `thin`; 0 where the truth is not to be trusted, else 1.
        factor: thin slices per thick interval.
        profile: the box the network is told, as it would be at inference from the slice thickness.
    """

    thick: npt.NDArray[np.float32]
    thin: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    factor: int
    profile: SliceProfile


class CropSampler:
    """Draws batches from thin volumes that are held in memory.

    Raises:
        NotEligibleError: when a volume is smaller than a crop in plane.
    """

    def __init__(self, volumes: Sequence[Volume], recipe: SimulationRecipe, *, batch: int, seed: int) -> None:
        self.recipe, self.batch, self.seed = recipe, batch, seed
        self._voxels = [v.hu for v in volumes]
        for voxels in self._voxels:
            if min(voxels.shape[1:]) < recipe.plane:
                raise NotEligibleError(
                    f"A training volume of {voxels.shape} voxels is smaller in plane than a crop of {recipe.plane}; "
                    "lower simulation.plane in the recipe."
                )
        sizes = np.array([v.size for v in self._voxels], dtype=float)
        # Square root: a large volume is drawn more often, but does not drown a small one.
        self._share = np.sqrt(sizes) / np.sqrt(sizes).sum()

    def draw(self, step: int) -> Batch:
        """The batch of a step; the same for the same seed and step."""
        rng = np.random.default_rng((self.seed, step))
        recipe = self.recipe
        factor = int(rng.choice(recipe.factors))
        width = 1.0
        if rng.random() < recipe.box_width_share:
            width = float(rng.uniform(*recipe.box_width))
        names = list(recipe.profiles)
        shares = np.array([recipe.profiles[n] for n in names], dtype=float)
        simulated = SliceProfile.named(str(rng.choice(names, p=shares / shares.sum())), factor, width=width)
        crops = [self._crop(rng, simulated) for _ in range(self.batch)]
        depth = min(c[0].shape[0] for c in crops)
        thin_depth = (depth - 1) * factor + 1
        thick = np.stack([c[0][:depth] for c in crops])[:, None]
        thin = np.stack([c[1][:thin_depth] for c in crops])[:, None]
        weight = (thin > recipe.floor_hu).astype(np.float32)
        return Batch(to_unit(thick), to_unit(thin), weight, factor, SliceProfile.mean(factor, width=width))

    def _crop(
        self, rng: np.random.Generator, profile: SliceProfile
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        recipe = self.recipe
        wanted = (recipe.depth - 1) * profile.factor + 1 + 2 * profile.reach
        block: npt.NDArray[Any] = np.empty(0)
        for _ in range(_DRAWS):
            voxels = self._voxels[rng.choice(len(self._voxels), p=self._share)]
            if rng.random() < recipe.in_plane_share and voxels.shape[0] >= recipe.plane:
                # An in-plane axis plays the through-plane one; the slice axis becomes one of the plane's.
                voxels = np.moveaxis(voxels, int(rng.integers(1, 3)), 0)
            extent = (min(wanted, voxels.shape[0]), recipe.plane, recipe.plane)
            start = [int(rng.integers(0, n - e + 1)) for n, e in zip(voxels.shape, extent, strict=True)]
            block = voxels[tuple(slice(s, s + e) for s, e in zip(start, extent, strict=True))]
            if np.mean(block[::4, ::4, ::4] > _BODY_HU) >= recipe.least_body:
                break
        thin = block.astype(np.float32)
        for axis in range(3):
            if rng.random() < 0.5:
                thin = np.flip(thin, axis)
        if rng.random() < 0.5:
            thin = np.swapaxes(thin, 1, 2)
        if rng.random() < recipe.blur_share:
            sigma = float(rng.uniform(0.0, recipe.blur_pixels))
            thin = gaussian_filter(thin, (0.0, sigma, sigma))
        thick = profile.apply(thin)
        if rng.random() < recipe.noise_share:
            thick += rng.normal(0.0, rng.uniform(0.0, recipe.noise_hu), thick.shape).astype(np.float32)
        centres = profile.centres(thin.shape[0])
        return thick, np.ascontiguousarray(thin[centres[0] : centres[-1] + 1])
