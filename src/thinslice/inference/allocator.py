"""What glibc does with freed memory while a network runs."""

from __future__ import annotations

import ctypes
import platform
from functools import cache


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next window instead of giving it back and asking anew, page by page,
    which costs a network of many short-lived tensors much of its time. Once per process; elsewhere nothing happens.

    Returns:
        Whether the allocator took it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    taken = bool(mallopt(m_trim_threshold, 2**31 - 1))
    # Older versions refuse more than 32 MiB.
    return taken and bool(mallopt(m_mmap_threshold, 1 << 30) or mallopt(m_mmap_threshold, 32 << 20))


def return_freed_memory() -> None:
    """Give the system back what `keep_freed_memory` kept: once a window, where it costs little, and not once a layer.
    Without it, windows of different sizes leave holes that add up.
    """
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)
