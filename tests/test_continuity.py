"""A slice that does not fit its neighbours is found, and CT of every kind at hand is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thinslice.continuity import continuity_warning, unlike_slices
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
    assert f"{slice_index}" in str(continuity_warning(spoiled))


def test_sound_slices_are_left_alone(hu: np.ndarray) -> None:
    assert continuity_warning(hu) is None
    assert continuity_warning(np.random.default_rng(0).normal(0, 200, hu.shape)) is None
    assert continuity_warning(np.full((5, 7, 9), -1000, np.int16)) is None
    assert unlike_slices(hu[:3] * np.array([1, -1, 1])[:, None, None]) == []


def test_many_slices_are_counted(hu: np.ndarray) -> None:
    spoiled = np.repeat(hu[5:6], 36, axis=0)
    for k in (4, 10, 16, 22, 28):
        spoiled[k] += 2000
    assert "5 slice(s)" in str(continuity_warning(spoiled))
    assert "(number 4, 10, 16 and 2 more, counted from 0;" in str(continuity_warning(spoiled))


def test_real_ct_is_left_alone(shared: Path) -> None:
    for path in sorted((shared / "ct" / "thick").glob("*.nii.gz")) + sorted((shared / "ct" / "pair").glob("*.nii.gz")):
        assert continuity_warning(read(path).hu) is None, path.name
