"""Recipes: frozen, checked models of everything that defines an experiment, read from TOML. No eval, no pickle."""

from thinslice.recipes.training import (
    CropRecipe,
    DatasetRecipe,
    LossRecipe,
    NetworkRecipe,
    OptimiserRecipe,
    SimulationRecipe,
    StageRecipe,
    TrainRecipe,
    ValidationRecipe,
    read_train_recipe,
)

__all__ = [
    "CropRecipe",
    "DatasetRecipe",
    "LossRecipe",
    "NetworkRecipe",
    "OptimiserRecipe",
    "SimulationRecipe",
    "StageRecipe",
    "TrainRecipe",
    "ValidationRecipe",
    "read_train_recipe",
]
