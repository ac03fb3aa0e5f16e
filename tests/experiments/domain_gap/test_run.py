"""The domain gap from end to end: trained each way, tested on real pairs, compared as scipy would, resumable."""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

import thinslice
from support.tiny_gap import CASES, TRAININGS, edited, write_gap
from thinslice.errors import NotEligibleError, UnreadableError, UsageError
from thinslice.experiments.benchmark.methods import trained
from thinslice.experiments.domain_gap.run import measure_gap, run_gap
from thinslice.experiments.domain_gap.table import GapResult, gap_rows, gap_tests
from thinslice.recipes import overridden, read_gap_suite, read_train_recipe
from thinslice.system.files import sha256_of

pytest.importorskip("lightning_fabric")


@dataclass(frozen=True)
class Finished:
    """A run that is not to be changed: its folder, whose `out` holds what it wrote, and its result."""

    folder: Path
    result: GapResult


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    import torch

    torch.set_num_threads(1)
    folder = write_gap(tmp_path_factory.mktemp("gap"))
    return Finished(folder, run_gap(read_gap_suite(folder / "gap.toml"), folder / "out", device="cpu", threads=1))


@pytest.fixture
def work(finished: Finished, tmp_path: Path) -> Path:
    """Data, recipes and trained networks of one's own, by hard links; results are still to be made."""
    for file in finished.folder.rglob("*"):
        if file.is_file() and "results" not in file.parts:
            place = tmp_path / "gap" / file.relative_to(finished.folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, place)
    return tmp_path / "gap"


def run_in(folder: Path, **arguments: object) -> GapResult:
    return run_gap(read_gap_suite(folder / "gap.toml"), folder / "out", device="cpu", threads=1, **arguments)


def measured_in(folder: Path, **arguments: object) -> GapResult:
    """The same without drawing anything."""
    return measure_gap(read_gap_suite(folder / "gap.toml"), folder / "out", device="cpu", threads=1, **arguments)


def scores(result: GapResult) -> list[dict[tuple[str, str, str], tuple[float | None, tuple[float, ...]]]]:
    return [{key: (o.psnr, o.ssim_per_slice) for key, o in sorted(one.outcomes.items())} for one in result.sets]


def test_every_network_is_trained_each_way_and_tested_on_all_sets(finished: Finished) -> None:
    result = finished.result
    assert not result.failures and [one.cases for one in result.sets] == [tuple(CASES), ("phantom",)]
    wanted = [("linear", ""), ("cubic", ""), *((network, training) for network in "AB" for training in TRAININGS)]
    for one in result.sets:
        assert [(row.network, row.training) for row in gap_rows(result.gap, one)] == wanted
        assert all(row.row.cases == len(one.cases) for row in gap_rows(result.gap, one))
    runs = {path.name: path / f"{path.name}.safetensors" for path in (finished.folder / "out" / "runs").iterdir()}
    assert set(runs) == {"a", "a-mean", "a-subsample", "b", "b-mean", "b-subsample"}
    assert len({sha256_of(path) for path in runs.values()}) == 6
    by_label = {method.label: method.weights for method in result.sets[0].methods}
    assert by_label["A · paired"] == runs["a"] and by_label["B · subsample"] == runs["b-subsample"]
    # Pairs in the released layout have thick k on thin 5 k, the phantom's on 5 k + 2: read by position.
    assert result.sets[1].of("A · paired")["phantom"].slices_scored == 5 * 7 + 1 - 10


def test_sharp_training_loses_on_thick_slices_that_are_averages_and_averages_do_not(finished: Finished) -> None:
    """The pairs' own thick slices are means of five, so simulated means are as good and subsampling is not."""
    rows = {(row.network, row.training): row for row in gap_rows(finished.result.gap, finished.result.sets[0])}
    lost = {training: rows["A", training].psnr.difference for training in ("mean", "subsample")}
    assert lost["subsample"] > 0.03 and lost["subsample"] > lost["mean"] + 0.05
    assert rows["A", "subsample"].psnr.star == "*" and rows["A", "mean"].psnr.star == ""
    assert rows["A", "paired"].row.psnr > rows["cubic", ""].row.psnr


def test_tests_are_scipys_and_holm_takes_all_networks_and_degradations_together(finished: Finished) -> None:
    gap, own = finished.result.gap, finished.result.sets[0]
    tests = gap_tests(gap, own)
    assert [(test.metric, test.tested, test.against) for test in tests] == [
        (metric, f"{network} · paired", f"{network} · {training}")
        for metric in ("psnr", "ssim") for network in "AB" for training in ("mean", "subsample")
    ]  # fmt: skip
    for metric in ("psnr", "ssim"):
        family = [test for test in tests if test.metric == metric]
        for test in family:
            ours, theirs = (
                np.array([getattr(own.outcomes[label, case, "rplhr"], metric) for case in CASES])
                for label in (test.tested, test.against)
            )
            assert test.p == wilcoxon(ours, theirs, alternative="greater").pvalue
            assert test.difference == pytest.approx((ours - theirs).mean(), abs=1e-12)
            low, high = test.interval
            assert low <= test.difference <= high and high - low < np.ptp(ours - theirs)
        order = sorted(range(len(family)), key=lambda place: family[place].p)
        highest = 0.0
        for rank, place in enumerate(order):
            highest = max(highest, min(1.0, (len(family) - rank) * family[place].p))
            assert family[place].p_holm == pytest.approx(highest)


def test_with_one_case_there_is_a_difference_but_no_test(finished: Finished) -> None:
    tests = gap_tests(finished.result.gap, finished.result.sets[1])
    assert len(tests) == 8 and all(test.p is None and test.p_holm is None and not test.star for test in tests)
    assert all(test.reason == "1 case; a test needs 10" and test.difference != 0 for test in tests)
    table = (finished.folder / "out" / "table.md").read_text()
    assert "1 case; a test needs 10" in table and "no stars" in table


def test_what_a_run_leaves_is_complete_and_says_what_it_is_made_from(finished: Finished) -> None:
    out, result = finished.folder / "out", finished.result
    assert {path.name for path in (out / "figures").iterdir()} == {
        "domain-gap.png", "domain-gap-phantom-external.png", "region.png", "region-phantom-external.png",
    }  # fmt: skip
    measured = json.loads((out / "results.json").read_text())
    assert measured["schema"] == "thinslice-domain-gap/1" and [one["dataset"]["name"] for one in measured["sets"]] == [
        "pairs", "phantom",
    ]  # fmt: skip
    assert (
        len(measured["sets"][0]["results"]) == 8 * 11 and measured["suite"]["degradations"][1]["profile"] == "subsample"
    )
    with (out / "table.csv").open(newline="") as stream:
        lines = {(line["test_set"], line["network"], line["training"]): line for line in csv.DictReader(stream)}
    assert len(lines) == 16
    test = gap_tests(result.gap, result.sets[0])[1]
    line = lines["pairs", "A", "subsample"]
    assert (float(line["psnr_p"]), float(line["psnr_lost"]), line["profile"]) == (test.p, test.difference, "subsample")
    assert (float(line["psnr_lost_low"]), float(line["psnr_lost_high"])) == test.interval
    assert lines["pairs", "linear", ""]["psnr_p"] == "" and lines["phantom", "A", "mean"]["psnr_p_holm"] == ""
    with (out / "cases.csv").open(newline="") as stream:
        cases = list(csv.DictReader(stream))
    assert len(cases) == 8 * 12 and {(c["network"], c["training"]) for c in cases} >= {("A", "mean"), ("linear", "")}
    page = (out / "report.html").read_text()
    for text in (page, (out / "table.md").read_text()):
        for fact in (thinslice.NOTICE, "subsample", "cubic", "trained once", result.gap.digest, "phantom",
                     *(str(method.weights_sha256) for method in result.sets[0].methods[2:]),
                     result.sets[0].data_sha256[:16], result.sets[1].data_sha256[:16]):  # fmt: skip
            assert fact in text
    assert page.count("data:image/png;base64,") == 4 and "<script" not in page
    assert "Sharp &lt;or&gt; thick" in page and str(finished.folder) not in page
    assert re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)([^"')\s>]+)""", page) == [] and "://" not in page


def test_the_figure_shows_every_training_in_a_colour_of_its_own(finished: Finished) -> None:
    from matplotlib.image import imread

    from thinslice.pictures.plots import COLOURS

    for name in ("domain-gap.png", "domain-gap-phantom-external.png"):
        picture = imread(finished.folder / "out" / "figures" / name)[..., :3]
        for colour in COLOURS[: len(TRAININGS)]:
            wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
            assert (np.abs(picture - wanted).max(axis=2) < 0.02).sum() > 300


def test_a_run_that_is_stopped_goes_on_and_ends_with_the_same_scores(finished: Finished, work: Path) -> None:
    for name in ("b-mean", "b-subsample"):
        for file in (work / "out" / "runs" / name).rglob("*"):
            if file.is_file():
                file.unlink()

    def stop_training(line: str) -> None:
        if line == "training b-subsample":
            raise KeyboardInterrupt

    def stop_scoring(done: int, total: int) -> None:
        if done >= total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured_in(work, notify=stop_training)
    assert (work / "out" / "runs" / "b-mean" / "b-mean.safetensors").is_file()
    with pytest.raises(KeyboardInterrupt):
        measured_in(work, progress=stop_scoring)
    kept = len(list((work / "out" / "results").glob("*.json")))
    assert 0 < kept < 8 * 12
    assert scores(measured_in(work)) == scores(finished.result)


def test_a_second_run_computes_nothing_again(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("thinslice.experiments.benchmark.case_runner.upscale_measured", never)
    monkeypatch.setattr("thinslice.training.fit.fit", never)
    assert scores(measured_in(finished.folder)) == scores(finished.result)


def test_weights_of_the_paired_recipe_itself_serve(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = overridden(read_train_recipe(work / "recipe.toml"), {"crops.plane": 24})
    monkeypatch.setattr("thinslice.training.fit.fit", None)
    assert trained(recipe, work / "out" / "runs" / "a", work) == work / "out" / "runs" / "a" / "a.safetensors"


def test_a_training_and_a_case_that_fail_are_named_and_the_rest_goes_on(work: Path) -> None:
    # Of eight thick slices seven simulated means have full support, all eight subsampled ones do.
    edited(work, ('name = "b", ', 'name = "c", "crops.depth" = 8, '), ("external = [", "limit = 5\nexternal = ["))
    damaged = work / "pairs" / "test" / "5mm" / f"{CASES[3]}.nii.gz"
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[: len(content) // 2])
    result = run_in(work)
    assert [(failed.label, failed.case_id) for failed in result.failures] == [("B · mean", ""), ("", CASES[3])]
    assert "fewer than a crop" in result.failures[0].reason and isinstance(result.failures[0].error, NotEligibleError)
    rows = {(row.network, row.training): row for row in gap_rows(result.gap, result.sets[0])}
    assert ("B", "mean") not in rows and rows["B", "subsample"].psnr.pairs == 4
    assert all(test.against != "B · mean" for test in gap_tests(result.gap, result.sets[0]))
    assert ("B", "mean") not in {(row.network, row.training) for row in gap_rows(result.gap, result.sets[1])}
    page = (work / "out" / "report.html").read_text()
    assert "Failed: B · mean" in page and f"lacks 1 of 5 cases ({CASES[3]})" in page


def test_where_training_on_pairs_fails_nothing_is_compared_and_the_table_says_so(work: Path) -> None:
    edited(work, ('name = "b", ', 'name = "c", "crops.plane" = 40, '), ('baselines = ["linear", "cubic"]', "limit = 1"))
    result = run_in(work)
    assert {failed.label for failed in result.failures} == {f"B · {training}" for training in TRAININGS}
    assert {row.network for row in gap_rows(result.gap, result.sets[0])} == {"A"}
    assert "B trained on pairs could not be scored" in (work / "out" / "table.md").read_text()


def test_an_external_set_that_is_missing_costs_the_others_nothing(finished: Finished, work: Path) -> None:
    (work / "phantom" / "manifest.csv").unlink()
    for file in (work / "phantom").glob("*.nii.gz"):
        file.unlink()
    messages: list[str] = []
    result = run_in(work, notify=messages.append)
    assert [failed.case_id for failed in result.failures] == ["all of phantom"]
    assert "manifest.csv" in result.failures[0].reason and any("all of phantom" in line for line in messages)
    assert scores(result) == scores(finished.result)[:1]
    assert "all of phantom" in (work / "out" / "report.html").read_text()
    (work / "phantom").rmdir()
    edited(work, ('split = "external"', 'split = "external", optional = true'))
    assert measured_in(work, notify=messages.append).failures == () and "optional" in messages[-1]


def test_what_does_not_fit_is_refused_before_any_training(work: Path) -> None:
    edited(work, ('"cubic"]', '"cubism"]'))
    with pytest.raises(UsageError, match="no baseline 'cubism'"):
        run_in(work)
    edited(work, ('"cubism"]', '"cubic"]'), ('{root = "pairs"}', '{root = "elsewhere"}'))
    with pytest.raises(UnreadableError, match="elsewhere"):
        run_in(work)
