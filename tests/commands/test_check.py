"""`thinslice.check`: verdicts on a scan made on the spot, and on real ones where they are at hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import thinslice
from support.scans import thick_scan, thin_scan
from support.skips import shared_folder
from thinslice.commands.check import card_gain_db
from thinslice.commands.check_report import EXIT_CODES, outside
from thinslice.models.base import ThroughPlaneModel
from thinslice.volume import Volume


@pytest.fixture(scope="module")
def thick() -> Volume:
    return thick_scan(thin_scan())


@pytest.fixture(scope="module")
def fast() -> ThroughPlaneModel:
    return thinslice.load_model("fast")


def test_an_ordinary_scan_is_good(thick: Volume, fast: ThroughPlaneModel) -> None:
    phases: list[tuple[str, float]] = []
    found = thinslice.check(thick, model=fast, phase=lambda name, share: phases.append((name, share)))
    assert found.verdict == "good" and found.exit_code == 0 and found.findings == ()
    assert found.sentence.startswith("Good: fast is ")
    beyond = outside(found.traits, found.usual)
    assert beyond and f"{len(beyond)} traits lie outside those of the scans" in found.sentence
    # A trait at the end of its range is within it.
    edge = {trait: (getattr(found.traits, trait), getattr(found.traits, trait) + 1) for trait in beyond}
    assert outside(found.traits, edge) == ()
    assert [test.factor for test in found.tests] == [2, 3]
    for test in found.tests:
        better = max(test.cubic.psnr, test.cubic_consistent.psnr)
        assert test.gain_db == pytest.approx(test.network.psnr - better, abs=2e-3) and test.gain_db > 0.3
        assert abs(test.network.bias_hu["soft"]) < 0.5 < abs(test.cubic.bias_hu["between"])
    assert {name for name, _ in phases} == {"measuring", "network"}
    network = [share for name, share in phases if name == "network"]
    assert network == sorted(network) and network[-1] == 1.0


def test_the_report_is_json_with_the_documented_keys(thick: Volume, fast: ThroughPlaneModel) -> None:
    values = thinslice.check(thick, model=fast).to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["schema"] == "thinslice-check/1" and values["verdict"] == "good"
    assert values["tests"][0]["gain_db"] > 0 and values["model"] == "fast" and len(values["model_sha256"]) == 64
    assert values["traits"]["slices"] == thick.shape[0] and values["usual"]["noise_hu"][0] > 0
    assert "medical" in values["notice"]


def test_bad_scans_have_their_verdict(thick: Volume, fast: ThroughPlaneModel) -> None:
    inverted = Volume((-thick.hu).astype(np.int16), thick.geometry)
    overlapping = Volume(thick.hu, replace(thick.geometry, thickness_mm=10.0))
    for bad in (inverted, overlapping):
        found = thinslice.check(bad, model=fast)
        assert found.verdict == "not for this network" and found.exit_code == 10
        assert found.sentence.startswith("Not for this network")
    missing = np.delete(thick.hu, 12, axis=0)
    assert missing.shape[0] == thick.shape[0] - 1
    noisy = thick.hu + np.random.default_rng(0).normal(0, 80, thick.shape)
    found = thinslice.check(Volume(np.clip(np.rint(noisy), -1024, 3071).astype(np.int16), thick.geometry), model=fast)
    assert found.verdict == "look closely" and found.exit_code == EXIT_CODES["look closely"] == 9


def test_a_method_that_gains_nothing_is_not_recommended(thick: Volume) -> None:
    found = thinslice.check(thick, model="nearest")
    assert found.verdict == "not for this network"
    assert found.findings[0].trait == "thicker_slices" and "worse than interpolation" in found.sentence
    assert found.training_gain_db == {} and found.card_gain_db == {}


def test_a_few_slices_are_too_few(thick: Volume) -> None:
    found = thinslice.check(thick.crop((8, 0, 0), (17, *thick.shape[1:])), model="linear")
    assert found.tests == () and found.verdict == "look closely"
    assert "9 slices are too few" in found.sentence


def test_overlap_beyond_the_training_is_named(thick: Volume, fast: ThroughPlaneModel) -> None:
    widest = float((getattr(fast, "card", None) or {}).get("widest_slice", 2.0))
    if widest >= 4.0:
        widest = 3.9  # a header beyond 4 counts as wrong, and slices as contiguous
    stated = min(widest + 0.1, 4.0)
    found = thinslice.check(Volume(thick.hu, replace(thick.geometry, thickness_mm=5.0 * stated)), model=fast)
    assert found.exit_code == 10


def test_gains_of_a_card_are_those_over_the_better_interpolation() -> None:
    rows = [
        {"case": case, "factor": 2, "model": model, "psnr": psnr}
        for case, values in {"a": (30.0, 31.0, 34.0), "b": (40.0, 39.0, 41.0)}.items()
        for model, psnr in zip(("cubic", "cubic-consistent", "mine"), values, strict=True)
    ]
    assert card_gain_db({"scores": {"rows": rows}}, 2) == 2.0
    assert card_gain_db({"scores": {"rows": rows}}, 3) is None and card_gain_db({}, 2) is None


def test_a_real_chest_is_good_and_its_wrong_header_is_not(fast: ThroughPlaneModel) -> None:
    path = shared_folder() / "ct" / "thick" / "lung_dx_A0002_B40f_8mm.nii.gz"
    if not shared_folder().is_dir():
        pytest.skip("shared data absent")
    scan = thinslice.read(path)
    assert thinslice.check(scan, model=fast).verdict == "good"
    for stated_mm in (2.0, 16.0):
        wrong = Volume(scan.hu, replace(scan.geometry, thickness_mm=stated_mm))
        assert thinslice.check(wrong, model=fast).verdict == "not for this network"
