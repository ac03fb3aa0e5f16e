"""Statistics of tables: mean and spread over cases, paired tests between methods, intervals of their differences.

Source: paper, section 3 and Table 1: mean +- standard deviation over cases, a star for p < 0.001 in a one-sided
Wilcoxon signed-rank test. Correction for many tests and bootstrap intervals are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thinslice.errors import UsageError

MIN_CASES = 10
"""Least number of pairs of cases for a test: with fewer, no outcome can reach p < 0.001."""

STAR_BELOW = 0.001
"""A star stands for a p value below this."""

RESAMPLES = 10_000
"""Bootstrap samples."""

LEVEL = 0.95
"""Coverage of intervals."""


@dataclass(frozen=True)
class SignedRank:
    """A one-sided Wilcoxon signed-rank test of paired scores.

    Attributes:
        p: probability, if neither method were better, of ranks at least as favourable to the tested one; None
            without a test.
        statistic: sum of the ranks of the positive differences; None without a test.
        pairs: cases compared.
        reason: for the lack of a test; empty where there is one.
    """

    p: float | None
    statistic: float | None
    pairs: int
    reason: str = ""


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1).

    Args:
        values: one per case; infinite ones (PSNR of identical volumes) make the mean infinite.

    Returns:
        The standard deviation is None for a single case, and where the mean is infinite.

    Raises:
        UsageError: no values, or NaN among them.

    >>> mean_and_sd([1.0, 2.0, 6.0])
    (3.0, 2.6457513110645907)
    >>> mean_and_sd([4.0])
    (4.0, None)
    """
    if len(values) == 0:
        raise UsageError("A mean needs at least one case.")
    array = np.asarray(values, dtype=np.float64)
    if np.isnan(array).any():
        raise UsageError("Scores of cases must be numbers, not NaN.")
    mean = float(array.mean())
    known = len(array) > 1 and math.isfinite(mean)
    return mean, float(array.std(ddof=1)) if known else None


def paired_differences(tested: Sequence[float], other: Sequence[float]) -> npt.NDArray[np.float64]:
    """Tested minus other, case by case; two infinite scores differ by 0.

    Raises:
        UsageError: the two have different numbers of cases.

    >>> paired_differences([3.0, math.inf], [1.0, math.inf]).tolist()
    [2.0, 0.0]
    """
    a, b = np.asarray(tested, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise UsageError(f"Paired scores need equal numbers of cases, not {a.shape} and {b.shape}.")
    same = a == b
    return np.where(same, 0.0, a - np.where(same, 0.0, b))


def signed_rank_greater(tested: Sequence[float], other: Sequence[float]) -> SignedRank:
    """Test whether one method's scores are greater than another's on the same cases.

    scipy's `wilcoxon(tested, other, alternative="greater")`: pairs without a difference are left out, and the
    distribution is exact for up to 50 pairs without ties.

    Args:
        tested: scores by case, greater is better.
        other: the other method's, in the same order.

    Returns:
        The test, or the reason for its lack: fewer than `MIN_CASES` cases, or no difference in any.

    Raises:
        UsageError: different numbers of cases.

    >>> signed_rank_greater(range(1, 13), [0.0] * 12).p == 2.0**-12
    True
    >>> signed_rank_greater([1.0], [0.0]).reason
    '1 case; a test needs 10'
    """
    differences = paired_differences(list(tested), list(other))
    count = len(differences)
    if count < MIN_CASES:
        return SignedRank(None, None, count, f"{count} case{'' if count == 1 else 's'}; a test needs {MIN_CASES}")
    if not differences.any():
        return SignedRank(None, None, count, "no case differs")
    from scipy.stats import wilcoxon

    result = wilcoxon(differences, alternative="greater")
    return SignedRank(float(result.pvalue), float(result.statistic), count)


def stars(p: float | None) -> str:
    """A star for p < 0.001, as in the paper.

    >>> stars(0.0009), stars(0.001), stars(None)
    ('*', '', '')
    """
    return "*" if p is not None and p < STAR_BELOW else ""


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of a family of tests, in the order given.

    Compared with one threshold, corrected values keep the chance of any false finding in the family below it. Tests
    that were not made (None) do not count.

    Raises:
        UsageError: a value outside [0, 1].

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    made = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    if any(not 0.0 <= p <= 1.0 for p, _ in made):
        raise UsageError("p values lie between 0 and 1.")
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(made):
        highest = max(highest, min(1.0, p * (len(made) - rank)))
        corrected[place] = highest
    return corrected


def bootstrap_interval(
    differences: Sequence[float] | npt.NDArray[np.float64],
    *,
    seed: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean of paired differences.

    Args:
        differences: one per case.
        seed: of the resampling; the same seed gives the same interval.
        level: coverage.
        resamples: bootstrap samples.

    Returns:
        (low, high), or None for fewer than two cases and for differences that are not finite.

    Raises:
        UsageError: a level outside (0, 1), or no resamples.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    >>> bootstrap_interval([1.0, 1.0, 1.0], seed=0)
    (1.0, 1.0)
    """
    if not 0.0 < level < 1.0 or resamples < 1:
        raise UsageError(f"A level lies between 0 and 1 and resamples are at least 1, not {level} and {resamples}.")
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    rng = np.random.default_rng(seed)
    # Blocks keep the memory small for thousands of cases.
    block = max(1, 4_000_000 // len(values))
    means = np.concatenate(
        [
            values[rng.integers(0, len(values), (min(block, resamples - done), len(values)))].mean(axis=1)
            for done in range(0, resamples, block)
        ]
    )
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
