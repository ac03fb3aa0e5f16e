"""Radiomic agreement: regions lie where they should, features are known ones, concordance is Lin's."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinslice.evaluation.clinical import radiomics
from thinslice.evaluation.clinical.radiomics import agreement, concordance, features_of, find_regions, region_features
from thinslice.evaluation.protocol import evaluate
from thinslice.geometry import Geometry
from thinslice.volume import Volume


def chest() -> tuple[np.ndarray, np.ndarray]:
    """Soft tissue with a lung in it, noisier from left to right, and the lung."""
    rng = np.random.default_rng(3)
    hu = np.full((30, 72, 72), 40.0)
    hu[:, 8:40, 4:68] = -860.0
    lung = hu < -500
    return hu + rng.normal(0.0, 1.0, hu.shape) * np.linspace(8, 30, 72), lung


def test_regions_lie_in_one_tissue_and_within_the_slices_that_count() -> None:
    hu, lung = chest()
    found = find_regions(hu, lung, (2.0, 2.0, 2.0), range(3, 27))
    assert all(len(regions) == radiomics.MOST_REGIONS for regions in found.values())
    for tissue, regions in found.items():
        assert len({str(region) for region in regions}) == len(regions)
        for region in regions:
            assert hu[region].shape == (8, 8, 8) and region[0].start >= 3 and region[0].stop <= 27
            assert lung[region].mean() >= 0.75 if tissue == "lung" else not lung[region].any()


@pytest.mark.parametrize(("spacing_mm", "shape"), [((0.8, 0.5, 0.5), (20, 32, 32)), ((5.0, 4.0, None), (6, 6, 16))])
def test_regions_are_cubes_in_millimetres(spacing_mm: tuple, shape: tuple[int, int, int]) -> None:
    hu = np.full((40, 64, 64), 40.0)
    regions = find_regions(hu, np.zeros(hu.shape, bool), spacing_mm, range(40))["soft"]
    assert hu[regions[0]].shape == shape


def test_bone_and_air_are_no_region() -> None:
    for value in (-1000.0, 700.0):
        hu = np.full((20, 32, 32), value)
        assert find_regions(hu, np.zeros(hu.shape, bool), (2.0, 2.0, 2.0), range(20)) == {"lung": [], "soft": []}


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=12), st.floats(-100, 100), st.floats(0.1, 3))
def test_concordance_is_at_most_one_and_symmetric(values: list[float], shift: float, scale: float) -> None:
    other = [shift + scale * value for value in values]
    one, two = concordance(values, other), concordance(other, values)
    if one is not None and two is not None:
        assert abs(one) <= 1 + 1e-9 and one == pytest.approx(two, abs=1e-6)
        # Two lines through the same points: 2 s / (1 + s^2 + shift of means^2 / variance).
        y, x = np.array(values), np.array(other)
        assert one == pytest.approx(2 * scale / (1 + scale**2 + (x.mean() - y.mean()) ** 2 / y.var()), abs=1e-6)


def test_tissues_are_judged_apart_and_few_regions_not_at_all() -> None:
    lung = [{"a": float(n), "b": float(n)} for n in range(9)]
    off = [{"a": float(n), "b": 20.0 - n} for n in range(9)]
    found = agreement({"lung": off}, {"lung": lung})
    assert found["soft"] is None and found["lung"] is not None
    assert found["lung"].concordant_percent == 50.0 and found["lung"].concordance["a"] == 1.0
    assert found["lung"].to_json()["features"] == 2
    assert region_features(np.zeros((8, 8, 8)), {"lung": [(slice(0, 8),) * 3] * 7}) == {}


def test_a_feature_that_one_side_lacks_is_left_out() -> None:
    known = [{"a": float(n), "b": float(n)} for n in range(9)]
    own = [{"a": float(n)} for n in range(9)]
    found = agreement({"lung": own}, {"lung": known})["lung"]
    assert found is not None and found.concordance.keys() == {"a"}


def test_features_are_those_that_numpy_gives() -> None:
    pytest.importorskip("fastrad")
    hu = np.random.default_rng(0).normal(-850.0, 60.0, (9, 8, 7)).round()
    found = features_of(hu)
    assert len(found) == 93
    assert found["firstorder:mean"] == pytest.approx(hu.mean(), rel=1e-5)
    assert found["firstorder:variance"] == pytest.approx(hu.var(), rel=1e-4)
    assert found["firstorder:90th_percentile"] == pytest.approx(np.percentile(hu, 90), abs=1.0)
    # Co-occurrence: mean over 13 directions of the mean squared difference of bins between neighbours.
    bins = np.floor(hu / 25.0)
    contrasts = []
    for dz, dy, dx in _directions():
        one = bins[max(0, -dz) : 9 - max(0, dz), max(0, -dy) : 8 - max(0, dy), max(0, -dx) : 7 - max(0, dx)]
        two = bins[max(0, dz) : 9 + min(0, dz), max(0, dy) : 8 + min(0, dy), max(0, dx) : 7 + min(0, dx)]
        contrasts.append(np.mean((one - two) ** 2))
    assert found["glcm:contrast"] == pytest.approx(np.mean(contrasts), rel=1e-4)


def test_smoothing_loses_texture_but_not_the_mean() -> None:
    pytest.importorskip("fastrad")
    from scipy.ndimage import gaussian_filter1d

    hu, lung = chest()
    regions = find_regions(hu, lung, (2.0, 2.0, 2.0), range(3, 27))
    known = region_features(hu, regions)
    same = agreement(known, known)
    smooth = agreement(region_features(gaussian_filter1d(hu, 1.5, axis=0), regions), known)
    for tissue in ("lung", "soft"):
        whole, part = same[tissue], smooth[tissue]
        assert whole is not None and part is not None
        assert whole.concordant_percent == 100.0 and part.concordant_percent < 60.0
        assert part.concordance["firstorder:mean"] > part.concordance["firstorder:variance"]


def test_evaluate_goes_on_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    hu, _ = chest()
    volume = Volume(hu.round().astype(np.int16), Geometry(hu.shape, (2.0, 2.0, 2.0)))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fastrad" else real(name))
    scores = evaluate(volume, volume, protocol="clinical")
    assert scores.clinical is not None and scores.clinical["radiomics"] is None
    assert any("install the extra radiomics" in sentence for sentence in scores.warnings)


def _directions() -> list[tuple[int, int, int]]:
    """One of each two opposite neighbours."""
    steps = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return [step for step in steps if step > (0, 0, 0)]
