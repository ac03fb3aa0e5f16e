"""Times of the first write to memory, with normal and with large pages: the cost of page faults.

    python speed/pages.py [--mib 256] [--runs 5]

Prints medians of filling an array with ones; the three kinds of memory take turns.
"""

from __future__ import annotations

import argparse
import mmap
import statistics
import time

import numpy as np

from thinslice.system.pages import own_pages


def fill(pages: mmap.mmap | np.ndarray) -> float:
    """Seconds to write every byte once."""
    array = np.frombuffer(pages, dtype=np.float32) if isinstance(pages, mmap.mmap) else pages
    begun = time.perf_counter()
    array[...] = 1.0
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    size = options.mib << 20
    kinds = {
        "mmap, Python's default (shared)": lambda: mmap.mmap(-1, size),
        "private": lambda: mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
        "private, large pages (own_pages)": lambda: own_pages((size // 4,), np.float32),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(options.runs):
        for name, make in kinds.items():
            seconds[name].append(fill(make()))
    for name, taken in seconds.items():
        print(f"{name:36} {options.mib} MiB {statistics.median(taken):7.3f} s")


if __name__ == "__main__":
    main()
