"""thinslice upscale, from arguments to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

import thinslice
from support.command_line import Run
from support.dicom_factory import assert_no_canary, write_series
from support.open_viewer import held


def test_a_nifti_becomes_a_thin_nifti(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    output = tmp_path / "thin.nii.gz"
    before = thick_nifti.read_bytes()
    outcome = run("upscale", thick_nifti, output, "--model", "linear")
    assert outcome.code == 0, outcome.err
    thick, thin = thinslice.read(thick_nifti), thinslice.read(output)
    assert thin.geometry.shape == (21, 24, 24)
    assert thin.geometry.spacing_mm[0] == pytest.approx(1.0)
    np.testing.assert_array_equal(thin.hu[::5], thick.hu)
    assert thick_nifti.read_bytes() == before
    assert "5 -> 21" in outcome.out and "5 mm -> 1 mm" in outcome.out and "HU RMS" in outcome.out
    assert output.name in outcome.out and thinslice.NOTICE in outcome.out
    assert "MiB of memory" in outcome.err, "the estimate is printed before the start"


def test_the_spacing_asked_for_is_met_exactly(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("upscale", thick_nifti, tmp_path / "thin.nii", "--model", "linear", "--spacing", 2)
    assert outcome.code == 0, outcome.err
    assert "5 -> 11, factor 2.5" in outcome.out and "5 mm -> 2 mm" in outcome.out


def test_preview_and_reports_are_written(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    preview, report, page = tmp_path / "look.png", tmp_path / "report.json", tmp_path / "report.html"
    outcome = run(
        "upscale", thick_nifti, tmp_path / "a.nii", "--model", "linear", "--preview", preview, "--report", report
    )
    assert outcome.code == 0, outcome.err
    assert preview.read_bytes().startswith(b"\x89PNG")
    values = json.loads(report.read_text())
    assert {
        "schema",
        "input",
        "output",
        "model",
        "factor",
        "spacing_mm_in",
        "spacing_mm_out",
        "plan",
        "device",
        "backend",
        "seconds",
        "peak_memory_mib",
        "consistency_rms_hu",
        "warnings",
        "notice",
    } <= values.keys()
    assert values["model"].keys() >= {"name", "version", "sha256"}
    assert values["seconds"].keys() == {"read", "network", "write", "total"}
    assert (values["factor"], values["spacing_mm_in"][0], values["spacing_mm_out"][0]) == (5, 5.0, 1.0)
    assert 0 < values["seconds"]["total"] < 600
    outcome = run("upscale", thick_nifti, tmp_path / "b.nii", "--model", "linear", "--report", page)
    assert outcome.code == 0, outcome.err
    assert "data:image/png" in page.read_text(), "the page shows the preview, although no file of it was asked for"


@pytest.mark.parametrize(("name", "linked"), [("view", True), ("Doe_Jane", False), ("elsewhere/view", False)])
def test_a_report_links_to_the_view_beside_it_unless_its_name_may_be_a_patients(
    name: str, linked: bool, thick_nifti: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "elsewhere").mkdir()
    report = tmp_path / "report.html"
    outputs = ("--view", tmp_path / f"{name}.html", "--report", report)
    assert run("upscale", thick_nifti, tmp_path / "a.nii", "--model", "linear", *outputs).code == 0
    assert ('<a href="view.html">' in report.read_text()) == linked and "Doe_Jane" not in report.read_text()


def test_a_view_holds_the_volumes_that_are_written(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    view, output = tmp_path / "view.html", tmp_path / "thin.nii"
    outcome = run("upscale", thick_nifti, output, "--model", "linear", "--view", view)
    assert outcome.code == 0, outcome.err
    options, volumes = held(view.read_text())
    thin = thinslice.read(output)
    np.testing.assert_array_equal(volumes["thin"], thin.hu)
    assert options["thin"]["shape"] == list(thin.shape)
    assert "linear" in dict(options["facts"]).values()


def test_a_view_is_not_made_by_a_server(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("upscale", thick_nifti, tmp_path / "a.nii", "--view", tmp_path / "v.html", "--server", "http://x/")
    assert outcome.code == 2 and "--view" in outcome.err and "--server" in outcome.err


def test_quiet_prints_nothing(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("upscale", thick_nifti, tmp_path / "thin.nii", "--model", "linear", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_the_backend_and_device_that_ran_are_printed(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("upscale", thick_nifti, tmp_path / "thin.nii", "--model", "linear", "--device", "cpu")
    assert "ran on cpu by torch, float32" in outcome.text


def test_a_batch_with_a_damaged_file_alone_names_it_as_what_is_left(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in" / "a", shape=(3, 16, 16), uid="1.2.3.1")
    whole = next(path for path in (tmp_path / "in" / "a").iterdir() if path.is_file()).read_bytes()
    (tmp_path / "in" / "damaged.dcm").write_bytes(whole[:200])
    outcome = run("upscale", tmp_path / "in", tmp_path / "out", "--all", "--model", "linear", "--spacing", 2, "-q")
    assert outcome.code == 8 and "1 damaged or closed file(s) belong to no known series" in outcome.err
    assert "0 series could not" not in outcome.err


def test_a_folder_of_studies(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in" / "a", shape=(3, 16, 16), uid="1.2.3.1")
    outcome = run("upscale", tmp_path / "in", tmp_path / "out", "--all", "--model", "linear", "--spacing", 2)
    assert outcome.code == 0, outcome.err
    assert "1 done, 0 skipped, 0 refused, 0 failed" in outcome.out and "summary.csv" in outcome.out
    assert "series 1 of 1" in outcome.err and "5 mm -> 2 mm" in outcome.err
    write_series(tmp_path / "in" / "b", shape=(5, 16, 16), uid="1.2.3.2", missing=(2,))
    outcome = run("upscale", tmp_path / "in", tmp_path / "out", "--all", "--model", "linear", "--spacing", 2, "-q")
    assert outcome.code == 8 and outcome.out == "" and outcome.err.count("\n") == 1 and "summary.csv" in outcome.err
    (tmp_path / "empty").mkdir()
    outcome = run("upscale", tmp_path / "empty", tmp_path / "out2", "--all", "--model", "linear")
    assert outcome.code == 3 and "There is no CT series below" in outcome.err and "reason of each" not in outcome.err


@pytest.mark.parametrize(
    "option",
    [
        ["--series", "1"],
        ["--preview", "a.png"],
        ["--report", "a.json"],
        ["--uncertainty", "a.nii"],
        ["--view", "a.html"],
    ],
    ids=str,
)
def test_options_of_one_series_contradict_all(option: list[str], tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    outcome = run("upscale", tmp_path / "in", tmp_path / "out", "--all", *option)
    assert outcome.code == 2 and option[0] in outcome.err and "--all" in outcome.err


def test_without_a_terminal_progress_is_plain_lines(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    outcome = run("upscale", thick_nifti, tmp_path / "thin.nii", "--model", "linear")
    assert "network: 100 %" in outcome.err
    lines = outcome.err.splitlines()
    phases = [lines.index(name) for name in ("reading", "preparing", "writing")]
    assert phases == sorted(phases)
    assert "\r" not in outcome.err and "\x1b" not in outcome.err


def test_a_dicom_series_becomes_a_dicom_series(tmp_path: Path, run: Run) -> None:
    series = write_series(tmp_path / "thick", shape=(4, 20, 22))
    report = tmp_path / "report.json"
    outcome = run("upscale", tmp_path / "thick", tmp_path / "thin", "--model", "linear", "--report", report)
    assert outcome.code == 0, outcome.err
    thin = thinslice.read(tmp_path / "thin")
    assert thin.geometry.shape == (16, 20, 22)
    np.testing.assert_allclose(thin.geometry.origin_mm, series.positions_mm[0], atol=1e-3)
    np.testing.assert_array_equal(thin.hu[::5], series.hu)
    header = pydicom.dcmread(next(iter(sorted((tmp_path / "thin").iterdir()))))
    assert header.ImageType[0] == "DERIVED"
    assert_no_canary(outcome.text)
    assert_no_canary(report.read_text())


def test_a_dicom_series_becomes_a_nifti(tmp_path: Path, run: Run) -> None:
    series = write_series(tmp_path / "thick", shape=(4, 20, 22))
    output = tmp_path / "thin.nii.gz"
    outcome = run("upscale", tmp_path / "thick", output, "--model", "linear", "--format", "nifti")
    assert outcome.code == 0, outcome.err
    np.testing.assert_array_equal(thinslice.read(output).hu[::5], series.hu)


def test_of_several_series_one_is_asked_for(tmp_path: Path, run: Run) -> None:
    first = write_series(tmp_path / "in" / "a", shape=(3, 16, 16), uid="1.2.3.1")
    write_series(tmp_path / "in" / "b", shape=(4, 16, 16), uid="1.2.3.2")
    outcome = run("upscale", tmp_path / "in", tmp_path / "thin.nii", "--model", "linear")
    assert outcome.code == 3
    assert "1.2.3.1" in outcome.err and "1.2.3.2" in outcome.err and "--series" in outcome.err
    outcome = run(
        "upscale", tmp_path / "in", tmp_path / "thin.nii", "--model", "linear", "--series-uid", "1.2.3.1", "--quiet"
    )
    assert outcome.code == 0, outcome.err
    assert thinslice.read(tmp_path / "thin.nii").geometry.shape[0] == (len(first.hu) - 1) * 5 + 1


def test_an_existing_output_is_kept_unless_asked(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    output = tmp_path / "thin.nii"
    output.write_text("mine")
    outcome = run("upscale", thick_nifti, output, "--model", "linear")
    assert outcome.code == 5 and "--overwrite" in outcome.err
    assert output.read_text() == "mine"
    outcome = run("upscale", thick_nifti, output, "--model", "linear", "--overwrite")
    assert outcome.code == 0, outcome.err
    assert thinslice.read(output).geometry.shape[0] == 21


@pytest.mark.parametrize(
    ("output", "options", "code", "word"),
    [
        ("thin.nii", ["--factor", "5", "--spacing", "1"], 2, "--factor"),
        ("thin.nii", ["--format", "dicom"], 2, "--format"),
        ("thin", ["--format", "nifti"], 2, "--format"),
        ("thin", [], 2, "DICOM"),
        ("thin.jpg", [], 2, ".jpg"),
        ("thin.nii", ["--preview", "look.jpg"], 2, ".png"),
        ("thin.nii", ["--report", "report.txt"], 2, ".json"),
        ("thin.nii", ["--report", "a.json", "--preview", "a.json.png", "--plan", "nonsense"], 2, "nonsense"),
        ("thin.nii", ["--model", "nonsense"], 2, "nonsense"),
        ("thin.nii", ["--model", "tvsrn"], 4, "no weights"),
        ("thin.nii", ["--device", "cuda:99"], 7, "cuda:99"),
        ("thin.nii", ["--device", "abacus"], 2, "abacus"),
        ("thin.nii", ["--factor", "9"], 3, "--spacing"),
        ("thin.nii", ["--spacing", "0.1"], 3, "--spacing"),
        ("thin.nii", ["--spacing", "5"], 3, "--spacing"),
        ("thin.nii", ["--spacing", "-1"], 2, "spacing"),
        ("thin.nii", ["--axis", "3"], 2, "--axis"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    output: str,
    options: list[str],
    code: int,
    word: str,
    thick_nifti: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    outcome = run("upscale", thick_nifti, out / output, "--model", "linear", *options)
    assert outcome.code == code, outcome.err
    assert word in outcome.err
    assert list(out.iterdir()) == [] and {entry.name for entry in tmp_path.iterdir()} == {"in", "out"}


def test_the_input_is_never_the_output(tmp_path: Path, run: Run, thick_nifti: Path) -> None:
    before = thick_nifti.read_bytes()
    outcome = run("upscale", thick_nifti, thick_nifti, "--model", "linear", "--overwrite")
    assert outcome.code == 2 and "input" in outcome.err
    assert thick_nifti.read_bytes() == before
    write_series(tmp_path / "study" / "thick", shape=(3, 16, 16))
    outcome = run("upscale", tmp_path / "study" / "thick", tmp_path / "study", "--model", "linear", "--overwrite")
    assert outcome.code == 2 and "input" in outcome.err
    assert len(list((tmp_path / "study" / "thick").iterdir())) == 3


@pytest.mark.parametrize("name", ["absent", "empty", "text"])
def test_what_is_no_image_is_refused(name: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not an image")
    outcome = run("upscale", tmp_path / name, tmp_path / "thin.nii")
    assert outcome.code == 3
    assert name in outcome.err


def test_two_outputs_need_two_names(thick_nifti: Path, tmp_path: Path, run: Run) -> None:
    outcome = run(
        "upscale", thick_nifti, tmp_path / "a.nii", "--report", tmp_path / "b.html", "--preview", tmp_path / "b.html"
    )
    assert outcome.code == 2
