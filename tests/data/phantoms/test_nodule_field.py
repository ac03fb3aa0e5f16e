"""The field of nodules: what was planted is there, where and as it should be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from thinslice.data.phantoms.nodule_field import APART_MM, KINDS_HU, SETTINGS, NoduleField, nodule_field
from thinslice.errors import UsageError


@pytest.fixture(scope="module")
def field() -> NoduleField:
    return nodule_field(3, positions=2, pixels=170, slices=90, diameters_mm=(3.0, 6.0, 9.0))


def test_every_kind_diameter_setting_and_place_is_there(field: NoduleField) -> None:
    assert field.missing == 0 and len(field.nodules) == 2 * 3 * 3 * 2
    assert set(Counter((n.kind, n.diameter_mm, n.setting) for n in field.nodules).values()) == {2}
    for kind in KINDS_HU:
        for setting in SETTINGS:
            phases = sorted(
                n.phase(5.0, 2.0) for n in field.nodules if (n.kind, n.setting, n.diameter_mm) == (kind, setting, 6.0)
            )
            assert phases[0] < 0.5 <= phases[1]


def test_the_difference_holds_the_nodules_and_nothing_else(field: NoduleField) -> None:
    difference = field.full - field.empty
    z, y, x = np.ogrid[: field.grid.shape[0], : field.grid.shape[1], : field.grid.shape[2]]
    rest = np.ones(difference.shape, bool)
    for nodule in field.nodules:
        d, h, w = field.grid.index_at(nodule.centre_mm)
        away = np.sqrt((z - d) ** 2 + (0.7 * (y - h)) ** 2 + (0.7 * (x - w)) ** 2)
        rest &= away > 0.5 * nodule.diameter_mm + 3.0
        if nodule.setting == "free":
            near = away < 0.5 * nodule.diameter_mm + 2.5
            volume = difference[near].sum() * 0.49 / nodule.contrast_hu
            assert volume == pytest.approx(nodule.volume_mm3, rel=0.12)
            core = difference[away < 0.2 * nodule.diameter_mm]
            if nodule.diameter_mm > 5:
                assert core.mean() == pytest.approx(nodule.contrast_hu, rel=0.15)
    assert np.abs(difference[rest]).max() < 1.0


def test_nodules_keep_apart_and_touch_what_they_should(field: NoduleField) -> None:
    for i, one in enumerate(field.nodules):
        for other in field.nodules[:i]:
            away = np.subtract(one.centre_mm, other.centre_mm)
            room = 0.5 * (one.diameter_mm + other.diameter_mm)
            assert np.hypot(away[0], away[1]) > room + APART_MM or abs(away[2]) > room + 12.5
        d, h, w = (round(v) for v in field.grid.index_at(one.centre_mm))
        reach = int(np.ceil((0.5 * one.diameter_mm + 1.5) / 0.7))
        around = field.empty[d, h - reach : h + reach + 1, w - reach : w + reach + 1]
        if one.setting == "pleura":
            assert around.max() > 0.0
        if one.setting == "free":
            side = 0.7 * (np.arange(2 * reach + 1) - reach)
            disc = np.hypot(side[:, None], side) < 0.5 * one.diameter_mm + 0.7
            assert around[disc].max() < -750.0


def test_scans_differ_by_noise_or_by_nodules_alone(field: NoduleField) -> None:
    with_nodules = field.scan(nodules=True, noise_hu=20.0).hu.astype(float)
    without = field.scan(nodules=False, noise_hu=20.0).hu.astype(float)
    again = field.scan(nodules=False, noise_hu=20.0, draw=1).hu.astype(float)
    assert np.abs(with_nodules - without - (field.full - field.empty)).max() <= 1.01
    noise = (again - without) / np.sqrt(2)
    assert noise[field.lung].std() == pytest.approx(16.0, rel=0.02)
    assert noise[field.empty > 0].std() == pytest.approx(20.0, rel=0.03)


def test_the_same_seed_gives_the_same_field() -> None:
    small = {"positions": 1, "pixels": 100, "slices": 60, "diameters_mm": (4.0,)}
    one, two, other = (nodule_field(seed, **small) for seed in (1, 1, 2))  # type: ignore[arg-type]
    assert one.nodules == two.nodules and np.array_equal(one.full, two.full)
    assert one.nodules != other.nodules


def test_a_field_without_room_is_refused() -> None:
    with pytest.raises(UsageError, match="pixels"):
        nodule_field(pixels=80)
