"""A thick DICOM series read plainly, and a thin one made of it by linear interpolation: no part under test here."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from thinslice.geometry import Geometry
from thinslice.io.dicom.derived.encoding import choose_encoding
from thinslice.io.dicom.derived.header import DerivedSeries
from thinslice.io.dicom.derived.single_frame import DicomSlabWriter
from thinslice.volume import Derivation, Provenance

WEIGHTS = "0123456789abcdef" * 4
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
DERIVATION = Derivation("thinnet", "1.0", WEIGHTS, 5, {"plan": "overlap", "profile_mm": 5.0})


@dataclass(frozen=True)
class Source:
    """A thick series: headers without pixels in depth order, HU (depth, height, width), its grid."""

    headers: tuple[Dataset, ...]
    hu: npt.NDArray[np.float64]
    geometry: Geometry
    files: tuple[Path, ...]

    def crop(self, start: int, stop: int) -> Source:
        grid = self.geometry.crop((start, 0, 0), (stop, *self.geometry.shape[1:]))
        return Source(self.headers[start:stop], self.hu[start:stop], grid, self.files[start:stop])


def read_source(files: Sequence[Path]) -> Source:
    """Read single-frame CT files of one regular series, in any order."""
    slices = [(pydicom.dcmread(path), path) for path in files]
    slices = [(dataset, path) for dataset, path in slices if "ImagePositionPatient" in dataset]
    cosines = np.array(slices[0][0].ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    slices.sort(key=lambda pair: float(np.dot(normal, np.array(pair[0].ImagePositionPatient, float))))
    datasets = [dataset for dataset, _ in slices]
    hu = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in datasets])
    positions = np.array([d.ImagePositionPatient for d in datasets], float)
    spacing_mm = float(np.linalg.norm(positions[-1] - positions[0])) / (len(positions) - 1)
    direction = np.stack([normal, cosines[3:], cosines[:3]], axis=1)
    grid = Geometry(
        hu.shape,
        (spacing_mm, *(float(s) for s in datasets[0].PixelSpacing)),
        tuple(positions[0]),
        tuple(tuple(row) for row in direction),
        float(datasets[0].SliceThickness),
    )
    headers = tuple(pydicom.dcmread(path, stop_before_pixels=True) for _, path in slices)
    return Source(headers, hu, grid, tuple(path for _, path in slices))


def provenance_of(source: Source, factor: int = 5, **changes: Any) -> Provenance:
    """Provenance of a thin volume made of `source`; changes are to the Derivation, `padding_hu` apart."""
    padding_hu = changes.pop("padding_hu", None)
    derivation = replace(DERIVATION, factor=factor, **changes)
    return Provenance("dicom", headers=source.headers, derivation=derivation, padding_hu=padding_hu)


def interpolate(hu: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float32]:
    """((D - 1) * factor + 1, H, W): linear between thick slices, thick k on thin factor * k."""
    steps = np.arange((len(hu) - 1) * factor + 1)
    lower, share = steps // factor, (steps % factor / factor)[:, None, None]
    upper = np.minimum(lower + 1, len(hu) - 1)
    return (hu[lower] * (1 - share) + hu[upper] * share).astype(np.float32)


def write_derived(
    source: Source, folder: Path, factor: int = 5, *, slab: int = 3, overwrite: bool = False, **changes: Any
) -> tuple[npt.NDArray[np.float32], Geometry]:
    """Derive a thin series into `folder` in slabs; returns its HU before rounding, and its grid."""
    thin = interpolate(source.hu, factor)
    grid = source.geometry.thin_grid(factor)
    hu_range = changes.pop("hu_range", (float(thin.min()), float(thin.max())))
    provenance = provenance_of(source, factor, **changes)
    with DicomSlabWriter(folder, grid, provenance, hu_range=hu_range, overwrite=overwrite) as writer:
        for start in range(0, len(thin), slab):
            writer.write(thin[start : start + slab])
    return thin, grid


def read_derived(folder: Path) -> list[pydicom.FileDataset]:
    """The thin slices by file name."""
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def item(**values: object) -> Dataset:
    result = Dataset()
    for keyword, value in values.items():
        setattr(result, keyword, value)
    return result


def derive(source: Source, factor: int = 5, **changes: object) -> DerivedSeries:
    padding_hu = changes.get("padding_hu")
    return DerivedSeries(
        source.geometry.thin_grid(factor),
        provenance_of(source, factor, **changes),
        choose_encoding((-1024, 3071), padding_hu),  # type: ignore[arg-type]
        NOW,
    )


def edited(source: Source, **values: object) -> Source:
    """The source with the same change in every header; None deletes."""
    changed = []
    for header in source.headers:
        copy = deepcopy(header)
        for keyword, value in values.items():
            if value is None and keyword in copy:
                delattr(copy, keyword)
            elif value is not None:
                setattr(copy, keyword, value)
        changed.append(copy)
    return replace(source, headers=tuple(changed))
