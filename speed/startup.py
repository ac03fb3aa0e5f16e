"""How long `thinslice --help` takes beside a bare typer program with as many commands, in one run.

    .venv/bin/python speed/startup.py

Programs take turns, so that a busy machine slows all of them alike; the ratio of medians is what counts. The target is
a bare typer program as it comes. One whose help is plain text, as ours is, stands beside it: rich alone takes as
long as the rest, and what is left is the price of our options.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 15
MOST = 1.3
"""Ours over a bare program as typer makes it; above, this program fails."""

OURS = "from thinslice.cli import main; main()"


def bare(commands: list[str], *, plain: bool) -> str:
    """Source of a typer program with these commands, each of which does nothing."""
    options = "rich_markup_mode=None" if plain else ""
    lines = ["import typer", f"app = typer.Typer({options})"]
    lines += [f"@app.command({name!r})\ndef command_{i}(path: str): ..." for i, name in enumerate(commands)]
    return "\n".join([*lines, "app()"])


def main() -> None:
    from thinslice.cli.app import app

    commands = [str(info.name) for info in app.registered_commands]
    commands += [str(info.name) for group in app.registered_groups for info in group.typer_instance.registered_commands]
    programs = {
        "thinslice --help": OURS,
        "bare typer, default help": bare(commands, plain=False),
        "bare typer, plain help": bare(commands, plain=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"program{i}.py") for i, name in enumerate(programs)}
        for name, source in programs.items():
            files[name].write_text(source)
        for turn in range(RUNS + 1):
            for name, file in files.items():
                begun = time.perf_counter()
                subprocess.run([sys.executable, str(file), "--help"], stdout=subprocess.DEVNULL, check=True)
                if turn:  # the first turn fills caches
                    seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ours = medians["thinslice --help"]
    print(f"{len(commands)} commands, median of {RUNS} runs")
    for name, median in medians.items():
        print(f"{name:26}{1000 * median:7.0f} ms   thinslice takes {ours / median:.2f} of it")
    sys.exit(ours > MOST * medians["bare typer, default help"])


if __name__ == "__main__":
    main()
