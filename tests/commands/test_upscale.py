"""One study end to end, called from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import thinslice
from thinslice.commands.upscale import UpscaleJob, run_upscale
from thinslice.errors import ResourceError
from thinslice.inference.settings import UpscaleSettings
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
