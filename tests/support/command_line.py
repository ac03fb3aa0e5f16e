"""What tests of the command line share: running a command in this process, and a small volume to run it on."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import thinslice
from thinslice.cli import main
from thinslice.geometry import Geometry
from thinslice.volume import Volume


@dataclass(frozen=True)
class Outcome:
    """What one command left: its exit code, and what it printed."""

    code: object
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything printed, as one line: help is wrapped to the terminal."""
        return " ".join((self.out + self.err).split())


Run = Callable[..., Outcome]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs `thinslice ARGUMENTS...` in this process; what a command changes in the process is put back."""
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


def smooth_volume(depth: int = 5, plane: int = 24, spacing_mm: float = 5.0) -> Volume:
    """Waves between -800 and 800 HU, different along each axis."""
    d, h, w = np.meshgrid(np.arange(depth), np.arange(plane), np.arange(plane), indexing="ij")
    hu = 400 * np.sin(0.9 * d) + 250 * np.cos(0.3 * h) + 150 * np.sin(0.2 * w + 0.1 * h)
    return Volume(np.rint(hu).astype(np.int16), Geometry((depth, plane, plane), (spacing_mm, 0.8, 0.8)))


@pytest.fixture
def thick_nifti(tmp_path: Path) -> Path:
    """A NIfTI of 5 slices, 5 mm apart, in a folder of its own."""
    path = tmp_path / "in" / "thick.nii.gz"
    path.parent.mkdir()
    thinslice.write(smooth_volume(), path)
    return path
