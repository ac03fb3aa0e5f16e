"""Laws of the interpolations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from thinslice.models import catalog
from thinslice.models.along_z import Method, z_matrix
from thinslice.profile import SliceProfile

METHODS = ("nearest", "linear", "cubic", "linear-consistent", "cubic-consistent")
ROWS = ("nearest", "linear", "cubic", "cubic-consistent")


@given(st.sampled_from(METHODS), st.integers(1, 20), st.integers(2, 8))
def test_constant_in_constant_out(method: str, depth: int, factor: int) -> None:
    matrix = z_matrix(method, depth, SliceProfile.mean(factor), factor)  # type: ignore[arg-type]
    assert matrix.shape == ((depth - 1) * factor + 1, depth)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-9)


@given(st.sampled_from(METHODS[:3]), st.integers(1, 20), st.integers(2, 8))
def test_thick_slice_k_is_thin_slice_factor_times_k(method: str, depth: int, factor: int) -> None:
    matrix = z_matrix(method, depth, SliceProfile.mean(factor), factor)  # type: ignore[arg-type]
    np.testing.assert_allclose(matrix[::factor], np.eye(depth), atol=1e-9)


@pytest.mark.parametrize("method", ["linear-consistent", "cubic-consistent"])
@pytest.mark.parametrize("factor", range(2, 9))
def test_consistent_methods_average_back_to_the_thick_slices(method: Method, factor: int) -> None:
    profile = SliceProfile.mean(factor)
    matrix = z_matrix(method, 12, profile, factor)
    rows = list(profile.supported(12))
    np.testing.assert_allclose(profile.matrix(12) @ matrix, np.eye(12)[rows], atol=1e-9)


def test_cubic_is_scipys_not_a_knot_spline() -> None:
    x = torch.randn(2, 1, 9, 3, 4, dtype=torch.float64)
    y = catalog.build("cubic")(x, factor=4)
    spline = CubicSpline(np.arange(9), x[:, 0].numpy(), axis=1, bc_type="not-a-knot")(np.arange(33) / 4)
    np.testing.assert_allclose(y[:, 0].numpy(), spline, atol=1e-12)


def test_linear_is_numpys() -> None:
    x = torch.randn(1, 1, 6, 1, 1, dtype=torch.float64)
    y = catalog.build("linear")(x, factor=5)
    np.testing.assert_allclose(y.flatten(), np.interp(np.arange(26) / 5, np.arange(6), x.flatten()), atol=1e-12)


@pytest.mark.parametrize("method", ROWS)
def test_far_slices_do_not_matter_beyond_the_halo(method: str) -> None:
    model = catalog.build(method)
    halo = model.window.halo[0]
    x = torch.rand(1, 1, 3 * halo + 4, 1, 1, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, -1] += 1.0
    last = (x.shape[2] - 1 - halo) * 5
    difference = (model(x, factor=5) - model(changed, factor=5))[:, :, : last + 1].abs().max()
    assert difference * 3072 < 1e-3  # HU
