"""One study end to end, called from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import thinslice
from thinslice.commands.upscale import UpscaleJob, run_upscale
from thinslice.errors import ResourceError, ThinsliceError
from thinslice.inference.settings import UpscaleSettings
from thinslice.inference.upscale import Slab
from thinslice.pictures import figures

LINEAR = UpscaleSettings(model="linear")


@pytest.fixture
def source(thick_nifti: Path) -> Path:
    return thick_nifti


def test_the_run_is_announced_and_progress_reaches_its_end(source: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    steps: list[tuple[int, int]] = []
    job = UpscaleJob(source, tmp_path / "thin.nii", LINEAR)
    report = run_upscale(job, notify=lines.append, progress=lambda done, total: steps.append((done, total)))
    assert len(lines) == 1 and "5 slices 5 mm apart become 21 slices 1 mm apart" in lines[0]
    assert steps[-1][0] == steps[-1][1] > 0
    assert report.seconds.read > 0 and report.seconds.write > 0
    assert report.seconds.total >= report.seconds.read + report.seconds.network
    assert report.peak_memory_mib is None or report.peak_memory_mib > 10


def test_a_failure_in_the_middle_leaves_no_output(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(figures.Preview, "add", fail)
    out = tmp_path / "out"
    out.mkdir()
    job = UpscaleJob(source, out / "thin.nii.gz", LINEAR, preview=out / "look.png", report=out / "report.json")
    with pytest.raises(RuntimeError, match="middle"):
        run_upscale(job)
    assert list(out.iterdir()) == []


def test_short_memory_is_refused_unless_forced(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinslice.inference.prepare.available_memory_bytes", lambda: 1000)
    with pytest.raises(ResourceError, match="GiB"):
        run_upscale(UpscaleJob(source, tmp_path / "thin.nii", LINEAR))
    assert not (tmp_path / "thin.nii").exists()
    run_upscale(UpscaleJob(source, tmp_path / "thin.nii", replace(LINEAR, force=True)))
    assert thinslice.read(tmp_path / "thin.nii").geometry.shape[0] == 21


def test_a_run_that_dies_between_its_outputs_leaves_no_older_one_beside_the_new_volume(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    job = UpscaleJob(source, out / "thin.nii", LINEAR, preview=out / "look.png", report=out / "report.json")
    run_upscale(job)
    older = (out / "thin.nii").read_bytes()

    def die(*_: object) -> bytes:
        raise SystemExit

    monkeypatch.setattr(figures.Preview, "png_bytes", die)
    with pytest.raises(SystemExit):
        run_upscale(replace(job, settings=replace(LINEAR, model="nearest"), overwrite=True))
    assert (out / "thin.nii").read_bytes() != older
    assert [path.name for path in out.iterdir()] == ["thin.nii"]


class Collected:
    """A watcher that keeps what it receives."""

    def begin(self, thick: thinslice.Volume, thin: thinslice.Geometry) -> None:
        self.thick, self.thin = thick, thin
        self.slabs: list[Slab] = []

    def add(self, slab: Slab) -> None:
        self.slabs.append(slab)


def test_copies_are_the_files_of_runs_of_their_own_and_a_watcher_receives_every_slice(
    source: Path, tmp_path: Path
) -> None:
    watcher = Collected()
    both = UpscaleJob(source, tmp_path / "a.nii.gz", LINEAR, copies=(tmp_path / "a.nii",))
    run_upscale(both, watcher=watcher)
    for suffix in (".nii.gz", ".nii"):
        run_upscale(UpscaleJob(source, tmp_path / f"b{suffix}", LINEAR))
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert watcher.slabs[0].start == 0
    thin = np.concatenate([slab.hu for slab in watcher.slabs])
    np.testing.assert_array_equal(thin, thinslice.read(tmp_path / "a.nii").hu)
    np.testing.assert_array_equal(watcher.thick.hu, thinslice.read(source).hu)
    assert watcher.thin.shape == thin.shape


def test_a_copy_that_cannot_be_written_ends_the_run_with_nothing_left(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    taken = tmp_path / "out" / "taken.nii"
    taken.write_text("mine")
    for copies in ((taken,), (tmp_path / "out" / "thin.nii.gz",)):
        with pytest.raises(ThinsliceError, match="exists|one name"):
            run_upscale(UpscaleJob(source, tmp_path / "out" / "thin.nii.gz", LINEAR, copies=copies))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["taken.nii"] and taken.read_text() == "mine"
