"""Small results that are worth keeping from run to run, in the user's cache folder. Nothing breaks without it."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

VARIABLE = "THINSLICE_CACHE_DIR"
"""Variable that names another folder; where it is set but empty, nothing is kept."""


def cache_folder() -> Path | None:
    """The folder, which need not exist; None where nothing may or can be kept."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    try:
        return user_cache_path("thinslice", appauthor=False, opinion=False)
    except RuntimeError:  # no home
        return None


def load(name: str, *, max_age_s: float = math.inf) -> dict[str, Any] | None:
    """The value kept under `name`; None where it is missing, older than `max_age_s`, unreadable or damaged."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        if time.time() - (folder / name).stat().st_mtime > max_age_s:
            return None
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def keep(name: str, value: dict[str, Any]) -> bool:
    """Keep a value under a name.

    Args:
        name: of the file in the cache folder; may hold subfolders, as in "sub/a.json".
        value: JSON values.

    Returns:
        Whether it was kept; a folder that cannot be written is no error.
    """
    folder = cache_folder()
    if folder is None:
        return False
    target = folder / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    except OSError:
        return False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True)
        # Several runs may do this at once: each file is whole, and all hold the same value.
        Path(part).replace(target)
    except OSError:
        Path(part).unlink(missing_ok=True)
        return False
    return True
