"""A catalogue of very many files, made of synthetic rows: time of a scan's writes, of a look at all folders, of a plan.

python speed/archive_growth.py 10000000 FOLDER        about 1.5 GB in FOLDER
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from thinslice.archive.catalogue import SERIES_QUERY, Catalogue
from thinslice.archive.place import ArchivePlace
from thinslice.archive.plan import Chosen, choose
from thinslice.archive.read_folder import FolderResult, FoundFile, SeriesRow
from thinslice.recipes.series_rules import EVERYTHING

SLICES = 100
"""Files of one series, in a folder of its own; ten series are a patient."""


def folder(number: int) -> FolderResult:
    """A folder with one thick series."""
    time_ns = 1_700_000_000_000_000_000
    files = [
        FoundFile(f"IM{k:05}.dcm", (526_000 + k, time_ns + k, SLICES * number + k), "", (0,)) for k in range(SLICES)
    ]
    row = SeriesRow(
        uid=f"1.2.826.0.1.{number}",
        kind="CT",
        slices=SLICES,
        spacing_mm=(5.0, 0.7, 0.7),
        thickness_mm=5.0,
        matrix=(512, 512),
        orientation="axial",
        number=number % 9,
        description="THORAX 5.0",
        part="",
        kernel=f"B{30 + number % 40}f",
        derived=False,
        factor=5,
        reasons="",
        readable=True,
        mended_by="",
        body_part="CHEST",
        station=f"CT{number % 20}",
        manufacturer="SYNTHETIC",
        scanner="MODEL",
        syntax="1.2.840.10008.1.2.1",
    )
    key = (f"{number // 10:016x}", f"1.2.3.{number // 3}", row.uid, f"{number // 3:010x}", f"{number:010x}")
    return FolderResult(
        f"{number % 1000:03}/patient-{number // 10}/series-{number}",
        digest=os.urandom(16),
        files=files,
        groups=[key],
        rows=[[row]],
        total=SLICES,
    )


def main(files: int, root: Path) -> None:
    """Fill a catalogue, and print what each step took."""
    place = ArchivePlace(root)
    place.create()
    series = files // SLICES
    with Catalogue(place.catalogue, create=True) as catalogue:
        catalogue.begin(Path("/archive"))
        begun = time.process_time()
        for start in range(0, series, 1000):
            results = [folder(number) for number in range(start, min(series, start + 1000))]
            with catalogue.writing():
                for result in results:
                    catalogue.add(result, 1)
        print(f"rows written     {time.process_time() - begun:8.1f} CPU s for {files:,} files, {series:,} series")
        print(f"size             {place.catalogue.stat().st_size / files:8.1f} bytes a file")
        begun = time.process_time()
        digests = catalogue.known_digests()
        with catalogue.writing():
            catalogue.see(digests, 2)
        print(f"unchanged        {time.process_time() - begun:8.1f} CPU s to look up and mark {len(digests):,} folders")
        begun = time.process_time()
        chosen = sum(
            isinstance(choose(row, EVERYTHING.rules), Chosen)
            for row in catalogue.rows(f"{SERIES_QUERY} ORDER BY study.id, collection.id")
        )
        print(f"rules            {time.process_time() - begun:8.1f} CPU s for {chosen:,} series")
        begun = time.process_time()
        for number in range(1, 1001):
            catalogue.stamps(number * (series // 1000) if series >= 1000 else 1)
        print(f"files of one     {(time.process_time() - begun):8.3f} CPU ms a series of {SLICES} files")
        begun = time.process_time()
        print(catalogue.totals())
        print(f"totals           {time.process_time() - begun:8.1f} CPU s")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
