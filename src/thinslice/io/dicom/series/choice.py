"""The choice of one series of several: as named, or the only one that can be meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thinslice.errors import InputError, SeriesChoiceError
from thinslice.io.dicom.files.input_files import printable
from thinslice.io.dicom.files.values import integer, text
from thinslice.io.dicom.series.even_line import even_step_mm
from thinslice.io.dicom.series.facts import description_of, is_our_own
from thinslice.io.dicom.series.slices import by_position, difference
from thinslice.io.dicom.series.stacks import Stack, choices, kinds
from thinslice.options import option
from thinslice.planning import eligibility

LEAST_SCATTERED = 3
"""Fewest slices, each with a series UID of its own, that are recognised as one stack."""

LEAST_PART_OF_UID = 4
"""Fewest characters of a part of a UID that chooses a series."""


def choose(stacks: list[Stack], wanted: str | None) -> tuple[Stack, list[str]]:
    """The stack to read, and warnings about the choice and about what is left out.

    Args:
        stacks: all, in the order of `scan`.
        wanted: which one: its number in the list of `scan`, its SeriesNumber, its UID ("UID#2" for a part), a part of
            its UID or of its description that no other series has; None for the only one that can be meant.

    Raises:
        SeriesChoiceError: nothing has this name, or several have; the message lists the candidates.
        InputError: there is no CT series; give one.
    """
    if wanted is None:
        chosen, notes = _only(stacks)
        others = [found for found in stacks if found is not chosen]
        return chosen, [*notes, *_left_out(others)]
    meant = _named(stacks, wanted.strip())
    if len(meant) == 1:
        notes = _other_meaning(stacks, meant[0], wanted.strip())
        return meant[0], notes
    chosen, notes = _only(meant)
    return chosen, [*notes, *_left_out([found for found in meant if found is not chosen])]


@dataclass(frozen=True)
class SeriesName:
    """What a series may be named by.

    Attributes:
        number: in the list of `thinslice inspect`, from 1.
        uid: its UID; "UID#2" for a part.
        series_number: SeriesNumber, or None.
        description: SeriesDescription without identity.
    """

    number: int
    uid: str
    series_number: int | None = None
    description: str = ""


def named(names: Sequence[SeriesName], wanted: str) -> list[int]:
    """Places in a list of the series that a name means, by the first rule that any of them meets.

    Args:
        names: of the series.
        wanted: number in the list, UID with or without its part, SeriesNumber, or a part of the UID or of the
            description.

    >>> listed = [SeriesName(1, "1.2.3.1111", 4, "Chest"), SeriesName(2, "1.2.3.2222", 1, "Chest lung")]
    >>> named(listed, "1"), named(listed, "4"), named(listed, "2222"), named(listed, "chest"), named(listed, "head")
    ([0], [0], [1], [0, 1], [])
    """
    rules: list[Callable[[SeriesName], bool]] = [
        lambda name: wanted.isdecimal() and name.number == int(wanted),
        lambda name: name.uid == wanted,
        lambda name: _series_of(name.uid) == wanted,
        lambda name: wanted.isdecimal() and name.series_number == int(wanted),
        lambda name: len(wanted) >= LEAST_PART_OF_UID and wanted in name.uid,
        lambda name: not wanted.isdecimal() and wanted.casefold() in name.description.casefold(),
    ]
    for means in rules:
        meant = [place for place, name in enumerate(names) if means(name)]
        if meant:
            return meant
    return []


def _named(stacks: Sequence[Stack], wanted: str) -> list[Stack]:
    """The stacks that a name means: one, or all parts of one series."""
    meant = [
        stacks[place] for place in named([_name(found, number) for number, found in enumerate(stacks, start=1)], wanted)
    ]
    # A localizer or capture beside a CT series of the same number is never meant.
    meant = [found for found in meant if found.kind == "CT" and not found.stray] or meant
    if len({_series_of(found.uid) for found in meant}) > 1:
        raise SeriesChoiceError(
            f"{printable(wanted, 72)!r} means {len(meant)} series; choose one with {option('series')} by its "
            f"number or UID: {_candidates(stacks, meant)}."
        )
    if not meant:
        raise SeriesChoiceError(
            f"No series {printable(wanted, 72)!r} is here; choose one with {option('series')} by its number or "
            f"UID: {_candidates(stacks, stacks)}."
        )
    return meant


def _other_meaning(stacks: Sequence[Stack], chosen: Stack, wanted: str) -> list[str]:
    """A warning when a number in the list is the SeriesNumber of another series."""
    others = [
        found
        for found in stacks
        if wanted.isdecimal()
        and _series_of(found.uid) != _series_of(chosen.uid)
        and integer(found.slices[0].header.dataset, "SeriesNumber") == int(wanted)
    ]
    if not others:
        return []
    return [
        f"{wanted} is taken as the number in the list of 'thinslice inspect' ({chosen.uid}); the series with "
        f"SeriesNumber {wanted} is {others[0].uid}."
    ]


def _only(stacks: Sequence[Stack]) -> tuple[Stack, list[str]]:
    """The one stack that can be meant, and a sentence where it was one of several."""
    main = [found for found in stacks if found.kind == "CT" and not found.stray]
    readable = [found for found in main if not found.faults]
    scattered = _scattered(readable)
    if scattered:
        raise SeriesChoiceError(scattered)
    if len(readable) > 1:
        sources = [found for found in readable if not is_our_own(found.slices[0].header.dataset)]
        eligible = [found for found in sources if _is_eligible(found)]
        for left, why in ((sources, "not made by thinslice itself"), (eligible, "that can be upscaled")):
            if len(left) == 1:
                number = stacks.index(left[0]) + 1
                return left[0], [
                    f"Of {len(readable)} CT series, the only one {why} was taken: {_label(number, left[0])}; choose "
                    f"another one with {option('series')}."
                ]
        readable = sources or readable
    if len(readable) > 1:
        reasons = {found.part for found in readable if found.part}
        why = f" ({'; '.join(sorted(reasons))})" if reasons else ""
        raise SeriesChoiceError(
            f"There are {len(readable)} CT series or parts of one{why}; choose one with {option('series')} by its "
            f"number or UID: {_candidates(stacks, readable)}."
        )
    if readable:
        return readable[0], []
    if len(main) > 1:
        raise SeriesChoiceError(
            f"None of {len(main)} CT series can be read as it is; choose one with {option('series')} to get its "
            f"reason: {_candidates(stacks, main)}."
        )
    if main or len(stacks) == 1:
        return (main[0] if main else stacks[0]), []
    raise InputError(f"There is no CT series here, only {kinds(stacks)}; give the original CT series.")


def _is_eligible(found: Stack) -> bool:
    geometry = found.stacking.geometry if found.stacking else None
    return bool(found.mended) or (geometry is not None and eligibility(geometry).eligible)


def _scattered(readable: Sequence[Stack]) -> str:
    """A sentence when series of one slice each make one even stack together; else ""."""
    if len(readable) < LEAST_SCATTERED or any(len(found.slices) > 1 for found in readable):
        return ""
    slices = [found.slices[0] for found in readable]
    shared = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID")
    if any(difference(slices[0], piece) for piece in slices):
        return ""
    if any(len({text(piece.header.dataset, keyword) for piece in slices}) > 1 for keyword in shared):
        return ""
    positions = by_position(slices)
    if len(positions) < len(slices) or even_step_mm([copies[0].height_mm for copies in positions]) is None:
        return ""
    return (
        f"Each of {len(slices)} slices has a SeriesInstanceUID of its own, though together they make one even stack "
        "(an anonymiser or an export gave each file a new UID); export the series again with one UID, or write one "
        'into copies of the files, for example with DCMTK: dcmodify -m "SeriesInstanceUID=1.2.3.4" FILES.'
    )


def _left_out(others: Sequence[Stack]) -> list[str]:
    warnings = []
    strays = [found for found in others if found.kind != "CT" or found.stray]
    if strays:
        warnings.append(f"Other objects were left out: {kinds(strays)}.")
    warnings.extend(
        f"Another CT series was left out: {found.uid} ({len(found.slices)} slices): {found.faults[0]}"
        for found in others
        if found not in strays and found.faults
    )
    return warnings


def _name(found: Stack, number: int) -> SeriesName:
    header = found.slices[0].header.dataset
    return SeriesName(number, found.uid, integer(header, "SeriesNumber"), description_of(header))


def _series_of(uid: str) -> str:
    """The UID without the number of a part."""
    return uid.split("#")[0]


def _label(number: int, found: Stack) -> str:
    return f"{number}: {choices([found])}"


def _candidates(stacks: Sequence[Stack], listed: Sequence[Stack]) -> str:
    shown = [_label(stacks.index(found) + 1, found) for found in listed[:10]]
    return "; ".join([*shown, *([f"and {len(listed) - 10} more"] if len(listed) > 10 else [])])
