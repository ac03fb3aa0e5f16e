"""Export of the catalogue and of what became of each series: CSV, or Parquet by pyarrow."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thinslice.archive.catalogue import SERIES_QUERY, Catalogue, series_values
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan_file import KIND
from thinslice.errors import MissingExtraError, UsageError
from thinslice.queue import Queue
from thinslice.system.atomic import atomic_file

ROWS_AT_ONCE = 20_000
"""Rows of one row group."""

COLUMNS: dict[str, str] = {
    **dict.fromkeys(("patient", "study_uid", "series_uid", "kind"), "string"),
    "slices": "int32",
    **dict.fromkeys(("spacing_mm", "row_mm", "column_mm", "thickness_mm"), "float64"),
    **dict.fromkeys(("height", "width"), "int32"),
    "orientation": "string",
    "series_number": "int64",
    **dict.fromkeys(("description", "part", "kernel", "body_part", "station", "manufacturer", "scanner"), "string"),
    "transfer_syntax": "string",
    **dict.fromkeys(("derived", "eligible"), "bool"),
    "factor": "int32",
    "reason": "string",
    **dict.fromkeys(("bytes", "files"), "int64"),
    **dict.fromkeys(("state", "rule", "output", "job_reason"), "string"),
    **dict.fromkeys(("seconds", "consistency_rms_hu"), "float64"),
}
"""Columns and their types in Parquet."""


def rows_of(place: ArchivePlace) -> Iterator[dict[str, Any]]:
    """Every series with what became of it; no row names a patient, a folder or a file of the archive."""
    outcomes = _outcomes(place)
    with Catalogue(place.catalogue) as catalogue:
        for row in catalogue.rows(f"{SERIES_QUERY} ORDER BY study.id, collection.id"):
            outcome = outcomes.get((row["collection"], row["uid"]), {})
            yield {**series_values(row), **{name: outcome.get(name) for name in list(COLUMNS)[-6:]}}


def export(place: ArchivePlace, path: Path, *, overwrite: bool = False) -> int:
    """Write a table of all series; returns its rows.

    Args:
        place: the index.
        path: ends in .csv or .parquet.
        overwrite: replace a file that exists.

    Raises:
        UsageError: another suffix, or no index.
        MissingExtraError: Parquet without pyarrow.
        OutputError: the file cannot be written.
    """
    place.require()
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _to_csv(place, path, overwrite)
    if suffix == ".parquet":
        return _to_parquet(place, path, overwrite)
    raise UsageError(f"A table is written as CSV or Parquet; end {path.name!r} in .csv or .parquet.")


def _outcomes(place: ArchivePlace) -> dict[tuple[int, str], dict[str, Any]]:
    """What became of each series that was planned; of several jobs of one series the latest counts."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    if not place.queue.is_file():
        return found
    with Queue(place.queue) as queue:
        after = 0
        while jobs := queue.jobs(after=after, kind=KIND):
            after = jobs[-1].id
            for job in jobs:
                result = job.result or {}
                found[job.spec["collection"], job.spec["series"]] = {
                    "state": job.state.value,
                    "rule": job.spec["rule"],
                    "output": job.spec["out"] if job.result else None,
                    "job_reason": job.reason,
                    "seconds": result.get("seconds"),
                    "consistency_rms_hu": result.get("consistency_rms_hu"),
                }
    return found


def _to_csv(place: ArchivePlace, path: Path, overwrite: bool) -> int:
    count = 0
    with (
        atomic_file(path, overwrite=overwrite) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        for row in rows_of(place):
            writer.writerow({name: _plain(value) for name, value in row.items()})
            count += 1
    return count


def _plain(value: Any) -> Any:
    """A value for a spreadsheet: text that begins like a formula is quoted."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _to_parquet(place: ArchivePlace, path: Path, overwrite: bool) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError(
            'Parquet needs pyarrow: in a clone of the repository, pip install ".[archive]"; or end the name in .csv.'
        ) from None
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    count = 0
    with atomic_file(path, overwrite=overwrite) as partial, pq.ParquetWriter(partial, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows_of(place):
            batch.append(row)
            count += 1
            if len(batch) >= ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch.clear()
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema))
    return count
