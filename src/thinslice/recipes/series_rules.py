"""Rules that choose series and say how they are upscaled: for an archive's plan, and for a DICOM node.

A file of rules in TOML is a list, and the first rule that fits a series decides:

    [[rule]]
    name = "soft-chest"
    [rule.when]
    body_part = ["CHEST", "THORAX"]
    kernel = ["B3*", "I3*"]
    thickness_mm = { at_least = 3, at_most = 10 }
    [rule.run]
    spacing_mm = 1.0

    [[rule]]
    name = "no-heads"
    take = false
    [rule.when]
    body_part = "*HEAD*"
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from thinslice.recipes.checked import Checked, read_toml
from thinslice.recipes.names import FileStem

LONGEST_PATTERN = 64
"""Characters of a pattern; DICOM's own texts in these attributes have at most as many."""

MOST_STARS = 8
"""Stars in one pattern."""


@dataclass(frozen=True)
class SeriesFacts:
    """What a rule may ask of a series; what is unknown is None or "".

    Attributes:
        slices: thick slices, or frames.
        thickness_mm: slice thickness.
        spacing_mm: distance of slices.
        body_part: BodyPartExamined.
        kernel: ConvolutionKernel.
        description: SeriesDescription, without words that may identify the patient.
        station: StationName.
        manufacturer: Manufacturer.
        scanner: ManufacturerModelName.
        calling_ae: title of the application that sent the series; only a node knows it.
    """

    slices: int | None = None
    thickness_mm: float | None = None
    spacing_mm: float | None = None
    body_part: str = ""
    kernel: str = ""
    description: str = ""
    station: str = ""
    manufacturer: str = ""
    scanner: str = ""
    calling_ae: str = ""


class Bounds(Checked):
    """A closed range of a number; either end may be left out.

    >>> Bounds(at_least=3).holds(5.0), Bounds(at_most=3).holds(5.0), Bounds(at_least=1).holds(None)
    (True, False, False)
    """

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is above at_most")
        return self

    def holds(self, value: float | None) -> bool:
        """Whether a value lies in the range; an unknown one does not."""
        if value is None:
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Pattern = Annotated[
    str, Field(min_length=1, max_length=LONGEST_PATTERN, pattern=rf"^[^*]*(\*[^*]*){{0,{MOST_STARS}}}$")
]
"""A whole text, with * for any characters and ? for one; capitals and small letters are the same."""

Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_as_list), Field(min_length=1)]
"""One pattern or a list of them, of which one must fit."""


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.casefold()))


def fits(patterns: Iterable[str], text: str) -> bool:
    """Whether a text fits one of the patterns; an unknown text ("") fits none.

    >>> fits(["B3*", "I30f"], "b31F"), fits(["*lung*"], "Lung 5.0 B60f"), fits(["*"], "")
    (True, True, False)
    """
    plain = text.strip().casefold()
    return bool(plain) and any(_compiled(pattern).match(plain) for pattern in patterns)


class Conditions(Checked):
    """Conditions of a rule: all that are given must hold. One on a value that is unknown does not hold.

    Attributes:
        slices, thickness_mm, spacing_mm: ranges.
        body_part, kernel, description, station, manufacturer, scanner, calling_ae: patterns, as `SeriesFacts` names
            them.
    """

    slices: Bounds | None = None
    thickness_mm: Bounds | None = None
    spacing_mm: Bounds | None = None
    body_part: Patterns | None = None
    kernel: Patterns | None = None
    description: Patterns | None = None
    station: Patterns | None = None
    manufacturer: Patterns | None = None
    scanner: Patterns | None = None
    calling_ae: Patterns | None = None

    def hold(self, facts: SeriesFacts) -> bool:
        """Whether a series meets all conditions.

        >>> Conditions(kernel="B3*", slices={"at_least": 20}).hold(SeriesFacts(kernel="B31f", slices=64))
        True
        """
        for name in type(self).model_fields:
            condition = getattr(self, name)
            if condition is None:
                continue
            value = getattr(facts, name)
            if not (condition.holds(value) if isinstance(condition, Bounds) else fits(condition, value)):
                return False
        return True


class RunOptions(Checked):
    """Options of an upscaling run, with the names of `thinslice upscale`; what concerns a computer is not among them.

    Attributes:
        model: name of a network, or a weights file.
        factor: thin slices per thick interval; not beside `spacing_mm`.
        spacing_mm: distance of thin slices.
        plan: window plan.
        intensity: unit of the voxels: "auto", "hu" or "unit".
        texture: add synthetic noise.
        texture_seed: of that noise.
        on_tilt: "refuse" or "resample".
        on_spacing: "refuse" or "resample".
        format: "dicom", "dicom-enhanced" or "nifti".
        deidentify: leave the patient's identity out of DICOM outputs.
    """

    model: str = Field(default="default", min_length=1, max_length=4096)
    factor: int | None = Field(default=None, ge=2, le=8)
    spacing_mm: float | None = Field(default=None, gt=0, le=100)
    plan: str | None = Field(default=None, max_length=64)
    intensity: Literal["auto", "hu", "unit"] = "auto"
    texture: bool = False
    texture_seed: int = Field(default=0, ge=0)
    on_tilt: Literal["refuse", "resample"] = "refuse"
    on_spacing: Literal["refuse", "resample"] = "refuse"
    format: Literal["dicom", "dicom-enhanced", "nifti"] = "dicom"
    deidentify: bool = False

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.factor is not None and self.spacing_mm is not None:
            raise ValueError("factor and spacing_mm both set the distance of thin slices; give one of them")
        return self


class SeriesRule(Checked):
    """One rule.

    Attributes:
        name: of the rule, for lists and reports.
        when: its conditions; without any it fits every series.
        take: whether series that fit are upscaled; False leaves them out.
        run: how they are upscaled.
        priority: series of a higher one come first.
    """

    name: FileStem
    when: Conditions = Conditions()
    take: bool = True
    run: RunOptions = RunOptions()
    priority: int = Field(default=0, ge=-1000, le=1000)


def first_fitting(rules: Iterable[SeriesRule], facts: SeriesFacts) -> SeriesRule | None:
    """The first rule that fits a series; None where none does, so that the series is left out.

    >>> heads = SeriesRule(name="no-heads", take=False, when=Conditions(body_part="*HEAD*"))
    >>> [first_fitting([heads, SeriesRule(name="all")], SeriesFacts(body_part=part)).name for part in ("HEAD", "")]
    ['no-heads', 'all']
    """
    return next((rule for rule in rules if rule.when.hold(facts)), None)


def check_names(rules: Iterable[SeriesRule]) -> None:
    """Refuse two rules of one name.

    Raises:
        ValueError: name each rule once.
    """
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise ValueError(f"two rules are named {rule.name!r}; give each its own name")
        seen.add(rule.name)


class SeriesRules(Checked):
    """A file of rules.

    Attributes:
        rules: `[[rule]]` in TOML, in the order in which they are tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    rules: tuple[SeriesRule, ...] = Field(alias="rule", min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        check_names(self.rules)
        return self


EVERYTHING = SeriesRules(rules=(SeriesRule(name="every-series"),))
"""The rules where none are given: every series that can be upscaled, with default options."""


def read_series_rules(path: Path) -> SeriesRules:
    """Read and check a file of rules.

    Args:
        path: TOML file.

    Raises:
        UsageError: the file is missing, not TOML, or has an unknown key or a wrong value; the message names it.
    """
    return read_toml(path, SeriesRules)
