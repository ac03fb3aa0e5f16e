"""Recipes: frozen, checked models of everything that defines an experiment, read from TOML. No eval, no pickle."""

from thinslice.recipes.suite import Comparison, Figures, Method, Region, Suite, SuiteDataset, read_suite
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
    overridden,
    read_train_recipe,
)

__all__ = [
    "Comparison",
    "CropRecipe",
    "DatasetRecipe",
    "Figures",
    "LossRecipe",
    "Method",
    "NetworkRecipe",
    "OptimiserRecipe",
    "Region",
    "SimulationRecipe",
    "StageRecipe",
    "Suite",
    "SuiteDataset",
    "TrainRecipe",
    "ValidationRecipe",
    "overridden",
    "read_suite",
    "read_train_recipe",
]
