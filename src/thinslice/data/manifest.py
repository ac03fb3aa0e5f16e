"""Cases of a data set, and reading of their pairs.

`open_dataset` reads these layouts and returns the same kind of object for all:

    <split>/1mm/ + <split>/5mm/     RPLHR-CT as released (`thinslice.data.rplhr`)
    HD_1mm/ + HD_5mm/               the same without splits
    manifest.csv                    a table with the columns thick, thin, split [, case, patient, label]: volumes in HU
                                    with true geometry, paired by position

A manifest.csv beside the folders of the first two layouts adds patient and label of their cases, nothing else.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from thinslice.data import rplhr
from thinslice.data.pairing import alignment, pair_by_position
from thinslice.data.wild_values import refuse_wild_values
from thinslice.errors import GeometryError, InputError, UnreadableError, UsageError
from thinslice.volume import Volume

MANIFEST = "manifest.csv"

REQUIRED_COLUMNS = ("thick", "thin", "split")

ALL = "all"
"""Name of the only split of a data set without splits."""

Layout = Literal["released", "true"]

_MARK_BYTES = 1 << 16
_SUFFIXES = (".nii.gz", ".nii")
_LONGEST_CELL = 1000


@dataclass(frozen=True)
class Case:
    """A thin volume and, where there is one, the thick one of the same scan.

    Attributes:
        case_id: name of the case, unique in its data set.
        split: name of the split, such as train, val, test.
        thin: file or DICOM folder of the thin slices; it may be missing (`read_pair` and `dataset verify` report it).
        thick: file or DICOM folder of the thick slices; None where the set has none.
        patient: pseudonym of the patient; `case_id` where the set names no patients.
        layout: "released" for unit values without geometry, paired by index; "true" for HU with geometry, paired by
            position.
        label: free text of the manifest.
        thick_thickness_mm: thickness of the thick slices by the manifest, for files that do not hold it (NIfTI); None
            where it states none.
    """

    case_id: str
    split: str
    thin: Path
    thick: Path | None
    patient: str
    layout: Layout
    label: str = ""
    thick_thickness_mm: float | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set as a list of files; no voxel has been read.

    Attributes:
        root: folder of the data set.
        name: name of the folder.
        layout: "released", "hd" or "manifest": the layout in which the cases were found.
        cases: cases in the order of splits, then of names.
    """

    root: Path
    name: str
    layout: str
    cases: tuple[Case, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: train, val, test first."""
        return tuple(dict.fromkeys(case.split for case in self.cases))

    def split(self, name: str) -> tuple[Case, ...]:
        """The cases of one split.

        Raises:
            UsageError: there is no such split; the message lists the splits.
        """
        found = tuple(case for case in self.cases if case.split == name)
        if not found:
            raise UsageError(f"The data set has no split {name!r}; it has {', '.join(self.splits)}.")
        return found

    @cached_property
    def digest(self) -> str:
        """SHA-256 over cases, splits and file contents (size, first and last bytes); results record it.

        The digest does not change when the set is moved or copied. The last bytes of a gzip file hold its checksum.
        """
        lines = sorted(
            f"{case.split}/{case.case_id}/{case.layout}:"
            f"{'' if case.thick is None else content_mark(case.thick)}:{content_mark(case.thin)}\n"
            for case in self.cases
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Pair:
    """Thick slices and the corresponding thin ones.

    Attributes:
        case_id: name of the case.
        thick: HU, D slices.
        thin: HU, (D - 1) * factor + 1 slices; thick slice k is centred on thin slice factor * k.
        factor: thin slices per thick interval.
    """

    case_id: str
    thick: Volume
    thin: Volume
    factor: int


def open_dataset(root: str | Path) -> Dataset:
    """Find the cases of a data set.

    Args:
        root: folder of the data set, or its manifest.

    Raises:
        UnreadableError: the path does not exist, or the manifest cannot be read; check the path.
        InputError: an unknown layout, a table without the required columns, or two cases of one name.
    """
    root = Path(root)
    if root.is_file():
        cases, layout = _from_manifest(root), "manifest"
        root = root.parent
    elif root.is_dir():
        cases, layout = _from_folder(root)
    else:
        raise UnreadableError(f"There is no data set at {str(root)!r}; check the path.")
    seen: dict[str, str] = {}
    for case in cases:
        if case.case_id in seen:
            where = " and ".join(dict.fromkeys((seen[case.case_id], case.split)))
            raise InputError(f"Two cases are named {case.case_id} (in {where}); give every case a name of its own.")
        seen[case.case_id] = case.split
    order = {name: number for number, name in enumerate(rplhr.SPLITS)}
    cases.sort(key=lambda case: (order.get(case.split, len(order)), case.split, case.case_id))
    return Dataset(root=root, name=root.resolve().name, layout=layout, cases=tuple(cases))


def read_pair(case: Case) -> Pair:
    """Read a case as an aligned pair of thick and thin HU.

    Released files are paired by index, others by position. The voxels must agree too
    (`thinslice.data.pairing.alignment`), so a shifted or exchanged volume is refused even if its header is right.

    Returns:
        The pair; in-plane spacing is None for released files, which lack it.

    Raises:
        UnreadableError: a file is missing or damaged.
        GeometryError: the volumes are no pair by shape, position or content.
        InputError: the case has no thick volume, or its values are out of range.
        ResourceError: the volumes do not fit in memory.

    All messages except the last name the case.
    """
    with naming(case.case_id):
        if case.thick is None:
            raise InputError("There are no thick slices; simulate them from the thin ones.")
        if case.layout == "released":
            thick, thin = rplhr.read_released(case.thick, case.thin)
            factor = rplhr.FACTOR
        else:
            thick, thin, factor = pair_by_position(_read_hu(case.thick), _read_hu(case.thin))
            if thick.geometry.thickness_mm is None and case.thick_thickness_mm is not None:
                grid = replace(thick.geometry, thickness_mm=case.thick_thickness_mm)
                thick = Volume(thick.hu, grid, thick.provenance)
        _refuse_blank(thick, thin)
        found = alignment(thick.hu, thin.hu, factor)
        if found is not None and found.fault is not None:
            raise GeometryError(f"The pair is misaligned: {found.fault}; {found.remedy}.")
    return Pair(case.case_id, thick, thin, factor)


def _refuse_blank(thick: Volume, thin: Volume) -> None:
    """Refuse a constant volume beside one that is not constant; `alignment` cannot compare it."""
    blank = {name: bool(v.hu.min() == v.hu.max()) for name, v in (("thick", thick), ("thin", thin))}
    if blank["thick"] != blank["thin"]:
        name = "thick" if blank["thick"] else "thin"
        raise InputError(
            f"The {name} volume holds one value everywhere and the other does not; fetch or make it again."
        )


def read_thin(case: Case) -> Volume:
    """Read all thin slices of a case as HU, without the thick ones; thick slices can be simulated from them.

    Raises:
        UnreadableError, GeometryError, InputError, ResourceError: as `read_pair`.
    """
    with naming(case.case_id):
        return rplhr.read_released_thin(case.thin, case.thick) if case.layout == "released" else _read_hu(case.thin)


@contextmanager
def naming(case_id: str) -> Iterator[None]:
    """Put the name of the case in front of the message of every `InputError`."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"Case {case_id}: {error}") from error


def content_mark(path: Path) -> str:
    """A digest of the content of a file or DICOM folder: size, first and last bytes of each file.

    Returns:
        16 hexadecimal digits; those of no content where the file is missing.
    """
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        try:
            size = file.stat().st_size
            with file.open("rb") as opened:
                head = opened.read(_MARK_BYTES)
                opened.seek(max(0, size - _MARK_BYTES))
                tail = opened.read(_MARK_BYTES)
        except OSError:
            continue
        digest.update(f"{size}:".encode() + head + tail)
    return digest.hexdigest()[:16]


def _read_hu(path: Path) -> Volume:
    from thinslice.io.files import read

    volume = read(path)
    refuse_wild_values(volume, "The volume")
    if volume.provenance.details.get("unit_range"):
        raise InputError("All values lie between 0 and 1, where HU are expected; convert them with HU = 3072 v - 1024.")
    return volume


def _from_folder(root: Path) -> tuple[list[Case], str]:
    plain = (rplhr.THICK_FOLDER, rplhr.THIN_FOLDER)
    hd = (rplhr.HD_PREFIX + rplhr.THICK_FOLDER, rplhr.HD_PREFIX + rplhr.THIN_FOLDER)
    folders = sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    for layout, (thick, thin) in (("released", plain), ("hd", hd)):
        splits = {folder.name: folder for folder in folders if (folder / thin).is_dir() or (folder / thick).is_dir()}
        if not splits and ((root / thin).is_dir() or (root / thick).is_dir()):
            # The folder is a single split.
            splits = {root.resolve().name if root.resolve().name in rplhr.SPLITS else ALL: root}
        if splits:
            # Rows of a manifest beside the folders add patient and label.
            listed = (
                {(row["split"], row.get("case") or _stem(row["thin"])): row for row in _rows(root / MANIFEST)}
                if (root / MANIFEST).is_file()
                else {}
            )
            cases = [
                case
                for name, folder in splits.items()
                for case in _of_split(name, folder / thick, folder / thin, listed)
            ]
            if not cases:
                raise InputError("The data set's folders hold no .nii.gz or .nii files; check the download.")
            return cases, layout
    if (root / MANIFEST).is_file():
        return _from_manifest(root / MANIFEST), "manifest"
    raise InputError(
        f"{root.name!r} is no data set: it needs train/1mm and train/5mm (val, test likewise), HD_1mm and HD_5mm, or a "
        "manifest.csv with the columns thick, thin, split."
    )


def _of_split(
    split: str, thick_folder: Path, thin_folder: Path, listed: Mapping[tuple[str, str], Mapping[str, str]]
) -> Iterator[Case]:
    thick, thin = _volumes(thick_folder), _volumes(thin_folder)
    own = {case for where, case in listed if where == split}
    layout = _layout_of(thick, thin)
    for name in sorted({*thick, *thin, *own}):
        row = listed.get((split, name), {})
        yield Case(
            case_id=name,
            split=split,
            # A missing file keeps its path, so that errors can name it; a set without thick slices has None.
            thin=thin.get(name, thin_folder / f"{name}{rplhr.SUFFIX}"),
            thick=thick.get(name, thick_folder / f"{name}{rplhr.SUFFIX}") if thick_folder.is_dir() else None,
            patient=row.get("patient") or name,
            layout=layout,
            label=row.get("label", ""),
        )


def _layout_of(thick: Mapping[str, Path], thin: Mapping[str, Path]) -> Layout:
    """The layout by the headers of the first pair: "true" where the thick slices lie further apart, else "released"."""
    from thinslice.io.nifti import scan_nifti

    for name in sorted(set(thick) & set(thin)):
        try:
            steps = [scan_nifti(files[name])[0].spacing_mm[0] for files in (thick, thin)]
        except InputError:
            continue
        return "true" if steps[0] > steps[1] else "released"
    return "released"


def _volumes(folder: Path) -> dict[str, Path]:
    """NIfTI files by the name of their case, without hidden files."""
    found: dict[str, Path] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            suffix = next((s for s in _SUFFIXES if path.name.endswith(s)), None)
            if suffix is not None and not path.name.startswith("."):
                found.setdefault(path.name.removesuffix(suffix), path)
    return found


def _stem(path: str) -> str:
    name = Path(path).name
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a manifest, with lower-case column names and without empty lines."""
    try:
        # utf-8-sig: spreadsheets begin a file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path.name!r} cannot be read as UTF-8 text; save it as CSV in UTF-8.") from error
    head = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=";" if ";" in head and "," not in head else ",")
    try:
        lines = [[cell.strip() for cell in line] for line in reader]
    except csv.Error as error:
        raise UnreadableError(f"{path.name!r} is no CSV table; save it as CSV in UTF-8.") from error
    columns = [name.lower() for name in lines[0]] if lines else []
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        raise InputError(
            f"{path.name!r} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"it needs {', '.join(REQUIRED_COLUMNS)}, and may have case, patient, label, thick_thickness_mm."
        )
    rows = [dict(zip(columns, line, strict=False)) for line in lines[1:] if any(line)]
    for number, row in enumerate(rows, start=1):
        for column in ("thin", "split"):
            if not row.get(column):
                raise InputError(f"Row {number} of {path.name!r} has no {column}; fill it in or remove the row.")
        for column, value in row.items():
            # Names of cases are printed, and stand in tables and reports.
            if not value.isprintable() or len(value) > _LONGEST_CELL:
                raise InputError(
                    f"Row {number} of {path.name!r} has {column[:40]!r} with characters that cannot be printed, or "
                    f"more than {_LONGEST_CELL}; shorten or correct it."
                )
    if not rows:
        raise InputError(f"{path.name!r} lists no case.")
    return rows


def _from_manifest(path: Path) -> list[Case]:
    cases = []
    for row in _rows(path):
        case_id = row.get("case") or _stem(row["thin"])
        cases.append(
            Case(
                case_id=case_id,
                split=row["split"],
                thin=path.parent / row["thin"],
                thick=path.parent / row["thick"] if row.get("thick") else None,
                patient=row.get("patient") or case_id,
                layout="true",
                label=row.get("label", ""),
                thick_thickness_mm=_thickness_mm(row.get("thick_thickness_mm", ""), path.name, case_id),
            )
        )
    return cases


def _thickness_mm(cell: str, name: str, case_id: str) -> float | None:
    if not cell:
        return None
    try:
        thickness = float(cell)
    except ValueError:
        thickness = 0.0
    if not 0 < thickness <= 1000:
        raise InputError(f"{name!r} gives case {case_id} a thick_thickness_mm that is no thickness in mm; correct it.")
    return thickness
