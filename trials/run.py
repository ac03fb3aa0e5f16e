"""Network designs, trained alike on some patients and scored on another: the table of docs/results/trials.md.

    python trials/run.py FOLDER --held-out NAME [--steps 600] [--only LABEL ...] [--out runs/trials]

FOLDER holds thin chest CT, one file for each patient; the file whose name contains NAME is scored and not trained on.
Finished trials are kept; after an interruption run the same command again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

from thinslice import read
from thinslice.experiments.scorecard import score_simulated
from thinslice.models import catalog, cost
from thinslice.models.load import load_model
from thinslice.recipes import TrainRecipe, overridden, read_train_recipe
from thinslice.training.fit import fit
from thinslice.volume import Volume

HERE = Path(__file__).resolve().parent
FACTORS = (2, 5, 8)
PLANE = 192
"""Side in pixels of the central part of the held-out patient that is scored."""

_PLAIN = {"features": 48, "blocks": 4, "body": "plain"}
_CHOSEN = {"features": 48, "blocks": 5}
_AS_BEFORE = {"standardised": False, "gains": False}
_ADAMW = {"optimiser.method": "adamw"}

TRIALS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain 48 x 4, as before: AdamW": (_PLAIN | _AS_BEFORE, _ADAMW),
    "  standardised input": (_PLAIN | {"gains": False}, _ADAMW),
    "  standardised input, gains": (_PLAIN, _ADAMW),
    "  standardised input, gains, Muon": (_PLAIN, {}),
    "plain 32 x 9": (_PLAIN | {"features": 32, "blocks": 9}, {}),
    "plain 96 x 4, quarter resolution": (_PLAIN | {"features": 96, "unshuffle": 4}, {}),
    "plain 24 x 4, full resolution": (_PLAIN | {"features": 24, "unshuffle": 1}, {}),
    "plain 48 x 4, SiLU": (_PLAIN | {"smooth": True}, {}),
    "plain 48 x 4, dilated in plane": (_PLAIN | {"dilated": True}, {}),
    "pyramid 40 x 2 and 80 x 3": ({"features": 40, "blocks": 2, "body": "pyramid"}, {}),
    "separable 48 x 7": ({"features": 48, "blocks": 7, "body": "separable"}, {}),
    "separable 48 x 5": ({"features": 48, "blocks": 5, "body": "separable"}, {}),
    "pointwise 48 x 5": (_CHOSEN, {}),
    "plain 48 x 4, twice the learning rate": (_PLAIN, {"optimiser.learning_rate": 4e-3}),
    "plain 48 x 4, half the learning rate": (_PLAIN, {"optimiser.learning_rate": 1e-3}),
    "plain 48 x 4, squared loss": (_PLAIN, {"loss.kind": "mse"}),
    "plain 48 x 4, in-plane axes as z in 60 %": (_PLAIN, {"simulation.in_plane_share": 0.6}),
    "plain 48 x 4, in-plane axes never": (_PLAIN, {"simulation.in_plane_share": 0.0}),
    "plain 48 x 4, batches of 4, half the steps": (_PLAIN, {"optimiser.batch": 4, "optimiser.steps": 0.5}),
    "pointwise 48 x 5, knee at 40 HU": (_CHOSEN, {"loss.knee_hu": 40.0}),
    "pointwise 48 x 5, batches of 1, twice the steps": (_CHOSEN, {"optimiser.batch": 1, "optimiser.steps": 2.0}),
    "pointwise 48 x 5, ellipsoids in 30 %": (_CHOSEN, {"simulation.sown_share": 0.3}),
    "pointwise 64 x 8": ({"features": 64, "blocks": 8}, {}),
    "pointwise 32 x 4": ({"features": 32, "blocks": 4}, {}),
}
"""Label -> config of `bodies.TrialConfig`, and changed values of the recipe (steps as a multiple)."""


def main() -> None:
    """Run the requested trials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-out", required=True, metavar="NAME")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1, help="default 1, so that two runs share two cores well")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/trials"))
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    sys.path.insert(0, str(HERE))
    catalog.CATALOG["trial"] = catalog.Entry("bodies:TrialNet", "bodies:TrialConfig", "a design on trial")
    files = sorted(file for file in options.folder.resolve().iterdir() if ".nii" in file.name)
    held_out = [file for file in files if options.held_out in file.name]
    if len(held_out) != 1 or len(files) < 2:
        parser.error(f"exactly one file of {options.folder} must have {options.held_out!r} in its name")
    truth = _centre(read(held_out[0]))
    trained_on = tuple(str(file) for file in files if file not in held_out)
    for label, (config, changes) in TRIALS.items():
        if options.only and label.strip() not in options.only:
            continue
        name = re.sub("[^a-z0-9]+", "-", label.lower()).strip("-")
        folder = options.out / f"without-{options.held_out}-{options.steps}" / name
        done = folder / "score.json"
        if done.exists():
            print(_line(json.loads(done.read_text())), flush=True)
            continue
        recipe = _recipe(config, changes, trained_on, options.steps)
        start, busy = time.perf_counter(), time.process_time()
        weights = fit(recipe, folder, data_root=Path("/"), device="cpu")
        assert weights is not None
        model = load_model(weights)
        gains = {}
        for factor in FACTORS:
            cubic, *_, network = score_simulated(weights, truth, case=options.held_out, factors=(factor,))
            gains[factor] = round(network.psnr - cubic.psnr, 3)
        row = {
            "design": label,
            "held out": options.held_out,
            "steps": recipe.optimiser.steps,
            "parameters": cost.parameters(model),
            "operations per thick voxel": round(cost.operations(model, (8, 256, 256), 5) / (8 * 256 * 256)),
            "seconds": round(time.perf_counter() - start),
            "processor seconds": round(time.process_time() - busy),
            "gain": gains,
            "recipe": recipe.digest,
            "torch": torch.__version__,
        }
        done.write_text(json.dumps(row, indent=1))
        print(_line(row), flush=True)


def _recipe(config: dict[str, Any], changes: dict[str, Any], data: tuple[str, ...], steps: int) -> TrainRecipe:
    base = read_train_recipe(HERE.parent / "recipes" / "default.toml")
    # Fixed here, so that trials do not change with the default's recipe.
    fixed = {
        "optimiser.method": "muon",
        "optimiser.learning_rate": 2e-3,
        "optimiser.batch": 2,
        "optimiser.warmup": 60,
        "optimiser.average": 0.99,
        "loss.knee_hu": 100.0,
        # Half the time of a step on processors that have bfloat16 products.
        "precision": "bf16-mixed",
    }
    values = {**fixed, **changes, "optimiser.steps": round(steps * changes.get("optimiser.steps", 1.0))}
    changed = overridden(base, values)
    network = changed.network.model_copy(update={"name": "trial", "config": config})
    return changed.model_copy(update={"name": "trial", "network": network, "data": data})


def _centre(volume: Volume) -> Volume:
    depth, height, width = volume.geometry.shape
    top, left = max(0, (height - PLANE) // 2), max(0, (width - PLANE) // 2)
    return volume.crop((0, top, left), (depth, min(height, top + PLANE), min(width, left + PLANE)))


def _line(row: dict[str, Any]) -> str:
    gains = "  ".join(f"x{factor} {gain:+.2f}" for factor, gain in row["gain"].items())
    size = f"{row['parameters']:9,} {row['operations per thick voxel']:8,}"
    return f"{row['design']:48} {size}  {gains}  {row['processor seconds']} s"


if __name__ == "__main__":
    main()
