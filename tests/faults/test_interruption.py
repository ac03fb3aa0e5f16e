"""Row 20: a run that is terminated or killed, and many runs in one process."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import thinslice
from support.command_line import Outcome
from support.dicom_factory import write_series
from support.fault_checks import assert_sentence, untouched

pytestmark = [pytest.mark.faults, pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")]

SCRIPT = Path(__file__).resolve().parents[2] / "fuzz" / "kill.py"


@pytest.mark.parametrize("output", ["thin", "thin.nii.gz", "thin.mhd"])
def test_row_20_a_terminated_run_leaves_nothing(output: str, tmp_path: Path) -> None:
    write_series(tmp_path / "in", shape=(60, 128, 128))
    out = tmp_path / "out"
    out.mkdir()
    command = [
        sys.executable,
        "-m",
        "thinslice",
        "upscale",
        str(tmp_path / "in"),
        str(out / output),
        "--model",
        "cubic",
    ]
    with untouched(tmp_path / "in"):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        # The announcement of the memory comes just before the network and the writer begin.
        printed = process.stderr.readline()
        while "MiB of memory" not in printed:
            printed = process.stderr.readline()
            assert printed, "the run ended"
        process.send_signal(signal.SIGTERM)
        rest = process.communicate()[1]
    if process.returncode == 0:
        pytest.fail("the run ended before the signal; make the volume larger")
    assert process.returncode == 130, rest
    assert_sentence(Outcome(130, "", rest), "interrupted")
    assert list(out.iterdir()) == []


def killing() -> ModuleType:
    """The script that kills, as a module."""
    spec = importlib.util.spec_from_file_location("fuzz_kill", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="forks are unsafe elsewhere: not Linux")
@pytest.mark.parametrize(("kind", "count"), [("upscale", 8), ("batch", 3), ("train", 2)])
def test_row_20_sigkill_at_a_random_moment_loses_nothing(kind: str, count: int) -> None:
    command = [sys.executable, str(SCRIPT), kind, "--count", str(count), "--seed", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "broken 0" in done.stdout


def test_row_20_the_judge_of_killed_runs_finds_half_an_output(tmp_path: Path) -> None:
    """What judges the runs that are killed is no judge that finds nothing."""
    kill = killing()
    task = kill.Task(lambda out: [], lambda out: None, (("a.mhd", "a.raw"),))
    (tmp_path / "a.mhd").write_text("new")
    (tmp_path / "a.raw").write_text("new")
    new = kill.digests(tmp_path)
    (tmp_path / "a.mhd").write_text("old")
    assert kill.judge(task, tmp_path, new, {}) != []
    (tmp_path / "a.mhd").write_text("new")
    assert kill.judge(task, tmp_path, new, {}) == []
    (tmp_path / "a.raw").unlink()
    assert kill.judge(task, tmp_path, new, {}) != []


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: handles and memory are read from /proc")
def test_row_20_two_hundred_volumes_in_one_process_keep_memory_and_handles_flat(tmp_path: Path) -> None:
    sources = []
    for encoding in ("explicit", "jpeg_ls"):
        write_series(tmp_path / encoding, shape=(6, 96, 96), transfer_syntax=encoding)
        sources.append(tmp_path / encoding)
    thinslice.write(thinslice.read(sources[0]), tmp_path / "thick.nii.gz")
    sources.append(tmp_path / "thick.nii.gz")

    def resident_mib() -> float:
        gc.collect()
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    handles, memory = [], []
    for number in range(200):
        volume = thinslice.read(sources[number % 3])
        thin = thinslice.upscale(volume, model="default", device="cpu", backend="torch", threads=1)
        thinslice.write(thin, tmp_path / "thin.nii.gz", overwrite=True)
        if number % 3 != 2:
            thinslice.write(thin, tmp_path / "thin", overwrite=True)
        del volume, thin
        if (number >= 20 and number % 20 == 0) or number == 199:
            memory.append(resident_mib())
            handles.append(len(list(Path("/proc/self/fd").iterdir())))
    print("resident MiB", [round(value) for value in memory], "handles", handles)
    assert max(memory) <= 1.05 * memory[0], memory
    assert max(handles) <= handles[0], handles
    assert len(np.unique(handles)) == 1
