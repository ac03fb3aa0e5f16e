"""Headers to stacks: the slices of one volume, stray objects, and the reasons why a stack cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from thinslice.geometry import DIRECTION_TOLERANCE
from thinslice.io.dicom.files.header import SliceHeader
from thinslice.io.dicom.files.input_files import SkippedFile
from thinslice.io.dicom.files.multiframe import missing_parts
from thinslice.io.dicom.files.object_kinds import HU_TYPES, kind_of, not_ct, oddities, series_label
from thinslice.io.dicom.files.values import integer, text
from thinslice.io.dicom.series.clues import SAME_PATIENT, SAME_SCAN, disagreement, partly_missing
from thinslice.io.dicom.series.parts import alternating_time, divide, image_count, not_together
from thinslice.io.dicom.series.plane import along_normal
from thinslice.io.dicom.series.slices import Slice, by_position, difference, slice_of
from thinslice.io.dicom.series.stacking import SAME_POSITION_MM, Stacking, stack

PIXEL_SPACING_RANGE_MM = (0.005, 20.0)
"""Smallest and largest plausible PixelSpacing: of a specimen scanner, and twice that of a coarse PET grid."""

STRAY_FRACTION = 0.1
"""A part of a series with at most this share of the main part's slices (or a single slice) is a stray."""


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
        label: what distinguishes it from the other parts, such as "ConvolutionKernel B30f"; "" for a whole series.
        number: number of the part in its series, from 1.
        stray: a small part left out beside the main part of its series.
        mended: faults that resampling removes after reading: "tilt", "spacing" (`thinslice.io.dicom.series.regrid`).
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
    label: str = ""
    number: int = 1
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
    form = chosen[0].form
    planes = [piece.plane for piece in chosen if piece.plane is not None]
    if form is None or len(planes) != len(chosen):
        raise ValueError("restack needs slices with pixels and positions")
    return stack(
        planes,
        (form.rows, form.columns),
        _usual_pixel_spacing(chosen) or (None, None),
        numbers_elsewhere=found.series_numbers - {piece.instance for piece in chosen},
        unreadable=unreadable,
    )


def _usual_pixel_spacing(slices: Sequence[Slice]) -> tuple[float, float] | None:
    """The commonest PixelSpacing; they differ by rounding at most."""
    return Counter(piece.pixel_spacing_mm for piece in slices).most_common(1)[0][0]


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
        by_kind.setdefault(kind_of(header.dataset), []).append(slice_of(header))
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
            found.uid, found.number = f"{label}#{number_in_series}", number_in_series
        if sum(found.kind == "CT" and not found.stray for found in stacks) > 1:
            stacks[0].uid = f"{label}#1"
    return stacks


def _ct_stacks(label: str, slices: list[Slice], instances: frozenset[int], unreadable: int) -> list[Stack]:
    """CT images of one series, divided into what may be one volume each."""
    strangers = disagreement(slices, SAME_PATIENT)
    if strangers:
        return [Stack(label, "CT", slices, faults=[not_together(strangers)], series_numbers=instances)]
    divided = divide(slices)
    largest = max((part.slices for part in divided), key=len)
    stacks = []
    for part in divided:
        found = Stack(label, "CT", part.slices, part=part.why, label=part.label, series_numbers=instances)
        count = len(part.slices)
        found.stray = count < len(largest) and (count == 1 or count <= STRAY_FRACTION * len(largest))
        _judge(found, unreadable)
        stacks.append(found)
    for found in stacks:
        _name_left_out(found, [other for other in stacks if other is not found])
    return stacks


def _name_left_out(found: Stack, others: Sequence[Stack]) -> None:
    """Say which slices of its series a stack lacks, and whether they belong into its gaps."""
    usual = found.slices[0]
    inside: list[str] = []
    strays: list[str] = []
    for other in others:
        for piece in other.slices:
            why = difference(usual, piece) or (f"{other.label}" if other.label else "another place")
            named = f"{piece.header.file.name!r} with {why}"
            if other.stray:
                strays.append(named)
            if piece.plane is not None and usual.plane is not None and _in_gap(found, piece):
                inside.append(named)
    gap = found.stacking is not None and any("missing" in fault or "spacing changes" in fault for fault in found.faults)
    if gap and inside:
        found.faults[:] = [
            f"{len(inside)} slice(s) inside the series differ from the others, such as {inside[0]}, which leaves a gap "
            "there; get these slices again as the others are, or give a series without them."
        ]
    elif strays and not found.stray:
        found.warnings.append(
            f"{len(strays)} slice(s) of this series do not fit and are left out, such as {strays[0]}; slices may be "
            "missing."
        )


def _in_gap(found: Stack, piece: Slice) -> bool:
    """Whether a slice lies between two positions of a stack, where it has no slice."""
    if len(found.positions) < 2 or piece.plane is None or found.slices[0].plane is None:
        return False
    height_mm = along_normal(replace(found.slices[0].plane, position_mm=piece.plane.position_mm))
    heights = [copies[0].height_mm for copies in found.positions]
    if not heights[0] < height_mm < heights[-1]:
        return False
    return min(abs(height_mm - known) for known in heights) > SAME_POSITION_MM


def _judge(found: Stack, unreadable: int) -> None:
    """Fill in the positions, faults and warnings of a CT stack."""
    first = found.slices[0].header.dataset
    found.faults.extend(_unfit(found.slices))
    if found.faults:
        return
    found.positions = by_position(found.slices)
    for copies in found.positions:
        found.skipped += [SkippedFile(piece.header.file.name, piece.problem) for piece in copies if piece.problem]
    lost = [k for k, copies in enumerate(found.positions) if copies[0].problem]
    kept = [copies for copies in found.positions if not copies[0].problem]
    if not kept:
        found.faults.append(f"None of its slices can be read: {found.slices[0].problem}; get the files again.")
        return
    if len(lost) > len(kept):
        bad = found.positions[lost[0]][0]
        found.faults.append(
            f"{len(lost)} of {len(found.positions)} slices cannot be read, such as {bad.header.file.name!r} "
            f"({bad.problem}); get the files again."
        )
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
    stated = image_count(found.slices)
    if stated is not None and stated > len(found.series_numbers) > 0:
        found.warnings.append(
            f"ImagesInAcquisition is {stated}, but {len(found.slices)} images are here; slices may be missing at the "
            "ends."
        )
    found.warnings.extend(_blurred(found.slices))
    alternating = alternating_time(found.slices) if not doubled and not found.faults else ""
    if alternating:
        found.warnings.append(
            f"{alternating} alternates from slice to slice: two reconstructions may be mixed in this series."
        )
    found.warnings.extend(oddities(first))
    found.warnings.extend(missing_parts(piece.header.dataset for piece in found.slices))
    found.warnings.extend(sorted({note for piece in found.slices for note in piece.header.notes}))


def _blurred(slices: Sequence[Slice]) -> list[str]:
    """Warnings about attributes that should be equal in all slices and are so only within rounding, or in part."""
    warnings = []
    spacings = {piece.pixel_spacing_mm for piece in slices}
    usual = _usual_pixel_spacing(slices)
    if len(spacings) > 1 and usual is not None:
        shown = " x ".join(f"{mm:g}" for mm in usual)
        warnings.append(f"PixelSpacing differs between slices by its rounding; the commonest, {shown} mm, is taken.")
    planes = [piece.plane for piece in slices if piece.plane is not None]
    rescaled = Counter((piece.form.slope, piece.form.intercept) for piece in slices if piece.form)
    most = max(rescaled.values(), default=0)
    if 2 * most > rescaled.total() > most:
        warnings.append(
            f"RescaleSlope or RescaleIntercept of {rescaled.total() - most} slice(s) is not that of the others; they "
            "are applied as written."
        )
    cosines = [plane.row_cosines + plane.column_cosines for plane in planes]
    apart = max((max(values) - min(values) for values in zip(*cosines, strict=True)), default=0.0)
    if apart > DIRECTION_TOLERANCE:
        warnings.append(
            f"ImageOrientationPatient differs by up to {apart:.4f} between slices (rounded in the source); it is taken "
            "as one."
        )
    missing = partly_missing(slices, (*SAME_PATIENT, *SAME_SCAN, "ContrastBolusAgent"))
    if missing:
        warnings.append(
            f"Some slices have no {' and no '.join(missing)}, which others have; check that they belong here."
        )
    return warnings


def _unfit(slices: list[Slice]) -> list[str]:
    """The reason why CT images are no ordinary HU slices with a position: at most one sentence."""
    datasets = [piece.header.dataset for piece in slices]
    first = datasets[0]
    if any(text(dataset, "Modality").upper() not in ("CT", "") for dataset in datasets):
        return ["This is not a CT image (its Modality is not CT); give the original CT series."]
    colour = slices[0].colour
    if colour != "MONOCHROME2" or integer(first, "SamplesPerPixel") not in (1, None):
        kind = "inverted (MONOCHROME1)" if colour == "MONOCHROME1" else "in colour"
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
    strangers = disagreement(slices, SAME_SCAN)
    if strangers:
        return [not_together(strangers)]
    spacing = slices[0].pixel_spacing_mm
    least_mm, most_mm = PIXEL_SPACING_RANGE_MM
    if spacing and min(spacing) <= 0:
        return ["PixelSpacing is not positive; export the series again."]
    if spacing and not least_mm <= min(spacing) <= max(spacing) <= most_mm:
        return [
            f"PixelSpacing is {' x '.join(f'{mm:g}' for mm in spacing)} mm, which no CT has ({least_mm:g} to "
            f"{most_mm:g} mm are plausible); export the series again."
        ]
    if len(slices) > 1 and len(by_position(slices)) == 1 and len({piece.instance for piece in slices}) > 1:
        return [
            f"All {len(slices)} slices have one and the same ImagePositionPatient, so their order and distance are "
            "unknown (an export may have written the header of one slice into all); export the series again with the "
            "position of each slice."
        ]
    return []


def choices(stacks: Sequence[Stack]) -> str:
    """The list of several stacks in a message: UID, slices, spacing, and what distinguishes parts of a series."""
    listed = []
    for found in stacks[:10]:
        spacing = found.stacking.spacing_mm if found.stacking else None
        apart = f", {spacing:g} mm apart" if spacing else ""
        listed.append(f"{found.uid} ({len(found.slices)} slices{apart}{', ' if found.label else ''}{found.label})")
    if len(stacks) > 10:
        listed.append(f"and {len(stacks) - 10} more")
    return "; ".join(listed)


def kinds(stacks: Sequence[Stack]) -> str:
    """The kinds of stacks, counted: "1 CT localizer, 2 secondary capture"."""
    counted = Counter[str]()
    for found in stacks:
        counted[found.kind] += len(found.slices)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
