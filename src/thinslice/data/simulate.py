"""Thick slices simulated from a thin volume, with the thin reference they should give back.

Source: RPLHR-CT's thick slices are averages of the thin ones around their centre; the paper's own degradation is only
in its supplement, so the named profiles of `thinslice.profile` are offered and the one used is recorded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thinslice.errors import NotEligibleError
from thinslice.profile import SliceProfile
from thinslice.volume import Provenance, Volume, as_hu


def simulate_thick(
    thin: Volume, profile: SliceProfile, *, noise_hu: float = 0.0, seed: int = 0, whole_hu: bool = False
) -> tuple[Volume, Volume]:
    """Thick slices, and the thin slices between the first and the last one's centre.

    Thick slices without full support are not made.

    Args:
        thin: HU (depth, height, width).
        profile: its factor and weights; `SliceProfile.mean(5)` for the paper's case.
        noise_hu: standard deviation of white noise added to the thick slices, HU.
        seed: of that noise.
        whole_hu: whether thick slices are rounded to whole HU, as a scanner's files hold them.

    Returns:
        (thick, reference): D thick slices as float32, or int16 where exact, and (D - 1) * factor + 1 thin ones.

    Raises:
        NotEligibleError: when there are too few thin slices for one thick slice.
    """
    centres = profile.centres(thin.geometry.shape[0])
    if len(centres) == 0:
        raise NotEligibleError(
            f"{thin.geometry.shape[0]} thin slices are too few for one thick slice of {len(profile.weights)}."
        )
    hu = profile.apply(thin.hu)
    if noise_hu > 0:
        hu += np.random.default_rng(seed).normal(0.0, noise_hu, hu.shape).astype(np.float32)
    if whole_hu:
        hu = np.rint(hu)
    _, height, width = thin.geometry.shape
    reference = thin.crop((centres[0], 0, 0), (centres[-1] + 1, height, width))
    step = thin.geometry.spacing_mm[0]
    geometry = replace(
        reference.geometry,
        shape=hu.shape,
        spacing_mm=(step * profile.factor, *thin.geometry.spacing_mm[1:]),
        # The box of equal area and height: exactly the slice for `mean`, its width at half height for a trapezoid.
        thickness_mm=step / max(profile.weights),
    )
    provenance = Provenance(
        file_axes=thin.provenance.file_axes,
        details={"simulated": profile.name, "factor": profile.factor, "noise_hu": noise_hu, "seed": seed},
    )
    return Volume(as_hu(hu), geometry, provenance), reference
