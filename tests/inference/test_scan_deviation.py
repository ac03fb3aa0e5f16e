"""Standard deviations scaled to the noise of the scan: the right size whatever the level of the map, per tissue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thinslice.inference.scan_deviation import (
    NoiseRatios,
    ScanScale,
    finest_variance,
    measure_ratios,
    nearest_factors,
    scaled,
)
from thinslice.inference.texture.law import Averages, open_noise
from thinslice.inference.texture.patches import PATCH
from thinslice.inference.texture.scan_noise import measure_noise
from thinslice.inference.upscale import upscale_slabs
from thinslice.intensity import WINDOW_WIDTH_HU
from thinslice.models.interpolate import z_matrix
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

FACTOR, NOISE_HU = 4, 12.0


@pytest.fixture(scope="module")
def thick() -> np.ndarray:
    """Air, lung and soft tissue side by side, with white noise on the thin slices, half as large in air."""
    rng = np.random.default_rng(0)
    level = np.repeat([-985.0, -850.0, 40.0, 40.0], 64)
    size = np.repeat([0.5, 1.0, 1.0, 1.0], 64) * NOISE_HU
    thin = level + size * rng.standard_normal((FACTOR * 10 + 1, 128, 256))
    return np.rint(SliceProfile.mean(FACTOR).apply(thin.astype(np.float32))).astype(np.int16)


def infer_with(map_hu: float) -> Any:
    """Interpolation beside an even map."""
    profile = SliceProfile.mean(FACTOR)

    def infer(batch: np.ndarray) -> np.ndarray:
        matrix = z_matrix("linear-consistent", batch.shape[2], profile, FACTOR).astype(np.float32)
        thin = np.einsum("zd,bcdhw->bczhw", matrix, batch)
        return np.concatenate([thin, np.full_like(thin, map_hu / WINDOW_WIDTH_HU)], axis=1)

    return infer


def ratios_of(thick: np.ndarray, map_hu: float, calibrated: float = 1.0) -> NoiseRatios | None:
    profile = SliceProfile.mean(FACTOR)
    averages = Averages.of_profile(profile, len(thick))
    noise = measure_noise(thick, averages)
    left = open_noise(averages, noise.blur)
    return measure_ratios(
        thick,
        noise,
        left,
        infer_with(map_hu * calibrated),
        calibrated=calibrated,
        window=ModelWindow(halo=(1, 0, 0), tile=(96, 96), working_bytes=60.0),
        profile=profile,
        padding_hu=None,
        consistent=True,
    )


@pytest.mark.parametrize("map_hu", [5.0, 40.0])
def test_the_ratio_is_the_missing_noise_over_the_map(thick: np.ndarray, map_hu: float) -> None:
    found = ratios_of(thick, map_hu)
    assert found is not None
    # Of white noise the averages of 4 slices leave 3/4 of the variance open; the blur along z is only guessed.
    expected = NOISE_HU * np.sqrt(3 / 4) / map_hu
    assert found.soft == pytest.approx(expected, rel=0.15)
    assert found.lung == pytest.approx(found.soft, rel=0.1)
    assert found.air == pytest.approx(found.soft / 2, rel=0.1)


def test_the_ratio_does_not_depend_on_the_calibration_of_the_card(thick: np.ndarray) -> None:
    one, half = ratios_of(thick, 16.0), ratios_of(thick, 16.0, calibrated=0.5)
    assert one is not None and half is not None
    assert half.soft == pytest.approx(one.soft, rel=0.01)


def test_finest_variance_of_white_noise_is_twenty_times_its_variance() -> None:
    noise = np.random.default_rng(1).standard_normal((4000, PATCH**2)).astype(np.float32)
    assert finest_variance(noise).mean() == pytest.approx(16 + 4, rel=0.02)


def test_noise_and_structure_add_as_squares_and_a_tissue_without_patches_gets_that_of_soft() -> None:
    scale = NoiseRatios(air=0.0, lung=float("nan"), soft=3.0).scale(noise=1.0, structure=4.0)
    assert (scale.air, scale.lung, scale.soft) == (4.0, 5.0, 5.0)


def test_every_slice_gets_the_factor_of_its_nearest_thick_one() -> None:
    scale = ScanScale(air=0.5, lung=2.0, soft=1.5)
    thick = np.stack([np.full((8, 8), hu) for hu in (-1000, -700, 40)])
    slabs = [(start, np.full((2, stop - start, 8, 8), 10.0, np.float32)) for start, stop in ((0, 3), (3, 5))]
    made = np.concatenate([slab for _, slab in scaled(iter(slabs), scale, thick, 2)], axis=1)
    assert np.all(made[0] == 10.0)
    # Thin slice 1 lies halfway between thick ones 0 and 1.
    factors = nearest_factors(scale, thick, 2)
    np.testing.assert_allclose(made[1, 0], 5.0)
    np.testing.assert_allclose(made[1, 2], 20.0)
    np.testing.assert_allclose(made[1, 4], 15.0)
    np.testing.assert_allclose(made[1, 1], np.rint(160 * factors(1)) / 16, rtol=1e-6)


def test_a_run_states_its_scale_and_noisier_scans_get_wider_intervals(thick: np.ndarray) -> None:
    def run(hu: np.ndarray) -> tuple[Any, float]:
        volume = Volume.from_array(hu, spacing_mm=(4.0, 0.7, 0.7), thickness_mm=4.0)
        stream = upscale_slabs(volume, factor=FACTOR, uncertainty=True, device="cpu", backend="torch", threads=1)
        deviation = np.concatenate([slab.deviation_hu for slab in stream])
        return stream.result.scan_scale, float(np.median(deviation[:, :, 160:]))

    part = thick[:6, :96]
    level = np.rint(part.astype(np.float32).mean(axis=0)).astype(np.int16)
    noisy = level + 2 * (part - level)
    scale, plain = run(part)
    _, more = run(noisy.astype(np.int16))
    assert isinstance(scale, ScanScale) and min(scale.air, scale.lung, scale.soft) > 0
    assert more > 1.5 * plain


def test_a_scan_without_even_soft_tissue_keeps_the_level_of_the_card(thick: np.ndarray) -> None:
    volume = Volume.from_array(thick[:4, :32, :64], spacing_mm=(4.0, 0.7, 0.7), thickness_mm=4.0)
    stream = upscale_slabs(volume, factor=FACTOR, uncertainty=True, device="cpu", backend="torch", threads=1)
    assert all(np.all(slab.deviation_hu > 0) for slab in stream)
    assert stream.prepared.deviation_noise is None and stream.result.scan_scale is None
