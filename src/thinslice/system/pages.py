"""Large arrays beside the heap, in pages of their own; and large pages, where the system has them.

Memory that is touched for the first time comes page by page. At 4 KiB a page this takes longer than most operations on
the array, at 2 MiB a sixth of the time (measured). Linux uses large pages on request.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.system.allocator import LARGE_PAGE


def own_pages(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of zeros that takes memory as it is touched and returns all of it when it is dropped.

    Args:
        shape: of the array.
        dtype: of its elements.

    The heap keeps what a network frees (`thinslice.system.allocator.keep_freed_memory`). An array that outlives a
    pass would lie in the middle of the heap, and the next pass would leave a hole around it.

    >>> own_pages((2, 3), np.int16).tolist()
    [[0, 0, 0], [0, 0, 0]]
    """
    kind = np.dtype(dtype)
    count = math.prod(shape)
    size = max(1, count * kind.itemsize)
    if hasattr(mmap, "MAP_PRIVATE"):
        # Python's default is memory shared with child processes, which costs more.
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        pages = mmap.mmap(-1, size)
    if size >= LARGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype=kind, count=count).reshape(shape)
