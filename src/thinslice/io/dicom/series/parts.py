"""Parts of one series: images of two patients or frames, which are refused, and scans that are separated.

Files that share a SeriesInstanceUID need not be one scan. Three kinds of attributes are distinguished here:

- `SAME_PATIENT` and `SAME_SCAN` must agree, or the series is refused.
- `CONTENT` (kernel, kVp, phase, energy) divides a series wherever it differs.
- `PASSES` (acquisition, time) and `SETTINGS` also change inside an ordinary scan, slice by slice or rotation by
  rotation. They divide a series only where that explains the positions: each value is an even stack of its own, and the
  stacks lie between one another, repeat positions, or, for `PASSES`, have different grids.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from thinslice.io.dicom.files.header import integer, number, text
from thinslice.io.dicom.files.input_files import printable
from thinslice.io.dicom.files.object_kinds import image_type
from thinslice.io.dicom.series.even_line import even_step_mm
from thinslice.io.dicom.series.slices import Slice, by_position, difference
from thinslice.io.dicom.series.stacking import RELATIVE_TOLERANCE, along_normal

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

MOST_PARTS = 64
"""Largest number of parts; a 4D scan has 10 to 20 phases."""

HEARTBEAT_CLOCKS = ("TriggerTime", "FrameReferenceTime")
"""Clocks in milliseconds, which begin anew with every heartbeat or scan."""

PAUSE_S = 1.0
"""Shortest pause between two scans, in seconds."""

PHASE_PAUSE_S = 0.02
"""Shortest distance in seconds of two cardiac phases: 2 % of a slow heartbeat."""

PAUSE_RATIO = 5.0
"""Smallest ratio of a pause between two scans to the usual step of the clock."""

LEAST_OF_A_PASS = 3
"""Fewest slices of a pass that lies beside another one, for it to be a scan of its own."""

MOST_PASSES = 4
"""Largest number of passes beside one another; more are rotations of one scan."""


@dataclass(frozen=True)
class Part:
    """Slices of one series that may make one volume.

    Attributes:
        slices: at least one.
        why: the reason why the series was divided; "" for a whole series.
        label: what distinguishes the part, such as "ConvolutionKernel B30f"; "" for a whole series.
    """

    slices: list[Slice]
    why: str = ""
    label: str = ""


def disagreement(slices: Sequence[Slice], keywords: Sequence[str]) -> list[str]:
    """The attributes of `keywords` that have two values or more; empty values count as none."""
    return [
        keyword
        for keyword in keywords
        if len({identity for piece in slices if (identity := _identity(piece, keyword))}) > 1
    ]


def partly_missing(slices: Sequence[Slice], keywords: Sequence[str]) -> list[str]:
    """The attributes of `keywords` that some slices have and others lack."""
    found = []
    for keyword in keywords:
        known = sum(bool(_identity(piece, keyword)) for piece in slices)
        if 0 < known < len(slices):
            found.append(keyword)
    return found


def not_together(keywords: Sequence[str]) -> str:
    """The sentence that refuses slices which differ in these attributes."""
    listed = " and ".join([", ".join(keywords[:-1]), keywords[-1]] if len(keywords) > 1 else keywords)
    return (
        f"The slices of this series do not belong together: {listed} {'differ' if len(keywords) > 1 else 'differs'} "
        "between them; give the slices that agree in a folder of their own, or export the series again."
    )


def divide(slices: Sequence[Slice]) -> list[Part]:
    """CT images of one series, divided into parts that may be one volume each."""
    groups: list[list[Slice]] = []
    for piece in slices:
        for group in groups:
            if not difference(group[0], piece):
                group.append(piece)
                break
        else:
            groups.append([piece])
    parts: list[Part] = []
    for group in groups:
        whole = Part(_levelled(group))
        # Slices of two frames or scanners are refused, not separated by other attributes.
        parts += [whole] if disagreement(group, SAME_SCAN) else _by_content(whole)
    return parts


def _levelled(group: list[Slice]) -> list[Slice]:
    """Slices with heights along one normal: cosines that differ by rounding would shift heights far from the origin."""
    plane = group[0].plane
    if (
        plane is None
        or len({piece.plane.row_cosines + piece.plane.column_cosines for piece in group if piece.plane}) == 1
    ):
        return group
    return [
        replace(piece, height_mm=along_normal(replace(plane, position_mm=piece.plane.position_mm)))
        for piece in group
        if piece.plane is not None
    ]


def _by_content(whole: Part) -> list[Part]:
    for keyword in CONTENT:
        values = _values(whole.slices, keyword)
        known = {value for value in values if value}
        if len(known) > 1:
            repeats = _repeats(whole.slices)
            parts = _parts_by(whole, keyword, values, _reason(keyword, repeats, f"its slices differ in {keyword}"))
            return [smaller for part in parts for smaller in _by_content(part)]
    return _by_progress(whole)


def _by_progress(whole: Part) -> list[Part]:
    """A part divided by the first attribute that explains its positions; the part itself where none does."""
    slices = sorted(whole.slices, key=lambda piece: piece.height_mm)
    if len(slices) < 4 or slices[0].plane is None:
        return [whole]
    positions = by_position(slices)
    repeats = len(slices) - len(positions)
    even = not repeats and even_step_mm([copies[0].height_mm for copies in positions]) is not None
    for keyword, values in _attempts(slices, even=even):
        groups: dict[str, list[Slice]] = {}
        for piece, value in zip(slices, values, strict=True):
            groups.setdefault(value, []).append(piece)
        parts = list(groups.values())
        if not 2 <= len(parts) <= MOST_PARTS:
            continue
        if even:
            explained = _are_interleaved(parts, positions)
        elif repeats:
            explained = _are_phases(parts, positions) or _are_passes(parts)
        else:
            explained = keyword not in (*SETTINGS, *ENCODING) and _are_passes(parts)
        if explained:
            otherwise = f"scans lie {'between' if even else 'over or beside'} one another, distinguished by {keyword}"
            divided = _parts_by(
                Part(slices, whole.why, whole.label), keyword, values, _reason(keyword, repeats, otherwise)
            )
            return [smaller for part in divided for smaller in _by_progress(part)]
    return [whole]


def _attempts(slices: Sequence[Slice], *, even: bool) -> Iterator[tuple[str, list[str]]]:
    """Ways to tell slices apart, in depth order: (attribute, a value for each slice), the most telling first."""
    for keyword in PHASE_KEYWORDS:
        if even and keyword in ENCODING:
            continue
        # In an even stack of several, neighbours are of different ones, so that two slices mostly decide.
        if not even or len(set(_values(slices[:2], keyword))) > 1:
            yield keyword, _values(slices, keyword)
    for keyword in CLOCKS:
        yield keyword, _pauses(slices, keyword)
    yield "InstanceNumber", _passes(slices)


def _parts_by(whole: Part, keyword: str, values: Sequence[str], why: str) -> list[Part]:
    groups: dict[str, list[Slice]] = {}
    for piece, value in zip(whole.slices, values, strict=True):
        groups.setdefault(value, []).append(piece)
    parts = []
    for number_of_part, group in enumerate(groups.values(), start=1):
        shown = printable(text(group[0].header.dataset, keyword)) if keyword in SHOWN else f"no. {number_of_part}"
        label = f"{keyword} {shown or 'none'}"
        parts.append(Part(group, why, f"{whole.label}, {label}" if whole.label else label))
    return parts


def _reason(keyword: str, repeats: int, otherwise: str) -> str:
    if not repeats:
        return otherwise
    return f"positions occur more than once, distinguished by {keyword}: phases (4D) or reconstructions"


def _repeats(slices: Sequence[Slice]) -> int:
    return 0 if slices[0].plane is None else len(slices) - len(by_position(slices))


def _values(slices: Sequence[Slice], keyword: str) -> list[str]:
    """One text for each slice, equal where the attribute means the same."""
    return [_value(piece.header.dataset, keyword) for piece in slices]


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


def _pauses(slices: Sequence[Slice], keyword: str) -> list[str]:
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


def _passes(slices: Sequence[Slice]) -> list[str]:
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


def _heights(part: Sequence[Slice]) -> list[float]:
    return sorted(piece.height_mm for piece in part)


def _are_interleaved(parts: Sequence[Sequence[Slice]], positions: Sequence[list[Slice]]) -> bool:
    """Whether the parts of an even stack are even stacks of one wider spacing that lie between one another."""
    if min(map(len, parts)) < 2:
        return False
    spacing_mm = (positions[-1][0].height_mm - positions[0][0].height_mm) / (len(positions) - 1)
    for part in parts:
        step_mm = even_step_mm(_heights(part))
        if step_mm is None or abs(step_mm - len(parts) * spacing_mm) > RELATIVE_TOLERANCE * step_mm:
            return False
    return True


def _are_phases(parts: Sequence[Sequence[Slice]], positions: Sequence[list[Slice]]) -> bool:
    """Whether each part holds at least half of all positions, each once.

    Of ten positions, each twice, two parts of ten are phases; parts of 19 and 1 are not.
    """
    return len(positions) > 1 and all(
        2 * len(part) >= len(positions) and len(by_position(part)) == len(part) for part in parts
    )


def _are_passes(parts: Sequence[Sequence[Slice]]) -> bool:
    """Whether the parts of a stack that is not even are even stacks of grids that do not continue one another."""
    steps = [even_step_mm(_heights(part)) for part in parts]
    if min(map(len, parts)) < LEAST_OF_A_PASS or len(parts) > MOST_PASSES or None in steps:
        return False
    known = [step for step in steps if step is not None]
    extents = sorted((_heights(part)[0], _heights(part)[-1]) for part in parts)
    if any(later[1] <= earlier[1] and later[0] == earlier[0] for earlier, later in pairwise(extents)):
        return False  # one repeats slices of the other
    if any(later[0] <= earlier[1] for earlier, later in pairwise(extents)):
        return True
    if max(known) - min(known) > RELATIVE_TOLERANCE * max(known):
        return True
    # One spacing throughout: a gap of whole slices between the parts means that slices are missing.
    gaps = [(later[0] - earlier[1]) / known[0] for earlier, later in pairwise(extents)]
    return any(abs(gap - round(gap)) > RELATIVE_TOLERANCE * max(gap, 1.0) for gap in gaps)


def image_count(slices: Sequence[Slice]) -> int | None:
    """ImagesInAcquisition where all slices state the same for one acquisition, else None."""
    stated = {integer(piece.header.dataset, "ImagesInAcquisition") for piece in slices}
    acquisitions = {text(piece.header.dataset, "AcquisitionNumber") for piece in slices}
    return next(iter(stated)) if len(stated) == len(acquisitions) == 1 else None
