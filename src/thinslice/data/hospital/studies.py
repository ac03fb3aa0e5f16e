"""Studies in a folder of hospital DICOM, and their series that may be one half of a pair."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from thinslice.data.hospital.deidentify import is_soft, kernel_family, kernel_name, maker, without_names
from thinslice.errors import UnreadableError
from thinslice.geometry import Geometry
from thinslice.io.dicom.files.header import SliceHeader, quiet_pydicom, read_header
from thinslice.io.dicom.files.input_files import InputFile, SkippedFile, input_files
from thinslice.io.dicom.files.object_kinds import image_type
from thinslice.io.dicom.files.values import integer, text
from thinslice.io.dicom.series.stacks import Stack, stacks_of
from thinslice.typing import Progress

MOST_FILES = 5_000_000
"""Largest number of files in a hospital folder: some thousand patients."""

LEAST_SLICES = 4
"""Least number of slices of a scan; fewer are a localizer, a bolus tracker or a biopsy."""

PROJECTIONS = frozenset(
    {"MIP", "MINIP", "MPR", "REFORMATTED", "PROJECTION IMAGE", "AVERAGE", "VRT", "SSD", "SCREEN SAVE"}
)
"""Words of ImageType for images that were computed from slices."""


@dataclass
class Study:
    """The files of one study.

    Attributes:
        uid: StudyInstanceUID; "" where missing.
        patient: PatientID; "" where missing.
        files: sources of its DICOM objects.
    """

    uid: str
    patient: str
    files: list[InputFile] = field(default_factory=list)


@dataclass(frozen=True)
class Candidate:
    """A readable CT series that may be the thick or the thin half of a pair.

    Attributes:
        stack: slices of the series.
        number: SeriesNumber, or None.
        geometry: grid of the series.
        frame: FrameOfReferenceUID; "" where missing.
        exposures: IrradiationEventUIDs.
        acquisitions: AcquisitionNumbers.
        times_s: first and last time of acquisition, seconds on one clock; None where unknown.
        kernel: result of `kernel_name`.
        family: result of `kernel_family`.
        maker: result of `maker`.
    """

    stack: Stack
    number: int | None
    geometry: Geometry
    frame: str
    exposures: frozenset[str]
    acquisitions: frozenset[str]
    times_s: tuple[float, float] | None
    kernel: str
    family: str
    maker: str

    @property
    def spacing_mm(self) -> float:
        """Distance of the slices."""
        return self.geometry.spacing_mm[0]

    @property
    def soft(self) -> bool:
        """Whether the kernel is for soft tissue."""
        return is_soft(self.maker, self.kernel)

    def __str__(self) -> str:
        number = "series" if self.number is None else f"series {self.number}"
        return (
            f"{number} ({self.geometry.shape[0]} x {self.spacing_mm:.4g} mm{', ' if self.kernel else ''}{self.kernel})"
        )


@dataclass(frozen=True)
class Unfit:
    """A series that cannot be in a pair.

    Attributes:
        uid: identifier of the series, as in the reader.
        name: number and kind of the series, for messages.
        reason: reason, as a sentence without facts about the patient.
        is_ct: whether it is a CT series.
    """

    uid: str
    name: str
    reason: str
    is_ct: bool


def find_studies(folder: Path, progress: Progress | None = None) -> tuple[list[Study], dict[str, int]]:
    """The studies of a folder or zip; headers are read and not kept.

    Args:
        folder: folder that is searched recursively, or zip.
        progress: called with (files read, files in all).

    Returns:
        Studies in the order found, and the number of skipped files by reason.

    Raises:
        UnreadableError: there is no DICOM object; check the path.
    """
    found = list(input_files(folder, most=MOST_FILES))
    studies: dict[tuple[str, str], Study] = {}
    left_out: dict[str, int] = {}
    with quiet_pydicom():
        for number, file in enumerate(found, start=1):
            header = read_header(file)
            if isinstance(header, SkippedFile):
                left_out[header.reason] = left_out.get(header.reason, 0) + 1
            elif header is not None:
                uid, patient = text(header.dataset, "StudyInstanceUID"), text(header.dataset, "PatientID")
                # Two patients under one study are an error of the source: they stay separate.
                studies.setdefault((uid, patient.casefold()), Study(uid, patient)).files.append(file)
            if progress is not None:
                progress(number, len(found))
    if not studies:
        raise UnreadableError(f"No DICOM object among {len(found)} file(s); name the folder of the studies.")
    return list(studies.values()), left_out


def candidates(study: Study) -> tuple[list[Candidate], list[Unfit]]:
    """The series of a study that may be in a pair, and the others with reasons."""
    with quiet_pydicom():
        read = [read_header(file) for file in study.files]
        stacks = stacks_of((header for header in read if isinstance(header, SliceHeader)), [])
        fit: list[Candidate] = []
        unfit: list[Unfit] = []
        for stack in stacks:
            reason = _reason(stack)
            candidate = None if reason else _candidate(stack)
            if candidate is not None:
                fit.append(candidate)
            else:
                names = (piece.header.file.name for piece in stack.slices)
                unfit.append(Unfit(stack.uid, _name(stack), without_names(reason, names), stack.kind == "CT"))
    return fit, unfit


def _name(stack: Stack) -> str:
    number = integer(stack.slices[0].header.dataset, "SeriesNumber")
    return f"{'series' if number is None else f'series {number}'} ({len(stack.slices)} x {stack.kind})"


def _reason(stack: Stack) -> str:
    """The reason why a stack is no candidate; "" for a candidate."""
    if stack.kind != "CT":
        return f"It is no series of CT slices ({stack.kind})."
    datasets = [piece.header.dataset for piece in stack.slices]
    if any(text(dataset, "BurnedInAnnotation").upper() == "YES" for dataset in datasets):
        return "BurnedInAnnotation marks text in the image, which may name the patient."
    types = {word for dataset in datasets for word in image_type(dataset)}
    if {"DERIVED", "SECONDARY"} & types or PROJECTIONS & types:
        return "By ImageType its slices were computed from others (derived); only the scanner's own are taken."
    if stack.faults:
        return " ".join(stack.faults)
    if stack.stray:
        return "It is a small part beside the main part of its series."
    if len(stack.positions) < LEAST_SLICES:
        return f"It has {len(stack.positions)} slices; at least {LEAST_SLICES} are needed."
    if any(text(dataset, "LossyImageCompression") == "01" for dataset in datasets):
        return "It was compressed with loss, so its HU are not the scanner's."
    geometry = stack.stacking.geometry if stack.stacking else None
    if geometry is None or None in geometry.spacing_mm:
        return "PixelSpacing is missing."
    for keyword in ("FrameOfReferenceUID", "ConvolutionKernel", "Manufacturer"):
        if len({text(dataset, keyword) for dataset in datasets}) > 1:
            return f"Its slices differ in {keyword}."
    return ""


def _candidate(stack: Stack) -> Candidate | None:
    geometry = stack.stacking.geometry if stack.stacking else None
    if geometry is None:
        return None
    datasets = [copies[0].header.dataset for copies in stack.positions]
    first = datasets[0]
    made_by = maker(text(first, "Manufacturer"))
    kernel = kernel_name(text(first, "ConvolutionKernel"))
    moments = [_moment_s(*(text(d, f"Acquisition{part}") for part in ("DateTime", "Date", "Time"))) for d in datasets]
    known = [moment for moment in moments if moment is not None]
    return Candidate(
        stack=stack,
        number=integer(first, "SeriesNumber"),
        geometry=geometry,
        frame=text(first, "FrameOfReferenceUID"),
        exposures=_values(text(dataset, "IrradiationEventUID") for dataset in datasets),
        acquisitions=_values(text(dataset, "AcquisitionNumber") for dataset in datasets),
        times_s=(min(known), max(known)) if known else None,
        kernel=kernel,
        family=kernel_family(made_by, kernel),
        maker=made_by,
    )


def _values(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(value for value in texts if value)


def _moment_s(date_time: str, date: str, time: str) -> float | None:
    """A DICOM date and time in seconds on one clock; None without a time.

    >>> _moment_s("", "20200101", "000010.5") - _moment_s("20191231235959", "", "")
    11.5
    """
    stamp = re.match(r"(\d{8})(\d{6})(\.\d+)?", date_time)
    if stamp is None:
        if not re.fullmatch(r"\d{8}", date):
            date = "19000101"
        stamp = re.match(r"(\d{8})(\d{6})(\.\d+)?", date + time.replace(":", ""))
    if stamp is None:
        return None
    try:
        moment = datetime.strptime(stamp[1] + stamp[2], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return (moment - datetime(1900, 1, 1)).total_seconds() + float(stamp[3] or 0)
