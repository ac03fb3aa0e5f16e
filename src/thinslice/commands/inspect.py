"""Contents of a folder or file, and the series in it that can be upscaled, from headers and a few slices."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from thinslice.arguments import check_path
from thinslice.commands.neutral_names import neutral_place
from thinslice.errors import InputError, UnreadableError
from thinslice.geometry import orientation_name

if TYPE_CHECKING:
    from thinslice.geometry import Geometry
    from thinslice.io.dicom.series.report import SeriesReport
    from thinslice.plausibility import Plausibility

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Names of files that hold a volume, or its header."""

SAMPLED_SLICES = 3
"""Slices of each DICOM series whose values are examined: an upscaling refuses values that are certainly no HU."""

VOXEL_SUFFIXES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
"""Names of files that hold the voxels of a volume whose header lies beside them."""


@dataclass(frozen=True)
class SurveyedSeries:
    """One series, and whether it can be upscaled.

    Attributes:
        series_uid: UID of a DICOM series; None for other formats.
        kind: "CT", "CT localizer", "MR", "NIfTI" and so on.
        slices: number of slices.
        spacing_mm: (depth, height, width), None where unknown.
        thickness_mm: slice thickness; None where unknown.
        factor: factor for slices 1 mm apart; None when not eligible.
        reasons: sentences with the reasons against upscaling; empty when the series is eligible.
        warnings: sentences about anomalies.
        skipped: "name: reason" of files that were left out.
        file: the file's name without its folder; None for DICOM, whose series have a UID.
        number: place in the list, from 1; `--series` takes it.
        series_number: SeriesNumber of DICOM.
        description: SeriesDescription of DICOM without anything that may identify the patient.
        part: what distinguishes a part from others of its series, such as "ConvolutionKernel B30f"; "" for a whole one.
        kernel: ConvolutionKernel of DICOM.
        matrix: (height, width); None where unknown.
        orientation: "axial", "coronal", "sagittal" or "oblique"; None where unknown.
        path: folder or file, from the folder that was asked about; "." for that folder itself.
        source: `path` of a file that is not DICOM as the summary of a batch names it, where names that may be a
            patient's have stand-ins; None for DICOM.
        derived: whether thinslice made it; such a series is not taken unless it is named.
    """

    series_uid: str | None
    kind: str
    slices: int
    spacing_mm: tuple[float | None, float | None, float | None] | None
    thickness_mm: float | None
    factor: int | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    file: str | None = None
    number: int = 1
    series_number: int | None = None
    description: str = ""
    part: str = ""
    kernel: str = ""
    matrix: tuple[int, int] | None = None
    orientation: str | None = None
    path: str | None = None
    source: str | None = None
    derived: bool = False

    @property
    def eligible(self) -> bool:
        """Whether it can be upscaled."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """JSON values, as `thinslice inspect --json` prints them."""
        return {
            "number": self.number,
            "series_uid": self.series_uid,
            "series_number": self.series_number,
            "description": self.description,
            "part": self.part,
            "kernel": self.kernel,
            "matrix": None if self.matrix is None else list(self.matrix),
            "orientation": self.orientation,
            "kind": self.kind,
            "slices": self.slices,
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "thickness_mm": self.thickness_mm,
            "eligible": self.eligible,
            "reasons": list(self.reasons),
            "factor": self.factor,
            "warnings": list(self.warnings),
            "skipped": list(self.skipped),
            "file": self.file,
            "path": self.path,
            "source": self.source,
            "derived": self.derived,
        }


def survey(path: str | Path) -> list[SurveyedSeries]:
    """Every series found: those of DICOM in the order of the reader, which numbers them, then other volumes.

    Args:
        path: a folder (searched recursively), a file or an archive.

    Raises:
        UnreadableError: no file, or no readable one; check the path.
        MissingExtraError: NRRD or MetaImage without the itk extra.
        ArgumentTypeError: no path; give one.
    """
    from thinslice.io.files import sniff

    path = check_path("path", path, "one path of a folder, file or archive")
    if not path.exists():
        raise UnreadableError(f"There is nothing at {path.name!r}; check the path.")
    if path.is_dir():
        return _in_folder(path)
    if sniff(path) in ("dicom", "zip"):
        from thinslice.io.dicom.read import scan

        return [_surveyed(report, path) for report in scan(path, sampled_slices=SAMPLED_SLICES)]
    return [_surveyed_file(path, path, 1)]


def _in_folder(folder: Path) -> list[SurveyedSeries]:
    """The DICOM series of a folder, then the NIfTI, NRRD and MetaImage files in it."""
    from thinslice.io.dicom.read import scan

    files = _volume_files(folder)
    try:
        reports = scan(folder, sampled_slices=SAMPLED_SLICES)
    except UnreadableError:
        if not files:
            raise
        reports = []
    found = [_surveyed(report, folder) for report in reports]
    found += [_surveyed_file(file, folder, number) for number, file in enumerate(files, start=len(found) + 1)]
    # A volume that is listed was not left out, nor were its voxels beside the header.
    listed = {file.name for file in files} | {file.with_suffix(s).name for file in files for s in VOXEL_SUFFIXES}
    return [
        replace(series, skipped=tuple(line for line in series.skipped if line.rpartition(": ")[0] not in listed))
        for series in found
    ]


def _volume_files(folder: Path) -> list[Path]:
    """Files of a folder and those below it whose name is that of a volume, in order; of a pair its header."""
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(place, name) for name in sorted(names) if name.lower().endswith(VOLUME_SUFFIXES)]
    return found


def verdict_on(report: SeriesReport) -> tuple[int | None, tuple[str, ...], tuple[str, ...]]:
    """Factor to reach 1 mm, None where a series cannot be upscaled; all reasons against it; warnings."""
    factor: int | None = None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    if report.geometry is not None and not report.reasons:
        factor, reasons, warnings = _verdict(report.geometry, report.values)
    return factor, (*report.reasons, *reasons), (*report.warnings, *warnings)


def _surveyed(report: SeriesReport, root: Path) -> SurveyedSeries:
    factor, reasons, warnings = verdict_on(report)
    return SurveyedSeries(
        series_uid=report.series_uid,
        kind=report.kind,
        slices=report.slices,
        spacing_mm=report.spacing_mm,
        thickness_mm=report.thickness_mm,
        factor=factor,
        reasons=reasons,
        warnings=warnings,
        skipped=report.skipped,
        number=report.number,
        series_number=report.series_number,
        description=report.description,
        part=report.part,
        kernel=report.kernel,
        matrix=report.matrix,
        orientation=report.orientation,
        path=_relative(report.folder, root),
        derived=report.derived,
    )


def _surveyed_file(path: Path, root: Path, number: int) -> SurveyedSeries:
    from thinslice.io.files import read, sniff
    from thinslice.io.nifti import examine_nifti, scan_nifti
    from thinslice.plausibility import examine

    place = path.name if path == root else path.relative_to(root).as_posix()
    source = neutral_place(PurePosixPath(place)).as_posix()
    try:
        kind = {"nifti": "NIfTI", "nrrd": "NRRD", "metaimage": "MetaImage"}.get(sniff(path))
        if kind is None:
            raise UnreadableError(f"{path.name!r} is not what its name says; check where it came from.")
        if kind == "NIfTI":
            geometry, provenance = scan_nifti(path)
            values = examine_nifti(path)
        else:
            volume = read(path)
            geometry, provenance = volume.geometry, volume.provenance
            values = examine(volume.hu, padding=provenance.padding_hu)
    except InputError as error:
        reasons: tuple[str, ...] = (str(error),)
        return SurveyedSeries(
            None, "unreadable", 0, None, None, None, reasons, file=path.name, number=number, path=place, source=source
        )
    ambiguous = bool(provenance.details.get("axis_ambiguous"))
    factor, reasons, warnings = _verdict(geometry, values, ambiguous=ambiguous)
    return SurveyedSeries(
        series_uid=None,
        kind=kind,
        slices=geometry.shape[0],
        spacing_mm=geometry.spacing_mm,
        thickness_mm=geometry.thickness_mm,
        factor=factor,
        reasons=reasons,
        warnings=(*provenance.warnings, *warnings),
        file=path.name,
        number=number,
        matrix=geometry.shape[1:],
        orientation=orientation_name(tuple(geometry.normal.tolist())),
        path=place,
        source=source,
    )


def _relative(path: Path | None, root: Path) -> str | None:
    if path is None:
        return None
    if path == root:
        return path.name if path.is_file() else "."
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.name


def _verdict(
    geometry: Geometry, values: Plausibility | None, *, ambiguous: bool = False
) -> tuple[int | None, tuple[str, ...], tuple[str, ...]]:
    """Factor, reasons against it and warnings, as an upscaling with default options would have them."""
    from thinslice.planning import eligibility

    verdict = eligibility(geometry, axis_ambiguous=ambiguous)
    sentence = None if values is None else values.sentence()
    if values is None or sentence is None:
        return verdict.factor, verdict.reasons, ()
    if values.is_refused:
        return None, (*verdict.reasons, sentence), ()
    return verdict.factor, verdict.reasons, (sentence,)
