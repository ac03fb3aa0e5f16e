"""Inserted nodules, shells and metal: where, how large in mm, how dense."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from thinslice.data import inserts
from thinslice.data.inserts import insert_metal, insert_nodules, insert_shell

Insert = Callable[[npt.NDArray[np.float32], tuple[float, float, float], np.random.Generator], npt.NDArray[np.float32]]
SPACING = (1.25, 0.7, 0.7)


def block(hu: float, shape: tuple[int, int, int] = (24, 40, 40)) -> npt.NDArray[np.float32]:
    return np.full(shape, hu, np.float32)


@pytest.mark.parametrize("insert", [insert_nodules, insert_shell, insert_metal])
@pytest.mark.parametrize("hu", [-1024.0, -860.0, 40.0])
def test_a_block_is_not_changed_and_equal_draws_give_equal_results(insert: Insert, hu: float) -> None:
    original = block(hu)
    first, second = (insert(original, SPACING, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second) and np.all(original == hu)
    assert first.dtype == np.float32 and first.shape == original.shape and np.isfinite(first).all()


@pytest.mark.parametrize("insert", [insert_nodules, insert_shell, insert_metal])
def test_air_outside_the_body_stays_empty(insert: Insert) -> None:
    for seed in range(20):
        assert np.all(insert(block(-1024.0), SPACING, np.random.default_rng(seed)) == -1024.0)


def test_nodules_are_inserted_in_lung_alone() -> None:
    for seed in range(20):
        assert np.all(insert_nodules(block(40.0), SPACING, np.random.default_rng(seed)) == 40.0)
        assert np.any(insert_nodules(block(-860.0), SPACING, np.random.default_rng(seed)) > -860.0)


def test_nodules_are_solid_or_ground_glass_and_of_no_density_between() -> None:
    peaks = np.array([insert_nodules(block(-860.0), SPACING, np.random.default_rng(s)).max() for s in range(200)])
    assert peaks.max() <= inserts.SOLID_HU[1]
    assert (peaks > inserts.SOLID_HU[0] - 1).mean() > 0.2
    assert ((peaks > inserts.GROUND_GLASS_HU[0]) & (peaks < inserts.GROUND_GLASS_HU[1])).mean() > 0.1


def test_a_nodule_is_a_ball_in_mm_on_an_anisotropic_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NODULES", 1), ("SOLID_MM", (10.0, 10.0)), ("NODULE_AXES", (1.0, 1.0)), ("SOLID_SHARE", 1.0)):
        monkeypatch.setattr(inserts, name, value)
    lung, spacing = block(-1024.0, (41, 81, 81)), (1.0, 0.5, 0.5)
    lung[20, 40, 40] = -860.0
    inserted = insert_nodules(lung, spacing, np.random.default_rng(0))
    # Where the block was no lung, it is raised to the density.
    volume_mm3 = np.count_nonzero(inserted > -500.0) * np.prod(spacing)
    assert volume_mm3 == pytest.approx(np.pi / 6.0 * 10.0**3, rel=0.06)
    extents = [np.ptp(np.flatnonzero((inserted > -500.0).any(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1))]
    np.testing.assert_allclose(np.multiply(extents, spacing), 9.5, atol=1.0)


def test_dense_tissue_stays_under_a_nodule() -> None:
    mixed = block(-860.0)
    mixed[:, :20] = 400.0
    for seed in range(20):
        assert np.all(insert_nodules(mixed, SPACING, np.random.default_rng(seed))[:, :20] == 400.0)


def test_shells_are_thin_plates_of_bone() -> None:
    for seed in range(20):
        shell = insert_shell(block(40.0, (40, 60, 60)), SPACING, np.random.default_rng(seed))
        assert 0.0 < np.mean(shell > 100.0) < 0.6
        assert 200.0 < shell.max() <= inserts.SHELL_HU[1] and shell.min() == 40.0


def test_streaks_lie_in_the_slices_of_the_metal_and_go_both_ways() -> None:
    seen = [insert_metal(block(40.0, (60, 40, 40)), SPACING, np.random.default_rng(seed)) for seed in range(20)]
    assert min(metal.max() for metal in seen) > 1500.0
    for metal in seen:
        with_metal = (metal > 1000.0).any(axis=(1, 2))
        streaked = (metal != 40.0).any(axis=(1, 2))
        assert not streaked.all() and np.all(streaked[with_metal])
        assert (metal > 60.0).any() and (metal < 20.0).any() and metal.min() >= -1024.0
