"""Calibration: found on some patients, kept in the card, tested on others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thinslice import Geometry, SliceProfile, Volume
from thinslice.data.simulate import simulate_thick
from thinslice.errors import ModelError, UsageError
from thinslice.evaluation.coverage import tally_of
from thinslice.experiments.calibration import run
from thinslice.experiments.calibration.report import as_figure, as_markdown, worst
from thinslice.experiments.calibration.run import PatientErrors, findings, fitted, left_one_out
from thinslice.models import catalog, checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.calibration import LEVELS, Calibration
from thinslice.models.load import load_model

RUN: dict[str, Any] = {"device": "cpu", "backend": "torch"}


@pytest.fixture
def network() -> ThroughPlaneModel:
    torch.manual_seed(0)
    model = catalog.build("thinnet", features=4, blocks=1, condition=8, deviation=True).eval()
    model.card = {"name": "small", "version": "9"}  # type: ignore[assignment]
    return model


def waves(seed: int, *, plane: int = 40) -> Volume:
    z, y, x = np.mgrid[:60, :plane, :plane]
    hu = 400 * np.sin(z / 3.0 + x / 4.0 + seed) + 300 * np.cos(y / 3.0)
    hu += np.random.default_rng(seed).normal(0, 10 + 30 * (x > plane // 2), hu.shape)
    return Volume(hu.astype(np.int16), Geometry(hu.shape, (1.0, 0.8, 0.8)))


def drawn(case: str, spread: float, *, scale: float = 1.0, count: int = 100_000, factor: int = 5) -> PatientErrors:
    """Errors `spread` times too large for the bare standard deviations, which were made with a scale."""
    numbers = np.random.default_rng(len(case))
    bare = numbers.uniform(5.0, 40.0, count)
    tally = tally_of(spread * bare * numbers.laplace(scale=np.sqrt(0.5), size=count), scale * bare)
    return PatientErrors(
        case,
        factor,
        scale,
        {"all": {"all": tally}, **{k: {} for k in ("tissue", "edge", "distance_mm", "deviation_hu")}},
    )


def test_what_is_found_makes_intervals_hold_what_they_should() -> None:
    found = fitted([drawn("a", 1.7)])
    assert found.scale == pytest.approx(1.7, rel=0.02) and found.cases == ("a",)
    for level in LEVELS:
        # A Laplace distribution's own quantiles.
        assert found.multipliers[level] == pytest.approx(-np.log(1 - level / 100) * np.sqrt(0.5), rel=0.03)


def test_the_scale_that_was_in_force_does_not_matter() -> None:
    plain, scaled = fitted([drawn("a", 1.7)]), fitted([drawn("a", 1.7, scale=0.4)])
    assert scaled.scale == pytest.approx(plain.scale, rel=1e-3)
    assert scaled.multipliers == pytest.approx(plain.multipliers, rel=0.01)


def test_every_patient_counts_the_same() -> None:
    small, large = drawn("small", 0.5, count=5_000), drawn("large", 2.0, count=200_000)
    both = fitted([small, large, PatientErrors("large", 2, 1.0, large.groups)])
    assert both.scale == pytest.approx(np.sqrt((0.25 + 4.0) / 2), rel=0.03)
    covered = [row.whole.coverage(both.multipliers[90] * both.scale) for row in (small, large)]
    assert 100 * np.mean(covered) == pytest.approx(90, abs=0.3)


def test_each_patient_is_tested_with_the_others() -> None:
    a, b = drawn("a", 1.0), drawn("b", 2.0)
    alone = left_one_out([a, b])
    assert alone["a"].scale == pytest.approx(2.0, rel=0.02) and alone["b"].scale == pytest.approx(1.0, rel=0.02)
    assert left_one_out([a]) == {}
    assert alone["a"].cases == ("b",)
    measured = findings([a, b], model={"name": "m", "version": "1"}, deviation="learned", card=Calibration(1.0, {}))
    rows = {row["case"]: row for row in measured["left_one_out"]}
    assert rows["a"]["coverage_percent"]["90"] > 97 and rows["b"]["coverage_percent"]["90"] < 80
    found = worst(measured["left_one_out"])
    assert found is not None and found[0] == "all voxels"
    text = as_markdown(measured)
    assert "NOT kept" in text
    ratios = {line.split(" | ")[0].strip("| "): float(line.split(" | ")[-1].strip("| ")) for line in text.splitlines()
              if line.startswith(("| a |", "| b |"))}  # fmt: skip
    assert ratios == pytest.approx({"a": 0.5, "b": 2.0}, rel=0.03)


def test_the_cards_calibration_is_what_is_tested_unless_a_new_one_is_kept() -> None:
    card = Calibration(1.0, {90: 10.0}, ("other",))
    rows = [drawn("a", 1.0)]
    own = findings(rows, model={"name": "m", "version": "1"}, deviation="learned", card=card)
    assert own["tested"]["from"] == "card" and own["rows"][0]["coverage_percent"]["90"] > 99.9
    kept = findings(rows, model={"name": "m", "version": "1"}, deviation="learned", card=card, keep=True)
    assert kept["tested"]["from"] == "these patients"
    assert kept["rows"][0]["coverage_percent"]["90"] == pytest.approx(90, abs=0.5)


def test_a_calibration_found_on_others_is_tested_on_these() -> None:
    others, mine = [drawn("a", 1.0), drawn("bb", 1.0)], [drawn("mine", 2.0)]
    measured = findings(
        mine, model={"name": "m", "version": "1"}, deviation="learned", card=Calibration(1.0, {}), fit_on=others
    )
    assert measured["tested"]["from"] == "others" and measured["fitted"]["cases"] == ["a", "bb"]
    assert measured["fitted"]["scale"] == pytest.approx(1.0, rel=0.02)
    assert measured["rows"][0]["coverage_percent"]["90"] < 80
    assert {row["case"] for row in measured["left_one_out"]} == {"a", "bb", "all"}
    text = as_markdown(measured)
    assert "calibration from other patients" in text
    alone = findings(
        [], model={"name": "m", "version": "1"}, deviation="learned", card=Calibration(1.0, {}), fit_on=others
    )
    assert alone["rows"] == [] and "| all voxels |" in as_markdown(alone)


def test_a_volume_is_measured_through_the_whole_line(network: ThroughPlaneModel) -> None:
    import thinslice

    thin = waves(0)
    (row,) = run.measure_simulated(network, thin, case="waves", factors=(5,), **RUN)
    thick, truth = simulate_thick(thin, SliceProfile.mean(5), whole_hu=True)
    estimate, deviation = thinslice.upscale_with_uncertainty(thick, model=network, factor=5, **RUN)
    error = estimate.hu.astype(float) - truth.hu
    expected = tally_of(error, deviation.hu.astype(float))
    assert row.whole.voxels == truth.hu.size == row.voxels and row.left_out == 0
    assert row.whole.rms == pytest.approx(expected.rms, rel=1e-4)
    assert row.whole.coverage(1.5) == pytest.approx(expected.coverage(1.5), abs=2e-3)
    assert set(row.groups["distance_mm"]) == {"0", "1", "2"}
    assert sum(tally.voxels for tally in row.groups["tissue"].values()) == row.whole.voxels


def test_a_pair_is_measured_by_position(network: ThroughPlaneModel) -> None:
    thin = waves(1)
    thick, _ = simulate_thick(thin, SliceProfile.mean(4), whole_hu=True)
    row = run.measure_pair(network, thick, thin, case="pair", **RUN)
    (again,) = run.measure_simulated(network, thin, case="pair", factors=(4,), **RUN)
    assert row.factor == 4 and row.whole.rms == pytest.approx(again.whole.rms)


def test_networks_without_a_head_are_measured_by_ensemble_alone() -> None:
    cubic = load_model("cubic")
    with pytest.raises(ModelError, match="not trained to estimate its uncertainty"):
        list(run.measure_simulated(cubic, waves(0), case="a", factors=(5,), **RUN))
    (row,) = run.measure_simulated(cubic, waves(0), case="a", factors=(5,), deviation="ensemble", **RUN)
    assert row.whole.rms > 10, "interpolation treats mirrored inputs alike, and is far from sure to be right"


def test_found_written_read_and_applied(network: ThroughPlaneModel, tmp_path: Path) -> None:
    weights = tmp_path / "small.safetensors"
    checkpoint.save(network, weights, architecture="thinnet", card={"name": "small", "deviation": {"steps": 7}})
    before = checkpoint.load(weights)
    rows = [
        row
        for seed in (0, 1)
        for row in run.measure_simulated(before, waves(seed), case=f"case {seed}", factors=(5, 3), **RUN)
    ]
    measured = findings(
        rows, model={"name": "small", "version": "9"}, deviation="learned", card=Calibration(1.0, {}), keep=True
    )
    run.write_into_card(weights, measured)
    card = checkpoint.inspect(weights).card
    assert card["name"] == "small" and card["deviation"]["steps"] == 7
    assert card["deviation"]["calibration"]["cases"] == ["case 0", "case 1"]
    assert 80 < card["deviation"]["calibration"]["left_one_out_coverage_percent"]["90"] < 98
    after = checkpoint.load(weights)
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name])
    # A third patient of the same kind, with the card's calibration.
    unseen = list(run.measure_simulated(after, waves(2), case="unseen", factors=(5, 3), **RUN))
    tested = findings(
        unseen, model={"name": "small", "version": "9"}, deviation="learned", card=Calibration.from_card(card)
    )
    whole = next(row for row in tested["rows"] if (row["case"], row["kind"]) == ("all", "all"))
    assert tested["tested"]["from"] == "card"
    for level in LEVELS:
        assert whole["coverage_percent"][str(level)] == pytest.approx(level, abs=5)
    assert whole["rms_standardised"] == pytest.approx(1.0, abs=0.15)
    text = as_markdown(tested)
    assert "calibration from its card" in text and "| lung |" in text and "noise of the thin truth" in text
    assert as_figure(tested).startswith(b"\x89PNG")
    # Kept as JSON, and joined to another run's.
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(measured))
    earlier = run.read_findings(path)
    again = findings(earlier, model={"name": "m", "version": "1"}, deviation="learned", card=Calibration(1.0, {}))
    for row in (row for row in again["rows"] if row["kind"] == "all"):
        (first,) = [r for r in measured["rows"] if all(r[k] == row[k] for k in ("case", "factor", "kind"))]
        for key in ("rmse_hu", "bias_hu", "mean_deviation_hu", "rms_standardised", "interval_score_90_hu"):
            assert row[key] == pytest.approx(first[key], rel=2e-3), key
    assert fitted(earlier).scale == pytest.approx(measured["fitted"]["scale"], rel=1e-3)
    assert fitted(earlier).multipliers[90] == pytest.approx(measured["fitted"]["multipliers"]["90"], rel=1e-3)


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "other"}', '{"schema": "thinslice-calibration/1"}'])
def test_a_file_that_is_no_earlier_calibration_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="calibrat"):
        run.read_findings(path)
    with pytest.raises(UsageError, match="no file"):
        run.read_findings(tmp_path / "absent.json")
