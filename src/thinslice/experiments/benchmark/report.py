"""Report of a suite: tables, figures, and one page that holds them all.

OUT/report.html                 the whole report, in one file
OUT/results.json                all results, for programs
OUT/cases.csv, table.csv, table.md
OUT/figures/*.png               each figure by itself
OUT/results/                    the store that a run continues from
OUT/runs/                       training runs, unless the suite names another folder
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from thinslice.evaluation.rules import RULES
from thinslice.evaluation.statistics import stars
from thinslice.experiments.benchmark import render
from thinslice.experiments.benchmark.case_runner import Failure
from thinslice.experiments.benchmark.downstream_table import NOTE, downstream_columns, downstream_rows
from thinslice.experiments.benchmark.methods import LoadedMethod
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.table import (
    PairedTest,
    caveats,
    clinical_rows,
    comparability,
    comparisons_of,
    protocol_rows,
    rows_of,
)
from thinslice.experiments.document import (
    Document,
    Part,
    Picture,
    Section,
    Table,
    Warnings,
    to_html,
    to_markdown,
    write_files,
)
from thinslice.pictures import plots, region

_RESULTS_NOTE = (
    "Mean ± sample standard deviation over cases. * better than the row above, p < 0.001, one-sided Wilcoxon "
    "signed-rank test, uncorrected. Operations: a multiplication and an addition are two; all windows of the plan. "
    "Memory: the process's highest resident memory during a volume, less its memory before; the largest over volumes."
)

_TESTS_NOTE = (
    "One-sided Wilcoxon signed-rank test on the cases that both have; p (Holm) is corrected for the tests of one "
    "metric in this table. Intervals: percentile bootstrap of the mean difference."
)

_CLINICAL_NOTE = (
    "Means over cases, in HU without clamping. Tissue is the class of the thick slice. LAA-950: share of the lungs "
    "below -950 HU, estimate less truth. Edge rise: distance over which steps across slices rise from 10 to 90 %. "
    "Consistency: the estimate averaged over the slice profile, against the thick slices."
)


def write_outputs(result: SuiteResult, out: Path) -> None:
    """Write tables, figures and the report, replacing those of an earlier run.

    Args:
        result: of `measure_suite`.
        out: folder, made when missing.

    Raises:
        OutputError, ResourceError: they cannot be written.
    """
    document = to_document(result, pictures(result))
    texts = {
        "table.md": to_markdown(document),
        "table.csv": render.table_csv(result),
        "cases.csv": render.cases_csv(result),
        "results.json": json.dumps(render.to_json(result), indent=1, allow_nan=False) + "\n",
        "report.html": to_html(document),
    }
    write_files(out, texts, document.pictures)


def pictures(result: SuiteResult) -> list[Picture]:
    """All figures that the finished results allow, in the order of the report."""
    rows = [row for row in rows_of(result) if math.isfinite(row.psnr)]
    drawn: list[Picture] = []
    if rows:
        drawn += [_bars(result), _over_time(result)]
    scatter = _scatter(result)
    if scatter is not None:
        drawn.append(scatter)
    if result.shown is not None and result.shown.methods:
        drawn.append(region_picture(result))
    return drawn


def to_document(result: SuiteResult, drawn: Sequence[Picture]) -> Document:
    """The report of a suite with its figures."""
    rows = rows_of(result)
    theirs = render.published_of(rows)
    tables = [Table(render.HEADS, [render.cells(row) for row in rows])]
    if theirs:
        lines = [render.published_cells(row) for row in theirs]
        tables.append(Table(render.HEADS, lines, "Published, not measured here:", "published"))
    sources = dict.fromkeys(
        row.source.text
        if row.source.protocol is None or RULES[row.source.protocol].scores_like == RULES[result.protocol].scores_like
        else f"{row.source.text} They were scored under protocol {row.source.protocol}, so they do not compare with "
        f"the rows above."
        for row in theirs
    )
    tests = comparisons_of(result)
    families = [
        tests_section(
            "Each row against the one above" if family == "above" else "One method against the others",
            [test for test in tests if test.family == family],
        )
        for family in dict.fromkeys(test.family for test in tests)
    ]
    return Document(
        title=result.suite.title or result.suite.name,
        lead=f"{len(result.cases)} cases of {result.dataset}, protocol {result.protocol}.",
        parts=(
            failure_warnings(result.failures),
            *set_parts(
                result, caveats(result), Section("Results", tuple(tables), (_RESULTS_NOTE, *sources)), drawn, families
            ),
            methods_section(result.methods),
        ),
    )


def set_parts(
    result: SuiteResult,
    sentences: Sequence[str],
    results: Section,
    drawn: Sequence[Picture],
    tests: Sequence[Section],
) -> tuple[Part, ...]:
    """The parts of a report about one scored set of pairs, in their order."""
    clinical = []
    if "clinical" in result.suite.protocols:
        clinical.append(Section("Clinical measures", (Table(*clinical_rows(result)),), (_CLINICAL_NOTE,)))
    downstream = []
    if downstream_columns(result):
        downstream.append(Section("Downstream", (Table(*downstream_rows(result)),), (NOTE,)))
    heads, lines = protocol_rows(result)
    columns = (Table(heads, lines),) if len(heads) > 3 else ()
    protocols = Section("Protocols", columns, comparability(result))
    provenance = Section("Provenance", (Table((), render.provenance_of(result)),))
    return (Warnings(tuple(sentences)), results, *drawn, *tests, *clinical, *downstream, protocols, provenance)


def tests_section(title: str, tests: Sequence[PairedTest]) -> Section:
    """A family of tests."""
    return Section(
        title, (Table(render.TEST_HEADS, [render.comparison_cells(test) for test in tests]),), (_TESTS_NOTE,)
    )


def failure_warnings(failures: Sequence[Failure]) -> Warnings:
    """Failed methods and cases with the reasons."""
    return Warnings(
        tuple(f"Failed: {f.label or 'all methods'}, {f.case_id or 'all cases'}: {f.reason}" for f in failures)
    )


def methods_section(methods: Sequence[LoadedMethod]) -> Section:
    """Row, network, digests of weights and recipe, and size of each method."""
    lines = []
    for method in methods:
        adapted = f", adapted to each volume in {method.adapt_steps} steps" if method.adapt_steps else ""
        lines.append([
            method.label,
            f"{method.name}{adapted}",
            method.weights_sha256 or "none",
            method.recipe_sha256 or "none",
            f"{method.weight_bytes / 2**20:.2f} MiB",
        ])  # fmt: skip
    return Section("Methods", (Table(("row", "network", "weights sha256", "recipe sha256", "weights"), lines),))


def _bars(result: SuiteResult) -> Picture:
    tests = comparisons_of(result)
    against = [test for test in tests if test.family == "others"]
    if against:
        # A suite may test several methods against the others; one star has one meaning.
        against = [test for test in against if test.tested == against[0].tested]
        starred = {(test.against, test.metric): stars(test.p) for test in against}
        note = f"* {against[0].tested} is better than this method, p < 0.001, one-sided Wilcoxon signed-rank test."
    else:
        starred = {(test.tested, test.metric): stars(test.p) for test in tests}
        note = "* better than the method to its left, p < 0.001, one-sided Wilcoxon signed-rank test."
    if not any(starred.values()):
        note = ""
    rows = [row for row in rows_of(result) if math.isfinite(row.psnr)]
    panels = {
        "psnr": [plots.Bar(row.label, row.psnr, row.psnr_sd, starred.get((row.label, "psnr"), "")) for row in rows],
        "ssim": [plots.Bar(row.label, row.ssim, row.ssim_sd, starred.get((row.label, "ssim"), "")) for row in rows],
    }
    text = "PSNR and SSIM of each method: mean over cases and one standard deviation."
    return Picture("bars", "PSNR and SSIM", text, plots.bars(panels, note=note))


def _over_time(result: SuiteResult) -> Picture:
    circles = [
        plots.Circle(row.label, row.seconds, row.psnr, row.parameters)
        for row in rows_of(result)
        if math.isfinite(row.psnr)
    ]
    text = "PSNR over seconds per volume; the area of a circle is the number of parameters, a cross has none."
    png = plots.score_over_time(circles, device=result.device_name)
    return Picture("psnr-over-time", "PSNR over time", text, png)


def _scatter(result: SuiteResult) -> Picture | None:
    labels = [method.label for method in result.methods if result.of(method.label)]
    reference = result.suite.figures.scatter or (labels[-1] if labels else "")
    ours = result.scores(reference, "psnr") if reference in labels else {}
    scores = {}
    for label in labels:
        theirs = result.scores(label, "psnr")
        pairs = [(theirs[case], ours[case]) for case in theirs if case in ours]
        if label != reference and any(math.isfinite(a) and math.isfinite(b) for a, b in pairs):
            scores[label] = pairs
    if not scores:
        return None
    text = f"PSNR of {reference} (vertical) and of each other method (horizontal), one point per case."
    return Picture("case-by-case", "Case by case", text, plots.case_scatter(reference, scores))


def region_picture(result: SuiteResult) -> Picture:
    """The suite's region by each of its methods: the paper's Fig. 4.

    Raises:
        ValueError: no case was shown; ask for `result.shown` first.
    """
    shown = result.shown
    if shown is None:
        raise ValueError("The result has no case to show.")
    box = zip(("slices", "rows", "columns"), shown.region.start, shown.region.stop, strict=True)
    where = ", ".join(f"{name} {start} to {stop - 1}" for name, start, stop in box)
    methods = {m.label: shown.methods[m.label] for m in result.methods if m.label in shown.methods}
    png = region.region_figure(
        {region.THICK: shown.thick, **methods},
        shown.truth,
        shown.grid,
        rows=result.suite.figures.rows,
        caption=f"case {shown.case_id}, thin {where}",
    )
    text = "Three views of one region, each with its absolute error below; the truth is at the right."
    return Picture("region", "The same region for every method", text, png, dark=True)
