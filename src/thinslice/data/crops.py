"""Random crops, drawn so that each depends on the seed, the step and its place in the batch alone.

A run that was killed and goes on therefore sees the same crops as one that was not, and processes that share a batch
see different crops, together those that one process would see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from thinslice.data.ellipsoids import insert_ellipsoids
from thinslice.data.inserts import insert_metal, insert_nodules, insert_shell
from thinslice.data.phantoms.noise import grain_stack
from thinslice.data.simulated_profiles import draw_profiles
from thinslice.errors import NotEligibleError
from thinslice.intensity import BODY_ABOVE_HU, WINDOW_MIN_HU, to_unit
from thinslice.profile import SliceProfile
from thinslice.recipes import CropRecipe, DatasetRecipe, SimulationRecipe
from thinslice.volume import Volume

if TYPE_CHECKING:
    from thinslice.data.cache import CachedPair

_DRAWS = 8
_SHARPEN_PIXELS = (0.6, 1.2)
"""Range of the standard deviation of the blur in an unsharp mask, pixels."""
_KERNEL_CUTOFFS = (0.15, 0.45)
"""Range of the cut-off of simulated reconstruction kernels, soft to sharp, cycles per pixel."""


@dataclass(frozen=True)
class Batch:
    """Crops that share a factor and the profile that the network gets.

    Attributes:
        thick: (batch, 1, D, P, P) float32, unit intensity.
        thin: (batch, 1, (D - 1) * factor + 1, P, P) float32, unit intensity.
        weight: same shape as `thin`; 0 where the truth is not to be trusted, else 1.
        factor: thin slices per thick interval.
        profile: the slice profile that the network gets; at inference, the box of the header's slice thickness.
        cases: for each crop, the case it was cut from.
    """

    thick: npt.NDArray[np.float32]
    thin: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    factor: int
    profile: SliceProfile
    cases: tuple[str, ...]


class Sampler(Protocol):
    """Gives the crops of a step."""

    def draw(self, step: int, items: range) -> Batch:
        """Crops `items` of the batch of a step."""


class CropSampler:
    """Draws crops of thin volumes that are held in memory, with thick slices simulated from them.

    Args:
        volumes: thin, HU.
        recipe: how crops are drawn.
        seed: of all of them.

    Raises:
        NotEligibleError: when a volume is smaller than a crop in plane.
    """

    def __init__(self, volumes: Sequence[Volume], recipe: SimulationRecipe, *, seed: int) -> None:
        self.recipe, self.seed = recipe, seed
        self._voxels = [v.hu for v in volumes]
        self._spacings = [_spacing_mm(v) for v in volumes]
        for voxels in self._voxels:
            if min(voxels.shape[1:]) < recipe.plane:
                raise NotEligibleError(
                    f"A training volume of {voxels.shape} voxels is smaller in plane than a crop of {recipe.plane}; "
                    "lower simulation.plane in the recipe."
                )
        sizes = np.array([v.size for v in self._voxels], dtype=float)
        # Square root: a large volume is drawn more often, but does not drown a small one.
        self._share = np.sqrt(sizes) / np.sqrt(sizes).sum()

    def draw(self, step: int, items: range) -> Batch:
        """Crops `items` of the batch of a step; a step's crops share their factor and profile."""
        rng = np.random.default_rng((self.seed, step))
        recipe = self.recipe
        factor = int(rng.choice(recipe.factors))
        simulated, profile = draw_profiles(recipe, factor, rng)
        crops = [self._crop(np.random.default_rng((self.seed, step, item)), simulated) for item in items]
        depth = min(c[0].shape[0] for c in crops)
        thin_depth = (depth - 1) * factor + 1
        thick = np.stack([c[0][:depth] for c in crops])[:, None]
        thin = np.stack([c[1][:thin_depth] for c in crops])[:, None]
        weight = (thin > recipe.floor_hu).astype(np.float32)
        weight *= np.stack([c[2][:thin_depth] for c in crops])[:, None]
        cases = tuple(f"volume {c[3] + 1}" for c in crops)
        # Metal ends where a network's input ends.
        thick, thin = (to_unit(hu).clip(0.0, 1.0) for hu in (thick, thin))
        return Batch(thick, thin, weight, factor, profile, cases)

    def _crop(
        self, rng: np.random.Generator, profile: SliceProfile
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_], int]:
        """Thick slices, thin slices, whether the latter lie inside the field of view, and the volume's index."""
        recipe = self.recipe
        wanted = (recipe.depth - 1) * profile.factor + 1 + 2 * profile.reach
        share, along_slices = self._eligible(profile)
        block: npt.NDArray[Any] = np.empty(0)
        spacing = (1.0, 1.0, 1.0)
        chosen = 0
        for _ in range(_DRAWS):
            chosen = int(rng.choice(len(self._voxels), p=share))
            voxels, spacing = self._voxels[chosen], self._spacings[chosen]
            in_plane = rng.random() < recipe.in_plane_share and voxels.shape[0] >= recipe.plane
            if in_plane or not along_slices[chosen]:
                # An in-plane axis plays the through-plane one; the slice axis becomes one of the plane's.
                axis = int(rng.integers(1, 3))
                voxels = np.moveaxis(voxels, axis, 0)
                spacing = (spacing[axis], spacing[0], spacing[3 - axis])
            extent = (min(wanted, voxels.shape[0]), recipe.plane, recipe.plane)
            start = [int(rng.integers(0, n - e + 1)) for n, e in zip(voxels.shape, extent, strict=True)]
            block = voxels[tuple(slice(s, s + e) for s, e in zip(start, extent, strict=True))]
            if np.mean(block[::4, ::4, ::4] > BODY_ABOVE_HU) >= recipe.least_body:
                break
        # What lies below the window is padding, which inference takes for air as well.
        thin = np.maximum(block, WINDOW_MIN_HU, dtype=np.float32)
        for axis in range(3):
            if rng.random() < 0.5:
                thin = np.flip(thin, axis)
        if rng.random() < 0.5:
            thin = np.swapaxes(thin, 1, 2)
            spacing = (spacing[0], spacing[2], spacing[1])
        inside = np.ones(thin.shape, dtype=np.bool_) if recipe.outside_hu is None else thin > recipe.outside_hu
        if recipe.sown_share and rng.random() < recipe.sown_share:
            thin = insert_ellipsoids(thin, rng)
        for insert, part in (
            (insert_nodules, recipe.nodule_share),
            (insert_shell, recipe.shell_share),
            (insert_metal, recipe.metal_share),
        ):
            if part and rng.random() < part:
                thin = insert(thin, spacing, rng)
        if rng.random() < recipe.blur_share:
            sigma = float(rng.uniform(0.0, recipe.blur_pixels))
            thin = gaussian_filter(thin, (0.0, sigma, sigma))
        elif recipe.sharpen_share and rng.random() < recipe.sharpen_share:
            sigma = float(rng.uniform(*_SHARPEN_PIXELS))
            thin = thin + float(rng.uniform(0.0, recipe.sharpen_gain)) * (
                thin - gaussian_filter(thin, (0.0, sigma, sigma))
            )
        thick = profile.apply(thin)
        self._add_noise(thick, profile, rng)
        centres = profile.centres(thin.shape[0])
        kept = slice(centres[0], centres[-1] + 1)
        return thick, np.ascontiguousarray(thin[kept]), inside[kept], chosen

    def _eligible(self, profile: SliceProfile) -> tuple[npt.NDArray[np.float64], list[bool]]:
        """How often each volume is drawn for crops of a profile, and whether its slice axis may play z in them.

        Raises:
            NotEligibleError: when no volume is deep enough for two thick slices.
        """
        least = profile.factor + 1 + 2 * profile.reach
        coarse = self.recipe.coarse_mm
        along_slices = [
            voxels.shape[0] >= least and (coarse is None or spacing[0] <= coarse or profile.factor == 2)
            for voxels, spacing in zip(self._voxels, self._spacings, strict=True)
        ]
        in_plane = [v.shape[0] >= self.recipe.plane and min(v.shape[1:]) >= least for v in self._voxels]
        share = self._share * np.logical_or(along_slices, in_plane)
        if not share.any():
            raise NotEligibleError(
                f"No training volume is deep enough for two thick slices of {len(profile.weights)} thin ones at factor "
                f"{profile.factor}; lower simulation.factors or simulation.box_width in the recipe."
            )
        # Divided only where a volume is left out, so that other draws stay the same to the last bit.
        return share if np.array_equal(share, self._share) else share / share.sum(), along_slices

    def _add_noise(self, thick: npt.NDArray[np.float32], profile: SliceProfile, rng: np.random.Generator) -> None:
        """Noise added to thick slices, (depth, height, width) in HU, in place."""
        recipe = self.recipe
        noisy = rng.random() < recipe.noise_share
        low_dose = bool(recipe.low_dose_share) and rng.random() < recipe.low_dose_share
        if low_dose:
            strength = float(rng.uniform(*recipe.low_dose_hu))
        elif noisy:
            strength = float(rng.uniform(0.0, recipe.noise_hu))
        else:
            return
        if not (recipe.grain_share and rng.random() < recipe.grain_share):
            thick += rng.normal(0.0, strength, thick.shape).astype(np.float32)
            return
        cutoff = float(rng.uniform(*_KERNEL_CUTOFFS))
        if len(profile.weights) <= profile.factor + 1:
            noise = grain_stack((thick.shape[0], thick.shape[1], thick.shape[2]), rng, cutoff=cutoff)
        else:
            # Overlapping slices share measurements, so their noise is alike.
            depth = (thick.shape[0] - 1) * profile.factor + len(profile.weights)
            noise = profile.apply(grain_stack((depth, thick.shape[1], thick.shape[2]), rng, cutoff=cutoff))
            noise /= noise.std()
        thick += np.float32(strength) * noise


def _spacing_mm(volume: Volume) -> tuple[float, float, float]:
    """Distance of voxels along (depth, height, width), mm; where it is unknown in plane, that of the slices."""
    z, y, x = volume.geometry.spacing_mm
    return z, z if y is None else y, z if x is None else x


class PairSampler:
    """Draws crops of pairs: every position of every case is as likely as any other of that case.

    Args:
        pairs: thick and thin voxels, HU; all of one factor.
        recipe: how crops are drawn.
        dataset: whether thick slices are the pairs' own or simulated from the thin ones.
        seed: of all crops.
        profile: slice profile that the network gets; None for the box of the slice thickness in the header.

    Raises:
        NotEligibleError: when a pair is smaller than a crop, or factors differ; it names the case.
    """

    def __init__(
        self,
        pairs: Sequence[CachedPair],
        recipe: CropRecipe,
        dataset: DatasetRecipe,
        *,
        seed: int,
        profile: SliceProfile | None = None,
    ) -> None:
        self.pairs, self.recipe, self.dataset, self.seed, self.profile = pairs, recipe, dataset, seed, profile
        self.factor = pairs[0].factor
        self.simulated = None if dataset.thick == "paired" else SliceProfile.named(dataset.thick, self.factor)
        for pair in pairs:
            if pair.factor != self.factor:
                raise NotEligibleError(
                    f"Case {pair.case_id} has factor {pair.factor}, {pairs[0].case_id} has {self.factor}; train on one."
                )
            if min(pair.thin.shape[1:]) < recipe.plane:
                raise NotEligibleError(
                    f"Case {pair.case_id} ({pair.thin.shape} voxels) is smaller in plane than a crop of "
                    f"{recipe.plane}; lower crops.plane in the recipe."
                )
            if self._depth(pair) < recipe.depth:
                raise NotEligibleError(
                    f"Case {pair.case_id} has {self._depth(pair)} usable thick slices, fewer than a crop of "
                    f"{recipe.depth}; lower crops.depth in the recipe."
                )

    def draw(self, step: int, items: range) -> Batch:
        """Crops `items` of the batch of a step."""
        crops = [self._crop(np.random.default_rng((self.seed, step, item))) for item in items]
        thick = np.stack([c[0] for c in crops])[:, None].clip(0.0, 1.0)
        thin = np.stack([c[1] for c in crops])[:, None].clip(0.0, 1.0)
        profile = self.profile or SliceProfile.mean(self.factor, width=self._relative_thickness(crops[0][2]))
        return Batch(thick, thin, np.ones_like(thin), self.factor, profile, tuple(c[2].case_id for c in crops))

    def _relative_thickness(self, pair: CachedPair) -> float:
        """Slice thickness over slice distance as a header would give it, which is what inference tells a network."""
        if self.simulated is None:
            return pair.relative_thickness
        return 1.0 / (self.factor * max(self.simulated.weights))

    def _depth(self, pair: CachedPair) -> int:
        """Thick slices that crops may use: simulated ones need full support."""
        if self.simulated is None:
            return int(pair.thick.shape[0])
        return len(self.simulated.centres(pair.thin.shape[0]))

    def _crop(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], CachedPair]:
        recipe, factor = self.recipe, self.factor
        pair = self.pairs[int(rng.integers(len(self.pairs)))]
        thick = thin = np.empty(0, dtype=np.float32)
        for _ in range(_DRAWS):
            first = int(rng.integers(0, self._depth(pair) - recipe.depth + 1))
            top, left = (int(rng.integers(0, extent - recipe.plane + 1)) for extent in pair.thin.shape[1:])
            plane = (slice(top, top + recipe.plane), slice(left, left + recipe.plane))
            thin_depth = (recipe.depth - 1) * factor + 1
            if self.simulated is None:
                thick = pair.thick[(slice(first, first + recipe.depth), *plane)]
                thin = pair.thin[(slice(first * factor, first * factor + thin_depth), *plane)]
            else:
                reach = self.simulated.reach
                start = self.simulated.centres(pair.thin.shape[0])[first] - reach
                block = pair.thin[(slice(start, start + thin_depth + 2 * reach), *plane)].astype(np.float32)
                thick, thin = self.simulated.apply(block), block[reach : reach + thin_depth]
                if self.dataset.noise_hu:
                    thick = thick + rng.normal(0.0, self.dataset.noise_hu, thick.shape).astype(np.float32)
            if recipe.least_body == 0 or np.mean(thick[:, ::4, ::4] > BODY_ABOVE_HU) >= recipe.least_body:
                break
        for axis, name in enumerate(("depth", "height", "width")):
            if name in recipe.flips and rng.random() < 0.5:
                thick, thin = np.flip(thick, axis), np.flip(thin, axis)
        if recipe.transpose and rng.random() < 0.5:
            thick, thin = np.swapaxes(thick, 1, 2), np.swapaxes(thin, 1, 2)
        return to_unit(thick), to_unit(thin), pair


class MixedSampler:
    """Draws the crops of a step from pairs, or simulated ones.

    Args:
        pairs: the first.
        simulated: the second.
        share: of steps that take the second.
        seed: of the choice.
    """

    def __init__(self, pairs: Sampler, simulated: Sampler, share: float, *, seed: int) -> None:
        self.pairs, self.simulated, self.share, self.seed = pairs, simulated, share, seed

    def draw(self, step: int, items: range) -> Batch:
        """Crops `items` of the batch of a step."""
        # The last number keeps this draw apart from those of the crops, whose last number is their place in the batch.
        chance = np.random.default_rng((self.seed, step, 2**31)).random()
        return (self.simulated if chance < self.share else self.pairs).draw(step, items)
