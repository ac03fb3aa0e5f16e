"""Verification of a data set: each pair exists, has the right shape and plausible values, and is aligned.

Faults are collected: each case is checked as far as it can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thinslice.data import rplhr
from thinslice.data.manifest import Case, Dataset, content_mark
from thinslice.data.pairing import alignment, pair_by_position
from thinslice.errors import GeometryError, InputError, UsageError
from thinslice.io.hu_collector import FILL_HU
from thinslice.typing import Progress
from thinslice.volume import Volume

EXPECTED = ("full", "tiny")
"""Releases whose cases `verify` can require."""

PLAUSIBLE_HU = (-8192.0, 32767.0)
"""Range of a CT in HU, from the padding values of all manufacturers to metal."""

JOBS = 2
"""Cases checked in parallel; each of the full release takes about 1 GB of memory."""

_LISTED = 12


@dataclass(frozen=True)
class Fault:
    """A fault of a case or a data set.

    Attributes:
        kind: "missing", "unreadable", "shape", "not finite", "range", "misaligned", "twice", "leak" or "incomplete".
        message: sentence that describes the fault.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class CaseCheck:
    """Result for one case.

    Attributes:
        case_id: name of the case.
        split: split of the case.
        thick_shape, thin_shape: (depth, height, width); None where the file cannot be read.
        low, high: extremes of both volumes' finite values, in the files' own units.
        shift: misalignment in thin slices, 0 for an aligned pair; None where it cannot be measured.
        correlation: correlation of thick slices with the mean of the thin ones around factor * k.
        faults: faults of the case.
    """

    case_id: str
    split: str
    thick_shape: tuple[int, int, int] | None = None
    thin_shape: tuple[int, int, int] | None = None
    low: float | None = None
    high: float | None = None
    shift: int | None = None
    correlation: float | None = None
    faults: tuple[Fault, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "case": self.case_id,
            "split": self.split,
            "thick_shape": None if self.thick_shape is None else list(self.thick_shape),
            "thin_shape": None if self.thin_shape is None else list(self.thin_shape),
            "low": self.low,
            "high": self.high,
            "shift": self.shift,
            "correlation": self.correlation,
            "faults": [{"kind": fault.kind, "message": fault.message} for fault in self.faults],
        }


@dataclass(frozen=True)
class Verification:
    """Result for a data set.

    Attributes:
        name: name of the data set.
        layout: layout, as `Dataset.layout`.
        checks: result of each case, in the data set's order.
        faults: faults of the whole set: patients in two splits, duplicate volumes, missing cases.
    """

    name: str
    layout: str
    checks: tuple[CaseCheck, ...]
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no faults."""
        return not self.faults and not any(check.faults for check in self.checks)

    @property
    def bad(self) -> int:
        """Number of cases with faults."""
        return sum(1 for check in self.checks if check.faults)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "schema": "thinslice-dataset-verify/1",
            "name": self.name,
            "layout": self.layout,
            "ok": self.ok,
            "cases": [check.to_json() for check in self.checks],
            "faults": [{"kind": fault.kind, "message": fault.message} for fault in self.faults],
        }


def verify(
    dataset: Dataset,
    *,
    split: str | None = None,
    expect: str | None = None,
    jobs: int = JOBS,
    progress: Progress | None = None,
) -> Verification:
    """Check all cases of a data set.

    Args:
        dataset: data set from `open_dataset`.
        split: the only split to check; None for all.
        expect: release whose cases must exist: "full" or "tiny"; None for no such check.
        jobs: cases checked in parallel.
        progress: called with (cases done, cases in all).

    Raises:
        UsageError: no such split or release, or fewer than one job.
        ResourceError: when a volume does not fit in memory; lower `jobs`.
    """
    if expect is not None and expect not in EXPECTED:
        raise UsageError(f"There is no release {expect!r}; expect one of {', '.join(EXPECTED)}.")
    if jobs < 1:
        raise UsageError(f"At least one case must be checked at a time, not {jobs}.")
    cases = dataset.cases if split is None else dataset.split(split)
    checks: dict[int, CaseCheck] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            under_way = {pool.submit(check_case, case): index for index, case in enumerate(cases)}
            for done in as_completed(under_way):
                checks[under_way[done]] = done.result()
                if progress is not None:
                    progress(len(checks), len(cases))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    faults = [*_leaks(dataset.cases), *_twins(cases)]
    if expect is not None:
        faults += _incomplete(cases, expect, split)
    return Verification(
        dataset.name, dataset.layout, tuple(checks[index] for index in range(len(cases))), tuple(faults)
    )


def check_case(case: Case) -> CaseCheck:
    """Check one case as far as it can be read; faults are returned, not raised.

    Raises:
        ResourceError: when the case does not fit in memory.
    """
    from thinslice.io.files import read

    faults: list[Fault] = []
    places = {"thick": case.thick, "thin": case.thin}
    for name, path in places.items():
        if path is None or not path.exists():
            faults.append(Fault("missing", f"The {name} volume is missing."))
    there = {name: path for name, path in places.items() if path is not None and path.exists()}
    axis = _released_axis(there, faults) if case.layout == "released" else 2
    volumes: dict[str, Volume] = {}
    for name, path in there.items():
        try:
            volumes[name] = rplhr.read_unit(path, axis) if case.layout == "released" else read(path)
        except InputError as error:
            fault = Fault("unreadable", str(error))
            if fault not in faults:
                faults.append(fault)
    extremes = [_check_values(name, volume, case.layout == "released", faults) for name, volume in volumes.items()]
    shift, correlation = None, None
    if len(volumes) == 2 and not faults:
        shift, correlation = _check_alignment(volumes["thick"], volumes["thin"], case.layout, faults)
    return CaseCheck(
        case_id=case.case_id,
        split=case.split,
        thick_shape=volumes["thick"].geometry.shape if "thick" in volumes else None,
        thin_shape=volumes["thin"].geometry.shape if "thin" in volumes else None,
        low=min((low for low, _ in extremes), default=None),
        high=max((high for _, high in extremes), default=None),
        shift=shift,
        correlation=correlation,
        faults=tuple(faults),
    )


def _released_axis(there: dict[str, Path], faults: list[Fault]) -> int:
    """The files' through-plane axis; the last axis where the shapes do not determine it."""
    shapes = {}
    for name, path in there.items():
        try:
            shapes[name] = rplhr.file_shape(path)
        except InputError as error:
            faults.append(Fault("unreadable", str(error)))
    if len(shapes) == 2:
        try:
            return rplhr.depth_axis(shapes["thick"], shapes["thin"])
        except GeometryError as error:
            faults.append(Fault("shape", str(error)))
    return 2


def _check_values(name: str, volume: Volume, unit: bool, faults: list[Fault]) -> tuple[float, float]:
    """The extremes of the finite values; their faults are appended to `faults`."""
    hu = volume.hu
    bad = volume.provenance.details.get("not_finite", 0)
    if bad:
        faults.append(Fault("not finite", f"{bad} voxels of the {name} volume are not finite numbers."))
        # The reader has replaced them by air.
        finite = hu[hu != FILL_HU]
        hu = finite if finite.size else hu
    low, high = float(hu.min()), float(hu.max())
    if low == high:
        faults.append(Fault("range", f"All voxels of the {name} volume are {low:g}."))
    elif unit:
        if low < -rplhr.UNIT_SLACK or high > 1.0 + rplhr.UNIT_SLACK:
            hint = "; these are probably HU" if low < rplhr.CANNOT_BE_UNIT[0] or high > rplhr.CANNOT_BE_UNIT[1] else ""
            faults.append(
                Fault("range", f"Values of the {name} volume reach from {low:g} to {high:g}, not from 0 to 1{hint}.")
            )
    elif volume.provenance.details.get("unit_range"):
        faults.append(Fault("range", f"Values of the {name} volume lie between 0 and 1: unit intensities, not HU."))
    elif low < PLAUSIBLE_HU[0] or high > PLAUSIBLE_HU[1]:
        faults.append(
            Fault("range", f"Values of the {name} volume reach from {low:g} to {high:g}, which is impossible in HU.")
        )
    elif low >= 0.0:
        faults.append(
            Fault("range", f"The {name} volume has no value below 0 HU, not even air; is its intercept missing?")
        )
    return low, high


def _check_alignment(thick: Volume, thin: Volume, layout: str, faults: list[Fault]) -> tuple[int | None, float | None]:
    """Shift and correlation of a pair; a misalignment is appended to `faults`."""
    if layout == "released":
        factor = rplhr.FACTOR
        # A correlation is the same in unit intensity as in HU.
        thick_hu, thin_hu = thick.hu, thin.hu
    else:
        try:
            thick, thin, factor = pair_by_position(thick, thin)
        except GeometryError as error:
            faults.append(Fault("misaligned", str(error)))
            return None, None
        thick_hu, thin_hu = thick.hu, thin.hu
    found = alignment(thick_hu, thin_hu, factor)
    if found is None:
        return None, None
    if found.fault is not None:
        faults.append(Fault("misaligned", f"The pair is misaligned: {found.fault}; {found.remedy}."))
    return found.shift, found.correlation if np.isfinite(found.correlation) else None


def _leaks(cases: Sequence[Case]) -> Iterator[Fault]:
    splits: dict[str, dict[str, list[str]]] = {}
    for case in cases:
        splits.setdefault(case.patient, {}).setdefault(case.split, []).append(case.case_id)
    for found in splits.values():
        if len(found) > 1:
            # Named by case: a set's names of patients are not repeated.
            named = ", ".join(f"{ids[0]} ({split})" for split, ids in found.items())
            yield Fault("leak", f"One patient is in several splits: {named}.")


def _twins(cases: Sequence[Case]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for case in cases:
        if case.thin.exists():
            mark = content_mark(case.thin)
            if mark in seen:
                yield Fault("twice", f"Cases {seen[mark]} and {case.case_id} have the same thin volume.")
            seen.setdefault(mark, case.case_id)


def _incomplete(cases: Sequence[Case], expect: str, only: str | None) -> Iterator[Fault]:
    for split, numbers in rplhr.SPLITS.items():
        if only not in (None, split):
            continue
        here = {case.case_id for case in cases if case.split == split}
        if expect == "tiny":
            if len(here) != rplhr.TINY_CASES[split]:
                yield Fault(
                    "incomplete", f"{split} holds {len(here)} cases; the tiny set has {rplhr.TINY_CASES[split]}."
                )
            continue
        wanted = {rplhr.case_name(number) for number in numbers}
        if wanted - here:
            lacking = _listed(wanted - here)
            yield Fault("incomplete", f"{split} lacks {len(wanted - here)} of {len(wanted)} cases: {lacking}.")
        if here - wanted:
            yield Fault("incomplete", f"{split} holds cases the release does not have there: {_listed(here - wanted)}.")


def _listed(names: set[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - _LISTED
    return ", ".join(ordered[:_LISTED]) + (f" and {more} more" if more > 0 else "")
