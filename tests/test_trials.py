"""The trials of docs/results/trials.md still run: each body, each recipe; the page lists no trial that is gone.

The figure of what limits the network is still drawn.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import thinslice
from support.noisy_phantom import phantom
from support.scans import thick_scan, thin_scan
from thinslice.data.phantoms.painting import render
from thinslice.data.phantoms.thorax import phantom_grid, thorax
from thinslice.models import catalog, checkpoint

ROOT = Path(__file__).resolve().parents[1]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"trials_{name}", ROOT / "trials" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trials() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "trials"))
    yield script("run")
    sys.path.remove(str(ROOT / "trials"))


def test_every_body_upscales_and_reads_no_further_than_its_halo(trials: ModuleType) -> None:
    from bodies import TrialConfig, TrialNet

    seen = set()
    for label, (config, _) in trials.TRIALS.items():
        small = TrialConfig(**{**config, "features": 8, "blocks": 2, "deep_features": 8, "deep_blocks": 1})
        if small in seen:
            continue
        seen.add(small)
        torch.manual_seed(0)
        network = TrialNet(small).eval()
        rows = network.window.halo[1]
        x = torch.rand(1, 1, 4, 4 * (rows // 2), 8)
        changed = x.clone()
        changed[..., -1, :] += 0.5
        with torch.inference_mode():
            y, other = network(x, factor=5), network(changed, factor=5)
        assert y.shape == (1, 1, 16, *x.shape[3:]), label
        far = x.shape[3] - 1 - rows
        torch.testing.assert_close(other[..., :far, :], y[..., :far, :], atol=1e-6, rtol=0)
        assert (other - y).abs().max() > 1e-5, label
    assert len(seen) >= 8


def test_every_recipe_is_valid(trials: ModuleType) -> None:
    for label, (config, changes) in trials.TRIALS.items():
        recipe = trials._recipe(config, changes, ("a.nii.gz",), 100)
        assert recipe.network.config == config, label
        assert recipe.optimiser.steps == round(100 * changes.get("optimiser.steps", 1.0)), label
        for name, value in changes.items():
            part, _, field = name.partition(".")
            assert name == "optimiser.steps" or getattr(getattr(recipe, part), field) == value, label


def test_the_page_lists_trials_that_can_be_run(trials: ModuleType) -> None:
    page = (ROOT / "docs" / "results" / "trials.md").read_text(encoding="utf-8").partition("\n## ")[0]
    listed = [row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")][1:]
    known = {_words(label) for label in trials.TRIALS}
    assert len(listed) > 10
    assert [label for label in listed if _words(label) not in known] == []


def _words(label: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", label.lower().replace("&nbsp;", "").replace("of the loss", "")))


def test_the_limits_of_the_network_are_tabulated_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = render(thorax(1), phantom_grid((24, 96, 96), (1.0, 3.0, 3.0)))
    thinslice.write(truth, tmp_path / "thin.nii.gz")
    fast, default = (str(catalog.weights_path(name)) for name in ("fast", "default"))
    series = [
        "--series",
        "parameters",
        f"178140={fast}",
        f"423276={default}",
        "--series",
        "time",
        f"1={fast}",
        f"40={fast}",
    ]
    arguments = ["limits.py", str(tmp_path / "thin.nii.gz"), *series, "--factor", "3"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path / "l.png"), "--json", str(tmp_path / "l.json")])
    script("limits").main()
    points = json.loads((tmp_path / "l.json").read_text())["points"]
    assert [point["x"] for point in points] == [178140, 423276, 1, 40]
    assert [point["parameters"] for point in points] == [178140, 450219, 178140, 178140]
    gains = [point["gain"] for point in points]
    assert min(gains) > 0.3 and gains[0] == gains[2] == gains[3] != gains[1]
    assert f"| 423,276 | 450,219 | {gains[1]:+.2f} |" in capsys.readouterr().out
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(sys, "argv", ["limits.py", "thin.nii.gz", "--series", "time", "1=gone.safetensors"])
    with pytest.raises(SystemExit):
        script("limits").main()


def test_exact_spacing_averages_what_a_thick_slice_covers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = script("exact_spacing")
    ramp = np.repeat(np.repeat(np.arange(40.0)[:, None, None], 9, axis=1), 8, axis=2)
    thin = thinslice.Volume.from_array(ramp, spacing_mm=(0.8, 0.7, 0.7))
    thick, first = trial.thick_from(thin, 2.5)
    # A ramp averaged over any extent is its value at the centre.
    np.testing.assert_allclose(thick.hu[:, 0, 0], first + 2.5 * np.arange(len(thick.hu)), atol=1e-4)
    assert thick.geometry.spacing_mm[0] == pytest.approx(2.0)
    np.testing.assert_allclose(thick.geometry.position_mm((0, 0, 0)), thin.geometry.position_mm((first, 0, 0)))
    thinslice.write(thin, tmp_path / "thin.nii.gz")
    arguments = ["exact_spacing.py", str(tmp_path / "thin.nii.gz"), "--ratio", "2.5", "--model", "linear"]
    monkeypatch.setattr(sys, "argv", arguments)
    trial.main()
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| 2.5 | linear |") and float(row.split("|")[3]) > 80


def test_overlap_compares_with_both_interpolations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = np.round(200 * np.sin(np.arange(40.0) / 4))[:, None, None] * np.ones((1, 9, 8))
    thin = thinslice.Volume.from_array(wave.astype(np.int16), spacing_mm=(1.0, 0.7, 0.7))
    thinslice.write(thin, tmp_path / "thin.nii.gz")
    arguments = ["overlap.py", str(tmp_path / "thin.nii.gz"), "--width", "1", "3", "--factor", "3", "--model", "cubic"]
    monkeypatch.setattr(sys, "argv", arguments)
    script("overlap").main()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1:3] for row in rows] == [["3", "1"], ["3", "3"]]
    for row in rows:
        cubic, consistent, model = map(float, row[3:6])
        assert consistent > cubic == model and row[6] == "+0.00"
    # Slices thrice as wide as they are apart smooth more, and cubic takes none of it back.
    assert float(rows[1][3]) < float(rows[0][3])


def test_texture_is_compared_with_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "sure.safetensors"
    network = catalog.build("thinnet", features=4, blocks=1, condition=8, deviation=True)
    checkpoint.save(network, weights, architecture="thinnet", card={"name": "sure", "version": "1"})
    made = phantom(3, depth=7, side=80)
    thinslice.write(thinslice.Volume.from_array(made.thin, spacing_mm=(1.0, 0.7, 0.7)), tmp_path / "thin.nii.gz")
    arguments = ["texture.py", str(tmp_path), "--factor", "3", "--model", str(weights)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.warns(thinslice.ThinsliceWarning, match="synthetic noise"):
        script("texture").main()
    plain, texture = ([cell.strip() for cell in row.split("|")] for row in capsys.readouterr().out.splitlines()[-2:])
    assert (plain[4], texture[4]) == ("plain", "texture")
    shares = [[float(share) for share in row[5].split()] for row in (plain, texture)]
    assert all(more > less for less, more in zip(*shares, strict=True)) and float(texture[11]) < 1.0


def test_bad_scans_are_counted_and_a_count_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = script("scan_check")
    thick = thick_scan(thin_scan())
    thinslice.write(thick, tmp_path / "one.nii.gz")
    for kind, make in trial.cases(thick, None).items():
        made = make()
        assert kind == "ordinary" or made.geometry != thick.geometry or not np.array_equal(made.hu, thick.hu), kind
    counted = tmp_path / "count.json"
    kinds = ["inverted", "header: 2 x thickness"]
    arguments = ["scan_check.py", "count", str(tmp_path), "--model", "fast", "--json", str(counted)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--kinds", *kinds])
    trial.main()
    assert [row["kind"] for row in json.loads(counted.read_text())] == ["ordinary", *kinds]
    printed = capsys.readouterr().out
    assert "| ordinary | 1 | 0 | 0 |" in printed and "made bad: 2 of 2 warned" in printed
    monkeypatch.setattr(sys, "argv", [*arguments, "--kinds", "gamma 0.5"])
    trial.main()
    assert [row["kind"] for row in json.loads(counted.read_text())] == ["ordinary", *kinds, "gamma 0.5"]


def test_the_training_set_is_measured_by_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thinslice.evaluation.scan_traits.reference import TrainingSet, training_set

    thinslice.write(thin_scan(), tmp_path / "one.nii.gz")
    out = tmp_path / "set.json"
    arguments = ["reference", str(tmp_path), "--models", "fast", "--distances", "5", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["scan_check.py", *arguments])
    script("scan_check").main()
    found = TrainingSet.model_validate_json(out.read_text())
    (scan,) = found.scans
    assert scan.case == "one x5" and scan.gain_db["fast"][2] > 0.3
    assert found.gains_db(found.weights["fast"], 2) == (scan.gain_db["fast"][2],) * 2
    assert set(training_set().scans[0].traits.model_fields_set) == set(scan.traits.model_fields_set)


def test_training_on_three_pairs_is_tabulated_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    thin = tmp_path / "thin"
    thin.mkdir()
    for seed in range(4):
        chest = render(thorax(seed), phantom_grid((46, 32, 32), (1.0, 5.0, 5.0)))
        thinslice.write(chest, thin / f"chest-{seed}.nii.gz")
    trial = script("finetune")
    smaller = ["crops.plane=16", "crops.depth=3", "simulation.plane=16", "simulation.depth=3", "optimiser.steps=2"]
    arguments = ["finetune.py", str(thin), "--test", "chest-2", "--scanner", "soft", "--triples", "1"]
    arguments += ["--full-steps", "3", "--out", str(tmp_path / "out")]
    for change in [*smaller, "simulation.factors=[2]"]:
        arguments += ["--set", change]
    monkeypatch.setattr(sys, "argv", arguments)
    trial.main()
    table = capsys.readouterr().out
    rows = [[cell.strip() for cell in row.split("|")] for row in table.splitlines()[2:]]
    assert [row[3] for row in rows] == [
        "nothing (cubic)",
        "nothing",
        "profile of three pairs",
        "three pairs (chest-0, chest-1, chest-3)",
        "all 3 other pairs, 3 steps",
    ]
    assert float(rows[2][5]) > float(rows[1][5]) > 0
    trial.main()
    assert capsys.readouterr().out == table
    pair = [str(tmp_path / "out" / "soft" / f"{kind}-chest-0.nii.gz") for kind in ("thick", "thin")]
    monkeypatch.setattr(sys, "argv", [*arguments[:2], *arguments[8:], "--pair", *pair])
    trial.main()
    halves = [row.split("|")[2].strip() for row in capsys.readouterr().out.splitlines()[2:]]
    assert halves == ["anterior"] * 4 + ["posterior"] * 4


def test_ways_to_bring_labels_along_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = render(thorax(1), phantom_grid((30, 80, 80), (1.0, 4.0, 4.0)))
    thinslice.write(truth, tmp_path / "thin.nii.gz")
    monkeypatch.setattr(sys, "argv", ["labels.py", str(tmp_path / "thin.nii.gz"), "--factor", "5"])
    script("labels").main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| nearest slice", "| signed distance", "| thinslice"]
    changes = {row[0]: [abs(float(cell.split(" %")[0])) for cell in row[2:]] for row in rows}
    assert max(changes["| thinslice"]) < 0.1 < max(changes["| signed distance"])


def test_the_readings_of_the_vit_encoder_hold_our_network_and_none_has_the_published_count() -> None:
    readings = script("vit_encoder").readings()
    ours = sum(parameter.numel() for parameter in catalog.build("tvsrn-vit-encoder").parameters())
    assert ours in [count for count, _ in readings]
    assert abs(readings[0][0] - 17.15e6) > 0.05e6


def test_the_shares_of_the_uncertainty_are_found_and_scaled_scans_are_covered() -> None:
    trial = script("uncertainty_scale")
    calibration = trial.Calibration(1.0, {50: 0.674, 68: 0.994, 90: 1.645, 95: 1.96})
    rng = np.random.default_rng(0)
    rows = []
    for case, ratio in (("quiet", 0.2), ("usual", 0.7), ("loud", 2.0)):
        spread = float(np.hypot(1.2 * ratio, 0.5))
        errors = np.abs(spread * rng.standard_normal(40000))
        counts = np.bincount(np.searchsorted(trial.EDGES, errors), minlength=len(trial.EDGES) + 1)
        empty = np.zeros_like(counts)
        row = {"case": case, "factor": 5, "scale": None, "ratios": [ratio] * 3, "covered": [50.0, 68.0, 90.0, 95.0]}
        rows.append({**row, "counts": [empty.tolist(), empty.tolist(), counts.tolist()]})
    assert trial.fitted(rows, calibration) == pytest.approx((1.2, 0.5), abs=0.051)
    np.testing.assert_allclose(trial.coverage(rows[2], (1.2, 0.5), calibration), (50, 68, 90, 95), atol=1.5)
    assert trial.coverage(rows[2], None, calibration)[2] < 60
    lines = trial.table(rows, calibration)
    assert any(line.startswith("left out: 3 of 3 scans within 5 points") for line in lines)


def test_curves_are_drawn_from_the_numbers_and_losses_are_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = script("curves")
    log = tmp_path / "log.csv"
    rows = [f"{step},{step / trial.STEPS_EACH},1e-3,5" for step in (50, trial.STEPS_EACH, trial.STEPS_EACH + 50)]
    log.write_text("\n".join(["step,loss,learning_rate,seconds_left", *rows]) + "\n")
    first, second = trial.thinned(log)
    assert first == [trial.STEPS_EACH, pytest.approx((50 / trial.STEPS_EACH + 1) / 2, abs=1e-5)]
    assert second[0] == 2 * trial.STEPS_EACH
    monkeypatch.setattr(sys, "argv", ["curves.py", "--out", str(tmp_path / "curves.png")])
    trial.main()
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = capsys.readouterr().out.strip()
    assert table in (ROOT / "docs/explanation/limits.md").read_text(encoding="utf-8")
