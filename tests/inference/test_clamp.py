"""Clamping that keeps the thin slices' averages."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.inference.consistency import clamp_consistently
from thinslice.models.along_z import z_matrix
from thinslice.profile import SliceProfile


@pytest.mark.parametrize("factor", range(2, 9))
@pytest.mark.parametrize("width", [0.6, 1.0])
def test_noisy_air_averages_back_after_clamping(factor: int, width: float) -> None:
    rng = np.random.default_rng(factor)
    profile = SliceProfile.mean(factor, width=width)
    depth = 8
    thick = rng.uniform(0.002, 0.02, (depth, 6, 7)).astype(np.float32)
    thick[:, :2] = rng.uniform(0.98, 0.999, (depth, 2, 7))
    noise = rng.normal(0, 0.01, ((depth - 1) * factor + 1, 6, 7))
    consistent = z_matrix("cubic-consistent", depth, profile, factor)
    hidden = noise - np.einsum("zk,khw->zhw", profile.correction(depth) @ profile.matrix(depth), noise)
    thin = (np.einsum("zd,dhw->zhw", consistent, thick) + hidden).astype(np.float32)
    assert (thin < 0).any() and (thin > 1).any()
    plain = np.clip(thin, 0, 1)
    clamp_consistently(thin, thick, profile)
    assert thin.min() >= 0 and thin.max() <= 1
    rows = list(profile.supported(depth))
    missing, missing_plain = (
        np.abs(np.einsum("kz,zhw->khw", profile.matrix(depth), v) - thick[rows]).max() * 3072 for v in (thin, plain)
    )
    assert missing < 0.5 < missing_plain


def test_columns_inside_the_window_are_left_alone() -> None:
    profile = SliceProfile.mean(5)
    thin = np.random.default_rng(0).uniform(0, 1, (16, 3, 3)).astype(np.float32)
    before = thin.copy()
    clamp_consistently(thin, np.full((4, 3, 3), 0.5, np.float32), profile)
    np.testing.assert_array_equal(thin, before)


def test_where_consistency_is_approximate_it_only_clamps() -> None:
    profile = SliceProfile.mean(5, width=2.0)
    assert not profile.exact(8)
    thin = np.random.default_rng(0).normal(0, 1, (36, 3, 3)).astype(np.float32)
    clamped = np.clip(thin, 0, 1)
    clamp_consistently(thin, np.full((8, 3, 3), 0.5, np.float32), profile)
    np.testing.assert_array_equal(thin, clamped)


def test_metal_keeps_its_shape() -> None:
    profile = SliceProfile.mean(5)
    thick = np.array([0.3, 1.0, 0.3], np.float32).reshape(3, 1, 1)
    thin = np.array([0.3, 0.2, 0.1, 0.4, 1.2, 1.8, 1.2, 0.4, 0.1, 0.2, 0.3], np.float32).reshape(11, 1, 1)
    assert thin[3:8].mean() == pytest.approx(1.0)
    expected = np.clip(thin, 0, 1)
    clamp_consistently(thin, thick, profile)
    np.testing.assert_array_equal(thin, expected)
