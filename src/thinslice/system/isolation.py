"""Work on untrusted bytes in a child process, so that a decoder that crashes or hangs costs one item and not the run.

Decoders written in C may abort the whole process on damaged streams. The child is a fork: it starts in milliseconds,
holds every module that the parent has loaded, and hands results over in shared memory, so a series is read as fast as
without it. Where the system has no fork (Windows) or forks unsafely (macOS), the work runs in this process.

Source: our own; the ring of slots is a bounded buffer.
"""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SLOTS = 4
"""Results that may wait for the parent; the child goes on meanwhile."""

MOST_CRASHES = 16
"""Items that may end a child before the rest is given up; each costs a fork."""

POLL_S = 0.05
"""How often the parent looks for a child that ended without a message."""

_MESSAGE = struct.Struct("<iBI")

Outcome = Literal["done", "refused", "crashed", "slow"]
_DONE, _REFUSED = 0, 1


@dataclass(frozen=True)
class Result:
    """What became of one item.

    Attributes:
        index: of the item.
        outcome: "done"; "refused" where the work raised; "crashed" where the child ended; "slow" where the time limit
            ended it.
        payload: what the work returned, or the text of what it raised; empty for "crashed" and "slow".
        buffer: what the work wrote; valid until the next result is asked for.
    """

    index: int
    outcome: Outcome
    payload: bytes
    buffer: memoryview


def run_isolated(
    count: int,
    work: Callable[[int, memoryview], bytes],
    *,
    slot_bytes: int,
    seconds_each: float = 10.0,
    memory_bytes: int = 1 << 30,
) -> Iterator[Result]:
    """Run `work(k, buffer)` for k = 0 ... count - 1 in a child process, and yield the results in order.

    The child that dies or hangs at item k is replaced by one that begins at item k + 1.

    Args:
        count: items.
        work: writes at most `slot_bytes` into its buffer and returns up to some KiB; what it raises refuses the item.
        slot_bytes: size of each buffer.
        seconds_each: longest time for one item.
        memory_bytes: address space that the child may take beyond what it starts with; MemoryError refuses the item.

    Yields:
        One result for each item.
    """
    if not is_supported():
        yield from _in_this_process(count, work, slot_bytes)
        return
    ring = mmap.mmap(-1, max(1, SLOTS * slot_bytes))
    buffers = [memoryview(ring)[k * slot_bytes : (k + 1) * slot_bytes] for k in range(SLOTS)]
    start, crashes = 0, 0
    while start < count:
        child = _Child(range(start, count), work, buffers, memory_bytes)
        try:
            for index in range(start, count):
                result = child.result(index, buffers[index % SLOTS], seconds_each)
                start = index + 1
                yield result
                if result.outcome in ("crashed", "slow"):
                    crashes += 1
                    break
                child.release()
        finally:
            child.end()
        if crashes >= MOST_CRASHES:
            for index in range(start, count):
                yield Result(index, "crashed", b"", memoryview(b""))
            return


def is_supported() -> bool:
    """Whether items run in a child process here."""
    return sys.platform == "linux"


def _in_this_process(count: int, work: Callable[[int, memoryview], bytes], slot_bytes: int) -> Iterator[Result]:
    buffer = memoryview(bytearray(slot_bytes))
    for index in range(count):
        yield Result(index, *_attempt(work, index, buffer), buffer)


def _attempt(work: Callable[[int, memoryview], bytes], index: int, buffer: memoryview) -> tuple[Outcome, bytes]:
    try:
        return "done", work(index, buffer)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # decoders raise anything; a panic in Rust is no Exception
        return "refused", str(error).encode("utf-8", "replace")[:4096]


class _Child:
    """A forked process that works through items, and the two pipes to it."""

    def __init__(
        self,
        items: range,
        work: Callable[[int, memoryview], bytes],
        buffers: list[memoryview],
        memory_bytes: int,
    ) -> None:
        self._results, write_end = os.pipe()
        free_end, self._free = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            # Nothing of the parent's may run here: no handlers, no exit hooks, no flushing of its buffers.
            code = 1
            try:
                os.close(self._results)
                os.close(self._free)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                # A crash is reported by its result; traces of it, which may quote the input, are not printed.
                faulthandler.disable()
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                _limit_memory(memory_bytes)
                _serve(items, work, buffers, write_end, free_end)
                code = 0
            finally:
                os._exit(code)
        os.close(write_end)
        os.close(free_end)
        for _ in range(SLOTS):
            self.release()

    def release(self) -> None:
        """Let the child use one slot more."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._free, b"+")

    def result(self, index: int, buffer: memoryview, seconds: float) -> Result:
        """The next result, of item `index`."""
        deadline = time.monotonic() + seconds
        head = self._read(_MESSAGE.size, deadline)
        if head is None or len(head) < _MESSAGE.size:
            return Result(index, "slow" if head is None else "crashed", b"", memoryview(b""))
        _, code, length = _MESSAGE.unpack(head)
        payload = self._read(length, deadline)
        if payload is None or len(payload) < length:
            return Result(index, "crashed", b"", memoryview(b""))
        return Result(index, "done" if code == _DONE else "refused", payload, buffer)

    def end(self) -> None:
        """Stop the child, whatever it does, and take its exit status."""
        os.close(self._results)
        os.close(self._free)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._process, 0)

    def _read(self, size: int, deadline: float) -> bytes | None:
        """`size` bytes, fewer where the child ended; None once the deadline has passed."""
        data = b""
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if select.select([self._results], [], [], min(left, POLL_S))[0]:
                piece = os.read(self._results, size - len(data))
                if not piece:
                    return data
                data += piece
        return data


def _serve(
    items: range,
    work: Callable[[int, memoryview], bytes],
    buffers: list[memoryview],
    write_end: int,
    free_end: int,
) -> None:
    for index in items:
        if not os.read(free_end, 1):
            return  # the parent has gone
        outcome, payload = _attempt(work, index, buffers[index % SLOTS])
        os.write(write_end, _MESSAGE.pack(index, _DONE if outcome == "done" else _REFUSED, len(payload)) + payload)


def _limit_memory(added_bytes: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * mmap.PAGESIZE + added_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
