"""Times of reading and writing DICOM and compressed NIfTI, beside bare loops over the same slices.

    python speed/files.py INPUT [--factor 5] [--turns 5] [--json FILE] [--folder FOLDER]

INPUT is a folder of one CT series (ct/dicom/lung_dx_A0001_5mm.tar.xz, unpacked: 64 slices to 316). The bare programs
use only pydicom or nibabel, without checks, order by position or a flush to the disk. All programs take turns in one
process; the ratio of medians is compared.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.io.files import open_writer, read
from thinslice.profile import SliceProfile
from thinslice.volume import Derivation, Volume

MOST = 1.5
"""Limit of the time of thinslice over the bare loop, reading and writing together; above it this program fails."""

SLAB = 80
"""Slices of a slab that a writer gets."""


def bare_dicom_read(folder: Path) -> list[Any]:
    """All files with their pixels, in the order of names."""
    import pydicom

    datasets = []
    for file in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(file)
        _ = dataset.pixel_array
        datasets.append(dataset)
    return datasets


def bare_dicom_write(datasets: list[Any], thin: npt.NDArray[np.int16], factor: int, folder: Path) -> None:
    """Write each thin slice as a copy of its thick slice's dataset with changed attributes."""
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    series_uid = generate_uid()
    first = [float(x) for x in datasets[0].ImagePositionPatient]
    last = [float(x) for x in datasets[-1].ImagePositionPatient]
    for index, plane in enumerate(thin):
        dataset = datasets[index // factor].copy()
        dataset.file_meta = dataset.file_meta.copy()
        share = index / (len(thin) - 1)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = series_uid
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = [f"{a + share * (b - a):.6f}" for a, b in zip(first, last, strict=True)]
        dataset.SliceLocation = f"{first[2] + share * (last[2] - first[2]):.6f}"
        dataset.PixelRepresentation = 1
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", "1"
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.set_pixel_data(plane, "MONOCHROME2", 16, generate_instance_uid=False)
        dataset.save_as(folder / f"{index:04d}.dcm")


def bare_nifti_write(thin: npt.NDArray[np.int16], path: Path) -> None:
    """Write with nibabel: one thread, its default level (1)."""
    import nibabel

    nibabel.save(nibabel.Nifti1Image(thin.transpose(2, 1, 0), np.eye(4)), path)


def plain_gzip_write(thin: npt.NDArray[np.int16], path: Path) -> None:
    """Write like the gzip command by default: one thread, level 6."""
    with gzip.open(path, "wb", compresslevel=6) as stream:
        stream.write(thin.data.cast("B"))


def thinslice_write(thick: Volume, thin: npt.NDArray[np.int16], factor: int, path: Path) -> None:
    """Write slab by slab, like `thinslice upscale`."""
    derivation = Derivation("linear", "1", None, factor)
    provenance = replace(thick.provenance, derivation=derivation)
    low, high = float(thin.min()), float(thin.max())
    with open_writer(path, thick.geometry.thin_grid(factor), provenance, hu_range=(low, high)) as writer:
        for start in range(0, len(thin), SLAB):
            writer.write(thin[start : start + SLAB])


def interpolated(thick: npt.NDArray[np.int16], factor: int) -> npt.NDArray[np.int16]:
    """A thin volume that compresses like CT: cubic interpolation."""
    from thinslice.models.along_z import z_matrix

    matrix = z_matrix("cubic", len(thick), SliceProfile.mean(factor), factor).astype(np.float32)
    columns = thick.reshape(len(thick), -1).astype(np.float32)
    return np.rint(matrix @ columns).astype(np.int16).reshape(-1, *thick.shape[1:])


def alternate(works: dict[str, Callable[[Path], object]], turns: int, folder: Path) -> dict[str, float]:
    """Median seconds of programs that take turns, each in a fresh folder; the first turn is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                begun = time.perf_counter()
                work(Path(place))
                if turn:
                    taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("--factor", type=int, default=5)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="folder for written files; its disk is part of the measurement")
    options = parser.parse_args()
    thick = read(options.input)
    thin = interpolated(thick.hu, options.factor)
    datasets = bare_dicom_read(options.input)
    factor = options.factor
    seconds = alternate(
        {
            "read DICOM, bare pydicom": lambda place: bare_dicom_read(options.input),
            "read DICOM, thinslice": lambda place: read(options.input),
            "write DICOM, bare pydicom": lambda place: bare_dicom_write(datasets, thin, factor, place / "thin"),
            "write DICOM, thinslice": lambda place: thinslice_write(thick, thin, factor, place / "thin"),
            "write .nii.gz, bare nibabel": lambda place: bare_nifti_write(thin, place / "thin.nii.gz"),
            "write .nii.gz, gzip level 6": lambda place: plain_gzip_write(thin, place / "thin.nii.gz"),
            "write .nii.gz, thinslice": lambda place: thinslice_write(thick, thin, factor, place / "thin.nii.gz"),
            "write .nii, thinslice": lambda place: thinslice_write(thick, thin, factor, place / "thin.nii"),
        },
        options.turns,
        options.folder,
    )
    bare = seconds["read DICOM, bare pydicom"] + seconds["write DICOM, bare pydicom"]
    own = seconds["read DICOM, thinslice"] + seconds["write DICOM, thinslice"]
    print(f"{len(thick.hu)} slices to {len(thin)}, {thin.shape[1]} x {thin.shape[2]}; medians of {options.turns} turns")
    for name, median in seconds.items():
        print(f"{name:30}{median:8.3f} s")
    print(f"DICOM, read and written: {own:.2f} s, {own / bare:.2f} of bare pydicom ({bare:.2f} s)")
    if options.json:
        results = {"thick": thick.hu.shape, "thin": thin.shape, "seconds": seconds, "dicom_ratio": own / bare}
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    sys.exit(own > MOST * bare)


if __name__ == "__main__":
    main()
