"""Intervals of the uncertainty map, scan by scan: by the card alone, and scaled to the noise of the scan.

    python trials/uncertainty_scale.py LABEL=THIN ... [--factors 3 5 8] [--plane 192] [--json FILE] [--threads N]
    python trials/uncertainty_scale.py --from FILE.json ...

Every thin scan (its middle 120 slices and `--plane` pixels) is averaged to thick slices and upscaled back with its
map. Of errors over the bare map histograms are kept for air, lung and soft tissue, so that NOISE_SHARE and
STRUCTURE_SHARE (`thinslice.inference.scan_deviation`) can be fitted to all scans but one and tested on that one.
Printed are the shares of the voxels in intervals of 50, 68, 90 and 95 %, mean over the factors of a scan, and what the
best single scale of each scan, chosen in hindsight, would reach.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from thinslice import load_model, read, upscale_slabs
from thinslice.data.simulate import simulate_thick
from thinslice.errors import NotEligibleError
from thinslice.geometry import nearest_thick
from thinslice.inference.scan_deviation import NOISE_SHARE, STRUCTURE_SHARE, NoiseRatios, ScanScale
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.models.calibration import LEVELS, Calibration
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

MOST_SLICES = 120
"""Thin slices of a scan that are used, from its middle."""

EDGES = 2.0 ** (np.arange(-8 * 16, 8 * 16 + 1) / 16)
"""Borders of the histograms: errors over the bare map."""

PLACES = ("air", "lung", "soft")

NOISE_SHARES, STRUCTURE_SHARES = np.arange(0.8, 2.01, 0.05), np.arange(0.3, 1.01, 0.05)
"""Values that are tried."""

Row = dict[str, Any]


def main() -> None:
    """Measure or read rows, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("thin", nargs="*", metavar="LABEL=THIN")
    parser.add_argument("--factors", type=int, nargs="+", default=[3, 5, 8])
    parser.add_argument("--plane", type=int, default=192)
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--from", type=Path, nargs="+", default=[], dest="earlier")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    rows: list[Row] = [row for file in options.earlier for row in json.loads(file.read_text(encoding="utf-8"))]
    model = load_model(options.model)
    calibration = Calibration.from_card(model.card)
    for argument in options.thin:
        label, _, path = argument.partition("=")
        for row in measured(label, read(Path(path)), model, calibration, options):
            rows.append(row)
            print(f"{label}, factor {row['factor']}: {row['scale']}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    for line in table(rows, calibration):
        print(line)


def measured(
    label: str, thin: Volume, model: Any, calibration: Calibration, options: argparse.Namespace
) -> Iterable[Row]:
    """One row for each factor that leaves five thick slices."""
    extent = (MOST_SLICES, options.plane, options.plane)
    start = tuple(max(0, (length - most) // 2) for length, most in zip(thin.hu.shape, extent, strict=True))
    stop = tuple(min(length, at + most) for length, at, most in zip(thin.hu.shape, start, extent, strict=True))
    part = thin.crop(start, stop)
    for factor in options.factors:
        try:
            thick, truth = simulate_thick(part, SliceProfile.mean(factor), whole_hu=True)
        except NotEligibleError:
            continue
        if len(thick.hu) < 4:
            continue
        stream = upscale_slabs(
            thick, model=model, factor=factor, uncertainty=True, threads=options.threads, backend="torch"
        )
        slabs = list(stream)
        scale: ScanScale | None = stream.result.scan_scale
        counts = np.zeros((len(PLACES), len(EDGES) + 1))
        covered = np.zeros(len(LEVELS))
        voxels = 0
        for slab in slabs:
            for offset, (hu, deviation) in enumerate(zip(slab.hu, slab.deviation_hu, strict=True)):
                index = slab.start + offset
                around = thick.hu[nearest_thick(index, factor)]
                plane = truth.hu[index]
                inside = (plane > WINDOW_MIN_HU) & (plane < WINDOW_MAX_HU) & (deviation > 0)
                error = np.abs(hu.astype(np.float32) - plane)[inside]
                covered += [
                    np.count_nonzero(error <= calibration.multipliers[level] * deviation[inside]) for level in LEVELS
                ]
                voxels += error.size
                applied = 1.0 if scale is None else scale.of_slice(around)[inside]
                bare = deviation[inside] / applied / calibration.scale
                place = np.stack(
                    [
                        ScanScale(*(math.e if each == name else 1.0 for each in PLACES)).of_slice(around)
                        for name in PLACES
                    ]
                ).argmax(axis=0)[inside]
                bins = np.searchsorted(EDGES, np.maximum(error, 1e-3) / bare)
                for number in range(len(PLACES)):
                    counts[number] += np.bincount(bins[place == number], minlength=len(EDGES) + 1)
        yield {
            "case": label,
            "factor": factor,
            "scale": None if scale is None else {k: round(v, 3) for k, v in asdict(scale).items()},
            "ratios": None if scale is None else [_ratio(value) for value in asdict(scale).values()],
            "counts": counts.astype(int).tolist(),
            "covered": (100.0 * covered / voxels).round(2).tolist(),
        }


def table(rows: Sequence[Row], calibration: Calibration) -> list[str]:
    """Markdown: for each scan the card alone, this package's shares, and shares fitted without the scan."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    lines = [
        f"| scan | factors | scale in air, lung, soft tissue | card alone: {levels()} | scaled: {levels()} "
        "| fitted without the scan |",
        "|---|---|---|---|---|---|",
    ]
    worst: dict[str, list[float]] = {"card": [], "scaled": [], "left out": [], "hindsight": []}
    for case in cases:
        own = [row for row in rows if row["case"] == case]
        shares = (
            fitted([row for row in rows if row["case"] != case], calibration)
            if len(cases) > 1
            else (NOISE_SHARE, STRUCTURE_SHARE)
        )
        found = {
            "card": np.mean([coverage(row, None, calibration) for row in own], axis=0),
            "scaled": np.mean([row["covered"] for row in own], axis=0),
            "left out": np.mean([coverage(row, shares, calibration) for row in own], axis=0),
        }
        hindsight = min(
            float(np.abs(np.mean([coverage(row, None, calibration, by) for row in own], axis=0) - LEVELS).max())
            for by in np.geomspace(0.25, 4.0, 161)
        )
        worst["hindsight"].append(hindsight)
        for name, values in found.items():
            worst[name].append(float(np.abs(values - LEVELS).max()))
        scales = [row["scale"] for row in own if row["scale"]]
        shown = ", ".join(f"{np.mean([each[place] for each in scales]):.2f}" for place in PLACES) if scales else "none"
        lines.append(
            f"| {case} | {', '.join(str(row['factor']) for row in own)} | {shown} | "
            + " | ".join(" ".join(f"{value:.1f}" for value in found[name]) for name in found)
            + " |"
        )
    for name, values in worst.items():
        lines.append(
            f"{name}: {sum(value <= 5 for value in values)} of {len(values)} scans within 5 points, "
            f"worst {max(values):.1f}, mean {np.mean(values):.1f}"
        )
    noise, structure = fitted(rows, calibration)
    lines.append(
        f"fitted to all: noise {noise:.2f}, structure {structure:.2f} (in use: {NOISE_SHARE}, {STRUCTURE_SHARE})"
    )
    return lines


def levels() -> str:
    """The nominal levels."""
    return ", ".join(str(level) for level in LEVELS)


def coverage(row: Row, shares: tuple[float, float] | None, calibration: Calibration, by: float = 1.0) -> np.ndarray:
    """Percent of the voxels in the intervals of `LEVELS`, with a scan's scale by `shares`, or all scaled `by`."""
    scales = [by] * len(PLACES)
    if shares is not None and row["ratios"] is not None:
        scales = list(asdict(NoiseRatios(*row["ratios"]).scale(*shares)).values())
    counts = np.asarray(row["counts"], dtype=float)
    below = np.zeros(len(LEVELS))
    for number, scale in enumerate(scales):
        reach = np.log2([calibration.multipliers[level] * calibration.scale * scale for level in LEVELS])
        below += np.interp(reach, np.log2(EDGES), np.cumsum(counts[number])[:-1])
    return np.asarray(100.0 * below / counts.sum())


def fitted(rows: Sequence[Row], calibration: Calibration) -> tuple[float, float]:
    """The two shares under which the worst level of every scan is least wrong, as squares; scans have equal weight."""
    cases = list(dict.fromkeys(row["case"] for row in rows))

    def loss(shares: tuple[float, float]) -> float:
        return sum(
            float(
                np.mean(
                    [
                        np.abs(coverage(row, shares, calibration) - LEVELS).max() ** 2
                        for row in rows
                        if row["case"] == case
                    ]
                )
            )
            for case in cases
        )

    return min(((float(a), float(b)) for a in NOISE_SHARES for b in STRUCTURE_SHARES), key=loss)


def _ratio(scale: float) -> float:
    return math.sqrt(max(scale**2 - STRUCTURE_SHARE**2, 0.0)) / NOISE_SHARE


if __name__ == "__main__":
    main()
