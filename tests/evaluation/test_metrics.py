"""PSNR and SSIM agree with the released implementation and, where definitions meet, with scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thinslice.errors import InputError, UsageError
from thinslice.evaluation.metrics import psnr, ssim, ssim_per_slice


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    reference = rng.random((3, 40, 52))
    return np.clip(reference + 0.1 * rng.standard_normal(reference.shape), 0, 1), reference


def test_equals_the_released_implementation(shared: Path) -> None:
    golden = np.load(shared / "golden" / "metrics_released.npz")
    estimate, reference = golden["estimate"], golden["reference"]
    assert psnr(estimate, reference, data_range=1.0) == pytest.approx(float(golden["psnr"]), abs=1e-5)
    assert ssim(estimate, reference, data_range=1.0) == pytest.approx(float(golden["ssim"]), abs=1e-5)
    per_slice = ssim_per_slice(estimate, reference, data_range=1.0)
    np.testing.assert_allclose(per_slice, golden["ssim_per_slice"], atol=1e-5)


@pytest.mark.parametrize("data_range", [1.0, 3072.0])
def test_psnr_equals_scikit_image(pair: tuple[np.ndarray, np.ndarray], data_range: float) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    estimate, reference = pair
    expected = skimage.peak_signal_noise_ratio(reference, estimate, data_range=data_range)
    assert psnr(estimate, reference, data_range=data_range) == pytest.approx(expected, abs=1e-9)


def test_ssim_equals_scikit_image_away_from_the_border(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Only zero padding differs, so a margin of 5 zero pixels makes both definitions meet inside it."""
    skimage = pytest.importorskip("skimage.metrics")
    estimate, reference = (np.pad(v, ((0, 0), (5, 5), (5, 5))) for v in pair)
    for index in range(len(reference)):
        _, full = skimage.structural_similarity(
            reference[index], estimate[index], data_range=1.0, full=True, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        ours = ssim_per_slice(pair[0][index : index + 1], pair[1][index : index + 1], data_range=1.0)
        assert ours[0] == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-7)


def test_identical_volumes(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert psnr(pair[1], pair[1], data_range=1.0) == float("inf")
    np.testing.assert_allclose(ssim_per_slice(pair[1], pair[1], data_range=1.0), 1.0, atol=1e-12)


def test_neither_clamps_nor_trims() -> None:
    reference = np.zeros((2, 12, 12))
    estimate = reference.copy()
    estimate[0] = 10.0
    assert psnr(estimate, reference, data_range=1.0) == pytest.approx(-10 * np.log10(50.0))
    assert len(ssim_per_slice(estimate, reference, data_range=1.0)) == 2


def test_scales_with_the_data_range(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    assert psnr(3072 * a, 3072 * b, data_range=3072.0) == pytest.approx(psnr(a, b, data_range=1.0))
    assert ssim(3072 * a, 3072 * b, data_range=3072.0) == pytest.approx(ssim(a, b, data_range=1.0))


def test_integers_are_not_wrapped() -> None:
    a, b = np.full((1, 12, 12), 30000, np.int16), np.full((1, 12, 12), -30000, np.int16)
    assert psnr(a, b, data_range=60000.0) == pytest.approx(0.0)


def test_data_range_is_required_and_checked(pair: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(TypeError):
        psnr(*pair)  # type: ignore[call-arg]
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="data_range"):
            psnr(*pair, data_range=wrong)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_refuses_shapes_and_values_it_cannot_measure(metric, pair) -> None:  # type: ignore[no-untyped-def]
    a, b = pair
    with pytest.raises(InputError, match="differ in shape"):
        metric(a, b[:, :-1], data_range=1.0)
    with pytest.raises(InputError, match="depth, height, width"):
        metric(a[0], b[0], data_range=1.0)
    with pytest.raises(InputError, match="depth, height, width"):
        metric(a[:0], b[:0], data_range=1.0)
    damaged = b.copy()
    damaged[2, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"reference holds 1 NaN .* slice 2"):
        metric(a, damaged, data_range=1.0)
