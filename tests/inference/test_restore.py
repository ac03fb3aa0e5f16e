from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from thinslice.inference.restore import Restorer, network_input


def test_the_network_is_fed_zero_to_one() -> None:
    hu = np.array([[-3000, -1024, 0], [2048, 30000, -77]], np.int16)
    unit = network_input(hu, None)
    assert unit.dtype == np.float32
    assert unit.min() == 0
    assert unit.max() == 1
    assert network_input(hu, -77.0)[1, 2] == 0
    assert hu[1, 2] == -77  # the source is left alone


def test_values_inside_the_window_are_left_alone() -> None:
    thick = np.full((2, 3, 3), 2048, np.int16)
    thick[1] = -1024
    restorer = Restorer(thick, 4, None, np.float32)
    hu = np.linspace(-1024, 2048, 45, dtype=np.float32).reshape(5, 3, 3)
    np.testing.assert_array_equal(restorer.finish(0, hu.copy()), hu)
    assert restorer.voxels_outside_window == 0


@pytest.mark.parametrize("value", [3000, -3024])
def test_a_constant_outside_the_window_comes_back(value: int) -> None:
    thick = np.full((3, 2, 2), value, np.int16)
    restorer = Restorer(thick, 5, None, np.int16)
    clamped = np.full((11, 2, 2), np.clip(value, -1024, 2048), np.float32)
    np.testing.assert_array_equal(restorer.finish(0, clamped), value)
    assert restorer.voxels_outside_window == 44


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (2, [0, 0, 1000, 550, 100]),
        (4, [0, 0, 0, 750, 1000, 775, 550, 325, 100]),
        (5, [0, 0, 0, 600, 800, 1000, 820, 640, 460, 280, 100]),
    ],
)
def test_the_excess_is_interpolated_linearly_where_the_nearest_thick_voxel_has_one(
    factor: int, expected: list[float]
) -> None:
    thick = np.array([0, 3048, 2148], np.float32).reshape(3, 1, 1)
    restorer = Restorer(thick, factor, None, np.float32)
    cuts = [0, 2, 3, 2 * factor + 1]
    parts = [restorer.finish(start, np.zeros((stop - start, 1, 1), np.float32)) for start, stop in pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(parts)[:, 0, 0], expected, rtol=1e-6)


def test_padding_is_given_to_the_nearest_thin_slices_exactly() -> None:
    thick = np.zeros((3, 1, 1), np.int16)
    thick[1] = -2000
    restorer = Restorer(thick, 5, -2000.0, np.int16)
    hu = np.full((11, 1, 1), 7.4, np.float32)
    assert restorer.finish(0, hu)[:, 0, 0].tolist() == [7, 7, 7] + [-2000] * 5 + [7, 7, 7]
    assert restorer.voxels_outside_window == 0  # padding is no excess


def test_integers_are_rounded_not_cut() -> None:
    restorer = Restorer(np.zeros((1, 1, 3), np.int16), 2, None, np.int16)
    hu = np.array([[[0.6, -0.6, 99.4]]], np.float32)
    assert restorer.finish(0, hu).tolist() == [[[1, -1, 99]]]
