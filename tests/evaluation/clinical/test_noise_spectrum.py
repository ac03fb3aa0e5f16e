"""Noise by frequency: known spectra in patches of even tissue and in the field of a phantom."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve1d

from thinslice.evaluation.clinical.noise_spectrum import NoiseSpectra, noise_power, patch_spectra, percent_of_truth

SPACING_MM = (1.0, 0.7, 0.7)
SD_HU = 10.0


def even(depth: int, plane: int = 64) -> np.ndarray:
    """Thick slices of even soft tissue beside fat."""
    thick = np.full((depth, plane, plane + 32), 50.0)
    thick[:, :, plane:] = -100.0
    return thick


def noisy(depth: int, factor: int, plane: int = 64, seed: int = 0) -> np.ndarray:
    """Its thin slices with white noise."""
    thin = np.repeat(even(1, plane), (depth - 1) * factor + 1, axis=0)
    return thin + np.random.default_rng(seed).normal(0.0, SD_HU, thin.shape)


def spectra(thin: np.ndarray, factor: int = 5, depth: int = 9) -> NoiseSpectra:
    return patch_spectra(thin, noisy(depth, factor), even(depth), factor, SPACING_MM)


def test_white_noise_is_flat_and_its_sum_is_the_variance() -> None:
    found = spectra(noisy(9, 5))
    assert found.in_plane is not None and found.along_z is not None
    # Windows of four thick intervals that begin at thick slices 1, 2 and 3; 4 x 4 patches of soft tissue.
    assert (found.stretches, found.patches) == (3 * 16, 3 * 16 * 20)
    flat = SD_HU**2 * 0.7**2
    # The trend takes 6 of the 256 frequencies, all of them low.
    assert np.array(found.in_plane.power[2:]) == pytest.approx(flat, rel=0.05)
    assert found.in_plane.per_mm[0] == pytest.approx(1 / (16 * 0.7))
    assert found.in_plane.per_mm[-1] == pytest.approx(0.5 / 0.7)
    assert np.mean(found.along_z.power[1:]) == pytest.approx(SD_HU**2 * 250 / 256, rel=0.05)
    # Both halves of the frequencies, 1 / 20 mm apart, hold the variance, but for frequency 0 and the trend.
    held = 2 * sum(found.along_z.power[:-1]) + found.along_z.power[-1]
    assert held / 20 == pytest.approx(SD_HU**2 * 250 / 256 * 19 / 20, rel=0.05)


def test_an_average_along_z_has_the_spectrum_of_its_box() -> None:
    thin = convolve1d(noisy(9, 5) - even(1), np.full(3, 1 / 3), axis=0) + even(1)
    found = spectra(thin)
    white = spectra(noisy(9, 5))
    assert found.along_z is not None and white.along_z is not None
    at = np.array(found.along_z.per_mm)
    expected = ((1 + 2 * np.cos(2 * np.pi * at)) / 3) ** 2
    # The taper spreads each frequency over its neighbours.
    assert np.array(found.along_z.power) / white.along_z.power == pytest.approx(expected, abs=0.07)
    assert found.in_plane is not None and white.in_plane is not None
    assert np.array(found.in_plane.power) / white.in_plane.power == pytest.approx(1 / 3, abs=0.03)


def test_an_average_in_plane_lowers_the_upper_third_alone() -> None:
    thin = convolve1d(noisy(9, 5) - even(1), [0.25, 0.5, 0.25], axis=1)
    thin = convolve1d(thin, [0.25, 0.5, 0.25], axis=2) + even(1)
    percent = percent_of_truth(spectra(thin), spectra(noisy(9, 5)), 5.0)
    assert percent is not None
    low, middle, high = percent["in_plane"]
    assert low > 65 and middle < 50 and high < 10
    assert percent["along_z"][0] == pytest.approx(percent["along_z"][1], abs=4)


@pytest.mark.parametrize("factor", [3, 4, 5])
def test_noise_on_thick_slices_alone_counts_as_the_mean_over_all(factor: int) -> None:
    """No place within a thick interval weighs more than another."""
    depth = 3 + max(4, -(-12 // factor))
    thin = noisy(depth, factor)
    on = np.where(np.arange(len(thin))[:, None, None] % factor == 0, thin, even(1))
    between = np.where(np.arange(len(thin))[:, None, None] % factor == 0, even(1), thin)
    known = patch_spectra(thin, noisy(depth, factor), even(depth), factor, SPACING_MM)
    for volume, share in ((on, 1 / factor), (between, 1 - 1 / factor)):
        own = patch_spectra(volume, noisy(depth, factor), even(depth), factor, SPACING_MM)
        percent = percent_of_truth(own, known, float(factor))
        assert percent is not None
        assert percent["in_plane"] == pytest.approx([100 * share] * 3, rel=0.12)
        assert own.along_z is not None and known.along_z is not None
        assert sum(own.along_z.power) / sum(known.along_z.power) == pytest.approx(share, rel=0.12)


def test_a_slope_in_plane_is_no_noise() -> None:
    slope = noisy(9, 5) + 0.5 * np.arange(64 + 32)
    percent = percent_of_truth(spectra(slope), spectra(noisy(9, 5)), 5.0)
    assert percent is not None and percent["in_plane"] == pytest.approx([100.0] * 3)


def test_tissue_that_is_even_nowhere_gives_no_spectrum() -> None:
    found = patch_spectra(noisy(9, 5), noisy(9, 5), np.full_like(even(9), -900.0), 5, SPACING_MM)
    assert found == NoiseSpectra(0, None, 0, None)
    assert percent_of_truth(found, found, 5.0) is None
    # Too few thick slices for a stretch.
    assert patch_spectra(noisy(5, 5), noisy(5, 5), even(5), 5, SPACING_MM).in_plane is None


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
