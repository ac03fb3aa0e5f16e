"""Table of a domain gap: training on pairs against training on simulated thick slices, with tests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from thinslice.experiments.benchmark.case_runner import Failure
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.table import MethodRow, PairedTest, caveats, rows_of, tests_of
from thinslice.recipes import GapSuite, Variant, variants
from thinslice.recipes.gap import PAIRED

FAMILY = "paired against simulated"
"""Name of the family of tests: all networks and degradations on one metric."""


@dataclass(frozen=True)
class GapRow:
    """A network trained one way, or a baseline, on one set of pairs.

    Attributes:
        network: its label; for a baseline its name.
        training: label of the degradation, `PAIRED`, or empty for a baseline.
        row: means over cases, and weights.
        psnr, ssim: is training on pairs better than this? None for training on pairs itself, for baselines, and where
            training on pairs failed.
    """

    network: str
    training: str
    row: MethodRow
    psnr: PairedTest | None = None
    ssim: PairedTest | None = None


@dataclass(frozen=True)
class GapResult:
    """Results of an experiment.

    Attributes:
        gap: the experiment.
        sets: one result for each set of pairs that could be scored, the experiment's own first.
        failures: of methods and cases, on any set.
    """

    gap: GapSuite
    sets: tuple[SuiteResult, ...]
    failures: tuple[Failure, ...]


def gap_tests(gap: GapSuite, result: SuiteResult) -> tuple[PairedTest, ...]:
    """Tests of training on pairs against each degradation, for each network, by PSNR and SSIM.

    One-sided Wilcoxon signed-rank tests of paired against simulated, corrected by Holm over all networks and
    degradations on one metric; differences are paired minus simulated, with a seeded bootstrap interval.

    Args:
        gap: the experiment.
        result: of one of its sets.
    """
    scored = {method.label for method in result.methods if result.of(method.label)}
    pairs = [
        (Variant(variant.network, PAIRED).label, variant.label)
        for variant in variants(gap)
        if variant.training != PAIRED and {variant.label, Variant(variant.network, PAIRED).label} <= scored
    ]
    return tests_of(result, FAMILY, pairs)


def gap_rows(gap: GapSuite, result: SuiteResult) -> tuple[GapRow, ...]:
    """Rows of a set's table: baselines, then networks, each trained on pairs first; failed ones are left out.

    Args:
        gap: the experiment.
        result: of one of its sets.
    """
    rows = {row.label: row for row in rows_of(result)}
    tests = {(test.against, test.metric): test for test in gap_tests(gap, result)}
    baselines = [GapRow(name, "", rows[name]) for name in gap.baselines if name in rows]
    trained = [
        GapRow(
            network=variant.network,
            training=variant.training,
            row=rows[variant.label],
            psnr=tests.get((variant.label, "psnr")),
            ssim=tests.get((variant.label, "ssim")),
        )
        for variant in variants(gap)
        if variant.label in rows
    ]
    return (*baselines, *trained)


def gap_caveats(gap: GapSuite, result: SuiteResult) -> tuple[str, ...]:
    """Sentences that a reader of a set's table needs."""
    scored = {row.network for row in gap_rows(gap, result) if row.training == PAIRED}
    lacking = [network.label for network in gap.networks if network.label not in scored]
    without = [f"{', '.join(lacking)} trained on pairs could not be scored, so nothing is compared."] if lacking else []
    once = (
        "Each network is trained once each way. Tests and intervals are about the difference over cases, not "
        "over trainings: another seed may move every row."
    )
    return tuple(chain(caveats(result), without, [once]))
