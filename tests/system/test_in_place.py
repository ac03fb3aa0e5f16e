"""Folders that cannot be renamed onto are filled where they are, and a killed run is completed or undone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.limits import PRIVATE_MOUNTS, run_with_private_mounts
from thinslice.errors import OutputBusyError, OutputExistsError
from thinslice.system.atomic import atomic_directory, require_place


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


@pytest.fixture
def current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which a rename would take from under the user."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_current_folder_is_filled_and_stays_the_same_folder(current: Path) -> None:
    inode = current.stat().st_ino
    require_place(current, folder=True)
    with atomic_directory(current) as partial:
        (partial / "a").write_bytes(b"a")
        (partial / "deep").mkdir()
        (partial / "deep" / "b").write_bytes(b"b")
        assert all(name.startswith(".thinslice.") for name in names(current))
    assert names(current) == {"a", "deep"}
    assert names(Path()) == {"a", "deep"}
    assert current.stat().st_ino == inode


def test_an_error_leaves_the_folder_as_it_was(current: Path) -> None:
    (current / "old").write_bytes(b"old")
    with pytest.raises(OutputExistsError), atomic_directory(current):
        pytest.fail("must not start")
    with pytest.raises(KeyboardInterrupt), atomic_directory(current, overwrite=True) as partial:
        (partial / "new").write_bytes(b"new")
        raise KeyboardInterrupt
    assert names(current) == {"old"}
    with atomic_directory(current, overwrite=True) as partial:
        (partial / "new").write_bytes(b"new")
    assert names(current) == {"new"}


def test_of_two_runs_in_one_folder_one_wins(current: Path) -> None:
    with atomic_directory(current) as partial:
        (partial / "a").write_bytes(b"a")
        with pytest.raises(OutputBusyError), atomic_directory(current):
            pytest.fail("must not start")
    assert names(current) == {"a"}


KILLED = """
import os, pathlib, signal, sys
from thinslice.system.atomic import atomic_directory
left = int(sys.argv[1])
rename = pathlib.Path.rename
def counted(self, to):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return rename(self, to)
pathlib.Path.rename = counted
with atomic_directory(".", overwrite=True) as partial:
    for name in ("new1", "new2", "both"):
        (partial / name).write_text("new")
print("survived")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX system")
@pytest.mark.parametrize("renames", range(8))
def test_a_run_killed_between_any_two_renames_is_undone_or_completed(current: Path, renames: int) -> None:
    for name in ("old1", "both"):
        (current / name).write_text("old")
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(renames)], capture_output=True, text=True, check=False, cwd=current
    )
    old, new = {"old1": "old", "both": "old"}, {"new1": "new", "new2": "new", "both": "new"}
    completed = run.returncode == 0
    assert completed or run.returncode == -9, run.stderr
    # The next run, which fails, recovers first.
    with pytest.raises(RuntimeError), atomic_directory(current, overwrite=True):
        raise RuntimeError
    found = {path.name: path.read_text() for path in current.iterdir()}
    # Two old entries leave, then the new folder is declared complete: from then on the new content stands.
    assert found == (old if renames <= 2 else new)
    assert completed == (renames >= 6)


MOUNTED = """
import os, sys
from pathlib import Path
from thinslice.errors import ThinsliceError
from thinslice.system.atomic import atomic_directory, require_place
target = Path(sys.argv[1])
(target / "lost+found").mkdir()
require_place(target, folder=True)
with atomic_directory(target) as partial:
    (partial / "a").write_bytes(b"a")
with atomic_directory(target, overwrite=True) as partial:
    (partial / "b").write_bytes(b"b")
print(sorted(os.listdir(target)), os.path.ismount(target), flush=True)
try:
    with atomic_directory(target, overwrite=True) as partial:
        (partial / "c").write_bytes(bytes(2 << 20))
except ThinsliceError as error:
    print(error.exit_code, error, sorted(os.listdir(target)))
"""


@pytest.mark.skipif(not PRIVATE_MOUNTS, reason="no private mounts")
def test_a_mount_point_is_filled_replaced_and_kept_when_it_is_full(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    lines = run_with_private_mounts(
        [f"mount -t tmpfs -o size=1m tmpfs {tmp_path}/disk"],
        [sys.executable, "-c", MOUNTED, str(tmp_path / "disk")],
    ).stdout.splitlines()
    assert lines[0] == "['b', 'lost+found'] True"
    assert lines[1].startswith("6 The disk is full while writing 'disk'")
    assert lines[1].endswith("['b', 'lost+found']")


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
def test_links_to_a_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_directory(tmp_path / "link") as partial:
        (partial / "a").write_bytes(b"a")
    assert names(tmp_path / "real") == {"a"}
    assert (tmp_path / "link").is_symlink()
