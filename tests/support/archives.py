"""Small archives made on the spot: patients with good series and with faults, and what a run made of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from support.dicom_factory import write_series
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan import PlanOptions, run_plan
from thinslice.archive.plan_file import PlanFile
from thinslice.archive.scan import run_scan
from thinslice.recipes.series_rules import SeriesRules

LINEAR = SeriesRules.model_validate({"rule": [{"name": "all", "run": {"model": "linear"}}]})


def numbered(number: int, patient: str) -> Any:
    """An edit for `write_series`: SeriesNumber, and a patient of its own, whose name is in the description too."""

    def edit(dataset: Any, _: int) -> None:
        dataset.SeriesNumber, dataset.PatientID, dataset.PatientName = number, patient, f"{patient}^Jane"
        dataset.SeriesDescription = f"chest of {patient}"

    return edit


def write_archive(root: Path, good: int, *, depth: int = 4, plane: int = 16, gaps: int = 0, values: int = 0) -> None:
    """Write one series a patient, in folders named after the patients.

    Args:
        root: made if absent.
        good: series that can be upscaled.
        depth, plane: of each series.
        gaps: series that lack a slice, which headers show.
        values: series whose values are no HU, which a run alone shows.
    """
    kinds = ["good"] * good + ["gap"] * gaps + ["values"] * values
    for number, kind in enumerate(kinds):
        patient = f"Doe{number:03}"
        write_series(
            root / f"{patient}_Jane" / "ct",
            shape=(depth + (kind == "gap"), plane, plane),
            seed=number,
            uid=f"1.2.3.{number + 1}",
            study_uid=f"1.2.4.{number + 1}",
            missing=(2,) if kind == "gap" else (),
            hu=[[[(z + y + x) % 2 for x in range(plane)] for y in range(plane)] for z in range(depth)]
            if kind == "values"
            else None,
            intercept=0.0 if kind == "values" else -1024.0,
            edit=numbered(number + 1, patient),
        )


def planned(root: Path, index: Path, out: Path, *, rules: SeriesRules = LINEAR) -> tuple[ArchivePlace, PlanFile]:
    """Scan and plan in this process, without a measurement."""
    place = ArchivePlace(index)
    run_scan(root, place, processes=0)
    options = PlanOptions(out, rules, measure=False, retry_first_s=0.0, device="cpu", backend="torch")
    return place, run_plan(place, options)


def outputs_of(out: Path) -> dict[str, str]:
    """Digest of every file that a run made, by its place; what it keeps for itself is left out."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".thinslice" not in path.parts and not path.name.startswith("summary.")
    }
