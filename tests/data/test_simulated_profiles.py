"""Profiles drawn for training: the scanner's own and the one that the network gets."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice import SliceProfile
from thinslice.data.simulated_profiles import draw_profiles
from thinslice.recipes import SimulationRecipe


def draws(recipe: SimulationRecipe, count: int = 300, factor: int = 5) -> list[tuple[SliceProfile, SliceProfile]]:
    rng = np.random.default_rng(0)
    return [draw_profiles(recipe, factor, rng) for _ in range(count)]


def test_the_network_gets_the_nominal_box_whatever_the_scanner_does() -> None:
    recipe = SimulationRecipe(
        profiles={"trapezoid": 0.5, "heavy-tailed": 0.5}, box_width_share=0, width_error=(0.9, 1.2), width_error_share=1
    )
    seen = draws(recipe)
    assert {profile for _, profile in seen} == {SliceProfile.mean(5)}
    assert {simulated.name for simulated, _ in seen} == {"trapezoid", "heavy-tailed"}
    assert len({simulated for simulated, _ in seen}) == len(seen)


def test_a_known_profile_is_the_simulated_one() -> None:
    recipe = SimulationRecipe(profiles={"heavy-tailed": 1.0}, known_profile_share=1.0)
    assert all(simulated is profile for simulated, profile in draws(recipe))


def test_logarithmic_widths_are_as_often_below_their_geometric_mean_as_above() -> None:
    recipe = SimulationRecipe(
        profiles={"mean": 1.0}, box_width=(0.5, 4.0), box_width_share=1.0, box_width_law="logarithmic"
    )
    widths = np.array([simulated.width for simulated, _ in draws(recipe, factor=8)])
    assert widths.min() < 0.6 and 3.5 < widths.max() < 4.1
    assert np.mean(widths < np.sqrt(0.5 * 4.0)) == pytest.approx(0.5, abs=0.08)


def test_true_widths_stay_within_their_error() -> None:
    recipe = SimulationRecipe(profiles={"mean": 1.0}, box_width_share=0, width_error=(0.9, 1.15), width_error_share=1)
    widths = np.array([simulated.width for simulated, _ in draws(recipe, factor=8)])
    assert 0.88 < widths.min() < 0.93 and 1.12 < widths.max() < 1.17


@pytest.mark.parametrize("factor", range(2, 9))
@pytest.mark.parametrize("width", [0.5, 1.0, 2.0, 4.0])
def test_heavy_tails_are_symmetric_and_reach_past_the_box(factor: int, width: float) -> None:
    profile = SliceProfile.heavy_tailed(factor, width=width)
    box = SliceProfile.mean(factor, width=width)
    assert profile.reach >= box.reach and profile.weights == profile.weights[::-1]
    assert sum(profile.weights) == pytest.approx(1.0) and min(profile.weights) > 0.0
    if factor * width >= 3:  # below, a thin slice is as wide as the core
        assert profile.width == pytest.approx(width, rel=0.2)


def test_heavy_tails_of_no_weight_leave_the_box() -> None:
    profile = SliceProfile.heavy_tailed(5, core=1.0, tail=0.0)
    margin = profile.reach - 2
    assert profile.weights[margin:-margin] == SliceProfile.mean(5).weights
    assert not any(profile.weights[:margin])
