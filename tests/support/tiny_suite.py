"""A tiny suite over a tiny data set in the released layout, with a tiny untrained network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from support.pair_factory import write_pair
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.models import catalog, checkpoint

SUITE = """
name = "tiny"
title = "A tiny <suite>"
factor = 5
dataset = {root = "pairs"}
comparisons = [{kind = "above"}, {kind = "others", tested = "small"}]
methods = [
    {label = "nearest", model = "nearest"},
    {label = "cubic", model = "cubic"},
    {label = "small", model = "small.safetensors", published = "tvsrn"},
]
"""


@dataclass(frozen=True)
class Finished:
    """A run that is not to be changed: its folder, whose `out` holds what it wrote, and its result."""

    folder: Path
    result: SuiteResult


def write_data(root: Path) -> None:
    """`pairs`, four test cases of six thick slices, and `small.safetensors`."""
    for number in range(150, 154):
        write_pair(root / "pairs", "test", number)
    write_network(root / "small.safetensors")


def write_network(path: Path, *, seed: int = 0) -> None:
    """Weights of a small ThinNet, every one stirred a little: layers that begin at zero hide the others."""
    torch.manual_seed(seed)
    model = catalog.build("thinnet", features=4, blocks=1, condition=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    checkpoint.save(model, path, architecture="thinnet", card={"name": "small"})


def copied(data: Path, folder: Path) -> Path:
    """The data by hard links, and the suite."""
    for file in data.rglob("*"):
        if file.is_file():
            place = folder / file.relative_to(data)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, place)
    (folder / "suite.toml").write_text(SUITE, encoding="utf-8")
    return folder
