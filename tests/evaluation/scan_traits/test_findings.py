"""Findings: none for the training scans themselves, one with its cause for each trait that is out of the usual."""

from __future__ import annotations

from typing import Any

import pytest

from thinslice.evaluation.scan_traits.findings import expected_correlation, findings
from thinslice.evaluation.scan_traits.reference import TrainingSet, training_set
from thinslice.evaluation.scan_traits.traits import ScanTraits

ORDINARY = ScanTraits(
    slices=60,
    distance_mm=5.0,
    pixel_mm=0.7,
    header_thickness=1.0,
    noise_hu=11.0,
    noise_whiteness=0.35,
    neighbour_correlation=0.1,
    measured_thickness=1.3,
    boundaries=9000,
    jump=1.1,
    jump_at=12,
    lowest_level_hu=-1002.0,
    familiar_share=0.98,
    soft_share=0.6,
    raised_share=0.01,
    dense_share=0.05,
    overshoot=-0.05,
    edges=9000,
)


def changed(**values: Any) -> ScanTraits:
    return ORDINARY.model_copy(update=values)


def names(traits: ScanTraits) -> list[str]:
    return [finding.trait for finding in findings(traits, training_set())]


def test_an_ordinary_scan_has_no_finding() -> None:
    assert names(ORDINARY) == []


def test_chests_of_the_training_set_have_no_finding() -> None:
    chests = [scan for scan in training_set().scans if "chest" in scan.case]
    assert len(chests) >= 10
    assert {scan.case: names(scan.traits) for scan in chests if names(scan.traits)} == {}


@pytest.mark.parametrize(
    ("values", "trait", "word"),
    [
        ({"lowest_level_hu": -520.0}, "lowest_level_hu", "air is -1000"),
        ({"lowest_level_hu": -1900.0}, "lowest_level_hu", "conversion to HU"),
        ({"familiar_share": 0.5}, "familiar_share", "50 %"),
        ({"soft_share": 0.01}, "soft_share", "1 %"),
        ({"raised_share": 0.6}, "raised_share", "contrast"),
        ({"dense_share": 0.7}, "dense_share", "bone"),
        ({"cut_high_share": 0.02}, "cut_high_share", "highest value"),
        ({"cut_low_share": 0.4, "cut_high_share": 0.02}, "cut_low_share", "lowest and highest"),
        ({"metal_ml": 8.0}, "metal_ml", "8.0 ml"),
        ({"repeated": (4, 9)}, "repeated", "Slice 4"),
        ({"neighbour_correlation": 0.75}, "neighbour_correlation", "too much"),
        ({"neighbour_correlation": -0.3, "measured_thickness": -0.5}, "neighbour_correlation", "sharpened across"),
        ({"header_thickness": 2.0, "measured_thickness": None}, "neighbour_correlation", "too little"),
        ({"measured_thickness": 0.2}, "measured_thickness", "0.2 times as thick"),
        ({"header_thickness": 0.2, "measured_thickness": 0.3}, "header_thickness", "80 %"),
        ({"jump": 1.5}, "jump", "Slices 12 and 13"),
        ({"noise_hu": 300.0}, "noise_hu", "300 HU"),
        ({"noise_whiteness": 0.97}, "noise_whiteness", "white"),
        ({"overshoot": 0.06}, "overshoot", "6 %"),
        ({"apparent_distance": 1.7}, "apparent_distance", "8.5 mm apart"),
        ({"apparent_distance": 0.55}, "apparent_distance", "Check the distance"),
        ({"pixel_mm": 2.8}, "pixel_mm", "2.8 mm"),
    ],
)
def test_each_unusual_trait_is_found_with_its_cause(values: dict[str, Any], trait: str, word: str) -> None:
    found = findings(changed(**values), training_set())
    assert [finding.trait for finding in found] == [trait]
    assert word in found[0].sentence and found[0].sentence.endswith(".")


def test_true_overlap_and_true_gaps_contradict_no_header() -> None:
    for width in (1.3, 1.5, 2.0, 3.0):
        shared = expected_correlation(width) + 0.08
        true = changed(header_thickness=width, measured_thickness=width + 0.2, neighbour_correlation=shared)
        assert names(true) == []
    assert names(changed(header_thickness=0.8, measured_thickness=0.9)) == []


def test_a_header_with_gaps_is_contradicted_by_contiguous_slices() -> None:
    assert "measured_thickness" in names(changed(header_thickness=0.3, measured_thickness=1.3))


def test_the_worst_finding_comes_first() -> None:
    found = findings(changed(overshoot=0.06, familiar_share=0.3), training_set())
    assert [finding.verdict for finding in found] == ["not for this network", "look closely"]


def test_noise_past_the_training_scans_is_not_called_another_contrast() -> None:
    assert names(changed(noise_hu=300.0, familiar_share=0.7)) == ["noise_hu"]


def test_what_was_not_measured_is_not_judged() -> None:
    bare = ScanTraits(slices=30, distance_mm=5.0, header_thickness=1.0)
    assert names(bare) == []
    assert findings(ORDINARY, TrainingSet(command="none", scans=())) == []


def test_gains_of_other_weights_are_not_compared() -> None:
    training = training_set()
    (digest, *_) = training.weights.values()
    low, high = training.gains_db(digest, 2) or (0.0, 0.0)
    assert low < high
    assert training.gains_db("0" * 64, 2) is None and training.gains_db(digest, 7) is None
