"""Items in a child process: results as if run here, and a crash, a hang or a flood of memory costs one item."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from thinslice.system import isolation
from thinslice.system.isolation import run_isolated

FORKS = pytest.mark.skipif(not isolation.is_supported(), reason="work runs in this process where forks are unsafe")


def squares(index: int, buffer: memoryview) -> bytes:
    buffer[:4] = (index * index).to_bytes(4, "little")
    return f"item {index}".encode()


@pytest.mark.parametrize("forked", [True, False])
def test_results_come_in_order_and_whole(forked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not forked:
        monkeypatch.setattr(isolation, "is_supported", lambda: False)
    seen = [
        (result.index, result.outcome, result.payload, int.from_bytes(result.buffer[:4], "little"))
        for result in run_isolated(20, squares, slot_bytes=8)
    ]
    assert seen == [(k, "done", f"item {k}".encode(), k * k) for k in range(20)]


def outcomes(work: object, count: int = 12, **limits: float) -> list[str]:
    return [result.outcome for result in run_isolated(count, work, slot_bytes=8, **limits)]  # type: ignore[arg-type]


@FORKS
@pytest.mark.parametrize("fatal", [os.abort, lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGSEGV)])
def test_a_crash_costs_one_item(fatal: object) -> None:
    def work(index: int, buffer: memoryview) -> bytes:
        if index in (3, 4, 11):
            fatal()  # type: ignore[operator]
        return squares(index, buffer)

    assert outcomes(work) == ["crashed" if k in (3, 4, 11) else "done" for k in range(12)]


@FORKS
def test_an_item_that_hangs_is_ended() -> None:
    def work(index: int, buffer: memoryview) -> bytes:
        while index == 1:
            time.sleep(1)
        return squares(index, buffer)

    assert outcomes(work, 3, seconds_each=1.0) == ["done", "slow", "done"]


@FORKS
def test_memory_is_bounded() -> None:
    def work(index: int, buffer: memoryview) -> bytes:
        held = bytearray((512 << 20) if index == 1 else 8)
        return squares(index, buffer) + bytes(held[:0])

    assert outcomes(work, 3, memory_bytes=64 << 20) == ["done", "refused", "done"]


def test_what_is_raised_refuses_the_item_and_is_named() -> None:
    def work(index: int, buffer: memoryview) -> bytes:
        if index == 1:
            raise ValueError("damaged stream")
        return squares(index, buffer)

    results = [(result.outcome, result.payload) for result in run_isolated(3, work, slot_bytes=8)]
    assert results == [("done", b"item 0"), ("refused", b"damaged stream"), ("done", b"item 2")]


@FORKS
def test_many_crashes_give_the_rest_up() -> None:
    found = outcomes(lambda index, buffer: os.abort(), 40)
    assert found == ["crashed"] * 40


@FORKS
def test_stopping_early_leaves_no_child_and_no_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, children = os.fork, []

    def recorded() -> int:
        child = fork()
        children.append(child)
        return child

    monkeypatch.setattr(os, "fork", recorded)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        results = run_isolated(100, squares, slot_bytes=8)
        assert next(results).outcome == "done"
        results.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert len(children) == 3
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)
