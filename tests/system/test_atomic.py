"""Outputs appear whole or not at all, and of two runs one wins."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thinslice.errors import OutputBusyError, OutputError, OutputExistsError, ResourceError
from thinslice.system.atomic import atomic_directory, atomic_file, output_errors, require_place

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX system")


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_file_appears_at_the_end_and_only_it(tmp_path: Path) -> None:
    target = tmp_path / "out.nii.gz"
    with atomic_file(target) as partial:
        assert partial.parent == tmp_path
        assert partial.name.endswith("out.nii.gz")
        partial.write_bytes(b"voxels")
        assert not target.exists()
    assert target.read_bytes() == b"voxels"
    assert names(tmp_path) == {"out.nii.gz"}


def test_directory_appears_at_the_end_and_only_it(tmp_path: Path) -> None:
    target = tmp_path / "series"
    with atomic_directory(target) as partial:
        (partial / "a.dcm").write_bytes(b"a")
        (partial / "deep").mkdir()
        (partial / "deep" / "b.dcm").write_bytes(b"b")
        assert not target.exists()
    assert names(tmp_path) == {"series"}
    assert (target / "deep" / "b.dcm").read_bytes() == b"b"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_on_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_file(tmp_path / "a") as partial:
        partial.write_bytes(b"half")
        raise error
    with pytest.raises(error), atomic_directory(tmp_path / "b") as partial:
        (partial / "half").write_bytes(b"half")
        raise error
    assert names(tmp_path) == set()


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_existing_output_survives_an_error(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_bytes(b"old")
    expected = RuntimeError if overwrite else OutputExistsError
    for opened in (
        atomic_file(tmp_path / "file", overwrite=overwrite),
        atomic_directory(tmp_path / "folder", overwrite=overwrite),
    ):
        with pytest.raises(expected), opened:
            raise RuntimeError
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path / "folder") == {"old"}
    assert names(tmp_path) == {"file", "folder"}


def test_overwrite_replaces_everything(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_bytes(b"old")
    with atomic_file(tmp_path / "file", overwrite=True) as partial:
        partial.write_bytes(b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
    with atomic_directory(tmp_path / "folder", overwrite=True) as partial:
        (partial / "new").write_bytes(b"new")
        assert names(tmp_path / "folder") == {"old"}
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path / "folder") == {"new"}
    assert names(tmp_path) == {"file", "folder"}


def test_an_output_that_turns_up_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError), atomic_file(tmp_path / "file") as partial:
        partial.write_bytes(b"ours")
        (tmp_path / "file").write_bytes(b"theirs")
    with pytest.raises(OutputExistsError), atomic_directory(tmp_path / "folder"):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "theirs").write_bytes(b"theirs")
    assert (tmp_path / "file").read_bytes() == b"theirs"
    assert names(tmp_path) == {"file", "folder"}


def test_a_file_is_no_folder_and_the_reverse(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is a file"), atomic_directory(tmp_path / "file", overwrite=True):
        pytest.fail("must not start")
    with pytest.raises(OutputError, match="is a folder"), atomic_file(tmp_path / "folder", overwrite=True):
        pytest.fail("must not start")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_missing_parent_is_named_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened = atomic_file("results/day 1/out.nii")
    named = "^The folder 'results/day 1', .* does not exist; create it"
    with pytest.raises(OutputError, match=named), opened:
        pytest.fail("must not start")
    with pytest.raises(OutputError, match=named):
        require_place("results/day 1/out.nii", folder=False)


def test_of_two_runs_one_wins(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_directory(target) as first:
        with pytest.raises(OutputError, match="Another run is writing 'out'"), atomic_directory(target):
            pytest.fail("must not start")
        with pytest.raises(OutputError, match="Another run"), atomic_file(target, overwrite=True):
            pytest.fail("must not start")
        (first / "mine").write_bytes(b"1")
    assert names(target) == {"mine"}
    assert names(tmp_path) == {"out"}


@POSIX
def test_a_lock_that_vanished_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    flock, calls = fcntl.flock, []

    def vanish_once(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / ".out.lock").unlink()  # as the run before us does when it ends
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", vanish_once)
    with atomic_directory(tmp_path / "out"):
        assert (tmp_path / ".out.lock").exists()
        with pytest.raises(OutputError, match="Another run"), atomic_directory(tmp_path / "out"):
            pytest.fail("must not start")
    assert names(tmp_path) == {"out"}


@POSIX
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_lock_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    import fcntl

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    remains = tmp_path / ".0123456789ab.partial.out"
    remains.write_bytes(b"perhaps of a run that is at work")
    with atomic_file(tmp_path / "out") as partial:
        partial.write_bytes(b"voxels")
    assert (tmp_path / "out").read_bytes() == b"voxels"
    assert names(tmp_path) == {"out", remains.name}


COMPETITOR = """
import sys, time
from pathlib import Path
from thinslice.errors import OutputBusyError
from thinslice.system.atomic import atomic_directory
target, mark = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
try:
    with atomic_directory(target) as partial:
        (partial / mark).write_bytes(b"")
        print("won", flush=True)
        sys.stdin.readline()
except OutputBusyError as error:
    print(f"{error.exit_code} {error}", flush=True)
"""


def test_of_two_processes_one_wins_and_the_other_exits_with_5(tmp_path: Path) -> None:
    target = tmp_path / "out"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", COMPETITOR, str(target), mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mark in ("a", "b")
    ]
    assert [run.stdout.readline() for run in runs] == ["ready\n", "ready\n"]
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    results = [run.stdout.readline().strip() for run in runs]
    for run in runs:
        run.communicate("end\n")
    busy = "5 Another run is writing 'out'; wait for it to end, or choose another output."
    assert sorted(results) == [busy, "won"]
    assert names(tmp_path) == {"out"}
    assert names(target) == {"ab"[results.index("won")]}


KILLED = """
import os, signal, sys
from thinslice.system import atomic
target = sys.argv[1]
if sys.argv[2] == "filling":
    with atomic.atomic_directory(target, overwrite=True) as partial:
        (partial / "half").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
else:
    atomic.Path.rename = lambda self, to: (os.rename(self, to), os.kill(os.getpid(), signal.SIGKILL))
    with atomic.atomic_directory(target, overwrite=True) as partial:
        (partial / "new").write_bytes(b"new")
"""


@POSIX
@pytest.mark.parametrize("moment", ["filling", "replacing"])
def test_a_killed_run_blocks_nobody_and_loses_nothing(tmp_path: Path, moment: str) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_bytes(b"old")
    process = subprocess.run([sys.executable, "-c", KILLED, str(target), moment], check=False)
    assert process.returncode == -9
    assert len(names(tmp_path)) > 1, "the killed run should have left something, or this test proves nothing"
    # A later run that fails as well must leave the old folder as it was.
    with pytest.raises(RuntimeError), atomic_directory(target, overwrite=True):
        raise RuntimeError
    assert names(tmp_path) == {"out"}
    assert names(target) == {"old"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_resource_error(tmp_path: Path, code: int) -> None:
    with (
        pytest.raises(ResourceError, match="disk is full while writing 'out'"),
        atomic_file(tmp_path / "out") as p,
    ):
        p.write_bytes(b"half")
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_truly_full_device_is_a_resource_error() -> None:
    with pytest.raises(ResourceError), output_errors(Path("/dev/full")), Path("/dev/full").open("wb") as full:
        full.write(b"x" * 100_000)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="read-only"), atomic_file(tmp_path / "out"):
            pytest.fail("must not start")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system where nobody can create files")
def test_a_place_that_takes_no_files_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="Cannot write 'out'"), atomic_directory(Path("/proc/self/out")):
        pytest.fail("must not start")


def test_trouble_with_the_input_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "out"):
        (tmp_path / "input").read_bytes()
    assert names(tmp_path) == set()


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    with atomic_directory(tmp_path / "link") as partial:
        (partial / "a").write_bytes(b"a")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "disk" / "real") == {"a"}


@pytest.mark.parametrize("name", ["n" * 256, "n" * 300 + ".nii.gz", "\u00e4" * 128])
def test_a_name_of_more_than_255_bytes_is_an_output_error(tmp_path: Path, name: str) -> None:
    for make in (atomic_file, atomic_directory):
        with pytest.raises(OutputError, match="too long"), make(tmp_path / name):
            pytest.fail("must not start")
    with pytest.raises(OutputError, match="permits 255"):
        require_place(tmp_path / name, folder=False)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["n" * 255, "n" * 248 + ".nii.gz", "\u00e4" * 127])
def test_a_name_of_255_bytes_is_written_and_its_remains_are_cleared(tmp_path: Path, name: str) -> None:
    require_place(tmp_path / name, folder=False)
    with atomic_file(tmp_path / name) as partial:
        assert partial.name.endswith("".join(Path(name).suffixes))
        partial.write_bytes(b"voxels")
        left = partial
    left.write_bytes(b"of a killed run")
    with atomic_file(tmp_path / name, overwrite=True) as partial:
        partial.write_bytes(b"new")
    assert names(tmp_path) == {name}


def test_an_empty_folder_is_filled_without_overwrite_and_keeps_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir(mode=0o750)
    target.chmod(0o750)
    require_place(target, folder=True)
    with atomic_directory(target) as partial:
        (partial / "a").write_bytes(b"a")
        assert names(target) == set()
    assert names(target) == {"a"}
    assert names(tmp_path) == {"out"}
    assert target.stat().st_mode & 0o777 == 0o750
    with pytest.raises(OutputExistsError):
        require_place(target, folder=True)


def test_the_check_of_an_output_leaves_nothing_and_refuses_what_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    require_place(tmp_path / "new", folder=True)
    require_place(tmp_path / "file", folder=False, overwrite=True)
    for path, folder, words in (
        ("file", False, "overwrite=True"),
        ("file/new", False, "does not exist"),
        (".", False, "is a folder|overwrite=True"),
    ):
        with pytest.raises(OutputError, match=words):
            require_place(tmp_path / path, folder=folder)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(OutputError):
        require_place(tmp_path / "circle" / "out", folder=False)
    assert names(tmp_path) == {"file", "circle"}


@pytest.mark.parametrize("folder", [False, True])
def test_a_place_is_refused_before_any_work_for_the_reason_that_the_writer_would_give(
    tmp_path: Path, folder: bool
) -> None:
    require_place(tmp_path / "out", folder=folder)
    assert names(tmp_path) == set()
    with pytest.raises(OutputError, match="does not exist"):
        require_place(tmp_path / "absent" / "out", folder=folder)
    with atomic_file(tmp_path / "out") as partial:
        with pytest.raises(OutputBusyError):
            require_place(tmp_path / "out", folder=folder)
        partial.write_bytes(b"voxels")
    with pytest.raises(OutputExistsError):
        require_place(tmp_path / "out", folder=folder)
    if folder:
        with pytest.raises(OutputError, match="is a file"):
            require_place(tmp_path / "out", folder=True, overwrite=True)


def test_forgetting_to_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Nothing was written"), atomic_file(tmp_path / "out"):
        pass
    assert names(tmp_path) == set()
