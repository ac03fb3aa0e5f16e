"""Faults of the machine end with their exit codes and one sentence; tried under real limits, by whole commands."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.command_line import smooth_volume
from support.limits import BECOME_OTHER_USER, PRIVATE_MOUNTS, run_limited, run_with_private_mounts
from support.unprivileged import run_unprivileged
from thinslice.errors import OutputError, ResourceError, ThinsliceError, UnreadableError
from thinslice.geometry import Geometry
from thinslice.io.files import write
from thinslice.system.faults import input_fault, machine_fault, output_fault, shortage
from thinslice.system.resources import available_memory_bytes
from thinslice.volume import Volume

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")

UPSCALE = [sys.executable, "-m", "thinslice", "upscale"]
PLAIN = ["--model", "linear", "--quiet", "--threads", "1"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that a user without privileges can reach, with a thick volume in it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        write(smooth_volume(depth=6, plane=48), Path(folder) / "thick.nii")
        yield Path(folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def error_of(run: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr; anything more, or a traceback, fails."""
    lines = run.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), run.stderr
    assert "internal error" not in lines[0]
    return lines[0]


@pytest.mark.parametrize("name", ["thin.nii", "thin.nrrd", "thin.mhd"])
def test_a_limit_of_file_sizes_is_an_output_error_and_leaves_nothing(place: Path, name: str) -> None:
    run = run_limited([*UPSCALE, str(place / "thick.nii"), str(place / name), *PLAIN], "-f 16")
    assert run.returncode == 5
    assert f"Cannot write '{name}': it is larger" in error_of(run)
    assert names(place) == ["thick.nii"]


def test_memory_that_a_limit_refuses_is_said_to_be_short(tmp_path: Path) -> None:
    large = Volume(np.zeros((60, 512, 512), np.int16), Geometry((60, 512, 512), (5.0, 0.7, 0.7)))
    large.hu[:, ::2] = -1000
    write(large, tmp_path / "thick.nii")
    codes = set()
    for kib in (90_000, 250_000, 800_000, 1_050_000, 1_200_000):
        run = run_limited(
            [*UPSCALE, str(tmp_path / "thick.nii"), str(tmp_path / "thin.nii"), *PLAIN, "--overwrite"],
            f"-v {kib}",
            variables={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        codes.add(run.returncode)
        if run.returncode:
            error_of(run)
    assert 6 in codes
    assert codes <= {0, 6}


def test_the_memory_left_to_a_process_ends_at_its_limit() -> None:
    code = "from thinslice.system.resources import available_memory_bytes as a; print(a())"
    run = run_limited([sys.executable, "-c", code], "-v 800000")
    assert 0 < int(run.stdout) < 800_000 << 10
    assert available_memory_bytes() != int(run.stdout)


UNPRIVILEGED = """
import contextlib, io, os, sys, tempfile
from pathlib import Path
from thinslice.cli import main
# The same command with privileges first: modules may lie where another user cannot read.
with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
    try:
        main([*sys.argv[1:3], os.path.join(folder, Path(sys.argv[3]).name), *sys.argv[4:]])
    except SystemExit as leaving:
        assert leaving.code == 0
{become}
{limits}
main(sys.argv[1:])
"""


def unprivileged(*arguments: object, limits: str = "") -> subprocess.CompletedProcess[str]:
    """A command run by a user without privileges."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            UNPRIVILEGED.format(become=BECOME_OTHER_USER, limits=limits),
            *map(str, [*arguments, *PLAIN]),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "THINSLICE_CACHE_DIR": ""},
    )


def test_an_output_where_nothing_may_be_written_is_5_and_an_input_that_may_not_be_read_is_3(tmp_path: Path) -> None:
    locked, other = tmp_path / "locked", tmp_path / "other"
    locked.mkdir()
    other.mkdir()
    write(smooth_volume(depth=6, plane=48), locked / "thick.nii")
    locked.chmod(0o555)
    run = run_unprivileged("upscale", locked / "thick.nii", locked / "thin.nii", *PLAIN)
    assert run.returncode == 5
    assert "read-only or not yours" in error_of(run)
    (locked / "thick.nii").chmod(0)
    for mode in (0o555, 0):  # the file may not be read; then the folder may not be searched
        locked.chmod(mode)
        run = run_unprivileged("upscale", locked / "thick.nii", other / "thin.nii", *PLAIN)
        assert run.returncode == 3
        assert "check" in error_of(run)
    locked.chmod(0o755)
    assert names(other) == []


def test_threads_that_the_system_does_not_start_are_6(place: Path) -> None:
    place.chmod(0o777)
    run = unprivileged(
        "upscale",
        place / "thick.nii",
        place / "thin.nii.gz",
        limits="resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))",
    )
    assert run.returncode == 6
    assert "no more threads or processes" in error_of(run)
    assert names(place) == ["thick.nii"]


def test_too_many_open_files_are_6(place: Path) -> None:
    place.chmod(0o777)
    run = unprivileged(
        "upscale", place / "thick.nii", place / "thin.nii", limits="resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))"
    )
    assert run.returncode == 6
    assert "raise the limit (ulimit -n)" in error_of(run)


@pytest.mark.skipif(not PRIVATE_MOUNTS, reason="no private mounts")
@pytest.mark.parametrize("name", ["thin.nii.gz", "thin.mhd"])
def test_a_read_only_disk_is_5_and_a_full_one_is_6(place: Path, name: str) -> None:
    (place / "disk").mkdir()
    for options, code, words in (("size=1m,ro", 5, "read-only"), ("size=16k", 6, "free")):
        run = run_with_private_mounts(
            [f"mount -t tmpfs -o {options} tmpfs {place}/disk"],
            [*UPSCALE, str(place / "thick.nii"), str(place / "disk" / name), *PLAIN],
        )
        assert run.returncode == code, run.stderr
        assert words in error_of(run)


@pytest.mark.parametrize(
    ("code", "as_output", "as_input"),
    [
        (errno.ENOSPC, ResourceError, UnreadableError),
        (errno.EDQUOT, ResourceError, UnreadableError),
        (errno.EFBIG, OutputError, UnreadableError),
        (errno.EIO, OutputError, UnreadableError),
        (errno.EROFS, OutputError, UnreadableError),
        (errno.EACCES, OutputError, UnreadableError),
        (errno.EPERM, OutputError, UnreadableError),
        (errno.ENOTDIR, OutputError, UnreadableError),
        (errno.ELOOP, OutputError, UnreadableError),
        (errno.ENAMETOOLONG, OutputError, UnreadableError),
        (errno.ENOENT, OutputError, UnreadableError),
        (errno.ESTALE, OutputError, UnreadableError),
        (errno.ENOMEM, ResourceError, ResourceError),
        (errno.EAGAIN, ResourceError, ResourceError),
        (errno.EMFILE, ResourceError, ResourceError),
        (errno.ENFILE, ResourceError, ResourceError),
    ],
)
def test_every_number_of_the_system_has_its_error_on_either_side(
    code: int, as_output: type[ThinsliceError], as_input: type[ThinsliceError]
) -> None:
    error = OSError(code, os.strerror(code), "/a/b.nii")
    for fault, kind in ((output_fault(error, "b.nii"), as_output), (input_fault(error, "b.nii"), as_input)):
        assert type(fault) is kind
        assert "/a/" not in str(fault)


def test_what_nobody_translated_is_placed_by_its_number_and_its_file(tmp_path: Path) -> None:
    there = tmp_path / "scan.nii"
    there.write_bytes(b"")
    for code, file, exit_code in (
        (errno.EIO, there, 3),
        (errno.EACCES, there, 3),
        (errno.EACCES, tmp_path / "new.nii", 5),
        (errno.EROFS, there, 5),
        (errno.EFBIG, None, 5),
        (errno.ENOSPC, None, 6),
        (errno.ENAMETOOLONG, tmp_path / ("n" * 300), 5),
        (errno.ENOENT, tmp_path / "missing.nii", 3),
    ):
        fault = machine_fault(OSError(code, os.strerror(code), None if file is None else str(file)))
        assert fault is not None and fault.exit_code == exit_code, code


def test_faults_of_thinslice_stay_its_own() -> None:
    for error in (
        KeyError("x"),
        RuntimeError("shapes differ"),
        ValueError("memory"),
        FileExistsError(errno.EEXIST, "File exists", "x"),
        OSError(errno.EBADF, "Bad file descriptor"),
        ImportError("no module named x"),
    ):
        assert machine_fault(error) is None


def test_memory_and_threads_are_recognised_in_errors_of_libraries() -> None:
    for error in (
        MemoryError(),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ):
        fault = shortage(error)
        assert fault is not None and fault.exit_code == 6
