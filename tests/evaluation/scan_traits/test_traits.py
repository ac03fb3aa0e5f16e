"""Traits of a scan made on the spot have the values that it was made with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.scans import thick_scan, thin_scan
from thinslice.evaluation.scan_traits.noise import noise_traits
from thinslice.evaluation.scan_traits.scale import apparent_distance
from thinslice.evaluation.scan_traits.steps import largest_jump
from thinslice.evaluation.scan_traits.traits import measure_traits
from thinslice.evaluation.scan_traits.values import value_traits
from thinslice.volume import Volume


@pytest.fixture(scope="module")
def thin() -> Volume:
    return thin_scan()


@pytest.fixture(scope="module")
def thick(thin: Volume) -> Volume:
    return thick_scan(thin)


@pytest.mark.parametrize("width", [0.2, 1.0, 1.5, 2.0])
def test_thickness_is_read_from_boundaries(thin: Volume, width: float) -> None:
    found = measure_traits(thick_scan(thin, width=width))
    assert found.measured_thickness == pytest.approx(width, abs=0.25)
    assert found.boundaries > 1000


@pytest.mark.parametrize(("width", "shared"), [(0.2, 0.0), (1.0, 0.0), (2.0, 0.5), (2.6, 1 - 1 / 2.6)])
def test_neighbours_share_the_noise_of_their_overlap(thin: Volume, width: float, shared: float) -> None:
    found = measure_traits(thick_scan(thin, width=width))
    assert found.neighbour_correlation == pytest.approx(shared, abs=0.06)


def test_noise_falls_as_slices_average_it(thin: Volume) -> None:
    single, five = (measure_traits(thick_scan(thin, width=width)) for width in (0.2, 1.0))
    assert single.noise_hu is not None and five.noise_hu is not None
    assert single.noise_hu / five.noise_hu == pytest.approx(np.sqrt(5.0), rel=0.05)
    assert single.noise_whiteness == pytest.approx(five.noise_whiteness, abs=0.02)


def test_white_noise_is_white_and_a_kernel_is_not() -> None:
    white = np.random.default_rng(1).normal(40.0, 12.0, (3, 140, 140))
    found = noise_traits(white)
    assert found.sd_hu == pytest.approx(12.0, rel=0.03) and found.whiteness == pytest.approx(1.0, abs=0.05)
    assert noise_traits(np.full((3, 140, 140), 40.0)).whiteness is None


def test_copies_are_listed_by_number(thick: Volume) -> None:
    hu = np.insert(thick.hu, 7, thick.hu[6], axis=0)
    assert measure_traits(Volume(hu, replace(thick.geometry, shape=hu.shape))).repeated == (7,)
    nearly = hu.copy()
    nearly[7] += 1
    assert measure_traits(Volume(nearly, replace(thick.geometry, shape=hu.shape))).repeated == (7,)


def test_slices_of_nothing_but_air_are_no_copies(thick: Volume) -> None:
    hu = thick.hu.copy()
    hu[:2] = -1024
    assert measure_traits(Volume(hu, thick.geometry)).repeated == ()


def test_the_jump_is_where_slices_are_missing() -> None:
    turned = np.stack([np.roll(np.eye(32) * 900 - 900, k, axis=1) for k in (0, 1, 2, 3, 4, 8, 9, 10)])
    ratio, at = largest_jump(turned)
    assert ratio is not None and ratio > 1.3 and at == 4
    assert largest_jump(turned[:3]) == (None, None)


def test_levels_are_those_of_the_tissues(thick: Volume) -> None:
    found = measure_traits(thick)
    assert found.lowest_level_hu == pytest.approx(-1000.0, abs=10.0)
    assert found.familiar_share == pytest.approx(1.0, abs=0.02)
    assert found.soft_share is not None and found.soft_share > 0.5
    inverted = measure_traits(Volume((-thick.hu).astype(np.int16), thick.geometry))
    assert inverted.familiar_share is not None and inverted.familiar_share < 0.8
    assert inverted.dense_share is not None and inverted.dense_share > 0.4


def test_sharpened_edges_overshoot(thick: Volume) -> None:
    from scipy.ndimage import gaussian_filter

    hu = thick.hu.astype(np.float32)
    sharp = np.rint(hu + 2.0 * (hu - gaussian_filter(hu, (0, 1, 1)))).astype(np.int16)
    before, after = (value_traits(each, 3.2).overshoot for each in (thick.hu, sharp))
    assert before is not None and after is not None and before < -0.01 < 0.02 < after


def test_cut_ends_and_metal_are_measured(thick: Volume) -> None:
    cut = value_traits(np.clip(thick.hu, -160, 40), 3.2)
    assert cut.cut_high > 0.1 and cut.cut_low > 0.1
    whole = value_traits(thick.hu, 3.2)
    assert whole.cut_high < 1e-4 and whole.cut_low == 0.0 and whole.metal_ml == 0.0
    with_metal = thick.hu.copy()
    with_metal[3, :10, :10] = 3071
    assert value_traits(with_metal, 3.2).metal_ml == pytest.approx(0.32)


def test_padding_is_no_level(thick: Volume) -> None:
    padded = thick.hu.copy()
    padded[:, :30] = -2048
    assert value_traits(padded, 3.2, padding_hu=-2048.0).lowest_hu == pytest.approx(-1000.0, abs=10.0)
    assert value_traits(padded, 3.2).lowest_hu == -2048.0


def test_coarse_pixels_hold_anatomy_and_no_noise(thick: Volume) -> None:
    coarse = Volume(thick.hu, replace(thick.geometry, spacing_mm=(5.0, 2.8, 2.8)))
    found = measure_traits(coarse)
    assert found.pixel_mm == 2.8
    assert found.noise_hu is None and found.neighbour_correlation is None and found.overshoot is None


def test_two_slices_and_one_colour_are_measured_as_far_as_they_go() -> None:
    found = measure_traits(Volume.from_array(np.full((2, 20, 20), 40.0), spacing_mm=(5.0, None, None)))
    assert found.jump is None and found.measured_thickness is None and found.pixel_mm is None
    assert found.repeated == ()


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_the_distance_of_slices_is_read_from_anatomy_without_a_preferred_axis(ratio: float) -> None:
    from scipy.ndimage import gaussian_filter

    blobs = gaussian_filter(np.random.default_rng(3).normal(size=(100, 130, 130)), 4.0)
    lung = np.where(blobs > 0, -850.0, 40.0)
    thick = thick_scan(Volume.from_array(lung, spacing_mm=(1.0, 1.0, 1.0)))
    stated = Volume(thick.hu, replace(thick.geometry, spacing_mm=(5.0 * ratio, 1.0, 1.0)))
    found = apparent_distance(stated, 1.0, 1.0 / ratio)
    assert found == pytest.approx(1.0 / ratio, rel=0.2)


def test_the_distance_of_slices_is_read_in_chests_only() -> None:
    head = np.random.default_rng(3).normal(40.0, 5.0, (12, 60, 60))
    assert apparent_distance(Volume.from_array(head, spacing_mm=(5.0, 0.5, 0.5)), 0.5, 1.0) is None
