"""Ctrl-C and SIGTERM during training: the step is finished and the state saved before the run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from thinslice.typing import Notify

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interruption:
    """Whether the run shall end.

    Attributes:
        received: whether a signal has come.
    """

    received: bool = False


@contextmanager
def deferred_interruption(notify: Notify | None, *, enabled: bool = True) -> Iterator[Interruption]:
    """Within the block, the first Ctrl-C or SIGTERM is recorded; the second one interrupts at once.

    Args:
        notify: called with what happens next.
        enabled: False leaves signals as they are, for one of several processes: they would stop at different steps.
    """
    wanted = Interruption()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield wanted
        return

    def record(number: int, frame: FrameType | None) -> None:
        if wanted.received:
            raise KeyboardInterrupt
        wanted.received = True
        if notify:
            notify("interrupted: the step is finished and the state saved; once more stops at once")

    before = {number: signal.signal(number, record) for number in SIGNALS}
    try:
        yield wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
