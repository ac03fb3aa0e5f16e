"""A tiny domain-gap experiment: pairs in the released layout, an external pair with true geometry, a small recipe."""

from __future__ import annotations

from pathlib import Path

import thinslice
from support.dataset_factory import true_volumes
from support.pair_factory import write_pair

CASES = [f"CT{number:08d}" for number in range(150, 161)]
"""Of the test split: as many as a test needs, and one more."""

TRAININGS = ("paired", "mean", "subsample")

GAP = """
name = "gap"
title = "Sharp <or> thick"
dataset = {root = "pairs"}
external = [{root = "phantom", split = "external"}]
networks = [
    {label = "A", recipe = "recipe.toml"},
    {label = "B", recipe = "recipe.toml", override = {name = "b", "optimiser.steps" = 2}},
]
degradations = [{label = "mean", profile = "mean"}, {label = "subsample", profile = "subsample"}]
baselines = ["linear", "cubic"]
training = {"crops.plane" = 24}
"""
RECIPE = """
name = "a"
network = {name = "thinnet", config = {features = 8, blocks = 1, condition = 8, basis = 6}}
dataset = {root = "pairs", validation = "val"}
crops = {flips = ["depth", "height", "width"]}
loss = {kind = "l1"}
optimiser = {steps = 60, batch = 2, warmup = 2, learning_rate = 3e-3, average = 0.9}
validation = {every = 100000, cases = 1, pictures = false}
"""


def write_gap(folder: Path) -> Path:
    """Data, recipe and `gap.toml`."""
    for number in range(3):
        write_pair(folder / "pairs", "train", number, thick_slices=8)
    for number in (100, *range(150, 161)):
        write_pair(folder / "pairs", "val" if number == 100 else "test", number, thick_slices=4)
    thick, thin = true_volumes()
    (folder / "phantom").mkdir()
    thinslice.write(thick, folder / "phantom" / "thick.nii.gz")
    thinslice.write(thin, folder / "phantom" / "thin.nii.gz")
    (folder / "phantom" / "manifest.csv").write_text(
        "thick,thin,split,case\nthick.nii.gz,thin.nii.gz,external,phantom\n"
    )
    (folder / "gap.toml").write_text(GAP, encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder


def edited(folder: Path, *changes: tuple[str, str], name: str = "gap.toml") -> None:
    """Replace parts of a suite, or of a recipe, that may be a hard link."""
    text = (folder / name).read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / name).unlink()
    (folder / name).write_text(text, encoding="utf-8")
