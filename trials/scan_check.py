"""Counts of `thinslice check` on ordinary scans and on scans made bad: docs/results/scan-check.md.

    python trials/scan_check.py reference FOLDER --out src/thinslice/evaluation/scan_traits/training_set.json
    python trials/scan_check.py count FOLDER... [--only NAME...] [--reference FILE.json] [--json FILE]

FOLDER holds CT as NIfTI, one file for each patient. From a thin volume thick slices of several distances are
averaged; a volume of slices 3 mm or more apart is taken as it is. `reference` measures the traits of the training
scans, and the gain of the embedded networks on their thicker slices. `count` makes scans bad in many ways and prints
how often each kind is warned about. The network runs only on scans about which nothing else warned: it can make a
verdict worse, not better.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from thinslice import Volume, load_model, read
from thinslice.commands.check import check, unlikely_values
from thinslice.data.simulate import simulate_thick
from thinslice.evaluation.scan_traits.findings import findings
from thinslice.evaluation.scan_traits.reference import ReferenceScan, TrainingSet, training_set
from thinslice.evaluation.scan_traits.traits import measure_traits
from thinslice.experiments.thicker import measure_thicker
from thinslice.models.base import ThroughPlaneModel
from thinslice.profile import SliceProfile

THICK_FROM_MM = 3.0
"""Slices at least so far apart are thick ones."""

DISTANCES_MM = (3.0, 5.0, 8.0)
"""Distances of the thick slices that are averaged from thin ones; the nearest whole multiple is taken."""

LEAST_SLICES = 11
"""Fewer thick slices are left out."""

MODELS = ("default", "fast", "best")
"""Networks whose gain the reference holds."""

STATED = (0.2, 0.5, 1.5, 2.0)
"""Thickness over distance in the wrong headers of contiguous slices."""

Values = npt.NDArray[np.float32]
Change = Callable[[Values, Volume, np.random.Generator], Values]


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("reference")
    measure.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    measure.add_argument("--only", nargs="+", default=[], metavar="NAME")
    measure.add_argument("--models", nargs="*", default=MODELS)
    measure.add_argument("--out", type=Path, required=True)
    count = commands.add_parser("count")
    count.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    count.add_argument("--only", nargs="+", default=[], metavar="NAME", help="files whose names contain one of these")
    count.add_argument("--kinds", nargs="+", default=[], help="kinds of bad scans; all unless given")
    count.add_argument("--reference", type=Path)
    count.add_argument("--leave-out", nargs="+", default=[], metavar="NAME", help="training scans not to refer to")
    count.add_argument("--model", default="default")
    count.add_argument("--json", type=Path)
    for each in (measure, count):
        each.add_argument("--threads", type=int)
        each.add_argument("--distances", type=float, nargs="+", default=DISTANCES_MM, metavar="MM")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    files = sorted(
        file
        for folder in options.folders
        for file in ([folder] if folder.is_file() else folder.iterdir())
        if ".nii" in file.name and (not options.only or any(name in file.name for name in options.only))
    )
    if not files:
        parser.error("no NIfTI file of that name in the folders")
    if options.command == "reference":
        write_reference(files, tuple(options.models), tuple(options.distances), options.out)
    else:
        count_all(files, options)


def write_reference(files: list[Path], models: tuple[str, ...], distances_mm: tuple[float, ...], out: Path) -> None:
    """Measure the training scans."""
    networks = {name: load_model(name) for name in models}
    scans = []
    for file in files:
        for name, scan, _ in thick_scans(file, distances_mm):
            gains = {}
            for model, network in networks.items():
                tests = measure_thicker(scan, network, device="cpu", backend="torch")
                gains[model] = {test.factor: round(test.gain_db, 2) for test in tests}
            scans.append(ReferenceScan(case=name, traits=measure_traits(scan), gain_db=gains))
            print(f"{name:60} {gains}", flush=True)
    found = TrainingSet(
        command=" ".join(["python", "trials/scan_check.py", "reference", "FOLDER", "--out", out.name]),
        weights={name: str(network.sha256) for name, network in networks.items()},
        scans=tuple(scans),
    )
    out.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")


def count_all(files: list[Path], options: argparse.Namespace) -> None:
    """Check every ordinary and every bad scan, and print the counts."""
    reference = training_set()
    if options.reference is not None:
        reference = TrainingSet.model_validate_json(options.reference.read_text(encoding="utf-8"))
    kept = [scan for scan in reference.scans if not any(name in scan.case for name in options.leave_out)]
    reference = reference.model_copy(update={"scans": tuple(kept)})
    network = load_model(options.model)
    # An interrupted count goes on where it was.
    rows: list[dict[str, Any]] = []
    if options.json is not None and options.json.exists():
        rows = json.loads(options.json.read_text(encoding="utf-8"))
    done = {(row["scan"], row["kind"]) for row in rows}
    for file in files:
        for name, scan, thin in thick_scans(file, tuple(options.distances)):
            for kind, make in cases(scan, thin).items():
                if (name, kind) in done or (options.kinds and kind not in ("ordinary", *options.kinds)):
                    continue
                case = make()
                row = _checked(case, network, reference, is_ordinary=kind == "ordinary")
                rows.append({"scan": name, "kind": kind, **row})
                print(f"{name:40} {kind:32} {row['verdict']:20} {', '.join(row['findings'])}", flush=True)
                if options.json is not None:
                    options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


def _checked(scan: Volume, network: ThroughPlaneModel, reference: TrainingSet, *, is_ordinary: bool) -> dict[str, Any]:
    begun = time.process_time()
    if not is_ordinary:
        traits = measure_traits(scan)
        found = [*unlikely_values(scan), *findings(traits, reference)]
        if found:
            worst = "not for this network"
            return {
                "verdict": worst if any(finding.verdict == worst for finding in found) else "look closely",
                "findings": [finding.trait for finding in found],
                "traits": traits.model_dump(exclude_defaults=True),
            }
    report = check(scan, model=network, device="cpu", backend="torch", reference=reference)
    return {
        "verdict": report.verdict,
        "findings": [finding.trait for finding in report.findings],
        "gain_db": [round(test.gain_db, 2) for test in report.tests],
        "traits": report.traits.model_dump(exclude_defaults=True),
        "processor_seconds": round(time.process_time() - begun, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Counts by kind as Markdown."""
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        kinds[str(row["kind"])].append(row)
    lines = ["| kind | scans | warned | not for this network | by |", "|---|---:|---:|---:|---|"]
    for kind, of_kind in kinds.items():
        reasons: dict[str, int] = defaultdict(int)
        for row in of_kind:
            for trait in row["findings"]:
                reasons[trait] += 1
        by = ", ".join(f"`{trait}` {count}" for trait, count in sorted(reasons.items(), key=lambda item: -item[1])[:3])
        warned = sum(row["verdict"] != "good" for row in of_kind)
        worst = sum(row["verdict"] == "not for this network" for row in of_kind)
        lines.append(f"| {kind} | {len(of_kind)} | {warned} | {worst} | {by} |")
    bad_rows = [row for row in rows if row["kind"] != "ordinary"]
    if bad_rows:
        warned = sum(row["verdict"] != "good" for row in bad_rows)
        lines.append(f"\nmade bad: {warned} of {len(bad_rows)} warned ({100 * warned / len(bad_rows):.1f} %)")
    return "\n".join(lines)


def thick_scans(file: Path, distances_mm: tuple[float, ...]) -> Iterator[tuple[str, Volume, tuple[Volume, int] | None]]:
    """Name, thick slices, and (thin volume, factor) where they were averaged."""
    volume = read(file)
    name = file.name.partition(".nii")[0]
    step_mm = volume.geometry.spacing_mm[0]
    if step_mm >= THICK_FROM_MM:
        if volume.shape[0] >= LEAST_SLICES:
            yield name, volume, None
        return
    for factor in sorted({max(2, round(distance / step_mm)) for distance in distances_mm}):
        if volume.shape[0] // factor > LEAST_SLICES:
            thick, _ = simulate_thick(volume, SliceProfile.mean(factor), whole_hu=True)
            # An odd number of equal slices is exactly as thick as it is apart, an even one by convention.
            yield f"{name} x{factor}", contiguous(thick), (volume, factor)


def bad(scan: Volume, kind: str, change: Change) -> Volume:
    """A scan with its values changed, whole HU and in the range that files hold."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    hu = np.rint(np.clip(change(scan.hu.astype(np.float32), scan, rng), -1024, 3071)).astype(np.int16)
    return Volume(hu, replace(scan.geometry, shape=hu.shape))


def cases(scan: Volume, thin: tuple[Volume, int] | None) -> dict[str, Callable[[], Volume]]:
    """Kind -> what makes the scan of that kind; `thin` is the thin volume and the factor, where there is one."""
    made: dict[str, Callable[[], Volume]] = {"ordinary": lambda: scan}
    for kind, change in BAD.items():
        made[kind] = lambda kind=kind, change=change: bad(scan, kind, change)  # type: ignore[misc]
    for ratio in STATED:
        made[f"header: {ratio:g} x thickness"] = lambda ratio=ratio: stated(scan, ratio)  # type: ignore[misc]
    for ratio in (0.5, 2.0):
        made[f"header: {ratio:g} x distance"] = lambda ratio=ratio: stretched(scan, ratio)  # type: ignore[misc]
    if thin is not None:
        volume, factor = thin
        made["header: contiguous, slices 2 x as thick"] = lambda: contiguous(
            simulate_thick(volume, SliceProfile.mean(factor, width=2.0), whole_hu=True)[0]
        )
        made["header: contiguous, one thin slice each"] = lambda: contiguous(
            simulate_thick(volume, SliceProfile.subsample(factor), whole_hu=True)[0]
        )
    return made


def stated(scan: Volume, ratio: float) -> Volume:
    """The same slices with another thickness over distance in their header."""
    return Volume(scan.hu, replace(scan.geometry, thickness_mm=ratio * scan.geometry.spacing_mm[0]))


def stretched(scan: Volume, ratio: float) -> Volume:
    """The same slices with another distance, and the thickness that fits it, in their header."""
    grid = scan.geometry
    distance_mm = ratio * grid.spacing_mm[0]
    return Volume(scan.hu, replace(grid, spacing_mm=(distance_mm, *grid.spacing_mm[1:]), thickness_mm=distance_mm))


def contiguous(scan: Volume) -> Volume:
    """The same slices, as thick as they are apart by their header."""
    return stated(scan, 1.0)


def _sharp(amount: float, pixels: float) -> Change:
    return lambda hu, scan, rng: hu + amount * (hu - gaussian_filter(hu, (0, pixels, pixels)))


def _sharp_along_z(amount: float) -> Change:
    return lambda hu, scan, rng: hu + amount * (hu - gaussian_filter1d(hu, 1.0, axis=0))


def _gamma(exponent: float) -> Change:
    return lambda hu, scan, rng: 3072.0 * np.clip((hu + 1024.0) / 3072.0, 0.0, 1.0) ** exponent - 1024.0


def _like_mr(hu: Values, scan: Volume, rng: np.random.Generator) -> Values:
    """Signal of a T1-weighted scan: fat bright, water dark, air and bone without signal."""
    tissues = [-1024, -900, -500, -120, -60, 0, 20, 60, 120, 300, 1000, 3071]
    signal = np.interp(hu, tissues, [5, 10, 15, 900, 850, 300, 350, 500, 550, 100, 30, 10])
    return np.asarray(signal + rng.rayleigh(12.0, hu.shape), dtype=np.float32)


def _smooth_noise(hu_sd: float) -> Change:
    """Noise as behind a soft kernel, in plane."""

    def added(hu: Values, scan: Volume, rng: np.random.Generator) -> Values:
        noise = gaussian_filter(rng.normal(0.0, 1.0, hu.shape), (0, 0.8, 0.8))
        return np.asarray(hu + hu_sd / noise.std() * noise, dtype=np.float32)

    return added


def _interpolated(hu: Values, scan: Volume, rng: np.random.Generator) -> Values:
    """Every other slice halfway between its neighbours."""
    made = hu[: len(hu) // 2 + 1].repeat(2, axis=0)[: len(hu)]
    made[1:-1:2] = 0.5 * (made[:-2:2] + made[2::2])[: len(made[1:-1:2])]
    return made


def _with_metal(hu: Values, scan: Volume, rng: np.random.Generator) -> Values:
    """A rod of metal with streaks, in the middle of the body."""
    height, width = hu.shape[1:]
    y, x = np.mgrid[:height, :width]
    y0, x0 = height // 2, width // 2
    angle = np.arctan2(y - y0, x - x0)
    away = np.hypot(y - y0, x - x0)
    streaks = 400.0 * np.cos(9.0 * angle) * np.exp(-away / 60.0)
    changed = hu + np.where(hu > -900, streaks, 0.0).astype(np.float32)
    changed[:, away < 10.0] = 3071.0
    return changed


BAD: dict[str, Change] = {
    "sharpened in plane, 2 x 1 pixel": _sharp(2.0, 1.0),
    "sharpened in plane, 4 x 0.8": _sharp(4.0, 0.8),
    "sharpened in plane, 1.5 x 2": _sharp(1.5, 2.0),
    "sharpened along z, 1": _sharp_along_z(1.0),
    "sharpened along z, 2": _sharp_along_z(2.0),
    "gamma 0.5": _gamma(0.5),
    "gamma 0.8": _gamma(0.8),
    "gamma 1.5": _gamma(1.5),
    "inverted": lambda hu, scan, rng: -hu,
    "inverted within the window": lambda hu, scan, rng: 1024.0 - hu,
    "window -160 to 240": lambda hu, scan, rng: np.clip(hu, -160.0, 240.0),
    "window -1000 to 400": lambda hu, scan, rng: np.clip(hu, -1000.0, 400.0),
    "HU x 0.5": lambda hu, scan, rng: 0.5 * hu,
    "HU x 0.8": lambda hu, scan, rng: 0.8 * hu,
    "HU x 1.5": lambda hu, scan, rng: 1.5 * hu,
    "HU + 300": lambda hu, scan, rng: hu + 300.0,
    "like MR": _like_mr,
    "like MR, from -1024": lambda hu, scan, rng: 2.0 * _like_mr(hu, scan, rng) - 1024.0,
    "white noise of 40 HU": lambda hu, scan, rng: hu + rng.normal(0.0, 40.0, hu.shape),
    "white noise of 100 HU": lambda hu, scan, rng: hu + rng.normal(0.0, 100.0, hu.shape),
    "smooth noise of 150 HU": _smooth_noise(150.0),
    "each slice twice": lambda hu, scan, rng: hu[: len(hu) // 2 + 1].repeat(2, axis=0)[: len(hu)],
    "one slice twice": lambda hu, scan, rng: np.insert(hu, len(hu) // 2, hu[len(hu) // 2], axis=0)[:-1],
    "every other slice interpolated": _interpolated,
    "a slice missing": lambda hu, scan, rng: np.delete(hu, len(hu) // 2, axis=0),
    "two slices exchanged": lambda hu, scan, rng: hu[
        [*range(len(hu) // 3), len(hu) // 3 + 1, len(hu) // 3, *range(len(hu) // 3 + 2, len(hu))]
    ],
    "metal": _with_metal,
}
"""Kind -> change of the HU of a thick scan."""

if __name__ == "__main__":
    sys.exit(main())
