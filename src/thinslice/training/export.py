"""Weights files of a run; their card records how they were trained."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from thinslice.about import __version__
from thinslice.models import checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.checkpoint import CheckpointInfo
from thinslice.recipes import TrainRecipe
from thinslice.recipes.slice_profile import MeasuredProfile
from thinslice.system.atomic import atomic_file
from thinslice.training.optimiser import Span
from thinslice.training.validate import Validation

BEST = "best.safetensors"
LAST = "last.safetensors"
PROFILE_FILE = "slice-profile.json"
"""The slice profile measured on the training pairs, as `upscale` takes it."""

_INHERITED = ("widest_slice",)
"""Entries of the initial weights' card that hold for weights trained from them."""


def export(
    recipe: TrainRecipe,
    network: ThroughPlaneModel,
    path: Path,
    *,
    steps: int,
    validation: Validation | None = None,
    initial: CheckpointInfo | None = None,
    profile: MeasuredProfile | None = None,
    data: Sequence[str] | None = None,
    schedule: Sequence[Span] = (),
) -> Path:
    """Write weights with their card: recipe, its digest, seed, training data and versions of the software.

    Where only a head for the standard deviation was trained, the estimates are those of the initial weights, bit for
    bit: the card is that of the initial weights, and its entry `deviation` records the training of the head.

    Args:
        recipe: recipe of the run.
        network: network whose weights are written.
        path: file that is replaced atomically.
        steps: optimiser steps done.
        validation: scores of exactly these weights, if there are any.
        initial: the weights that the run started from.
        profile: slice profile measured on the pairs that it was trained on.
        data: digests of the training data by case (`Sources.digests`); None where they are not known.
        schedule: lengths of the run; the card holds them where it was lengthened.

    Returns:
        `path`.
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
    if data is not None:
        run["training_data"] = data_record(data)
    if len(schedule) > 1:
        run["lengthened"] = [{"from_step": span.first, "steps": span.steps} for span in schedule]
    if initial is not None:
        run["start"] = {"name": initial.card.get("name"), "sha256": initial.sha256}
    if initial is not None and recipe.objective == "deviation":
        card = {**initial.card, "deviation": {**recipe.card, **run}}
    else:
        card = {**recipe.card, "name": recipe.name, **run}
    if initial is not None:
        card = {**{key: initial.card[key] for key in _INHERITED if key in initial.card}, **card}
    if profile is not None:
        card["slice_profile"] = profile.model_dump(mode="json")
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


def data_record(digests: Sequence[str]) -> dict[str, Any]:
    """The training data in a card: digests alone, since names of cases may be those of patients.

    Args:
        digests: of the voxels of each case, in the order of training.

    >>> data_record(["b3", "0a"])["cases"]
    ['b3', '0a']
    """
    return {"sha256": hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest(), "cases": list(digests)}


def copy_weights(source: Path, target: Path) -> None:
    """Copy a weights file; the target is replaced atomically."""
    with atomic_file(target, overwrite=True) as part:
        shutil.copyfile(source, part)
