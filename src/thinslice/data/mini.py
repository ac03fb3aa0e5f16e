"""A small data set in the released layout, cut from a folder of thin volumes.

Cases are slabs of a volume, because patients are few. In training an in-plane axis may serve as the through-plane axis
(in plane a CT is as sharp). manifest.csv lists patient, slab and axis of each case; all cases of a patient lie in one
split.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from thinslice.about import __version__
from thinslice.data import rplhr
from thinslice.data.manifest import MANIFEST, content_mark
from thinslice.data.simulate import simulate_thick
from thinslice.data.wild_values import refuse_wild_values
from thinslice.errors import InputError, NotEligibleError, UsageError
from thinslice.geometry import Geometry
from thinslice.intensity import BODY_ABOVE_HU
from thinslice.profile import SliceProfile
from thinslice.typing import Progress
from thinslice.volume import Volume, as_hu

AXES = ("depth", "height", "width")
"""Axes of the source that may serve as the through-plane axis."""

MAX_THIN_MM = 1.5
"""Largest distance of thin slices."""

MIN_BODY = 0.4
"""Least share of body voxels in a slab (above -950 HU, `BODY_ABOVE_HU`)."""

FACTS = "mini.json"

_SAMPLE = 4


@dataclass(frozen=True)
class MiniRecipe:
    """Settings of a small data set.

    Attributes:
        cases: number of cases in each split.
        patterns: files of each split, as shell patterns of the path within the source folder. Of the remaining files,
            val and test take one each where they have no patterns, and train takes the others if it has none.
        size: (height, width) of a slab, pixels.
        thick_depth: thick slices of a slab.
        axes: through-plane axes in train, some of `AXES`; val and test use the source's own.
        profile: slice profile of the simulated thick slices, one of `thinslice.profile.SIMULATED`.
        noise_hu: standard deviation of noise added to the thick slices.
        seed: seed of the choice of files and slabs, and of the noise.

    Raises:
        UsageError: when a value is out of range; the message names the range.
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
        """Thin (depth, height, width) of a slab in its source, the reach of the profile included.

        Example: 12 thick slices of `mean` at factor 5 take 5 * 11 + 1 + 2 * 2 = 60 thin ones.
        """
        reach = self.slice_profile.reach
        return (rplhr.FACTOR * (self.thick_depth - 1) + 1 + 2 * reach, *self.size)


@dataclass(frozen=True)
class MiniSet:
    """Result of `make_mini`.

    Attributes:
        root: folder of the data set.
        cases: number of cases in each split.
        patients: patients of each split.
        left_out: for each unused file, a sentence with its name and the reason.
    """

    root: Path
    cases: dict[str, int]
    patients: dict[str, tuple[str, ...]]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Slab:
    """A box in a source volume.

    Attributes:
        number: number of the source among the files, from 1.
        axis: axis of the source that serves as the through-plane axis.
        start: first voxel, in the source with `axis` moved to the front.
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
        source: folder that is searched with its subfolders for NIfTI files; one file is one patient.
        out: folder of the new data set; it appears whole or not at all. Beside the splits it holds manifest.csv
            (patient and label of each case) and mini.json (settings).
        recipe: settings; `MiniRecipe()` by default.
        overwrite: whether an existing folder is replaced.
        progress: called with (cases written, cases in all).

    Raises:
        InputError: no thin volumes, fewer patients than splits, or one volume twice; add or remove volumes.
        UsageError: a pattern that fits no file, or a file in two splits; correct the patterns.
        NotEligibleError: the volumes hold fewer slabs than requested; request fewer or smaller ones.
        OutputExistsError, OutputError, ResourceError: the folder cannot be written.
    """
    from thinslice.system.atomic import atomic_directory

    recipe = recipe or MiniRecipe()
    files = _files(Path(source))
    splits, left_out = _assign(files, Path(source), recipe)
    total = sum(recipe.cases.values())
    marks = {number: content_mark(files[number - 1]) for numbers in splits.values() for number in numbers}
    _refuse_twins(marks)
    patients = {split: tuple(_patient(number) for number in numbers) for split, numbers in splits.items()}
    # All splits first: a lack of slabs is an error before anything is written.
    chosen = {split: _choose(files, numbers, split, recipe) for split, numbers in splits.items()}
    rows: list[dict[str, str]] = []
    with atomic_directory(out, overwrite=overwrite) as folder:
        for split, numbers in splits.items():
            for name in (rplhr.THICK_FOLDER, rplhr.THIN_FOLDER):
                (folder / split / name).mkdir(parents=True)
            slabs = list(zip(rplhr.SPLITS[split], chosen[split], strict=False))
            # Volume by volume, so that only one is in memory.
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
        # Patterns are left out: they may hold file names, and those names of patients.
        recipe_facts = {name: value for name, value in asdict(recipe).items() if name != "patterns"}
        facts = {"made_by": f"thinslice {__version__}", "recipe": recipe_facts, "profile": recipe.slice_profile.name}
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return MiniSet(Path(out), dict(recipe.cases), patients, left_out)


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        raise InputError(f"There is no folder {source.name!r}; name one that holds thin volumes (NIfTI).")
    found = [p for p in source.rglob("*") if p.name.endswith((".nii", ".nii.gz")) and not p.name.startswith(".")]
    if not found:
        raise InputError(f"{source.name!r} holds no NIfTI file (.nii, .nii.gz).")
    return sorted(found, key=lambda p: p.relative_to(source).as_posix())


def _patient(number: int) -> str:
    return f"P{number:03d}"


def _assign(files: Sequence[Path], source: Path, recipe: MiniRecipe) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Numbers of the files of each split that has cases, and sentences on unused files."""
    from thinslice.io.nifti import scan_nifti

    wanted = [split for split in rplhr.SPLITS if recipe.cases.get(split, 0) > 0]
    claimed: dict[int, str] = {}
    for split, patterns in recipe.patterns.items():
        for pattern in patterns:
            fits = [
                number
                for number, path in enumerate(files, 1)
                if fnmatch(path.relative_to(source).as_posix(), pattern) or fnmatch(path.name, pattern)
            ]
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
            reason = f"The slices of {path.name!r} lie {step:g} mm apart, which is not thin (up to {MAX_THIN_MM:g} mm)."
            if number in claimed:
                raise NotEligibleError(f"{reason} Leave it out of the patterns.")
            left_out[number] = reason
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
        left_out.update((n, f"No split needs {files[n - 1].name!r}.") for n in order)
    empty = [split for split, numbers in splits.items() if not numbers]
    if empty:
        raise InputError(
            f"{len(claimed) + len(free)} thin volumes do not fill {', '.join(wanted)} with different patients "
            f"(none is left for {', '.join(empty)}); add volumes, or request 0 cases there."
        )
    return splits, tuple(sentence for _, sentence in sorted(left_out.items()))


def _refuse_twins(marks: Mapping[int, str]) -> None:
    seen: dict[str, int] = {}
    for number, mark in marks.items():
        if mark in seen:
            raise InputError(
                f"Files {seen[mark]} and {number} of the folder, by name, are the same; remove one, so that "
                "no patient is in two splits."
            )
        seen[mark] = number


def _read_thin(path: Path) -> Volume:
    from thinslice.io.nifti import read_nifti

    volume = read_nifti(path)
    refuse_wild_values(volume, repr(path.name))
    if volume.provenance.details.get("unit_range"):
        raise InputError(f"{path.name!r} holds values within [0, 1], not HU; repair or remove it.")
    return volume


def _choose(files: Sequence[Path], numbers: Sequence[int], split: str, recipe: MiniRecipe) -> list[_Slab]:
    """The slabs of a split, in turn from each volume and axis; slabs of one axis do not overlap."""
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
            f"{count}; request fewer cases or smaller slabs, or add volumes."
        )
    return chosen


def _slabs(volume: Volume, axis: int, number: int, recipe: MiniRecipe) -> Iterator[_Slab]:
    """Adjacent slabs, spread evenly over the volume, with enough body voxels.

    Example: an axis of 100 voxels holds 3 slabs of 30 with 10 to spare, which start at 1, 35 and 68.
    """
    hu = np.moveaxis(volume.hu, axis, 0)
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


def _write_case(
    folder: Path, split: str, index: int, volume: Volume, slab: _Slab, mark: str, recipe: MiniRecipe
) -> dict[str, str]:
    """Write one case and return its row of the manifest."""
    name = rplhr.case_name(index)
    stop = tuple(s + n for s, n in zip(slab.start, recipe.extent, strict=True))
    part = np.moveaxis(volume.hu, slab.axis, 0)[tuple(slice(a, b) for a, b in zip(slab.start, stop, strict=True))]
    others = [a for a in range(3) if a != slab.axis]
    steps = [volume.geometry.spacing_mm[a] or 1.0 for a in (slab.axis, *others)]
    depth, height, width = part.shape
    grid = Geometry((depth, height, width), (steps[0], steps[1], steps[2]))
    # The seed depends on the case alone, not on cases before it.
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
