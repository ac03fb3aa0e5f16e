"""Contents of a folder or file, and the series in it that can be upscaled; from headers alone where possible."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.errors import InputError, UnreadableError

if TYPE_CHECKING:
    from thinslice.geometry import Geometry
    from thinslice.io.dicom.read import SeriesReport


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

    @property
    def eligible(self) -> bool:
        """Whether it can be upscaled."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """JSON values, as `thinslice inspect --json` prints them."""
        return {
            "series_uid": self.series_uid,
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
        }


def survey(path: str | Path) -> list[SurveyedSeries]:
    """Every series found, CT first as the reader lists them.

    Args:
        path: a folder, a file or a zip.

    Raises:
        UnreadableError: no file, or no readable one; check the path.
        MissingExtraError: NRRD or MetaImage without the itk extra.
    """
    from thinslice.io.files import sniff

    path = Path(path)
    if not path.exists():
        raise UnreadableError(f"There is nothing at {path.name!r}; check the path.")
    if path.is_dir():
        return _in_folder(path)
    if sniff(path) in ("dicom", "zip"):
        from thinslice.io.dicom.read import scan

        return [_surveyed(report) for report in scan(path)]
    return [_surveyed_file(path)]


def _in_folder(folder: Path) -> list[SurveyedSeries]:
    """The DICOM series of a folder, then the NIfTI files that lie in it."""
    from thinslice.io.dicom.read import scan

    files = sorted(entry for entry in folder.iterdir() if entry.name.lower().endswith((".nii", ".nii.gz")))
    try:
        reports = scan(folder)
    except UnreadableError:
        if not files:
            raise
        reports = []
    return [*map(_surveyed, reports), *map(_surveyed_file, files)]


def _surveyed(report: SeriesReport) -> SurveyedSeries:
    factor, reasons = _verdict(report.geometry) if report.geometry is not None and not report.reasons else (None, ())
    return SurveyedSeries(
        series_uid=report.series_uid,
        kind=report.kind,
        slices=report.slices,
        spacing_mm=report.spacing_mm,
        thickness_mm=report.thickness_mm,
        factor=factor,
        reasons=(*report.reasons, *reasons),
        warnings=report.warnings,
        skipped=report.skipped,
    )


def _surveyed_file(path: Path) -> SurveyedSeries:
    from thinslice.io.files import read, sniff
    from thinslice.io.nifti import scan_nifti

    try:
        kind = {"nifti": "NIfTI", "nrrd": "NRRD", "metaimage": "MetaImage"}[sniff(path)]
        if kind == "NIfTI":
            geometry, provenance = scan_nifti(path)
        else:
            volume = read(path)
            geometry, provenance = volume.geometry, volume.provenance
    except InputError as error:
        return SurveyedSeries(None, "unreadable", 0, None, None, None, (str(error),), file=path.name)
    factor, reasons = _verdict(geometry, ambiguous=bool(provenance.details.get("axis_ambiguous")))
    return SurveyedSeries(
        series_uid=None,
        kind=kind,
        slices=geometry.shape[0],
        spacing_mm=geometry.spacing_mm,
        thickness_mm=geometry.thickness_mm,
        factor=factor,
        reasons=reasons,
        warnings=provenance.warnings,
        file=path.name,
    )


def _verdict(geometry: Geometry, *, ambiguous: bool = False) -> tuple[int | None, tuple[str, ...]]:
    from thinslice.planning import eligibility

    verdict = eligibility(geometry, axis_ambiguous=ambiguous)
    return verdict.factor, verdict.reasons
