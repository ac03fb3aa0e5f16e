"""Noise kept: known standard deviations and known spectra."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.evaluation.clinical.noise import noise_power, patch_noise


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


def test_power_of_white_noise_is_flat_and_holds_its_variance() -> None:
    noise = np.random.default_rng(1).normal(0.0, 12.0, (40, 96, 96))
    found = noise_power(noise, np.ones(noise.shape, bool), (1.0, 0.7, 0.7))
    assert np.array(found["in_plane"]["power"]) == pytest.approx(144.0 * 0.7**2, rel=0.12)
    assert np.array(found["across"]["power"]) == pytest.approx(144.0 * 1.0, rel=0.12)
    assert found["in_plane"]["per_mm"][-1] == pytest.approx(0.5 / 0.7)


def test_averaging_over_slices_takes_the_high_frequencies() -> None:
    noise = np.random.default_rng(1).normal(0.0, 12.0, (60, 64, 64))
    smooth = np.mean([np.roll(noise, shift, axis=0) for shift in range(5)], axis=0)
    found = noise_power(smooth, np.ones(noise.shape, bool), (1.0, 0.7, 0.7))["across"]
    at, power = np.array(found["per_mm"]), np.array(found["power"])
    assert power[at < 0.05].mean() == pytest.approx(144.0, rel=0.2)
    assert power[np.abs(at - 0.2) < 0.02].mean() < 3.0


def test_without_room_there_is_no_power() -> None:
    nothing = noise_power(np.zeros((8, 40, 40)), np.zeros((8, 40, 40), bool), (1.0, 0.7, 0.7))
    assert nothing == {"in_plane": None, "across": None}
