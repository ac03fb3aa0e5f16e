"""Names that become files: none leads out of its folder, whichever recipe or suite it stands in."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from thinslice.errors import UsageError
from thinslice.recipes import Suite, TrainRecipe, overridden
from thinslice.recipes.names import LONGEST_STEM, check_file_stem

OUTSIDE = [
    "../victim",
    "../../victim",
    "/absolute",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    ".hidden",
    "-option",
    "C:name",
    "name.",
    "name ",
    "na\x00me",
    "na\nme",
    "na\x1bme",
    "näme",
    "con",
    "NUL.txt",
    "com1",
    "a" * (LONGEST_STEM + 1),
    "~root",
    "$HOME",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_are_no_single_file(name: str) -> None:
    with pytest.raises(ValidationError):
        TrainRecipe(name=name, network={"name": "thinnet"}, data=("a",))
    with pytest.raises(ValidationError):
        Suite(name=name, dataset={"root": "data"}, methods=({"label": "cubic", "model": "cubic"},))
    with pytest.raises(UsageError, match="name"):
        overridden(TrainRecipe(name="x", network={"name": "thinnet"}, data=("a",)), {"name": name})


@pytest.mark.parametrize("name", ["default", "paper-tvsrn", "v1.2_b", "2", "a" * LONGEST_STEM, "console"])
def test_names_that_are(name: str, tmp_path: Path) -> None:
    assert check_file_stem(name) == name
    assert (tmp_path / f"{name}.safetensors").resolve().parent == tmp_path.resolve()
