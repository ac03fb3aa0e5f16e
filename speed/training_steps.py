"""Seconds of a training step of each network of a suite on one thread, and the steps that a time budget allows.

    python speed/training_steps.py suites/every-network.toml --seconds 720

Processor time, not wall clock, so that other work on the machine matters little; the shortest of a few steps. Crops are
random numbers. A recipe in stages gives two thirds of its time to the first stage.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from thinslice.models import catalog
from thinslice.profile import SliceProfile
from thinslice.recipes import TrainRecipe, overridden, read_suite, read_train_recipe
from thinslice.training.objective import Conditions, ObjectiveModule
from thinslice.training.optimiser import make_optimiser

STEPS = 3
"""Steps that are taken; the first one counts no time."""


def step_seconds(recipe: TrainRecipe) -> list[float]:
    """Processor seconds of a step, by stage."""
    network = catalog.build(recipe.network.name, **recipe.network.config).train()
    factor, depth, plane = network.default_factor, recipe.crops.depth, recipe.crops.plane
    thick = torch.rand(recipe.optimiser.batch, 1, depth, plane, plane)
    thin = torch.rand(recipe.optimiser.batch, 1, (depth - 1) * factor + 1, plane, plane)
    conditions = Conditions(factor, SliceProfile.mean(factor))
    seconds = []
    for index in range(max(1, len(recipe.stages))):
        part = recipe.at_stage(index) if recipe.stages else recipe
        trained = recipe.stages[index].trainable if recipe.stages else ("",)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(tuple(trained)))
        moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
        objective, optimiser = (
            ObjectiveModule(network, part.objective, part.loss),
            make_optimiser(moving, part.optimiser),
        )
        taken = []
        for _ in range(STEPS):
            begin = time.process_time()
            loss = objective(thick, thin, torch.ones_like(thin), conditions)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            taken.append(time.process_time() - begin)
        seconds.append(min(taken[1:]))
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--seconds", type=float, default=720.0, help="of each training (default: 720)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    suite = read_suite(chosen.suite)
    print("| network | seconds of a step | steps |\n|---|---|---|")
    for method in suite.methods:
        if method.recipe is None or method.adapt_steps:
            continue
        recipe = overridden(read_train_recipe(suite.folder / method.recipe), {**suite.training, **method.override})
        seconds = step_seconds(recipe)
        shares = [1.0] if len(seconds) == 1 else [2 / 3, 1 / 3]
        steps = [int(chosen.seconds * share / each) for share, each in zip(shares, seconds, strict=True)]
        print(
            f"| {method.label} | {', '.join(f'{s:.3f}' for s in seconds)} | {', '.join(map(str, steps))} |", flush=True
        )


if __name__ == "__main__":
    main()
