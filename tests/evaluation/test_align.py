"""Voxels are paired by where they lie in the patient, without interpolation, or the pair is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from thinslice.errors import GeometryError
from thinslice.evaluation.align import overlap_by_position
from thinslice.geometry import Geometry
from thinslice.volume import Volume, reorient


@pytest.fixture
def reference() -> Volume:
    rng = np.random.default_rng(1)
    grid = Geometry((6, 5, 4), (1.0, 0.7, 0.8), origin_mm=(-20.0, 3.0, 700.0), thickness_mm=1.0)
    return Volume(rng.integers(-1000, 1000, (6, 5, 4), dtype=np.int16), grid)


def turned(volume: Volume, order: tuple[int, ...], flips: tuple[int, ...]) -> Volume:
    """The same voxels at the same places, stored along other axes: built voxel by voxel from positions."""
    source = volume.geometry
    direction = np.asarray(source.direction)[:, order] * flips
    corner = [0, 0, 0]
    for axis, flip in zip(order, flips, strict=True):
        corner[axis] = 0 if flip > 0 else source.shape[axis] - 1
    grid = Geometry(
        tuple(source.shape[a] for a in order),
        tuple(source.spacing_mm[a] for a in order),
        origin_mm=source.position_mm(tuple(corner)),
        direction=tuple(map(tuple, direction)),
    )
    hu = np.empty(grid.shape, dtype=np.int16)
    for index in np.ndindex(*grid.shape):
        d, h, w = np.round(source.index_at(grid.position_mm(index))).astype(int)
        hu[index] = volume.hu[d, h, w]
    return Volume(hu, grid)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
def test_every_axis_order_and_flip_comes_back(
    reference: Volume, order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    ours, theirs, _ = overlap_by_position(turned(reference, order, flips), reference)
    np.testing.assert_array_equal(ours.hu, reference.hu)
    np.testing.assert_array_equal(theirs.hu, reference.hu)
    np.testing.assert_allclose(ours.geometry.affine_lps, reference.geometry.affine_lps, atol=1e-9)


def test_reorient_changes_nothing_where_axes_agree(reference: Volume) -> None:
    assert reorient(reference, reference.geometry) is reference


def test_unequal_extents_are_cropped_to_the_overlap(reference: Volume) -> None:
    estimate = reference.crop((2, 1, 0), (6, 5, 3))
    other = reference.crop((0, 0, 1), (5, 4, 4))
    ours, theirs, notes = overlap_by_position(estimate, other)
    expected = reference.crop((2, 1, 1), (5, 4, 3))
    np.testing.assert_array_equal(ours.hu, expected.hu)
    np.testing.assert_array_equal(theirs.hu, expected.hu)
    assert ours.geometry.origin_mm == pytest.approx(expected.geometry.origin_mm)
    assert any("Cropped to the overlap 3 x 3 x 2" in note for note in notes)


def shifted(volume: Volume, by_mm: tuple[float, float, float]) -> Volume:
    x, y, z = volume.geometry.origin_mm
    origin = (x + by_mm[0], y + by_mm[1], z + by_mm[2])
    return Volume(volume.hu, replace(volume.geometry, origin_mm=origin))


def test_header_rounding_is_accepted_and_silent(reference: Volume) -> None:
    ours, _, notes = overlap_by_position(shifted(reference, (0.05, -0.04, 0.09)), reference)
    np.testing.assert_array_equal(ours.hu, reference.hu)
    assert notes == ()


@pytest.mark.parametrize(("by_mm", "axis"), [((0, 0, 0.4), "depth"), ((0.3, 0, 0), "width"), ((0, -0.3, 0), "height")])
def test_an_offset_by_a_fraction_is_refused(reference: Volume, by_mm: tuple[float, float, float], axis: str) -> None:
    with pytest.raises(GeometryError, match=rf"apart along {axis}.*whole number"):
        overlap_by_position(shifted(reference, by_mm), reference)


def test_no_overlap_is_refused(reference: Volume) -> None:
    with pytest.raises(GeometryError, match="do not overlap"):
        overlap_by_position(shifted(reference, (0, 0, 6.0)), reference)


def test_unequal_spacing_is_refused(reference: Volume) -> None:
    thick = replace(reference.geometry, spacing_mm=(5.0, 0.7, 0.8))
    with pytest.raises(GeometryError, match=r"unequal spacing along depth: 5 and 1 mm"):
        overlap_by_position(Volume(reference.hu, thick), reference)


def test_a_spacing_that_drifts_over_many_slices_is_refused() -> None:
    """0.5 um a slice is within rounding for one slice and 0.2 mm off after 400."""
    zeros = np.zeros((400, 2, 2), np.int16)
    exact, drifting = (Volume(zeros, Geometry((400, 2, 2), (step, 1, 1))) for step in (1.0, 1.0005))
    with pytest.raises(GeometryError, match="apart along depth"):
        overlap_by_position(drifting, exact)


def test_oblique_axes_are_refused(reference: Volume) -> None:
    a = np.radians(10)
    turned_in_plane = ((0.0, -np.sin(a), np.cos(a)), (0.0, np.cos(a), np.sin(a)), (1.0, 0.0, 0.0))
    estimate = Volume(reference.hu, replace(reference.geometry, direction=turned_in_plane))
    with pytest.raises(GeometryError, match=r"stand at 10\.0 degrees"):
        overlap_by_position(estimate, reference)


def test_unknown_in_plane_spacing_counts_as_one_millimetre_with_a_note(reference: Volume) -> None:
    unknown = Volume(reference.hu, Geometry((6, 5, 4), (1.0, None, None)))
    known = Volume(reference.hu, Geometry((6, 5, 4), (1.0, 1.0, 1.0)))
    ours, _, notes = overlap_by_position(known, unknown)
    np.testing.assert_array_equal(ours.hu, reference.hu)
    assert any("unknown" in note for note in notes)
    with pytest.raises(GeometryError, match=r"height: 1 and 0.7 mm \(unknown"):
        overlap_by_position(unknown, Volume(reference.hu, Geometry((6, 5, 4), (1.0, 0.7, 0.8))))
