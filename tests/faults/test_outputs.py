"""Rows 18, 19 and 21: places that take no output, memory that is short, and two runs at once."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thinslice
from support.command_line import Outcome, Run
from support.dicom_factory import write_series
from support.fault_checks import assert_sentence, content_of, refuse, untouched
from support.record_server import DOI, Archive, serve, split_zip
from thinslice.geometry import Geometry
from thinslice.volume import Volume

pytestmark = pytest.mark.faults

OUTPUTS = ("thin", "thin.nii", "thin.nii.gz", "thin.nrrd", "thin.mha", "thin.mhd")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A DICOM series whose thin slices take 200 kB."""
    write_series(tmp_path / "in", shape=(5, 72, 72))
    return tmp_path / "in"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts an empty file system of memory with these options; skips where that is not permitted."""
    mounts: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(mounts)}"
        place.mkdir()
        program = shutil.which("mount")
        command = [program or "mount", "-t", "tmpfs", "-o", options, "thinslice-test", str(place)]
        if program is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a file system: root with CAP_SYS_ADMIN")
        mounts.append(place)
        return place

    yield mount
    for place in mounts:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("output", OUTPUTS)
def test_row_18_a_full_disk_leaves_nothing(output: str, series: Path, mounted: Callable[[str], Path], run: Run) -> None:
    disk = mounted("size=112k")
    command = ("upscale", series, disk / output, "--model", "linear")
    refuse(run, *command, code=6, words=("free", f"{output}'"), inputs=(series,), out=disk)


@pytest.mark.parametrize(
    "output",
    [name if name in ("thin", "thin.nii.gz") else pytest.param(name, marks=pytest.mark.heavy) for name in OUTPUTS],
)
def test_row_18_a_disk_that_fills_up_while_writing_leaves_nothing(output: str, series: Path, tmp_path: Path) -> None:
    """A limit for the size of each file: the system's error comes in the middle of the output, as on a full disk."""
    out = tmp_path / "out"
    out.mkdir()
    most_bytes = 5_000 if output == "thin" else 30_000
    done = subprocess.run(
        [sys.executable, "-m", "thinslice", "upscale", str(series), str(out / output), "--model", "linear"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
    )
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    assert outcome.code in (5, 6), outcome.err
    assert_sentence(outcome, f"{output}'")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("output", OUTPUTS)
def test_row_18_a_read_only_place_leaves_nothing(
    output: str, series: Path, mounted: Callable[[str], Path], run: Run
) -> None:
    disk = mounted("size=4m,ro")
    command = ("upscale", series, disk / output, "--model", "linear")
    refuse(run, *command, code=5, words=("read-only", f"{output}'", "choose another"), inputs=(series,), out=disk)


@pytest.mark.parametrize("output", OUTPUTS)
def test_row_18_an_output_that_exists_is_kept(output: str, series: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if output == "thin":
        (out / output).mkdir()
        (out / output / "mine.txt").write_text("mine")
    else:
        (out / output).write_text("mine")
    command = ("upscale", series, out / output, "--model", "linear")
    refuse(run, *command, code=5, words=("exists", f"{output}'", "--overwrite"), inputs=(series,), out=out)


@pytest.mark.parametrize("output", OUTPUTS)
def test_row_18_a_name_that_is_too_long_is_refused(output: str, series: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    out.mkdir()
    command = ("upscale", series, out / f"{'n' * 256}{output}", "--model", "linear")
    refuse(run, *command, code=5, words=("too long", "shorter"), inputs=(series,), out=out)


@pytest.mark.parametrize("option", ["--report", "--preview"])
@pytest.mark.parametrize("fault", ["missing folder", "too long", "folder"])
def test_row_18_a_report_or_preview_that_cannot_be_written_is_refused_before_the_work(
    option: str, fault: str, series: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    suffix = ".json" if option == "--report" else ".png"
    place = {
        "missing folder": out / "none" / f"a{suffix}",
        "too long": out / f"{'n' * 254}{suffix}",
        "folder": out / f"folder{suffix}",
    }[fault]
    if fault == "folder":
        place.mkdir()
    command = ("upscale", series, out / "thin.nii", "--model", "linear", option, place)
    outcome = refuse(run, *command, code=5, words=(), inputs=(series,), out=out)
    assert "100 %" not in outcome.err, "refused after the network ran"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: address space is limited there")
@pytest.mark.parametrize(
    ("source", "mib"),
    [
        *(("nifti", 0), ("dicom", 48), ("nifti", 160)),
        *(
            pytest.param(source, mib, marks=pytest.mark.heavy)
            for source in ("dicom", "nifti")
            for mib in (12, 24, 36, 72, 96, 128, 200, 240)
        ),
    ],
)
def test_row_19_short_memory_is_said_and_leaves_nothing(
    source: str, mib: int, tmp_path: Path, limited: Callable[..., Outcome]
) -> None:
    """Whatever allocation fails first (voxels, pages, a thread, a decoder): exit 6, or done where it fits."""
    path = tmp_path / "in"
    if source == "dicom":
        write_series(path, shape=(6, 320, 320))
    else:
        path = tmp_path / "in.nii"
        hu = np.random.default_rng(0).integers(-1000, 1000, (20, 320, 320)).astype(np.int16)
        thinslice.write(Volume(hu, Geometry(hu.shape, (5.0, 0.7, 0.7))), path)
    out = tmp_path / "out"
    out.mkdir()
    with untouched(path):
        outcome = limited(
            mib, "upscale", path, out / "thin.nii", "--model", "linear", loaded="thinslice.inference.upscale"
        )
    if outcome.code == 0:
        assert [each.name for each in out.iterdir()] == ["thin.nii"]
        return
    assert outcome.code == 6, f"exit {outcome.code}: {outcome.err[-2000:]}"
    assert_sentence(outcome, "memory")
    assert list(out.iterdir()) == []


def test_row_19_the_need_is_said_before_the_start_and_refused_where_it_does_not_fit(
    thick_nifti: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run("upscale", thick_nifti, tmp_path / "a.nii", "--model", "linear")
    assert outcome.code == 0 and "MiB of memory" in outcome.err.partition(" %")[0], "said before the work"
    # The machine with less memory is the kernel's report of it, not a part of the program.
    group = tmp_path / "cgroup"
    group.mkdir()
    (group / "memory.max").write_text(str(200 << 20))
    (group / "memory.current").write_text(str(150 << 20))
    monkeypatch.setattr("thinslice.system.resources._CGROUP", group)
    monkeypatch.setattr("thinslice.system.resources.control_groups", lambda controller: [group])
    out = tmp_path / "out"
    out.mkdir()
    command = ("upscale", thick_nifti, out / "b.nii", "--model", "linear")
    refuse(run, *command, code=6, words=("memory", "GiB"), inputs=(thick_nifti,), out=out)


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="needs CUDA")
def test_row_19_short_memory_of_the_gpu_falls_back(tmp_path: Path, run: Run) -> None:
    import torch

    write_series(tmp_path / "in", shape=(20, 256, 256))
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - (256 << 20)), dtype=torch.uint8, device="cuda")
    outcome = run("upscale", tmp_path / "in", tmp_path / "thin.nii", "--model", "best", "--device", "auto")
    del held
    torch.cuda.empty_cache()
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "thin.nii").is_file()


def test_row_21_of_two_runs_on_one_output_one_wins(tmp_path: Path) -> None:
    write_series(tmp_path / "in", shape=(24, 64, 64))
    out = tmp_path / "out"
    out.mkdir()
    command = [
        sys.executable,
        "-m",
        "thinslice",
        "upscale",
        str(tmp_path / "in"),
        str(out / "thin"),
        "--model",
        "linear",
    ]
    with untouched(tmp_path / "in"):
        runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
        ended = [(each.communicate()[1], each.returncode) for each in runs]
    codes = sorted(code for _, code in ended)
    assert codes == [0, 5, 5], ended
    for printed, code in ended:
        if code:
            assert_sentence(Outcome(code, "", printed), "thin'")
    assert [path.name for path in out.iterdir()] == ["thin"] and len(list((out / "thin").iterdir())) == 116
    assert thinslice.read(out / "thin").geometry.shape == (116, 64, 64)


def test_row_21_of_two_runs_on_one_download_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered, release = threading.Event(), threading.Event()

    def wait(handler: Any, content: bytes, span: tuple[int, int] | None) -> bool:
        answered.set()
        release.wait(120)
        return False

    with serve(Archive({"val.zip": split_zip(1)})) as archive:
        archive.on_file = wait
        monkeypatch.setenv("THINSLICE_DOI_RESOLVER", archive.address)
        command = [
            sys.executable,
            "-m",
            "thinslice",
            "dataset",
            "download",
            str(tmp_path),
            "--doi",
            DOI,
            "--split",
            "val",
        ]
        first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
        try:
            assert answered.wait(120)
            second = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            release.set()
        printed = first.communicate()[1]
    assert first.returncode == 0, printed
    assert second.returncode == 5, second.stderr
    assert_sentence(Outcome(5, "", second.stderr))
    assert {path.name for path in tmp_path.iterdir()} == {"val", ".val.downloaded.json"}
    assert content_of(tmp_path / "val")
