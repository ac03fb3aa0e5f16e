"""Slice profiles drawn for training: those of the simulated scanner, and those that the network gets.

At inference a network gets the box of the slice thickness in the header, while the scanner's own profile is another:
a little wider or narrower, its flanks soft, with a narrow core and heavy tails.
"""

from __future__ import annotations

import numpy as np

from thinslice.profile import SliceProfile
from thinslice.recipes import SimulationRecipe

CORE, TAIL, DECAY = (0.65, 1.0), (0.05, 0.25), (0.25, 0.45)
"""Ranges of `SliceProfile.heavy_tailed`: width of the core, weight and decay length of the tails."""


def draw_profiles(recipe: SimulationRecipe, factor: int, rng: np.random.Generator) -> tuple[SliceProfile, SliceProfile]:
    """The profile that thick slices are simulated with, and the one that the network gets.

    Args:
        recipe: which profiles, how often.
        factor: thin slices per thick interval.
        rng: source of all draws.

    >>> recipe = SimulationRecipe(profiles={"mean": 1.0}, box_width_share=0.0)
    >>> draw_profiles(recipe, 5, np.random.default_rng(0)) == (SliceProfile.mean(5), SliceProfile.mean(5))
    True
    """
    nominal = 1.0
    if rng.random() < recipe.box_width_share:
        low, high = recipe.box_width
        if recipe.box_width_law == "logarithmic":
            nominal = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        else:
            nominal = float(rng.uniform(low, high))
    names = list(recipe.profiles)
    shares = np.array([recipe.profiles[n] for n in names], dtype=float)
    name = str(rng.choice(names, p=shares / shares.sum()))
    width = nominal
    if recipe.width_error_share and rng.random() < recipe.width_error_share:
        width = nominal * float(rng.uniform(*recipe.width_error))
    if name == "heavy-tailed":
        core, tail, decay = (float(rng.uniform(*limits)) for limits in (CORE, TAIL, DECAY))
        simulated = SliceProfile.heavy_tailed(factor, width=width, core=core, tail=tail, decay=decay)
    else:
        simulated = SliceProfile.named(name, factor, width=width)
    if recipe.known_profile_share and rng.random() < recipe.known_profile_share:
        return simulated, simulated
    return simulated, SliceProfile.mean(factor, width=nominal)
