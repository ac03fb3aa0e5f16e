"""Faults of the machine and its file systems, as errors of thinslice: the one place that knows their numbers.

A full disk, a read-only place, a name that is too long, memory or threads that the system refuses are no faults of
thinslice. Readers translate with `input_fault`, writers with `output_fault`; `machine_fault` is the last resort of the
command line for what reached it untranslated.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thinslice.errors import ModelError, OutputError, ResourceError, ThinsliceError, UnreadableError
from thinslice.system.packages import TORCH_LINE, TORCH_PACKAGES

DISK_FULL_CODES = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""Error numbers of a full disk and of a full quota."""

_OPEN_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_MEMORY_TEXTS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "failed to map segment",
)
"""What libraries write in errors of other types when memory is short; the last is the dynamic linker's."""
_THREAD_TEXTS = ("can't start new thread", "resource temporarily unavailable")
_MEMORY_ADVICE = "close other programs, raise the limit of memory (ulimit -v), or use a machine with more memory"
_OUTPUT_REASONS = {
    errno.EROFS: "this place is read-only or not yours; choose another output",
    errno.EACCES: "this place is read-only or not yours; choose another output",
    errno.EPERM: "this place is read-only or not yours; choose another output",
    errno.ENAMETOOLONG: "its name is too long; choose a shorter one",
    errno.EFBIG: "it is larger than the file system or a limit (ulimit -f) permits; choose another output, or raise "
    "the limit",
    errno.EIO: "the disk reports an error; choose another disk",
    errno.ENOTDIR: "a part of its path is a file, not a folder; choose another output",
    errno.ELOOP: "its path is a circle of links; choose another output",
    errno.ENOENT: "its folder does not exist or has gone; create it first",
}
_INPUT_REASONS = {
    errno.EACCES: "it may not be read; check its permissions",
    errno.EPERM: "it may not be read; check its permissions",
    errno.ENAMETOOLONG: "its name is too long; check the path",
    errno.EIO: "the disk reports an error; copy the file from another disk",
    errno.ELOOP: "its path is a circle of links; check the path",
    errno.EISDIR: "it is a folder; name a file in it",
}
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})


def shortage(error: BaseException) -> ResourceError | None:
    """The ResourceError for memory, threads, processes or open files that the system refuses; None for other errors.

    >>> print(shortage(RuntimeError("can't start new thread")))
    The system starts no more threads or processes: memory or their number is short (ulimit -v, ulimit -u); close \
other programs, or raise the limit.
    >>> shortage(ValueError("x")) is None
    True
    """
    if isinstance(error, ResourceError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError(f"Memory is short; {_MEMORY_ADVICE}.")
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno == errno.ENOMEM:
            return ResourceError(f"Memory is short; {_MEMORY_ADVICE}.")
        if error.errno in _OPEN_FILES:
            return ResourceError(
                "Too many files are open at once; close other programs, or raise the limit (ulimit -n)."
            )
        if error.errno == errno.EAGAIN:
            return _no_threads()
        return None
    if isinstance(error, RuntimeError | ImportError | OSError | SystemError):
        text = str(error).lower()
        if any(words in text for words in _THREAD_TEXTS):
            return _no_threads()
        if any(words in text for words in _MEMORY_TEXTS):
            return ResourceError(f"Memory is short; {_MEMORY_ADVICE}.")
    return None


def _no_threads() -> ResourceError:
    return ResourceError(
        "The system starts no more threads or processes: memory or their number is short (ulimit -v, ulimit -u); "
        "close other programs, or raise the limit."
    )


def output_fault(error: OSError, name: str) -> OutputError | ResourceError:
    """The error for an output that the system does not write.

    Args:
        error: of a system call that made or wrote the output.
        name: of the output, as the message shows it.

    >>> print(output_fault(OSError(errno.EFBIG, "File too large"), "a.nii"))
    Cannot write 'a.nii': it is larger than the file system or a limit (ulimit -f) permits; choose another output, or \
raise the limit.
    """
    if error.errno in DISK_FULL_CODES:
        return ResourceError(f"The disk is full while writing {name!r}; free some space, then run again.")
    short = shortage(error)
    if short is not None:
        return short
    reason = _OUTPUT_REASONS.get(
        error.errno or 0, f"the system reports '{error.strerror or 'an error'}'; choose another output"
    )
    return OutputError(f"Cannot write {name!r}: {reason}.")


def input_fault(error: OSError, name: str) -> UnreadableError | ResourceError:
    """The error for an input that the system does not read.

    Args:
        error: of a system call that opened or read the input.
        name: of the input, as the message shows it.

    >>> print(input_fault(PermissionError(errno.EACCES, "Permission denied"), "a.nii"))
    Cannot read 'a.nii': it may not be read; check its permissions.
    """
    short = shortage(error)
    if short is not None:
        return short
    if error.errno in _MISSING:
        return UnreadableError(f"There is no file {name!r}; check the path.")
    reason = _INPUT_REASONS.get(
        error.errno or 0, f"the system reports '{error.strerror or 'an error'}'; check the file and its disk"
    )
    return UnreadableError(f"Cannot read {name!r}: {reason}.")


@contextmanager
def reading_from(path: Path) -> Iterator[None]:
    """Turn the system's errors of reading `path` into those of thinslice.

    Raises:
        UnreadableError: missing, not permitted, or a failing disk; the message names the next step.
        ResourceError: memory or open files are short.
    """
    try:
        yield
    except OSError as error:
        raise input_fault(error, path.name) from error


def machine_fault(error: BaseException) -> ThinsliceError | None:
    """The error for a fault of the machine that no reader or writer has translated; None for a fault of thinslice.

    Whether it concerns an input or an output follows from the error's number, and else from the file it names: one
    that is there, or is missing, is taken for an input.

    >>> machine_fault(OSError(errno.ENOSPC, "No space left on device")).exit_code
    6
    >>> machine_fault(KeyError("x")) is None
    True
    """
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in TORCH_PACKAGES:
        return ModelError(f"This needs PyTorch, which is not installed: {TORCH_LINE}.")
    short = shortage(error)
    if short is not None or not isinstance(error, OSError):
        return short
    named = error.filename if isinstance(error.filename, str | os.PathLike) else None
    name = Path(named).name if named is not None else "a file"
    if error.errno in {*DISK_FULL_CODES, errno.EROFS, errno.EFBIG}:
        return output_fault(error, name)
    if error.errno == errno.ENOENT:
        return None if named is None else input_fault(error, name)
    if error.errno in _INPUT_REASONS and named is not None and os.path.lexists(named):
        return input_fault(error, name)
    return output_fault(error, name) if error.errno in _OUTPUT_REASONS else None
