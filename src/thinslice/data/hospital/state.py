"""The resumable state of a build, and its tables."""

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
from thinslice.options import option
from thinslice.system.atomic import atomic_file, output_errors
from thinslice.system.files import sha256_of

REJECTED = "rejected.csv"
STATE_FOLDER = ".build"
"""Folder of an unfinished build: secret key and one file for each study; removed at the end."""

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
"""Columns of the manifest."""

LINK_COLUMNS = ("study", "case", "patient", "study_uid", "thick_series_uid", "thin_series_uid")
"""Columns of the hospital's own table from pseudonyms to UIDs."""

Row = dict[str, str]

_VOLUME = re.compile(r"(\.[0-9a-f]{12}\.partial\.)?p[0-9a-f]{12}-s[0-9a-f]{12}\.nii\.gz")


@dataclass(frozen=True)
class Rejection:
    """A rejected study, series or pair of series.

    Attributes:
        study: pseudonym of the study.
        patient: pseudonym of the patient; "" where unknown.
        series: series, or the thicker one of two; "" for the whole study.
        with_series: thinner series of two; "" otherwise.
        reason: reason, as a sentence.
    """

    study: str
    patient: str
    series: str
    with_series: str
    reason: str


@dataclass(frozen=True)
class StudyRecord:
    """Result for one study.

    Attributes:
        study: pseudonym of the study.
        files: number of its files; a study with another number is processed again.
        rows: rows of the manifest, without a split.
        rejections: rejected series.
        failed: whether the study failed, so that it is tried again.
        links: rows of the hospital's own table; they are not written into the data set.
    """

    study: str
    files: int
    rows: tuple[Row, ...]
    rejections: tuple[Rejection, ...]
    failed: bool = False
    links: tuple[Row, ...] = ()


class BuildState:
    """The state of an unfinished, finished or growing data set in a folder.

    Args:
        out: folder of the data set, created when missing.
        options: options of the selection of pairs; a build with other options is not continued.
        key_file: secret key that the hospital keeps; None for a key that is deleted at the end.

    Raises:
        OutputExistsError: the folder holds a finished data set without its key, or other files; choose another.
        UsageError: the unfinished build was started with other options; use the same ones.
    """

    def __init__(self, out: Path, options: Mapping[str, Any], key_file: Path | None) -> None:
        self.out = out
        self.folder = out / STATE_FOLDER
        unfinished = (self.folder / "options.json").is_file()
        finished = (out / MANIFEST).is_file()
        if finished and not unfinished and (key_file is None or not key_file.is_file()):
            raise OutputExistsError(
                f"{out.name!r} holds a finished data set; choose another output, or add to it with the "
                f"{option('salt')} file it was made with."
            )
        if not finished and not unfinished and _foreign(out):
            raise OutputExistsError(
                f"{out.name!r} is not empty and holds no data set of this command; choose another output."
            )
        text = json.dumps({**options, "key_file": key_file is not None}, sort_keys=True)
        with output_errors(out):
            (self.folder / "studies").mkdir(parents=True, exist_ok=True)
            for name in ("thick", "thin"):
                (out / name).mkdir(exist_ok=True)
        if unfinished and (self.folder / "options.json").read_text() != text:
            raise UsageError(
                f"The unfinished data set in {out.name!r} was started with other options; use the same ones, or choose "
                "another output."
            )
        self.names = Pseudonyms(new_key(self.folder / "key" if key_file is None else key_file))
        with output_errors(out):
            (self.folder / "options.json").write_text(text)
        self.before = {row["case"]: row for row in read_table(out / MANIFEST)}

    def done(self, study: str, files: int) -> StudyRecord | None:
        """The record of a study from an earlier run, if its files are unchanged; None otherwise."""
        try:
            values: Any = json.loads((self.folder / "studies" / f"{study}.json").read_bytes())
            record = StudyRecord(
                study=values["study"],
                files=values["files"],
                rows=tuple({str(k): str(v) for k, v in row.items()} for row in values["rows"]),
                rejections=tuple(Rejection(**rejection) for rejection in values["rejections"]),
                failed=values["failed"],
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            # A growing set has earlier cases only in the manifest.
            rows = tuple(row for row in self.before.values() if row["case"].endswith(f"-{study}"))
            record = StudyRecord(study, files, rows, (), failed=not rows)
        if record.failed or record.files != files or not all(self._intact(row) for row in record.rows):
            return None
        return record

    def keep(self, record: StudyRecord) -> None:
        """Write the record of a study."""
        values = asdict(record)
        del values["links"]
        with atomic_file(self.folder / "studies" / f"{record.study}.json", overwrite=True) as unfinished:
            unfinished.write_text(json.dumps(values))

    def finish(self, records: Sequence[StudyRecord], splits: Mapping[str, str]) -> list[Row]:
        """Write the tables; the state is removed unless a study failed.

        Args:
            records: records of all studies.
            splits: split of each patient.

        Returns:
            The rows of the manifest.
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
        """Remove volumes of this command without a case: of a killed run, or of a study that is no pair any more."""
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
    """Whether a folder holds files that no run of this command has written."""
    known = {STATE_FOLDER, f"{STATE_FOLDER}.lock", REJECTED}
    return any(
        entry.name not in known and not (entry.name in ("thick", "thin") and not any(entry.iterdir()))
        for entry in out.iterdir()
    )


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV table in UTF-8, replaced atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: row.get(column, "") for column in columns} for row in rows)
    with atomic_file(path, overwrite=True) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8")


def read_table(path: Path) -> list[Row]:
    """The rows of a table from `write_table`; none where the file is missing.

    Raises:
        OutputError: the file is not such a table; move it away.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{str(k): str(v or "") for k, v in row.items()} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OutputError(f"{path.name!r} exists, but is no table of this command; move it away.") from error
    if rows and ("case" not in rows[0] or "patient" not in rows[0]):
        raise OutputError(f"{path.name!r} exists, but is no table of this command; move it away.")
    return rows


class LinkTable:
    """The hospital's own table from pseudonyms to UIDs, outside the data set; only its owner can read it.

    Args:
        path: path of the table; None for no table.
        out: folder of the data set.

    Raises:
        UsageError: the table would lie in the data set; choose another path.
    """

    def __init__(self, path: Path | None, out: Path) -> None:
        self._path = path
        if path is not None and out.resolve() in path.resolve().parents:
            raise UsageError(f"{path.name!r} identifies patients; keep it outside the data set.")
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
