"""Headers to stacks: the slices of one volume, stray objects, and the reasons why a stack cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from thinslice.io.dicom.header import SliceHeader, integer, number, numbers, text
from thinslice.io.dicom.input_files import SkippedFile
from thinslice.io.dicom.multiframe import missing_parts
from thinslice.io.dicom.object_kinds import HU_TYPES, kind_of, not_ct, oddities, series_label
from thinslice.io.dicom.pixels import PixelError, PixelFormat, check_complete, pixel_format
from thinslice.io.dicom.stacking import SAME_POSITION_MM, ImagePlane, Stacking, along_normal, sound_cosines, stack

PHASE_KEYWORDS = (
    "StackID",
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "AcquisitionNumber",
    "ConvolutionKernel",
    "ImageType",
    "AcquisitionTime",
)
"""Attributes that distinguish phases or reconstructions when one series holds a position several times."""

ORIENTATION_TOLERANCE = 1e-4
"""Cosines that differ by less are one orientation."""

PIXEL_SPACING_TOLERANCE_MM = 1e-4
"""Pixel spacings are compared in these steps."""

STRAY_FRACTION = 0.1
"""A part of a series with at most this share of the main part's slices (or a single slice) is a stray."""


@dataclass(frozen=True)
class Slice:
    """One file of a CT series, with its place and pixel format.

    Attributes:
        header: the file.
        plane: its place, or None where the header holds none.
        form: the storage of its pixels, or None when `problem` is set.
        instance: InstanceNumber.
        problem: why its pixels cannot be read, or "".
        likeness: properties that the slices of one volume share: matrix, pixel spacing, colour.
        height_mm: distance along the normal; 0 without a plane.
    """

    header: SliceHeader
    plane: ImagePlane | None
    form: PixelFormat | None
    instance: int | None
    problem: str
    likeness: tuple[object, ...]
    height_mm: float


@dataclass
class Stack:
    """Slices that may make one volume, or objects of one kind that do not.

    Attributes:
        uid: safe to show, and its name in a choice: the SeriesInstanceUID, with "#2" for further parts.
        kind: "CT", "CT localizer", "secondary capture", ...
        slices: all files.
        positions: for a CT, in depth order, the slices at each position (more than one are duplicates).
        stacking: the grid, or the reasons why there is none.
        faults: sentences why it cannot be read; empty if it can.
        warnings: sentences.
        skipped: files of the stack whose pixels cannot be read.
        series_numbers: every InstanceNumber of the series, also of other objects.
        part: the reason why its series was divided, "" for a whole series.
        stray: a small part left out beside the main part of its series.
        mended: faults that resampling removes after reading: "tilt", "spacing" (`thinslice.io.dicom.regrid`).
    """

    uid: str
    kind: str
    slices: list[Slice]
    positions: list[list[Slice]] = field(default_factory=list)
    stacking: Stacking | None = None
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    series_numbers: frozenset[int] = frozenset()
    part: str = ""
    stray: bool = False
    mended: frozenset[str] = frozenset()


def stacks_of(headers: Iterable[SliceHeader], skipped: Sequence[SkippedFile]) -> list[Stack]:
    """Stacks of headers: one for each part of a series that may be one volume, with its faults and warnings."""
    by_series: dict[str, list[SliceHeader]] = {}
    for header in headers:
        by_series.setdefault(series_label(header.dataset), []).append(header)
    unreadable = sum(file.may_be_slice for file in skipped)
    return [found for label, files in by_series.items() for found in _series(label, files, unreadable)]


def restack(found: Stack, positions: Sequence[list[Slice]], unreadable: int) -> Stacking:
    """The grid of some positions of a stack, in depth order.

    Raises:
        ValueError: a position has no place or no pixels.
    """
    chosen = [copies[0] for copies in positions]
    form, first = chosen[0].form, chosen[0].header.dataset
    planes = [piece.plane for piece in chosen if piece.plane is not None]
    if form is None or len(planes) != len(chosen):
        raise ValueError("restack needs slices with pixels and positions")
    spacing = numbers(first, "PixelSpacing", 2)
    return stack(
        planes,
        (form.rows, form.columns),
        (spacing[0], spacing[1]) if spacing else (None, None),
        numbers_elsewhere=found.series_numbers - {piece.instance for piece in chosen},
        unreadable=unreadable,
    )


def lost_inside(positions: Sequence[list[Slice]], lost: Sequence[int]) -> str | None:
    """A sentence when unreadable positions lie between readable ones; None when they are all at the ends.

    Args:
        positions: all, in depth order.
        lost: indices of those that cannot be read.
    """
    kept = [k for k in range(len(positions)) if k not in set(lost)]
    inside = [k for k in lost if kept and kept[0] < k < kept[-1]]
    if not inside:
        return None
    below = max(k for k in kept if k < inside[0])
    above = min(k for k in kept if k > inside[0])
    ends = [positions[k][0].height_mm for k in (below, above)]
    bad = positions[inside[0]][0]
    return (
        f"{len(inside)} slice(s) inside the series cannot be read, such as {bad.header.file.name!r} ({bad.problem}), "
        f"which leaves a gap of {ends[1] - ends[0]:.2f} mm between {ends[0]:.2f} and {ends[1]:.2f} mm; get the "
        "damaged file(s) again."
    )


def _series(label: str, headers: list[SliceHeader], unreadable: int) -> list[Stack]:
    """The stacks of one series, its main CT stack first."""
    by_kind: dict[str, list[Slice]] = {}
    for header in headers:
        by_kind.setdefault(kind_of(header.dataset), []).append(_slice(header))
    instances = frozenset(
        piece.instance for slices in by_kind.values() for piece in slices if piece.instance is not None
    )
    stacks: list[Stack] = []
    for kind, slices in by_kind.items():
        if kind == "CT":
            stacks.extend(_ct_stacks(label, slices, instances, unreadable))
        else:
            stacks.append(Stack(label, kind, slices, faults=[not_ct(kind)]))
    stacks.sort(key=lambda found: (found.kind != "CT", found.stray, -len(found.slices)))
    if len(stacks) > 1:
        for number_in_series, found in enumerate(stacks[1:], start=2):
            found.uid = f"{label}#{number_in_series}"
        if sum(found.kind == "CT" and not found.stray for found in stacks) > 1:
            stacks[0].uid = f"{label}#1"
    return stacks


def _slice(header: SliceHeader) -> Slice:
    dataset = header.dataset
    form, problem = None, ""
    try:
        form = pixel_format(dataset)
        check_complete(header, form)
    except PixelError as error:
        form, problem = None, str(error)
    position = numbers(dataset, "ImagePositionPatient", 3)
    cosines = numbers(dataset, "ImageOrientationPatient", 6)
    instance = integer(dataset, "InstanceNumber")
    plane = None
    if position and cosines and sound_cosines(cosines):
        thickness, between = number(dataset, "SliceThickness"), number(dataset, "SpacingBetweenSlices")
        plane = ImagePlane(
            position_mm=(position[0], position[1], position[2]),
            row_cosines=(cosines[0], cosines[1], cosines[2]),
            column_cosines=(cosines[3], cosines[4], cosines[5]),
            thickness_mm=thickness if thickness and thickness > 0 else None,
            # Some scanners write it negative, for the direction of travel.
            between_mm=abs(between) if between else None,
            instance=instance,
        )
    spacing = numbers(dataset, "PixelSpacing", 2)
    likeness = (
        integer(dataset, "Rows"),
        integer(dataset, "Columns"),
        text(dataset, "PhotometricInterpretation"),
        spacing and tuple(round(value / PIXEL_SPACING_TOLERANCE_MM) for value in spacing),
    )
    height_mm = along_normal(plane) if plane else 0.0
    return Slice(header, plane, form, instance, problem, likeness, height_mm)


def _ct_stacks(label: str, slices: list[Slice], instances: frozenset[int], unreadable: int) -> list[Stack]:
    """CT images of one series, divided by matrix, orientation, pixel spacing and colour, then by phase."""
    groups: list[list[Slice]] = []
    for piece in slices:
        for group in groups:
            if _alike(group[0], piece):
                group.append(piece)
                break
        else:
            groups.append([piece])
    divided = [part for group in groups for part in _phases(group)]
    largest = max(len(part) for part, _ in divided)
    stacks = []
    for part, why in divided:
        found = Stack(label, "CT", part, part=why, series_numbers=instances)
        found.stray = len(part) < largest and (len(part) == 1 or len(part) <= STRAY_FRACTION * largest)
        _judge(found, unreadable)
        stacks.append(found)
    return stacks


def _alike(one: Slice, other: Slice) -> bool:
    """Whether two slices can belong to one volume, positions aside."""
    if one.likeness != other.likeness:
        return False
    if one.plane is None or other.plane is None:
        return one.plane is other.plane
    cosines_a = one.plane.row_cosines + one.plane.column_cosines
    cosines_b = other.plane.row_cosines + other.plane.column_cosines
    return all(abs(x - y) <= ORIENTATION_TOLERANCE for x, y in zip(cosines_a, cosines_b, strict=True))


def _by_position(slices: Iterable[Slice]) -> list[list[Slice]]:
    """Slices in depth order, those at the same position together; the readable copy first."""
    positions: list[list[Slice]] = []
    for piece in sorted(slices, key=lambda piece: (piece.height_mm, piece.header.file.name)):
        if positions and piece.height_mm - positions[-1][0].height_mm <= SAME_POSITION_MM:
            positions[-1].append(piece)
        else:
            positions.append([piece])
    for copies in positions:
        copies.sort(key=lambda piece: bool(piece.problem))
    return positions


def _phases(group: list[Slice]) -> list[tuple[list[Slice], str]]:
    """Parts of a group that holds positions several times, each with the reason; the group itself where none fits."""
    if group[0].plane is None:
        return [(group, "")]
    positions = _by_position(group)
    if len(positions) == len(group) or len(positions) < 2:
        return [(group, "")]
    for keyword in PHASE_KEYWORDS:
        parts: dict[str, list[Slice]] = {}
        for piece in group:
            parts.setdefault(text(piece.header.dataset, keyword), []).append(piece)
        # Ten positions, each twice: two parts of ten are phases; parts of 19 and 1, or a part with a position twice,
        # are not.
        whole = all(2 * len(part) >= len(positions) and len(_by_position(part)) == len(part) for part in parts.values())
        if len(parts) > 1 and whole:
            why = (
                f"positions occur up to {max(map(len, positions))} times, distinguished by {keyword}: phases (4D) or "
                "reconstructions"
            )
            return [(part, why) for part in parts.values()]
    return [(group, "")]


def _judge(found: Stack, unreadable: int) -> None:
    """Fill in the positions, faults and warnings of a CT stack."""
    first = found.slices[0].header.dataset
    found.faults.extend(_unfit(found.slices))
    if found.faults:
        return
    found.positions = _by_position(found.slices)
    for copies in found.positions:
        found.skipped += [SkippedFile(piece.header.file.name, piece.problem) for piece in copies if piece.problem]
    lost = [k for k, copies in enumerate(found.positions) if copies[0].problem]
    kept = [copies for copies in found.positions if not copies[0].problem]
    if not kept:
        found.faults.append(f"None of its slices can be read: {found.slices[0].problem}; get the files again.")
        return
    fault = lost_inside(found.positions, lost)
    found.stacking = restack(found, kept, unreadable)
    found.faults.extend([fault] if fault else found.stacking.faults)
    found.warnings.extend(found.stacking.warnings)
    if lost and not fault:
        found.warnings.append(f"{len(lost)} slice(s) at the ends of the series cannot be read and are left out.")
    found.positions = kept
    doubled = sum(len(copies) > 1 for copies in kept)
    if doubled:
        found.warnings.append(
            f"{doubled} position(s) occur more than once; one slice is kept where pixels are identical, otherwise "
            "the series is refused."
        )
    total = {integer(piece.header.dataset, "ImagesInAcquisition") for piece in found.slices}
    acquisitions = {text(piece.header.dataset, "AcquisitionNumber") for piece in found.slices}
    stated = next(iter(total))
    if len(total) == len(acquisitions) == 1 and stated is not None and stated > len(found.series_numbers) > 0:
        found.warnings.append(
            f"ImagesInAcquisition is {stated}, but {len(found.slices)} images are here; slices may be missing at the "
            "ends."
        )
    found.warnings.extend(oddities(first))
    found.warnings.extend(missing_parts(piece.header.dataset for piece in found.slices))
    found.warnings.extend(sorted({note for piece in found.slices for note in piece.header.notes}))


def _unfit(slices: list[Slice]) -> list[str]:
    """The reason why CT images are no ordinary HU slices with a position: at most one sentence."""
    datasets = [piece.header.dataset for piece in slices]
    first = datasets[0]
    if any(text(dataset, "Modality") not in ("CT", "") for dataset in datasets):
        return ["This is not a CT image (its Modality is not CT); give the original CT series."]
    if text(first, "PhotometricInterpretation") != "MONOCHROME2" or integer(first, "SamplesPerPixel") not in (1, None):
        kind = "inverted (MONOCHROME1)" if text(first, "PhotometricInterpretation") == "MONOCHROME1" else "in colour"
        return [f"The pixels are {kind}, not HU (MONOCHROME2 is needed); give the original CT series."]
    if any((integer(dataset, "NumberOfFrames") or 1) > 1 for dataset in datasets):
        return ["A CT image holds several frames; convert it to single-frame CT images first."]
    if any(text(dataset, "RescaleType").upper() not in HU_TYPES for dataset in datasets):
        return ["RescaleType is not HU, so pixel values are not HU; give a series of HU."]
    if slices[0].plane is None:
        wrong = "unusable" if "ImageOrientationPatient" in first and "ImagePositionPatient" in first else "missing"
        return [
            f"ImagePositionPatient or ImageOrientationPatient is {wrong}, and SliceLocation alone does not place the "
            "slices; export the series again with positions."
        ]
    spacing = numbers(first, "PixelSpacing", 2)
    if spacing and min(spacing) <= 0:
        return ["PixelSpacing is not positive; export the series again."]
    return []


def choices(stacks: Sequence[Stack]) -> str:
    """The list of several stacks in a message: UID, slices, spacing."""
    listed = []
    for found in stacks[:10]:
        spacing = found.stacking.spacing_mm if found.stacking else None
        apart = f", {spacing:g} mm apart" if spacing else ""
        listed.append(f"{found.uid} ({len(found.slices)} slices{apart})")
    if len(stacks) > 10:
        listed.append(f"and {len(stacks) - 10} more")
    return "; ".join(listed)


def kinds(stacks: Sequence[Stack]) -> str:
    """The kinds of stacks, counted: "1 CT localizer, 2 secondary capture"."""
    counted = Counter[str]()
    for found in stacks:
        counted[found.kind] += len(found.slices)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
