"""Cases for a blinded reading: volumes of several methods side by side, without names and in random order.

OUT/README.txt             what the reader does
OUT/form.csv               a line for each case, to fill in
OUT/case-001/A.nii.gz      the volumes of a case
OUT/case-001/A-B.png       the same in three planes
KEY.json                   which panel is of which method, and where each case comes from: not for the reader

All volumes of a case lie on the grid of the thinnest, cropped to what all of them cover, with whole HU and no headers,
so that neither size nor type shows the method. What the voxels show, such as repeated thick slices, remains.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.about import NOTICE, __version__
from thinslice.errors import GeometryError, InputError, UsageError
from thinslice.experiments.clinical_check.cases import digest_of
from thinslice.geometry import REGISTRATION_TOLERANCE_MM, Geometry
from thinslice.io.files import OUTPUT_SUFFIXES, read, write
from thinslice.pictures.drawing import save_png
from thinslice.pictures.figures import comparison
from thinslice.system.atomic import atomic_directory, atomic_file, require_place
from thinslice.typing import Progress
from thinslice.volume import Volume, reorient

SCHEMA = "thinslice-reader-study/1"
"""Value of `schema` in the key."""

MAX_ARMS = 8
"""Methods that are shown side by side; more do not fit a picture."""

ROWS = (
    ("axial", "lung"),
    ("axial", "soft tissue"),
    ("coronal", "lung"),
    ("coronal", "soft tissue"),
    ("sagittal", "bone"),
)
"""Rows of the pictures: plane and window."""


@dataclass(frozen=True)
class StudyCase:
    """A case of a study.

    Attributes:
        name: "case-001" and so on, which the reader sees.
        source: name of the case in the folders of the methods.
        panels: letter -> method.
    """

    name: str
    source: str
    panels: Mapping[str, str]


def find_cases(arms: Mapping[str, Path]) -> tuple[dict[str, dict[str, Path]], tuple[str, ...]]:
    """Cases that every method has.

    Args:
        arms: method -> folder that holds a volume for each case, a file or a folder of DICOM of the case's name.

    Returns:
        Case -> method -> path, sorted by case; and a sentence on what is left out, if anything is.

    Raises:
        UsageError: fewer than two methods, or more than `MAX_ARMS`.
        InputError: a folder that does not exist, or no case that all have.
    """
    if not 2 <= len(arms) <= MAX_ARMS:
        raise UsageError(f"A reading compares 2 to {MAX_ARMS} methods; {len(arms)} were given.")
    found = {label: _cases_in(folder) for label, folder in arms.items()}
    common = sorted(set.intersection(*(set(cases) for cases in found.values())))
    if not common:
        counts = ", ".join(f"{label} {len(cases)}" for label, cases in found.items())
        raise InputError(
            f"No case is in the folders of all methods ({counts}); give the volumes of one case the same name in each."
        )
    left_out = len(set.union(*(set(cases) for cases in found.values()))) - len(common)
    notes = (f"{left_out} cases are left out, because not every method has them.",) if left_out else ()
    return {case: {label: found[label][case] for label in arms} for case in common}, notes


def assign(cases: Sequence[str], arms: Sequence[str], seed: int) -> tuple[StudyCase, ...]:
    """Random order of the cases, and random places of the methods; each is in each place equally often, as far as the
    number of cases allows.

    Args:
        cases: names in the folders.
        arms: methods.
        seed: the same seed gives the same study.

    >>> study = assign(["p1", "p2"], ["cubic", "ours"], seed=1)
    >>> sorted(case.source for case in study), [sorted(case.panels.values()) for case in study]
    (['p1', 'p2'], [['cubic', 'ours'], ['cubic', 'ours']])
    >>> study[0].panels["A"] != study[1].panels["A"]
    True
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(cases))
    letters = string.ascii_uppercase[: len(arms)]
    turns: list[list[int]] = []
    while len(turns) < len(cases):
        # A block of as many cases as methods: each method is in each place once.
        first = generator.permutation(len(arms)).tolist()
        block = [first[shift:] + first[:shift] for shift in range(len(arms))]
        turns += [block[place] for place in generator.permutation(len(arms))]
    return tuple(
        StudyCase(
            f"case-{number + 1:03d}",
            cases[at],
            {letter: arms[place] for letter, place in zip(letters, turns[number], strict=True)},
        )
        for number, at in enumerate(order)
    )


def on_one_grid(volumes: Mapping[str, Volume]) -> dict[str, Volume]:
    """Volumes of one scan on the grid of the one with the thinnest slices, cropped to what all cover.

    Each voxel is the nearest one of its volume: nothing is interpolated. Values are whole HU; position and headers are
    left out.

    Raises:
        GeometryError: axes not parallel, other pixels, or no overlap.
    """
    grid = min((volume.geometry for volume in volumes.values()), key=lambda geometry: geometry.spacing_mm[0])
    nearest = {label: _nearest(reorient(volume, grid), grid) for label, volume in volumes.items()}
    starts = [max(indices[axis][0] for _, indices in nearest.values()) for axis in range(3)]
    stops = [min(indices[axis][0] + len(indices[axis][1]) for _, indices in nearest.values()) for axis in range(3)]
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
        raise GeometryError("The volumes of a case do not overlap in space; check that they are of one scan.")
    shape = (stops[0] - starts[0], stops[1] - starts[1], stops[2] - starts[2])
    plain = Geometry(shape, grid.spacing_mm, direction=grid.direction)
    laid = {}
    for label, (hu, indices) in nearest.items():
        here = [taken[start - first : stop - first]
                for (first, taken), start, stop in zip(indices, starts, stops, strict=True)]  # fmt: skip
        limits = np.iinfo(np.int16)
        laid[label] = Volume(np.clip(np.rint(hu[np.ix_(*here)]), limits.min, limits.max).astype(np.int16), plain)
    return laid


def export_study(
    arms: Mapping[str, Path], out: Path, key: Path, *, seed: int | None = None, overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[tuple[StudyCase, ...], tuple[str, ...]]:  # fmt: skip
    """Write the cases for the reader, and the key.

    Args:
        arms: method -> folder with a volume for each case.
        out: folder for the reader.
        key: JSON file; it must not lie in `out`.
        seed: of the order; None draws one, which the key holds.
        overwrite: replace what exists.
        progress: called after each case with the number done and the number of all.

    Returns:
        The cases, and sentences on what is left out.

    Raises:
        UsageError: too few methods, or a key inside `out`.
        InputError: no common case, or volumes of a case that do not fit.
        OutputError, ResourceError: it cannot be written.
    """
    if out.resolve() in (key.resolve(), *key.resolve().parents):
        raise UsageError("The key lies in the folder for the reader; choose another place for it.")
    require_place(out, overwrite=overwrite, folder=True)
    require_place(key, overwrite=overwrite)
    paths, notes = find_cases(arms)
    chosen = secrets.randbelow(2**32) if seed is None else seed
    study = assign(list(paths), list(arms), chosen)
    records: list[dict[str, Any]] = []
    with atomic_directory(out, overwrite=overwrite) as folder:
        for number, case in enumerate(study):
            volumes = {label: read(path) for label, path in paths[case.source].items()}
            try:
                laid = on_one_grid(volumes)
            except GeometryError as error:
                raise GeometryError(f"Case {number + 1} of {len(study)}: {error}") from error
            shown = {letter: laid[label] for letter, label in case.panels.items()}
            _write_case(folder / case.name, shown)
            digests = {letter: digest_of(volume) for letter, volume in shown.items()}
            records.append({
                "case": case.name, "source": case.source, "panels": dict(case.panels), "voxels_sha256": digests,
            })  # fmt: skip
            if progress is not None:
                progress(number + 1, len(study))
        (folder / "form.csv").write_text(_form(study, len(arms)), encoding="utf-8")
        (folder / "README.txt").write_text(_instructions(len(study), len(arms)), encoding="utf-8")
        text = {"schema": SCHEMA, "seed": chosen, "methods": list(arms), "cases": records,
                "notice": NOTICE, "thinslice_version": __version__}  # fmt: skip
        with atomic_file(key, overwrite=overwrite) as partial:
            partial.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return study, notes


def _cases_in(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder; each method has one, with a volume for each case.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((end for end in sorted(OUTPUT_SUFFIXES, key=len, reverse=True) if path.name.endswith(end)), "")
        if path.name.startswith(".") or not (suffix or path.is_dir()):
            continue
        name = path.name.removesuffix(suffix)
        if name in found:
            raise InputError(f"Two volumes in {str(folder)!r} are of one case; leave one of each case.")
        found[name] = path
    return found


Indices = list[tuple[int, npt.NDArray[np.int_]]]


def _nearest(volume: Volume, grid: Geometry) -> tuple[npt.NDArray[Any], Indices]:
    """Voxels of a volume, and for each axis the first index of `grid` that it covers and its own index from there on.

    Raises:
        GeometryError: rows and columns do not coincide with those of `grid`.
    """
    own, found = volume.geometry, []
    for axis, name in enumerate(("depth", "height", "width")):
        one = (float(axis == 0), float(axis == 1), float(axis == 2))
        at0 = own.index_at(grid.position_mm((0.0, 0.0, 0.0)))[axis]
        step = own.index_at(grid.position_mm(one))[axis] - at0
        if axis > 0:
            pixel_mm = own.spacing_mm[axis] or 1.0
            apart = max(abs(at0 - round(at0)), abs(step - 1.0) * grid.shape[axis]) * pixel_mm
            if apart > REGISTRATION_TOLERANCE_MM:
                raise GeometryError(
                    f"Pixels of two volumes lie {apart:.2f} mm apart along {name}, so they cannot stand side by side; "
                    "resample one onto the other's grid."
                )
        # A voxel reaches half its size to each side of its centre; rounding errors are no gap.
        first = int(np.ceil((-0.5 - at0) / step - 1e-6))
        last = int(np.floor((own.shape[axis] - 0.5 - at0) / step + 1e-6))
        wanted = np.arange(max(first, 0), min(last, grid.shape[axis] - 1) + 1)
        nearest = np.floor(at0 + step * wanted + 0.5 + 1e-6).astype(int)
        found.append((max(first, 0), np.clip(nearest, 0, own.shape[axis] - 1)))
    return volume.hu, found


def _write_case(folder: Path, shown: Mapping[str, Volume]) -> None:
    folder.mkdir()
    for letter, volume in shown.items():
        write(volume, folder / f"{letter}.nii.gz")
    drawn = {letter: replace(volume) for letter, volume in shown.items()}
    save_png(comparison(drawn, rows=ROWS), folder / f"{'-'.join(shown)}.png")


def _form(study: Sequence[StudyCase], arms: int) -> str:
    text = io.StringIO()
    letters = string.ascii_uppercase[:arms]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *(f"{letter}: 1 (poor) to 5 (excellent)" for letter in letters), "preferred", "remarks"])
    writer.writerows([[case.name, *[""] * (arms + 2)] for case in study])
    return text.getvalue()


def _instructions(cases: int, arms: int) -> str:
    letters = ", ".join(string.ascii_uppercase[:arms])
    return (
        f"{cases} cases. Each folder holds {arms} volumes of one scan, {letters}, made by different methods and in an "
        f"order that changes from case to case. Open them side by side in any viewer that reads NIfTI; the picture "
        "shows them in three planes. Fill in form.csv, a line for each case.\n\n"
        "Voxels are HU. Position in the scanner and all headers were left out.\n\n"
        f"{NOTICE}\n"
    )
