"""Pairs are cut by position, and a mismatch is found by position or by the voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.dataset_factory import pair_hu, thin_hu, true_volumes
from thinslice.data.pairing import alignment, pair_by_position
from thinslice.errors import GeometryError
from thinslice.geometry import Geometry
from thinslice.profile import SliceProfile
from thinslice.volume import Volume


@pytest.mark.parametrize("offset", [0, 2, 4, 7])
def test_thick_k_lies_on_thin_factor_k_after_pairing(offset: int) -> None:
    thick, thin, factor = pair_by_position(*true_volumes(offset))
    assert factor == 5
    assert thin.hu.shape[0] == 5 * (thick.hu.shape[0] - 1) + 1
    assert thick.geometry.thin_grid(5).shape == thin.geometry.shape
    for k in range(thick.hu.shape[0]):
        np.testing.assert_allclose(
            thick.geometry.position_mm((k, 3, 5)), thin.geometry.position_mm((5 * k, 3, 5)), atol=1e-9
        )
    np.testing.assert_array_equal(thick.hu[2], np.rint(thin.hu[8:13].mean(axis=0, dtype=np.float64)).astype(np.int16))


def test_thick_slices_beyond_the_thin_ones_are_left_out() -> None:
    thick, thin = true_volumes(0)
    short = thin.crop((7, 0, 0), (33, 24, 24))
    cut, kept, _ = pair_by_position(thick, short)
    assert cut.hu.shape[0] == 5  # thin 10, 15, 20, 25, 30 of 7..32
    assert kept.geometry.position_mm((0, 0, 0)) == pytest.approx(thick.geometry.position_mm((2, 0, 0)))


def test_a_thin_volume_with_other_axes_is_turned() -> None:
    thick, thin = true_volumes(2)
    flipped = Volume(
        np.ascontiguousarray(thin.hu[::-1, :, ::-1]),
        replace(
            thin.geometry,
            origin_mm=thin.geometry.position_mm((thin.hu.shape[0] - 1, 0, 23)),
            direction=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
        ),
    )
    expected = pair_by_position(thick, thin)
    found = pair_by_position(thick, flipped)
    np.testing.assert_array_equal(found[1].hu, expected[1].hu)
    assert found[1].geometry.origin_mm == pytest.approx(expected[1].geometry.origin_mm)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda g: replace(g, origin_mm=(10.0, -20.0, 32.3)), "0.30 mm apart along the depth axis"),
        (lambda g: replace(g, origin_mm=(10.35, -20.0, 32.0)), "0.35 mm apart along the width axis"),
        (lambda g: replace(g, spacing_mm=(5.04, 0.7, 0.7)), "mm apart along the depth axis"),
        (lambda g: replace(g, spacing_mm=(5.0, 0.71, 0.7)), "mm apart along the height axis"),
        (lambda g: replace(g, spacing_mm=(1.2, 0.7, 0.7)), "not a thick and a thin series"),
        (lambda g: replace(g, origin_mm=(10.0, -20.0, 400.0)), "0 positions in common"),
        (
            lambda g: replace(
                g, direction=((0.0, -np.sin(0.1), np.cos(0.1)), (0.0, np.cos(0.1), np.sin(0.1)), (1.0, 0.0, 0.0))
            ),
            "degrees",
        ),
    ],
)
def test_what_has_no_common_grid_is_refused(change: Callable[[Geometry], Geometry], expected: str) -> None:
    thick, thin = true_volumes(2)
    with pytest.raises(GeometryError, match=expected):
        pair_by_position(Volume(thick.hu, change(thick.geometry)), thin)


def test_planes_of_other_size_are_refused() -> None:
    thick, thin = true_volumes(2)
    with pytest.raises(GeometryError, match="24 x 24 and 24 x 23"):
        pair_by_position(thick, thin.crop((0, 0, 0), (50, 24, 23)))


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("name", ["mean", "gaussian", "trapezoid", "subsample"])
def test_every_simulated_pair_is_found_aligned(factor: int, name: str) -> None:
    profile = SliceProfile.named(name, factor)
    long = thin_hu(12 * factor + 2 * profile.reach)
    thick = profile.apply(long)
    centres = profile.centres(len(long))
    found = alignment(thick, long[centres[0] : centres[-1] + 1], factor)
    assert found is not None
    assert (found.shift, found.fault) == (0, None)


@pytest.mark.parametrize("shift", [-3, -1, 1, 2, 5])
def test_a_shift_by_whole_slices_is_named(shift: int) -> None:
    thick, thin = pair_hu(thick_depth=10)
    found = alignment(thick, np.roll(thin, shift, axis=0), 5)
    assert found is not None
    assert found.shift == shift
    assert found.fault is not None
    assert f"factor * k {'+' if shift > 0 else '-'} {abs(shift)}" in found.fault


def test_reversed_and_unrelated_slices_are_named() -> None:
    thick, thin = pair_hu(thick_depth=10)
    backwards = alignment(thick, thin[::-1], 5)
    assert backwards is not None
    assert "reversed order" in (backwards.fault or "")
    other = alignment(thick, pair_hu(thick_depth=10, seed=9)[1], 5)
    assert other is not None
    assert "do not show the same" in (other.fault or "")


def test_slices_that_all_look_alike_say_nothing_against_a_pair() -> None:
    plane = thin_hu(1)[0]
    found = alignment(np.tile(plane, (6, 1, 1)), np.tile(plane, (26, 1, 1)), 5)
    assert found is not None
    assert (found.shift, found.fault) == (0, None)


def test_where_nothing_can_be_told_nothing_is_said() -> None:
    thick, thin = pair_hu(thick_depth=2)
    assert alignment(thick, thin, 5) is None
    assert alignment(np.zeros((6, 4, 4)), np.zeros((26, 4, 4)), 5) is None


def test_the_real_pair_is_aligned_by_position_and_not_by_index(shared: Path) -> None:
    thick, thin = (
        thinslice.read(shared / "ct" / "pair" / f"phantom_{name}.nii.gz") for name in ("thick_5mm", "thin_1mm")
    )
    cut, kept, factor = pair_by_position(thick, thin)
    assert (cut.hu.shape[0], kept.hu.shape[0], factor) == (12, 56, 5)
    np.testing.assert_array_equal(kept.hu, thin.hu[2:58])
    found = alignment(cut.hu, kept.hu, factor)
    assert found is not None
    assert found.fault is None
    assert found.correlation > 0.999
    by_index = alignment(thick.hu, thin.hu[:56], factor)
    assert by_index is not None
    assert by_index.shift == 2
    assert by_index.fault is not None
