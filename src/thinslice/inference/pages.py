"""Large arrays beside the heap, in pages of their own."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt


def own_pages(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of zeros that takes memory as it is touched and gives all of it back when it is dropped.

    The heap keeps what a network frees (`thinslice.inference.backend.keep_freed_memory`). An array that outlives a
    pass would lie in the middle of it, and the next pass would have to go around it.

    >>> own_pages((2, 3), np.int16).tolist()
    [[0, 0, 0], [0, 0, 0]]
    """
    kind = np.dtype(dtype)
    count = math.prod(shape)
    pages = mmap.mmap(-1, max(1, count * kind.itemsize))
    return np.frombuffer(pages, dtype=kind, count=count).reshape(shape)
