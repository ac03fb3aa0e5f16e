"""One worker of an archive and two, one thread each: series a second, CPU time a series, and what overlaps.

python speed/archive_workers.py FOLDER 60        FOLDER must not exist

Throughput counts from the first series that ended to the last, so that starting processes does not enter.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from archive_runs import RULES, write_series

from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan import PlanOptions, run_plan
from thinslice.archive.plan_file import KIND
from thinslice.archive.run import run_plan_locally
from thinslice.archive.scan import run_scan
from thinslice.archive.worker import WorkerOptions
from thinslice.queue import Queue


def overlap_s(times: list[dict[str, float]]) -> tuple[float, float]:
    """Seconds of reading, and those of them in which another series was at work."""
    total = shared = 0.0
    for one in times:
        begun, ended = one.get("reading_begun", 0.0), one.get("reading_ended", 0.0)
        total += ended - begun
        others = [(max(begun, other["begun"]), min(ended, other["ended"])) for other in times if other is not one]
        shared += min(ended - begun, sum(max(0.0, stop - start) for start, stop in others))
    return total, shared


def measure(root: Path, index: Path, workers: int) -> dict[str, Any]:
    """Work on an archive with so many processes."""
    place = ArchivePlace(index)
    run_scan(root, place, processes=0)
    run_plan(place, PlanOptions(index.with_suffix(".out"), RULES, measure=False, device="cpu", backend="torch"))
    before = os.times()
    run_plan_locally(place, processes=workers, options=WorkerOptions(1, 0.0))
    after = os.times()
    with Queue(place.queue) as queue:
        times = [job.result["times"] for job in queue.jobs(kind=KIND) if job.result]
    ended = sorted(each["ended"] for each in times)
    reading_s, shared_s = overlap_s(times)
    return {
        "workers": workers,
        "series_a_s": round((len(ended) - 1) / (ended[-1] - ended[0]), 3),
        "cpu_ms_a_series": round(1000 * (sum(after[2:4]) - sum(before[2:4])) / len(ended)),
        "reading_s": round(reading_s, 2),
        "of_it_beside_other_series_s": round(shared_s, 2),
    }


def main(root: Path, series: int) -> None:
    """Measure one worker, two, and one again."""
    root.mkdir()
    for number in range(1, series + 1):
        write_series(root / "ct" / f"series-{number}", number)
    for run, workers in enumerate((1, 2, 1, 2)):
        print(measure(root / "ct", root / f"index-{run}", workers), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
