"""Results of a suite as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thinslice.experiments.benchmark.case_runner import Failure, FigureCase
from thinslice.experiments.benchmark.methods import LoadedMethod
from thinslice.experiments.benchmark.store import Outcome
from thinslice.recipes import Suite


@dataclass(frozen=True)
class SuiteResult:
    """Results of a suite; `thinslice.experiments.benchmark.report` writes them.

    Attributes:
        suite: the suite.
        dataset: name of the data set.
        dataset_sha256: of all of it.
        data_sha256: of the cases scored.
        cases: their names, in order.
        patients: their number.
        methods: those that could be loaded, in table order.
        outcomes: (label, case, protocol) -> result.
        failures: of methods and cases.
        downstream: (label, case) -> downstream measures, where the suite asks for them.
        nodules: label -> measures of the phantom with nodules, likewise.
        shown: for Fig. 4; None where its case could not be read.
        device: kind of the requested device: "cpu", "cuda" or "mps".
        device_name: its make.
        threads: requested CPU threads.
        commit: of the code; None for an installed package.
        made: when, UTC.
    """

    suite: Suite
    dataset: str
    dataset_sha256: str
    data_sha256: str
    cases: tuple[str, ...]
    patients: int
    methods: tuple[LoadedMethod, ...]
    outcomes: Mapping[tuple[str, str, str], Outcome]
    failures: tuple[Failure, ...]
    shown: FigureCase | None
    device: str
    device_name: str
    threads: int | None
    commit: str | None
    made: str
    downstream: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    nodules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def protocol(self) -> str:
        """The protocol of tables and figures: the suite's first."""
        return self.suite.protocols[0]

    def of(self, label: str, protocol: str | None = None) -> dict[str, Outcome]:
        """Finished results of a method by case, in the order of cases."""
        wanted = protocol or self.protocol
        found = ((case, self.outcomes.get((label, case, wanted))) for case in self.cases)
        return {case: outcome for case, outcome in found if outcome is not None}

    def scores(self, label: str, metric: str) -> dict[str, float]:
        """Scores of a method by case; metric "psnr" (dB, infinite for identical volumes) or "ssim"."""
        results = self.of(label)
        return {case: o.psnr_db if metric == "psnr" else o.ssim for case, o in results.items()}
