"""The rplhr protocol: clamped, range 1, five slices off each end; refusals with reasons."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from thinslice.errors import GeometryError, InputError, UsageError
from thinslice.evaluation.metrics import psnr, ssim_per_slice
from thinslice.evaluation.protocol import evaluate
from thinslice.geometry import Geometry
from thinslice.intensity import to_hu, to_unit
from thinslice.volume import Volume


def volume(hu: np.ndarray, **geometry: object) -> Volume:
    return Volume(hu, Geometry(hu.shape, (1.0, 0.7, 0.7), **geometry))  # type: ignore[arg-type]


@pytest.fixture
def pair() -> tuple[Volume, Volume]:
    rng = np.random.default_rng(5)
    reference = rng.integers(-1000, 1500, (14, 24, 20)).astype(np.int16)
    estimate = reference + rng.normal(0, 60, reference.shape).astype(np.float32)
    return volume(estimate.astype(np.float32)), volume(reference)


def test_is_the_metrics_on_the_kept_clamped_slices(pair: tuple[Volume, Volume]) -> None:
    estimate, reference = pair
    scores = evaluate(estimate, reference)
    a, b = (np.clip(to_unit(v.hu[5:-5]), 0, 1) for v in pair)
    assert scores.psnr == pytest.approx(psnr(a, b, data_range=1.0), abs=1e-9)
    np.testing.assert_allclose(scores.ssim_per_slice, ssim_per_slice(a, b, data_range=1.0), atol=1e-9)
    assert scores.ssim == pytest.approx(np.mean(scores.ssim_per_slice))
    assert scores.slices_scored == 4


def test_end_slices_do_not_count(pair: tuple[Volume, Volume]) -> None:
    estimate, reference = pair
    spoiled = estimate.hu.copy()
    spoiled[:5] = spoiled[-5:] = 2000.0
    assert evaluate(volume(spoiled), reference) == evaluate(estimate, reference)
    spoiled[5, 0, 0] += 500.0
    assert evaluate(volume(spoiled), reference).psnr < evaluate(estimate, reference).psnr


def test_values_outside_the_window_are_clamped(pair: tuple[Volume, Volume]) -> None:
    _, reference = pair
    hu = reference.hu.copy()
    hu[7, :3, :3], other = 3071, hu.copy()
    hu[7, 10, 10], other[7, 10, 10] = -2000, -1024
    other[7, :3, :3] = 2048
    assert evaluate(volume(hu), volume(other)).identical


def test_eleven_slices_are_the_fewest(pair: tuple[Volume, Volume]) -> None:
    estimate, reference = (v.crop((0, 0, 0), (11, 24, 20)) for v in pair)
    assert evaluate(estimate, reference).slices_scored == 1
    estimate, reference = (v.crop((0, 0, 0), (10, 24, 20)) for v in pair)
    with pytest.raises(InputError, match=r"share 10 slices.*at least 11"):
        evaluate(estimate, reference)


def test_json_is_json_and_null_when_identical(pair: tuple[Volume, Volume]) -> None:
    messages = json.loads(json.dumps(evaluate(pair[1], pair[1]).to_json(), allow_nan=False))
    assert messages["psnr"] is None and messages["identical"] is True
    messages = json.loads(json.dumps(evaluate(*pair).to_json(), allow_nan=False))
    assert {"protocol", "psnr", "ssim", "ssim_per_slice", "slices_scored"} <= messages.keys()
    assert messages["protocol"] == "rplhr" and messages["psnr"] > 20 and len(messages["ssim_per_slice"]) == 4


def test_unit_values_score_as_their_hu(pair: tuple[Volume, Volume]) -> None:
    in_unit = [volume(np.clip(to_unit(v.hu), 0, 1)) for v in pair]
    expected = evaluate(*(volume(to_hu(v.hu)) for v in in_unit))
    scores = evaluate(*in_unit)
    assert scores.intensity == "unit" and "taken as unit" in scores.warnings[0]
    assert scores.psnr == pytest.approx(expected.psnr, abs=1e-3)
    assert expected.intensity == "hu" and expected.warnings == ()
    mixed = evaluate(pair[0], in_unit[1])
    assert mixed.intensity == "mixed" and "reference alone" in mixed.warnings[0]
    assert mixed.psnr == pytest.approx(expected.psnr, abs=1e-3)


def test_intensity_can_be_named(pair: tuple[Volume, Volume]) -> None:
    in_unit = [volume(np.clip(to_unit(v.hu), 0, 1)) for v in pair]
    assert evaluate(*in_unit, intensity="unit").warnings == ()
    # Taken as HU, values within one HU of each other are nearly equal.
    assert evaluate(*in_unit, intensity="hu").psnr > evaluate(*in_unit).psnr + 50


def test_world_and_index(pair: tuple[Volume, Volume]) -> None:
    estimate, reference = pair
    moved = Volume(estimate.hu, replace(estimate.geometry, origin_mm=(0, 0, 0.5)))
    with pytest.raises(GeometryError, match="apart along depth"):
        evaluate(moved, reference)
    by_index = evaluate(moved, reference, align="index")
    assert by_index.psnr == evaluate(estimate, reference).psnr and by_index.align == "index"
    with pytest.raises(InputError, match="differ in shape"):
        evaluate(estimate.crop((0, 0, 0), (13, 24, 20)), reference, align="index")


def test_a_shift_by_whole_slices_is_undone_by_position(pair: tuple[Volume, Volume]) -> None:
    """As in the real pair, where thick k is centred on thin 5k + 2: the index alone would be wrong."""
    _, reference = pair
    part = reference.crop((2, 0, 0), (14, 24, 20))
    assert evaluate(part, reference).identical


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(pair: tuple[Volume, Volume], value: float) -> None:
    estimate, reference = pair
    hu = estimate.hu.copy()
    hu[6, 1, 2] = value
    with pytest.raises(InputError, match="estimate holds 1 NaN or infinite values in slice 6"):
        evaluate(volume(hu), reference)


@pytest.mark.parametrize("wrong", [{"protocol": "x"}, {"align": "x"}, {"intensity": "x"}])
def test_unknown_names_are_usage_errors(pair: tuple[Volume, Volume], wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="choose one of"):
        evaluate(*pair, **wrong)


def test_inputs_are_left_as_they_are(pair: tuple[Volume, Volume]) -> None:
    before = [v.hu.copy() for v in pair]
    evaluate(*pair)
    for v, kept in zip(pair, before, strict=True):
        np.testing.assert_array_equal(v.hu, kept)
