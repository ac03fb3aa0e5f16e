"""How the `models` commands are told what to measure on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from thinslice.cli import cases
from thinslice.errors import UsageError


def test_labels_keep_their_order_and_paths_their_equal_signs() -> None:
    assert list(cases.thin_cases(["b=x=1.nii", "a=y.nii"]).items()) == [("b", Path("x=1.nii")), ("a", Path("y.nii"))]
    assert cases.pair_cases(["head=thick.nii,thin.nii"]) == {"head": (Path("thick.nii"), Path("thin.nii"))}
    assert cases.thin_cases(None) == {} and cases.pair_cases([]) == {}


@pytest.mark.parametrize(
    ("read", "told", "says"),
    [
        (cases.thin_cases, ["doe_jane.nii"], "LABEL=PATH"),
        (cases.thin_cases, ["=doe_jane.nii"], "LABEL=PATH"),
        (cases.thin_cases, ["doe_jane="], "LABEL=PATH"),
        (cases.thin_cases, ["doe_jane=x", "doe_jane=y"], "same label"),
        (cases.pair_cases, ["a=doe_jane.nii"], "LABEL=THICK,THIN"),
        (cases.pair_cases, ["a=doe_jane.nii,y,z"], "LABEL=THICK,THIN"),
        (cases.pair_cases, ["a=,doe_jane.nii"], "LABEL=THICK,THIN"),
        (cases.factors, "five", "--factors"),
        (cases.factors, "", "--factors"),
        (cases.factors, "3,1", "from 2"),
    ],
)
def test_what_is_malformed_is_refused_without_repeating_a_file_name(
    read: Callable[..., object], told: object, says: str
) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        read(told)
    assert "doe_jane" not in str(refused.value)
