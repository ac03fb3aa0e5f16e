"""Laws of noise along z, checked against noise that is drawn, not against their own formulas."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.inference.texture.law import Averages, blur_taps, correlation, find_blur, open_noise, thick_variance
from thinslice.planning.exact_spacing import ExactSpacing
from thinslice.profile import ProfileDensity, SliceProfile

PROFILES = [
    SliceProfile.mean(5),
    SliceProfile.mean(4),
    SliceProfile.mean(3, width=1.5),
    SliceProfile.heavy_tailed(5),
    SliceProfile.mean(8),
]


def drawn(averages: Averages, blur: float, columns: int = 40_000) -> np.ndarray:
    """Noise on the whole grid, (thin slices, columns)."""
    taps = blur_taps(blur)
    white = np.random.default_rng(1).standard_normal((averages.stop - averages.first + len(taps) - 1, columns))
    return np.stack([taps @ white[i : i + len(taps)] for i in range(averages.stop - averages.first)])


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: f"{p.name}-{p.factor}-{p.width:.2f}")
def test_thick_slices_of_drawn_noise_have_the_variance_and_correlation_of_the_law(profile: SliceProfile) -> None:
    averages = Averages.of_profile(profile, 6)
    thick = averages.matrix() @ drawn(averages, 0.6)
    share, neighbours = thick_variance(averages, 0.6)
    assert np.var(thick[2]) == pytest.approx(share, rel=0.03)
    assert np.corrcoef(thick[2], thick[3])[0, 1] == pytest.approx(neighbours, abs=0.02)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: f"{p.name}-{p.factor}-{p.width:.2f}")
def test_what_is_left_averages_to_nothing_and_completes_the_variance(profile: SliceProfile) -> None:
    blur = 0.6
    averages = Averages.of_profile(profile, 9)
    left = open_noise(averages, blur)
    noise = drawn(averages, blur)
    inside = slice(-averages.first, -averages.first + averages.slices)
    known = left.back @ (averages.matrix() @ noise)  # the best estimate from the thick slices
    rest = noise[inside] - known
    middle = slice(3 * profile.factor, 6 * profile.factor)
    # Noise on and between thick slices alike: known and drawn anew together are as noisy as thin slices.
    np.testing.assert_allclose(np.var(rest, axis=1)[middle], left.sd[middle] ** 2, rtol=0.03)
    np.testing.assert_allclose((np.var(known, axis=1) + left.sd**2)[middle], 1.0, atol=0.03)
    whole = np.zeros((averages.stop - averages.first, rest.shape[1]))
    whole[inside] = rest
    seen = (averages.matrix() @ whole)[list(profile.supported(9))]
    assert np.sqrt(np.mean(seen[1:-1] ** 2)) < 0.01


def test_slices_at_a_distance_of_their_own_follow_the_same_law() -> None:
    averages = Averages.of_spacing(ExactSpacing(3.75, 4, ProfileDensity.box(1.0), depth=9))
    left = open_noise(averages, 0.5)
    rest = drawn(averages, 0.5)
    inside = slice(-averages.first, -averages.first + averages.slices)
    rest = rest[inside] - left.back @ (averages.matrix() @ rest)
    np.testing.assert_allclose(np.var(rest, axis=1), left.sd**2, rtol=0.04)


@pytest.mark.parametrize("blur", [0.4, 0.6, 0.8])
def test_the_blur_is_found_in_the_correlation_of_thick_slices(blur: float) -> None:
    averages = Averages.of_profile(SliceProfile.mean(3), 6)
    from thinslice.inference.texture.law import ANATOMY_CORRELATION

    measured = thick_variance(averages, blur)[1] + ANATOMY_CORRELATION
    assert find_blur(averages, measured, 0.001) == pytest.approx(blur, rel=0.12)


def test_a_correlation_that_is_hardly_known_leaves_the_usual_blur() -> None:
    assert find_blur(Averages.of_profile(SliceProfile.mean(8), 6), 0.5, 10.0) == pytest.approx(0.5, rel=0.05)


def test_the_filter_has_the_correlation_of_a_gaussian_blur() -> None:
    for blur in (0.3, 0.6, 1.2):
        expected = np.exp(-np.square(np.arange(4)) / (4 * blur**2))
        np.testing.assert_allclose(correlation(blur)[:4], expected, atol=0.01)
