"""Shapes between slices: exact at the slices, areas as asked for, structures told apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thinslice.inference.shapes import largest, signed_distance, structures, whole_areas


def disc(radius: float, size: int = 40, at: tuple[float, float] = (20.0, 20.0)) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.hypot(y - at[0], x - at[1]) <= radius


@given(arrays(bool, (9, 11)), arrays(bool, (9, 11)))
def test_structures_hold_every_voxel_of_both_slices_once(first: np.ndarray, second: np.ndarray) -> None:
    seen = np.zeros((2, 9, 11), int)
    for structure in structures(first, second):
        for plane, part in zip(seen, (structure.first, structure.second), strict=True):
            plane[structure.rows, structure.columns] += part
    assert np.array_equal(seen, np.stack([first, second]).astype(int))


def test_regions_that_overlap_are_one_structure_and_others_are_not() -> None:
    # A vessel that branches, and a spot that the next slice does not have.
    first = disc(8) | disc(2, at=(4.0, 35.0))
    second = disc(3, at=(16.0, 16.0)) | disc(3, at=(24.0, 24.0))
    found = sorted((int(s.first.sum()), int(s.second.sum())) for s in structures(first, second))
    assert found == [(int(disc(2, at=(4.0, 35.0)).sum()), 0), (int(disc(8).sum()), int(second.sum()))]


@pytest.mark.parametrize("pixel_mm", [(1.0, 1.0), (0.5, 0.5), (0.7, 1.4)])
def test_distance_is_that_of_a_plane_border(pixel_mm: tuple[float, float]) -> None:
    half = np.zeros((6, 20), bool)
    half[:, 10:] = True
    found = signed_distance(half, pixel_mm)
    expected = (np.arange(20) - 9.5) * pixel_mm[1]
    # Where pixels are not square, the border's half pixel is that of the shorter side.
    assert found[3] == pytest.approx(expected, abs=0.5 * abs(pixel_mm[1] - pixel_mm[0]) + 1e-9)


def test_between_two_discs_lies_a_disc() -> None:
    (structure,) = structures(disc(4), disc(12))
    near, far = structure.distances((1.0, 1.0))
    area = int(disc(8).sum())
    found = np.zeros((40, 40), bool)
    found[structure.rows, structure.columns] = largest(0.5 * (near + far), area)
    assert np.count_nonzero(found ^ disc(8)) <= 0.04 * area


@given(arrays(float, st.integers(1, 12), elements=st.floats(0, 50)), st.floats(-0.5, 0.5))
def test_whole_areas_keep_the_sum_and_the_order(exact: np.ndarray, owed: float) -> None:
    falling = -np.sort(-exact)
    areas, left = whole_areas(falling, owed)
    assert np.all(np.abs(areas - falling) <= 1.0 + 1e-6) and np.all(np.diff(areas) <= 0)
    assert areas.sum() + left == pytest.approx(falling.sum() + owed, abs=1e-6)
    # Nothing more is owed than what rounding leaves, unless every area was raised or none could be.
    assert abs(left) <= 0.5 + 1e-6


@given(arrays(float, (5, 6), elements=st.integers(0, 3).map(float)), st.integers(-1, 31))
def test_the_largest_are_as_many_as_asked_for(values: np.ndarray, count: int) -> None:
    chosen = largest(values, count)
    assert chosen.sum() == min(max(count, 0), values.size)
    if chosen.any() and not chosen.all():
        assert values[chosen].min() >= values[~chosen].max()
