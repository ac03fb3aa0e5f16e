"""Decisions taken before anything runs, free of torch and of voxels.

    eligibility  can this volume be upscaled, by which factor, and what do its slices measure
    windows      which thick slices go through the network at a time, and which thin voxels each window owns
    memory       what that will cost

A plan is a frozen value: `thinslice.inference` only carries it out.
"""

from thinslice.planning.eligibility import (
    MAX_FACTOR,
    MIN_FACTOR,
    Eligibility,
    choose_factor,
    eligibility,
    profile_warning,
    relative_thickness,
    slice_profile,
)
from thinslice.planning.memory import MemoryEstimate, estimate_memory
from thinslice.planning.spans import ModelWindow, Span
from thinslice.planning.windows import (
    PLANS,
    Window,
    WindowPlan,
    plan_windows,
    profile_reach,
)

__all__ = [
    "MAX_FACTOR",
    "MIN_FACTOR",
    "PLANS",
    "Eligibility",
    "MemoryEstimate",
    "ModelWindow",
    "Span",
    "Window",
    "WindowPlan",
    "choose_factor",
    "eligibility",
    "estimate_memory",
    "plan_windows",
    "profile_reach",
    "profile_warning",
    "relative_thickness",
    "slice_profile",
]
