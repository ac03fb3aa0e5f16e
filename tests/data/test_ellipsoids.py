"""Ellipsoids inserted into crops: where, how strong, and only where asked for."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.data import ellipsoids
from thinslice.data.crops import CropSampler
from thinslice.data.ellipsoids import insert_ellipsoids
from thinslice.geometry import Geometry
from thinslice.recipes import SimulationRecipe
from thinslice.volume import Volume


def differences(background_hu: float, draws: int = 40) -> list[np.ndarray]:
    block = np.full((30, 30, 30), background_hu, np.float32)
    return [insert_ellipsoids(block, np.random.default_rng(seed)) - block for seed in range(draws)]


def test_contrasts_of_all_sizes_both_ways_and_mostly_brighter() -> None:
    peaks = np.array([d.flat[np.abs(d).argmax()] for d in differences(0.0)])
    assert (np.abs(peaks) > 30).mean() > 0.9
    assert (np.abs(peaks) < 500).any() and (peaks > 800).any() and (peaks < 0).any()
    assert 0.5 < (peaks > 0).mean() < 1.0


def test_shapes_are_bounded_and_their_edges_are_soft() -> None:
    for difference in differences(0.0):
        touched = difference != 0
        assert 0 < touched.sum() < touched.size
        strongest = np.abs(difference).max()
        assert ((np.abs(difference) > 0) & (np.abs(difference) < 0.9 * strongest)).any()


def test_nothing_is_sown_in_air_outside_the_body_and_values_stay_in_range() -> None:
    assert all((d == 0).all() for d in differences(-1024.0))
    assert max(d.max() for d in differences(3000.0)) <= 71.0
    assert min(d.min() for d in differences(-990.0)) >= -34.0


def test_a_block_is_left_alone_and_the_same_draws_give_the_same() -> None:
    block = np.random.default_rng(0).normal(0, 20, (20, 20, 20)).astype(np.float32)
    before = block.copy()
    first, second = (insert_ellipsoids(block, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second) and np.array_equal(block, before)
    assert first.dtype == np.float32 and first.shape == block.shape


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_crops_are_sown_as_the_recipe_says(share: float) -> None:
    hu = np.zeros((80, 40, 40), np.int16)
    volume = Volume(hu, Geometry(hu.shape, (1.0, 0.7, 0.7)))
    recipe = SimulationRecipe(plane=32, noise_share=0.0, sown_share=share, factors=(3,))
    batch = CropSampler([volume], recipe, seed=1).draw(0, range(4))
    varied = [bool(np.ptp(crop) > ellipsoids.CONTRAST_HU[0] / 8192) for crop in batch.thin]
    assert varied == [bool(share)] * 4
