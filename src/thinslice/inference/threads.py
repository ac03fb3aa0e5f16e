"""Threads of torch on the CPU."""

from __future__ import annotations

from thinslice.errors import UsageError
from thinslice.system.cores import sensible_threads


def set_threads(threads: int | None) -> int:
    """Give torch its threads.

    Args:
        threads: how many; None for `sensible_threads`, and never more than torch has already been given.

    Returns:
        How many it has now.

    Raises:
        UsageError: when `threads` is not at least 1.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"The number of threads must be at least 1, not {threads}.")
    import torch

    now = torch.get_num_threads()
    wanted = min(now, sensible_threads()) if threads is None else threads
    if wanted != now:
        torch.set_num_threads(wanted)
    return wanted
