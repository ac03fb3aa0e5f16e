"""Noise kept: known standard deviations."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.evaluation.clinical.noise import patch_noise


def soft(factor: int = 5, noise_hu: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    thin = rng.normal(50.0, noise_hu, (6 * factor + 1, 42, 42))
    thin[:, :, 28:] = rng.normal(-100.0, noise_hu, (6 * factor + 1, 42, 14))
    thick = np.full((7, 42, 42), 50.0)
    thick[:, :, 28:] = -100.0
    return thin, thick


def test_noise_of_soft_tissue_is_found_and_fat_is_left_out() -> None:
    thin, thick = soft()
    found = patch_noise(thin, thin, thick, 5)
    assert found["sd_hu"] == pytest.approx(10.0, rel=0.02)
    assert found["patches"] == 5 * 5 * 6 * 4
    half = 50.0 + 0.5 * (thin - 50.0)
    assert patch_noise(half, thin, thick, 5)["sd_hu"] == pytest.approx(0.5 * found["sd_hu"])


def test_noise_by_distance_from_the_thick_slices() -> None:
    thin, thick = soft()
    quiet = thin.copy()
    quiet[2::5] = quiet[3::5] = 50.0
    found = patch_noise(quiet, thin, thick, 5)["by_offset_hu"]
    assert found[:2] == pytest.approx([10.0, 10.0], rel=0.05) and found[2] == 0.0


def test_patches_with_edges_are_left_out() -> None:
    thin, thick = soft()
    thick[3, :, 10] = 400.0
    assert patch_noise(thin, thin, thick, 5)["patches"] < 5 * 5 * 6 * 4
    assert patch_noise(thin, thin, np.full_like(thick, -900.0), 5) == {
        "patches": 0,
        "sd_hu": None,
        "by_offset_hu": None,
    }
