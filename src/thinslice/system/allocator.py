"""The allocator (glibc) while a network runs: freed memory is kept, then returned."""

from __future__ import annotations

import ctypes
import mmap
import platform
from functools import cache

LARGE_PAGE = 2 << 20
"""Bytes of a large page of Linux; smaller arrays gain nothing."""


@cache
def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next window, once per process; without glibc nothing happens.

    Returning it and requesting it anew, page by page, costs a network of many short-lived tensors much of its time.

    Returns:
        Whether the allocator accepted the setting.
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
    """Return the memory that `keep_freed_memory` kept to the system: once a window, where it costs little.

    Without this, windows of different sizes leave holes that add up.
    """
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)


def expect(size: int) -> None:
    """Make the heap take its next `size` bytes in large pages (`thinslice.system.pages`), where Linux has them.

    The heap grows by `size` and shrinks again; the advice stays with the addresses until `return_freed_memory`.
    Nothing is touched, so no memory is taken.

    Args:
        size: bytes that a pass will take, about.
    """
    libc = _libc()
    if libc is None or size < LARGE_PAGE:
        return
    block = libc.malloc(size)
    if not block:
        return
    start = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
    libc.madvise(start, (block + size - start) // mmap.PAGESIZE * mmap.PAGESIZE, mmap.MADV_HUGEPAGE)
    libc.free(block)


@cache
def _libc() -> ctypes.CDLL | None:
    """glibc with the signatures of its functions; None without glibc, without kept memory, and on an old Linux."""
    if not (keep_freed_memory() and hasattr(mmap, "MADV_HUGEPAGE")):
        return None
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc
