"""Simulated thick slices lie where they should and weigh what they should."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice import Geometry, SliceProfile, Volume
from thinslice.data.simulate import simulate_thick
from thinslice.errors import NotEligibleError


def thin_volume(depth: int = 95) -> Volume:
    hu = np.random.default_rng(0).integers(-1000, 1000, (depth, 4, 5)).astype(np.int16)
    return Volume(hu, Geometry(hu.shape, (0.8, 0.7, 0.7), origin_mm=(1.0, 2.0, 3.0), thickness_mm=0.8))


@pytest.mark.parametrize("factor", range(2, 9))
def test_thick_k_is_centred_on_reference_factor_times_k(factor: int) -> None:
    thin = thin_volume()
    thick, reference = simulate_thick(thin, SliceProfile.mean(factor))
    assert reference.geometry.shape[0] == (thick.geometry.shape[0] - 1) * factor + 1
    assert thick.geometry.thin_grid(factor).shape == reference.geometry.shape
    assert thick.geometry.thickness_mm == pytest.approx(thick.geometry.spacing_mm[0])
    for k in range(thick.geometry.shape[0]):
        np.testing.assert_allclose(
            thick.geometry.position_mm((k, 0, 0)), reference.geometry.position_mm((k * factor, 0, 0)), atol=1e-9
        )


def test_the_papers_case_is_the_plain_mean_of_five() -> None:
    thin = thin_volume()
    thick, reference = simulate_thick(thin, SliceProfile.mean(5))
    assert (thick.geometry.shape[0], reference.geometry.shape[0]) == (19, 91)
    np.testing.assert_allclose(thick.hu[3], thin.hu[15:20].mean(axis=0), atol=1e-3)
    assert thick.geometry.spacing_mm[0] == pytest.approx(4.0)
    assert thick.geometry.thickness_mm == pytest.approx(4.0)


def test_noise_has_the_asked_strength_and_follows_its_seed() -> None:
    thin = Volume(np.zeros((60, 40, 40), np.int16), Geometry((60, 40, 40), (1.0, 0.7, 0.7)))
    noisy, again, other = (simulate_thick(thin, SliceProfile.mean(5), noise_hu=10.0, seed=s)[0].hu for s in (1, 1, 2))
    assert np.std(noisy) == pytest.approx(10.0, rel=0.03)
    np.testing.assert_array_equal(noisy, again)
    assert not np.array_equal(noisy, other)


def test_thick_slices_of_whole_hu_are_the_nearest_ones_and_int16() -> None:
    thin = thin_volume(20)
    exact, whole = (simulate_thick(thin, SliceProfile.mean(4), whole_hu=told)[0].hu for told in (False, True))
    assert exact.dtype == np.float32 and whole.dtype == np.int16
    np.testing.assert_array_equal(whole, np.rint(exact))


def test_too_few_thin_slices_are_refused() -> None:
    with pytest.raises(NotEligibleError, match="4 thin slices"):
        simulate_thick(thin_volume(4), SliceProfile.mean(5))
