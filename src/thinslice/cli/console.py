"""What a person at a terminal, or a log file, sees while a command works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[int, int], None]
"""Called with (windows done, windows in all)."""

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
