"""Processes that work for another one: they end with it, and their exit codes are those of the command line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from thinslice.errors import ThinsliceError

OVERDUE_CODE = 9
"""Exit code of a process that ended because a job took longer than its limit."""


def end_with_parent() -> None:
    """End this process with the one that started it and holds a pipe as its standard input, whatever ends that one.

    SIGTERM raises KeyboardInterrupt, so that a job in hand is given back. Ctrl-C reaches the whole group and is left to
    the parent.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(0)

    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=wait, daemon=True, name="parent").start()


def end_overdue() -> NoReturn:
    """End this process, in which a job hangs."""
    os._exit(OVERDUE_CODE)


def exit_code_of(body: Callable[[], None]) -> int:
    """Exit code of a program whose work is `body`: 0, also when it is interrupted, or that of its error.

    >>> exit_code_of(lambda: None)
    0
    """
    try:
        body()
    except KeyboardInterrupt:
        return 0
    except ThinsliceError as error:
        return error.exit_code
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
