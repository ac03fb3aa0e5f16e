"""The domain gap: what training on simulated thick slices costs when real ones are upscaled.

    gap suite ── every network x {paired, each degradation} ── train ──┐
         └── sets of real pairs ───────────────────────────────────────┴─> score ─> paired against simulated

Each set of pairs is an ordinary suite (`thinslice.experiments.benchmark`), so a run that was stopped goes on, and what
fails is named while the rest goes on.

Source: paper, section 3.2 and Fig. 3(c): the same networks and settings, other training data, the same real test
pairs, one-sided Wilcoxon signed-rank test. The degradations are named ones, the paper's being in its supplement alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from thinslice.errors import ThinsliceError, UsageError
from thinslice.experiments.benchmark import Progress, SuiteResult, measure_suite
from thinslice.experiments.case_runs import Failure, failure
from thinslice.experiments.cases import dataset_root
from thinslice.experiments.methods import Say
from thinslice.experiments.table import Row, Tested, caveats, rows_of, tests_of
from thinslice.models import catalog
from thinslice.recipes import GapSuite, Variant, expanded, variants
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
    row: Row
    psnr: Tested | None = None
    ssim: Tested | None = None


@dataclass(frozen=True)
class GapResult:
    """Everything an experiment has measured.

    Attributes:
        gap: the experiment.
        sets: one result for each set of pairs that could be scored, the experiment's own first.
        failures: what could not be done, on any set.
    """

    gap: GapSuite
    sets: tuple[SuiteResult, ...]
    failures: tuple[Failure, ...]


def run_gap(
    gap: GapSuite,
    out: Path,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> GapResult:
    """Run an experiment and write its tables, figures and report; see `thinslice.experiments.gap_outputs`.

    Args:
        gap: what to do.
        out: folder of results, made when missing. The same folder again goes on with what is not there yet.
        data_root: folder that data sets start from; None for the suite file's.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: CPU threads; None leaves them.
        progress: called with results done and in all, set by set.
        say: called with lines about what is going on.

    Returns:
        What was measured; its `failures` name what was not.

    Raises:
        UsageError: an experiment that contradicts itself, a recipe or its data set.
        UnreadableError, InputError: the experiment's own data set as a whole.
        DeviceError: a device that is not there.
        OutputError, ResourceError: results cannot be written.
        ThinsliceError: that of the first failure, where nothing succeeded on the experiment's own set.
    """
    from thinslice.experiments.gap_outputs import write_gap

    result = measure_gap(gap, out, data_root=data_root, device=device, threads=threads, progress=progress, say=say)
    write_gap(result, out)
    return result


def measure_gap(
    gap: GapSuite,
    out: Path,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> GapResult:
    """The same without writing anything but trained weights and the store; arguments and errors as for `run_gap`."""
    unknown = [name for name in gap.baselines if name not in catalog.names()]
    if unknown:
        raise UsageError(f"There is no baseline {unknown[0]!r}; choose among {', '.join(catalog.names())}.")
    suite = expanded(gap)

    own = measure_suite(suite, out, data_root=data_root, device=device, threads=threads, progress=progress, say=say)
    # What could not be trained for the first set is not tried, and named, again.
    ready = tuple(method for method in suite.methods if method.label in {m.label for m in own.methods})
    sets, failures = [own], list(own.failures)
    for dataset in gap.external:
        if dataset.optional and not dataset_root(dataset, gap.folder, data_root).exists():
            if say:
                say(f"There is no data set {dataset.root}, which is optional.")
            continue
        external = expanded(gap, dataset).model_copy(update={"methods": ready})
        try:
            result = measure_suite(
                external, out, data_root=data_root, device=device, threads=threads, progress=progress, say=say
            )
        except ThinsliceError as error:
            # A set that is missing or cannot be scored must not cost the others their results.
            failures.append(failure("", f"all of {dataset.root}", error, say))
            continue
        sets.append(result)
        failures += result.failures
    return GapResult(gap, tuple(sets), tuple(failures))


def gap_tests(gap: GapSuite, result: SuiteResult) -> tuple[Tested, ...]:
    """Is training on pairs better? For each network and degradation, by PSNR and SSIM.

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
    """Rows of a set's table: baselines, then networks, each trained on pairs first; what failed is left out.

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
    """Sentences that a reader of a set's table must know."""
    scored = {row.network for row in gap_rows(gap, result) if row.training == PAIRED}
    lacking = [network.label for network in gap.networks if network.label not in scored]
    without = [f"{', '.join(lacking)} trained on pairs could not be scored, so nothing is compared."] if lacking else []
    once = (
        "Each network is trained once each way. Tests and intervals tell whether the difference holds over cases, not "
        "whether it holds over trainings: another seed may move every row."
    )
    return tuple(chain(caveats(result), without, [once]))
