"""Data of a recipe: the sampler that draws crops, and the pairs for validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thinslice.data.cache import CachedPair, cached_pairs, pairs_folder, voxels_digest
from thinslice.data.crops import CropSampler, MixedSampler, PairSampler, Sampler
from thinslice.data.manifest import ALL, Case, Dataset, open_dataset
from thinslice.data.measured_profile import measure_shared_profile
from thinslice.data.wild_values import refuse_wild_values
from thinslice.errors import GeometryError, InputError, UnreadableError, UsageError
from thinslice.io.files import read
from thinslice.options import option
from thinslice.plausibility import examine
from thinslice.recipes import DatasetRecipe, TrainRecipe
from thinslice.recipes.slice_profile import SAME_SLICES, MeasuredProfile
from thinslice.typing import Notify
from thinslice.volume import Volume

FORMER_CACHE = ".thinslice-cache"
"""Folder inside a data set where earlier versions kept what `pairs_folder` holds now."""

_VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


MOST_MEASURED = 10
"""Pairs on which a slice profile is measured, the first ones: more change nothing."""

LARGE_RESIDUAL_HU = 15.0
"""Residual of a slice profile above which a pair is suspicious; that of the head phantom's real pair is 3.6 HU."""


@dataclass(frozen=True)
class Sources:
    """The data of a run.

    Attributes:
        sampler: of training crops.
        held_out: pairs of the validation split; none without such a split.
        profile: slice profile measured on the pairs; None where the recipe measures none.
        cases: names of the training cases, or files, in the order in which crops are drawn from them.
        digests: of the voxels of each (`thinslice.data.cache.voxels_digest`).
        factor: thin slices per thick interval, the largest that is drawn.
    """

    sampler: Sampler
    held_out: list[CachedPair]
    profile: MeasuredProfile | None = None
    cases: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    factor: int = 0


def open_sources(recipe: TrainRecipe, data_root: Path, *, notify: Notify | None = None) -> Sources:
    """The data of a run.

    Args:
        recipe: recipe of the run.
        data_root: folder that holds the recipe's relative data paths.
        notify: called with lines about the data, and about values that do not look like HU.

    Raises:
        UnreadableError, InputError: data that is missing, corrupt or misaligned, or holds values that are no HU; the
            message names the case or file.
        UsageError: a split that does not exist, or holds no pairs; correct the recipe.
        NotEligibleError: data smaller than a crop; lower depth or plane of the crops.
    """
    if recipe.dataset is None:
        files, volumes = zip(*_volumes(recipe, data_root, notify), strict=True)
        known = {file: voxels_digest(volume.hu) for file, volume in dict(zip(files, volumes, strict=True)).items()}
        return Sources(
            CropSampler(volumes, recipe.simulation, seed=recipe.seed),
            [],
            cases=tuple(file.name for file in files),
            digests=tuple(known[file] for file in files),
            factor=max(recipe.simulation.factors),
        )
    place = data_root / recipe.dataset.root
    if not place.exists():
        raise UnreadableError(
            f"There is no data set {str(place)!r}: the recipe names {recipe.dataset.root!r}; "
            f"give the folder that holds it with {option('data_root')}."
        )
    dataset = open_dataset(place)
    cases = training_cases(dataset, recipe.dataset)
    pairs = cached_pairs(cases, pairs_folder())
    if notify:
        notify(f"voxels of the pairs, uncompressed, in {pairs_folder()}")
        if (place / FORMER_CACHE).is_dir():
            notify(f"{place / FORMER_CACHE} is of an earlier version and no longer used; remove it to free its space")
        notify(f"{recipe.dataset.split}: {len(pairs)} pairs of {len({case.patient for case in cases})} patients")
    held_out: list[CachedPair] = []
    if recipe.dataset.validation is not None:
        if recipe.dataset.validation not in dataset.splits:
            raise UsageError(
                f"The data set has no split {recipe.dataset.validation!r} to validate on, only "
                f"{', '.join(dataset.splits)}; name one in dataset.validation, or leave it empty (dataset.validation=) "
                "to train without validation."
            )
        wanted = _paired(dataset, recipe.dataset.validation)[: recipe.validation.cases]
        _check_apart(dataset, recipe.dataset.split, recipe.dataset.validation)
        held_out = cached_pairs(wanted, pairs_folder())
    profile = None
    if recipe.dataset.profile == "measured":
        profile = _measured(pairs, notify)
    _check_trim(recipe, recipe.dataset, pairs[0].factor)
    return Sources(
        _sampler(recipe, recipe.dataset, pairs, profile),
        held_out,
        profile,
        cases=tuple(pair.case_id for pair in pairs),
        digests=tuple(pair.digest for pair in pairs),
        factor=pairs[0].factor,
    )


def training_digests(recipe: TrainRecipe, data_root: Path) -> tuple[str, ...]:
    """Digests of the training data as they are now, in the order of `Sources.digests`; no crop is drawn.

    Pairs are read through the cache: one that it does not hold is read once, as a training would.

    Args:
        recipe: recipe of the run.
        data_root: folder that holds the recipe's relative data paths.

    Raises:
        UnreadableError, InputError, UsageError: as `open_sources`.
    """
    if recipe.dataset is None:
        return tuple(voxels_digest(volume.hu) for _, volume in _volumes(recipe, data_root, None))
    cases = training_cases(open_dataset(data_root / recipe.dataset.root), recipe.dataset)
    return tuple(pair.digest for pair in cached_pairs(cases, pairs_folder()))


def training_cases(dataset: Dataset, recipe: DatasetRecipe) -> Sequence[Case]:
    """The pairs of the training split.

    Raises:
        UsageError: a split that does not exist, or holds no pairs; correct the recipe.
    """
    if dataset.splits == (ALL,) and recipe.split != ALL:
        raise UsageError(
            f"The data set has no splits: all its cases are in {ALL!r}. Set dataset.split = {ALL!r} and "
            'dataset.validation = "" in the recipe to train on them without validation, or list them in a manifest.csv '
            "with a column split."
        )
    if recipe.split not in dataset.splits:
        raise UsageError(
            f"The data set has no split {recipe.split!r} to train on, only {', '.join(dataset.splits)}; name one in "
            "dataset.split, or write it into the column split of the manifest."
        )
    cases = [case for case in _paired(dataset, recipe.split) if case.patient not in recipe.without]
    if not cases:
        raise UsageError(f"Split {recipe.split!r} of the data set holds no pairs of other patients.")
    return cases[: recipe.cases]


def _measured(pairs: Sequence[CachedPair], notify: Notify | None) -> MeasuredProfile:
    """The slice profile of the pairs.

    Raises:
        GeometryError: pairs of several protocols, the message naming two of them, or too short ones.
    """
    first = pairs[0]
    for pair in pairs[1:]:
        ours, theirs = (
            (*each.thin_spacing_mm[:1], each.thin_spacing_mm[0] * each.factor, each.relative_thickness)
            for each in (first, pair)
        )
        if any(abs(b - a) > SAME_SLICES * a for a, b in zip(ours, theirs, strict=True)):
            raise GeometryError(
                f"Cases {first.case_id} and {pair.case_id} are of two protocols: thick slices {_slices(first)} and "
                f"{_slices(pair)}. Train on pairs of one protocol; take the others out of the split, or name them in "
                "dataset.without."
            )
    try:
        profile = measure_shared_profile(pair.volumes() for pair in pairs[:MOST_MEASURED])
    except GeometryError as error:
        raise GeometryError(
            f"The slice profile of the pairs cannot be measured. {error} Or train with the box of the header: "
            "dataset.profile=header."
        ) from error
    if notify:
        residual = profile.residual_rms_hu or 0.0
        notify(
            f"slice profile of the pairs: {profile.width_mm:.2f} mm wide, residual {residual:.1f} HU (box of the "
            f"header: {profile.box_residual_rms_hu:.1f} HU)"
        )
        if residual > LARGE_RESIDUAL_HU:
            notify(
                "No profile explains the thick slices well: thick and thin ones may be of different kernels, or the "
                "patient moved between two scans. Pairs of one acquisition and kernel teach more."
            )
    return profile


def _slices(pair: CachedPair) -> str:
    thickness = "of unknown thickness" if pair.thickness_mm is None else f"{pair.thickness_mm:.4g} mm thick"
    return f"{pair.thin_spacing_mm[0] * pair.factor:.4g} mm apart and {thickness}"


def _sampler(
    recipe: TrainRecipe, dataset: DatasetRecipe, pairs: Sequence[CachedPair], profile: MeasuredProfile | None
) -> Sampler:
    factor = pairs[0].factor
    on_grid = None if profile is None else profile.on_grid(factor, profile.thick_spacing_mm)
    paired = PairSampler(pairs, recipe.crops, dataset, seed=recipe.seed, profile=on_grid)
    if not dataset.simulated_share:
        return paired
    simulated = CropSampler([pair.volumes()[1] for pair in pairs], recipe.simulation, seed=recipe.seed)
    return MixedSampler(paired, simulated, dataset.simulated_share, seed=recipe.seed)


def _paired(dataset: Dataset, split: str) -> Sequence[Case]:
    cases = [case for case in dataset.split(split) if case.thick is not None]
    if not cases:
        raise UsageError(f"Split {split!r} of the data set holds no pairs.")
    return cases


def _check_apart(dataset: Dataset, split: str, validation: str) -> None:
    """Refuse splits that share a patient: validation would not measure generalisation."""
    shared = {case.patient for case in dataset.split(split)} & {case.patient for case in dataset.split(validation)}
    if split != validation and shared:
        raise UsageError(
            f"{len(shared)} patients lie in both {split!r} and {validation!r} of the data set; split by patient."
        )


def _check_trim(recipe: TrainRecipe, dataset: DatasetRecipe, factor: int) -> None:
    """Refuse a loss that leaves out all slices of a crop; a recipe of pairs does not know their factor.

    Raises:
        UsageError: naming the largest `loss.trim` that works.
    """
    thin = {"crops.depth": (recipe.crops.depth - 1) * factor + 1}
    if dataset.simulated_share:
        thin["simulation.depth"] = (recipe.simulation.depth - 1) * min(recipe.simulation.factors) + 1
    name, fewest = min(thin.items(), key=lambda item: item[1])
    if 2 * recipe.loss.trim >= fewest:
        raise UsageError(
            f"loss.trim of {recipe.loss.trim} leaves no slice of a crop of {fewest} thin slices; set it to at most "
            f"{(fewest - 1) // 2}, or raise {name} in the recipe."
        )


def _volumes(recipe: TrainRecipe, data_root: Path, notify: Notify | None) -> Iterator[tuple[Path, Volume]]:
    """The recipe's files and volumes in order; a file that it names several times is read once and drawn more often."""
    known: dict[Path, Volume] = {}
    for entry in recipe.data:
        place = data_root / entry
        files: Sequence[Path] = [place]
        if place.is_dir():
            inside = sorted(f for f in place.iterdir() if f.name.endswith(_VOLUME_SUFFIXES))
            files = inside or [place]
        if not place.exists():
            raise UnreadableError(
                f"There is no training data at {str(place)!r}: the recipe names {entry!r}; give the folder that "
                f"holds it with {option('data_root')}, or correct data in the recipe."
            )
        for file in files:
            if file not in known:
                known[file] = _read_hu(file, notify)
            yield file, known[file]


def _read_hu(file: Path, notify: Notify | None) -> Volume:
    """A thin volume whose values are HU; one that damages training is refused by name."""
    volume = read(file)
    refuse_wild_values(volume, repr(file.name))
    looks = examine(volume.hu, padding=volume.provenance.padding_hu)
    if looks.is_refused:
        raise InputError(f"{file.name!r} cannot be trained on: {looks.sentence()}")
    if notify:
        shape, remark = " x ".join(map(str, volume.hu.shape)), looks.sentence()
        notify(f"{file.name}: {shape} voxels" + (f". {remark}" if remark else ""))
    return volume
