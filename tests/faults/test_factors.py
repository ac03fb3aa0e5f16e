"""Row 15: distances and thicknesses for which no factor fits, and slices that overlap or leave gaps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.command_line import Run
from support.dicom_factory import write_series
from support.fault_checks import refuse_upscale, upscale, warnings_of

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("distance_mm", "options", "word"),
    [
        (1.0, (), "already thin"),
        (0.7, ("--spacing", "0.7"), "already thin"),
        (10.0, (), "factor 10"),
        (5.0, ("--spacing", "0.5"), "factor 10"),
        (5.0, ("--factor", "9"), "factors 2 to 8"),
    ],
)
def test_row_15_thin_or_too_coarse_is_refused_with_a_spacing_that_works(
    distance_mm: float, options: tuple[str, ...], word: str, tmp_path: Path, run: Run
) -> None:
    write_series(tmp_path / "in", shape=(4, 16, 16), spacing_mm=(distance_mm, 0.7, 0.7))
    outcome = refuse_upscale(run, tmp_path / "in", *options, words=(word, "--spacing"))
    advice = re.search(r"--spacing ([\d.]+)\.", outcome.err)
    assert advice is not None
    upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii", "--spacing", advice[1])


@pytest.mark.parametrize(
    ("distance_mm", "thickness_mm", "word"), [(2.5, 5.0, "overlap"), (5.0, 2.5, "gap"), (5.0, 6.0, "overlap")]
)
def test_row_15_the_true_profile_is_used_and_said_in_the_report(
    distance_mm: float, thickness_mm: float, word: str, tmp_path: Path, run: Run
) -> None:
    write_series(tmp_path / "in", shape=(4, 16, 16), spacing_mm=(distance_mm, 0.7, 0.7), thickness_mm=thickness_mm)
    outcome, report = upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    text = warnings_of(outcome, report)
    assert word in text and f"{thickness_mm:g} mm thick" in text and f"{distance_mm:g} mm apart" in text
    assert report["settings"]["profile_width"] == pytest.approx(thickness_mm / distance_mm)


def test_row_15_contiguous_slices_are_no_remark(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "in", shape=(4, 16, 16))
    _, report = upscale(run, tmp_path / "in", tmp_path / "out" / "thin.nii")
    assert report["warnings"] == []
