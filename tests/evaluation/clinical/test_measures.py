"""The clinical measures of `evaluate` give known biases, shares, rises, noise and distances."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from thinslice.data.simulate import simulate_thick
from thinslice.errors import GeometryError
from thinslice.evaluation.protocol import evaluate
from thinslice.geometry import Geometry
from thinslice.intensity import to_unit
from thinslice.profile import SliceProfile
from thinslice.volume import Volume


def thorax_like(noise_hu: float = 8.0) -> Volume:
    """Soft tissue with a lung in it, bone, fat, and air around; a diaphragm halfway up."""
    rng = np.random.default_rng(4)
    hu = np.full((46, 60, 64), -1000.0)
    hu[:, 5:55, 5:59] = 40.0
    hu[20:, 12:40, 12:50] = -860.0
    hu[:, 45:50, 10:20] = 700.0
    hu[:, 45:50, 30:50] = -100.0
    hu[24:, 20:30, 20:30] = -970.0
    hu[:, 5:, 5:59] += rng.normal(0, noise_hu, (46, 55, 54)) * (hu[:, 5:, 5:59] > -990)
    return Volume(np.round(hu).astype(np.int16), Geometry(hu.shape, (1.0, 1.0, 1.0)))


def clinical(estimate: Volume, reference: Volume, **more: object) -> dict:
    scores = evaluate(estimate, reference, protocol="clinical", **more)  # type: ignore[arg-type]
    found = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert found["protocol"] == "clinical" and {"psnr", "ssim", "slices_scored"} <= found.keys()
    return found["clinical"]


def test_a_lung_that_only_the_whole_reference_shows_is_found() -> None:
    """Pieces of less than 20 ml are no lung, so the lung is found before the reference is cropped to the estimate."""
    truth = thorax_like(noise_hu=0.0)
    estimate = truth.crop((22, 0, 0), (36, 60, 64))
    found = clinical(estimate, truth)["laa950_percent"]
    assert found["reference"] == pytest.approx(100 * 10 * 10 / (28 * 38))
    assert clinical(estimate, estimate)["laa950_percent"]["reference"] is None


def test_thick_slices_that_hardly_overlap_leave_the_measures_empty() -> None:
    thick, truth = simulate_thick(thorax_like(), SliceProfile.mean(5))
    scores = evaluate(truth, truth, protocol="clinical", thick=thick.crop((0, 0, 0), (2, 60, 64)))
    assert scores.clinical is not None and scores.clinical["noise_hu"]["patches"] == 0
    assert scores.clinical["by_tissue_of_thick"]["soft"] == {
        "voxels": 0, "bias_hu": None, "mae_hu": None, "rmse_hu": None
    }  # fmt: skip
    assert any("Fewer than 3 thick slices" in sentence for sentence in scores.warnings)


def test_a_bias_is_found_in_its_tissue_alone() -> None:
    truth = thorax_like()
    hu = truth.hu.astype(np.float32)
    hu[(truth.hu >= -150) & (truth.hu < -30)] -= 12.0
    hu[truth.hu >= 200] += 30.0
    found = clinical(Volume(hu, truth.geometry), truth)["by_tissue_of_reference"]
    assert found["fat"]["bias_hu"] == pytest.approx(-12) and found["fat"]["mae_hu"] == pytest.approx(12)
    assert found["bone"]["bias_hu"] == pytest.approx(30) and found["bone"]["rmse_hu"] == pytest.approx(30)
    assert found["soft"]["bias_hu"] == found["lung"]["mae_hu"] == found["air"]["mae_hu"] == 0
    assert sum(entry["voxels"] for entry in found.values()) == 36 * 60 * 64


def test_values_are_not_clamped() -> None:
    truth = thorax_like()
    metal = truth.hu.copy()
    metal[:, 45:50, 10:20] = 3000
    reference = Volume(metal, truth.geometry)
    estimate = Volume(np.where(metal == 3000, 2500, metal).astype(np.int16), truth.geometry)
    assert clinical(estimate, reference)["by_tissue_of_reference"]["bone"]["bias_hu"] == pytest.approx(-500)


def test_classes_come_from_the_nearest_thick_slice() -> None:
    thick, truth = simulate_thick(thorax_like(), SliceProfile.mean(5))
    found = clinical(truth, truth, thick=thick)
    counts = {name: entry["voxels"] for name, entry in found["by_tissue_of_thick"].items()}
    # All thin slices of all thick slices but the first and the last.
    assert counts["bone"] == 5 * sum(int((plane >= 200).sum()) for plane in thick.hu[1:-1])
    assert sum(counts.values()) == 5 * thick.hu[1:-1].size
    assert all(entry["bias_hu"] in (0, None) for entry in found["by_tissue_of_thick"].values())


def test_laa950_counts_the_lung_below_950() -> None:
    truth = thorax_like(noise_hu=0.0)
    emphysema, lung = 10 * 10, 28 * 38
    # Slices 5 to 40 are scored; lung starts at 20, its dark part at 24.
    expected = 100 * emphysema * (41 - 24) / (lung * (41 - 20))
    found = clinical(truth, truth)["laa950_percent"]
    assert found["reference"] == pytest.approx(expected) and found["difference"] == 0
    filled = Volume(np.where(truth.hu == -970, -940, truth.hu).astype(np.int16), truth.geometry)
    found = clinical(filled, truth)["laa950_percent"]
    assert found["estimate"] == 0 and found["difference"] == pytest.approx(-expected)


def test_laa910_and_perc15_follow_a_lung_that_is_darker() -> None:
    truth = thorax_like(noise_hu=0.0)
    darker = Volume(np.where(truth.hu == -860, -912, truth.hu).astype(np.int16), truth.geometry)
    found = clinical(darker, truth)
    assert found["laa910_percent"]["estimate"] == pytest.approx(100)
    assert found["laa910_percent"]["reference"] == pytest.approx(found["laa950_percent"]["reference"])
    assert found["perc15_hu"] == {"estimate": -912, "reference": -860, "difference": -52}


def test_without_a_lung_there_is_no_laa950_and_no_edge() -> None:
    solid = Volume(np.full((20, 40, 40), 40, np.int16), Geometry((20, 40, 40), (1.0, 1.0, 1.0)))
    found = clinical(solid, solid)
    for name in ("laa950_percent", "laa910_percent", "perc15_hu"):
        assert found[name] == {"estimate": None, "reference": None, "difference": None}
    assert found["edge_rise_mm"] == {"estimate": None, "reference": None, "edges": 0}
    assert found["noise_hu"]["reference"] == 0


@pytest.mark.parametrize("sigma_mm", [1.0, 2.0])
def test_the_rise_of_a_blurred_edge_is_that_of_its_gaussian(sigma_mm: float) -> None:
    """A step blurred by a Gaussian rises from 10 to 90 % over 2.563 sigma."""
    from scipy.special import erf

    z = np.arange(46) - 22.5

    def step(sigma: float) -> Volume:
        profile = -450 * erf(z / (sigma * np.sqrt(2))) - 410
        hu = np.broadcast_to(profile[:, None, None], (46, 40, 40)).astype(np.float32)
        return Volume(hu.copy(), Geometry(hu.shape, (1.0, 1.0, 1.0)))

    found = clinical(step(sigma_mm), step(0.4))["edge_rise_mm"]
    assert found["estimate"] == pytest.approx(2.563 * sigma_mm, rel=0.08)
    assert found["reference"] < 1.3 and found["edges"] == 400


def test_noise_is_measured_in_soft_tissue() -> None:
    found = clinical(thorax_like(noise_hu=4.0), thorax_like(noise_hu=12.0))["noise_hu"]
    assert found["estimate"] == pytest.approx(4, rel=0.08) and found["reference"] == pytest.approx(12, rel=0.08)


def test_error_by_distance_and_consistency_use_the_thick_slices() -> None:
    thick, truth = simulate_thick(thorax_like(), SliceProfile.mean(5))
    off = truth.hu.astype(np.float32)
    off[2::5] += 10.0
    off[3::5] -= 10.0
    found = clinical(Volume(off, truth.geometry), truth, thick=thick)
    assert {name: entry["mae_hu"] for name, entry in found["by_distance_mm"].items()} == {"0": 0, "1": 0, "2": 10}
    # Each inner thick slice averages one slice too high and one too low: thin 5k - 2 and 5k + 2.
    assert found["consistency_rms_hu"] == pytest.approx(0, abs=1e-3)
    higher = Volume(truth.hu + np.float32(7), truth.geometry)
    assert clinical(higher, truth, thick=thick)["consistency_rms_hu"] == pytest.approx(7, abs=1e-3)


def test_unit_values_are_measured_in_hu() -> None:
    thick, truth = simulate_thick(thorax_like(), SliceProfile.mean(5))
    estimate = Volume(truth.hu.astype(np.float32) + 5, truth.geometry)
    in_unit = [Volume(to_unit(v.hu), v.geometry) for v in (estimate, truth, thick)]
    found = clinical(in_unit[0], in_unit[1], thick=in_unit[2])
    assert found["by_tissue_of_thick"]["soft"]["bias_hu"] == pytest.approx(5, abs=0.01)
    assert found["consistency_rms_hu"] == pytest.approx(5, abs=0.01)


def test_thick_is_placed_by_position_or_by_index() -> None:
    thick, truth = simulate_thick(thorax_like(), SliceProfile.mean(5))
    expected = clinical(truth, truth, thick=thick)
    # A reference that begins two slices later: position knows, the index does not.
    later = truth.crop((2, 0, 0), truth.geometry.shape)
    assert clinical(later, later, thick=thick)["by_distance_mm"].keys() == {"0", "1", "2"}
    assert clinical(later, later, thick=thick)["consistency_rms_hu"] == pytest.approx(0, abs=1e-3)
    with pytest.raises(GeometryError, match="by index"):
        clinical(later, later, thick=thick, align="index")
    moved = Volume(thick.hu, replace(thick.geometry, origin_mm=(0.0, 0.0, 0.4)))
    with pytest.raises(GeometryError, match=r"off the thin grid"):
        clinical(truth, truth, thick=moved)
    assert clinical(truth, truth, thick=moved, align="index") == expected
    with pytest.raises(GeometryError, match="cover"):
        clinical(truth, truth, thick=thick.crop((0, 0, 0), (8, 60, 60)))
