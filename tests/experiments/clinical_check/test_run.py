"""The clinical check from thin volumes to tables: known faults are checked, in JSON, Markdown and HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import thinslice
from thinslice import Geometry, SliceProfile, Volume
from thinslice.data.simulate import simulate_thick
from thinslice.errors import NotEligibleError, UsageError
from thinslice.evaluation.clinical import radiomics
from thinslice.evaluation.protocol import evaluate
from thinslice.experiments.clinical_check import card, guard, phantoms, run
from thinslice.experiments.clinical_check.phantoms import phantom_results
from thinslice.experiments.clinical_check.report import write_check
from thinslice.experiments.clinical_check.run import BASELINES, check
from thinslice.experiments.clinical_check.table import rule_lines, to_document
from thinslice.experiments.document import to_markdown
from thinslice.models import catalog, checkpoint


def chest() -> Volume:
    """Body, lungs with a diaphragm, fat, bone; noise."""
    rng = np.random.default_rng(0)
    hu = np.full((46, 110, 120), -1000.0)
    hu[:, 8:102, 8:112] = -100.0
    hu[:, 16:94, 16:104] = 40.0
    # The diaphragm leans, so that it crosses thick slices at every height.
    for column in (*range(22, 56), *range(64, 98)):
        hu[13 + column // 9 :, 24:62, column] = -860.0
    hu[:, 76:90, 40:80] = 600.0
    hu += rng.normal(0, 8, hu.shape)
    return Volume(np.round(np.maximum(hu, -1024)).astype(np.int16), Geometry(hu.shape, (1.0, 1.0, 1.0)))


@pytest.fixture(scope="module", autouse=True)
def few_regions() -> Iterator[None]:
    """As few regions of radiomic features as are measured at all: features take most of a check's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(radiomics, "MOST_REGIONS", radiomics.LEAST_REGIONS)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    model = catalog.build("thinnet", features=4, blocks=1, condition=8)
    checkpoint.save(model, path, architecture="thinnet", card={"name": "small", "version": "9"})
    return path


@pytest.fixture(scope="module")
def checked(weights: Path) -> dict[str, Any]:
    messages: list[str] = []
    found = check([weights, "cubic"], {"box": chest}, factors=(5, 3), phantom=False, notify=messages.append)
    assert "box, factor 5" in messages
    return json.loads(json.dumps(found, allow_nan=False))


def row(checked: dict[str, Any], method: str, factor: int = 5) -> dict[str, Any]:
    (found,) = [r for r in checked["results"] if (r["method"], r["factor"]) == (method, factor)]
    return found


def test_every_method_is_there_once(checked: dict[str, Any], weights: Path) -> None:
    assert [m["label"] for m in checked["methods"]] == [*BASELINES, "small"]
    assert {r["method"] for r in checked["results"]} == {"truth", "thick", *BASELINES, "small"}
    assert checked["methods"][2]["weights_sha256"] == checkpoint.inspect(weights).sha256
    assert checked["methods"][2]["version"] == "9"


def test_numbers_are_those_of_the_whole_line(checked: dict[str, Any]) -> None:
    thick, truth = simulate_thick(chest(), SliceProfile.mean(5), whole_hu=True)
    estimate = thinslice.upscale(thick, model="cubic", factor=5)
    inner = slice(3, 5 * (thick.hu.shape[0] - 2) + 3)
    lung = np.repeat((thick.hu >= -950) & (thick.hu < -500), 5, axis=0)[2:-2][inner]
    error = (estimate.hu.astype(float) - truth.hu)[inner][lung]
    found = row(checked, "cubic")["bias_by_thick"]["lung"]
    assert found["voxels"] == error.size and found["bias_hu"] == pytest.approx(error.mean())
    assert found["rmse_hu"] == pytest.approx(np.sqrt(np.mean(error**2)))


@pytest.mark.parametrize("factor", [4, 5])
@pytest.mark.parametrize("method", ["cubic", "small"])
def test_evaluate_measures_the_same(method: str, factor: int, weights: Path) -> None:
    """The protocol `clinical` and `models check` have one definition of each measure they share."""
    checked = check([weights], {"box": chest}, factors=(factor,), phantom=False)
    thick, _ = simulate_thick(chest(), SliceProfile.mean(factor), whole_hu=True)
    model = weights if method == "small" else method
    estimate = thinslice.upscale(thick, model=model, factor=factor)
    measured = evaluate(estimate, chest(), protocol="clinical", thick=thick).clinical
    assert measured is not None
    of_method, of_truth = row(checked, method, factor), row(checked, "truth", factor)
    for by, key in (("by_tissue_of_thick", "bias_by_thick"), ("by_tissue_of_reference", "bias_by_truth")):
        for name, tissue in measured[by].items():
            assert tissue == {measure: of_method[key][name][measure] for measure in tissue}
    assert measured["laa950_percent"]["estimate"] == of_method["lung"]["laa950_percent"]
    assert measured["laa950_percent"]["reference"] == of_truth["lung"]["laa950_percent"]
    for name in ("laa910_percent", "perc15_hu"):
        assert measured[name]["estimate"] == of_method["lung"][name]
        assert measured[name]["reference"] == of_truth["lung"][name]
    power = {key: of_method["noise_power"][key] for key in ("patches", "in_plane", "stretches", "along_z")}
    assert json.loads(json.dumps(measured["noise_power"]["estimate"])) == json.loads(json.dumps(power))
    assert measured["noise_power"]["percent"] == of_method["noise_power"]["percent"]
    assert measured["radiomics"] == of_method["radiomics"]
    assert measured["edge_rise_mm"] == {
        "estimate": of_method["edges"]["rise_mm"],
        "reference": of_truth["edges"]["rise_mm"],
        "edges": of_truth["edges"]["edges"],
    }
    assert measured["noise_hu"] == {
        "estimate": of_method["noise"]["sd_hu"],
        "reference": of_truth["noise"]["sd_hu"],
        "patches": of_truth["noise"]["patches"],
    }


def test_truth_is_the_best_there_is(checked: dict[str, Any]) -> None:
    truth, thick, cubic = (row(checked, name) for name in ("truth", "thick", "cubic"))
    assert truth["edges"]["edges"] > 100 and truth["edges"]["displaced_mm"] == 0
    assert truth["edges"]["rise_mm"] < cubic["edges"]["rise_mm"] < thick["edges"]["rise_mm"]
    assert truth["noise"]["sd_hu"] == pytest.approx(8.0, rel=0.05)
    assert thick["noise"]["by_offset_hu"][0] == pytest.approx(8.0 / np.sqrt(5), rel=0.08)
    assert truth["lung"]["mean_hu"] == pytest.approx(-860, abs=1)
    assert row(checked, "cubic-consistent")["consistency_rms_hu"] < 0.5 < cubic["consistency_rms_hu"]


def test_thick_slices_keep_no_noise_between_them(checked: dict[str, Any]) -> None:
    truth, thick = row(checked, "truth"), row(checked, "thick")
    assert truth["noise_power"]["percent"] == {"in_plane": [100.0] * 3, "along_z": [100.0] * 2}
    assert thick["noise_power"]["percent"]["in_plane"] == pytest.approx([100 / 5] * 3, rel=0.4)
    low, beyond = thick["noise_power"]["percent"]["along_z"]
    assert beyond < 5 < low
    assert "| truth | 100 | 100 | 100 | 100 | 100 |" in to_markdown(to_document(checked))


def test_radiomics_are_measured_where_the_library_is(checked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if checked["radiomics_installed"]:
        agreed = row(checked, "cubic")["radiomics"]
        assert agreed["soft"]["features"] > 80 and 0 < agreed["soft"]["concordant_percent"] < 100
        assert row(checked, "truth")["radiomics"] is None
    monkeypatch.setattr(radiomics, "is_installed", lambda: False)
    without = check(["linear"], {"box": chest}, crop=64, phantom=False)
    assert row(without, "linear")["radiomics"] is None
    assert "install the extra radiomics" in to_markdown(to_document(without))


def test_the_card_gets_the_numbers_of_its_network(checked: dict[str, Any], weights: Path) -> None:
    before = checkpoint.inspect(weights)
    card.write_into_card(weights, checked, "small")
    after = checkpoint.inspect(weights)
    assert {key: after.card[key] for key in before.card} == before.card
    assert after.tensors_sha256 == before.tensors_sha256
    entry = after.card["clinical"]
    assert [(case["case"], case["factor"]) for case in entry["cases"]] == [("box", 5), ("box", 3)]
    of_method, of_truth = row(checked, "small"), row(checked, "truth")
    for key in ("laa950_percent", "laa910_percent", "perc15_hu"):
        assert entry["cases"][0][key]["model"] == pytest.approx(of_method["lung"][key], abs=0.005)
        assert entry["cases"][0][key]["truth"] == pytest.approx(of_truth["lung"][key], abs=0.005)
    assert entry["cases"][0]["noise_percent"] == pytest.approx(
        100 * of_method["noise"]["sd_hu"] / of_truth["noise"]["sd_hu"], abs=0.005
    )
    assert len(entry["cases"][0]["noise_power_percent"]["in_plane"]) == 3
    assert entry["guard"] is None
    # The card still loads, and a second check replaces the entry.
    card.write_into_card(weights, checked, "small")
    assert checkpoint.inspect(weights).card == after.card
    assert thinslice.load_model(weights).card == after.card


def test_the_rule_reports_the_worst_of_all(checked: dict[str, Any]) -> None:
    for entry in checked["verdicts"]:
        seen = [r["bias_by_thick"][entry["class"]] for r in checked["results"] if r["method"] == entry["method"]]
        judged = [(s["bias_hu"], s["worst_offset_hu"]) for s in seen if s["verdict"] != "too few"]
        worst = max(judged, key=lambda pair: max(map(abs, pair)), default=(None, None))
        assert (entry["bias_hu"], entry["worst_offset_hu"]) == worst
        furthest = max((abs(value) for pair in judged for value in pair), default=0.0)
        expected = "too few" if not judged else "pass" if furthest <= 2 else "FAIL"
        assert entry["verdict"] == expected
    heads, lines = rule_lines(checked)
    assert [line[0] for line in lines] == [*BASELINES, "small"]
    assert all(len(line) == len(heads) for line in lines)
    cubic = dict(zip(heads, lines[0], strict=True))
    assert "FAIL" in cubic["between"] and cubic["rule"] == "FAIL"


def test_a_real_pair_is_cut_by_position_and_measured_like_a_simulated_one() -> None:
    thin = chest()
    profile = SliceProfile.mean(5)
    thick, truth = simulate_thick(thin, profile, whole_hu=True)
    # Beside each other in world coordinates alone: the thin volume begins four slices above the first thick one.
    pair = {"pair": lambda: (thick, thin)}
    from_pair = check(["linear"], {}, pairs=pair, phantom=False)
    simulated = check(["linear"], {"pair": chest}, phantom=False)
    assert from_pair["cases"][0]["profile"] == "real pair"
    assert from_pair["cases"][0]["shape"] == list(truth.geometry.shape)
    for name in ("cubic", "linear"):
        one, other = (row(values, name)["bias_by_thick"] for values in (from_pair, simulated))
        assert one == other
    assert "mm slices of a real pair" in to_markdown(to_document(from_pair))
    shifted = Volume(thick.hu + np.int16(10), thick.geometry)
    tissues = row(check(["linear"], {}, pairs={"pair": lambda: (shifted, thin)}, phantom=False), "linear")
    plain = row(from_pair, "linear")
    assert tissues["bias_by_thick"]["soft"]["bias_hu"] > plain["bias_by_thick"]["soft"]["bias_hu"] + 5


def test_a_pair_that_is_too_short_is_refused() -> None:
    thin = chest()
    thick, _ = simulate_thick(thin, SliceProfile.mean(5), whole_hu=True)
    few = thick.crop((0, 0, 0), (3, *thick.geometry.shape[1:]))
    with pytest.raises(NotEligibleError, match="shares 3 thick slices"):
        check(["linear"], {}, pairs={"pair": lambda: (few, thin)}, phantom=False)


def test_a_model_that_shifts_lung_fails_in_lung(monkeypatch: pytest.MonkeyPatch) -> None:
    real = run.Methods.run

    def shifted(self: Any, label: str, thick: Volume, factor: int) -> Any:
        made = real(self, label, thick, factor)
        if label == "cubic-consistent":
            hu = made.hu.astype(np.float32)
            hu[(hu > -950) & (hu < -500)] += 18.0
            made = run.MethodOutput(hu)
        return made

    monkeypatch.setattr(run.Methods, "run", shifted)
    checked = check(["cubic-consistent"], {"box": chest}, phantom=False)
    by = {(e["method"], e["class"]): e for e in checked["verdicts"]}
    assert by["cubic-consistent", "lung"]["verdict"] == "FAIL"
    assert by["cubic-consistent", "lung"]["bias_hu"] == pytest.approx(18, abs=1)
    assert by["cubic-consistent", "fat"]["verdict"] == "pass"


def test_a_crop_says_so_and_keeps_the_lung(checked: dict[str, Any]) -> None:
    cropped = check(["linear"], {"box": chest}, crop=64, phantom=False)
    (case,) = cropped["cases"]
    assert case["crop"] == 64 and case["shape"][1:] == [64, 64]
    # The hash is of the whole volume, the same for both.
    assert case["sha256"] == checked["cases"][0]["sha256"]
    assert "cropped to 64 pixels" in to_markdown(to_document(cropped))
    assert 0 < row(cropped, "truth")["lung"]["litres"] < row(checked, "truth")["lung"]["litres"]


def test_a_factor_that_a_model_cannot_do_is_listed_as_skipped(tmp_path: Path) -> None:
    path = tmp_path / "five.safetensors"
    torch.manual_seed(0)
    checkpoint.save(catalog.build("tvsrn"), path, architecture="tvsrn", card={"name": "five"})
    checked = check([path], {"box": chest}, factors=(3,), crop=64, phantom=False)
    assert checked["skipped"] == [{"method": "five", "factor": 3, "reason": "cannot do factor 3"}]
    assert "five at factor 3: cannot do factor 3" in to_markdown(to_document(checked))


def test_padding_counts_as_air_that_no_class_holds() -> None:
    padded = chest()
    hu = padded.hu.copy()
    hu[:, :, :5] = -3024
    checked = check(["linear"], {"box": lambda: Volume(hu, padded.geometry)}, phantom=False)
    voxels = row(checked, "linear")["bias_by_thick"]["air"]["voxels"]
    whole = check(["linear"], {"box": chest}, phantom=False)
    assert voxels == row(whole, "linear")["bias_by_thick"]["air"]["voxels"] - 7 * 5 * 110 * 5


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(UsageError, match="--thin"):
        check(["cubic"], {}, phantom=False)
    with pytest.raises(UsageError, match="name a model"):
        check([], {"box": chest})
    with pytest.raises(UsageError, match="crop"):
        check(["cubic"], {"box": chest}, crop=8)
    short = chest().crop((0, 0, 0), (14, 110, 120))
    with pytest.raises(NotEligibleError, match="thick ones"):
        check(["cubic"], {"box": lambda: short}, phantom=False)


def test_phantoms_separate_a_perfect_method_from_a_blurred_one(
    tmp_path: Path, checked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phantoms, "CROPPED_POSITIONS", 1)

    def cubic(thick: Volume) -> np.ndarray:
        return thinslice.upscale(thick, model="cubic", factor=5).hu

    rows = phantom_results({"cubic": cubic}, 5, pixels=112)
    truth, thick, ours = rows
    assert [r["method"] for r in rows] == ["truth", "thick", "cubic"]
    for name, hu in truth["edges"].items():
        assert hu["rise_mm"] == pytest.approx(0.8, abs=0.1)
        assert thick["edges"][name]["rise_mm"] == pytest.approx(4.0, abs=0.2)
        assert ours["edges"][name]["rise_mm"] > 4.0
    assert truth["noise"]["lung_sd_hu"] == pytest.approx(16.0, rel=0.03)
    # An average of five: but for the rounding to whole HU.
    assert 16.0 / np.sqrt(5) * 0.7 < thick["noise"]["lung_sd_hu"] < 16.0 / np.sqrt(5)
    groups = {(g["kind"], g["diameter_mm"]): g for g in truth["nodule_summary"]}
    assert len(groups) == 12
    for (kind, diameter), group in groups.items():
        (same,) = [g for g in ours["nodule_summary"] if (g["kind"], g["diameter_mm"]) == (kind, diameter)]
        assert group["lost"] == 0 and group["detectability_percent"]["mean"] == pytest.approx(100)
        assert same["signal_percent"]["mean"] == pytest.approx(100, abs=20)
        if diameter < 6:
            assert same["contrast_percent"]["mean"] < group["contrast_percent"]["mean"] - 20
        else:
            assert group["contrast_percent"]["mean"] == pytest.approx(100, abs=6)
    judged = guard.verdicts(rows)
    assert [(entry["method"], entry["verdict"]) for entry in judged] == [("cubic", "FAIL")]
    write_check(
        json.loads(json.dumps({**checked, "phantoms": rows, "guard": judged}, allow_nan=False)), tmp_path / "out"
    )
    page = (tmp_path / "out" / "check.html").read_text()
    assert page.count("data:image/png") == 6 and "matched filter" in page
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["check.html", "check.json", "check.md", "figures"]
    assert "**solid, 5 mm slices: contrast recovered (%)**" in (tmp_path / "out" / "check.md").read_text()
