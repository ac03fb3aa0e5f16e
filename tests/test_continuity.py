"""A slice that does not fit its neighbours is found, and CT of every kind at hand is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thinslice.continuity import continuity_warnings, repeated_slices, unlike_slices
from thinslice.data.phantoms.painting import render
from thinslice.data.phantoms.thorax import phantom_grid, thorax
from thinslice.io.files import read


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    whole = render(thorax(0), phantom_grid((12, 160, 160), (5.0, 2.2, 2.2))).hu.astype(np.float64)
    return whole + np.random.default_rng(0).normal(0, 15, whole.shape)


def noise_from_row(rows: int) -> Callable[[np.ndarray], None]:
    def spoil(plane: np.ndarray) -> None:
        plane[rows:] = np.random.default_rng(1).integers(-1024, 3072, plane[rows:].shape)

    return spoil


def another_intercept(plane: np.ndarray) -> None:
    plane += 1024


def mirrored(plane: np.ndarray) -> None:
    plane[:] = plane[::-1]


@pytest.mark.parametrize("slice_index", [0, 1, 6, 11])
@pytest.mark.parametrize("spoil", [noise_from_row(0), noise_from_row(120), another_intercept, mirrored])
def test_a_spoiled_slice_is_found_alone(hu: np.ndarray, slice_index: int, spoil: Callable[[np.ndarray], None]) -> None:
    spoiled = hu.copy()
    spoil(spoiled[slice_index])
    assert slice_index in {found.slice_index for found in unlike_slices(spoiled)}
    assert f"{slice_index}" in continuity_warnings(spoiled)[0]


def test_sound_slices_are_left_alone(hu: np.ndarray) -> None:
    assert continuity_warnings(hu) == []
    assert continuity_warnings(np.random.default_rng(0).normal(0, 200, hu.shape)) == []
    assert continuity_warnings(np.full((5, 7, 9), -1000, np.int16)) == []
    assert unlike_slices(hu[:3] * np.array([1, -1, 1])[:, None, None]) == []


def test_many_slices_are_counted(hu: np.ndarray) -> None:
    spoiled = np.repeat(hu[5:6], 36, axis=0) + np.random.default_rng(2).normal(0, 1, (36, 160, 160))
    for k in (4, 10, 16, 22, 28):
        spoiled[k] += 2000
    (warning,) = continuity_warnings(spoiled)
    assert warning.startswith("5 slice(s)")
    assert "(number 4, 10, 16 and 2 more, counted from 0;" in warning


def test_a_slice_that_repeats_another_is_found(hu: np.ndarray) -> None:
    copied = hu.copy()
    copied[7] = copied[6]
    assert repeated_slices(copied) == [7]
    assert "number 7, counted from 0" in continuity_warnings(copied)[0]
    assert repeated_slices(np.repeat(hu, 2, axis=0)) == list(range(1, 24, 2))
    padded = np.concatenate([np.full((3, 160, 160), -1024.0), hu])
    assert repeated_slices(padded) == []
    assert repeated_slices(np.repeat(hu[:1], 5, axis=0)) == []  # a phantom that is the same throughout


def test_real_ct_is_left_alone(shared: Path) -> None:
    for path in sorted((shared / "ct" / "thick").glob("*.nii.gz")) + sorted((shared / "ct" / "pair").glob("*.nii.gz")):
        assert continuity_warnings(read(path).hu) == [], path.name
