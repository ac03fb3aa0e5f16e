"""thinslice check, and thinslice upscale --check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import Run
from support.scans import thick_scan, thin_scan
from thinslice.volume import Volume


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with doe_good.nii.gz and doe_inverted.nii.gz."""
    folder = tmp_path_factory.mktemp("scans")
    thick = thick_scan(thin_scan())
    thinslice.write(thick, folder / "doe_good.nii.gz")
    thinslice.write(Volume((-thick.hu).astype(np.int16), thick.geometry), folder / "doe_inverted.nii.gz")
    return folder


def test_a_good_scan_exits_with_0_and_shows_the_tables(run: Run, scans: Path) -> None:
    done = run("check", scans / "doe_good.nii.gz", "--model", "fast", "--threads", 1)
    assert done.code == 0, done.err
    assert done.out.startswith("Good: fast is ")
    for words in ("own slices averaged by 2", "cubic-consistent", "training scans", "not a medical device"):
        assert words.lower() in done.out.lower()
    assert "measuring" in done.err and "network" in done.err
    assert "doe" not in done.out + done.err


def test_another_contrast_exits_with_10_and_json_alone_on_stdout(run: Run, scans: Path) -> None:
    done = run("check", scans / "doe_inverted.nii.gz", "--model", "fast", "--json")
    assert done.code == 10
    values = json.loads(done.out)
    assert values["verdict"] == "not for this network" and values["exit_code"] == 10
    assert values["findings"][0]["sentence"] in values["sentence"]


def test_quiet_prints_nothing(run: Run, scans: Path) -> None:
    done = run("check", scans / "doe_inverted.nii.gz", "--model", "linear", "--quiet")
    assert (done.code, done.out, done.err) == (10, "", "")


def test_a_missing_scan_and_an_unknown_model_have_their_codes(run: Run, scans: Path, tmp_path: Path) -> None:
    assert run("check", tmp_path / "none.nii.gz").code == 3
    assert run("check", scans / "doe_good.nii.gz", "--model", "nonsense").code == 2


def test_upscale_reports_the_check(run: Run, scans: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ("upscale", scans / "doe_inverted.nii.gz", tmp_path / "thin.nii.gz", "--model", "linear", "--factor", 2)
    done = run(*arguments, "--check", "--report", report)
    assert done.code == 0, done.err
    assert "check        Not for this network" in done.out and "checking" in done.err
    found = json.loads(report.read_text())["check"]
    assert found["schema"] == "thinslice-check/1" and found["exit_code"] == 10
    page = tmp_path / "report.html"
    assert run(*arguments, "--check", "--report", page, "--overwrite").code == 0
    assert "Check of the source" in page.read_text() and "own slices averaged by 2" in page.read_text()
    plain = tmp_path / "plain.json"
    assert run(*arguments, "--report", plain, "--overwrite").code == 0
    assert json.loads(plain.read_text())["check"] is None


def test_a_batch_takes_no_check(run: Run, scans: Path, tmp_path: Path) -> None:
    done = run("upscale", scans, tmp_path / "out", "--all", "--check")
    assert done.code == 2 and "--check" in done.err
