"""Edges of known blur have the rise that their blur gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from thinslice.data.phantoms.slanted_edge import distance_mm, slanted_edge
from thinslice.data.phantoms.thorax import thick_from
from thinslice.evaluation.clinical.edges import find_edges, measure_edges, rise_mm, spread_function, straight_between


def step(sigma: float, *, place: float = 30.3, depth: int = 61, step_mm: float = 1.0) -> np.ndarray:
    """Lung below soft tissue, blurred along z by a Gaussian."""
    z = (np.arange(depth) - place) * step_mm
    profile = -400.0 + 450.0 * erf(z / (sigma * np.sqrt(2.0)))
    return np.broadcast_to(profile[:, None, None], (depth, 12, 12)).copy()


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("step_mm", [0.5, 0.8])
def test_a_gaussian_blur_of_known_width(sigma: float, step_mm: float) -> None:
    """From 10 to 90 % it takes 2.563 standard deviations."""
    truth = step(0.5, depth=91, place=45.2, step_mm=step_mm)
    blurred = step(sigma, depth=91, place=45.2, step_mm=step_mm)
    edges = find_edges(truth, step_mm, 5 * step_mm)
    assert len(edges) == 36
    found = measure_edges(blurred, truth, edges)
    # Straight between slices, so a little wide.
    assert found["rise_mm"] == pytest.approx(2.563 * sigma, rel=0.07)
    assert found["profile"]["rise_mm"] == pytest.approx(2.563 * sigma, rel=0.08)
    assert found["unresolved_percent"] == 0.0 and found["displaced_mm"] == pytest.approx(0.0, abs=0.05)
    assert measure_edges(truth, truth, edges)["rise_mm"] < 2.0


def test_an_edge_that_falls_is_measured_as_one_that_rises() -> None:
    truth, blurred = step(0.5), step(1.5)
    up = measure_edges(blurred, truth, find_edges(truth, 1.0, 5.0))
    truth, blurred = truth[::-1], blurred[::-1]
    down = measure_edges(blurred, truth, find_edges(truth, 1.0, 5.0))
    assert down["rise_mm"] == pytest.approx(up["rise_mm"]) and down["edges"] == up["edges"] > 0


def test_a_misplaced_edge_is_as_sharp_but_displaced() -> None:
    truth = step(0.8)
    moved = step(0.8, place=31.1)
    edges = find_edges(truth, 1.0, 5.0)
    found, own = measure_edges(moved, truth, edges), measure_edges(truth, truth, edges)
    assert found["rise_mm"] == pytest.approx(own["rise_mm"], abs=0.2)
    assert found["displaced_mm"] == pytest.approx(0.8, abs=0.05)


def test_a_volume_without_the_edge_leaves_it_unresolved() -> None:
    truth = step(0.5)
    found = measure_edges(np.full_like(truth, -400.0), truth, find_edges(truth, 1.0, 5.0))
    assert found["rise_mm"] is None and found["unresolved_percent"] == 100.0


def test_gentle_and_low_steps_are_no_edges() -> None:
    assert len(find_edges(step(4.0), 1.0, 5.0)) == 0
    assert len(find_edges(step(0.5) / 3.0, 1.0, 5.0)) == 0
    flat = find_edges(np.zeros((40, 8, 8)), 1.0, 5.0)
    assert measure_edges(np.zeros((40, 8, 8)), np.zeros((40, 8, 8)), flat)["edges"] == 0


def test_a_box_rises_over_four_fifths_of_its_width() -> None:
    """Thin slices of 1 mm: 0.8 mm. Thick slices of 5 mm at their own places: 4 mm."""
    edge = slanted_edge("lung to soft", noise_hu=0.0)
    thick, thin = thick_from(edge.volume, 5)
    for volume, expected in ((thin, 0.8), (thick, 4.0)):
        at, spread = spread_function(volume.hu, distance_mm(volume.geometry), reach_mm=20.0, fine_mm=0.1)
        assert rise_mm(at, spread, low=edge.low_hu, high=edge.high_hu) == pytest.approx(expected, abs=0.06)


def test_noise_does_not_change_the_rise_of_a_known_edge() -> None:
    rises = []
    for noise in (0.0, 20.0):
        edge = slanted_edge("fat to soft", noise_hu=noise)
        at, spread = spread_function(edge.volume.hu, distance_mm(edge.volume.geometry), reach_mm=20.0)
        rises.append(rise_mm(at, spread, low=edge.low_hu, high=edge.high_hu))
    assert rises[0] == pytest.approx(rises[1], abs=0.08)


def test_thick_slices_as_a_viewer_shows_them_are_straight_between() -> None:
    thick = np.random.default_rng(0).normal(size=(4, 3, 3))
    thin = straight_between(thick, 5)
    np.testing.assert_allclose(thin[::5], thick, rtol=1e-6)
    np.testing.assert_allclose(thin[7], 0.6 * thick[1] + 0.4 * thick[2], rtol=1e-5)
