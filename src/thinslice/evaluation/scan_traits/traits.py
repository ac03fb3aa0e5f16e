"""All traits of a scan as one value."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from thinslice.evaluation.clinical.tissue_bias import FLOOR_HU
from thinslice.evaluation.scan_traits.noise import REPEATED, noise_traits
from thinslice.evaluation.scan_traits.scale import MOST_NOISE_HU, apparent_distance
from thinslice.evaluation.scan_traits.steps import step_traits
from thinslice.evaluation.scan_traits.values import value_traits
from thinslice.planning import relative_thickness
from thinslice.typing import PhaseProgress
from thinslice.volume import Volume

USUAL_PIXEL_MM = 0.7
"""Distance of pixels where a file does not state it."""

COARSEST_PIXEL_MM = 1.5
"""Distance of pixels above which a patch holds anatomy, and neither noise nor sharpness can be told from it."""


class ScanTraits(BaseModel):
    """Traits of a scan; None for what could not be measured.

    Attributes:
        slices: number of slices.
        distance_mm: distance of slices.
        pixel_mm: distance of pixels; None where unknown.
        header_thickness: slice thickness over slice distance, by the header (1 where it has none).
        noise_hu: standard deviation in even soft tissue.
        noise_whiteness: share of the noise that a second difference in plane leaves, 1 for white noise.
        neighbour_correlation: correlation of the noise of neighbouring slices.
        repeated: numbers of slices (from 1) whose successor is a copy.
        apparent_distance: distance of slices over that of the header, from the anatomy of a chest.
        measured_thickness: slice thickness over slice distance, from boundaries across the slices.
        boundaries: columns of voxels that was measured on.
        jump: how much more two neighbours differ than the pairs beside them, at its largest.
        jump_at: number (from 1) of the first of them.
        lowest_level_hu: lowest level of even patches.
        familiar_share: levels of fat and soft tissue among those near them.
        soft_share: levels of soft tissue among those above lung.
        raised_share: levels of tissue with contrast among those above lung.
        dense_share: voxels of bone or strong contrast among those above lung.
        cut_high_share, cut_low_share: voxels at an end that a window seems to have cut off.
        metal_ml: volume above the HU of any tissue.
        overshoot: fall of edges of the lung behind their rise, as a share of the step.
        edges: their number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    slices: int = Field(ge=1)
    distance_mm: float = Field(gt=0)
    pixel_mm: float | None = None
    header_thickness: float = Field(gt=0)
    noise_hu: float | None = None
    noise_whiteness: float | None = None
    neighbour_correlation: float | None = None
    repeated: tuple[int, ...] = ()
    apparent_distance: float | None = None
    measured_thickness: float | None = None
    boundaries: int = 0
    jump: float | None = None
    jump_at: int | None = None
    lowest_level_hu: float | None = None
    familiar_share: float | None = None
    soft_share: float | None = None
    raised_share: float | None = None
    dense_share: float | None = None
    cut_high_share: float = 0.0
    cut_low_share: float = 0.0
    metal_ml: float = 0.0
    overshoot: float | None = None
    edges: int = 0


def measure_traits(volume: Volume, *, phase: PhaseProgress | None = None) -> ScanTraits:
    """Measure all traits of a scan.

    Args:
        volume: the thick scan, (depth, height, width) HU.
        phase: called with "measuring" and the share that is done.
    """
    grid = volume.geometry
    report = phase or (lambda name, share: None)
    distance_mm = grid.spacing_mm[0]
    pixel_mm = grid.spacing_mm[2] or USUAL_PIXEL_MM
    is_fine = pixel_mm <= COARSEST_PIXEL_MM
    report("measuring", 0.0)
    noise = noise_traits(volume.hu if is_fine else volume.hu[:0])
    report("measuring", 0.4)
    steps = step_traits(volume.hu, pixel_mm)
    report("measuring", 0.7)
    apparent = None
    if noise.sd_hu is not None and noise.sd_hu < MOST_NOISE_HU:
        apparent = apparent_distance(volume, pixel_mm, relative_thickness(grid))
    report("measuring", 0.85)
    voxel_mm3 = distance_mm * pixel_mm * (grid.spacing_mm[1] or USUAL_PIXEL_MM)
    values = value_traits(volume.hu, voxel_mm3, padding_hu=volume.provenance.padding_hu)
    report("measuring", 1.0)
    return ScanTraits(
        slices=grid.shape[0],
        distance_mm=distance_mm,
        pixel_mm=_rounded(grid.spacing_mm[2]),
        header_thickness=relative_thickness(grid),
        noise_hu=_rounded(noise.sd_hu),
        noise_whiteness=_rounded(noise.whiteness),
        neighbour_correlation=_rounded(noise.correlation),
        repeated=_repeated(volume, noise.pairs),
        apparent_distance=_rounded(apparent),
        measured_thickness=_rounded(steps.thickness),
        boundaries=steps.steps,
        jump=_rounded(steps.jump),
        jump_at=None if steps.jump_at is None else steps.jump_at + 1,
        lowest_level_hu=_rounded(values.lowest_hu),
        familiar_share=_rounded(values.familiar),
        soft_share=_rounded(values.soft),
        raised_share=_rounded(values.raised),
        dense_share=_rounded(values.dense),
        cut_high_share=round(values.cut_high, 6),
        cut_low_share=round(values.cut_low, 6),
        metal_ml=round(values.metal_ml, 4),
        overshoot=_rounded(values.overshoot) if is_fine else None,
        edges=values.edges,
    )


def _repeated(volume: Volume, pairs: tuple[float, ...]) -> tuple[int, ...]:
    """Numbers (from 1) of slices whose successor is a copy: by their noise, or in every voxel."""
    found = []
    for index, (plane, following) in enumerate(zip(volume.hu, volume.hu[1:], strict=False)):
        is_air = plane.max() <= FLOOR_HU or plane.min() == plane.max()
        if not is_air and ((index < len(pairs) and pairs[index] >= REPEATED) or np.array_equal(plane, following)):
            found.append(index + 1)
    return tuple(found)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
