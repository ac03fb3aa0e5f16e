"""Statistics: equal to scipy and to numbers worked out by hand, and the laws they must keep."""

from __future__ import annotations

import math
import statistics as standard

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from thinslice.errors import UsageError
from thinslice.evaluation.statistics import (
    bootstrap_interval,
    holm,
    mean_and_sd,
    paired_differences,
    signed_rank_greater,
    stars,
)

scores = st.floats(0, 60, allow_nan=False)
p_values = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12)


@given(st.lists(scores, min_size=2, max_size=40))
def test_mean_and_sd_are_the_samples(values: list[float]) -> None:
    mean, sd = mean_and_sd(values)
    assert mean == pytest.approx(standard.fmean(values), abs=1e-9)
    assert sd == pytest.approx(standard.stdev(values), abs=1e-6)


def test_mean_of_nothing_and_of_nan_is_refused_and_infinity_passes() -> None:
    for values in ([], [1.0, math.nan]):
        with pytest.raises(UsageError):
            mean_and_sd(values)
    assert mean_and_sd([30.0, math.inf]) == (math.inf, None)


@pytest.mark.parametrize("count", [10, 25, 60, 100])
@pytest.mark.parametrize("shift", [-0.2, 0.0, 0.3])
def test_signed_rank_equals_scipys(count: int, shift: float) -> None:
    rng = np.random.default_rng(count)
    other = rng.normal(35, 2, count)
    tested = other + rng.normal(shift, 0.5, count)
    ours, theirs = signed_rank_greater(tested, other), wilcoxon(tested, other, alternative="greater")
    assert (ours.p, ours.statistic, ours.pairs) == (theirs.pvalue, theirs.statistic, count)


def test_signed_rank_of_ten_that_all_gain_is_exact() -> None:
    test = signed_rank_greater([38.0 + i for i in range(10)], [37.9 + 0.9 * i for i in range(10)])
    assert test.p == pytest.approx(1 / 1024)
    assert stars(test.p) == "*"
    assert signed_rank_greater([0.0] * 10, [1.0] * 10).p > 0.99


def test_ties_and_unchanged_cases_are_treated_as_scipy_does() -> None:
    tested = [3.0, 2.0, 2.0, 5.0, 1.0, 1.0, 4.0, 7.0, 7.0, 2.0, 9.0, 3.0]
    other = [2.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 5.0, 6.0, 1.0, 6.0, 2.0]
    assert signed_rank_greater(tested, other).p == wilcoxon(tested, other, alternative="greater").pvalue


def test_no_test_without_cases_enough_or_differences() -> None:
    few = signed_rank_greater([2.0] * 9, [1.0] * 9)
    assert few.p is None and few.pairs == 9 and "needs 10" in few.reason
    same = signed_rank_greater([2.0] * 12, [2.0] * 12)
    assert same.p is None and "differs" in same.reason
    with pytest.raises(UsageError, match="equal numbers"):
        signed_rank_greater([1.0, 2.0], [1.0])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(scores, scores), min_size=10, max_size=20))
def test_one_side_or_the_other(pairs: list[tuple[float, float]]) -> None:
    tested, other = zip(*pairs, strict=True)
    forth, back = signed_rank_greater(tested, other), signed_rank_greater(other, tested)
    if forth.p is None:
        assert back.p is None
    else:
        assert 0 < forth.p <= 1 and forth.p + back.p >= 1 - 1e-9


def test_identical_volumes_in_both_do_not_differ() -> None:
    assert paired_differences([math.inf, 40.0, math.inf], [math.inf, 39.0, 30.0]).tolist() == [0.0, 1.0, math.inf]


def test_holm_by_hand() -> None:
    # Four tests: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1 raised to its predecessor's.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == [0.8, 0.9]
    assert holm([]) == []
    with pytest.raises(UsageError):
        holm([1.5])


@given(p_values)
def test_holm_never_lowers_keeps_the_order_and_stays_within_bonferroni(values: list[float | None]) -> None:
    corrected = holm(values)
    made = [(p, c) for p, c in zip(values, corrected, strict=True) if p is not None]
    assert [c is None for c in corrected] == [p is None for p in values]
    for p, c in made:
        assert p <= c <= min(1.0, p * len(made))
    by_p = [c for _, c in sorted(made)]
    assert by_p == sorted(by_p)


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.normal(0.3, 1.0, 40), seed=trial, resamples=800)
        hits += low <= 0.3 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_intervals_are_seeded_nested_and_need_two_cases() -> None:
    differences = np.random.default_rng(0).normal(0.1, 0.3, 30)
    assert bootstrap_interval(differences, seed=5) == bootstrap_interval(differences, seed=5)
    assert bootstrap_interval(differences, seed=5) != bootstrap_interval(differences, seed=6)
    low, high = bootstrap_interval(differences, seed=5)
    inner_low, inner_high = bootstrap_interval(differences, seed=5, level=0.5)
    assert low < inner_low < differences.mean() < inner_high < high
    assert bootstrap_interval([1.0], seed=0) is None
    assert bootstrap_interval([1.0, math.inf], seed=0) is None
    with pytest.raises(UsageError):
        bootstrap_interval([1.0, 2.0], seed=0, level=1.0)
