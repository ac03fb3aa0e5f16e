"""Progress and notes on stderr while a command works."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # For annotations only: numpy would slow --help down.
    from thinslice.typing import Notify, Progress, Transfer

_LOG_STEPS = 10
"""Lines of progress where there is no terminal."""

LINE_EVERY_S = 5.0
"""Least time between two such lines of one phase."""


class Console:
    """Prints notes and progress on stderr; stdout carries only results.

    Args:
        quiet: whether only errors are printed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def note(self, line: str) -> None:
        """Print a line about the work in progress."""
        if not self.quiet:
            # A reader of the notes that went away (2>&1 | head) is no reason to end the work.
            with suppress(BrokenPipeError):
                print(line, file=sys.stderr, flush=True)

    def warn(self, sentence: str) -> None:
        """Print a warning; the work continues."""
        self.note(f"warning: {sentence}")

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress | None]:
        """A callback for progress: a bar on a terminal, a line every tenth elsewhere, None when quiet.

        Args:
            label: name of the work, a few words.
        """
        if self.quiet:
            yield None
        elif sys.stderr.isatty():
            with _bar(label) as advance:
                yield advance
        else:
            yield _lines(label, self.note)

    @contextmanager
    def work(self) -> Iterator[Work]:
        """Progress of one volume or of many, by phase: a bar on a terminal, plain lines elsewhere, nothing if quiet."""
        if self.quiet:
            yield Work()
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            with WorkBar() as bar:
                yield bar
        else:
            yield WorkLines(self.note)

    @contextmanager
    def transfer(self) -> Iterator[Transfer | None]:
        """A callback for bytes transferred, shown with rate and time left; the name of the step may change."""
        if self.quiet:
            yield None
        elif sys.stderr.isatty():
            with _transfer_bar() as advance:
                yield advance
        else:
            yield _transfer_lines(self.note)


class Work:
    """Progress that is shown to nobody; the children show it."""

    def begin(self, number: int, total: int, left_s: float | None) -> None:
        """Begin a series of a batch.

        Args:
            number: of the series, from 1.
            total: number of series.
            left_s: seconds that are left for all; None where unknown.
        """

    def phase(self, name: str, share: float) -> None:
        """Note the share of a phase that is done, 0 to 1."""


class WorkLines(Work):
    """Plain lines: each phase once, and of the long ones every tenth, at most one in `LINE_EVERY_S` seconds."""

    def __init__(self, note: Notify) -> None:
        self._note = note
        self._name, self._tenths, self._begun_s, self._printed_s = "", 0, 0.0, 0.0
        self._is_batch = False

    def begin(self, number: int, total: int, left_s: float | None) -> None:
        """Print the number of the series and the time left."""
        self._is_batch, self._name = True, ""
        left = "" if left_s is None else f", about {duration(left_s)} left"
        self._note(f"series {number} of {total}{left}")

    def phase(self, name: str, share: float) -> None:
        """Print the phase when it begins, and its share as it advances."""
        now = time.monotonic()
        if name != self._name:
            self._name, self._tenths, self._begun_s, self._printed_s = name, 0, now, now
            if not self._is_batch:
                self._note(name)
            return
        tenths = int(share * _LOG_STEPS)
        is_due = now - self._printed_s >= LINE_EVERY_S or (share >= 1.0 and not self._is_batch)
        if tenths > self._tenths and is_due:
            self._tenths, self._printed_s = tenths, now
            left = "" if share >= 1.0 else f", about {duration((now - self._begun_s) / share * (1.0 - share))} left"
            self._note(f"{name}: {100 * share:.0f} %{left}")


class WorkBar(Work):
    """One bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = RichProgress(*columns, console=RichConsole(stderr=True), transient=True)
        self._task: Any = None
        self._name, self._series = "", ""

    def __enter__(self) -> WorkBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, number: int, total: int, left_s: float | None) -> None:
        """Put the number of the series and the time left before the phase."""
        left = "" if left_s is None else f", {duration(left_s)} left"
        self._series, self._name = f"series {number} of {total}{left}: ", ""

    def phase(self, name: str, share: float) -> None:
        """Move the bar; each phase begins a new one."""
        if name != self._name:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._name = name
            # Without a total the bar moves to and fro: nothing measures the share of these phases.
            self._task = self._bar.add_task(f"{self._series}{name}", total=1.0 if name == "network" else None)
        self._bar.update(self._task, completed=share)


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

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                for earlier in tasks.values():
                    bar.remove_task(earlier)
                tasks.clear()
                # Bytes that an earlier run left were not transferred now: they do not count in the rate.
                tasks[step] = bar.add_task(step, total=total, completed=done)
            bar.update(tasks[step], completed=done)

        yield advance


def _transfer_lines(note: Notify) -> Transfer:
    label, printed, begun_at, begun_s = "", 0, 0, 0.0

    def advance(step: str, done: int, total: int) -> None:
        nonlocal label, printed, begun_at, begun_s
        now = time.monotonic()
        tenths = done * _LOG_STEPS // max(total, 1)
        if step != label:
            label, printed, begun_at, begun_s = step, tenths, done, now
            if done:
                note(f"{step}: continues at {_mb(done)} of {_mb(total)} MB")
        elif tenths > printed:
            printed = tenths
            rate = (done - begun_at) / max(now - begun_s, 1e-3)
            note(
                f"{step}: {100 * done // max(total, 1)} % ({_mb(done)} of {_mb(total)} MB, {_mb(rate)} MB/s, "
                f"{duration((total - done) / max(rate, 1.0))} left)"
            )

    return advance


def _mb(count: float) -> str:
    """Bytes as MB; below 10 MB with two digits."""
    return f"{count / 1e6:.0f}" if count >= 1e7 else f"{count / 1e6:.2g}"


def duration(seconds: float) -> str:
    """A duration as short text for a progress line.

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


def _lines(label: str, note: Notify) -> Progress:
    printed = 0

    def advance(done: int, total: int) -> None:
        nonlocal printed
        tenths = done * _LOG_STEPS // max(total, 1)
        if tenths > printed:
            printed = tenths
            note(f"{label}: {100 * done // total} % ({done} of {total})")

    return advance


def hush_libraries() -> None:
    """Keep warnings and log lines of other packages off the terminal: they quote values, which may be the patient's.

    This package's readers report what matters in them. `python -W` and THINSLICE_DEBUG=1 show them again.
    """
    import logging
    import os
    import warnings

    if os.environ.get("THINSLICE_DEBUG") == "1":
        return
    # None in its place would make Python print a line of its own at the first message.
    logging.lastResort = logging.NullHandler()
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
