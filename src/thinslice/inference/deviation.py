"""Standard deviations beside a thin volume: who can give them, and what they come to on the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from thinslice.errors import ModelError, UsageError
from thinslice.inference.stitch import DEVIATION_STEP_HU
from thinslice.typing import Floats

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.deviation import Calibration, WithDeviation


Kind = Literal["learned", "ensemble"]

KINDS: tuple[Kind, ...] = ("learned", "ensemble")
"""Where a standard deviation comes from: the network's own head, or how its estimates of mirrored inputs spread."""

BODY_HU = -950.0
"""Thin voxels above this count in `DeviationSummary`: of the air around a patient every network is sure."""


def chosen_kind(deviation: bool | str) -> str | None:
    """What `deviation` asks for: one of `KINDS`, or None.

    Raises:
        UsageError: for a name that is neither.

    >>> chosen_kind(True), chosen_kind(False), chosen_kind("ensemble")
    ('learned', None, 'ensemble')
    """
    if isinstance(deviation, bool):
        return "learned" if deviation else None
    if deviation not in KINDS:
        raise UsageError(f"There is no standard deviation by {deviation!r}; choose {' or '.join(KINDS)}.")
    return deviation


def telling(model: ThroughPlaneModel, kind: str, *, name: str) -> tuple[WithDeviation, Calibration]:
    """The network with a second channel for the standard deviation, and what is known about its calibration.

    Args:
        model: the network.
        kind: one of `KINDS`.
        name: of the model, for messages.

    Raises:
        ModelError: for "learned" with a network that has no head for it; the message names those that have one.
    """
    from thinslice.models.deviation import Calibration, Ensemble, Learned
    from thinslice.models.load import with_deviation

    if kind == "ensemble":
        return Ensemble(model), Calibration(1.0, {})
    if not getattr(model, "has_deviation", False):
        able = with_deviation()
        instead = f"use --model {' or '.join(able)}" if able else "train a head for it (recipes/default-deviation.toml)"
        raise ModelError(
            f"{name} was not trained to say how sure it is; {instead}, or ask for the uncalibrated spread over "
            "mirrored inputs (--deviation-by ensemble)."
        )
    calibration = Calibration.from_card(getattr(model, "card", None))
    return Learned(model, calibration.scale), calibration


def remark(kind: str, calibration: Calibration, *, name: str) -> str | None:
    """What a user must know about these standard deviations, or None."""
    if kind == "ensemble":
        return (
            "Standard deviations are the spread of estimates over mirrored inputs: they are not calibrated, and errors "
            "are larger on the whole."
        )
    if not calibration.calibrated:
        return f"The standard deviations of {name} have not been calibrated (thinslice models calibrate)."
    return None


def without_padding(start: int, deviation_hu: Floats, padding_at: Callable[[int], Any]) -> Floats:
    """Standard deviations with 0 where a thin voxel is padding, of which nothing is estimated.

    Args:
        start: thin index of the first slice.
        deviation_hu: (slices, height, width); changed in place.
        padding_at: gives a thin slice's padding (`Restorer.padding_at`).
    """
    for index, plane in enumerate(deviation_hu, start=start):
        padding = padding_at(index)
        if padding is not None:
            plane[padding] = 0.0
    return deviation_hu


class DeviationSummary:
    """Mean and percentiles of standard deviations, taken slab by slab, over voxels that are not air.

    >>> summary = DeviationSummary()
    >>> summary.add(np.float32([[[10.0, 20.0, 60.0, 500.0]]]), np.float32([[[40, 40, 40, -1000]]]))
    >>> summary.mean_hu, summary.percentile_hu(50)
    (30.0, 20.0)
    """

    def __init__(self) -> None:
        self._counts = np.zeros(1, dtype=np.int64)

    def add(self, deviation_hu: Floats, hu: npt.NDArray[Any]) -> None:
        """Take a slab.

        Args:
            deviation_hu: (slices, height, width), multiples of `DEVIATION_STEP_HU`.
            hu: the thin slices themselves.
        """
        for deviations, plane in zip(deviation_hu, hu, strict=True):
            inside = deviations[(plane > BODY_HU) & (deviations > 0)]
            counts = np.bincount(np.rint(inside / DEVIATION_STEP_HU).astype(np.int64))
            if len(counts) > len(self._counts):
                self._counts = np.pad(self._counts, (0, len(counts) - len(self._counts)))
            self._counts[: len(counts)] += counts

    @property
    def mean_hu(self) -> float | None:
        """Mean; None where nothing was counted."""
        total = int(self._counts.sum())
        if not total:
            return None
        return float(np.dot(self._counts, np.arange(len(self._counts))) * DEVIATION_STEP_HU / total)

    def percentile_hu(self, percent: float) -> float | None:
        """The value that `percent` of the voxels do not exceed; None where nothing was counted."""
        below = np.cumsum(self._counts)
        if not below[-1]:
            return None
        return float(np.searchsorted(below, percent / 100.0 * below[-1]) * DEVIATION_STEP_HU)
