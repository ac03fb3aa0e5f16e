"""Running the command line in this process."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import thinslice
from support.command_line import Outcome, Run, smooth_volume
from thinslice.cli import main


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs `thinslice ARGUMENTS...`; what a command changes in the process is put back."""
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    before = signal.getsignal(signal.SIGTERM)

    def command(*arguments: object) -> Outcome:
        capfd.readouterr()
        with warnings.catch_warnings(), pytest.raises(SystemExit) as leaving:
            main([str(argument) for argument in arguments])
        printed = capfd.readouterr()
        return Outcome(leaving.value.code or 0, printed.out, printed.err)

    yield command
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def thick_nifti(tmp_path: Path) -> Path:
    """A NIfTI of 5 slices, 5 mm apart."""
    path = tmp_path / "in" / "thick.nii.gz"
    path.parent.mkdir()
    thinslice.write(smooth_volume(), path)
    return path
