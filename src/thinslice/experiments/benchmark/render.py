"""A suite's table as text: cells, Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from thinslice.about import NOTICE, __version__
from thinslice.experiments.benchmark.published import PUBLISHED, Published
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.table import MethodRow, PairedTest, caveats, clinical_rows, comparisons_of, rows_of

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


def mean_text(mean: float, sd: float | None, digits: int, star: str = "") -> str:
    """A mean with its spread.

    >>> mean_text(38.6091, 1.7213, 3, "*"), mean_text(0.5, None, 2), mean_text(math.inf, None, 3)
    ('38.609 ± 1.721*', '0.50', 'infinite')
    """
    if math.isinf(mean):
        return f"infinite{star}"
    return f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}") + star


def count_text(count: float | None) -> str:
    """A large number in words that fit a table.

    >>> count_text(0), count_text(1_730_000), count_text(2.5e12), count_text(431), count_text(None)
    ('0', '1.73 M', '2.5 T', '431', '-')
    """
    if count is None:
        return "-"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g}"


def cells(row: MethodRow) -> list[str]:
    """A row of ours as text, under `HEADS`."""
    return [
        row.label,
        str(row.cases),
        mean_text(row.psnr, row.psnr_sd, 3, row.psnr_star),
        mean_text(row.ssim, row.ssim_sd, 4, row.ssim_star),
        count_text(row.parameters),
        count_text(row.operations),
        f"{row.seconds:.3g}",
        _memory(row),
        ", ".join(row.plans),
    ]


def published_cells(row: Published) -> list[str]:
    """A published row as text, under `HEADS`; what its source does not tell is a dash."""
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
    """The published rows that ours name, each once, in the order of the sources' tables."""
    named = {id(row.published): row.published for row in rows if row.published is not None}
    order = list(PUBLISHED.values())
    return tuple(sorted(named.values(), key=order.index))


def provenance_of(result: SuiteResult) -> list[tuple[str, str]]:
    """What every table must notify of itself: name and text."""
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


def to_markdown(result: SuiteResult) -> str:
    """Table, tests, clinical measures, failures and provenance as Markdown."""
    rows = rows_of(result)
    parts = [f"# {result.suite.title or result.suite.name}", f"> {NOTICE}"]
    parts.append(markdown_table(HEADS, [cells(row) for row in rows]))
    theirs = published_of(rows)
    if theirs:
        parts.append("Published, not measured here:")
        parts.append(markdown_table(HEADS, [published_cells(row) for row in theirs]))
        parts += [source.text for source in dict.fromkeys(row.source for row in theirs)]
    parts += [f"- {sentence}" for sentence in caveats(result)]
    tests = comparisons_of(result)
    for family in dict.fromkeys(test.family for test in tests):
        parts.append(f"## {family_title(family)}")
        parts.append(markdown_table(TEST_HEADS, [comparison_cells(test) for test in tests if test.family == family]))
    if "clinical" in result.suite.protocols:
        parts.append("## Clinical measures")
        parts.append(markdown_table(*clinical_rows(result)))
    if result.failures:
        parts.append("## Failed")
        parts += [f"- {failed.label or 'all methods'}, {failed.case_id or 'all cases'}: {failed.reason}"
                  for failed in result.failures]  # fmt: skip
    parts.append("## Made from")
    parts += [f"- {name}: {text}" for name, text in provenance_of(result)]
    for method in result.methods:
        parts.append(
            f"- {method.label}: {method.name}, weights {method.weights_sha256 or 'none'}, recipe "
            f"{method.recipe_sha256 or 'none'}"
        )
    return joined(parts)


def family_title(family: str) -> str:
    """What a comparison asks, as a heading."""
    return "Each row against the one above" if family == "above" else "One method against the others"


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars inside cells are escaped.

    >>> print(markdown_table(["a", "b"], [["1", "x|y"]]))
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    told = [[cell.replace("|", "\\|") for cell in line] for line in (heads, *lines)]
    rule = "|" + "---|" * len(heads)
    text = ["| " + " | ".join(line) + " |" for line in told]
    return "\n".join([text[0], rule, *text[1:]])


def table_csv(result: SuiteResult) -> str:
    """Rows as CSV, full precision, those of others marked in the column `source`."""
    rows = rows_of(result)
    lines: list[dict[str, Any]] = []
    for row in rows:
        told = asdict(row)
        lines.append({"source": "ours", **told, "psnr_db": row.psnr, "plan": " ".join(row.plans)})
    for theirs in published_of(rows):
        source = f"published: {theirs.source.name}"
        lines.append({**asdict(theirs), "source": source, "psnr_db": theirs.psnr, "cases": theirs.source.cases})
    return as_csv(TABLE_COLUMNS, lines)


def cases_csv(result: SuiteResult) -> str:
    """One line for each method, case and protocol."""
    return as_csv(CASE_COLUMNS, case_lines(result))


def case_lines(result: SuiteResult) -> list[dict[str, Any]]:
    """The values under `CASE_COLUMNS`, and others, for each method, case and protocol."""
    lines = []
    for method in result.methods:
        for protocol in result.suite.protocols:
            for case, outcome in result.of(method.label, protocol).items():
                told = outcome.model_dump(mode="json")
                extra = {"label": method.label, "case": case, "protocol": protocol, "psnr_db": outcome.psnr}
                sha = {"weights_sha256": method.weights_sha256, "identical": outcome.psnr is None}
                lines.append({**told, **outcome.cost, **extra, **sha})
    return lines


def as_csv(names: Sequence[str], lines: Sequence[dict[str, Any]]) -> str:
    """Dictionaries as CSV with the named columns; None is empty, other keys are left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def to_json(result: SuiteResult) -> dict[str, Any]:
    """Everything as JSON values; infinite PSNR is null beside `"identical": true`."""
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


def _memory(row: MethodRow) -> str:
    own = "-" if row.memory_mib is None else f"{row.memory_mib:.0f}"
    return own if row.device_memory_mib is None else f"{own} + {row.device_memory_mib:.0f} on the device"


def _p_text(p: float | None) -> str:
    return "-" if p is None else f"{p:.2g}"


def _thick_text(result: SuiteResult) -> str:
    simulated = result.suite.dataset.simulate
    if simulated is None:
        return "the data set's own"
    noise = f", noise {simulated.noise_hu:g} HU" if simulated.noise_hu else ""
    return f"the data set's own, simulated ({simulated.profile}{noise}) where it has none"


def joined(parts: Sequence[str]) -> str:
    """Paragraphs, list items without empty lines between them."""
    text = ""
    for before, part in zip(("", *parts), parts, strict=False):
        text += ("\n" if before.startswith("- ") and part.startswith("- ") else "\n\n" if text else "") + part
    return text + "\n"
