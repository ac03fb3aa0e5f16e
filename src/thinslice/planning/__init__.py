"""Decisions before a run, without torch and without voxels.

    eligibility  whether a volume can be upscaled, by which factor, and the profile of its slices
    windows      thick slices that go through the network at a time, and thin voxels that each window owns
    memory       memory that the run needs

A plan is a frozen value: `thinslice.inference` only carries it out.
"""

from thinslice.planning.eligibility import (
    MAX_FACTOR,
    MIN_FACTOR,
    Eligibility,
    check_target,
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
    check_plan_name,
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
    "check_plan_name",
    "check_target",
    "choose_factor",
    "eligibility",
    "estimate_memory",
    "plan_windows",
    "profile_reach",
    "profile_warning",
    "relative_thickness",
    "slice_profile",
]
