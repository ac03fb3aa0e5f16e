"""Files that the documentation's commands work on, small: a phantom's slices, thin chests, a hospital's archive."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import thinslice
from support.hospital import write_scan
from support.snippets import PROJECT, Runner
from thinslice.data.phantoms.painting import render
from thinslice.data.phantoms.thorax import phantom_grid, thick_from, thorax
from thinslice.io.dicom.derived.synthetic import write_dicom_source

FROM_THE_CLONE = ("recipes", "suites", "examples", "constraints")
"""Folders of the repository that commands name; they are read only."""


@pytest.fixture(scope="session")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the inputs that the pages name, made once."""
    folder = tmp_path_factory.mktemp("inputs")
    phantom = thorax(1)
    thick, truth = thick_from(render(phantom, phantom_grid((45, 64, 64), (1.0, 2.8, 2.8))), 5)
    write_dicom_source(thick, folder / "chest_5mm", seed=1)
    thinslice.write(thick, folder / "thick.nii.gz")
    thinslice.write(truth, folder / "truth.nii.gz")
    (folder / "demo-output").mkdir()
    shutil.copytree(folder / "chest_5mm", folder / "demo-output" / "thick")
    shutil.copy(folder / "truth.nii.gz", folder / "demo-output")
    (folder / "thin-chests").mkdir()
    for seed in range(3):
        chest = render(thorax(seed + 2), phantom_grid((40, 48, 48), (1.0, 2.8, 2.8)))
        thinslice.write(chest, folder / "thin-chests" / f"chest-{seed}.nii.gz")
    for seed in range(5):
        write_scan(folder / "hospital-dicom" / f"study-{seed}", seed)
    return folder


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Runner]]:
    """Makes a runner whose current folder looks like a clone; with `inputs`, that folder's files lie in it."""
    work = tmp_path / "work"
    work.mkdir()
    for name in FROM_THE_CLONE:
        (work / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(work)
    monkeypatch.delenv("THINSLICE_SHARED", raising=False)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    before = signal.getsignal(signal.SIGTERM)

    def make(inputs: Path | None, *, shell: bool = False) -> Runner:
        if inputs is not None:
            shutil.copytree(inputs, work, dirs_exist_ok=True)
        return Runner(tmp_path / "programs", shell=shell)

    yield make
    signal.signal(signal.SIGTERM, before)
    os.chdir(PROJECT)
