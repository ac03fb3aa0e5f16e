"""Lung is found as a person would, and its densities are those put in."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.evaluation.clinical.lung_density import densitometry, find_lung


def chest() -> np.ndarray:
    """Body in air; two lungs, one cut by the picture's edge beside what was not reconstructed; a stomach's gas."""
    rng = np.random.default_rng(0)
    hu = np.full((36, 90, 100), -1000.0)
    hu[:, 10:85, 2:95] = 40.0
    hu[:, 20:60, 50:85] = -860.0
    hu[:, 20:60, 0:40] = -870.0
    hu[:, 65:80, 30:60] = -990.0
    hu += rng.normal(0, 10, hu.shape)
    hu[:, 60:, :3] = hu[:, :20, :3] = -1024.0
    return np.maximum(np.round(hu), -1024).astype(np.int16)


def test_lung_is_found_and_air_is_not() -> None:
    lung = find_lung(chest(), 1.0)
    expected = np.zeros_like(lung)
    expected[:, 20:60, 50:85] = expected[:, 20:60, 0:40] = True
    assert np.mean(lung != expected) < 1e-3


def test_pieces_too_small_or_as_dark_as_gas_are_no_lung() -> None:
    hu = np.full((20, 60, 60), 40.0)
    hu[:, 20:40, 20:40] = -850.0
    assert find_lung(hu, 1.0).sum() == 0  # 8 ml
    assert find_lung(hu, 4.0).sum() == 8000
    hu[:, 20:40, 20:40] = -1000.0
    assert find_lung(hu, 4.0).sum() == 0


@pytest.mark.parametrize("factor", [4, 5])
def test_densities_of_known_lung(factor: int) -> None:
    rng = np.random.default_rng(1)
    hu = rng.normal(-870.0, 40.0, (6 * factor + 1, 40, 40))
    lung = np.ones(hu.shape, bool)
    found = densitometry(hu, lung, factor, 2.0)
    assert found is not None
    # A normal distribution: 2.28 % lie two deviations below, 15 % 1.036 deviations.
    assert found.laa950_percent == pytest.approx(2.275, abs=0.25)
    # One deviation below: 15.87 %.
    assert found.laa910_percent == pytest.approx(15.87, abs=0.8)
    assert found.perc15_hu == pytest.approx(-870 - 1.036 * 40, abs=1.5)
    assert found.mean_hu == pytest.approx(-870, abs=1)
    assert found.litres == pytest.approx(5 * factor * 1600 * 2.0 / 1e6)


def test_thick_slices_have_less_emphysema_and_the_same_mean() -> None:
    rng = np.random.default_rng(2)
    hu = rng.normal(-870.0, 40.0, (31, 40, 40))
    thick = hu[::5].copy()
    for k in range(1, 6):
        thick[k] = hu[5 * k - 2 : 5 * k + 3].mean(axis=0)
    lung = np.ones(hu.shape, bool)
    thin_found, thick_found = densitometry(hu, lung, 5, 1.0), densitometry(thick, lung, 5, 1.0, thick=True)
    assert thin_found is not None and thick_found is not None
    assert thick_found.mean_hu == pytest.approx(thin_found.mean_hu)
    assert thick_found.litres == thin_found.litres and thick_found.laa950_percent < 0.1


def test_no_lung_no_numbers() -> None:
    assert densitometry(np.zeros((11, 8, 8)), np.zeros((11, 8, 8), bool), 5, 1.0) is None
