"""Report of a domain-gap experiment: tables, the paper's Fig. 3(c), and one page that holds them all.

OUT/report.html                 the whole report, in one file
OUT/results.json                all results, for programs
OUT/table.csv, table.md         a line for each network and way of training, on each set of pairs
OUT/cases.csv                   a line for each of these and each case
OUT/figures/*.png               each figure by itself
OUT/results/                    the store that a run continues from
OUT/runs/                       training runs, unless the suite names another folder
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from thinslice.about import NOTICE, __version__
from thinslice.experiments.benchmark import render
from thinslice.experiments.benchmark.report import (
    failure_warnings,
    methods_section,
    region_picture,
    set_parts,
    tests_section,
)
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.table import METRICS
from thinslice.experiments.document import (
    Document,
    Heading,
    Part,
    Picture,
    Section,
    Table,
    to_html,
    to_markdown,
    write_files,
)
from thinslice.experiments.domain_gap.table import GapResult, GapRow, gap_caveats, gap_rows, gap_tests
from thinslice.experiments.text import as_csv, mean_text
from thinslice.pictures import plots
from thinslice.recipes import GapSuite, variants
from thinslice.recipes.gap import PAIRED

SCHEMA = "thinslice-domain-gap/1"
"""Value of `schema` in results.json; the number rises when a key changes its meaning."""

HEADS = ("network", "trained on", "cases", "PSNR (dB)", "lost (dB)", "SSIM", "lost")

# fmt: off
TABLE_COLUMNS = (
    "test_set", "split", "network", "training", "profile", "noise_hu", "cases",
    "psnr_db", "psnr_sd", "psnr_lost", "psnr_lost_low", "psnr_lost_high", "psnr_p", "psnr_p_holm", "psnr_star",
    "ssim", "ssim_sd", "ssim_lost", "ssim_lost_low", "ssim_lost_high", "ssim_p", "ssim_p_holm", "ssim_star",
    "weights_sha256", "recipe_sha256",
)
# fmt: on

_DIGITS = {"psnr": 3, "ssim": 4}

_RESULTS_NOTE = (
    "Mean ± sample standard deviation over cases. Lost: score trained on pairs less this one, mean over cases; * "
    "training on pairs is better, p < 0.001, one-sided Wilcoxon signed-rank test, uncorrected."
)


def write_gap(result: GapResult, out: Path) -> None:
    """Write tables, figures and the report, replacing those of an earlier run.

    Args:
        result: of `thinslice.experiments.domain_gap.run.measure_gap`.
        out: folder, made when missing.

    Raises:
        OutputError, ResourceError: they cannot be written.
    """
    document = to_document(result, [gap_pictures(result.gap, one) for one in result.sets])
    texts = {
        "table.md": to_markdown(document),
        "table.csv": table_csv(result),
        "cases.csv": cases_csv(result),
        "results.json": json.dumps(to_json(result), indent=1, allow_nan=False) + "\n",
        "report.html": to_html(document),
    }
    write_files(out, texts, document.pictures)


def cells(row: GapRow) -> list[str]:
    """A row as text, under `HEADS`."""
    texts = [row.network, row.training or "-", str(row.row.cases)]
    for metric, mean, sd, test in (
        ("psnr", row.row.psnr, row.row.psnr_sd, row.psnr),
        ("ssim", row.row.ssim, row.row.ssim_sd, row.ssim),
    ):
        lost = "-" if test is None or test.difference is None else f"{test.difference:+.{_DIGITS[metric]}f}{test.star}"
        texts += [mean_text(mean, sd, _DIGITS[metric]), lost]
    return texts


def gap_pictures(gap: GapSuite, result: SuiteResult) -> list[Picture]:
    """Figures that a set's finished results allow: Fig. 3(c), and the region by one network trained each way."""
    tested = result.suite.dataset
    behind = "" if tested == gap.dataset else "-" + _slug(f"{tested.root} {tested.split or 'all'}")
    drawn = []
    if any(math.isfinite(row.row.psnr) and row.training for row in gap_rows(gap, result)):
        text = (
            f"PSNR and SSIM on real pairs of {result.dataset} by each network, trained on pairs and on simulated thick "
            "slices: mean over cases and one standard deviation."
        )
        drawn.append(Picture(f"domain-gap{behind}", "The domain gap", text, _bars(gap, result)))
    if result.shown is not None and result.shown.methods:
        drawn.append(replace(region_picture(result), name=f"region{behind}", title="The same region, trained each way"))
    return drawn


def to_document(result: GapResult, drawn: Sequence[Sequence[Picture]]) -> Document:
    """The report of an experiment: its sets of pairs one after the other, then training and methods.

    Args:
        result: of the experiment.
        drawn: figures of each set.
    """
    gap = result.gap
    parts: list[Part] = [failure_warnings(result.failures)]
    for one, pictures in zip(result.sets, drawn, strict=True):
        table = Table(HEADS, [cells(row) for row in gap_rows(gap, one)])
        tests = gap_tests(gap, one)
        families = [tests_section("Is training on pairs better?", tests)] if tests else []
        parts.append(Heading(_heading(one)))
        parts += set_parts(
            one, gap_caveats(gap, one), Section("Results", (table,), (_RESULTS_NOTE,)), pictures, families
        )
    parts += [
        Heading("Networks"),
        Section("Training", (Table((), _experiment(gap)),)),
        methods_section(result.sets[0].methods),
    ]
    return Document(gap.title or gap.name, _lead(gap), tuple(parts))


def table_csv(result: GapResult) -> str:
    """Rows of all sets as CSV, full precision."""
    lines = [
        {"test_set": one.dataset, "split": one.suite.dataset.split or "all", **_values(result.gap, row)}
        for one in result.sets
        for row in gap_rows(result.gap, one)
    ]
    return as_csv(TABLE_COLUMNS, lines)


def cases_csv(result: GapResult) -> str:
    """One line for each set, network, way of training, case and protocol."""
    named = {variant.label: variant for variant in variants(result.gap)}
    lines = []
    for one in result.sets:
        for line in render.case_lines(one):
            variant = named.get(line["label"])
            names = (
                {"network": variant.network, "training": variant.training} if variant else {"network": line["label"]}
            )
            lines.append({"test_set": one.dataset, **names, **line})
    return as_csv(("test_set", "network", "training", *render.CASE_COLUMNS[1:]), lines)


def to_json(result: GapResult) -> dict[str, Any]:
    """All results as JSON values; infinite PSNR is null."""
    gap = result.gap
    sets = []
    for one in result.sets:
        values = render.to_json(one)
        kept = ("dataset", "protocol", "commit", "device", "made", "results")
        sets.append(
            {
                **{name: values[name] for name in kept},
                "rows": [_values(gap, row) for row in gap_rows(gap, one)],
                "tests": [asdict(test) for test in gap_tests(gap, one)],
                "caveats": list(gap_caveats(gap, one)),
            }
        )
    return {
        "schema": SCHEMA,
        "notice": NOTICE,
        "suite": gap.model_dump(mode="json"),
        "suite_sha256": gap.digest,
        "thinslice": __version__,
        "seed": gap.seed,
        "sets": sets,
        "failures": [{"method": f.label, "case": f.case_id, "reason": f.reason} for f in result.failures],
    }


def _bars(gap: GapSuite, result: SuiteResult) -> bytes:
    rows = [row for row in gap_rows(gap, result) if math.isfinite(row.row.psnr)]
    trainings = dict.fromkeys(row.training for row in rows if row.training)
    panels: dict[str, dict[str, list[plots.Bar]]] = {metric: {name: [] for name in trainings} for metric in METRICS}
    lines: dict[str, dict[str, float]] = {metric: {} for metric in METRICS}
    for row in rows:
        for metric, mean, sd, test in (
            ("psnr", row.row.psnr, row.row.psnr_sd, row.psnr),
            ("ssim", row.row.ssim, row.row.ssim_sd, row.ssim),
        ):
            if row.training:
                panels[metric][row.training].append(plots.Bar(row.network, mean, sd, test.star if test else ""))
            else:
                lines[metric][row.network] = mean
    note = "* trained on pairs the network is better, p < 0.001, one-sided Wilcoxon signed-rank test."
    starred = any(bar.star for series in panels.values() for bars in series.values() for bar in bars)
    return plots.paired_bars(panels, note=note if starred else "", lines=lines)


def _values(gap: GapSuite, row: GapRow) -> dict[str, Any]:
    """A row's values under `TABLE_COLUMNS`; infinite and unknown ones are None."""
    degraded = next((d for d in gap.degradations if d.label == row.training), None)
    values: dict[str, Any] = {
        "network": row.network,
        "training": row.training or None,
        "profile": degraded.profile if degraded else None,
        "noise_hu": degraded.noise_hu if degraded else None,
        "cases": row.row.cases,
        "psnr_db": row.row.psnr if math.isfinite(row.row.psnr) else None,
        "psnr_sd": row.row.psnr_sd,
        "ssim": row.row.ssim,
        "ssim_sd": row.row.ssim_sd,
        "weights_sha256": row.row.weights_sha256,
        "recipe_sha256": row.row.recipe_sha256,
    }
    for metric, test in (("psnr", row.psnr), ("ssim", row.ssim)):
        interval = test.interval if test and test.interval else (None, None)
        values[f"{metric}_lost"] = test.difference if test else None
        values[f"{metric}_lost_low"], values[f"{metric}_lost_high"] = interval
        values[f"{metric}_p"], values[f"{metric}_p_holm"] = (test.p, test.p_holm) if test else (None, None)
        values[f"{metric}_star"] = test.star if test else ""
    return values


def _lead(gap: GapSuite) -> str:
    ways = ", ".join(degradation.label for degradation in gap.degradations)
    networks = f"{len(gap.networks)} network{'s' if len(gap.networks) > 1 else ''}"
    return (
        f"{networks}, each trained on paired thick slices and, by the same recipe, on thick slices simulated from the "
        f"thin ones ({ways}); all tested on real pairs."
    )


def _heading(result: SuiteResult) -> str:
    count = len(result.cases)
    split = result.suite.dataset.split or "all"
    return f"{result.dataset}, {split}: {count} case{'' if count == 1 else 's'}, protocol {result.protocol}"


def _experiment(gap: GapSuite) -> list[tuple[str, str]]:
    facts = [("experiment", f"{gap.name}, sha256 {gap.digest}"), (PAIRED, "the training set's own thick slices")]
    for degradation in gap.degradations:
        noise = f", white noise of {degradation.noise_hu:g} HU" if degradation.noise_hu else ""
        facts.append((degradation.label, f"simulated from thin slices, profile {degradation.profile}{noise}"))
    return facts


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
