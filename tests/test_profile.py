"""Laws of the slice profile: what it weighs, and what the projection gives back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinslice.errors import UsageError
from thinslice.profile import SIMULATED, SliceProfile

names = st.sampled_from(SIMULATED)
factors = st.integers(2, 8)
widths = st.floats(0.3, 2.5)


@settings(deadline=None)
@given(names, factors, widths)
def test_weights_are_symmetric_and_sum_to_one(name: str, factor: int, width: float) -> None:
    weights = np.array(SliceProfile.named(name, factor, width=width).weights)
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-9)
    assert weights.min() >= 0


@pytest.mark.parametrize("factor", range(2, 9))
def test_mean_is_a_box_one_spacing_wide(factor: int) -> None:
    weights = np.array(SliceProfile.mean(factor).weights)
    assert len(weights) == factor + 1 - factor % 2
    inner = weights[1:-1] if factor % 2 == 0 else weights
    np.testing.assert_allclose(inner, 1 / factor, atol=1e-9)
    if factor % 2 == 0:
        np.testing.assert_allclose(weights[[0, -1]], 0.5 / factor, atol=1e-9)


@settings(deadline=None)
@given(names, factors, widths, st.integers(2, 14))
def test_matrix_agrees_with_apply(name: str, factor: int, width: float, depth: int) -> None:
    profile = SliceProfile.named(name, factor, width=width)
    thin = np.random.default_rng(0).normal(size=(depth - 1) * factor + 1)
    by_matrix = profile.matrix(depth) @ thin
    rows = list(profile.supported(depth))
    centres = [c for c in range(0, len(thin), factor) if c - profile.reach >= 0 and c + profile.reach < len(thin)]
    assert [k * factor for k in rows] == centres
    if rows:
        offset = centres[0] - profile.reach
        np.testing.assert_allclose(profile.apply(thin[offset:])[: len(rows)], by_matrix, atol=1e-5)


@settings(deadline=None)
@given(names, factors, widths, st.integers(2, 20))
def test_correction_gives_the_thick_slices_back_where_it_says_so(
    name: str, factor: int, width: float, depth: int
) -> None:
    profile = SliceProfile.named(name, factor, width=width)
    a, correction = profile.matrix(depth), profile.correction(depth)
    if profile.exact(depth):
        np.testing.assert_allclose(a @ correction, np.eye(len(a)), atol=1e-8)
    else:
        # Damped: never amplifies what it adds.
        assert np.linalg.norm(a @ correction, 2) <= 1 + 1e-9


@settings(deadline=None)
@given(factors, st.integers(3, 20))
def test_contiguous_odd_correction_is_subtracting_the_mean(factor: int, depth: int) -> None:
    factor += 1 - factor % 2
    profile = SliceProfile.mean(factor)
    np.testing.assert_allclose(profile.correction(depth), profile.matrix(depth).T * factor, atol=1e-9)


@settings(deadline=None)
@given(names, factors)
def test_constant_in_constant_out(name: str, factor: int) -> None:
    profile = SliceProfile.named(name, factor)
    thick = profile.apply(np.full((60, 2, 3), 37.0))
    np.testing.assert_allclose(thick, 37.0, rtol=1e-5)


def test_apply_takes_any_axis_and_makes_no_unsupported_slice() -> None:
    thin = np.random.default_rng(1).normal(size=(3, 23, 2))
    profile = SliceProfile.mean(5)
    thick = profile.apply(thin, axis=1)
    assert list(profile.centres(23)) == [2, 7, 12, 17]
    np.testing.assert_allclose(thick[:, 1], thin[:, 5:10].mean(axis=1), atol=1e-6)
    assert profile.apply(thin[:, :4], axis=1).shape == (3, 0, 2)


def test_wider_means_wider() -> None:
    narrow, contiguous, wide = (SliceProfile.mean(5, width=w).width for w in (0.5, 1.0, 2.0))
    assert narrow < contiguous < wide
    assert wide == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.2, 0.2, 0.2), (float("nan"),), ()])
def test_what_is_no_profile_is_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        SliceProfile("x", 5, weights)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="mean"):
        SliceProfile.named("box", 5)
