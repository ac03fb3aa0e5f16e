"""Table of a suite: means over cases, costs, and tests of differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from thinslice.evaluation.clinical import radiomics
from thinslice.evaluation.rules import RULES
from thinslice.evaluation.statistics import (
    MIN_CASES,
    bootstrap_interval,
    holm,
    mean_and_sd,
    paired_differences,
    signed_rank_greater,
    stars,
)
from thinslice.experiments.benchmark.published import Published, published
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.clinical_columns import clinical_table
from thinslice.experiments.text import mean_text
from thinslice.recipes import Comparison

METRICS = ("psnr", "ssim")


@dataclass(frozen=True)
class MethodRow:
    """A method's row: means over cases and costs.

    Attributes:
        label: of the method.
        cases: finished ones, over which the means go.
        psnr, ssim: means over cases; PSNR in dB, infinite where a case is identical.
        psnr_sd, ssim_sd: sample standard deviations; None for one case.
        parameters: trained values.
        operations: mean floating-point operations per volume.
        seconds: mean per volume.
        memory_mib: largest over volumes; None where the system does not report it.
        device_memory_mib: largest on an accelerator; None on the CPU.
        plans: window plans that ran.
        psnr_star, ssim_star: "*" where the row beats the one above, p < 0.001, in the suite's "above" comparison.
        weights_sha256, recipe_sha256: None where there are none.
        published: the published row printed beside it.
    """

    label: str
    cases: int
    psnr: float
    psnr_sd: float | None
    ssim: float
    ssim_sd: float | None
    parameters: int
    operations: float
    seconds: float
    memory_mib: float | None
    device_memory_mib: float | None
    plans: tuple[str, ...]
    weights_sha256: str | None
    recipe_sha256: str | None
    published: Published | None
    psnr_star: str = ""
    ssim_star: str = ""


@dataclass(frozen=True)
class PairedTest:
    """One test of a family: whether `tested` is better than `against`, case by case.

    Attributes:
        family: "above", "others", or the name of an experiment's own.
        metric: "psnr" or "ssim".
        tested, against: labels.
        pairs: cases that both have finished.
        difference: mean of tested minus against; None where a score is infinite in one of them.
        interval: 95 % bootstrap interval of that mean; None for fewer than two cases.
        p: of the one-sided Wilcoxon signed-rank test; None where there is none.
        p_holm: corrected for all tests of this family on this metric.
        star: "*" for p < 0.001, uncorrected, as in the paper.
        reason: for the lack of a test.
    """

    family: str
    metric: str
    tested: str
    against: str
    pairs: int
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None = None
    star: str = ""
    reason: str = ""


def rows_of(result: SuiteResult) -> tuple[MethodRow, ...]:
    """The table's rows in the suite's order; methods without a finished case are left out."""
    starred = {
        (test.tested, test.metric): test.star for test in comparisons_of(result) if test.family == "above" and test.star
    }
    rows = []
    for method in result.methods:
        outcomes = list(result.of(method.label).values())
        if not outcomes:
            continue
        psnr, psnr_sd = mean_and_sd([outcome.psnr_db for outcome in outcomes])
        ssim, ssim_sd = mean_and_sd([outcome.ssim for outcome in outcomes])

        def costs(name: str, outcomes: Sequence[Any] = outcomes) -> list[float]:
            values = (outcome.cost[name] for outcome in outcomes)
            return [float(value) for value in values if value is not None]

        rows.append(
            MethodRow(
                label=method.label,
                cases=len(outcomes),
                psnr=psnr,
                psnr_sd=psnr_sd,
                ssim=ssim,
                ssim_sd=ssim_sd,
                parameters=method.parameters,
                operations=float(np.mean(costs("operations"))),
                seconds=float(np.mean(costs("seconds"))),
                memory_mib=max(costs("memory_mib"), default=None),
                device_memory_mib=max(costs("device_memory_mib"), default=None),
                plans=tuple(sorted({outcome.plan for outcome in outcomes})),
                weights_sha256=method.weights_sha256,
                recipe_sha256=method.recipe_sha256,
                published=None if method.published is None else published(method.published),
                psnr_star=starred.get((method.label, "psnr"), ""),
                ssim_star=starred.get((method.label, "ssim"), ""),
            )
        )
    return tuple(rows)


def comparisons_of(result: SuiteResult) -> tuple[PairedTest, ...]:
    """All tests of the suite's comparisons, corrected by Holm within each comparison and metric."""
    labels = [method.label for method in result.methods]
    families = [(comparison.kind, _pairs(comparison, labels)) for comparison in result.suite.comparisons]
    return tuple(test for kind, pairs in families for test in tests_of(result, kind, pairs))


def tests_of(result: SuiteResult, family: str, pairs: Sequence[tuple[str, str]]) -> tuple[PairedTest, ...]:
    """A family of tests on each metric, corrected by Holm within family and metric.

    Args:
        result: of a suite.
        family: its name.
        pairs: labels; the first is tested for being better than the second.
    """
    tests: list[PairedTest] = []
    for metric in METRICS:
        made = [_tested(result, family, metric, ours, theirs) for ours, theirs in pairs]
        corrected = holm([test.p for test in made])
        tests += [replace(test, p_holm=p) for test, p in zip(made, corrected, strict=True)]
    return tuple(tests)


def caveats(result: SuiteResult) -> tuple[str, ...]:
    """Sentences that a reader of the table needs."""
    sentences = []
    count = len(result.cases)
    for method in result.methods:
        if method.is_untrained:
            sentences.append(
                f"{method.label} is an untrained network: the plug-in {method.catalog_name!r} gives it random weights. "
                "Train it by a recipe, and name the recipe or its weights file in the suite."
            )
        missing = [case for case in result.cases if case not in result.of(method.label)]
        if missing and len(missing) < count:
            named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            sentences.append(
                f"{method.label} lacks {len(missing)} of {count} cases ({named}): its means are over the others and do "
                "not compare with those of other rows."
            )
    if result.suite.downstream.radiomics and not radiomics.is_installed():
        sentences.append(radiomics.MISSING)
    if count < MIN_CASES:
        many = f"are {count} cases" if count > 1 else "is one case"
        sentences.append(f"There {many}; a Wilcoxon test needs {MIN_CASES}, so there are no stars.")
    if result.patients < count:
        people = f"{result.patients} patient{'' if result.patients == 1 else 's'}"
        sentences.append(
            f"The {count} cases come from {people} and so are not independent: p values and intervals are too small."
        )
    outcomes = list(result.outcomes.values())
    commits = len({outcome.commit for outcome in outcomes})
    machines = len({(outcome.device_name, outcome.threads) for outcome in outcomes})
    for count, what in ((commits, "commits"), (machines, "machines or numbers of threads")):
        if count > 1:
            sentences.append(f"Results of {count} different {what} are in this table; cases.csv lists them.")
    ended = {(case, outcome.device.partition(":")[0]) for (_, case, _), outcome in result.outcomes.items()}
    fallen = sorted({case for case, kind in ended if kind != result.device})
    if fallen:
        sentences.append(f"Memory of {result.device} was short, and the CPU took over, in {', '.join(fallen)}.")
    return tuple(sentences)


def protocol_rows(result: SuiteResult) -> tuple[list[str], list[list[str]]]:
    """PSNR and SSIM by protocol as a table of text: column heads, and a line for each method.

    `clinical` has no columns where `rplhr`, which scores alike, has them. Values are means over finished cases.
    """
    shown: dict[tuple[object, ...], str] = {}
    for protocol in sorted(result.suite.protocols, key="clinical".__eq__):
        shown.setdefault(RULES[protocol].scores_like, protocol)
    protocols = [protocol for protocol in result.suite.protocols if protocol in shown.values()]
    heads = ["method", *(f"{protocol}: {what}" for protocol in protocols for what in ("PSNR (dB)", "SSIM"))]
    lines = []
    for method in result.methods:
        texts = []
        for protocol in protocols:
            outcomes = list(result.of(method.label, protocol).values())
            for values, digits in (([o.psnr_db for o in outcomes], 3), ([o.ssim for o in outcomes], 4)):
                texts.append(mean_text(*mean_and_sd(values), digits) if values else "-")
        lines.append([method.label, *texts])
    return heads, lines


def comparability(result: SuiteResult) -> tuple[str, ...]:
    """A sentence on each protocol: the published numbers beside which its column may stand."""
    return tuple(
        f"{protocol}: window {RULES[protocol].window_hu[0]:g} to {RULES[protocol].window_hu[1]:g} HU; comparable with "
        f"{RULES[protocol].compares_with}, on the same data and split."
        for protocol in result.suite.protocols
    )


def clinical_rows(result: SuiteResult) -> tuple[list[str], list[list[str]]]:
    """The measures of protocol `clinical` as a table of text: column heads, and a line for each method.

    Values are means over cases; bias and error by tissue, classes from the thick slices.
    """
    measured = {
        method.label: [o.clinical for o in result.of(method.label, "clinical").values() if o.clinical is not None]
        for method in result.methods
    }
    return clinical_table({label: of_cases for label, of_cases in measured.items() if of_cases})


def _pairs(comparison: Comparison, labels: Sequence[str]) -> list[tuple[str, str]]:
    taken = [label for label in (comparison.methods or labels) if label in labels]
    if comparison.kind == "above":
        return [(below, above) for above, below in pairwise(taken)]
    tested = comparison.tested
    if tested is None or tested not in labels:
        return []
    return [(tested, label) for label in taken if label != tested]


def _tested(result: SuiteResult, family: str, metric: str, tested: str, against: str) -> PairedTest:
    ours, theirs = result.scores(tested, metric), result.scores(against, metric)
    common = [case for case in ours if case in theirs]
    a, b = [ours[case] for case in common], [theirs[case] for case in common]
    differences = paired_differences(a, b)
    test = signed_rank_greater(a, b)
    finite = len(common) > 0 and bool(np.isfinite(differences).all())
    return PairedTest(
        family=family,
        metric=metric,
        tested=tested,
        against=against,
        pairs=len(common),
        difference=float(differences.mean()) if finite else None,
        interval=bootstrap_interval(differences, seed=result.suite.seed),
        p=test.p,
        star=stars(test.p),
        reason=test.reason,
    )
