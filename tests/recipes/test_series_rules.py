"""Rules that choose series: the first that fits decides, an unknown value meets no condition, wrong files are named."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinslice.errors import UsageError
from thinslice.recipes.series_rules import (
    EVERYTHING,
    Conditions,
    SeriesFacts,
    SeriesRule,
    SeriesRules,
    first_fitting,
    fits,
    read_series_rules,
)

EXAMPLE = """
[[rule]]
name = "soft-chest"
priority = 5
[rule.when]
body_part = ["CHEST", "THORAX"]
kernel = ["B3*", "I3*"]
thickness_mm = { at_least = 3, at_most = 10 }
station = "CT?"
calling_ae = "SCANNER*"
[rule.run]
spacing_mm = 1.25

[[rule]]
name = "no-heads"
take = false
[rule.when]
body_part = "*HEAD*"
"""


def test_a_file_of_rules_is_read_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(EXAMPLE)
    rules = read_series_rules(tmp_path / "rules.toml").rules
    assert [(rule.name, rule.take, rule.priority) for rule in rules] == [
        ("soft-chest", True, 5),
        ("no-heads", False, 0),
    ]
    chest = SeriesFacts(
        body_part="chest", kernel="b31f", thickness_mm=5.0, station="ct2", calling_ae="SCANNER1", slices=60
    )
    found = first_fitting(rules, chest)
    assert found is not None and found.run.spacing_mm == 1.25
    assert first_fitting(rules, SeriesFacts(body_part="HEAD_NECK")) is rules[1]
    assert first_fitting(rules, SeriesFacts(body_part="KNEE")) is None


def test_every_condition_asks_for_a_fact_of_the_same_name() -> None:
    assert {field.name for field in fields(SeriesFacts)} == set(Conditions.model_fields)


@pytest.mark.parametrize("name", sorted(Conditions.model_fields))
def test_a_condition_on_an_unknown_value_does_not_hold(name: str) -> None:
    is_number = name in ("slices", "thickness_mm", "spacing_mm")
    conditions = Conditions.model_validate({name: {"at_least": 0} if is_number else "*"})
    assert not conditions.hold(SeriesFacts())
    assert Conditions().hold(SeriesFacts())


def test_without_rules_every_series_is_taken_as_upscale_does() -> None:
    assert first_fitting(EVERYTHING.rules, SeriesFacts()) == SeriesRule(name="every-series")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[rule]]\nname = "a"\n[[rule]]\nname = "a"', "two rules are named 'a'"),
        ('[[rule]]\nname = "a"\n[rule.when]\nmodality = "CT"', "modality"),
        ('[[rule]]\nname = "../a"', "name"),
        ('[[rule]]\nname = "a"\n[rule.when]\nthickness_mm = {at_least = 5, at_most = 3}', "at_least is above"),
        ('[[rule]]\nname = "a"\n[rule.when]\nthickness_mm = {}', "at_least, at_most or both"),
        ('[[rule]]\nname = "a"\n[rule.when]\nthickness_mm = {at_least = nan}', "thickness_mm"),
        ('[[rule]]\nname = "a"\n[rule.when]\nkernel = []', "kernel"),
        ('[[rule]]\nname = "a"\n[rule.run]\nfactor = 5\nspacing_mm = 1', "give one of them"),
        ('[[rule]]\nname = "a"\n[rule.run]\nfactor = 9', "factor"),
        ("", "rule"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(UsageError, match=named):
        read_series_rules(tmp_path / "rules.toml")


@given(st.text(max_size=64), st.text(alphabet="ab*?[]!.", min_size=1, max_size=24))
def test_any_pattern_decides_on_any_text(text: str, pattern: str) -> None:
    assert fits([pattern], text) in (True, False)


def test_brackets_are_sets_and_a_pattern_covers_the_whole_text() -> None:
    assert fits(["B[34]1f"], "b31f") and not fits(["B[34]1f"], "b51f")
    assert not fits(["B31"], "B31f")


def test_a_pattern_of_many_stars_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern"):
        SeriesRules.model_validate({"rule": [{"name": "a", "when": {"kernel": "*a" * 9}}]})
