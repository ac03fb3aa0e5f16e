"""Time of `thinslice --help` beside bare typer programs with as many commands.

    .venv/bin/python speed/startup.py

Programs take turns, so that a busy machine slows all of them alike; the ratio of medians is compared. The target is a
bare typer program with default help. A second one has plain help, like thinslice: rich takes as long as all the rest.
The remaining difference is the cost of thinslice's options.
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
"""Limit of the time of thinslice over a bare typer program with default help; above it this program fails."""

PROGRAM = "from thinslice.cli import main; main()"


def bare(commands: list[str], *, plain: bool) -> str:
    """Source of a typer program with these commands, which do nothing."""
    options = "rich_markup_mode=None" if plain else ""
    lines = ["import typer", f"app = typer.Typer({options})"]
    lines += [f"@app.command({name!r})\ndef command_{i}(path: str): ..." for i, name in enumerate(commands)]
    return "\n".join([*lines, "app()"])


def main() -> None:
    from thinslice.cli.app import app

    commands = [str(info.name) for info in app.registered_commands]
    commands += [str(info.name) for group in app.registered_groups for info in group.typer_instance.registered_commands]
    programs = {
        "thinslice --help": PROGRAM,
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
    own = medians["thinslice --help"]
    print(f"{len(commands)} commands, median of {RUNS} runs")
    for name, median in medians.items():
        print(f"{name:26}{1000 * median:7.0f} ms   thinslice takes {own / median:.2f} of it")
    sys.exit(own > MOST * medians["bare typer, default help"])


if __name__ == "__main__":
    main()
