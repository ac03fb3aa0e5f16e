"""Parts of one series: scans that share a SeriesInstanceUID, separated.

Slices that cannot lie in one grid (matrix, pixels, orientation) are parts. Then an attribute of `CONTENT` divides them
wherever it differs. `PASSES` and `SETTINGS` divide them only where each value is an even stack of its own, and the
stacks lie between one another, repeat positions, or, for `PASSES`, have different grids. Where positions are one even
grid, `WRITING_TIMES` prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pydicom.dataset import Dataset

from thinslice.io.dicom.files.input_files import printable
from thinslice.io.dicom.files.values import integer, number, text
from thinslice.io.dicom.series.clues import (
    CLOCKS,
    CONTENT,
    ENCODING,
    PHASE_KEYWORDS,
    SAME_SCAN,
    SCANNING_CLOCKS,
    SETTINGS,
    SHOWN,
    WRITING_TIMES,
    disagreement,
    passes_of,
    pauses_before,
    turns_at,
    values_of,
)
from thinslice.io.dicom.series.even_line import even_step_mm
from thinslice.io.dicom.series.facts import shown_text
from thinslice.io.dicom.series.plane import RELATIVE_TOLERANCE, along_normal
from thinslice.io.dicom.series.slices import Slice, by_position, difference, forms_of

MOST_PARTS = 64
"""Largest number of parts; a 4D scan has 10 to 20 phases."""

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
    for group, named in zip(groups, _forms(groups), strict=True):
        whole = Part(_levelled(group), named.why, named.label)
        # Slices of two frames or scanners are refused, not separated by other attributes.
        parts += [whole] if disagreement(group, SAME_SCAN) else _by_content(whole)
    return parts


@dataclass(frozen=True)
class _Form:
    """What distinguishes a group of slices by matrix, pixels or orientation, and why it is a group."""

    label: str = ""
    why: str = ""


def _forms(groups: Sequence[Sequence[Slice]]) -> list[_Form]:
    if len(groups) == 1:
        return [_Form()]
    shown = [forms_of(group[0]) for group in groups]
    differing = [name for name in shown[0] if len({each[name] for each in shown}) > 1]
    why = f"its slices differ in {' and '.join(differing)}"
    return [_Form(", ".join(f"{name} {each[name]}" for name in differing), why) for each in shown]


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
        values = values_of(whole.slices, keyword)
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
        if even and keyword in (*ENCODING, *WRITING_TIMES):
            continue
        # In an even stack of several, neighbours are of different ones, so that two slices mostly decide.
        if not even or len(set(values_of(slices[:2], keyword))) > 1:
            yield keyword, values_of(slices, keyword)
    for keyword in CLOCKS:
        if not (even and keyword in WRITING_TIMES):
            yield keyword, pauses_before(slices, keyword)
    yield "InstanceNumber", passes_of(slices)
    for keyword in SCANNING_CLOCKS:
        yield keyword, turns_at(slices, keyword)


def _parts_by(whole: Part, keyword: str, values: Sequence[str], why: str) -> list[Part]:
    groups: dict[str, list[Slice]] = {}
    for piece, value in zip(whole.slices, values, strict=True):
        groups.setdefault(value, []).append(piece)
    parts = []
    counted = [str(count) for count in range(len(groups))]
    ordered = counted if set(groups) == set(counted) else list(groups)  # passes and turns in time
    for number_of_part, group in enumerate((groups[value] for value in ordered), start=1):
        label = f"{keyword} {_shown(group[0].header.dataset, keyword) or f'no. {number_of_part}'}"
        parts.append(Part(group, why, f"{whole.label}, {label}" if whole.label else label))
    return parts


def _shown(dataset: Dataset, keyword: str) -> str:
    """The value of an attribute in a label; "" where it is not shown."""
    if keyword not in SHOWN:
        return ""
    value = text(dataset, keyword)
    if not value:
        return "none"
    return printable(value) if number(dataset, keyword) is not None else shown_text(dataset, keyword)


def _reason(keyword: str, repeats: int, otherwise: str) -> str:
    if not repeats:
        return otherwise
    return f"positions occur more than once, distinguished by {keyword}: phases (4D) or reconstructions"


def _repeats(slices: Sequence[Slice]) -> int:
    return 0 if slices[0].plane is None else len(slices) - len(by_position(slices))


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


def alternating_time(slices: Sequence[Slice]) -> str:
    """The time of writing that alternates along an even grid, as of two interleaved scans or two writers; "" for none.

    Args:
        slices: of one volume, each position once.
    """
    ordered = sorted(slices, key=lambda piece: piece.height_mm)
    for keyword in WRITING_TIMES if len(ordered) >= 4 else ():
        groups: dict[str, list[Slice]] = {}
        for piece, value in zip(ordered, values_of(ordered, keyword), strict=True):
            groups.setdefault(value, []).append(piece)
        if 2 <= len(groups) <= MOST_PASSES and _are_interleaved(list(groups.values()), by_position(ordered)):
            return keyword
    return ""


def image_count(slices: Sequence[Slice]) -> int | None:
    """ImagesInAcquisition where all slices state the same for one acquisition, else None."""
    stated = {integer(piece.header.dataset, "ImagesInAcquisition") for piece in slices}
    acquisitions = {text(piece.header.dataset, "AcquisitionNumber") for piece in slices}
    return next(iter(stated)) if len(stated) == len(acquisitions) == 1 else None
