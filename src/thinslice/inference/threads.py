"""Number of CPU threads that run a network."""

from __future__ import annotations

import sys

from thinslice.errors import UsageError
from thinslice.system.cores import sensible_threads

MOST_THREADS = 4096
"""More than any machine has cores."""


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads below 1 or beyond any machine; None is valid.

    Raises:
        UsageError: for such a number.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"The number of threads must be at least 1 and at most {MOST_THREADS}, not {threads}.")


def threads_to_use(threads: int | None) -> int:
    """The number of CPU threads for a number that was asked for; torch is not loaded.

    Args:
        threads: the number; None for `sensible_threads`, but no more than torch has where it is loaded.

    Raises:
        UsageError: when `threads` is out of range.

    >>> threads_to_use(3)
    3
    """
    check_threads(threads)
    if threads is not None:
        return threads
    torch = sys.modules.get("torch")
    return sensible_threads() if torch is None else min(torch.get_num_threads(), sensible_threads())


def set_threads(threads: int | None) -> int:
    """Set the number of torch's CPU threads.

    Args:
        threads: the number; None for `sensible_threads`, but no more than torch already has.

    Returns:
        The number in use now.

    Raises:
        UsageError: when `threads` is out of range.
    """
    check_threads(threads)
    import torch

    wanted = threads_to_use(threads)
    if wanted != torch.get_num_threads():
        torch.set_num_threads(wanted)
    return wanted
