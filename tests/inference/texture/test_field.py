"""Noise fields: the wanted spectrum and blur, and the same planes whatever was drawn before."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.inference.texture.field import NoiseField, radial_frequencies

SPECTRUM = (0.2, 0.6, 1.0, 0.7, 0.3, 0.1, 0.02, 0.0)


def test_planes_are_the_same_in_any_company() -> None:
    one, other = (NoiseField((40, 33), SPECTRUM, 0.5, seed=7) for _ in range(2))
    planes = [one.plane(index) for index in range(-3, 9)]
    np.testing.assert_array_equal(other.plane(5), planes[8])
    np.testing.assert_array_equal(other.plane(-3), planes[0])
    assert not np.array_equal(NoiseField((40, 33), SPECTRUM, 0.5, seed=8).plane(5), planes[8])


@pytest.mark.parametrize("blur", [0.3, 0.7])
def test_variance_is_one_and_neighbours_are_correlated_by_the_blur(blur: float) -> None:
    field = NoiseField((128, 96), SPECTRUM, blur, seed=0)
    planes = np.stack([field.plane(index) for index in range(24)])
    assert np.var(planes) == pytest.approx(1.0, rel=0.03)
    assert np.mean(planes[1:] * planes[:-1]) == pytest.approx(np.exp(-1 / (4 * blur**2)), abs=0.03)


def test_the_spectrum_in_plane_is_the_wanted_one() -> None:
    field = NoiseField((128, 128), SPECTRUM, 0.4, seed=0)
    power = np.mean([np.abs(np.fft.fft2(field.plane(index))) ** 2 for index in range(20)], axis=0) / 128**2
    frequency = np.fft.fftfreq(128)
    radius = np.hypot(frequency[:, None], frequency[None])
    wanted = np.interp(radius, radial_frequencies(len(SPECTRUM)), SPECTRUM)
    wanted /= wanted.mean()
    for low in (0.05, 0.15, 0.25, 0.35):
        ring = (radius >= low) & (radius < low + 0.05)
        assert power[ring].mean() == pytest.approx(wanted[ring].mean(), rel=0.1)
