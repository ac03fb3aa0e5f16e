"""Recipes and suites: frozen, checked models of trainings and experiments, read from TOML."""

from thinslice.recipes.gap import (
    Degradation,
    GapNetwork,
    GapSuite,
    Variant,
    expanded,
    read_any_suite,
    read_gap_suite,
    variants,
)
from thinslice.recipes.suite import Comparison, Figures, Method, Region, Suite, SuiteDataset, read_suite
from thinslice.recipes.training import (
    LossRecipe,
    NetworkRecipe,
    OptimiserRecipe,
    StageRecipe,
    TrainRecipe,
    ValidationRecipe,
    overridden,
    read_train_recipe,
)
from thinslice.recipes.training_data import CropRecipe, DatasetRecipe, SimulationRecipe

__all__ = [
    "Comparison",
    "CropRecipe",
    "DatasetRecipe",
    "Degradation",
    "Figures",
    "GapNetwork",
    "GapSuite",
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
    "Variant",
    "expanded",
    "overridden",
    "read_any_suite",
    "read_gap_suite",
    "read_suite",
    "read_train_recipe",
    "variants",
]
