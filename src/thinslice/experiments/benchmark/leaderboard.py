"""Leaderboard: a file of scores with their provenance, in which rows with changed inputs are marked stale.

A row is replaced by a later one of the same method, weights, recipe, data, protocol, plan and kind of device; any other
is added. Paths of weights, recipe and data are relative to the leaderboard, so that a folder can be moved as a whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thinslice.about import NOTICE, __version__
from thinslice.data.manifest import open_dataset
from thinslice.errors import ThinsliceError, UnreadableError, UsageError
from thinslice.experiments.benchmark.cases import cases_digest, chosen_cases, dataset_root
from thinslice.experiments.benchmark.methods import LoadedMethod
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.table import MethodRow, rows_of
from thinslice.experiments.document import is_made_from, markdown_table, stamped
from thinslice.experiments.text import count_text, mean_text
from thinslice.models import catalog
from thinslice.recipes import SuiteDataset, TrainRecipe, overridden, read_train_recipe
from thinslice.system.atomic import atomic_file
from thinslice.system.files import sha256_of
from thinslice.training.export import data_record
from thinslice.training.sources import training_digests

SCHEMA: Literal["thinslice-leaderboard/1"] = "thinslice-leaderboard/1"
"""Value of `schema`; the number rises when a key changes its meaning."""

CURRENT, STALE, UNCHECKED = "current", "stale", "unchecked"
"""State of a row: its inputs equal those on disk; they differ; they are not found."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Place(_Frozen):
    """Paths of a row's inputs relative to the leaderboard's folder; None for inputs that a row does not have.

    Attributes:
        weights: the weights file.
        catalog_name: row of the catalog, for weights that come with thinslice.
        recipe: the training recipe.
        override: values changed in that recipe.
        training: folder that the recipe's data paths start from.
        data: the data set's root.
        dataset: choice of its cases.
        limit: largest number of cases.
    """

    weights: str | None
    catalog_name: str | None
    recipe: str | None
    override: dict[str, Any] = Field(default_factory=dict)
    training: str | None = None
    data: str
    dataset: SuiteDataset
    limit: int | None


class LeaderboardRow(_Frozen):
    """One row.

    Attributes:
        suite, suite_sha256: the suite.
        label: of the method there.
        method: name of the network or interpolation.
        adapt_steps: of test-time adaptation.
        dataset, split, cases, patients: the data, by name and number.
        data_sha256: of the cases scored.
        protocol, plan, factor: settings; `plan` as it ran.
        psnr, psnr_sd, ssim, ssim_sd: means over cases and sample standard deviations; PSNR is None where a case is
            identical.
        parameters, operations, seconds, memory_mib: costs, as in the suite's table.
        weights_sha256, recipe_sha256: None where there are none.
        training_data_sha256: of the voxels that the weights were trained on; None where their card lacks it.
        commit, version: of the code; the commit is None for an installed package.
        seed: of the suite.
        device, device_name, threads: of the run.
        date: when, UTC.
        place: paths of the inputs.
    """

    suite: str
    suite_sha256: str
    label: str
    method: str
    adapt_steps: int
    dataset: str
    split: str | None
    cases: int
    patients: int
    data_sha256: str
    protocol: str
    plan: str
    factor: int | None
    psnr: float | None
    psnr_sd: float | None
    ssim: float
    ssim_sd: float | None
    parameters: int
    operations: float
    seconds: float
    memory_mib: float | None
    weights_sha256: str | None
    recipe_sha256: str | None
    training_data_sha256: str | None = None
    commit: str | None
    version: str
    seed: int
    device: str
    device_name: str
    threads: int | None
    date: str
    place: Place

    @property
    def identity(self) -> tuple[object, ...]:
        """A later row of the same identity takes this one's place."""
        return (self.label, self.method, self.adapt_steps, self.weights_sha256, self.recipe_sha256, self.data_sha256,
                self.cases, self.protocol, self.plan, self.factor, self.device)  # fmt: skip


class Leaderboard(_Frozen):
    """All rows, in the order they came."""

    schema_name: Literal["thinslice-leaderboard/1"] = Field(default=SCHEMA, alias="schema")
    notice: str = NOTICE
    rows: tuple[LeaderboardRow, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    def with_rows(self, new: Sequence[LeaderboardRow]) -> Leaderboard:
        """The board with rows added, those of the same identity replaced in their place."""
        later = {entry.identity: entry for entry in new}
        rows = [later.pop(entry.identity, entry) for entry in self.rows]
        return self.model_copy(update={"rows": (*rows, *later.values())})


@dataclass(frozen=True)
class Standing:
    """State of a row compared with the disk.

    Attributes:
        status: `CURRENT`, `STALE` or `UNCHECKED`.
        why: a sentence for each input that has changed or is not found.
    """

    status: str
    why: tuple[str, ...] = ()


def read_leaderboard(path: Path) -> Leaderboard:
    """Read a leaderboard.

    Raises:
        UnreadableError: it is missing, damaged, or no leaderboard.
    """
    try:
        return Leaderboard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UnreadableError(
            f"There is no leaderboard {path.name!r}; thinslice benchmark --leaderboard creates one."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise UnreadableError(f"{path.name!r} is no leaderboard of this version ({where}: {first['msg']}).") from error
    except ValueError as error:
        raise UnreadableError(f"{path.name!r} is no leaderboard: it holds no JSON.") from error


def add_to_leaderboard(path: Path, result: SuiteResult, *, data_root: Path | None = None) -> Leaderboard:
    """Add the rows of a suite to a leaderboard, created when missing; a Markdown rendering is written beside it.

    Args:
        path: ends in .json.
        result: of `thinslice.experiments.benchmark.run.run_suite`.
        data_root: folder that data sets start from.

    Raises:
        UsageError: another suffix.
        UnreadableError: the file is no leaderboard; it is not changed.
        OutputError, ResourceError: it cannot be written.
    """
    if path.suffix != ".json":
        raise UsageError(f"A leaderboard ends in .json, not {path.suffix!r}; choose such a name.")
    ready = {method.label: method for method in result.methods}
    new = [_leaderboard_row(row, ready[row.label], result, path.resolve().parent, data_root) for row in rows_of(result)]
    # Both under the lock of the JSON, so that of two runs that end together neither loses its rows or its rendering.
    with atomic_file(path, overwrite=True) as part:
        board = (read_leaderboard(path) if path.exists() else Leaderboard()).with_rows(new)
        content = json.dumps(board.model_dump(mode="json", by_alias=True), indent=1) + "\n"
        part.write_text(content, encoding="utf-8")
        with atomic_file(path.with_suffix(".md"), overwrite=True) as rendering:
            shown = to_markdown(board, path.resolve().parent)
            rendering.write_text(stamped(shown, path.name, content), encoding="utf-8")
    return board


def rendering_warning(path: Path) -> str | None:
    """A sentence where the Markdown beside a leaderboard shows other rows, as after a run that was killed; else None.

    Args:
        path: the JSON file.
    """
    rendering = path.with_suffix(".md")
    try:
        if is_made_from(rendering, path):
            return None
    except (OSError, UnicodeDecodeError):
        return None
    return (
        f"{rendering.name!r} was not made from {path.name!r} as it is now (a run was killed, or one of them was "
        "changed); the next thinslice benchmark --leaderboard writes both."
    )


def standing(entry: LeaderboardRow, folder: Path, *, seen: dict[str, str] | None = None) -> Standing:
    """State of a row: its inputs compared with those on disk.

    Training data are compared voxel by voxel, through the cache of pairs; those of networks without a recipe are not.

    Args:
        entry: the row.
        folder: the leaderboard's.
        seen: digests of training data that other rows have in common; filled here. None looks at the disk each time.
    """
    place, known = entry.place, {} if seen is None else seen
    checks: list[tuple[str, str | None, Callable[[], str | None]]] = [
        ("data", entry.data_sha256, lambda: _data_now(place, folder)),
        (
            "training data",
            entry.training_data_sha256 if place.recipe and place.training else None,
            lambda: _training_data_now(place, folder, known),
        ),
        ("weights", entry.weights_sha256, lambda: _weights_now(place, folder)),
        ("recipe", entry.recipe_sha256 if place.recipe else None, lambda: _recipe_now(place, folder)),
    ]
    changed, unknown = [], []
    for what, then, look in checks:
        if then is None:
            continue
        try:
            now = look()
        except ThinsliceError:
            now = None
        if now is None:
            unknown.append(f"{what} not found where the row says")
        elif now != then:
            changed.append(f"{what} changed: {then[:12]} then, {now[:12]} now")
    if changed:
        return Standing(STALE, (*changed, *unknown))
    return Standing(UNCHECKED, tuple(unknown)) if unknown else Standing(CURRENT)


def to_markdown(board: Leaderboard, folder: Path) -> str:
    """The board as Markdown: a table for each set of cases and protocol, best PSNR first, stale rows marked with why.

    Args:
        board: the rows.
        folder: the leaderboard's, to which paths are relative.
    """
    parts = ["# Leaderboard", f"> {NOTICE}"]
    heads = ("method", "PSNR (dB)", "SSIM", "parameters", "operations", "s / volume", "plan", "device", "weights",
             "recipe", "commit", "date", "state")  # fmt: skip

    def group(entry: LeaderboardRow) -> tuple[str, ...]:
        return (
            entry.dataset,
            entry.split or "all",
            entry.data_sha256,
            entry.protocol,
            str(entry.factor or "each pair's own"),
        )

    seen: dict[str, str] = {}
    for (dataset, split, data, protocol, factor), members in groupby(sorted(board.rows, key=group), key=group):
        rows = sorted(members, key=lambda entry: float("inf") if entry.psnr is None else entry.psnr, reverse=True)
        parts.append(f"## {dataset}, {split}, protocol {protocol}")
        people = f" of {rows[0].patients} patients" if rows[0].patients < rows[0].cases else ""
        parts.append(f"{max(row.cases for row in rows)} cases{people}, factor {factor}, data {data[:12]}")
        parts.append(markdown_table(heads, [_cells(row, standing(row, folder, seen=seen)) for row in rows]))
    return "\n\n".join(parts) + "\n"


def _cells(entry: LeaderboardRow, now: Standing) -> list[str]:
    state = now.status if not now.why else f"{now.status.upper()}: {'; '.join(now.why)}"
    psnr = "infinite" if entry.psnr is None else mean_text(entry.psnr, entry.psnr_sd, 3)
    return [
        f"{entry.label} ({entry.cases} cases)",
        psnr,
        mean_text(entry.ssim, entry.ssim_sd, 4),
        count_text(entry.parameters),
        count_text(entry.operations),
        f"{entry.seconds:.3g}",
        entry.plan,
        entry.device_name,
        _short(entry.weights_sha256),
        _short(entry.recipe_sha256),
        _short(entry.commit) + ("+" if entry.commit and "+" in entry.commit else ""),
        entry.date[:10],
        state,
    ]


def _short(digest: str | None) -> str:
    return "-" if digest is None else digest[:8]


def _leaderboard_row(
    row: MethodRow, method: LoadedMethod, result: SuiteResult, folder: Path, data_root: Path | None
) -> LeaderboardRow:
    suite = result.suite
    finite = row.psnr != float("inf")
    return LeaderboardRow(
        suite=suite.name,
        suite_sha256=suite.digest,
        label=row.label,
        method=method.name,
        adapt_steps=method.adapt_steps,
        dataset=result.dataset,
        split=suite.dataset.split,
        cases=row.cases,
        patients=result.patients,
        data_sha256=result.data_sha256,
        protocol=result.protocol,
        plan=", ".join(row.plans),
        factor=suite.factor,
        psnr=row.psnr if finite else None,
        psnr_sd=row.psnr_sd,
        ssim=row.ssim,
        ssim_sd=row.ssim_sd,
        parameters=row.parameters,
        operations=row.operations,
        seconds=row.seconds,
        memory_mib=row.memory_mib,
        weights_sha256=row.weights_sha256,
        recipe_sha256=row.recipe_sha256,
        training_data_sha256=method.training_data_sha256,
        commit=result.commit,
        version=__version__,
        seed=suite.seed,
        device=result.device,
        device_name=result.device_name,
        threads=result.threads,
        date=result.made,
        place=Place(
            weights=None if method.weights is None else _relative(method.weights, folder),
            catalog_name=method.catalog_name,
            recipe=None if method.recipe is None else _relative(method.recipe, folder),
            override=method.changes,
            training=None
            if method.recipe is None
            else _relative(suite.folder if data_root is None else data_root, folder),
            data=_relative(dataset_root(suite.dataset, suite.folder, data_root), folder),
            dataset=suite.dataset,
            limit=suite.limit,
        ),
    )


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder)).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def _data_now(place: Place, folder: Path) -> str:
    cases = chosen_cases(open_dataset(folder / place.data), place.dataset, place.limit)
    return cases_digest(cases, place.dataset)


def _weights_now(place: Place, folder: Path) -> str | None:
    if place.weights is not None:
        path = folder / place.weights
    elif place.catalog_name is not None:
        path = catalog.weights_path(place.catalog_name)
    else:
        return None
    return sha256_of(path) if path.is_file() else None


def _recipe_now(place: Place, folder: Path) -> str | None:
    return None if place.recipe is None else _recipe(place.recipe, place, folder).digest


def _training_data_now(place: Place, folder: Path, seen: dict[str, str]) -> str | None:
    if place.recipe is None or place.training is None:
        return None
    recipe = _recipe(place.recipe, place, folder)
    drawn = recipe.dataset and recipe.dataset.model_dump_json(include={"root", "split", "cases", "without"})
    name = f"{place.training}:{drawn or recipe.data}"
    if name not in seen:
        seen[name] = data_record(training_digests(recipe, folder / place.training))["sha256"]
    return seen[name]


def _recipe(path: str, place: Place, folder: Path) -> TrainRecipe:
    return overridden(read_train_recipe(folder / path), place.override)
