"""What a person at a terminal, or a log file, sees while a command works."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # its arrays load numpy, which --help does without
    from thinslice.typing import Progress

Transfer = Callable[[str, int, int], None]
"""Called with what is being done, and bytes done and in all."""

_LOG_STEPS = 10
"""Lines that a run writes where there is no terminal."""


class Console:
    """Speaks on stderr, so that stdout carries results alone.

    Args:
        quiet: say nothing but errors.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, line: str) -> None:
        """A plain line about what is going on."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def warn(self, sentence: str) -> None:
        """Something the user should know, although the work goes on."""
        self.say(f"warning: {sentence}")

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress | None]:
        """Something to call as work goes on: a bar on a terminal, a line every tenth otherwise, None when quiet.

        Args:
            label: what is being done, a few words.
        """
        if self.quiet:
            yield None
        elif sys.stderr.isatty():
            with _bar(label) as advance:
                yield advance
        else:
            yield _lines(label, self.say)

    @contextmanager
    def transfer(self) -> Iterator[Transfer | None]:
        """The same for bytes, with rate and time left; called with what is being done, which may change."""
        if self.quiet:
            yield None
        elif sys.stderr.isatty():
            with _transfer_bar() as advance:
                yield advance
        else:
            yield _transfer_lines(self.say)


@contextmanager
def _transfer_bar() -> Iterator[Transfer]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def advance(doing: str, done: int, total: int) -> None:
            if doing not in tasks:
                for earlier in tasks.values():
                    bar.remove_task(earlier)
                tasks.clear()
                # What an earlier run has left was not transferred now: it must not count in the rate.
                tasks[doing] = bar.add_task(doing, total=total, completed=done)
            bar.update(tasks[doing], completed=done)

        yield advance


def _transfer_lines(say: Callable[[str], None]) -> Transfer:
    label, told, begun_at, begun_s = "", 0, 0, 0.0

    def advance(doing: str, done: int, total: int) -> None:
        nonlocal label, told, begun_at, begun_s
        now = time.monotonic()
        step = done * _LOG_STEPS // max(total, 1)
        if doing != label:
            label, told, begun_at, begun_s = doing, step, done, now
            if done:
                say(f"{doing}: goes on at {_mb(done)} of {_mb(total)} MB")
        elif step > told:
            told = step
            rate = (done - begun_at) / max(now - begun_s, 1e-3)
            say(
                f"{doing}: {100 * done // max(total, 1)} % ({_mb(done)} of {_mb(total)} MB, {_mb(rate)} MB/s, "
                f"{duration((total - done) / max(rate, 1.0))} left)"
            )

    return advance


def _mb(count: float) -> str:
    """Bytes as MB, with a decimal while they are few."""
    return f"{count / 1e6:.0f}" if count >= 1e7 else f"{count / 1e6:.2g}"


def duration(seconds: float) -> str:
    """Seconds in words short enough for a progress line.

    >>> duration(42.3), duration(130), duration(7300)
    ('42 s', '2 min 10 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(label: str, say: Callable[[str], None]) -> Progress:
    told = 0

    def advance(done: int, total: int) -> None:
        nonlocal told
        step = done * _LOG_STEPS // max(total, 1)
        if step > told:
            told = step
            say(f"{label}: {100 * done // total} % ({done} of {total})")

    return advance


def hush_libraries() -> None:
    """Keep other packages' warnings and log lines off the terminal: they quote values, which may be the patient's.

    What matters in them is said by our own readers, in our own words. `python -W` and THINSLICE_DEBUG=1 bring
    them back.
    """
    import logging
    import os
    import warnings

    if os.environ.get("THINSLICE_DEBUG") == "1":
        return
    logging.lastResort = None
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def readable(values: dict[str, Any], indent: str = "") -> list[str]:
    """JSON values as indented lines, one for each value.

    >>> readable({"name": "mine", "scores": {"psnr": 38.51234}, "limits": ["chest", "no contrast"]})
    ['name: mine', 'scores:', '  psnr: 38.51', 'limits: chest, no contrast']
    """
    lines: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *readable(value, indent + "  ")]
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            lines.append(f"{indent}{name}:")
            for item in value:
                inner = readable(item, indent + "    ") if isinstance(item, dict) else [f"{indent}    {item}"]
                lines += [f"{indent}  - {inner[0].strip()}", *inner[1:]] if inner else []
        elif isinstance(value, list):
            lines.append(f"{indent}{name}: {', '.join(_shown(item) for item in value)}")
        else:
            lines.append(f"{indent}{name}: {_shown(value)}")
    return lines


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)
