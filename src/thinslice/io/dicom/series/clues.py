"""What distinguishes the slices of one series: attributes, clocks and their order, as one text for each slice.

Files that share a SeriesInstanceUID need not be one scan. Three kinds of attributes are distinguished here:

- `SAME_PATIENT` and `SAME_SCAN` must agree, or the series is refused.
- `CONTENT` (kernel, kVp, phase, energy) divides a series wherever it differs.
- `PASSES` (acquisition, time) and `SETTINGS` also change inside an ordinary scan, slice by slice or rotation by
  rotation. They divide a series only where that explains the positions (`thinslice.io.dicom.series.parts`).
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from thinslice.io.dicom.files.object_kinds import image_type
from thinslice.io.dicom.files.values import is_shared, number, text
from thinslice.io.dicom.series.slices import Slice, by_position

SAME_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID")
"""Attributes that all images of one series share."""

SAME_SCAN = (
    "FrameOfReferenceUID",
    "PatientPosition",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "DeviceSerialNumber",
)
"""Attributes that all slices of one volume share."""

CONTENT = (
    "ConvolutionKernel",
    "KVP",
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "StackID",
    "ImageType",
)
"""Attributes of what a slice shows; never two values in one volume."""

PASSES = (
    "AcquisitionNumber",
    "AcquisitionUID",
    "IrradiationEventUID",
    "MultienergyCTAcquisitionSequence",
    "MultienergyCTProcessingSequence",
    "MultienergyCTCharacteristicsSequence",
    "SeriesDescription",
    "ProtocolName",
    "ImageComments",
    "DerivationDescription",
    "ContrastBolusAgent",
    "ContrastBolusStartTime",
    "AcquisitionDate",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "FrameReferenceTime",
    "SeriesDate",
    "SeriesTime",
    "ContentDate",
    "ContentTime",
)
"""Attributes of one pass of the scanner, which may also change inside one; the most specific ones come first."""

SETTINGS = (
    "FilterType",
    "ScanOptions",
    "ReconstructionAlgorithm",
    "ReconstructionDiameter",
    "DataCollectionDiameter",
    "SliceThickness",
)
"""Attributes that a scanner may change from one part of the body to the next, in one pass. Tube current and
exposure are not among them: they may alternate from slice to slice."""

ENCODING = ("RescaleSlope", "RescaleIntercept", "PixelRepresentation")
"""Attributes of how HU are stored, which may change with every slice of one scan: they tell copies of one position
apart, and nothing else."""

PHASE_KEYWORDS = (*CONTENT, *PASSES, *SETTINGS, *ENCODING)
"""Attributes that distinguish phases or reconstructions when one series holds a position several times."""

WRITING_TIMES = ("ContentDate", "ContentTime")
"""Times at which images were written: workers that share the slices of one scan write them alternately."""

CLOCKS = ("AcquisitionDateTime", "AcquisitionTime", "ContentTime", "TriggerTime", "FrameReferenceTime")
"""Times that differ for every slice of a scan, and by more between two scans."""

SHOWN = (
    *CONTENT,
    "AcquisitionNumber",
    "FilterType",
    "ReconstructionDiameter",
    "SliceThickness",
    "TriggerTime",
)
"""Attributes whose values identify nobody."""

TELLING_IMAGE_TYPES = frozenset(
    {"ORIGINAL", "DERIVED", "VMI", "MONO", "MONOENERGETIC", "IODINE", "WATER", "CALCIUM", "VNC"}
)
"""Values of ImageType that state what a slice shows, beside those with a number (80 kV, 40 keV); others, such as ADD,
change inside one scan."""

HEARTBEAT_CLOCKS = ("TriggerTime", "FrameReferenceTime")
"""Clocks in milliseconds, which begin anew with every heartbeat or scan."""

SCANNING_CLOCKS = ("AcquisitionDateTime", "AcquisitionTime", "TriggerTime", "FrameReferenceTime")
"""Times of the scan itself; copies of one slice share them."""

ROUNDING_SHARE = 1e-3
"""Settings that differ by no more than this share are one, which a writer rounded (4.9995 and 5 mm)."""

PAUSE_S = 1.0
"""Shortest pause between two scans, in seconds."""

PHASE_PAUSE_S = 0.02
"""Shortest distance in seconds of two cardiac phases: 2 % of a slow heartbeat."""

PAUSE_RATIO = 5.0
"""Smallest ratio of a pause between two scans to the usual step of the clock."""


def disagreement(slices: Sequence[Slice], keywords: Sequence[str]) -> list[str]:
    """The attributes of `keywords` that have two values or more; empty values count as none."""
    datasets = [piece.header.dataset for piece in slices]
    return [
        keyword
        for keyword in keywords
        if not is_shared(datasets, keyword)
        and len({identity for piece in slices if (identity := _identity(piece, keyword))}) > 1
    ]


def partly_missing(slices: Sequence[Slice], keywords: Sequence[str]) -> list[str]:
    """The attributes of `keywords` that some slices have and others lack."""
    found = []
    datasets = [piece.header.dataset for piece in slices]
    for keyword in keywords:
        if is_shared(datasets, keyword):
            continue
        known = sum(bool(_identity(piece, keyword)) for piece in slices)
        if 0 < known < len(slices):
            found.append(keyword)
    return found


def values_of(slices: Sequence[Slice], keyword: str) -> list[str]:
    """One text for each slice, equal where the attribute means the same."""
    datasets = [piece.header.dataset for piece in slices]
    if is_shared(datasets, keyword):
        return [_value(datasets[0], keyword)] * len(datasets)
    values = [_value(dataset, keyword) for dataset in datasets]
    if keyword in SETTINGS and len(set(values)) > 1:
        merged = _within_rounding(set(values))
        values = [merged.get(value, value) for value in values]
    return values


def _within_rounding(values: set[str]) -> dict[str, str]:
    """For each number among some values the smallest one that it equals within `ROUNDING_SHARE`, link by link."""
    numbers = sorted((float(value), value) for value in values if value.replace(".", "", 1).isdigit())
    merged: dict[str, str] = {}
    for (before, one), (here, other) in pairwise(numbers):
        is_same = here - before <= ROUNDING_SHARE * here
        merged[other] = merged.get(one, one) if is_same else other
    return merged


def _value(dataset: Dataset, keyword: str) -> str:
    if keyword not in dataset:
        return ""
    if keyword == "ImageType":
        words = image_type(dataset)
        return "\\".join(word for word in words if word in TELLING_IMAGE_TYPES or any(map(str.isdigit, word)))
    if keyword.endswith("Sequence"):
        return hashlib.sha256(str(dataset[keyword].value).encode()).hexdigest()
    value = number(dataset, keyword) if _is_number(keyword) else None
    return text(dataset, keyword).casefold() if value is None else f"{value:.6g}"


@cache
def _is_number(keyword: str) -> bool:
    return dictionary_VR(keyword) in ("DS", "IS", "FD", "FL", "US", "UL")


def _identity(piece: Slice, keyword: str) -> str:
    """An identifying value as it is compared: letters' case, padding and empty parts of a name do not count."""
    return " ".join(text(piece.header.dataset, keyword).casefold().replace("^", " ").split())


def pauses_before(slices: Sequence[Slice], keyword: str) -> list[str]:
    """For each slice the number of pauses of a clock before it; all alike where it is missing or never pauses."""
    times = [_seconds(text(piece.header.dataset, keyword), keyword) for piece in slices]
    known = sorted(time for time in times if time is not None)
    if len(known) < len(times) or len(known) < 2:
        return [""] * len(times)
    steps = [b - a for a, b in pairwise(known)]
    shortest_s = PHASE_PAUSE_S if keyword in HEARTBEAT_CLOCKS else PAUSE_S
    limit = max(shortest_s, PAUSE_RATIO * statistics.median(steps))
    starts = [b for a, b in pairwise(known) if b - a > limit]
    return [str(sum(time >= start for start in starts)) for time in times if time is not None]


def _seconds(value: str, keyword: str) -> float | None:
    """A clock's value in seconds: hhmmss.ffffff, yyyymmddhhmmss.ffffff, or milliseconds."""
    digits, _, fraction = value.split("+")[0].split("-")[0].partition(".")
    if keyword in HEARTBEAT_CLOCKS:
        return float(value) / 1000 if value.replace(".", "", 1).isdigit() else None
    if not digits.isdigit() or len(digits) not in (6, 14):
        return None
    day, clock = digits[:-6], digits[-6:]
    seconds = int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:])
    return int(day or 0) * 86400.0 + seconds + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)


def passes_of(slices: Sequence[Slice]) -> list[str]:
    """For each slice the pass that it belongs to: InstanceNumber runs along the normal, then begins anew."""
    numbers = [piece.instance for piece in slices]
    if None in numbers or len(set(numbers)) < len(numbers):
        return [""] * len(slices)
    order = sorted(range(len(slices)), key=lambda k: numbers[k] or 0)
    steps = [slices[b].height_mm - slices[a].height_mm for a, b in pairwise(order)]
    upwards = sum(step > 0 for step in steps) * 2 >= len(steps)
    passes, current = [""] * len(slices), 0
    passes[order[0]] = "0"
    for k, step in zip(order[1:], steps, strict=True):
        current += (step > 0) != upwards
        passes[k] = str(current)
    return passes


def turns_at(slices: Sequence[Slice], keyword: str) -> list[str]:
    """For each slice its turn in time among those at its position: the phase of a scan that ends one position first.

    All alike where positions have different numbers of slices, or slices of one position share a time.
    """
    times = {id(piece): _seconds(text(piece.header.dataset, keyword), keyword) for piece in slices}
    positions = by_position(slices)
    turns: dict[int, int] = {}
    for copies in positions:
        known = [time for piece in copies if (time := times[id(piece)]) is not None]
        if len(copies) != len(positions[0]) or len(set(known)) < len(copies):
            return [""] * len(slices)
        for turn, piece in enumerate(sorted(copies, key=lambda piece: times[id(piece)] or 0.0)):
            turns[id(piece)] = turn
    return [str(turns[id(piece)]) for piece in slices]
