"""Bias by tissue: what was put in comes out, and only where it was put."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.evaluation.clinical.tissue_bias import MAX_BIAS_HU, inner_thick, tissue_bias
from thinslice.evaluation.clinical.tissues import TISSUES_HU
from thinslice.profile import SliceProfile

LEVELS = {"air": -1000.0, "lung": -850.0, "between": -300.0, "fat": -90.0, "soft": 40.0, "bone": 500.0}


def volumes(factor: int, depth: int = 8, noise_hu: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and thick slices: a stripe of every tissue."""
    rng = np.random.default_rng(3)
    row = np.repeat(list(LEVELS.values()), 20)
    thin = np.broadcast_to(row, ((depth - 1) * factor + 1, 30, row.size)).astype(np.float64)
    thin = thin + noise_hu * rng.standard_normal(thin.shape)
    profile = SliceProfile.mean(factor)
    thick = thin[::factor].copy()
    for k in profile.supported(depth):
        begin = k * factor - profile.reach
        thick[k] = np.tensordot(profile.weights, thin[begin : begin + len(profile.weights)], axes=1)
    return thin, thick


@pytest.mark.parametrize("factor", [2, 5, 8])
def test_a_shift_of_lung_is_found_in_lung_alone(factor: int) -> None:
    truth, thick = volumes(factor)
    estimate = truth.copy()
    estimate[:, :, 20:40] += 5.0
    found = tissue_bias(estimate, truth, thick, factor)
    assert list(found) == list(TISSUES_HU)
    assert found["lung"].bias_hu == pytest.approx(5.0) and found["lung"].verdict == "FAIL"
    assert found["lung"].rmse_hu == pytest.approx(5.0)
    for name in set(LEVELS) - {"lung"}:
        assert found[name].bias_hu == 0.0 and found[name].verdict == "pass"
    # Every thin slice of an inner thick one counts once, those between two a half to each.
    assert found["lung"].voxels == len(inner_thick(8)) * factor * 30 * 20


@pytest.mark.parametrize("factor", [3, 4])
def test_what_averages_back_to_the_thick_slices_has_no_bias(factor: int) -> None:
    """Nothing is known of the noise between thick slices, and the classes of the thick slices do not mind."""
    truth, thick = volumes(factor, noise_hu=40.0)
    inner = inner_thick(8)
    flat = np.repeat(thick, factor, axis=0)[factor // 2 : factor // 2 + len(truth)].copy()
    if factor % 2 == 0:
        # Midway between two thick slices a thin one belongs to both: their mean keeps each in balance on average.
        half = factor // 2
        flat[half::factor] = 0.5 * (thick[:-1] + thick[1:])
    by_thick = tissue_bias(flat, truth, thick, factor)
    by_truth = tissue_bias(flat, truth, thick, factor, by="truth")
    assert len(inner) == 6
    assert abs(by_thick["lung"].bias_hu) < (1e-9 if factor == 3 else 1.0)
    # By classes of the truth the same estimate is "biased" at the ends: regression to the mean.
    assert by_truth["air"].bias_hu > 5.0 and by_truth["bone"].bias_hu < 0.5


def test_a_bias_that_cancels_over_a_thick_slice_shows_by_distance() -> None:
    truth, thick = volumes(5)
    estimate = truth.copy()
    estimate[::5] += 8.0
    estimate[2::5] -= 4.0
    estimate[3::5] -= 4.0
    found = tissue_bias(estimate, truth, thick, 5)["soft"]
    assert found.bias_hu == pytest.approx(0.0) and found.verdict == "FAIL"
    assert found.by_offset_hu == pytest.approx((8.0, 0.0, -4.0)) and found.worst_offset_hu == pytest.approx(8.0)


def test_the_interval_holds_the_spread_between_slices() -> None:
    truth, thick = volumes(5, depth=22)
    estimate = truth.copy()
    shifts = np.random.default_rng(0).normal(1.0, 3.0, 22)
    for k, shift in enumerate(shifts):
        estimate[max(0, 5 * k - 2) : 5 * k + 3] += shift
    found = tissue_bias(estimate, truth, thick, 5)["fat"]
    inner = shifts[1:-1]
    assert found.bias_hu == pytest.approx(inner.mean())
    half = 1.96 * inner.std() / np.sqrt(inner.size)
    assert found.high_hu - found.low_hu == pytest.approx(2 * half, rel=0.1)


def test_the_rule_is_two_hu_and_needs_voxels() -> None:
    truth, thick = volumes(5)
    for shift, verdict in ((MAX_BIAS_HU - 0.01, "pass"), (-MAX_BIAS_HU - 0.01, "FAIL")):
        assert tissue_bias(truth + shift, truth, thick, 5)["bone"].verdict == verdict
    few = tissue_bias(truth[:, :1] + 9, truth[:, :1], thick[:, :1], 5)
    assert few["bone"].bias_hu == pytest.approx(9.0) and few["bone"].verdict == "too few"


def test_what_lies_outside_the_field_of_view_belongs_to_no_class() -> None:
    truth, thick = volumes(5)
    truth[:, :, :10] = thick[:, :, :10] = -1024.0
    estimate = truth.copy()
    estimate[:, :, :10] += 50.0
    found = tissue_bias(estimate, truth, thick, 5)["air"]
    assert found.bias_hu == 0.0 and found.voxels == 6 * 5 * 30 * 10
