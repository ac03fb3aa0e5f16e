"""Fixtures of the fault table."""

from __future__ import annotations

from pathlib import Path

import pytest

import thinslice
from support.command_line import run, smooth_volume

__all__ = ["run"]

WAITING = {
    "test_row_01_a_bad_file_that_leaves_a_gap_is_refused[text": "a file of text in the middle of a series is named",
    "test_row_04_a_slice_of_another_matrix": "another matrix is called by its name",
    "test_row_05_a_gantry_tilt_is_refused": "--on-tilt",
    "test_row_05_large_jitter": "jitter is no tilt",
    "test_row_05_a_tilt_is_sheared": "--on-tilt",
    "test_row_06_a_change_of_spacing": "--on-spacing",
    "test_row_12_enhanced_multi_frame_is_read": "enhanced multi-frame",
    "test_row_13_one_slice": "a single slice",
}
"""Starts of the names of tests whose mend is not there yet, and what it is: they may fail, and are listed as such."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for start, reason in WAITING.items():
            if item.name.startswith(start):
                item.add_marker(pytest.mark.xfail(reason=f"waits for: {reason}", strict=False))


@pytest.fixture
def thick_nifti(tmp_path: Path) -> Path:
    """A NIfTI of 5 slices, 5 mm apart, in a folder of its own."""
    path = tmp_path / "in" / "thick.nii.gz"
    path.parent.mkdir()
    thinslice.write(smooth_volume(), path)
    return path
