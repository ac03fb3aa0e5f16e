"""Standard deviations beside a thin volume: the network that gives them, and their summary over a volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import ModelError
from thinslice.inference.settings import UncertaintySource
from thinslice.inference.stitch import DEVIATION_STEP_HU
from thinslice.intensity import BODY_ABOVE_HU
from thinslice.models.calibration import Calibration
from thinslice.models.stored import Stored, StoredNetwork
from thinslice.options import option
from thinslice.system.packages import TORCH_LINE, is_installed
from thinslice.typing import Floats

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.deviation import WithDeviation


def with_uncertainty(
    model: ThroughPlaneModel | Stored, source: UncertaintySource, *, name: str, wanted_for_texture: bool = False
) -> tuple[WithDeviation | StoredNetwork, Calibration]:
    """The network with a second output channel for standard deviations, and their calibration.

    Args:
        model: the network.
        source: "learned" or "ensemble".
        name: the model's name, for messages.
        wanted_for_texture: whether texture needs them, not the user.

    Raises:
        ModelError: for "learned" with a network that has no head for it; the message names networks that have one.
            For "ensemble" where torch is not loaded.
    """
    from thinslice.models.load import with_deviation

    if source == "ensemble":
        if isinstance(model, Stored):
            raise ModelError(
                "The spread over mirrored inputs is computed by PyTorch alone: "
                + ("" if is_installed("torch") else f"{TORCH_LINE}; then ")
                + f"use {option('backend', 'torch')}, or {option('uncertainty_by', 'learned')}."
            )
        from thinslice.models.deviation import Ensemble

        return Ensemble(model), Calibration(1.0, {})
    if not getattr(model, "has_deviation", False):
        able = with_deviation()
        instead = (
            f"use {option('model', able[0])}{''.join(f' or {each}' for each in able[1:])}"
            if able
            else "train a head for it (recipes/default-deviation.toml)"
        )
        if wanted_for_texture:
            raise ModelError(
                f"Texture takes its size from the network's own uncertainty, which {name} does not estimate; "
                f"{instead}, or go without {option('texture', True)}."
            )
        raise ModelError(
            f"{name} was not trained to estimate its uncertainty; {instead}, or ask for the uncalibrated spread over "
            f"mirrored inputs ({option('uncertainty_by', 'ensemble')})."
        )
    calibration = Calibration.from_card(getattr(model, "card", None))
    if isinstance(model, Stored):
        assert isinstance(model, StoredNetwork)  # which alone has such a head
        return replace(model, deviation_scale=calibration.scale), calibration
    from thinslice.models.deviation import Learned

    return Learned(model, calibration.scale), calibration


def calibration_warning(source: UncertaintySource, calibration: Calibration, *, name: str) -> str | None:
    """A sentence for the report where standard deviations are not calibrated; else None."""
    if source == "ensemble":
        return (
            "Standard deviations are the spread of estimates over mirrored inputs: they are not calibrated, and errors "
            "are larger on the whole."
        )
    if not calibration.calibrated:
        return f"The standard deviations of {name} have not been calibrated (thinslice models calibrate)."
    return None


def without_padding(start: int, deviation_hu: Floats, padding_at: Callable[[int], Any]) -> Floats:
    """Standard deviations with 0 in padding, for which nothing is estimated.

    Args:
        start: thin index of the first slice.
        deviation_hu: (slices, height, width) HU; changed in place.
        padding_at: maps a thin index to the slice's padding (`Restorer.padding_at`).
    """
    for index, plane in enumerate(deviation_hu, start=start):
        padding = padding_at(index)
        if padding is not None:
            plane[padding] = 0.0
    return deviation_hu


class DeviationSummary:
    """Mean and percentiles of standard deviations, slab by slab, over voxels that are not air (`BODY_ABOVE_HU`).

    Air around the patient is left out, as every network is certain about it.

    >>> summary = DeviationSummary()
    >>> summary.add(np.float32([[[10.0, 20.0, 60.0, 500.0]]]), np.float32([[[40, 40, 40, -1000]]]))
    >>> summary.mean_hu, summary.percentile_hu(50)
    (30.0, 20.0)
    """

    def __init__(self) -> None:
        self._counts = np.zeros(1, dtype=np.int64)

    def add(self, deviation_hu: Floats, hu: npt.NDArray[Any]) -> None:
        """Count the voxels of a slab.

        Args:
            deviation_hu: (slices, height, width) HU, multiples of `DEVIATION_STEP_HU`.
            hu: the thin slices, same shape, HU.
        """
        for deviations, plane in zip(deviation_hu, hu, strict=True):
            inside = deviations[(plane > BODY_ABOVE_HU) & (deviations > 0)]
            counts = np.bincount(np.rint(inside / DEVIATION_STEP_HU).astype(np.int64))
            if len(counts) > len(self._counts):
                self._counts = np.pad(self._counts, (0, len(counts) - len(self._counts)))
            self._counts[: len(counts)] += counts

    @property
    def mean_hu(self) -> float | None:
        """Mean in HU; None where no voxel was counted."""
        total = int(self._counts.sum())
        if not total:
            return None
        return float(np.dot(self._counts, np.arange(len(self._counts))) * DEVIATION_STEP_HU / total)

    def percentile_hu(self, percent: float) -> float | None:
        """The value in HU that `percent` of the voxels do not exceed; None where no voxel was counted."""
        below = np.cumsum(self._counts)
        if not below[-1]:
            return None
        return float(np.searchsorted(below, percent / 100.0 * below[-1]) * DEVIATION_STEP_HU)
