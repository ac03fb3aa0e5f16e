"""What a build of a data set has done so far, so that one that was killed goes on, and its tables."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thinslice.data.hospital.deidentify import Pseudonyms, new_key
from thinslice.data.manifest import MANIFEST
from thinslice.errors import OutputError, OutputExistsError, UsageError
from thinslice.system.atomic import atomic_file, output_errors
from thinslice.system.files import sha256_of

REJECTED = "rejected.csv"
STATE_FOLDER = ".build"
"""Holds the secret key and one file a study while a build is unfinished; removed at its end."""

COLUMNS = (
    "case",
    "thick",
    "thin",
    "split",
    "patient",
    "label",
    "factor",
    "thick_spacing_mm",
    "thin_spacing_mm",
    "height_spacing_mm",
    "width_spacing_mm",
    "thick_thickness_mm",
    "thin_thickness_mm",
    "thick_slices",
    "thin_slices",
    "kernel",
    "manufacturer",
    "correlation",
    "thick_sha256",
    "thin_sha256",
)
"""Of the manifest."""

LINK_COLUMNS = ("study", "case", "patient", "study_uid", "thick_series_uid", "thin_series_uid")
"""Of the hospital's own table that leads from made-up names back to UIDs."""

Row = dict[str, str]

_VOLUME = re.compile(r"(\.[0-9a-f]{12}\.partial\.)?p[0-9a-f]{12}-s[0-9a-f]{12}\.nii\.gz")


@dataclass(frozen=True)
class Rejection:
    """Something that did not come into the data set.

    Attributes:
        study: made-up name of the study.
        patient: made-up name of the patient; "" where unknown.
        series: the series, or the thicker one of two; "" for the whole study.
        with_series: the other one; "" where it is not about two.
        reason: a sentence.
    """

    study: str
    patient: str
    series: str
    with_series: str
    reason: str


@dataclass(frozen=True)
class StudyRecord:
    """What became of one study.

    Attributes:
        study: its made-up name.
        files: how many it had; a study that has more by now is done again.
        rows: of the manifest, without a split.
        rejections: what was not taken.
        failed: whether it could not be dealt with, so that it is tried again.
        links: rows of the hospital's own table; never written into the data set.
    """

    study: str
    files: int
    rows: tuple[Row, ...]
    rejections: tuple[Rejection, ...]
    failed: bool = False
    links: tuple[Row, ...] = ()


class BuildState:
    """The unfinished, finished or growing data set in a folder.

    Args:
        out: the folder; made where needed.
        options: what decides about pairs; a build that was begun with others is not continued.
        key_file: the secret key, kept by the hospital; None for one that is dropped at the end.

    Raises:
        OutputExistsError: there is a finished data set and no key to add to it, or a folder of something else.
        UsageError: the unfinished build was begun with other options.
    """

    def __init__(self, out: Path, options: Mapping[str, Any], key_file: Path | None) -> None:
        self.out = out
        self.folder = out / STATE_FOLDER
        unfinished = (self.folder / "options.json").is_file()
        finished = (out / MANIFEST).is_file()
        if finished and not unfinished and (key_file is None or not key_file.is_file()):
            raise OutputExistsError(
                f"{out.name!r} holds a finished data set; choose another output, or add to it with the --salt file it "
                "was made with."
            )
        if not finished and not unfinished and _foreign(out):
            raise OutputExistsError(f"{out.name!r} is not empty and holds no data set of ours; choose another output.")
        told = json.dumps({**options, "key_file": key_file is not None}, sort_keys=True)
        with output_errors(out):
            (self.folder / "studies").mkdir(parents=True, exist_ok=True)
            for name in ("thick", "thin"):
                (out / name).mkdir(exist_ok=True)
        if unfinished and (self.folder / "options.json").read_text() != told:
            raise UsageError(
                f"The unfinished data set in {out.name!r} was begun with other options; give the same ones, or choose "
                "another output."
            )
        self.names = Pseudonyms(new_key(self.folder / "key" if key_file is None else key_file))
        with output_errors(out):
            (self.folder / "options.json").write_text(told)
        self.before = {row["case"]: row for row in read_table(out / MANIFEST)}

    def done(self, study: str, files: int) -> StudyRecord | None:
        """The record of a study that was dealt with, when its files are still as they were written."""
        try:
            told: Any = json.loads((self.folder / "studies" / f"{study}.json").read_bytes())
            record = StudyRecord(
                study=told["study"],
                files=told["files"],
                rows=tuple({str(k): str(v) for k, v in row.items()} for row in told["rows"]),
                rejections=tuple(Rejection(**rejection) for rejection in told["rejections"]),
                failed=told["failed"],
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            # A set that grows has its cases in the manifest alone.
            rows = tuple(row for row in self.before.values() if row["case"].endswith(f"-{study}"))
            record = StudyRecord(study, files, rows, (), failed=not rows)
        if record.failed or record.files != files or not all(self._intact(row) for row in record.rows):
            return None
        return record

    def keep(self, record: StudyRecord) -> None:
        """Write down what became of a study."""
        told = asdict(record)
        del told["links"]
        with atomic_file(self.folder / "studies" / f"{record.study}.json", overwrite=True) as unfinished:
            unfinished.write_text(json.dumps(told))

    def finish(self, records: Sequence[StudyRecord], splits: Mapping[str, str]) -> list[Row]:
        """Write the tables; the state goes with them unless a study failed.

        Args:
            records: of every study.
            splits: by patient.

        Returns:
            The manifest's rows.
        """
        rows = [{**row, "split": splits[row["patient"]]} for record in records for row in record.rows]
        rows.sort(key=lambda row: row["case"])
        listed = [asdict(rejection) for record in records for rejection in record.rejections]
        write_table(self.out / REJECTED, tuple(Rejection.__dataclass_fields__), listed)
        if rows:
            write_table(self.out / MANIFEST, COLUMNS, rows)
        self._remove_orphans({row[side] for row in rows for side in ("thick", "thin")})
        if not any(record.failed for record in records):
            with output_errors(self.out):
                shutil.rmtree(self.folder)
        return rows

    def _remove_orphans(self, listed: set[str]) -> None:
        """Remove volumes of ours that no case names: a killed run's, or of a study that is no pair any more."""
        with output_errors(self.out):
            for side in ("thick", "thin"):
                for path in (self.out / side).iterdir():
                    if _VOLUME.fullmatch(path.name) and f"{side}/{path.name}" not in listed:
                        path.unlink()
                if not listed:
                    (self.out / side).rmdir()

    def _intact(self, row: Row) -> bool:
        try:
            return all(sha256_of(self.out / row[side]) == row[f"{side}_sha256"] for side in ("thick", "thin"))
        except (OSError, KeyError):
            return False


def _foreign(out: Path) -> bool:
    """Whether a folder holds what no run of ours, however short, has put there."""
    ours = {STATE_FOLDER, f"{STATE_FOLDER}.lock", REJECTED}
    return any(
        entry.name not in ours and not (entry.name in ("thick", "thin") and not any(entry.iterdir()))
        for entry in out.iterdir()
    )


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV table as a whole, in UTF-8."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: row.get(column, "") for column in columns} for row in rows)
    with atomic_file(path, overwrite=True) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8")


def read_table(path: Path) -> list[Row]:
    """The rows of a table that `write_table` wrote; none where there is no file.

    Raises:
        OutputError: it is not such a table; move it away.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{str(k): str(v or "") for k, v in row.items()} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OutputError(f"{path.name!r} is there, but is no table of ours; move it away.") from error
    if rows and ("case" not in rows[0] or "patient" not in rows[0]):
        raise OutputError(f"{path.name!r} is there, but is no table of ours; move it away.")
    return rows


class LinkTable:
    """The hospital's own table from made-up names to UIDs, outside the data set; readable by its owner alone.

    Args:
        path: where; None for no table.
        out: the data set.

    Raises:
        UsageError: it would lie in the data set.
    """

    def __init__(self, path: Path | None, out: Path) -> None:
        self._path = path
        if path is not None and out.resolve() in path.resolve().parents:
            raise UsageError(f"{path.name!r} tells who is who; keep it outside the data set.")
        self._rows = {row["study"]: row for row in read_table(path)} if path is not None else {}

    def add(self, rows: Iterable[Row]) -> None:
        """Add or replace rows, by study, and write the table."""
        if self._path is None:
            return
        self._rows.update((row["study"], row) for row in rows)
        with output_errors(self._path):
            self._path.touch(mode=0o600)
        write_table(self._path, LINK_COLUMNS, self._rows.values())
        self._path.chmod(0o600)
