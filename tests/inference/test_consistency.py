from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinslice.inference.consistency import ConsistencyMeter
from thinslice.profile import SliceProfile

RNG = np.random.default_rng(5)


@given(
    factor=st.integers(2, 8),
    width=st.sampled_from([0.4, 1.0, 2.0]),
    depth=st.integers(1, 12),
    cuts=st.lists(st.integers(1, 30), max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_streaming_measures_what_the_matrix_would(factor: int, width: float, depth: int, cuts: list[int]) -> None:
    profile = SliceProfile.mean(factor, width=width)
    thick = RNG.uniform(-900, 900, (depth, 4, 5)).astype(np.float32)
    thin = RNG.uniform(-900, 900, ((depth - 1) * factor + 1, 4, 5)).astype(np.float32)
    meter = ConsistencyMeter(profile.rows(len(thick)), thick)
    for slab in np.split(thin, sorted({cut for cut in cuts if cut < len(thin)})):
        meter.add(slab)
    rows = profile.supported(depth)
    if not len(rows):
        assert meter.rms_hu is None
        return
    difference = np.tensordot(profile.matrix(depth), thin, axes=1) - thick[rows.start : rows.stop]
    assert meter.rms_hu == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-4)


def test_no_support_is_no_number() -> None:
    meter = ConsistencyMeter(SliceProfile.mean(5).rows(2), np.zeros((2, 3, 3), np.int16))
    meter.add(np.full((6, 3, 3), 500, np.int16))
    assert meter.rms_hu is None


def test_only_voxels_inside_the_window_and_no_padding_count() -> None:
    thick = np.full((3, 1, 5), 10, np.int16)
    thick[1, 0] = [10, -1024, 2048, 3000, -500]
    thin = np.full((11, 1, 5), 14, np.int16)
    meter = ConsistencyMeter(SliceProfile.mean(5).rows(len(thick)), thick, padding_hu=-500.0)
    meter.add(thin)
    assert meter.rms_hu == pytest.approx(4.0)


def test_the_sum_is_exact_over_many_large_slices() -> None:
    thick = np.zeros((4, 300, 300), np.int16)
    meter = ConsistencyMeter(SliceProfile.mean(2).rows(len(thick)), thick)
    meter.add(np.full((7, 300, 300), 1001, np.int16))
    assert meter.rms_hu == pytest.approx(1001.0, rel=1e-9)
