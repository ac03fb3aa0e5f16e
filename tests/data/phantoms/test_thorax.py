"""The thorax phantom: one seed gives one phantom, its nodules lie where listed, and its HU are those of a chest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import label

from thinslice.data.phantoms import anatomy
from thinslice.data.phantoms.painting import render
from thinslice.data.phantoms.thorax import Nodule, Phantom, phantom_grid, thick_from, thorax
from thinslice.data.phantoms.vessel_tree import Tubes, grow
from thinslice.errors import InputError, NotEligibleError, UsageError
from thinslice.geometry import Geometry
from thinslice.volume import Volume

COARSE = phantom_grid((16, 90, 90), (8.0, 4.0, 4.0))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return thorax(0)


@pytest.fixture(scope="module")
def chest(phantom: Phantom) -> Volume:
    return render(phantom, COARSE)


def around(nodule: Nodule, step_mm: float = 0.5, half: int = 12) -> Geometry:
    n = 2 * half + 1
    origin = tuple(c - half * step_mm for c in nodule.centre_mm)
    return Geometry((n, n, n), (step_mm,) * 3, origin_mm=origin)


def test_the_same_seed_gives_the_same_voxels(phantom: Phantom, chest: Volume) -> None:
    again = render(thorax(0), COARSE)
    np.testing.assert_array_equal(again.hu, chest.hu)
    assert again.provenance.details == {"phantom": "thorax", "seed": 0}
    assert not np.array_equal(render(thorax(1), COARSE).hu, chest.hu)


def test_a_part_is_painted_as_in_the_whole(phantom: Phantom) -> None:
    """So slab sizes and the extent asked for leave no trace."""
    whole = phantom_grid((13, 60, 60), (2.0, 5.0, 5.0))
    part = render(phantom, whole.crop((5, 0, 0), (12, 60, 60)))
    np.testing.assert_allclose(part.hu, render(phantom, whole).hu[5:12], atol=1)


def test_holds_what_a_chest_holds(chest: Volume) -> None:
    share = {
        "air": (chest.hu < -950).mean(),
        "lung": ((chest.hu > -950) & (chest.hu < -600)).mean(),
        "fat": ((chest.hu > -150) & (chest.hu < -50)).mean(),
        "soft": ((chest.hu > 0) & (chest.hu < 150)).mean(),
        "bone": (chest.hu > 300).mean(),
    }
    assert share["air"] > 0.3 and share["lung"] > 0.1 and share["fat"] > 0.03
    assert share["soft"] > 0.05 and 0.005 < share["bone"] < 0.05
    assert chest.hu.min() >= -1024 and 400 < chest.hu.max() <= 3071


def at(volume: Volume, x: float, y: float, z: float) -> int:
    d, h, w = (round(i) for i in volume.geometry.index_at((x, y, z)))
    return int(volume.hu[d, h, w])


def test_organs_lie_where_they_belong(phantom: Phantom) -> None:
    """The patient's left is +x, the back +y: heart to the left, liver right, spine behind, aorta beside it."""
    clean = replace(phantom, nodules=(), noise_hu=0.0)
    chest = render(clean, phantom_grid((33, 180, 180), (4.0, 2.0, 2.0)))
    assert at(chest, -62, 0, -60) == pytest.approx(108, abs=25)  # liver
    assert at(chest, 25, 54, 8) == pytest.approx(230, abs=15)  # descending aorta
    assert at(chest, -3, 17, 52) < -900  # windpipe
    assert 50 < at(chest, 0, 72, -4) < 400  # marrow of a vertebra
    assert at(chest, 0, 0, 0) > 60  # heart
    assert at(chest, 170, -90, 0) == pytest.approx(-1000, abs=2)  # around the patient
    for x in (-95, 95):
        assert -930 < np.median(chest.hu[12:20, 80:100, round(chest.geometry.index_at((x, 0, 0))[2])]) < -780


def test_both_lungs_are_there_and_apart(phantom: Phantom) -> None:
    bare = replace(phantom, noise_hu=0.0)
    plane = render(bare, phantom_grid((1, 180, 180), (1.0, 2.0, 2.0))).hu[0]
    regions, count = label((plane > -960) & (plane < -700))
    sizes = np.sort(np.bincount(regions.ravel())[1:])[::-1]
    assert count >= 2 and sizes[1] > 0.5 * sizes[0] > 1000


def test_contrast_is_an_option(phantom: Phantom) -> None:
    grid = phantom_grid((3, 90, 90), (2.0, 4.0, 4.0))
    plain = render(thorax(0, contrast=False, noise_hu=0.0), grid)
    assert at(render(replace(phantom, noise_hu=0.0), grid), 25, 54, 0) > 180
    assert at(plain, 25, 54, 0) == pytest.approx(42, abs=15)


def test_noise_is_as_strong_as_asked_and_can_be_left_out(phantom: Phantom) -> None:
    grid = phantom_grid((4, 180, 180), (1.0, 2.0, 2.0))
    noisy, clean = render(phantom, grid), render(phantom, grid, noise=False)
    np.testing.assert_array_equal(render(replace(phantom, noise_hu=0.0), grid).hu, clean.hu)
    difference = noisy.hu.astype(float) - clean.hu
    tissue = (clean.hu > 0) & (clean.hu < 200)
    assert 0.7 * phantom.noise_hu < difference[tissue].std() < 1.3 * phantom.noise_hu
    assert abs(difference[tissue].mean()) < 1.5
    # Grain of its own in each slice, as thin slices have.
    assert abs(np.corrcoef(difference[0].ravel(), difference[1].ravel())[0, 1]) < 0.1


def test_nodules_are_what_the_list_says(phantom: Phantom) -> None:
    """Each is a ball of its diameter and HU at its place: measured as what its absence changes."""
    assert len(phantom.nodules) == 12
    assert {n.kind for n in phantom.nodules} == {"solid", "ground glass"}
    assert any(n.beside_vessel for n in phantom.nodules)
    nothing = Tubes(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    bare = replace(phantom, arteries=nothing, veins=nothing, airways=nothing)
    solid = [nodule for nodule in phantom.nodules if nodule.kind == "solid"]
    for nodule in (solid[0], solid[3], solid[-1]):
        grid = around(nodule)
        there = render(bare, grid, noise=False).hu.astype(float)
        absent = render(replace(bare, nodules=()), grid, noise=False).hu.astype(float)
        assert there[12, 12, 12] == pytest.approx(nodule.hu, abs=3)
        filled = ((there - absent) / (nodule.hu - absent)).sum() * 0.5**3
        assert 2 * (filled * 3 / (4 * np.pi)) ** (1 / 3) == pytest.approx(nodule.diameter_mm, rel=0.04)


def test_nodules_lie_inside_the_lungs_and_apart() -> None:
    for seed in range(3):
        nodules = thorax(seed, low_mm=-30, high_mm=50).nodules
        assert len(nodules) >= 10
        for i, nodule in enumerate(nodules):
            x, y, z = (np.float32([v]) for v in nodule.centre_mm)
            assert anatomy.lung(x, y, z)[0] < -nodule.diameter_mm / 2
            assert -30 <= nodule.centre_mm[2] <= 50 and 3 <= nodule.diameter_mm <= 10
            for other in nodules[:i]:
                apart = np.linalg.norm(np.subtract(nodule.centre_mm, other.centre_mm))
                assert apart > (nodule.diameter_mm + other.diameter_mm) / 2


def test_thick_slices_are_means_and_the_truth_starts_at_the_first(phantom: Phantom) -> None:
    thin = render(phantom, phantom_grid((16, 40, 40), (1.0, 9.0, 9.0)))
    for factor in (4, 5):
        thick, truth = thick_from(thin, factor)
        depth = thick.geometry.shape[0]
        assert truth.geometry.shape[0] == (depth - 1) * factor + 1
        assert thick.geometry.thin_grid(factor).affine_lps == pytest.approx(truth.geometry.affine_lps)
        assert thick.geometry.thickness_mm == factor and thick.hu.dtype == np.int16
    np.testing.assert_allclose(thick.hu[1], thin.hu[5:10].mean(axis=0), atol=0.51)
    with pytest.raises(NotEligibleError):
        thick_from(thin.crop((0, 0, 0), (4, 40, 40)), 5)


def test_what_cannot_be_painted_is_refused(phantom: Phantom) -> None:
    with pytest.raises(InputError, match="axial"):
        render(phantom, Geometry((2, 4, 4), (1.0, None, None)))
    with pytest.raises(InputError, match="axial"):
        render(phantom, Geometry((2, 4, 4), (1, 1, 1), direction=((0, 1, 0), (0, 0, 1), (1, 0, 0))))
    with pytest.raises(UsageError, match="supersample"):
        render(phantom, COARSE, supersample=0)
    with pytest.raises(UsageError, match="at least 0"):
        thorax(0, nodules=-1)


def test_a_tree_is_connected_tapers_and_reaches_its_tips() -> None:
    rng = np.random.default_rng(2)
    tips = rng.uniform(-50, 50, (60, 3))
    tree = grow((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), tips, tip_radius_mm=0.4, rng=rng)
    begins = {tuple(p) for p in tree.stop} | {(0.0, 0.0, 0.0)}
    assert all(tuple(p) in begins for p in tree.start)
    ends = {tuple(p) for p in tree.stop}
    assert sum(any(np.allclose(tip, end) for end in ends) for tip in tips) >= 58
    assert tree.stop_radius.min() == pytest.approx(0.4)
    assert tree.stop_radius.max() < tree.start_radius.max() * 1.3
    assert tree.stop_radius[np.linalg.norm(tree.start, axis=1) == 0].max() > 1.0


def test_tubes_are_chosen_by_height_and_thickness() -> None:
    tubes = Tubes.along([(0, 0, 0), (0, 0, 10), (0, 0, 20)], [2, 1, 0.5])
    assert tubes.near(12.5, 13.0).tolist() == [1] and tubes.near(30, 40).tolist() == []
    assert len(tubes.thicker_than(0.8)) == 1
    beside = tubes.beside((0.0, 1.5, 0.0), 0.5)
    assert beside.start[0].tolist() == [0, 3, 0] and beside.start_radius[0] == 1.0
