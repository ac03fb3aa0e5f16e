"""Domain gap: the loss on real thick slices of networks that were trained on simulated ones.

    gap suite ── every network x {paired, each degradation} ── train ──┐
         └── sets of real pairs ───────────────────────────────────────┴─> score ─> paired against simulated

Each set of pairs is an ordinary suite (`thinslice.experiments.benchmark.run`), so a stopped run continues,
and failures are listed while the rest goes on.

Source: paper, section 3.2 and Fig. 3(c): the same networks and settings, other training data, the same real test
pairs, one-sided Wilcoxon signed-rank test. The degradations are named ones, the paper's being in its supplement alone.
"""

from __future__ import annotations

from pathlib import Path

from thinslice.errors import ThinsliceError, UsageError
from thinslice.experiments.benchmark.case_runner import failure
from thinslice.experiments.benchmark.cases import dataset_root
from thinslice.experiments.benchmark.run import measure_suite
from thinslice.experiments.domain_gap.table import GapResult
from thinslice.models import catalog
from thinslice.recipes import GapSuite, expanded
from thinslice.typing import Notify, Progress


def run_gap(
    gap: GapSuite,
    out: Path,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> GapResult:
    """Run an experiment and write its tables, figures and report; see `thinslice.experiments.domain_gap.report`.

    Args:
        gap: the experiment.
        out: folder of results, made when missing. The same folder again continues an earlier run.
        data_root: folder that data sets start from; None for the suite file's.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: CPU threads; None leaves them.
        progress: called with results done and in all, set by set.
        notify: called with lines about the progress.

    Returns:
        The results, and `failures` for the rest.

    Raises:
        UsageError: an experiment that contradicts itself, a recipe or its data set.
        UnreadableError, InputError: the experiment's own data set as a whole.
        DeviceError: a device that is not there.
        OutputError, ResourceError: results cannot be written.
        ThinsliceError: that of the first failure, where nothing succeeded on the experiment's own set.
    """
    from thinslice.experiments.domain_gap.report import write_gap

    result = measure_gap(
        gap, out, data_root=data_root, device=device, threads=threads, progress=progress, notify=notify
    )
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
    notify: Notify | None = None,
) -> GapResult:
    """Run an experiment and write only trained weights and the store; arguments and errors as for `run_gap`."""
    unknown = [name for name in gap.baselines if name not in catalog.names()]
    if unknown:
        raise UsageError(f"There is no baseline {unknown[0]!r}; choose among {', '.join(catalog.names())}.")
    suite = expanded(gap)

    own = measure_suite(
        suite, out, data_root=data_root, device=device, threads=threads, progress=progress, notify=notify
    )
    # Methods that failed to train for the first set are neither tried nor listed again.
    ready = tuple(method for method in suite.methods if method.label in {m.label for m in own.methods})
    sets, failures = [own], list(own.failures)
    for dataset in gap.external:
        if dataset.optional and not dataset_root(dataset, gap.folder, data_root).exists():
            if notify:
                notify(f"There is no data set {dataset.root}, which is optional.")
            continue
        external = expanded(gap, dataset).model_copy(update={"methods": ready})
        try:
            result = measure_suite(
                external, out, data_root=data_root, device=device, threads=threads, progress=progress, notify=notify
            )
        except ThinsliceError as error:
            # The other sets are scored without a set that is missing or damaged.
            failures.append(failure("", f"all of {dataset.root}", error, notify))
            continue
        sets.append(result)
        failures += result.failures
    return GapResult(gap, tuple(sets), tuple(failures))
