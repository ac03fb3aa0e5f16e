"""Each protocol against an implementation of its own, written from its description alone."""

from __future__ import annotations

import typing

import numpy as np
import pytest
from scipy.signal import convolve2d

from thinslice.cli.evaluate import Protocol as CommandProtocol
from thinslice.errors import InputError, UsageError
from thinslice.evaluation.protocol import PROTOCOLS, evaluate, evaluate_all
from thinslice.geometry import Geometry
from thinslice.recipes.suite import Protocol as SuiteProtocol
from thinslice.volume import Volume

CLOSE = 1e-6


def volume(hu: np.ndarray) -> Volume:
    return Volume(hu, Geometry(hu.shape, (1.0, 3.0, 3.0)))


def chest(seed: int = 0) -> np.ndarray:
    """A body with two lungs in air, (20, 80, 96) int16 HU."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[:20, :80, :96]
    hu = np.full((20, 80, 96), -1000.0)
    hu[(((y - 40) / 34) ** 2 + ((x - 48) / 42) ** 2 < 1) & (z >= 0)] = 40.0
    for centre in (28, 68):
        hu[((z - 10) / 8) ** 2 + ((y - 40) / 22) ** 2 + ((x - centre) / 14) ** 2 < 1] = -850.0
    return (hu + rng.normal(0, 25, hu.shape)).astype(np.int16)


@pytest.fixture(scope="module")
def pair() -> tuple[Volume, Volume]:
    truth = chest()
    noisy = truth + np.random.default_rng(1).normal(0, 40, truth.shape)
    return volume(noisy.astype(np.float32)), volume(truth)


def scaled(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((hu.astype(np.float64) - low) / (high - low), 0, 1)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def planar_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the planes of the first axis, by plain two-dimensional convolution with zeros outside."""
    row = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(row, row) / row.sum() ** 2
    means = []
    for p, q in zip(a, b, strict=True):
        mp, mq, pp, qq, pq = (convolve2d(v, window, mode="same") for v in (p, q, p * p, q * q, p * q))
        top = (2 * mp * mq + 1e-4) * (2 * (pq - mp * mq) + 9e-4)
        means.append((top / ((mp**2 + mq**2 + 1e-4) * (pp - mp**2 + qq - mq**2 + 9e-4))).mean())
    return float(np.mean(means))


def test_volume_is_the_mean_of_three_planes_without_leaving_slices_out(pair: tuple[Volume, Volume]) -> None:
    a, b = (scaled(v.hu, -1024, 2048) for v in pair)
    scores = evaluate(*pair, protocol="volume")
    by_plane = [planar_ssim(np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)) for axis in range(3)]
    assert scores.psnr == pytest.approx(psnr(a, b), abs=1e-4)
    assert scores.planes == pytest.approx(dict(zip(("axial", "coronal", "sagittal"), by_plane, strict=True)), abs=CLOSE)
    assert scores.ssim == pytest.approx(np.mean(by_plane), abs=CLOSE)
    assert scores.slices_scored == 20 and scores.box == ((0, 20), (0, 80), (0, 96))


def test_skimage_is_scikit_image(pair: tuple[Volume, Volume]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a, b = (scaled(v.hu[5:-5], -1024, 2048) for v in pair)
    scores = evaluate(*pair, protocol="skimage")
    assert scores.psnr == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-4)
    assert scores.ssim == pytest.approx(metrics.structural_similarity(a, b, data_range=1.0), abs=CLOSE)
    assert scores.slices_scored == 10 and len(scores.ssim_per_slice) == 4


def test_skimage_needs_seven_voxels_along_each_axis(pair: tuple[Volume, Volume]) -> None:
    short = [v.crop((0, 0, 0), (16, 80, 96)) for v in pair]
    with pytest.raises(InputError, match="7 voxels along each axis"):
        evaluate(*short, protocol="skimage")


def test_lung_is_scored_in_the_box_around_the_lungs_of_the_reference(pair: tuple[Volume, Volume]) -> None:
    scores = evaluate(*pair, protocol="lung")
    (z0, z1), (y0, y1), (x0, x1) = scores.box
    # The ellipsoids reach from 2 to 18, 18 to 62 and 14 to 82; where they are thin, their pieces are no lung.
    assert abs(z0 - 3) <= 2 and abs(z1 - 18) <= 2
    assert abs(y0 - 19) <= 3 and abs(y1 - 62) <= 3 and abs(x0 - 15) <= 3 and abs(x1 - 82) <= 3
    a, b = (scaled(v.hu[z0:z1, y0:y1, x0:x1], -1000, 200) for v in pair)
    assert scores.psnr == pytest.approx(psnr(a, b), abs=1e-4)
    assert scores.ssim == pytest.approx(planar_ssim(a, b), abs=CLOSE)
    assert scores.window_hu == (-1000.0, 200.0)


def test_what_lies_outside_the_box_does_not_count(pair: tuple[Volume, Volume]) -> None:
    estimate, reference = pair
    spoiled = estimate.hu.copy()
    spoiled[:, :8] = spoiled[:, -8:] = 150.0
    assert evaluate(volume(spoiled), reference, protocol="lung") == evaluate(estimate, reference, protocol="lung")
    assert evaluate(volume(spoiled), reference).psnr < evaluate(estimate, reference).psnr


def test_lung_is_refused_without_lungs() -> None:
    still = volume(np.random.default_rng(2).integers(0, 90, (12, 40, 40)).astype(np.int16))
    with pytest.raises(InputError, match="reference holds none"):
        evaluate(still, still, protocol="lung")


def test_unit_values_score_as_their_hu_under_every_window(pair: tuple[Volume, Volume]) -> None:
    in_unit = [volume(scaled(v.hu, -1024, 2048).astype(np.float32)) for v in pair]
    for protocol in ("volume", "skimage", "lung"):
        expected = evaluate(*pair, protocol=protocol)
        scores = evaluate(*in_unit, protocol=protocol)
        assert (scores.psnr, scores.ssim) == pytest.approx((expected.psnr, expected.ssim), abs=2e-3)


def test_several_protocols_at_once_are_each_alone(pair: tuple[Volume, Volume]) -> None:
    together = evaluate_all(*pair, PROTOCOLS)
    assert tuple(together) == PROTOCOLS
    for protocol, scores in together.items():
        assert scores == evaluate(*pair, protocol=protocol) and scores.protocol == protocol
    assert [name for name, scores in together.items() if scores.clinical is not None] == ["clinical"]


@pytest.mark.parametrize("protocols", [(), ("rplhr", "rplhr")])
def test_protocols_are_named_once(pair: tuple[Volume, Volume], protocols: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="each once: rplhr"):
        evaluate_all(*pair, protocols)


def test_the_names_are_the_same_everywhere() -> None:
    assert set(typing.get_args(SuiteProtocol)) == {each.value for each in CommandProtocol} == set(PROTOCOLS)


def test_one_voxel_does_not_decide_about_the_unit(pair: tuple[Volume, Volume]) -> None:
    estimate, reference = (scaled(v.hu, -1024, 2048).astype(np.float32) for v in pair)
    expected = evaluate(volume(estimate), volume(reference))
    estimate[10, 3, 3], estimate[10, 3, 4] = -0.5, 3.0
    assert evaluate(volume(estimate), volume(reference)).psnr == pytest.approx(expected.psnr, abs=0.5)


def test_normalised_values_are_refused(pair: tuple[Volume, Volume]) -> None:
    normal = volume(((pair[0].hu - pair[0].hu.mean()) / pair[0].hu.std()).astype(np.float32))
    with pytest.raises(InputError, match=r"estimate lie between .* neither HU nor \[0, 1\]"):
        evaluate(normal, pair[1])
