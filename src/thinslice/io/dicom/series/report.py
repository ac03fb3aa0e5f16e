"""Reports on series for lists and messages: what there is, and why a series cannot be read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thinslice.errors import GeometryError, InputError, UnreadableError
from thinslice.geometry import Geometry
from thinslice.io.dicom.files.input_files import SkippedFile
from thinslice.io.dicom.files.values import integer
from thinslice.io.dicom.series.facts import description_of, is_our_own, shown_text
from thinslice.io.dicom.series.slices import orientation_of
from thinslice.io.dicom.series.stacks import Stack
from thinslice.plausibility import Plausibility

SHOWN_NAMES = 5
"""Skipped files named in a warning; the others are counted."""


@dataclass(frozen=True)
class SeriesReport:
    """Report of `scan` on one series, or on one part of a series that cannot be one volume.

    Attributes:
        series_uid: the name by which `read_dicom` chooses it; "UID#2" for a further part of a series.
        kind: "CT", "CT localizer", "secondary capture", "MR", ...
        slices: files, or frames.
        spacing_mm: (depth, height, width), or None where unknown.
        thickness_mm: slice thickness, or None where unknown or mixed.
        geometry: the grid, or None when it cannot be read.
        reasons: sentences why it cannot be read; empty if it can.
        warnings: sentences about oddities.
        skipped: "name: reason" of files of the input that were left out.
        number: its place in the list of `scan`, from 1; it chooses the series too.
        series_number: SeriesNumber, or None.
        description: SeriesDescription without anything that may identify the patient.
        part: what distinguishes it from other parts of its series, such as "ConvolutionKernel B30f"; "" for a whole.
        kernel: ConvolutionKernel.
        matrix: (height, width), or None where unknown.
        orientation: "axial", "coronal", "sagittal" or "oblique"; None where unknown.
        folder: the folder that holds its files, or the file or archive itself when it is one.
        derived: whether thinslice made it.
        values: what its values look like, where `scan` examined them.
    """

    series_uid: str
    kind: str
    slices: int
    spacing_mm: tuple[float, float | None, float | None] | None
    thickness_mm: float | None
    geometry: Geometry | None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    number: int = 1
    series_number: int | None = None
    description: str = ""
    part: str = ""
    kernel: str = ""
    matrix: tuple[int, int] | None = None
    orientation: str | None = None
    folder: Path | None = field(default=None, repr=False)
    derived: bool = False
    values: Plausibility | None = field(default=None, repr=False)


def report_of(found: Stack, number: int, skipped: Sequence[SkippedFile]) -> SeriesReport:
    """The report on a stack.

    Args:
        found: the stack.
        number: its place in the list, from 1.
        skipped: files of the whole input that were left out.
    """
    stacking = found.stacking
    geometry = stacking.geometry if stacking and not found.faults else None
    spacing: tuple[float, float | None, float | None] | None = geometry.spacing_mm if geometry else None
    if spacing is None and stacking and stacking.spacing_mm:
        spacing = (stacking.spacing_mm, *stacking.in_plane_mm)
    first = found.slices[0]
    dataset = first.header.dataset
    rows, columns = first.matrix
    return SeriesReport(
        series_uid=found.uid,
        kind=found.kind,
        slices=len(found.slices),
        spacing_mm=spacing,
        thickness_mm=stacking.thickness_mm if stacking else None,
        geometry=geometry,
        reasons=tuple(found.faults),
        warnings=((f"Part of a series: {found.part}.",) if found.part else ()) + tuple(found.warnings),
        skipped=tuple(str(file) for file in [*found.skipped, *skipped]),
        number=number,
        series_number=integer(dataset, "SeriesNumber"),
        description=description_of(dataset),
        part=found.label,
        kernel=shown_text(dataset, "ConvolutionKernel"),
        matrix=None if rows is None or columns is None else (rows, columns),
        orientation=orientation_of(first),
        folder=_common_path(found),
        derived=is_our_own(dataset),
    )


def _common_path(found: Stack) -> Path:
    paths = {piece.header.file.path for piece in found.slices}
    if len(paths) == 1:
        return next(iter(paths))
    return Path(os.path.commonpath([path.parent for path in paths]))


def listed(skipped: Sequence[SkippedFile]) -> str:
    """Skipped files with their reasons, the first few by name."""
    shown = "; ".join(str(file) for file in skipped[:SHOWN_NAMES])
    return shown + (f"; and {len(skipped) - SHOWN_NAMES} more" if len(skipped) > SHOWN_NAMES else "")


def refusal(found: Stack, skipped: Sequence[SkippedFile]) -> InputError:
    """The error that refuses a stack, with the files of the input that may belong to it."""
    message = " ".join(found.faults)
    gap = any("missing" in fault or "changes" in fault or "gap" in fault for fault in found.faults)
    # Where slices are missing, a file that is no DICOM may stand in the place of one.
    losses = [*found.skipped, *(file for file in skipped if file.may_be_slice or gap)]
    if losses:
        message += f" Skipped: {listed(losses)}."
    if found.stacking is not None or (found.kind == "CT" and "ImagePositionPatient" in message):
        return GeometryError(message)
    return UnreadableError(message) if found.positions else InputError(message)
