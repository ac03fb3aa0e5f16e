"""Limits of the network: its quality over training steps, size and data, on a volume outside the training data.

    python trials/limits.py THIN.nii.gz --series "training steps" 2000=a.safetensors 8000=b.safetensors \
        --series patients 1=c.safetensors 2=d.safetensors 2=e.safetensors [--out docs/images/limits.png] [--json FILE]

Each point is X=FILE; several files may share an X, and the line passes through their mean. The table is printed.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

import torch
from matplotlib.figure import Figure

from thinslice import read
from thinslice.experiments.scorecard import score_simulated
from thinslice.models import cost
from thinslice.models.load import load_model
from thinslice.pictures.drawing import save_png
from thinslice.pictures.plots import finished

BASELINE = "cubic"


def main() -> None:
    """Score each file once, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("thin", type=Path)
    parser.add_argument("--series", nargs="+", action="append", required=True, metavar="NAME X=FILE")
    parser.add_argument("--factor", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    series = {name: [_point(parser, point) for point in points] for name, *points in options.series}

    thin = read(options.thin)
    gains: dict[str, float] = {}
    rows = []
    for name, points in series.items():
        print(f"\n| {name} | parameters | dB over {BASELINE}, factor {options.factor} |\n|---:|---:|---:|")
        for x, file in points:
            model = load_model(file)
            if model.sha256 not in gains:
                # The scores of the baselines come first, that of the network last.
                *baselines, network = score_simulated(file, thin, case="chest", factors=(options.factor,))
                gains[model.sha256] = network.psnr - next(b.psnr for b in baselines if b.model == BASELINE)
            row = {"x": x, "parameters": cost.parameters(model), "gain": round(gains[model.sha256], 3)}
            rows.append({"series": name, "weights": model.sha256, **row})
            print(f"| {x:,.10g} | {row['parameters']:,} | {row['gain']:+.2f} |", flush=True)
    if options.json:
        results = {"factor": options.factor, "baseline": BASELINE, "torch": torch.__version__, "points": rows}
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.out:
        figure = _drawn(rows, list(series), options.factor)
        save_png(finished(figure, "One volume outside the training data of all networks."), options.out, overwrite=True)


def _point(parser: argparse.ArgumentParser, argument: str) -> tuple[float, str]:
    x, _, file = argument.partition("=")
    try:
        return float(x), str(Path(file).resolve(strict=True))
    except (ValueError, OSError):
        parser.error(f"{argument!r} is not X=FILE with a number and a weights file")


def _drawn(rows: list[dict[str, object]], names: list[str], factor: int) -> Figure:
    figure = Figure(figsize=(3.6 * len(names), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        points: dict[float, list[float]] = defaultdict(list)
        for row in rows:
            if row["series"] == name:
                points[float(str(row["x"]))].append(float(str(row["gain"])))
        xs = sorted(points)
        axes.plot(xs, [mean(points[x]) for x in xs], color="#2b6cb0", linewidth=1.4)
        axes.plot([x for x in xs for _ in points[x]], [y for x in xs for y in points[x]], "o", color="#2b6cb0", ms=4)
        axes.set_xlabel(name)
        if xs[-1] > 20 * xs[0]:
            axes.set_xscale("log")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"dB over {BASELINE}, factor {factor}")
    return figure


if __name__ == "__main__":
    main()
