"""A suite's results as text: cells of tables, CSV, JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from thinslice.about import NOTICE, __version__
from thinslice.experiments.benchmark.downstream_table import downstream_columns, downstream_json
from thinslice.experiments.benchmark.published import PUBLISHED, Published
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.table import MethodRow, PairedTest, caveats, comparisons_of, rows_of
from thinslice.experiments.text import as_csv, count_text, mean_text

SCHEMA = "thinslice-benchmark/1"
"""Value of `schema` in results.json; the number rises when a key changes its meaning."""

HEADS = ("method", "cases", "PSNR (dB)", "SSIM", "parameters", "operations", "s / volume", "MiB / volume", "plan")
TEST_HEADS = ("tested", "against", "metric", "cases", "mean difference", "95 % interval", "p", "p (Holm)", "")

# fmt: off
TABLE_COLUMNS = (
    "source", "label", "cases", "psnr_db", "psnr_sd", "psnr_star", "ssim", "ssim_sd", "ssim_star", "parameters",
    "operations", "seconds", "memory_mib", "device_memory_mib", "plan", "weights_sha256", "recipe_sha256",
)
CASE_COLUMNS = (
    "label", "case", "protocol", "psnr_db", "identical", "ssim", "slices_scored", "consistency_rms_hu",
    "factor", "plan", "seconds", "network_s", "memory_mib", "resident_mib", "device_memory_mib", "operations",
    "windows", "windows_skipped", "weights_sha256", "device", "device_name", "threads", "commit", "made",
)
# fmt: on


def cells(row: MethodRow) -> list[str]:
    """A measured row as text, under `HEADS`."""
    memory = "-" if row.memory_mib is None else f"{row.memory_mib:.0f}"
    on_device = "" if row.device_memory_mib is None else f" + {row.device_memory_mib:.0f} on the device"
    return [
        row.label,
        str(row.cases),
        mean_text(row.psnr, row.psnr_sd, 3, row.psnr_star),
        mean_text(row.ssim, row.ssim_sd, 4, row.ssim_star),
        count_text(row.parameters),
        count_text(row.operations),
        f"{row.seconds:.3g}",
        memory + on_device,
        ", ".join(row.plans),
    ]


def published_cells(row: Published) -> list[str]:
    """A published row as text, under `HEADS`; a dash for values that its source does not state."""
    return [
        f"{row.label} (published: {row.source.name})",
        "-" if row.source.cases is None else str(row.source.cases),
        mean_text(row.psnr, row.psnr_sd, 2 if row.psnr_sd is None else 3),
        mean_text(row.ssim, row.ssim_sd, 3),
        count_text(row.parameters),
        "-",
        "-",
        "-",
        "-",
    ]


def comparison_cells(test: PairedTest) -> list[str]:
    """A test as text, under `TEST_HEADS`."""
    digits = 3 if test.metric == "psnr" else 5
    return [
        test.tested,
        test.against,
        test.metric.upper(),
        str(test.pairs),
        "-" if test.difference is None else f"{test.difference:+.{digits}f}",
        "-" if test.interval is None else " to ".join(f"{end:+.{digits}f}" for end in test.interval),
        test.reason or _p_text(test.p),
        _p_text(test.p_holm),
        test.star,
    ]


def published_of(rows: Sequence[MethodRow]) -> tuple[Published, ...]:
    """The published rows that the measured ones name, each once, in the order of their sources' tables."""
    named = {id(row.published): row.published for row in rows if row.published is not None}
    order = list(PUBLISHED.values())
    return tuple(sorted(named.values(), key=order.index))


def provenance_of(result: SuiteResult) -> list[tuple[str, str]]:
    """Suite, data, settings, code and machine behind a table, as pairs of name and text."""
    suite = result.suite
    plan = "each method's own" if suite.plan is None else f"{suite.plan} for networks"
    return [
        ("suite", f"{suite.name}, sha256 {suite.digest[:16]}"),
        ("protocol", ", ".join(suite.protocols)),
        ("data set", f"{result.dataset}, sha256 {result.dataset_sha256[:16]}"),
        ("split", f"{suite.dataset.split or 'all'}, {len(result.cases)} cases, sha256 {result.data_sha256[:16]}"),
        ("thick slices", _thick_text(result)),
        ("factor", "each pair's own" if suite.factor is None else str(suite.factor)),
        ("window plan", plan),
        ("commit", result.commit or "none (installed package)"),
        ("thinslice", __version__),
        ("seed", f"{suite.seed} (bootstrap)"),
        ("device", f"{result.device}: {result.device_name}; threads {result.threads or 'automatic'}"),
        ("made", result.made),
    ]


def table_csv(result: SuiteResult) -> str:
    """Rows as CSV, full precision, published ones marked in the column `source`."""
    rows, further = rows_of(result), downstream_columns(result)
    lines: list[dict[str, Any]] = [
        {
            "source": "ours",
            **asdict(row),
            "psnr_db": row.psnr,
            "plan": " ".join(row.plans),
            **{column.name: column.value(row.label) for column in further},
        }
        for row in rows
    ]
    for theirs in published_of(rows):
        source = f"published: {theirs.source.name}"
        lines.append({**asdict(theirs), "source": source, "psnr_db": theirs.psnr, "cases": theirs.source.cases})
    return as_csv((*TABLE_COLUMNS, *(column.name for column in further)), lines)


def cases_csv(result: SuiteResult) -> str:
    """One line for each method, case and protocol."""
    return as_csv(CASE_COLUMNS, case_lines(result))


def case_lines(result: SuiteResult) -> list[dict[str, Any]]:
    """The values under `CASE_COLUMNS`, and others, for each method, case and protocol."""
    lines = []
    for method in result.methods:
        for protocol in result.suite.protocols:
            for case, outcome in result.of(method.label, protocol).items():
                added = {
                    "label": method.label,
                    "case": case,
                    "protocol": protocol,
                    "psnr_db": outcome.psnr,
                    "identical": outcome.psnr is None,
                    "weights_sha256": method.weights_sha256,
                }
                lines.append({**outcome.model_dump(mode="json"), **outcome.cost, **added})
    return lines


def to_json(result: SuiteResult) -> dict[str, Any]:
    """All results as JSON values; infinite PSNR is null beside `"identical": true`."""
    rows = rows_of(result)
    return {
        "schema": SCHEMA,
        "notice": NOTICE,
        "suite": result.suite.model_dump(mode="json"),
        "suite_sha256": result.suite.digest,
        "dataset": {
            "name": result.dataset,
            "sha256": result.dataset_sha256,
            "split": result.suite.dataset.split,
            "cases": list(result.cases),
            "cases_sha256": result.data_sha256,
        },
        "protocol": result.protocol,
        "thinslice": __version__,
        "commit": result.commit,
        "seed": result.suite.seed,
        "device": {"kind": result.device, "name": result.device_name, "threads": result.threads},
        "made": result.made,
        "rows": [_finite({**asdict(row), "published": row.published and asdict(row.published)}) for row in rows],
        "downstream": downstream_json(result),
        "tests": [_finite(asdict(test)) for test in comparisons_of(result)],
        "caveats": list(caveats(result)),
        "failures": [
            {"method": failed.label, "case": failed.case_id, "reason": failed.reason} for failed in result.failures
        ],
        "results": [
            {
                "label": label,
                "case": case,
                "protocol": protocol,
                "identical": outcome.psnr is None,
                **outcome.model_dump(mode="json", exclude={"schema_name"}),
            }
            for (label, case, protocol), outcome in result.outcomes.items()
        ],
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def _p_text(p: float | None) -> str:
    return "-" if p is None else f"{p:.2g}"


def _thick_text(result: SuiteResult) -> str:
    simulated = result.suite.dataset.simulate
    if simulated is None:
        return "the data set's own"
    noise = f", noise {simulated.noise_hu:g} HU" if simulated.noise_hu else ""
    return f"the data set's own, simulated ({simulated.profile}{noise}) where it has none"
