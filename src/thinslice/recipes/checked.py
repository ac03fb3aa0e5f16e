"""Common base of recipes: frozen models that refuse unknown keys, their digest, and reading from TOML."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from thinslice.errors import UsageError


class Checked(BaseModel):
    """A part of a recipe: a frozen model that refuses unknown keys, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def digest_without(self, names: Collection[str]) -> str:
        """SHA-256 of all values except those of the named fields, hexadecimal.

        Keys that were renamed count under their first name (`serialization_alias`), so digests outlive a renaming.

        Args:
            names: fields that are left out; "loss.knee_hu" names a field of a part.
        """
        left_out: dict[str, Any] = {}
        for name in names:
            part, _, field = name.partition(".")
            left_out[part] = {*left_out.get(part, ()), field} if field else True
        values = self.model_dump(mode="json", by_alias=True, exclude=left_out)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


Recipe = TypeVar("Recipe", bound=Checked)


def toml_values(path: Path) -> dict[str, Any]:
    """The values of a TOML file, unchecked.

    Raises:
        UsageError: when the file is missing or not TOML; check the path or the syntax.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UsageError(f"There is no file {path}; check the path.") from error
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read: {error.strerror or error}; check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path.name} is not a TOML file: {error}; correct it.") from error


def read_toml(path: Path, kind: type[Recipe]) -> Recipe:
    """Read and check a recipe.

    Args:
        path: TOML file.
        kind: model of the recipe.

    Raises:
        UsageError: when the file is missing, not TOML, or has an unknown key or a wrong value; the message names it.
    """
    values = toml_values(path)
    try:
        return kind(**values)
    except ValidationError as error:
        raise UsageError(f"{path.name}, {first_fault(error)}; correct it.") from error


def first_fault(error: ValidationError) -> str:
    """The key of the first wrong value and what is wrong, as in "optimiser.steps: Input should be greater than 0"."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "as a whole"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
