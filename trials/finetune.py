"""Training on three pairs of a scanner of another kernel and slice profile: docs/results/trials.md.

    python trials/finetune.py FOLDER [--test NAME ...] [--scanner sharp soft] [--start fast] [--out runs/finetune]
        [--pair THICK THIN]

FOLDER holds thin CT, one file for each patient. A scanner is simulated: an in-plane kernel and its noise on the thin
slices, from which thick slices follow by a profile of its own. On each patient of --test the trial scores the network
as it is, with the profile measured on three other patients' pairs, trained on these pairs by recipes/finetune.toml, and
trained on all other patients for --full-steps: the stand-in for a full training on that scanner. Each network is
scored on the unchanged scan as well (thick slices as means), which shows what was forgotten. --pair THICK THIN, a real
pair, is trained on one half of its plane and scored on the other. Finished parts are kept; after an interruption run
the same command again.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from thinslice import Volume, read, upscale, write
from thinslice.data.measured_profile import measure_shared_profile
from thinslice.data.pairing import pair_by_position
from thinslice.data.phantoms.noise import grain_stack
from thinslice.data.simulate import simulate_thick
from thinslice.evaluation.protocol import evaluate
from thinslice.models import catalog, checkpoint
from thinslice.profile import SliceProfile
from thinslice.recipes import overridden, read_train_recipe
from thinslice.recipes.slice_profile import MeasuredProfile
from thinslice.training.fit import fit

HERE = Path(__file__).resolve().parent
FACTOR = 5
PLANE, DEPTH = 256, 120
"""Largest extent of a patient's middle part that is used, pixels and slices."""


@dataclass(frozen=True)
class Scanner:
    """A simulated scanner.

    Attributes:
        profile: of the thick slices.
        gain: of an unsharp mask in plane, 0 for none.
        sigma: its standard deviation, or that of a blur where the gain is 0; pixels.
        noise_hu: standard deviation of noise added to the thin slices.
        cutoff: of that noise, cycles per pixel: low for coarse grain.
    """

    profile: SliceProfile
    gain: float
    sigma: float
    noise_hu: float
    cutoff: float


SCANNERS = {
    "sharp": Scanner(
        SliceProfile.heavy_tailed(FACTOR, core=0.65, tail=0.25, decay=0.4), gain=0.8, sigma=1.0, noise_hu=8, cutoff=0.4
    ),
    "soft": Scanner(SliceProfile.trapezoid(FACTOR, width=1.15, ramp=0.9), gain=0.0, sigma=1.0, noise_hu=5, cutoff=0.15),
}
"""One with a narrow core and heavy tails, one wider than its header states with long flanks."""


def main() -> None:
    """Train and score what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pair", nargs=2, type=Path, metavar=("THICK", "THIN"), help="a real pair")
    parser.add_argument("--test", nargs="*", default=[], metavar="NAME", help="patients to score; default: each file")
    parser.add_argument("--scanner", nargs="+", choices=SCANNERS, default=list(SCANNERS))
    parser.add_argument("--start", default="fast", help="network to start from")
    parser.add_argument("--triples", type=int, default=2, help="sets of three pairs for each patient")
    parser.add_argument("--full-steps", type=int, default=8000, help="0 leaves the full training out")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change the recipe")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    files = {file.name.partition(".nii")[0]: file for file in sorted(options.folder.resolve().glob("*.nii*"))}
    everyone = not options.test and options.pair is None
    tested = [name for name in files if everyone or any(part in name for part in options.test)]
    if len(files) < 4 or not (tested or options.pair):
        parser.error(f"{options.folder} needs four patients or more, and one to test")
    changes = {name: json.loads(value) for name, _, value in (text.partition("=") for text in options.set)}
    print("| scanner | test | trained on | PSNR | gain | unchanged scan | processor s |")
    print("|---|---|---|---:|---:|---:|---:|")
    for scanner, test in itertools.product(options.scanner, tested):
        trial = Trial(options.out / scanner, files, scanner, options.start)
        for row in trial.rows(test, options.triples, options.full_steps, changes):
            print(f"| {scanner} | {test} | {' | '.join(row)} |", flush=True)
    if options.pair:
        for test, row in RealPair(options.out / "pair", options.pair, options.start).rows(changes):
            print(f"| real pair | {test} | {' | '.join(row)} |", flush=True)


class Trial:
    """One scanner.

    Args:
        folder: of its pairs, weights and scores.
        files: thin volumes by patient.
        scanner: name.
        start: network to start from.
    """

    def __init__(self, folder: Path, files: dict[str, Path], scanner: str, start: str) -> None:
        self.folder, self.files, self.scanner, self.start = folder, files, SCANNERS[scanner], start
        self.folder.mkdir(parents=True, exist_ok=True)

    def rows(self, test: str, triples: int, full_steps: int, changes: dict[str, Any]) -> Iterator[list[str]]:
        """Cells of the table for one patient who is tested."""
        cubic, before = self.scores(test, "cubic"), self.scores(test, self.start)
        others = [name for name in self.files if name != test]
        yield _cells("nothing (cubic)", cubic, cubic, 0.0)
        yield _cells("nothing", before, cubic, 0.0)
        for number in range(triples):
            # Three patients that follow one another in a circle: each is drawn equally often.
            three = [others[(number * 3 + step) % len(others)] for step in range(3)]
            profile = measure_shared_profile(tuple(map(read, self.pair(name))) for name in three)
            known = self.scores(test, self.start, profile, "-".join(sorted(three)))
            yield _cells("profile of three pairs", known, cubic, 0.0)
            weights, seconds = self.trained(three, changes, f"three-{'-'.join(sorted(three))}")
            yield _cells(f"three pairs ({', '.join(three)})", self.scores(test, str(weights), profile), cubic, seconds)
        if full_steps:
            longer = changes | {
                "optimiser.steps": full_steps,
                "optimiser.learning_rate": 1e-3,
                "optimiser.start_share": 0.0,
            }
            weights, seconds = self.trained(others, longer, f"full-without-{test}")
            profile = MeasuredProfile.model_validate_json((weights.parent / "slice-profile.json").read_text())
            label = f"all {len(others)} other pairs, {full_steps:,} steps"
            yield _cells(label, self.scores(test, str(weights), profile), cubic, seconds)

    def trained(self, names: Sequence[str], changes: dict[str, Any], label: str) -> tuple[Path, float]:
        """Weights trained on the pairs of some patients, and the processor seconds that it took."""
        return _trained(self.folder, {name: self.pair(name) for name in names}, self.start, changes, label)

    def pair(self, name: str) -> tuple[Path, Path]:
        """Files of the thick and the thin slices that the scanner makes of a patient."""
        thick, thin = (self.folder / f"{kind}-{name}.nii.gz" for kind in ("thick", "thin"))
        if not thick.exists() or not thin.exists():
            truth = self.scanned(_middle(read(self.files[name])))
            made, reference = simulate_thick(truth, self.scanner.profile, whole_hu=True)
            for volume, file, distance in ((made, thick, FACTOR), (reference, thin, 1)):
                # One protocol: every patient's thin slices count as 1 mm apart. The header states a thick slice as
                # thick as the slices are apart, whatever the profile is.
                grid = replace(volume.geometry, spacing_mm=(distance, 0.7, 0.7), thickness_mm=None)
                write(Volume(volume.hu, grid), file, overwrite=True)
        return thick, thin

    def scanned(self, thin: Volume) -> Volume:
        """A thin volume as the scanner reconstructs it, whole HU."""
        scanner, hu = self.scanner, thin.hu.astype(np.float32)
        blurred = gaussian_filter(hu, (0.0, scanner.sigma, scanner.sigma))
        hu = hu + scanner.gain * (hu - blurred) if scanner.gain else blurred
        grain = grain_stack(thin.geometry.shape, np.random.default_rng(0), cutoff=scanner.cutoff)
        hu = np.rint(np.clip(hu + scanner.noise_hu * grain, -1024, 3071)).astype(np.int16)
        return Volume(hu, thin.geometry)

    def scores(
        self, test: str, model: str, profile: MeasuredProfile | None = None, label: str = ""
    ) -> tuple[float, float]:
        """PSNR on the scanner's scan of a patient, and on the unchanged scan with means as thick slices; dB."""
        key = f"{test} {model} {_digest(model)} {label}"
        store = self.folder / "scores.json"
        known: dict[str, tuple[float, float]] = json.loads(store.read_text()) if store.exists() else {}
        if key not in known:
            thick, truth = map(read, self.pair(test))
            scan = _psnr(thick, truth, model, profile)
            plain = _middle(read(self.files[test]))
            thick, truth = simulate_thick(plain, SliceProfile.mean(FACTOR), whole_hu=True)
            known[key] = (scan, _psnr(thick, truth, model, MeasuredProfile.box(thick.geometry)))
            store.write_text(json.dumps(known, indent=1))
        first, second = known[key]
        return first, second


class RealPair:
    """A real pair, trained on one half of its plane and scored on the other.

    Args:
        folder: of its halves and weights.
        files: thick and thin volume.
        start: network to start from.
    """

    def __init__(self, folder: Path, files: Sequence[Path], start: str) -> None:
        self.folder, self.start = folder, start
        self.folder.mkdir(parents=True, exist_ok=True)
        self.halves: dict[str, tuple[Path, Path]] = {}
        thick, thin, self.factor = pair_by_position(*map(read, files))
        middle = thick.geometry.shape[1] // 2
        for name, rows in {"anterior": (0, middle), "posterior": (middle, thick.geometry.shape[1])}.items():
            self.halves[name] = (folder / f"thick-{name}.nii.gz", folder / f"thin-{name}.nii.gz")
            for volume, file in zip((thick, thin), self.halves[name], strict=True):
                depth, _, width = volume.geometry.shape
                write(volume.crop((0, rows[0], 0), (depth, rows[1], width)), file, overwrite=True)

    def rows(self, changes: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
        """The half that is scored, and the cells of the table."""
        for test, other in (("anterior", "posterior"), ("posterior", "anterior")):
            thick, truth = map(read, self.halves[test])

            def score(
                model: str, profile: MeasuredProfile | None, thick: Volume = thick, truth: Volume = truth
            ) -> tuple[float, float]:
                return _psnr(thick, truth, model, profile, self.factor), math.nan

            profile = measure_shared_profile([tuple(map(read, self.halves[other]))])  # type: ignore[list-item]
            cubic = score("cubic", None)
            yield test, _cells("nothing (cubic)", cubic, cubic, 0.0)
            yield test, _cells("nothing", score(self.start, None), cubic, 0.0)
            yield test, _cells(f"profile of the {other} half", score(self.start, profile), cubic, 0.0)
            pairs = {other: self.halves[other]}
            weights, seconds = _trained(self.folder, pairs, self.start, changes, f"on-{other}")
            yield test, _cells(f"{other} half", score(str(weights), profile), cubic, seconds)


def _trained(
    folder: Path, pairs: dict[str, tuple[Path, Path]], start: str, changes: dict[str, Any], label: str
) -> tuple[Path, float]:
    """Weights trained by the shipped recipe on some pairs, and the processor seconds that it took."""
    recipe = overridden(read_train_recipe(HERE.parent / "recipes" / "finetune.toml"), {"start": start, **changes})
    folder = folder / f"{start}-{_digest(start)}-{recipe.digest[:8]}" / label
    weights, time_file = folder / "run" / f"{recipe.name}.safetensors", folder / "seconds.json"
    if time_file.exists():
        return weights, float(json.loads(time_file.read_text()))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("thick", "thin", "split", "case"))
        lines.writerows((thick.resolve(), thin.resolve(), "train", name) for name, (thick, thin) in pairs.items())
    started = time.process_time()
    fit(recipe, folder / "run", data_root=folder, device="cpu")
    seconds = time.process_time() - started
    time_file.write_text(json.dumps(seconds))
    return weights, seconds


def _digest(model: str) -> str:
    """Start of the digest of a network's weights, so that new weights under an old name are scored anew."""
    return "" if model == "cubic" else checkpoint.inspect(catalog.weights_of(model)).sha256[:8]


def _psnr(thick: Volume, truth: Volume, model: str, profile: MeasuredProfile | None, factor: int = FACTOR) -> float:
    made = upscale(thick, model=model, factor=factor, profile=profile, backend="torch", device="cpu")
    return float(evaluate(made, truth).psnr)


def _middle(volume: Volume) -> Volume:
    depth, height, width = volume.geometry.shape
    low = [max(0, (n - most) // 2) for n, most in ((depth, DEPTH), (height, PLANE), (width, PLANE))]
    high = [min(n, a + most) for n, a, most in zip((depth, height, width), low, (DEPTH, PLANE, PLANE), strict=True)]
    return volume.crop((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _cells(label: str, scores: tuple[float, float], cubic: tuple[float, float], seconds: float) -> list[str]:
    gains = ["" if math.isnan(v) else f"{v - base:+.2f}" for v, base in zip(scores, cubic, strict=True)]
    return [label, f"{scores[0]:.2f}", *gains, f"{seconds:.0f}" if seconds else ""]


if __name__ == "__main__":
    main()
