"""Memory: kept between passes, asked for in large pages, given back."""

from __future__ import annotations

import mmap
import platform
from pathlib import Path

import numpy as np
import pytest

from thinslice.system import allocator, pages

on_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(mmap, "MADV_HUGEPAGE"), reason="not Linux with glibc"
)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@on_glibc
def test_what_is_expected_takes_no_memory_yet() -> None:
    allocator.keep_freed_memory()
    before = resident()
    allocator.expect(1 << 30)
    assert resident() - before < 64 << 20


@on_glibc
def test_more_than_there_is_does_no_harm() -> None:
    allocator.expect(1 << 60)
    allocator.expect(0)


def test_elsewhere_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator.keep_freed_memory.cache_clear()
    allocator._libc.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(platform, "libc_ver", lambda: ("", ""))
        assert allocator._libc() is None
        allocator.expect(1 << 30)
    allocator.keep_freed_memory.cache_clear()
    allocator._libc.cache_clear()


def test_arrays_of_their_own_pages_are_zero_writable_and_given_back() -> None:
    array = pages.own_pages((3, 1 << 20), np.float32)
    assert array.shape == (3, 1 << 20) and not array.any()
    array[:] = 2.0
    assert float(array.sum()) == 6.0 * (1 << 20)
    if Path("/proc/self/statm").exists():
        held = resident()
        del array
        assert held - resident() > 8 << 20


def test_a_kernel_without_large_pages_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(mmap.mmap):
        def madvise(self, *advice: int) -> None:
            raise OSError("no large pages")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    assert not pages.own_pages((1 << 20,), np.float32).any()


@pytest.mark.parametrize("missing", ["MADV_HUGEPAGE", "MAP_PRIVATE"])
def test_systems_without_an_option_are_enough(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, missing, raising=False)
    assert pages.own_pages((1 << 20,), np.int16).nbytes == 2 << 20
