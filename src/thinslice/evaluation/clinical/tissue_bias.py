"""Mean error of an estimate by tissue, the tissue being the class of the thick voxel: the input, not the truth.

Every thin voxel belongs to the thick slice nearest to it, and so to the class of that thick voxel; midway between two
it counts half to each. An estimate can be right on average among all voxels whose input looks alike, so a bias here is
a fault. By classes of the truth even the best estimate is biased (thin voxels that are bright by chance are estimated
darker: regression to the mean), so that table is information only.

Source: our own definitions; the bootstrap is that of Efron and Tibshirani, An Introduction to the Bootstrap (1993),
with thick slices as the units that are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.evaluation.clinical.tissues import TISSUES_HU
from thinslice.typing import Doubles

JUDGED = tuple(TISSUES_HU)
"""Classes that the rule covers: all of them, the lungs' edges (`between`) too."""

MAX_BIAS_HU = 2.0
"""The rule: mean error at most this, either way, in every class and at every distance from a thick slice."""

MIN_VOXELS = 2000
"""Thin voxels below which a class is not judged."""

FLOOR_HU = -1024.0
"""Thick voxels at or below it are outside the field of view or cut off by the scanner: they belong to no class."""

RESAMPLES = 2000
"""Bootstrap samples."""

_NAMES = list(TISSUES_HU)
_LIMITS = np.array([low for low, _ in TISSUES_HU.values()][1:])


@dataclass(frozen=True)
class ClassBias:
    """Errors (estimate less truth) of one class.

    Attributes:
        voxels: thin voxels (those midway between two thick slices count half to each).
        bias_hu: mean error; None without voxels, as all below.
        low_hu, high_hu: 95 % bootstrap interval of the bias, thick slices being drawn; None for fewer than two.
        mae_hu: mean absolute error.
        rmse_hu: root mean square error.
        by_offset_hu: bias by distance from the nearest thick slice, in thin slices.
        verdict: "pass", "FAIL", or "too few" voxels to judge.
    """

    voxels: float
    bias_hu: float | None = None
    low_hu: float | None = None
    high_hu: float | None = None
    mae_hu: float | None = None
    rmse_hu: float | None = None
    by_offset_hu: tuple[float | None, ...] = ()

    @property
    def verdict(self) -> str:
        """The rule applied to this class: to the bias of all its voxels, and to that at every distance."""
        if self.bias_hu is None or self.voxels < MIN_VOXELS:
            return "too few"
        return "pass" if max(abs(self.bias_hu), abs(self.worst_offset_hu or 0.0)) <= MAX_BIAS_HU else "FAIL"

    @property
    def worst_offset_hu(self) -> float | None:
        """The bias furthest from 0 among the distances from a thick slice."""
        return max((value for value in self.by_offset_hu if value is not None), key=abs, default=None)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "voxels": round(self.voxels),
            "bias_hu": self.bias_hu,
            "interval_95_hu": None if self.low_hu is None else [self.low_hu, self.high_hu],
            "mae_hu": self.mae_hu,
            "rmse_hu": self.rmse_hu,
            "by_offset_hu": list(self.by_offset_hu),
            "worst_offset_hu": self.worst_offset_hu,
            "verdict": self.verdict,
        }


def cell_weights(factor: int) -> Doubles:
    """Weights of the thin slices about a thick one: 1, or a half where two thick slices are equally near.

    >>> cell_weights(3).tolist(), cell_weights(4).tolist()
    ([1.0, 1.0, 1.0], [0.5, 1.0, 1.0, 1.0, 0.5])
    """
    weights = np.ones(2 * (factor // 2) + 1)
    if factor % 2 == 0:
        weights[[0, -1]] = 0.5
    return weights


def inner_thick(depth: int) -> range:
    """Thick slices of `depth` that are measured, those whose cell is whole: all but the first and the last.

    >>> inner_thick(4)
    range(1, 3)
    """
    return range(1, max(1, depth - 1))


def inner_thin(depth: int, factor: int) -> range:
    """Thin slices in the cells of `inner_thick`.

    >>> inner_thin(4, 5), inner_thin(4, 4)
    (range(3, 13), range(2, 11))
    """
    inner, half = inner_thick(depth), factor // 2
    return range(inner.start * factor - half, (inner.stop - 1) * factor + half + 1) if inner else range(0)


def tissue_class(hu: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Index into `TISSUES_HU` for each value.

    >>> [list(TISSUES_HU)[i] for i in tissue_class(np.array([-1000, -800, -300, -80, 30, 500]))]
    ['air', 'lung', 'between', 'fat', 'soft', 'bone']
    """
    return np.asarray(np.digitize(hu, _LIMITS), dtype=np.intp)


def tissue_bias(
    estimate: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    thick: npt.NDArray[Any],
    factor: int,
    *,
    by: str = "thick",
    seed: int = 0,
) -> dict[str, ClassBias]:
    """Bias and error by tissue, over the thin slices of all thick slices but the first and the last.

    Args:
        estimate, truth: ((depth - 1) * factor + 1, height, width) HU.
        thick: (depth, height, width) HU; slice k lies on thin slice factor * k.
        factor: thin slices per thick interval.
        by: "thick" for classes of the thick voxel, "truth" for those of the thin truth.
        seed: of the bootstrap.

    Returns:
        Class name -> errors, in the order of `TISSUES_HU`.

    >>> thick = np.full((4, 30, 30), -850.0); truth = np.full((10, 30, 30), -850.0)
    >>> found = tissue_bias(truth + 5, truth, thick, 3)
    >>> found["lung"].bias_hu, found["lung"].verdict, found["soft"].verdict
    (5.0, 'FAIL', 'too few')
    """
    inner = inner_thick(thick.shape[0])
    weights = cell_weights(factor)
    half = len(weights) // 2
    count = len(_NAMES)
    # (thick slice, distance from it, class; voxels, sum, sum of absolutes, sum of squares)
    sums = np.zeros((len(inner), half + 1, count, 4))
    for row, k in enumerate(inner):
        inside = thick[k] > FLOOR_HU
        classes = tissue_class(thick[k][inside])
        for offset, weight in zip(range(-half, half + 1), weights, strict=True):
            reference = truth[k * factor + offset][inside]
            error = estimate[k * factor + offset][inside].astype(np.float64) - reference
            if by == "truth":
                classes = tissue_class(reference)
            for part, values in enumerate((None, error, np.abs(error), error * error)):
                sums[row, abs(offset), :, part] += weight * np.bincount(classes, values, minlength=count)
    per_slice = sums.sum(axis=1)
    per_offset = sums.sum(axis=0)
    return {name: _class_bias(per_slice[:, i], per_offset[:, i], seed) for i, name in enumerate(_NAMES)}


def _class_bias(per_slice: Doubles, per_offset: Doubles, seed: int) -> ClassBias:
    voxels, total, absolutes, squares = per_slice.sum(axis=0)
    if voxels == 0:
        return ClassBias(0.0)
    low, high = _interval(per_slice[:, 0], per_slice[:, 1], seed)
    return ClassBias(
        voxels=float(voxels),
        bias_hu=float(total / voxels),
        low_hu=low,
        high_hu=high,
        mae_hu=float(absolutes / voxels),
        rmse_hu=float(np.sqrt(squares / voxels)),
        by_offset_hu=tuple(float(s / n) if n else None for n, s, _, _ in per_offset),
    )


def _interval(voxels: Doubles, total: Doubles, seed: int) -> tuple[float | None, float | None]:
    """Percentile bootstrap of sum over count, slices being drawn with replacement."""
    held = voxels > 0
    if held.sum() < 2:
        return None, None
    voxels, total = voxels[held], total[held]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(voxels), np.full(len(voxels), 1.0 / len(voxels)), size=RESAMPLES)
    low, high = np.quantile((drawn @ total) / (drawn @ voxels), [0.025, 0.975])
    return float(low), float(high)
