"""Arguments of the `models` commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from thinslice.cli import labelled_paths
from thinslice.errors import UsageError


def test_labels_keep_their_order_and_paths_their_equal_signs() -> None:
    assert list(labelled_paths.thin_cases(["b=x=1.nii", "a=y.nii"]).items()) == [
        ("b", Path("x=1.nii")),
        ("a", Path("y.nii")),
    ]
    assert labelled_paths.pair_cases(["head=thick.nii,thin.nii"]) == {"head": (Path("thick.nii"), Path("thin.nii"))}
    assert labelled_paths.thin_cases(None) == {} and labelled_paths.pair_cases([]) == {}


@pytest.mark.parametrize(
    ("read", "arguments", "expected"),
    [
        (labelled_paths.thin_cases, ["doe_jane.nii"], "LABEL=PATH"),
        (labelled_paths.thin_cases, ["=doe_jane.nii"], "LABEL=PATH"),
        (labelled_paths.thin_cases, ["doe_jane="], "LABEL=PATH"),
        (labelled_paths.thin_cases, ["doe_jane=x", "doe_jane=y"], "one label twice"),
        (labelled_paths.pair_cases, ["a=doe_jane.nii"], "LABEL=THICK,THIN"),
        (labelled_paths.pair_cases, ["a=doe_jane.nii,y,z"], "LABEL=THICK,THIN"),
        (labelled_paths.pair_cases, ["a=,doe_jane.nii"], "LABEL=THICK,THIN"),
        (labelled_paths.factors, "five", "--factors"),
        (labelled_paths.factors, "", "--factors"),
        (labelled_paths.factors, "3,1", "from 2"),
    ],
)
def test_what_is_malformed_is_refused_without_repeating_a_file_name(
    read: Callable[..., object], arguments: object, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected) as refused:
        read(arguments)
    assert "doe_jane" not in str(refused.value)
