"""Nodules measured: balls at known contrast, size, place and noise."""

from __future__ import annotations

import numpy as np
import pytest

from thinslice.data.phantoms.nodule_field import KINDS_HU, LUNG_HU, InsertedNodule
from thinslice.evaluation.clinical.nodules import NoduleResult, measure_nodules, summary
from thinslice.geometry import Geometry

GRID = Geometry((51, 90, 90), (1.0, 0.7, 0.7), thickness_mm=1.0)
LUNG = np.ones(GRID.shape, bool)


def planted(diameter: float, kind: str = "solid", z: float = 25.3) -> InsertedNodule:
    return InsertedNodule((31.1, 30.6, z), diameter, KINDS_HU[kind], kind, "free")


def ball(nodule: InsertedNodule, *, share: float = 1.0, dz: float = 0.0) -> np.ndarray:
    """The nodule's contrast in every voxel, exact averages, at a share of its contrast and moved along z."""
    fine = (np.arange(6) - 2.5) / 6
    z, y, x = (
        (np.arange(n)[:, None] + fine).ravel() * step - centre
        for n, step, centre in zip(GRID.shape, GRID.spacing_mm, nodule.centre_mm[::-1], strict=True)
    )
    hu = np.zeros(GRID.shape)
    for index in range(GRID.shape[0]):
        planes = z[6 * index : 6 * index + 6] - dz
        if np.abs(planes).min() > 0.5 * nodule.diameter_mm:
            continue
        inside = planes[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= (0.5 * nodule.diameter_mm) ** 2
        hu[index] = inside.mean(axis=0).reshape(90, 6, 90, 6).mean(axis=(1, 3))
    return share * nodule.contrast_hu * hu


def measured(difference: np.ndarray, nodule: InsertedNodule, noise: np.ndarray | None = None) -> NoduleResult:
    (found,) = measure_nodules(
        difference, ball(nodule), noise, LUNG, [nodule], GRID, thick_mm=5.0, first_mm=2.0, seed=0
    )
    return found


@pytest.mark.parametrize("kind", KINDS_HU)
@pytest.mark.parametrize(("diameter", "tolerance"), [(4.0, 6.0), (6.0, 3.0), (10.0, 2.0)])
def test_a_ball_is_recovered_whole(kind: str, diameter: float, tolerance: float) -> None:
    nodule = planted(diameter, kind)
    found = measured(ball(nodule), nodule)
    assert found.contrast_percent == pytest.approx(100, abs=2)
    assert found.volume_percent == pytest.approx(100, abs=3 * tolerance)
    assert found.signal_percent == pytest.approx(100, abs=tolerance)
    assert found.shift_mm == pytest.approx(0, abs=1e-9)
    assert found.phase == pytest.approx((25.3 - 2.0) % 5 / 5)


def test_a_ball_at_part_of_its_contrast() -> None:
    nodule = planted(8.0)
    weak, weaker = measured(ball(nodule, share=0.7), nodule), measured(ball(nodule, share=0.4), nodule)
    assert weak.contrast_percent == pytest.approx(70, abs=1) and weak.signal_percent == pytest.approx(70, abs=2)
    assert 70 < weak.volume_percent < 100
    # Nowhere half the true contrast: lost at that threshold, whatever is left of it.
    assert weaker.contrast_percent == pytest.approx(40, abs=1) and weaker.volume_percent == 0


def test_a_ball_smeared_over_a_thick_slice_keeps_its_signal_and_loses_contrast() -> None:
    nodule = planted(3.0)
    seen = np.mean([np.roll(ball(nodule), shift, axis=0) for shift in range(-2, 3)], axis=0)
    found = measured(seen, nodule)
    assert found.signal_percent == pytest.approx(100, abs=3)
    assert found.contrast_percent < 65


def test_a_ball_made_elsewhere_is_displaced() -> None:
    nodule = planted(6.0)
    assert measured(ball(nodule, dz=1.5), nodule).shift_mm == pytest.approx(1.5, abs=0.02)


def test_cnr_and_matched_filter_in_white_noise() -> None:
    """In white noise a filter's response to a signal over its spread is the signal's energy over the noise's."""
    nodule = planted(6.0, "ground glass")
    noise = np.random.default_rng(5).normal(0.0, 20.0, GRID.shape)
    found = measured(ball(nodule), nodule, noise)
    assert found.cnr == pytest.approx(nodule.contrast_hu / 20.0, rel=0.03)
    expected = np.sqrt(np.sum(ball(nodule) ** 2)) / 20.0
    assert found.detectability == pytest.approx(expected, rel=0.25)
    assert measured(ball(nodule, share=0.5), nodule, noise).detectability == pytest.approx(
        0.5 * found.detectability, rel=1e-6
    )


def test_a_nodule_too_near_the_end_is_left_out() -> None:
    nodule = planted(6.0, z=6.0)
    assert not measure_nodules(ball(nodule), ball(nodule), None, LUNG, [nodule], GRID, thick_mm=5.0, first_mm=2.0)


def test_summary_goes_over_places() -> None:
    values = [
        NoduleResult(4.0, "solid", "free", 0.1, contrast, volume, 100.0, 0.0, None, None).to_json()
        for contrast, volume in ((50.0, 0.0), (70.0, 30.0))
    ]
    (group,) = summary(values)
    assert group["nodules"] == 2 and group["lost"] == 1
    assert group["contrast_percent"] == {"mean": 60.0, "sd": pytest.approx(np.sqrt(200.0))}
    assert group["cnr"] == {"mean": None, "sd": None}
    assert planted(4.0).contrast_hu == KINDS_HU["solid"] - LUNG_HU
