"""Fixtures of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import thinslice
from support.command_line import run, smooth_volume

__all__ = ["run"]


@pytest.fixture
def thick_nifti(tmp_path: Path) -> Path:
    """A NIfTI of 5 slices, 5 mm apart."""
    path = tmp_path / "in" / "thick.nii.gz"
    path.parent.mkdir()
    thinslice.write(smooth_volume(), path)
    return path
