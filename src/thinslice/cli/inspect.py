"""Command `inspect`: the series of a folder, and which of them can be upscaled. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinslice.cli.console import Console, hush_libraries

if TYPE_CHECKING:
    from thinslice.commands.inspect import SurveyedSeries

COLUMNS = (
    "no.",
    "series",
    "description",
    "kind",
    "slices",
    "matrix",
    "plane",
    "mm",
    "thick",
    "kernel",
    "verdict",
    "path",
)
"""Headings of the table."""

RIGHT = frozenset({"no.", "series", "slices", "thick"})
"""Columns of numbers."""


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", show_default=False, help="Folder, file or archive: DICOM, NIfTI, NRRD, MetaImage."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """List all series with their numbers, and which of them can be upscaled.

    Headers and a few slices are read; values that are certainly no HU are not eligible. Nothing that identifies a
    patient is printed: descriptions lose names, identifiers and dates. 'thinslice upscale --series N' takes the number
    of a DICOM series in this list.

    \b
    thinslice inspect disk/
    thinslice inspect chest.nii.gz --json

    JSON: a list of series, each with number, series_uid, series_number, description, part (of a series that is several
    scans), kernel, matrix (height, width), orientation, kind, slices, spacing_mm (depth, height, width), thickness_mm,
    eligible, reasons (why not), factor (to reach 1 mm), warnings, skipped (files left out), file (the name of one that
    is not DICOM), path (from PATH), source (that path as the summary of upscale --all has it) and derived (made by
    thinslice).
    """
    import json

    from thinslice.commands.inspect import survey

    hush_libraries()
    found = survey(path)
    if as_json:
        print(json.dumps([series.to_json() for series in found], indent=2))
        return
    _print_table([_cells(series) for series in found])
    print()
    for series in found:
        stand_in = "" if series.source in (None, series.path) else f" ({series.source} in the summary of --all)"
        print(f"{series.number}  {series.series_uid or series.path}{stand_in}: {_verdict(series)}")
    console = Console()
    for series in found:
        for sentence in series.warnings:
            console.warn(f"{series.number}: {sentence}")
    for name in dict.fromkeys(name for series in found for name in series.skipped):
        console.warn(f"left out: {name}")


def _cells(series: SurveyedSeries) -> tuple[str, ...]:
    spacing = series.spacing_mm
    description = " ".join(text for text in (series.description, f"({series.part})" if series.part else "") if text)
    return (
        str(series.number),
        "" if series.series_number is None else str(series.series_number),
        description,
        f"{series.kind}, derived" if series.derived else series.kind,
        str(series.slices),
        "" if series.matrix is None else " x ".join(map(str, series.matrix)),
        series.orientation or "",
        "" if spacing is None else " x ".join("?" if mm is None else f"{mm:.4g}" for mm in spacing),
        "" if series.thickness_mm is None else f"{series.thickness_mm:.4g}",
        series.kernel,
        f"x {series.factor}" if series.eligible else "no",
        series.path or "",
    )


def _verdict(series: SurveyedSeries) -> str:
    if not series.eligible or series.spacing_mm is None or series.spacing_mm[0] is None or series.factor is None:
        return "not eligible: " + " ".join(series.reasons)
    made = "; made by thinslice, so taken only when it is named" if series.derived else ""
    reached_mm = series.spacing_mm[0] / series.factor
    return f"{series.slices} slices, eligible, factor {series.factor} reaches {reached_mm:.4g} mm{made}"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """A table on a terminal; elsewhere aligned lines without drawing, for grep and cut. Empty columns are left out."""
    shown = [k for k in range(len(COLUMNS)) if any(row[k] for row in rows)]
    if sys.stdout.isatty():
        from rich.console import Console as RichConsole
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for k in shown:
            table.add_column(COLUMNS[k], justify="right" if COLUMNS[k] in RIGHT else "left", overflow="fold")
        for row in rows:
            table.add_row(*(row[k].replace("[", "\\[") for k in shown))
        RichConsole().print(table)
        return
    widths = {k: max(len(COLUMNS[k]), *(len(row[k]) for row in rows)) for k in shown}
    for row in (COLUMNS, *rows):
        cells = [row[k].rjust(widths[k]) if COLUMNS[k] in RIGHT else row[k].ljust(widths[k]) for k in shown]
        print("  ".join(cells).rstrip())
