"""Files and folders that appear whole, under their final name, or not at all.

The output is written to a sibling whose name starts with a dot, and renamed at the end. A lock beside it lets one of
two runs win. The kernel releases the lock when a process dies, so a killed run blocks no other: the next one on the
same output removes its remains, and restores a folder that was being replaced.

A folder that exists and is empty is filled as if it were not there. One that cannot be renamed onto (a mount point, the
current folder, a folder in a read-only one) is filled by `thinslice.system.in_place`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from thinslice.errors import OutputBusyError, OutputError, OutputExistsError, ResourceError
from thinslice.options import option
from thinslice.system.faults import DISK_FULL_CODES, output_fault
from thinslice.system.in_place import Journal, entries, must_stay, recover

_OF_WRITING = frozenset({errno.EROFS, errno.EFBIG, errno.EIO, getattr(errno, "ESTALE", errno.EIO)})
"""Errors that concern the output although they name no file: readers translate their own."""

NOT_SYNCED_CODES = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM})
"""Answers of file systems that cannot push a file to the disk; any other answer means that data may be lost."""

LOCK_WAIT_S = 0.1
"""How long a lock is tried: a run that is just ending removes its lock's file, and another file must be made."""

_LONGEST_IN_HIDDEN = 200
"""Bytes of a name up to which it stands as a whole in hidden names, which have up to 30 bytes more."""

_PARTIAL = ".partial."
"""Between the leading token and the final name, which comes last so that the suffix stays at the end."""


@contextmanager
def output_errors(path: Path, name: str | None = None) -> Iterator[None]:
    """Turn the operating system's errors about an output into those of thinslice.

    A full or failing disk and a limit of file sizes concern the output, whichever call failed; another error only when
    it names a file in the output, so that an error of reading the input stays as it is.

    Args:
        path: the output being written, or the folder or file it is prepared in.
        name: of the output in messages; that of `path` unless set.

    Raises:
        ResourceError: the disk or the quota is full; free some space, then run again.
        OutputError: the output cannot be written; choose another place.
    """
    try:
        yield
    except OSError as error:
        raised = _translate(error, path, name)
        if raised is None:
            raise
        raise raised from error


@contextmanager
def place_named(path: Path) -> Iterator[None]:
    """Name a file in the errors of the operating system that name none, as those of writing and closing.

    `output_errors` recognises an output by its name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _translate(error: OSError, path: Path, name: str | None = None) -> OutputError | ResourceError | None:
    """The OutputError or ResourceError for one of the operating system; None when it does not concern the output."""
    about = [Path(at) for at in (error.filename, error.filename2) if isinstance(at, str | os.PathLike)]
    concerns = (
        error.errno in DISK_FULL_CODES
        or (error.errno in _OF_WRITING and (not about or error.errno == errno.EROFS))
        or any(at.is_relative_to(path) for at in about)
    )
    return output_fault(error, path.name if name is None else name) if concerns else None


def require_place(path: str | Path, *, overwrite: bool = False, folder: bool = False) -> None:
    """Refuse an output that could not be made, before any work: its lock is taken and released, and nothing is left.

    Args:
        path: the file or folder to be made.
        overwrite: whether one that is there may be replaced.
        folder: whether it will be a folder.

    Raises:
        OutputExistsError: it exists, and `overwrite` is False; an empty folder counts as missing. Pass --overwrite.
        OutputError: the folder it lies in is missing or cannot be written, its name is too long, or a file stands in
            place of a folder or the reverse; choose another output.
        OutputBusyError: another run is writing it; wait for it to end.
        ResourceError: the disk is full; free some space.
    """
    target = _target(path)
    stays = folder and must_stay(target)
    try:
        if not stays:
            _refuse_existing(target, overwrite, folder=folder)
        with _exclusive(target, _lock_inside(target) if stays else _lock_beside(target)) as locked:
            if stays and locked:
                recover(target)
            _refuse_existing(target, overwrite, folder=folder)
    except OSError as error:
        raise output_fault(error, target.name) from error


def _longest_name(folder: Path) -> int:
    """Bytes that the name of a file in a folder may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows, or a file system that does not say
        return 255


@contextmanager
def atomic_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write one file so that it appears whole or not at all.

    Args:
        path: the file to make. Its folder must exist.
        overwrite: replace a file that is there, once the new one is complete.

    Yields:
        Where to write: a path in the same folder whose name ends in that of `path`. It is renamed when the
        block ends well and removed when the block raises, KeyboardInterrupt included.

    Raises:
        OutputExistsError: it exists, at the start or by the end, and `overwrite` is False; pass --overwrite.
        OutputError: it cannot be written there; choose another output.
        OutputBusyError: another run is writing it; wait for it to end.
        ResourceError: the disk is full; free some space.
    """
    target = _target(path)
    with _prepared(target, overwrite, folder=False) as partial:
        yield partial
        if not partial.is_file():
            raise OutputError(f"Nothing was written to {target.name!r}; report this fault of the writer.")
        sync(partial)
        _refuse_existing(target, overwrite, folder=False)
        if overwrite:
            partial.replace(target)
        else:
            _rename_file_exclusively(partial, target)


@contextmanager
def atomic_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Fill one folder so that it appears whole or not at all.

    Args:
        path: the folder to make. The folder it lies in must exist.
        overwrite: replace a folder that is there, and everything in it, once the new one is complete. An empty one
            is filled without it.

    Yields:
        An empty folder beside `path`, or in it, to fill. It is renamed when the block ends well and removed when the
        block raises, KeyboardInterrupt included.

    Raises:
        OutputExistsError: it exists, at the start or by the end, and `overwrite` is False; pass --overwrite.
        OutputError: it cannot be written there; choose another output.
        OutputBusyError: another run is writing it; wait for it to end.
        ResourceError: the disk is full; free some space.
    """
    target = _target(path)
    if must_stay(target):
        with _filled_in_place(target, overwrite) as partial:
            yield partial
        return
    with _prepared(target, overwrite, folder=True) as partial:
        partial.mkdir()
        yield partial
        _sync_folder(partial)
        _refuse_existing(target, overwrite, folder=True)
        if target.exists():
            # The new folder takes the place of the old one, with its permissions.
            with contextlib.suppress(OSError):
                shutil.copymode(target, partial)
            aside = _aside(target)
            target.rename(aside)
            try:
                partial.rename(target)
            except BaseException:
                aside.rename(target)
                raise
            shutil.rmtree(aside, ignore_errors=True)
        else:
            partial.rename(target)


@contextmanager
def _filled_in_place(target: Path, overwrite: bool) -> Iterator[Path]:
    """Fill a folder that must stay where it is; see `thinslice.system.in_place`."""
    journal = Journal(target)
    try:
        with _exclusive(target, _lock_inside(target)) as locked:
            if locked:
                recover(target)
            _refuse_existing(target, overwrite, folder=True)
            with journal as partial:
                yield partial
                _sync_folder(partial)
                _refuse_existing(target, overwrite, folder=True)
                journal.commit()
            sync(target)
    except OSError as error:
        raised = _translate(error, target)
        if raised is None:
            raise
        raise raised from error


def _sync_folder(folder: Path) -> None:
    content = [path for path in folder.rglob("*") if not path.is_symlink()]
    # The disk gathers requests that wait at the same time: eight at once take a tenth of the time of one by one.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sync, [*content, folder]))


@contextmanager
def sole_run(path: str | Path) -> Iterator[None]:
    """Reserve a place for one run as long as the block lasts: for work that is not one file or folder.

    The kernel releases it when the process dies, so a killed run blocks no other.

    Args:
        path: names the work; it need not exist, the folder it lies in must.

    Raises:
        OutputBusyError: another run holds it; wait for it to end.
        OutputError: the folder cannot be written; choose another output.
    """
    target = _target(path)
    with _exclusive(target, _lock_beside(target)):
        yield


def _target(path: str | Path) -> Path:
    """The real place behind a path: a symbolic link is written through, not replaced."""
    try:
        target = Path(path).resolve()
        if not target.name:
            raise OutputError("The output is the root of a file system; name a file or folder in it.")
        if not target.parent.is_dir():
            raise OutputError(
                f"The folder {str(Path(path).parent)!r}, which should hold {target.name!r}, does not exist; create it "
                "first."
            )
        size, longest = len(os.fsencode(target.name)), _longest_name(target.parent)
        if size > longest:
            raise OutputError(
                f"The name of the output is too long: {size} bytes, and the file system permits {longest}; choose a "
                "shorter one."
            )
    except (OSError, RuntimeError) as error:  # a name too long, a circle of links, a folder that may not be searched
        if isinstance(error, OSError):
            raise output_fault(error, Path(path).name) from error
        raise OutputError(f"Cannot write {Path(path).name!r}: its path is a circle of links.") from error
    return target


def _hidden(target: Path) -> str:
    """The part of hidden names that stands for the output: its name, shortened where it leaves no room for a prefix.

    A shortened name still ends in the output's suffixes, which writers go by.
    """
    name = target.name
    if len(os.fsencode(name)) <= _LONGEST_IN_HIDDEN:
        return name
    ending = "".join(Path(name[-24:]).suffixes[-2:])
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:32] + ending


def _lock_beside(target: Path) -> Path:
    return target.with_name(f".{_hidden(target)}.lock")


def _lock_inside(folder: Path) -> Path:
    return folder / ".thinslice.lock"


def _aside(target: Path) -> Path:
    """Name of a folder that is being replaced, until its successor is in place."""
    return target.with_name(f".{_hidden(target)}.previous")


@contextmanager
def _prepared(target: Path, overwrite: bool, *, folder: bool) -> Iterator[Path]:
    """A free temporary name beside `target`, under its lock; the file or folder of that name is removed on error."""
    partial = target.with_name(f".{uuid.uuid4().hex[:12]}{_PARTIAL}{_hidden(target)}")
    try:
        with _exclusive(target, _lock_beside(target)) as locked:
            if locked:
                _clear_remains(target)
            _refuse_existing(target, overwrite, folder=folder)
            try:
                yield partial
            except BaseException:
                _remove(partial)
                raise
            sync(target.parent)
    except OSError as error:
        raised = _translate(error, partial, target.name) or _translate(error, target)
        if raised is None:
            raise
        raise raised from error


def _refuse_existing(target: Path, overwrite: bool, *, folder: bool) -> None:
    """Raise OutputExistsError without `overwrite`, and OutputError for a file in place of a folder or the reverse.

    A folder without entries is as good as missing.
    """
    if not os.path.lexists(target) or (folder and target.is_dir() and not entries(target)):
        return
    if not overwrite:
        raise OutputExistsError(
            f"{target.name!r} exists; pass {option('overwrite', True)} to replace it, or choose another output."
        )
    if target.is_dir() != folder:
        there, wanted = ("file", "folder") if folder else ("folder", "file")
        raise OutputError(f"{target.name!r} is a {there}, not a {wanted}; choose another output.")


@contextmanager
def _exclusive(target: Path, path: Path) -> Iterator[bool]:
    """Hold the lock of an output, the file `path`; yields False on file systems that cannot lock.

    Raises:
        OutputBusyError: another run holds it.
        OutputError: the lock's file cannot be made.
    """
    # Without flock, filelock would lock by the file's existence: a run that was killed would block the next one.
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    locked = True
    try:
        lock.acquire(timeout=LOCK_WAIT_S, poll_interval=LOCK_WAIT_S / 10)
    except Timeout:
        if not path.exists():
            raise OutputError(
                f"Cannot write {target.name!r}: no file can be made there; choose another output."
            ) from None
        raise OutputBusyError(
            f"Another run is writing {target.name!r}; wait for it to end, or choose another output."
        ) from None
    except OSError as error:
        if error.filename is not None:
            raise _translate(error, path, target.name) or error from error
        locked = False  # the file was made, and the file system refused to lock it
    try:
        yield locked
    finally:
        # Removed while it is held: a run that opened the file before locks a file without a name, and tries again.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def _clear_remains(target: Path) -> None:
    """Remove the remains of a killed run beside `target`; only under its lock, so no other run is at work there."""
    aside = _aside(target)
    if os.path.lexists(aside):
        if os.path.lexists(target):
            _remove(aside)
        else:
            aside.rename(target)
    ending = f"{_PARTIAL}{_hidden(target)}"
    for sibling in target.parent.iterdir():
        token = sibling.name.removesuffix(ending)
        if sibling.name.endswith(ending) and len(token) == 13 and token.startswith("."):
            _remove(sibling)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _rename_file_exclusively(partial: Path, target: Path) -> None:
    """Rename, but never onto a file: POSIX rename would replace it silently, a hard link does not."""
    try:
        os.link(partial, target)
    except FileExistsError:
        _refuse_existing(target, False, folder=False)
        raise
    except OSError:
        # No hard links here (FAT, some network shares): the check just before has to suffice.
        partial.rename(target)
    else:
        partial.unlink()


def sync(path: Path) -> None:
    """Push a file or folder to the disk, so that a power cut after the rename cannot leave it empty.

    Windows opens no folders, and pushes a file only where it may be written; some file systems push nothing. There,
    what the system does by itself has to suffice.
    """
    is_windows = os.name == "nt"
    if is_windows and path.is_dir():
        return
    flags = (os.O_RDWR if is_windows else os.O_RDONLY) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except PermissionError:
        return
    try:
        with place_named(path):
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SYNCED_CODES:
            raise
    finally:
        os.close(descriptor)
