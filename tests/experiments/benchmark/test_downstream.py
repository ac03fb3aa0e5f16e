"""Downstream columns of a suite: right values, off by default, kept in the store, one failure among them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.pair_factory import write_pair
from thinslice import Geometry, Volume
from thinslice.data.manifest import Pair, open_dataset, read_pair
from thinslice.errors import ModelError, UsageError
from thinslice.evaluation.clinical import lung_density
from thinslice.experiments.benchmark.downstream import CaseMeasures
from thinslice.experiments.benchmark.downstream_table import downstream_columns, downstream_rows
from thinslice.experiments.benchmark.report import write_outputs
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.run import measure_suite
from thinslice.experiments.benchmark.segment import segment
from thinslice.recipes import Downstream, Segmentation, Suite

PROGRAM = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np
volume = nib.load(sys.argv[1])
nib.save(nib.Nifti1Image((np.asarray(volume.dataobj) > 0).astype(np.int16), volume.affine), sys.argv[2])
with Path(__file__).with_name("runs.txt").open("a") as log:
    log.write("x")
"""


def suite_in(folder: Path, command: tuple[str, ...] | None = None, **downstream: object) -> Suite:
    (folder / "threshold.py").write_text(PROGRAM, encoding="utf-8")
    command = command or (sys.executable, "{suite}/threshold.py", "{volume}", "{labels}")
    wanted = Downstream(segmentations=({"name": "dense", "command": command},), **downstream)  # type: ignore[arg-type]
    methods = ({"label": "nearest", "model": "nearest"}, {"label": "cubic", "model": "cubic"})
    suite = Suite(name="s", factor=5, dataset={"root": "pairs"}, methods=methods, downstream=wanted)  # type: ignore[arg-type]
    return suite.placed(folder)


def measured(suite: Suite, folder: Path) -> SuiteResult:
    return measure_suite(suite, folder / "out", device="cpu", threads=1)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


def test_a_programs_labels_are_compared_and_kept(tmp_path: Path) -> None:
    for number in (150, 151):
        write_pair(tmp_path / "pairs", "test", number)
    result = measured(suite_in(tmp_path), tmp_path)
    expected = []
    for case in open_dataset(tmp_path / "pairs").cases:
        pair = read_pair(case)
        thin = thinslice.upscale(pair.thick, model="cubic", factor=5)
        expected.append(dice(thin.hu > 0, pair.thin.hu > 0))
    column = next(c for c in downstream_columns(result) if c.name == "dice_dense")
    assert column.value("cubic") == pytest.approx(np.mean(expected), abs=1e-12)
    nearest = column.value("nearest")
    assert nearest is not None and nearest < np.mean(expected)

    runs = (tmp_path / "runs.txt").read_text()
    again = measured(suite_in(tmp_path), tmp_path)
    assert (tmp_path / "runs.txt").read_text() == runs, "a second start takes what the store holds"
    assert again.downstream == result.downstream and len(runs) == 2 * (1 + 2)

    write_outputs(result, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "results.json").read_text())["downstream"]
    rows = {row["label"]: row for row in written["rows"]}
    assert rows["cubic"]["dice_dense"] == pytest.approx(column.value("cubic"))
    assert "dense: Dice" in (tmp_path / "out" / "table.md").read_text()
    head = (tmp_path / "out" / "table.csv").read_text().splitlines()[0]
    assert head.endswith("recipe_sha256,dice_dense,volume_percent_dense")


def test_a_program_that_fails_is_a_failure_and_the_scores_stay(tmp_path: Path) -> None:
    write_pair(tmp_path / "pairs", "test", 150)
    broken = (sys.executable, "-c", "raise SystemExit(3)", "{volume}", "{labels}")
    result = measured(suite_in(tmp_path, broken), tmp_path)
    assert len(result.failures) == 2 and "'dense' ended with exit code 3" in result.failures[0].reason
    assert len(result.outcomes) == 2 and not result.downstream
    assert downstream_rows(result)[1] == []


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        (("no-such-program-anywhere", "{volume}", "{labels}"), UsageError, "cannot be started"),
        ((sys.executable, "-c", "pass", "{volume}", "{labels}"), ModelError, "wrote no {labels}"),
        ((sys.executable, "-c", "import time; time.sleep(60)", "{volume}{labels}"), ModelError, "longer than 0.5 s"),
    ],
)
def test_a_program_that_gives_no_labels_is_named(
    command: tuple[str, ...], error: type[Exception], words: str, tmp_path: Path
) -> None:
    volume = Volume(np.zeros((4, 5, 6), np.int16), Geometry((4, 5, 6), (1.0, None, None)))
    with pytest.raises(error, match=words):
        segment(volume, Segmentation(name="dense", command=command, timeout_s=0.5), tmp_path)


def test_lung_density_differs_by_what_the_volume_differs(tmp_path: Path) -> None:
    hu = np.full((41, 60, 60), 40, np.int16)
    hu[3:38, 10:50, 10:50] = -850 + np.random.default_rng(0).integers(-150, 150, (35, 40, 40))
    grid = Geometry(hu.shape, (1.0, 1.0, 1.0))
    thick = Volume(hu[::5], Geometry(hu[::5].shape, (5.0, 1.0, 1.0)))
    measures = CaseMeasures(Downstream(lung_density=True), Pair("a", thick, Volume(hu, grid), 5), tmp_path)
    lung = lung_density.find_lung(hu, 1.0)
    assert lung.any()
    shifted = np.where(lung, hu - 20, hu).astype(np.int16)
    found = measures.of(Volume(shifted, grid))["lung_density"]["difference"]
    inner = slice(3, 38)  # thin slices of all thick ones but the first and the last
    share = [100.0 * np.mean(v[inner][lung[inner]] < -950) for v in (shifted, hu)]
    assert found["mean_hu"] == pytest.approx(-20.0) and found["perc15_hu"] == pytest.approx(-20.0, abs=1.0)
    assert found["laa950_percent"] == pytest.approx(share[0] - share[1], abs=1e-9) and found["litres"] == 0.0
    assert set(measures.of(Volume(hu, grid))) == {"lung_density"}, "nothing that was not asked for"


def test_radiomics_of_the_truth_itself_agree_everywhere(tmp_path: Path) -> None:
    pytest.importorskip("fastrad")
    hu = np.random.default_rng(0).normal(40, 30, (31, 32, 32)).astype(np.int16)
    grid = Geometry(hu.shape, (1.0, 2.0, 2.0))
    thick = Volume(hu[::5], Geometry(hu[::5].shape, (5.0, 2.0, 2.0)))
    measures = CaseMeasures(Downstream(radiomics=True), Pair("a", thick, Volume(hu, grid), 5), tmp_path)
    found = measures.of(Volume(hu, grid))["radiomics"]
    assert found["soft"]["concordant_percent"] == 100.0 and found["soft"]["regions"] == 16 and found["lung"] is None


@pytest.mark.heavy
def test_nodules_of_the_phantom_are_a_row_for_each_method(tmp_path: Path) -> None:
    write_pair(tmp_path / "pairs", "test", 150)
    suite = suite_in(tmp_path, nodules=True)
    suite = suite.model_copy(update={"downstream": Downstream(nodules=True)}).placed(tmp_path)
    result = measured(suite, tmp_path)
    column = next(c for c in downstream_columns(result) if c.name == "nodule_contrast_percent")
    nearest, cubic = column.value("nearest"), column.value("cubic")
    assert nearest is not None and cubic is not None and 20.0 < nearest < 100.0 and 20.0 < cubic < 100.0
    assert measured(suite, tmp_path).nodules == result.nodules


def test_off_by_default_and_no_digest_changes(tmp_path: Path) -> None:
    suite = Suite(name="s", dataset={"root": "x"}, methods=({"label": "cubic", "model": "cubic"},))  # type: ignore[arg-type]
    asked = suite.model_copy(update={"downstream": Downstream(lung_density=True)})
    assert not suite.downstream.of_cases and suite.digest != asked.digest
    assert suite.digest == suite.model_copy(update={"downstream": Downstream()}).digest
    with pytest.raises(ValueError, match=r"downstream\.nodules needs"):
        Suite(**{**suite.model_dump(), "downstream": {"nodules": True}})
    with pytest.raises(ValueError, match="needs {volume} and {labels}"):
        Segmentation(name="x", command=("a", "{volume}"))
