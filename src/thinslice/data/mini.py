"""A small data set in exactly the released layout, cut from any folder of thin volumes.

Patients are few, so several slabs of one volume stand for cases, and in training an in-plane axis may play the part of
the axis across the slices (in plane a CT is as sharp). manifest.csv says of every case which patient, which slab and
which axis it is; all cases of a patient lie in one split.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from thinslice.about import __version__
from thinslice.data import rplhr
from thinslice.data.manifest import MANIFEST, content_mark
from thinslice.data.simulate import simulate_thick
from thinslice.errors import InputError, NotEligibleError, UsageError
from thinslice.geometry import Geometry
from thinslice.intensity import BODY_ABOVE_HU
from thinslice.profile import SliceProfile
from thinslice.typing import Progress
from thinslice.volume import Volume, as_hu

AXES = ("depth", "height", "width")
"""What may play the axis across the slices: itself, the rows' or the columns' axis of the source."""

MAX_THIN_MM = 1.5
"""Slices further apart are not thin."""

MIN_BODY = 0.4
"""A slab holds at least this part of voxels that are not air (above -950 HU)."""

FACTS = "mini.json"

_SAMPLE = 4


@dataclass(frozen=True)
class MiniRecipe:
    """What a small set is made of.

    Attributes:
        cases: number of cases in each split.
        patterns: for each split, which files belong to it: shell patterns of the path within the source folder.
            Of the remaining files val and test take one each where they have no patterns, and train the others if it
            has none.
        size: (height, width) of a slab in pixels.
        thick_depth: thick slices of a slab.
        axes: of `AXES`, for training; val and test are cut across the slices only, as scores should be.
        profile: how thick slices are simulated, one of `thinslice.profile.SIMULATED`.
        noise_hu: standard deviation of noise added to the thick slices.
        seed: of the choice of files and slabs, and of the noise.

    Raises:
        UsageError: numbers that make no data set.
    """

    cases: Mapping[str, int] = field(default_factory=lambda: {"train": 12, "val": 4, "test": 4})
    patterns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    size: tuple[int, int] = (96, 96)
    thick_depth: int = 12
    axes: tuple[str, ...] = AXES
    profile: str = "mean"
    noise_hu: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (*self.cases, *self.patterns):
            if name not in rplhr.SPLITS:
                raise UsageError(f"There is no split {name!r} in the released layout; use {', '.join(rplhr.SPLITS)}.")
        for name, count in self.cases.items():
            if not 0 <= count <= len(rplhr.SPLITS[name]):
                raise UsageError(f"{name} holds 0 to {len(rplhr.SPLITS[name])} cases, not {count}.")
        if sum(self.cases.values()) == 0:
            raise UsageError("A data set needs at least one case.")
        if min(self.size) < 16 or self.thick_depth < 4:
            raise UsageError("A slab needs planes of at least 16 x 16 pixels and at least 4 thick slices.")
        if not self.axes or any(axis not in AXES for axis in self.axes):
            raise UsageError(f"Axes are some of {', '.join(AXES)}.")
        if not (np.isfinite(self.noise_hu) and self.noise_hu >= 0):
            raise UsageError(f"Noise must be a number of HU from 0 on, not {self.noise_hu}.")
        if self.seed < 0:
            raise UsageError(f"A seed is a whole number from 0 on, not {self.seed}.")
        _ = self.slice_profile

    @property
    def slice_profile(self) -> SliceProfile:
        """The profile of the simulated thick slices."""
        return SliceProfile.named(self.profile, rplhr.FACTOR)

    @property
    def extent(self) -> tuple[int, int, int]:
        """Thin (depth, height, width) a slab takes from its source, the reach of the profile included."""
        reach = self.slice_profile.reach
        return (rplhr.FACTOR * (self.thick_depth - 1) + 1 + 2 * reach, *self.size)


@dataclass(frozen=True)
class MiniSet:
    """What `make_mini` wrote.

    Attributes:
        root: the data set's folder.
        cases: number of cases in each split.
        patients: for each split, its patients.
        left_out: for every file that was not used, a sentence with its name and why.
    """

    root: Path
    cases: dict[str, int]
    patients: dict[str, tuple[str, ...]]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Slab:
    """A box in a source volume.

    Attributes:
        number: of the source among the files, from 1.
        axis: the source's axis that plays the one across the slices.
        start: first voxel, in the source with its axes in the order played.
    """

    number: int
    axis: int
    start: tuple[int, int, int]


def make_mini(
    source: Path,
    out: Path,
    recipe: MiniRecipe | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> MiniSet:
    """Cut a small data set in the released layout from thin volumes.

    The same source and recipe give the same bytes.

    Args:
        source: folder, searched with its subfolders for NIfTI files; one file is one patient.
        out: the new data set's folder; it appears whole or not at all. Beside the splits it holds manifest.csv
            (patient and label of every case) and mini.json (how the set was made).
        recipe: what to make; `MiniRecipe()` by default.
        overwrite: replace what is there.
        progress: called with (cases written, cases in all).

    Raises:
        InputError: no thin volumes, fewer patients than splits, or one volume twice.
        UsageError: a pattern that fits no file, or a file that two splits claim.
        NotEligibleError: the volumes do not hold as many slabs as asked for.
        OutputExistsError, OutputError, ResourceError: it cannot be written.
    """
    from thinslice.system.atomic import atomic_directory

    recipe = recipe or MiniRecipe()
    files = _files(Path(source))
    splits, left_out = _assign(files, Path(source), recipe)
    total = sum(recipe.cases.values())
    marks = {number: content_mark(files[number - 1]) for numbers in splits.values() for number in numbers}
    _refuse_twins(marks)
    patients = {split: tuple(_patient(number) for number in numbers) for split, numbers in splits.items()}
    # All splits first: one that lacks slabs is said before any is written.
    chosen = {split: _choose(files, numbers, split, recipe) for split, numbers in splits.items()}
    rows: list[dict[str, str]] = []
    with atomic_directory(out, overwrite=overwrite) as folder:
        for split, numbers in splits.items():
            for name in (rplhr.THICK_FOLDER, rplhr.THIN_FOLDER):
                (folder / split / name).mkdir(parents=True)
            slabs = list(zip(rplhr.SPLITS[split], chosen[split], strict=False))
            # Volume by volume, so that one at a time is held in memory.
            for number in numbers:
                own = [(index, slab) for index, slab in slabs if slab.number == number]
                if not own:
                    continue
                volume = _read_thin(files[number - 1])
                for index, slab in own:
                    rows.append(_write_case(folder, split, index, volume, slab, marks[number], recipe))
                    if progress is not None:
                        progress(len(rows), total)
        rows.sort(key=lambda row: row["case"])
        with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as table:
            writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        facts = {"made_by": f"thinslice {__version__}", "recipe": _plain(recipe), "profile": recipe.slice_profile.name}
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return MiniSet(Path(out), dict(recipe.cases), patients, left_out)


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        raise InputError(f"There is no folder {source.name!r}; give one that holds thin volumes (NIfTI).")
    found = [p for p in source.rglob("*") if p.name.endswith((".nii", ".nii.gz")) and not p.name.startswith(".")]
    if not found:
        raise InputError(f"{source.name!r} holds no NIfTI file (.nii, .nii.gz).")
    return sorted(found, key=lambda p: p.relative_to(source).as_posix())


def _patient(number: int) -> str:
    return f"P{number:03d}"


def _assign(files: Sequence[Path], source: Path, recipe: MiniRecipe) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """The numbers of the files of every split that has cases, and sentences on those left out."""
    from thinslice.io.nifti import scan_nifti

    wanted = [split for split in rplhr.SPLITS if recipe.cases.get(split, 0) > 0]
    claimed: dict[int, str] = {}
    for split, patterns in recipe.patterns.items():
        for pattern in patterns:
            fits = [n for n, p in enumerate(files, 1) if _fits(p.relative_to(source), pattern)]
            if not fits:
                raise UsageError(f"The pattern {pattern!r} for {split} fits no file in {source.name!r}.")
            for number in fits:
                if claimed.setdefault(number, split) != split:
                    raise UsageError(
                        f"Patterns put one file into {claimed[number]} and into {split}; a patient belongs to one."
                    )
    left_out: dict[int, str] = {}
    free: list[int] = []
    for number, path in enumerate(files, 1):
        try:
            step = scan_nifti(path)[0].spacing_mm[0]
        except InputError as error:
            if number in claimed:
                raise
            left_out[number] = str(error)
            continue
        if step > MAX_THIN_MM:
            said = f"The slices of {path.name!r} lie {step:g} mm apart, which is not thin (up to {MAX_THIN_MM:g} mm)."
            if number in claimed:
                raise NotEligibleError(f"{said} Leave it out of the patterns.")
            left_out[number] = said
        elif number not in claimed:
            free.append(number)
    splits = {split: sorted(n for n, s in claimed.items() if s == split) for split in wanted}
    order = [free[i] for i in np.random.default_rng((recipe.seed, 1)).permutation(len(free))]
    for split in reversed(wanted):
        if not splits[split] and split != "train":
            splits[split] = [order.pop()] if order else []
    if "train" in wanted and not splits["train"]:
        splits["train"] = sorted(order)
    else:
        left_out.update((n, f"No split wants {files[n - 1].name!r}.") for n in order)
    empty = [split for split, numbers in splits.items() if not numbers]
    if empty:
        raise InputError(
            f"{len(claimed) + len(free)} thin volumes do not fill {', '.join(wanted)} with different patients "
            f"(none is left for {', '.join(empty)}); add volumes, or ask for 0 cases there."
        )
    return splits, tuple(sentence for _, sentence in sorted(left_out.items()))


def _fits(path: Path, pattern: str) -> bool:
    return fnmatch(path.as_posix(), pattern) or fnmatch(path.name, pattern)


def _refuse_twins(marks: Mapping[int, str]) -> None:
    seen: dict[str, int] = {}
    for number, mark in marks.items():
        if mark in seen:
            raise InputError(
                f"Files {seen[mark]} and {number} of the folder, by name, are the same; remove one, lest a patient be "
                "in two splits."
            )
        seen[mark] = number


def _read_thin(path: Path) -> Volume:
    from thinslice.io.nifti import read_nifti

    volume = read_nifti(path)
    details = volume.provenance.details
    if details.get("not_finite") or details.get("unit_range"):
        what = "values that are not finite" if details.get("not_finite") else "values within [0, 1], not HU"
        raise InputError(f"{path.name!r} holds {what}; repair or remove it.")
    return volume


def _choose(files: Sequence[Path], numbers: Sequence[int], split: str, recipe: MiniRecipe) -> list[_Slab]:
    """As many slabs as the split wants, in turn from every volume and axis; no two of one axis overlap."""
    axes = [AXES.index(axis) for axis in recipe.axes] if split == "train" else [0]
    rng = np.random.default_rng((recipe.seed, 2, list(rplhr.SPLITS).index(split)))
    queues: list[list[_Slab]] = []
    for number in numbers:
        volume = _read_thin(files[number - 1])
        for axis in axes:
            found = list(_slabs(volume, axis, number, recipe))
            queues.append([found[i] for i in rng.permutation(len(found))])
    chosen: list[_Slab] = []
    count = recipe.cases[split]
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(queue.pop())
    if len(chosen) < count:
        depth, height, width = recipe.extent
        raise NotEligibleError(
            f"The volumes of {split} hold {len(chosen)} slabs of {depth} x {height} x {width} thin voxels, not "
            f"{count}; ask for fewer cases or smaller slabs, or give more volumes."
        )
    return chosen


def _slabs(volume: Volume, axis: int, number: int, recipe: MiniRecipe) -> Iterator[_Slab]:
    """Slabs side by side, spread evenly over the volume, that hold enough of the patient."""
    hu = _turned(volume.hu, axis)
    starts = []
    for size, wanted in zip(hu.shape, recipe.extent, strict=True):
        count = size // wanted
        spare = size - count * wanted
        starts.append([i * wanted + spare * (2 * i + 1) // (2 * count) for i in range(count)] if count else [])
    for d in starts[0]:
        for h in starts[1]:
            for w in starts[2]:
                part = tuple(slice(s, s + n, _SAMPLE) for s, n in zip((d, h, w), recipe.extent, strict=True))
                if float(np.mean(hu[part] > BODY_ABOVE_HU)) >= MIN_BODY:
                    yield _Slab(number, axis, (d, h, w))


def _turned(hu: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    """A view whose first axis is `axis`; the other two keep their order."""
    return np.moveaxis(hu, axis, 0)


def _write_case(
    folder: Path, split: str, index: int, volume: Volume, slab: _Slab, mark: str, recipe: MiniRecipe
) -> dict[str, str]:
    """Write one case; returns its row of the manifest."""
    name = rplhr.case_name(index)
    stop = tuple(s + n for s, n in zip(slab.start, recipe.extent, strict=True))
    part = _turned(volume.hu, slab.axis)[tuple(slice(a, b) for a, b in zip(slab.start, stop, strict=True))]
    others = [a for a in range(3) if a != slab.axis]
    steps = [volume.geometry.spacing_mm[a] or 1.0 for a in (slab.axis, *others)]
    depth, height, width = part.shape
    grid = Geometry((depth, height, width), (steps[0], steps[1], steps[2]))
    # One seed a case, whatever was written before it.
    seed = int.from_bytes(hashlib.sha256(f"{recipe.seed}/{name}".encode()).digest()[:4], "big")
    thick, thin = simulate_thick(Volume(as_hu(part), grid), recipe.slice_profile, noise_hu=recipe.noise_hu, seed=seed)
    paths = {}
    for column, written, where in (
        # Whole HU, as a scanner writes them.
        ("thick", Volume(np.rint(thick.hu).astype(np.float32), thick.geometry), rplhr.THICK_FOLDER),
        ("thin", thin, rplhr.THIN_FOLDER),
    ):
        paths[column] = f"{split}/{where}/{name}{rplhr.SUFFIX}"
        rplhr.write_released(written, folder / paths[column])
    ranges = [f"{n}:{m}" for n, m in zip(slab.start, stop, strict=True)]
    where = " ".join(f"{AXES[a]} {r}" for a, r in zip((slab.axis, *others), ranges, strict=True))
    across = f"its {AXES[slab.axis]} axis across the slices, {steps[0]:.4g} mm"
    return {
        "split": split,
        "case": name,
        "patient": _patient(slab.number),
        **paths,
        "label": f"slab of {_patient(slab.number)} ({where}), {across}",
        "axis": AXES[slab.axis],
        "source_sha256": mark,
    }


def _plain(recipe: MiniRecipe) -> dict[str, Any]:
    # Patterns may hold names of files, and those of patients.
    return {name: value for name, value in asdict(recipe).items() if name != "patterns"}
