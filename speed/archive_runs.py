"""Archives of 10, 100 and 1,000 small series: CPU seconds, bytes and rows of scan, plan and run, and a model of them.

python speed/archive_runs.py FOLDER 10 100 1000        one process and one thread; FOLDER must not exist

Each series has 5 slices of 16 x 16 and is made twice as dense by the network `linear`, as NIfTI: what is measured is
all that a series costs beside the network.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan import PlanOptions, run_plan
from thinslice.archive.run import join_plan
from thinslice.archive.scan import run_scan
from thinslice.archive.worker import WorkerOptions
from thinslice.recipes.series_rules import SeriesRules

DEPTH, PLANE = 5, 16

RULES = SeriesRules.model_validate(
    {"rule": [{"name": "all", "run": {"model": "linear", "factor": 2, "format": "nifti"}}]}
)


def write_series(folder: Path, number: int) -> None:
    """Write one series of a patient of its own."""
    folder.mkdir(parents=True)
    for k in range(DEPTH):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.5.{number}.{k + 1}"
        dataset.Modality, dataset.PatientID, dataset.PatientName = "CT", f"P{number}", "growth"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.4.{number}", f"1.2.3.{number}"
        dataset.FrameOfReferenceUID = f"1.2.6.{number}"
        dataset.SeriesNumber, dataset.InstanceNumber = 1, k + 1
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 5.0 * k]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 5.0
        dataset.Rows = dataset.Columns = PLANE
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        values = [(1024 + (37 * number + 11 * k + 3 * i * i) % 400) for i in range(PLANE * PLANE)]
        dataset.PixelData = b"".join(value.to_bytes(2, "little") for value in values)
        dataset.save_as(folder / f"IM{k:03}.dcm", enforce_file_format=True)


def timed(body: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of this process and its children, and seconds on the clock."""
    before, clock = os.times(), time.perf_counter()
    body()
    after = os.times()
    return sum(after[:4]) - sum(before[:4]), time.perf_counter() - clock


def measure(root: Path, series: int) -> dict[str, float]:
    """Scan, plan and run an archive of so many series."""
    for number in range(1, series + 1):
        write_series(root / "ct" / f"{number % 97:02}" / f"series-{number}", number)
    place = ArchivePlace(root / "index")
    options = PlanOptions(root / "thin", RULES, measure=False, device="cpu", backend="torch")
    scan, _ = timed(lambda: run_scan(root / "ct", place, processes=0))
    again, _ = timed(lambda: run_scan(root / "ct", place, processes=0))
    plan, _ = timed(lambda: run_plan(place, options))
    run, clock = timed(lambda: join_plan(place, options=WorkerOptions(1, 0.0)))
    made = list((root / "thin").rglob("*.nii.gz"))
    assert len(made) == series
    return {
        "series": series,
        "scan_ms": 1000 * scan / series,
        "scan_again_ms": 1000 * again / series,
        "plan_ms": 1000 * plan / series,
        "run_ms": 1000 * run / series,
        "run_clock_ms": 1000 * clock / series,
        "catalogue_bytes": place.catalogue.stat().st_size / series,
        "queue_bytes": place.queue.stat().st_size / series,
        "output_bytes": sum(path.stat().st_size for path in made) / series,
    }


def main(root: Path, counts: list[int]) -> None:
    """Print a row for each count, and what a line through the first and the last predicts for those between."""
    root.mkdir()
    rows = []
    measure(root / "warm", 2)  # imports
    for count in counts:
        rows.append(measure(root / str(count), count))
        print(json.dumps({name: round(value, 2) for name, value in rows[-1].items()}), flush=True)
    first, last = rows[0], rows[-1]
    for name in ("scan_ms", "plan_ms", "run_ms"):
        total = [row["series"] * row[name] for row in (first, last)]
        each = (total[1] - total[0]) / (last["series"] - first["series"])
        fixed = total[0] - each * first["series"]
        between = ", ".join(
            f"{row['series']:.0f}: {row[name] * row['series'] / (fixed + each * row['series']):.2f} of the model"
            for row in rows[1:-1]
        )
        print(f"{name:8} {each:8.2f} ms a series and {fixed / 1000:.2f} s; {between}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(text) for text in sys.argv[2:]])
