"""The folder that the data paths of recipes and suites start from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def data_folder(given: Path | None, names: Sequence[str], beside: Path) -> Path:
    """The folder that holds the data: --data, else the first place that holds all paths.

    Places: the current folder, that of the recipe or suite, and THINSLICE_SHARED.

    Args:
        given: value of --data.
        names: paths that the recipe or suite names.
        beside: folder of the recipe or suite.

    Raises:
        UnreadableError: no place holds them; the message names the places.
    """
    from thinslice.errors import UnreadableError

    if given is not None:
        return given
    places = [Path(), beside]
    if shared := os.environ.get("THINSLICE_SHARED"):
        places.append(Path(shared))
    for place in places:
        if all((place / name).exists() for name in names):
            return place
    wanted = " and ".join(map(repr, names))
    searched = ", ".join(dict.fromkeys(str(place.resolve()) for place in places))
    raise UnreadableError(f"There is no {wanted} in {searched}; give the folder that holds it with --data.")
