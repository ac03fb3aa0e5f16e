"""Curves of a training over time and over patients: docs/images/curves.png, from the numbers in trials/curves.json.

    python trials/curves.py [--out docs/images/curves.png]
    python trials/curves.py --log runs/default/log.csv          # puts the losses of a run into curves.json

`curves.json` holds the loss of the embedded default by step, and the gain of brief trainings on more and more scans:
one recipe, 1,500 steps each, two chests left out of all of them.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from thinslice.pictures.figures import save_png
from thinslice.pictures.plots import finished

NUMBERS = Path(__file__).with_suffix(".json")

STEPS_EACH = 8000
"""Steps whose losses are averaged."""


def main() -> None:
    """Draw the figure, or renew the losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path)
    parser.add_argument("--numbers", type=Path, default=NUMBERS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    numbers = json.loads(options.numbers.read_text(encoding="utf-8"))
    if options.log:
        numbers["loss"] = thinned(options.log)
        options.numbers.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    for line in table(numbers):
        print(line)
    if options.out:
        save_png(finished(drawn(numbers), "One seed each; loss on training crops."), options.out, overwrite=True)


def thinned(log: Path) -> list[list[float]]:
    """(last step, mean loss) of every `STEPS_EACH` steps of a run's log.csv."""
    with log.open(encoding="utf-8", newline="") as lines:
        rows = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(lines)]
    groups: dict[int, list[float]] = {}
    for step, loss in rows:
        groups.setdefault(-(-step // STEPS_EACH) * STEPS_EACH, []).append(loss)
    return [[step, round(float(np.mean(losses)), 5)] for step, losses in sorted(groups.items())]


def table(numbers: dict[str, Any]) -> list[str]:
    """Markdown of the gains over the scans learned from."""
    cases = list(numbers["patients"][0]["gain_db"])
    lines = [f"| scans learned from | {' | '.join(cases)} |", f"|---|{'---:|' * len(cases)}"]
    for row in numbers["patients"]:
        gains = " | ".join(f"{row['gain_db'][case]:+.2f}" for case in cases)
        lines.append(f"| {row['scans']}: {row['which']} | {gains} |")
    return lines


def drawn(numbers: dict[str, Any]) -> Figure:
    """Loss by step on the left, gain by number of scans on the right."""
    figure = Figure(figsize=(7.4, 3.2), layout="constrained")
    time, patients = figure.subplots(1, 2)
    steps, losses = zip(*numbers["loss"], strict=True)
    time.plot(steps, losses, "o-", color="#2b6cb0", linewidth=1.4, ms=3)
    time.set_xscale("log")
    time.set_xlabel("training steps")
    time.set_ylabel(f"loss, mean of {STEPS_EACH:,} steps")
    for case in numbers["patients"][0]["gain_db"]:
        scans = [row["scans"] for row in numbers["patients"]]
        patients.plot(
            scans, [row["gain_db"][case] for row in numbers["patients"]], "o-", linewidth=1.2, ms=4, label=case
        )
    patients.set_xlabel("scans learned from, 1,500 steps")
    patients.set_ylabel("dB over cubic, factor 5")
    patients.legend(fontsize=7)
    for axes in (time, patients):
        axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
