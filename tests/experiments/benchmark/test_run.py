"""Suites from end to end: numbers are those of upscale and evaluate, killed runs resume, failures are named."""

from __future__ import annotations

import csv
import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.pair_factory import write_pair
from support.tiny_suite import Finished, write_network
from thinslice.data.manifest import open_dataset, read_pair
from thinslice.errors import CheckpointError, InputError, UsageError
from thinslice.evaluation.protocol import evaluate
from thinslice.experiments.benchmark import run as benchmark_run
from thinslice.experiments.benchmark.leaderboard import CURRENT, add_to_leaderboard, standing
from thinslice.experiments.benchmark.render import to_json
from thinslice.experiments.benchmark.report import pictures, to_document
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.run import measure_suite, run_suite
from thinslice.experiments.benchmark.table import caveats, comparisons_of, protocol_rows, rows_of
from thinslice.experiments.document import is_made_from, to_html, to_markdown
from thinslice.recipes import read_suite

CASES = [f"CT{number:08d}" for number in range(150, 154)]


def run(bench: Path, out: str = "out", **arguments: object) -> SuiteResult:
    """Measures; the outputs are written by those tests that look at them."""
    return measure_suite(read_suite(bench / "suite.toml"), bench / out, device="cpu", **arguments)


def edited(bench: Path, old: str, new: str) -> None:
    text = (bench / "suite.toml").read_text(encoding="utf-8")
    assert old in text
    (bench / "suite.toml").write_text(text.replace(old, new), encoding="utf-8")


def few(bench: Path) -> None:
    """Leave all but two cases out."""
    edited(bench, "factor = 5", "factor = 5\nlimit = 2")


def scores(result: SuiteResult) -> dict[tuple[str, str, str], tuple[float | None, tuple[float, ...], object]]:
    return {key: (o.psnr, o.ssim_per_slice, o.clinical) for key, o in sorted(result.outcomes.items())}


def test_the_report_places_each_protocol_beside_the_publication_it_compares_with(bench: Path) -> None:
    edited(bench, "factor = 5", 'factor = 5\nlimit = 2\nprotocols = ["rplhr", "volume", "clinical"]')
    result = run(bench)
    heads, lines = protocol_rows(result)
    assert heads == ["method", "rplhr: PSNR (dB)", "rplhr: SSIM", "volume: PSNR (dB)", "volume: SSIM"]
    case = open_dataset(bench / "pairs").split("test")[0]
    pair = read_pair(case)
    for line in lines:
        assert len(line) == len(heads) and "-" not in line
    cubic = thinslice.upscale(pair.thick, model="cubic", factor=5, device="cpu")
    assert result.of("cubic", "volume")[case.case_id].psnr == pytest.approx(
        evaluate(cubic, pair.thin, protocol="volume").psnr, abs=1e-9
    )
    page = to_markdown(to_document(result, []))
    assert "comparable with MSS-CT" in page and "comparable with Yu et al. (RPLHR-CT" in page


def test_published_rows_under_another_protocol_are_marked(bench: Path) -> None:
    edited(bench, "factor = 5", 'factor = 5\nlimit = 1\nprotocols = ["volume"]')
    assert "scored under protocol rplhr, so they do not compare" in to_markdown(to_document(run(bench), []))


def test_numbers_are_those_of_upscale_and_evaluate(finished: Finished) -> None:
    result, bench = finished.result, finished.folder
    assert len(result.outcomes) == 12 and not result.failures
    case = open_dataset(bench / "pairs").split("test")[1]
    pair = read_pair(case)
    for label, model in (("cubic", "cubic"), ("small", bench / "small.safetensors")):
        expected = evaluate(thinslice.upscale(pair.thick, model=model, factor=5, device="cpu"), pair.thin)
        outcome = result.of(label)[case.case_id]
        assert outcome.psnr == pytest.approx(expected.psnr, abs=1e-9)
        assert outcome.ssim_per_slice == pytest.approx(expected.ssim_per_slice)
        assert outcome.cost["operations"] > 0 and outcome.cost["seconds"] > 0
    row = rows_of(result)[2]
    per_case = [o.psnr for o in result.of("small").values()]
    assert row.psnr == pytest.approx(np.mean(per_case)) and row.psnr_sd == pytest.approx(np.std(per_case, ddof=1))
    assert row.parameters == sum(p.numel() for p in thinslice.load_model(bench / "small.safetensors").parameters())


def test_what_a_run_leaves_is_complete_and_says_what_it_is_made_from(finished: Finished) -> None:
    result, out = finished.result, finished.folder / "out"
    assert {path.name for path in (out / "figures").iterdir()} == {
        "bars.png", "psnr-over-time.png", "case-by-case.png", "region.png",
    }  # fmt: skip
    with (out / "cases.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["label"], line["case"]) for line in lines] == [
        (label, case) for label in ("nearest", "cubic", "small") for case in CASES
    ]
    assert float(lines[0]["psnr_db"]) == result.of("nearest")[CASES[0]].psnr
    with (out / "table.csv").open(newline="") as stream:
        sources = [(line["source"], line["label"]) for line in csv.DictReader(stream)]
    assert sources[-1] == ("published: paper, Table 1", "TVSRN") and sources[0] == ("ours", "nearest")
    measured = json.loads((out / "results.json").read_text())
    assert measured["schema"] == "thinslice-benchmark/1" and len(measured["results"]) == 12
    assert measured["rows"][2]["published"]["psnr"] == 38.609
    page = (out / "report.html").read_text()
    assert all(is_made_from(out / name, out / "results.json") for name in ("table.md", "report.html"))
    for text in (page, (out / "table.md").read_text()):
        for fact in (thinslice.NOTICE, "rplhr", "pairs", result.suite.digest[:16], result.dataset_sha256[:16], "38.609",
                     "published", result.methods[2].weights_sha256, result.device_name):  # fmt: skip
            assert fact in text


def test_the_page_holds_everything_and_escapes_what_it_is_given(finished: Finished) -> None:
    page = (finished.folder / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "<script" not in page and "A tiny &lt;suite&gt;" in page
    outside = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)([^"')\s>]+)""", page)
    assert outside == [] and "://" not in page
    assert str(finished.folder) not in page


def test_few_cases_mean_no_stars_and_the_page_says_so(finished: Finished) -> None:
    result = finished.result
    tests = comparisons_of(result)
    assert [(t.family, t.metric, t.tested, t.against) for t in tests][:3] == [
        ("above", "psnr", "cubic", "nearest"),
        ("above", "psnr", "small", "cubic"),
        ("above", "ssim", "cubic", "nearest"),
    ]
    assert all(test.p is None and not test.star and "needs 10" in test.reason for test in tests)
    assert tests[0].difference > 0 and tests[0].interval[0] <= tests[0].difference <= tests[0].interval[1]
    assert any("no stars" in sentence for sentence in caveats(result))
    assert "no stars" in (finished.folder / "out" / "report.html").read_text()


def test_stars_where_there_are_cases_enough_and_a_warning_where_patients_are_few(bench: Path) -> None:
    for number in range(154, 161):
        write_pair(bench / "pairs", "test", number, thick_slices=4)
    names = [f"CT{number:08d}" for number in range(150, 161)]
    rows = "\n".join(f"5mm/{n}.nii.gz,1mm/{n}.nii.gz,test,one" for n in names)
    (bench / "pairs" / "manifest.csv").write_text(f"thick,thin,split,patient\n{rows}\n")
    result = run(bench)
    first = comparisons_of(result)[0]
    assert (first.pairs, first.star) == (11, "*") and first.p == pytest.approx(2.0**-11)
    assert first.p_holm == pytest.approx(2 * first.p)
    assert rows_of(result)[1].psnr_star == "*" and rows_of(result)[0].psnr_star == ""
    assert "*" in to_markdown(to_document(result, []))
    assert any("1 patient" in sentence for sentence in caveats(result))


def test_a_second_run_computes_nothing_again(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few(bench)
    first = run(bench)

    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("thinslice.experiments.benchmark.case_runner.upscale_measured", never)
    second = run(bench)
    assert dict(second.outcomes) == dict(first.outcomes)
    assert second.shown.methods.keys() == first.shown.methods.keys()


@pytest.mark.parametrize("kills", [(3,), pytest.param((1, 2, 4, 6, 9), marks=pytest.mark.heavy)])
def test_a_killed_run_goes_on_and_equals_one_that_was_not(bench: Path, kills: tuple[int, ...]) -> None:
    command = [sys.executable, "-m", "thinslice", "benchmark", "suite.toml", "--device", "cpu", "--threads", "1"]
    for finished in kills:
        process = subprocess.Popen([*command, "--out", "killed"], cwd=bench, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((bench / "killed" / "results").glob("*.json"))) < finished:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(list((bench / "killed" / "results").glob("*.json")))
    assert kept >= kills[-1]
    calls = []
    original = benchmark_run.CaseRunner._scored
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_run.CaseRunner, "_scored", lambda *a: calls.append(a) or original(*a))
        resumed = run(bench, "killed", threads=1)
    # What was finished is not done again, but for planes of Fig. 4 that the kill may have cost.
    assert len(calls) <= 12 - kept + 1
    assert scores(resumed) == scores(run(bench, "whole", threads=1))


def test_a_half_written_result_is_made_again(bench: Path) -> None:
    few(bench)
    whole = run(bench)
    results = sorted((bench / "out" / "results").glob("*.json"))
    results[0].write_text(results[0].read_text()[:100])
    results[1].write_text("{}")
    planes = next((bench / "out" / "results").glob("*.npz"))
    planes.write_bytes(planes.read_bytes()[:50])
    assert scores(run(bench)) == scores(whole)


def test_changed_weights_and_data_are_scored_anew(bench: Path) -> None:
    first = run(bench)
    (bench / "small.safetensors").unlink()
    write_network(bench / "small.safetensors", seed=1)
    for folder in ("1mm", "5mm"):
        (bench / "pairs" / "test" / folder / "CT00000150.nii.gz").unlink()
    write_pair(bench / "pairs", "test", 150, seed=7)
    second = run(bench)
    same = {key for key in first.outcomes if first.outcomes[key].psnr == second.outcomes[key].psnr}
    assert same == {(label, case, "rplhr") for label in ("nearest", "cubic") for case in CASES[1:]}
    assert first.data_sha256 != second.data_sha256


def test_a_failing_method_and_a_failing_case_are_named_and_the_rest_goes_on(bench: Path) -> None:
    edited(bench, "methods = [", 'methods = [\n    {label = "broken", model = "tvsrn"},')
    damaged = bench / "pairs" / "test" / "1mm" / "CT00000151.nii.gz"
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[: len(content) // 2])
    messages: list[str] = []
    result = run(bench, notify=messages.append)
    assert [(failed.label, failed.case_id) for failed in result.failures] == [("broken", ""), ("", "CT00000151")]
    assert set(result.of("small")) == set(CASES) - {"CT00000151"}
    assert any("broken" in line for line in messages) and any("CT00000151" in line for line in messages)
    assert any("lacks 1 of 4 cases (CT00000151)" in sentence for sentence in caveats(result))
    page = to_html(to_document(result, []))
    assert "no weights in the package" in page and "CT00000151" in page


def test_a_fault_of_a_network_costs_only_its_own_results(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thinslice.models.thinnet import ThinNet

    def fail(*arguments: object, **named: object) -> None:
        raise RuntimeError("a value from the patient's file")

    monkeypatch.delenv("THINSLICE_DEBUG", raising=False)
    monkeypatch.setattr(ThinNet, "forward", fail)
    few(bench)
    done: list[tuple[int, int]] = []
    result = run(bench, progress=lambda now, total: done.append((now, total)))
    assert [now for now, _ in done] == sorted(now for now, _ in done)
    assert {(now, 6) for now in range(1, 7)} == set(done)
    assert {failed.label for failed in result.failures} == {"small"} and len(result.failures) == 2
    assert "RuntimeError" in result.failures[0].reason and "patient's" not in result.failures[0].reason
    assert len(result.outcomes) == 4


def test_where_nothing_succeeds_the_first_error_is_raised(bench: Path) -> None:
    edited(bench, 'model = "nearest"', 'model = "tvsrn"')
    edited(bench, 'model = "cubic"', 'model = "tvsrn"')
    edited(bench, 'model = "small.safetensors"', 'model = "tvsrn"')
    with pytest.raises(CheckpointError, match="no weights"):
        run_suite(read_suite(bench / "suite.toml"), bench / "out", device="cpu")
    assert not (bench / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ('dataset = {root = "pairs"}', 'dataset = {root = "pairs", split = "val"}', "no split"),
        ("factor = 5", 'factor = 5\nfigures = {case = "CT00000999"}', "not among those"),
        ('published = "tvsrn"', 'published = "saint"', "no published numbers"),
    ],
)
def test_a_suite_that_does_not_fit_its_data_is_refused_before_any_work(
    bench: Path, old: str, new: str, messages: str
) -> None:
    edited(bench, old, new)
    with pytest.raises(UsageError, match=messages):
        run(bench)
    assert not (bench / "out").exists()


def test_a_pair_of_another_factor_is_a_failure(bench: Path) -> None:
    edited(bench, "factor = 5", "factor = 4")
    with pytest.raises(InputError, match="factor 5, the suite asks for 4"):
        run(bench)


def test_the_same_region_for_every_method(bench: Path) -> None:
    edited(
        bench, "factor = 5", 'factor = 5\nfigures = {case = "CT00000152", region = {height = [4, 20], width = [6, 30]}}'
    )
    shown = run(bench).shown
    assert shown.case_id == "CT00000152" and shown.methods.keys() == {"nearest", "cubic", "small"}
    shapes = {tuple(cuts[view].shape for view in ("axial", "coronal", "sagittal"))
              for cuts in (shown.truth, shown.thick, *shown.methods.values())}  # fmt: skip
    assert shapes == {((16, 24), (26, 24), (26, 16))}
    pair = read_pair(open_dataset(bench / "pairs").split("test")[2])
    np.testing.assert_array_equal(shown.truth["axial"], pair.thin.hu[shown.region.cut[0], 4:20, 6:30])
    # `nearest` repeats thick slices, as the picture of the thick volume does.
    for view, cut in shown.thick.items():
        np.testing.assert_array_equal(shown.methods["nearest"][view], cut)
    # Another region is cut anew, the scores stay.
    edited(bench, "height = [4, 20]", "height = [5, 20]")
    assert run(bench).shown.methods["small"]["axial"].shape == (15, 24)


def test_clinical_measures_and_both_protocols_from_one_pass(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edited(bench, "factor = 5", 'factor = 5\nlimit = 1\nprotocols = ["clinical", "rplhr"]')
    edited(bench, '    {label = "nearest", model = "nearest"},\n', "")
    result = run(bench)
    one, other = (result.outcomes["cubic", CASES[0], protocol] for protocol in ("clinical", "rplhr"))
    assert (one.psnr, one.ssim) == (other.psnr, other.ssim)
    assert other.clinical is None
    assert one.clinical["by_tissue_of_thick"]["soft"]["mae_hu"] > 0
    text = to_markdown(to_document(result, []))
    assert "Clinical measures" in text and f"{one.clinical['consistency_rms_hu']:.2f}" in text


def test_an_external_set_with_a_manifest_and_simulated_thick_slices(bench: Path) -> None:
    from thinslice.data.phantoms.painting import render
    from thinslice.data.phantoms.thorax import phantom_grid, thorax

    volume = render(thorax(3), phantom_grid((25, 48, 48), (1.0, 4.0, 4.0)))
    (bench / "other").mkdir()
    thinslice.write(volume, bench / "other" / "thin.nii.gz")
    (bench / "other" / "manifest.csv").write_text("thick,thin,split,case\n,thin.nii.gz,external,a\n")
    external = 'dataset = {root = "other/manifest.csv", split = "external", simulate = {profile = "mean"}}'
    edited(bench, 'dataset = {root = "pairs"}', external)
    edited(bench, "factor = 5", "factor = 3")
    result = run(bench)
    assert result.cases == ("a",) and not result.failures
    assert math.isfinite(result.of("small")["a"].psnr) and result.of("small")["a"].factor == 3
    assert "simulated (mean)" in to_markdown(to_document(result, []))
    edited(bench, "factor = 3\n", "")
    with pytest.raises(InputError, match="must state the factor"):
        run(bench, "again")


def test_identical_volumes_score_infinite_everywhere(bench: Path) -> None:
    hu = np.full((26, 32, 36), 40.0, np.float32)
    import nibabel as nib

    for folder, array in (("1mm", hu), ("5mm", hu[::5])):
        path = bench / "pairs" / "test" / folder / "CT00000150.nii.gz"
        path.unlink()
        nib.save(nib.Nifti1Image(((array + 1024) / 3072).transpose(2, 1, 0), np.eye(4)), path)
    edited(bench, "factor = 5", "factor = 5\nlimit = 2")
    result = run(bench)
    assert result.of("nearest")[CASES[0]].psnr is None
    assert math.isinf(rows_of(result)[0].psnr) and rows_of(result)[0].psnr_sd is None
    measured = json.loads(json.dumps(to_json(result), allow_nan=False))
    assert measured["rows"][0]["psnr"] is None and measured["results"][0]["identical"] is True
    assert "infinite" in to_markdown(to_document(result, []))
    assert [picture.name for picture in pictures(result)][:1] == ["bars"]


def test_plans_are_the_suites_for_networks_and_each_methods_own_first(bench: Path) -> None:
    edited(bench, "factor = 5", 'factor = 5\nlimit = 1\nplan = "paper"')
    edited(bench, '{label = "cubic", model = "cubic"}', '{label = "cubic", model = "cubic", plan = "released"}')
    plans = {row.label: row.plans for row in rows_of(run(bench))}
    assert plans == {"nearest": ("overlap",), "cubic": ("released",), "small": ("paper",)}


def test_a_recipe_is_trained_when_its_weights_are_missing_and_only_then(bench: Path) -> None:
    pytest.importorskip("lightning_fabric")
    write_pair(bench / "pairs", "train", 0)
    (bench / "recipe.toml").write_text(
        'name = "trained"\n[network]\nname = "thinnet"\nconfig = {features = 4, blocks = 1, condition = 8}\n'
        '[dataset]\nroot = "pairs"\nvalidation = "test"\n' + "[crops]\nplane = 16\n[optimiser]\nsteps = 2\nbatch = 1\n"
    )
    edited(bench, 'model = "small.safetensors"', 'recipe = "recipe.toml", override = {"optimiser.steps" = 3}')
    edited(bench, "factor = 5", 'factor = 5\nlimit = 1\ntraining = {"crops.depth" = 3}')
    messages: list[str] = []
    result = run(bench, notify=messages.append)
    weights = bench / "out" / "runs" / "trained" / "trained.safetensors"
    assert weights.is_file() and not result.failures and any("training trained" in line for line in messages)
    method = result.methods[2]
    assert method.weights == weights and method.recipe_sha256 == method.model.card["recipe_sha256"]
    assert method.model.card["steps"] <= 3
    board = add_to_leaderboard(bench / "board.json", result, data_root=None)
    assert standing(board.rows[-1], bench).status == CURRENT and board.rows[-1].place.recipe == "recipe.toml"
    written = weights.stat().st_mtime_ns
    again = run(bench)
    assert weights.stat().st_mtime_ns == written and again.methods[2].weights_sha256 == method.weights_sha256
    edited(bench, '"optimiser.steps" = 3', '"optimiser.steps" = 4')
    changed = run(bench)
    assert [failed.label for failed in changed.failures] == ["small"]
    assert "another recipe" in changed.failures[0].reason
