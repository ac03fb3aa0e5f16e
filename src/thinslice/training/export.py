"""Weights of a run, with a card that says how they came about."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from thinslice.about import __version__
from thinslice.models import checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.checkpoint import CheckpointInfo
from thinslice.recipes import TrainRecipe
from thinslice.system.atomic import atomic_file
from thinslice.training.validate import Validation

BEST = "best.safetensors"
LAST = "last.safetensors"


def export(
    recipe: TrainRecipe,
    network: ThroughPlaneModel,
    path: Path,
    *,
    steps: int,
    validation: Validation | None = None,
    begun: CheckpointInfo | None = None,
) -> Path:
    """Write weights with their card, which names the recipe, its digest, the seed and the machine's software.

    Where only a head for the standard deviation was trained, the estimates are those of the weights the run started
    from, bit for bit: the card stays theirs, and says under `deviation` how the head came about.

    Args:
        recipe: of the run.
        network: whose weights.
        path: replaced atomically.
        steps: optimiser steps done.
        validation: of exactly these weights, if there was one.
        begun: the weights that the run started from.
    """
    run: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json", exclude={"card"}),
        "recipe_sha256": recipe.digest,
        "steps": steps,
        "seed": recipe.seed,
        "thinslice": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if begun is not None:
        run["start"] = {"name": begun.card.get("name"), "sha256": begun.sha256}
    if begun is not None and recipe.objective == "deviation":
        card = {**begun.card, "deviation": {**recipe.card, **run}}
    else:
        card = {**recipe.card, "name": recipe.name, **run}
    if validation is not None:
        card["validation"] = {
            "protocol": "rplhr",
            "cases": validation.cases,
            "psnr": round(validation.psnr, 4),
            "ssim": round(validation.ssim, 5),
        }
    with atomic_file(path, overwrite=True) as part:
        checkpoint.save(network, part, architecture=recipe.network.name, card=card)
    return path


def copy_weights(source: Path, target: Path) -> None:
    """Copy a weights file; the target is replaced atomically."""
    with atomic_file(target, overwrite=True) as part:
        shutil.copyfile(source, part)
