"""The report of an archive as one HTML page or as Markdown: counts and reasons, no name of a person, folder or file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thinslice.archive.catalogue import Catalogue
from thinslice.archive.place import ArchivePlace
from thinslice.archive.status import status_of
from thinslice.errors import UsageError
from thinslice.experiments.document import Document, Part, Section, Table, Warnings, to_html, to_markdown
from thinslice.system.atomic import atomic_file

GIB_OF_MIB = 1024.0

MOST_ROWS = 40
"""Rows of a table of distinct values; the commonest come first."""

_GROUPS = {
    "Kind": "kind",
    "Distance of slices, mm": "ROUND(spacing_mm, 2)",
    "Slice thickness, mm": "ROUND(thickness_mm, 2)",
    "Kernel": "kernel",
    "Body part": "body_part",
    "Scanner": "TRIM(manufacturer || ' ' || scanner)",
}
"""Tables of the catalogue: heading, and the value that is counted."""


def write_report(place: ArchivePlace, path: Path, *, overwrite: bool = False) -> None:
    """Write the report of an archive.

    Args:
        place: the index.
        path: ends in .html, .md or .json.
        overwrite: replace a file that exists.

    Raises:
        UsageError: another suffix, or no index.
        OutputError: the file cannot be written.
    """
    status, suffix = status_of(place), path.suffix.lower()
    if suffix == ".json":
        text = json.dumps(status, indent=2) + "\n"
    elif suffix in (".html", ".md"):
        document = document_of(place, status)
        text = to_html(document) if suffix == ".html" else to_markdown(document)
    else:
        raise UsageError(f"A report ends in .html, .md or .json, not {path.suffix!r}; name it so.")
    with atomic_file(path, overwrite=overwrite) as partial:
        partial.write_text(text, encoding="utf-8")


def document_of(place: ArchivePlace, status: dict[str, Any]) -> Document:
    """The report as a document.

    Args:
        place: the index.
        status: of it, as `status_of` gives it.
    """
    totals = status["catalogue"]
    lead = (
        f"{totals['files']:,} files in {totals['folders']:,} folders: {totals['series']:,} series of "
        f"{totals['patients']:,} patients, {totals['fit']:,} of which can be upscaled to 1 mm."
    )
    parts: list[Part] = []
    if not totals["complete"]:
        parts.append(Warnings(("The last scan did not come to its end: series may be missing here.",)))
    parts.append(_catalogue(place, totals))
    if status["plan"] is not None:
        parts.append(_plan(status))
        parts.append(_outcome(status))
    return Document("Archive", lead, tuple(parts))


def estimate_lines(estimate: dict[str, Any], processes: int) -> list[tuple[str, str]]:
    """The estimate of a plan in words, for terminal and report.

    Args:
        estimate: of the plan, as JSON values.
        processes: that share the work.
    """
    rates = estimate["rates"]
    lines = [
        ("read", f"{estimate['read_mib'] / GIB_OF_MIB:,.2f} GiB"),
        ("disk", f"{estimate['disk_mib'] / GIB_OF_MIB:,.2f} GiB for the thin series"),
    ]
    if rates is None:
        return [*lines, ("time", "not known: nothing was measured yet"), ("memory", "not known")]
    source = (
        "measured now on one series"
        if rates["origin"] == "measured now"
        else f"from {rates['series']} series of an earlier run on this kind of processor"
    )
    hours = estimate["seconds"] / processes / 3600
    shown = f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:,.1f} minutes"
    memory = "not known" if estimate["memory_mib"] is None else f"{estimate['memory_mib']:,.0f} MiB for each process"
    return [*lines, ("time", f"about {shown} with {processes} process(es); rates {source}"), ("memory", memory)]


def _catalogue(place: ArchivePlace, totals: dict[str, Any]) -> Section:
    counts = [
        ("patients", f"{totals['patients']:,}"),
        ("studies", f"{totals['studies']:,}"),
        ("series", f"{totals['series']:,}"),
        ("series that can be upscaled to 1 mm", f"{totals['fit']:,}"),
        ("bytes of all series", f"{totals['bytes'] / 2**30:,.1f} GiB"),
        ("folders that cannot be read", f"{totals['closed']:,}"),
        ("files that belong to no series", f"{totals['left_out']:,}"),
    ]
    tables = [Table((), counts)]
    if totals["left_out_by_reason"]:
        lines = [(entry["reason"], f"{entry['files']:,}") for entry in totals["left_out_by_reason"]]
        tables.append(Table(("reason", "files"), lines, caption="Files that belong to no series"))
    with Catalogue(place.catalogue) as catalogue:
        for heading, value in _GROUPS.items():
            rows = catalogue.rows(
                f"SELECT {value} AS value, COUNT(*) AS series, SUM(factor IS NOT NULL AND NOT derived) AS fit "
                f"FROM series GROUP BY value ORDER BY series DESC, value LIMIT {MOST_ROWS}"
            )
            lines3 = [
                ("unknown" if row[0] in (None, "") else f"{row[0]}", f"{row[1]:,}", f"{row[2]:,}") for row in rows
            ]
            tables.append(Table((heading, "series", "can be upscaled"), lines3))
        refused = [
            (row[0], f"{row[1]:,}")
            for row in catalogue.rows(
                "SELECT reason.text, COUNT(*) AS series FROM series JOIN reason ON reason.id = series.reason "
                f"GROUP BY reason.id ORDER BY series DESC, reason.text LIMIT {MOST_ROWS}"
            )
        ]
    tables.append(Table(("reason", "series"), refused, caption="Why series cannot be upscaled"))
    return Section("Catalogue", tuple(tables))


def _plan(status: dict[str, Any]) -> Section:
    plan = status["plan"]
    chosen = [(name, f"{count:,}") for name, count in plan["chosen"].items()]
    left_out = [(reason, f"{count:,}") for reason, count in plan["left_out"].items()]
    tables = [
        Table(("rule", "series"), chosen, caption="Series that are upscaled"),
        Table(("reason", "series"), left_out, caption="Series that are left out"),
    ]
    if plan["estimate"] is not None:
        tables.append(Table((), estimate_lines(plan["estimate"], 1), caption="Estimate for one process"))
    return Section("Plan", tuple(tables))


def _outcome(status: dict[str, Any]) -> Section:
    jobs = status["jobs"]
    tables = [Table((), [(state, f"{count:,}") for state, count in jobs.items()])]
    if status["set_aside"]:
        lines = [
            (row["series_uid"], row["rule"], row["reason"] or "", str(row["exit_code"] or ""))
            for row in status["set_aside"]
        ]
        tables.append(Table(("series", "rule", "reason", "exit code"), lines, caption="Series that were set aside"))
    return Section("Work", tuple(tables))
