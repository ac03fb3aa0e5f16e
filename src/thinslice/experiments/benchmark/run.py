"""Run of a suite: every method on every case, each finished result stored at once.

    suite ── cases ──┐
       └── methods ──┴─> upscale the whole volume ─> score ─> store ─> table, tests, figures, report (`write_outputs`)

A second start takes the results of the store and computes the rest; the scores equal those of an uninterrupted run. A
method or case that fails is listed, and the others go on.
"""

from __future__ import annotations

from pathlib import Path

import torch

from thinslice.errors import UsageError
from thinslice.experiments import provenance
from thinslice.experiments.benchmark.case_runner import CaseRunner, Failure, FigureCase, failure, kind_of
from thinslice.experiments.benchmark.cases import cases_digest, open_cases
from thinslice.experiments.benchmark.methods import LoadedMethod, load_method
from thinslice.experiments.benchmark.published import published
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.store import Store
from thinslice.inference.backends.choice import choose_device
from thinslice.recipes import Suite
from thinslice.typing import Notify, Progress


def run_suite(
    suite: Suite,
    out: Path,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> SuiteResult:
    """Run a suite and write its tables, figures and report.

    Args:
        suite: methods, cases, protocols.
        out: folder of results, made when missing. The same folder again continues an earlier run.
        data_root: folder that data sets start from; None for the suite file's.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: CPU threads; None leaves them.
        progress: called with results done and in all.
        notify: called with lines about the progress.

    Returns:
        The results, and `failures` for the rest.

    Raises:
        UsageError: a suite that contradicts itself or its data set.
        UnreadableError, InputError: the data set as a whole.
        DeviceError: a device that is not there.
        OutputError, ResourceError: results cannot be written.
        ThinsliceError: that of the first failure, where nothing succeeded.
    """
    from thinslice.experiments.benchmark.report import write_outputs

    result = measure_suite(
        suite, out, data_root=data_root, device=device, threads=threads, progress=progress, notify=notify
    )
    write_outputs(result, out)
    return result


def measure_suite(
    suite: Suite,
    out: Path,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> SuiteResult:
    """Run a suite and write only the store; arguments and errors as for `run_suite`."""
    for method in suite.methods:
        if method.published is not None:
            published(method.published)
    kind = kind_of(device)
    if threads is not None:
        torch.set_num_threads(threads)
    dataset, cases = open_cases(suite, data_root)
    names = [case.case_id for case in cases]
    wanted_case = suite.figures.case or names[0]
    if wanted_case not in names:
        raise UsageError(f"The suite's figures show case {wanted_case!r}, which is not among those it scores.")
    ready, failures = _all_ready(suite, out, data_root, device, threads, notify)
    runner = CaseRunner(suite, Store(out / "results"), ready, device=device, threads=threads, notify=notify)
    shown: FigureCase | None = None
    total = len(cases) * len(ready)
    for before, case in enumerate(cases):

        def advance(methods: int, done: int = before * len(ready)) -> None:
            if progress:
                progress(done + methods, total)

        of_case = runner.run(case, shows=case.case_id == wanted_case, advance=advance)
        shown = shown or of_case
        advance(len(ready))
    found_nodules = runner.run_nodules()
    failures += runner.failures
    if not runner.outcomes and failures:
        raise failures[0].error
    return SuiteResult(
        suite=suite,
        dataset=dataset.name,
        dataset_sha256=dataset.digest,
        data_sha256=cases_digest(cases, suite.dataset),
        cases=tuple(names),
        patients=len({case.patient for case in cases}),
        methods=tuple(ready),
        outcomes=runner.outcomes,
        failures=tuple(failures),
        shown=shown,
        downstream=runner.downstream,
        nodules=found_nodules,
        device=kind,
        device_name=provenance.device_name(choose_device(device)),
        threads=threads,
        commit=provenance.commit(),
        made=provenance.now(),
    )


def _all_ready(
    suite: Suite,
    out: Path,
    data_root: Path | None,
    device: str,
    threads: int | None,
    notify: Notify | None,
) -> tuple[list[LoadedMethod], list[Failure]]:
    runs = out / "runs" if suite.runs is None else suite.folder / suite.runs
    ready: list[LoadedMethod] = []
    failures: list[Failure] = []
    for method in suite.methods:
        try:
            ready.append(
                load_method(
                    method,
                    suite,
                    runs=runs,
                    data_root=suite.folder if data_root is None else data_root,
                    device=device,
                    threads=threads,
                    notify=notify,
                )
            )
        except Exception as error:  # the other methods run without it
            failures.append(failure(method.label, "", error, notify))
    return ready, failures
