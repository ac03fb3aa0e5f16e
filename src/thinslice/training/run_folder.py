"""The folder of a run: made, held by one training at a time, and its faults named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thinslice.errors import OutputBusyError, OutputError
from thinslice.options import option
from thinslice.system.atomic import output_errors, sole_run

_LOCKED = "training"
"""The lock lies in the folder, as .training.lock, so that the folder can be moved when no run is at work."""


@contextmanager
def run_folder(out: Path, *, holds: bool = True) -> Iterator[None]:
    """Make the folder of a run and hold it while the block lasts.

    Args:
        out: folder of the run; it and the folders above it are made when missing.
        holds: whether this process takes the lock; of several processes of one training, the first does.

    Raises:
        OutputBusyError: another training runs in it; wait for it to end, or choose another --out.
        OutputError: it is a file, or cannot be written; choose another --out.
        ResourceError: the disk is full; free some space, then give the same command again.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{str(out)!r} is a file, where the run needs a folder; choose another {option('out')}.")
    with output_errors(out, str(out)), contextlib.ExitStack() as held:
        out.mkdir(parents=True, exist_ok=True)
        if holds:
            try:
                held.enter_context(sole_run(out / _LOCKED))
            except OutputBusyError as error:
                raise OutputBusyError(
                    f"Another training runs in {str(out)!r}; wait for it to end, or choose another {option('out')}."
                ) from error
        yield
