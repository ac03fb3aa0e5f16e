"""Small archives made on the spot: patients with good series and with faults, and what a run made of them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import FileDataset

from support.dicom_factory import write_series
from support.skips import shared_folder
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan import PlanOptions, run_plan
from thinslice.archive.plan_file import KIND, PlanFile
from thinslice.archive.scan import run_scan
from thinslice.commands.batch import BatchJob, run_batch
from thinslice.inference.settings import UpscaleSettings
from thinslice.queue import Queue, State
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


def by_upscale_all(root: Path, out: Path) -> dict[str, str]:
    """What one process makes of the same folder."""
    settings = UpscaleSettings(model="linear", device="cpu", backend="torch")
    run_batch(BatchJob(root, out, settings, output_format="dicom"))
    return outputs_of(out)


def states_of(place: ArchivePlace) -> dict[str, tuple[State, str | None]]:
    """State and reason of every job of a plan, by its series."""
    with Queue(place.queue) as queue:
        jobs, after = [], 0
        while found := queue.jobs(after=after, kind=KIND):
            jobs += found
            after = found[-1].id
    return {job.spec["series"]: (job.state, job.reason) for job in jobs}


DEPTH, PLANE = 5, 24
"""Slices, and rows and columns, of a small series."""


def real_slices() -> list[FileDataset]:
    """Slices of a real thick chest in the order of their positions; none where the shared data is absent."""
    packed = shared_folder() / "ct" / "dicom" / "lung_dx_A0001_5mm.tar.xz"
    if not packed.is_file():
        return []
    with tarfile.open(packed) as members:
        streams = [members.extractfile(member) for member in members.getmembers() if member.name.endswith(".dcm")]
        found = [dcmread(io.BytesIO(stream.read())) for stream in streams if stream is not None]
    slices = [dataset for dataset in found if "ImagePositionPatient" in dataset]
    return sorted(slices, key=lambda dataset: float(dataset.ImagePositionPatient[2]))


def write_small_archive(root: Path, count: int) -> dict[str, str]:
    """Write many small series, crops of a real chest where there is one; every fiftieth has a fault of the table.

    Args:
        root: made if absent.
        count: series, each a patient.

    Returns:
        What the reason of each broken series holds, by its UID.
    """
    real, broken = real_slices(), dict[str, str]()
    faults = list(FAULTS.items())
    for number in range(count):
        uid, patient = f"1.2.3.{number + 1}", f"Doe{number:03}"
        folder = root / f"{patient}_Jane" / "ct"
        kind, reason = faults[number // 50 % len(faults)] if number % 50 == 7 else ("", "")
        if real:
            _write_crop(real, folder, number, uid)
        else:
            write_series(
                folder,
                shape=(DEPTH, PLANE, PLANE),
                seed=number,
                uid=uid,
                study_uid=f"1.2.4.{number + 1}",
                edit=numbered(number + 1, patient),
            )
        if kind:
            _BREAK[kind](sorted(folder.iterdir()))
            broken[uid] = reason
    return broken


def _write_crop(real: list[FileDataset], folder: Path, number: int, uid: str) -> None:
    folder.mkdir(parents=True)
    start = number % (len(real) - DEPTH)
    row, column = 120 + 24 * (number % 7), 100 + 24 * (number // 7 % 9)
    for k, dataset in enumerate(real[start : start + DEPTH]):
        pixels = dataset.pixel_array[row : row + PLANE, column : column + PLANE]
        crop = dcmread(io.BytesIO(_bytes_of(dataset)))
        crop.PixelData, crop.Rows, crop.Columns = pixels.tobytes(), PLANE, PLANE
        crop.SeriesInstanceUID, crop.StudyInstanceUID = uid, f"1.2.4.{number + 1}"
        crop.SOPInstanceUID = crop.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{k + 1}"
        crop.PatientID = f"Doe{number:03}"
        crop.PatientName, crop.SeriesNumber = f"{crop.PatientID}^Jane", number + 1
        crop.save_as(folder / f"slice{k:04}.dcm")


def _bytes_of(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def _drop_a_slice(files: list[Path]) -> None:
    files[2].unlink()


def _cut(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[: -PLANE * PLANE])


def _lose_values(files: list[Path]) -> None:
    for z, path in enumerate(files):
        dataset = dcmread(path)
        dataset.PixelData = bytes(byte for k in range(PLANE * PLANE) for byte in ((z + k) % 2, 0))
        dataset.RescaleIntercept = 0
        dataset.save_as(path)


def _turn(files: list[Path]) -> None:
    dataset = dcmread(files[1])
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    dataset.save_as(files[1])


FAULTS = {"values": "HU", "gap": "missing", "cut": "cut", "turned": "ImageOrientationPatient"}
"""Faults of the table of inputs to survive, and a word of the reason for each."""

_BREAK: dict[str, Callable[[list[Path]], None]] = {
    "gap": _drop_a_slice,
    "cut": _cut,
    "values": _lose_values,
    "turned": _turn,
}
