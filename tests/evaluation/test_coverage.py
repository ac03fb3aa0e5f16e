"""Standardised errors: counted as they are, in the groups they belong to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from thinslice.errors import UsageError
from thinslice.evaluation.coverage import EDGE_HU_PER_MM, FLAT_HU_PER_MM, CoverageMeter, Tally, tally_of
from thinslice.evaluation.placed import index_thick
from thinslice.geometry import Geometry
from thinslice.pictures.reliability import reliability
from thinslice.volume import Volume

NUMBERS = np.random.default_rng(0)


@pytest.mark.parametrize("level", [50, 68, 90, 95])
def test_coverage_and_multiples_are_a_gaussians(level: int) -> None:
    deviation = NUMBERS.uniform(2.0, 50.0, 400_000)
    tally = tally_of(deviation * NUMBERS.normal(size=deviation.size), deviation)
    multiple = norm.ppf(0.5 + level / 200)
    assert 100 * tally.coverage(multiple) == pytest.approx(level, abs=0.3)
    assert tally.multiple(level) == pytest.approx(multiple, rel=0.01)
    assert tally.rms == pytest.approx(1.0, rel=0.01)
    assert tally.mean_deviation_hu == pytest.approx(26.0, rel=0.01)


def test_means_are_those_of_the_errors() -> None:
    error = np.array([3.0, -1.0, 4.0, 0.0])
    tally = tally_of(error, np.full(4, 2.0))
    assert tally.voxels == 4
    assert tally.bias_hu == pytest.approx(1.5)
    assert tally.rmse_hu == pytest.approx(math.sqrt(26 / 4))
    assert tally.rms == pytest.approx(math.sqrt(26 / 16))
    assert tally.coverage(1.0) == pytest.approx(0.5)
    assert tally.coverage(1e6) == 1.0 and tally.coverage(1e-6) == pytest.approx(0.25), "an error of none is covered"


def test_the_interval_score_is_its_definition_and_least_for_the_right_multiple() -> None:
    deviation = NUMBERS.uniform(2.0, 50.0, 200_000)
    error = deviation * NUMBERS.normal(size=deviation.size)
    tally = tally_of(error, deviation)
    scores = []
    for multiple in (1.2, 1.645, 2.2):
        half = multiple * deviation
        expected = np.mean(2 * half + 2 / 0.1 * np.maximum(0.0, np.abs(error) - half))
        scores.append(tally.interval_score_hu(multiple, 90))
        assert scores[-1] == pytest.approx(expected, rel=0.01)
    assert scores[1] == min(scores)


def test_adding_counts_both() -> None:
    one, other = tally_of(np.full(3, 1.0), np.full(3, 2.0)), tally_of(np.full(5, 9.0), np.full(5, 3.0))
    total = Tally.empty()
    total.add(one)
    total.add(other)
    both = tally_of(np.array([1.0] * 3 + [9.0] * 5), np.array([2.0] * 3 + [3.0] * 5))
    np.testing.assert_allclose(total.counts, both.counts)
    np.testing.assert_allclose(total.deviations, both.deviations)
    assert (total.squares, total.squared_hu, total.signed_hu) == (both.squares, both.squared_hu, both.signed_hu)


def test_voxels_fall_into_their_groups() -> None:
    thick_hu = np.full((3, 4, 6), -800, np.int16)
    thick_hu[:, :, 3:] = 40
    grid = Geometry((9, 4, 6), (1.25, 0.5, 0.5))
    thick = Volume(thick_hu, Geometry((3, 4, 6), (5.0, 0.5, 0.5)))
    meter = CoverageMeter(index_thick(thick, grid), grid.spacing_mm)
    truth = np.repeat(thick_hu[:1], 9, axis=0).astype(np.float32)
    truth[:, 0, 0] = -1024.0
    truth[:, 0, 1] = 2048.0
    deviation = np.full((4, 6), 5.0, np.float32)
    deviation[:, 3:] = 100.0
    for index in range(9):
        meter.add(index, [truth[index] + 1.0] * 3, truth[index], deviation)
    groups = {kind: {name: tally.voxels for name, tally in names.items()} for kind, names in meter.groups.items()}
    assert meter.voxels == 9 * 24 and meter.left_out == 9 * 2
    assert groups["all"] == {"all": 9 * 22}
    assert groups["tissue"] == {"lung": 9 * 10, "soft": 9 * 12}
    assert groups["deviation_hu"] == {"4 to 8": 9 * 10, "64 to 128": 9 * 12}
    # Thin slices 0, 4 and 8 are thick ones; 2 and 6 lie midway.
    assert groups["distance_mm"] == {"0": 3 * 22, "1.25": 4 * 22, "2.5": 2 * 22}
    assert meter.groups["all"]["all"].bias_hu == pytest.approx(1.0)
    # 840 HU over a pixel of 0.5 mm: the columns beside the step, and those beside the two odd voxels.
    assert groups["edge"]["edge"] > 9 * 8 - 1 and groups["edge"]["flat"] > 0


def test_padding_of_the_thick_slices_is_left_out() -> None:
    grid = Geometry((6, 2, 3), (1.0, 1.0, 1.0))
    thick = Volume(np.full((2, 2, 3), 40, np.int16), Geometry((2, 2, 3), (5.0, 1.0, 1.0)))
    meter = CoverageMeter(index_thick(thick, grid), grid.spacing_mm)
    deviation = np.full((2, 3), 10.0, np.float32)
    deviation[0] = 0.0
    truth = np.full((2, 3), 40.0, np.float32)
    meter.add(0, [truth + 10.0] * 3, truth, deviation)
    deviation[1] = 0.0
    meter.add(1, [truth] * 3, truth, deviation)
    assert (meter.voxels, meter.left_out) == (12, 9)
    assert meter.groups["all"]["all"].rms == pytest.approx(1.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_gradient_is_per_millimetre_along_every_axis(axis: int) -> None:
    spacing = (2.0, 0.5, 0.8)
    grid = Geometry((9, 12, 14), spacing)
    place = np.arange(grid.shape[axis], dtype=np.float32) * spacing[axis]
    for slope, name in (
        (0.9 * FLAT_HU_PER_MM, "flat"),
        (0.9 * EDGE_HU_PER_MM, "between"),
        (1.1 * EDGE_HU_PER_MM, "edge"),
    ):
        hu = np.zeros(grid.shape, np.float32)
        hu += (slope * place).reshape([-1 if a == axis else 1 for a in range(3)])
        thick = Volume(np.zeros((3, 12, 14), np.int16), Geometry((3, 12, 14), (8.0, 0.5, 0.8)))
        meter = CoverageMeter(index_thick(thick, grid), spacing)
        for index in range(9):
            around = [hu[min(max(index + step, 0), 8)] for step in (-1, 0, 1)]
            if index == 0:
                around[0] = around[1]
            if index == 8:
                around[2] = around[1]
            meter.add(index, around, hu[index], np.ones((12, 14), np.float32))
        assert list(meter.groups["edge"]) == [name]


def test_a_figure_needs_something_to_draw() -> None:
    with pytest.raises(UsageError, match="coverage"):
        reliability({}, [])
    one, other = (reliability({"tissue": {"all": {50: c, 90: 91.0}}}, [(2.0, 2.5), (8.0, 7.0)]) for c in (49.0, 60.0))
    assert one.startswith(b"\x89PNG") and one != other
